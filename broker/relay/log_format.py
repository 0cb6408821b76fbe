"""How the relay's log looks: key=value text or JSON lines, to standard error."""

import json
import logging
import sys
import time

from aiohttp.http_exceptions import HttpProcessingError

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")


class JsonLines(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(*, format_: str, level: str) -> None:
    """Replaces whatever was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    text = "%(asctime)s %(levelname)s %(name)s %(message)s"
    handler.setFormatter(JsonLines() if format_ == "json" else logging.Formatter(text))
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Addresses of pages that visitors look at are none of this log's business.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").addFilter(is_of_ours)


def is_of_ours(record: logging.LogRecord) -> bool:
    """Not what somebody sent that is no HTTP request: it would be written out, and without end."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
