"""One line of the table of measurements."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """`met` is None where there is no gate."""

    what: str
    figure: str
    peer: str
    budget: str
    met: bool | None
