"""aiohttp's reader of a target's answers, with bounds for what it would keep without any."""

from enum import Enum, auto

from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

HEAD_BYTES_MAX = 128 * 1024
INTERIM_MAX = 32  # answers before the answer (100, 103)


class _Stage(Enum):
    NEW = auto()
    HEAD = auto()  # a request was sent, its answer has not begun
    BODY = auto()
    IDLE = auto()  # nothing was asked


class AnswerReader(ResponseHandler):
    """Whoever is at the target may send what it likes, also when nothing was asked.

    aiohttp bounds lines and bodies, but keeps as many answers as come: some bytes each, and some
    kilobytes of memory.
    """

    _stage = _Stage.NEW
    _head_bytes = 0

    def asked(self) -> None:
        """A request goes out."""
        self._stage, self._head_bytes = _Stage.HEAD, 0

    def answered(self) -> None:
        """The head of its answer was read."""
        self._stage = _Stage.BODY

    def rest(self) -> None:
        """The answer is over, and the connection is kept for another."""
        self._stage = _Stage.IDLE

    def data_received(self, data: bytes) -> None:
        if self._stage is _Stage.IDLE:
            self._hang_up()
            return
        super().data_received(data)
        if self._stage is _Stage.BODY and len(self):
            self._hang_up()  # a second answer to one request; the first one is whole already
        elif self._stage is _Stage.HEAD:
            self._head_bytes += len(data)
            too_long = not len(self) and self._head_bytes > HEAD_BYTES_MAX
            if (too_long or len(self) > INTERIM_MAX + 1) and self.exception() is None:
                self._hang_up()
                self.set_exception(HttpProcessingError(message="too much before the answer"))

    def _hang_up(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.abort()
