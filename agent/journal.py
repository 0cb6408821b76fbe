"""Who is told about every sample that is made and every one that is receipted."""

from typing import Protocol


class Journal(Protocol):
    """For outside checks that nothing is lost or doubled; the simulator writes it to a file."""

    def made(self, serial: str, run: str, number: int, at_ms: int) -> None:
        """Called when the sample is in the spool, before it can be sent.

        At a start it is called again for the newest sample of each earlier run.
        """

    def receipted(self, serial: str, run: str, numbers: list[int], at_ms: int) -> None:
        """Called when a receipt covered these numbers, which were still in the spool."""
