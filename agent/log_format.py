"""Log lines as key=value text, on standard error."""

import logging


class KeyValueFormatter(logging.Formatter):
    """`at=… level=… module=… message` and the fields that the message carries itself."""

    def __init__(self) -> None:
        super().__init__(
            "at=%(asctime)s level=%(levelname)s from=%(name)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"
        )

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever a peer put into a text."""
        return super().format(record).replace("\n", " | ")


def set_up_logging(*, verbose: bool) -> None:
    """Once, at the start of a program."""
    handler = logging.StreamHandler()
    handler.setFormatter(KeyValueFormatter())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    # The MQTT library says what we say ourselves, in other words.
    logging.getLogger("mqtt").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
