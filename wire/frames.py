"""Frames of the link: eight bytes of header, then at most 65,528 bytes (docs/link.md)."""

import json
import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from wire.heartbeat import WireError, load_json

HEADER = struct.Struct("!BBHI")  # kind, zero, length of the payload, stream
HEADER_BYTES = HEADER.size
PAYLOAD_BYTES_MAX = 65_536 - HEADER_BYTES
HELLO_BYTES_MAX = 4 * 1024  # header included: nobody is known before
STREAM_MAX = 2**32 - 1
REASON_CHARS_MAX = 64
_COUNT = struct.Struct("!Q")
_WINDOW = struct.Struct("!I")


# What was read, maybe into memory that is lent: whoever keeps some of it makes a copy.
Bytes = bytes | bytearray | memoryview


class LinkError(WireError):
    """The other side broke the rules of the link; the text names the rule."""


class Kind(IntEnum):
    """What a frame is. From 16: numbered frames; from 32: those that are not."""

    HELLO = 1
    RESUME = 2
    ANSWER = 3
    OPEN = 16
    DATA = 17
    WINDOW = 18
    FIN = 19
    RESET = 20
    REFUSED = 21
    ACK = 32
    PING = 33
    PONG = 34
    BYE = 35


NUMBERED = frozenset(range(Kind.OPEN, Kind.REFUSED + 1))
_KINDS = frozenset(Kind)
_DATA = int(Kind.DATA)  # compared for each frame: a plain number is quicker
# The exact length of a payload, where there is one.
_LENGTHS = {
    Kind.OPEN: _WINDOW.size,
    Kind.WINDOW: _COUNT.size,
    Kind.FIN: 0,
    Kind.ACK: _COUNT.size,
    Kind.PING: _COUNT.size,
    Kind.PONG: _COUNT.size,
}
_WITH_REASON = frozenset({Kind.RESET, Kind.REFUSED, Kind.BYE})


class Frame(NamedTuple):
    """One frame; `stream` is 0 where it concerns the whole link."""

    kind: int
    stream: int
    payload: bytes

    @property
    def size(self) -> int:
        """Bytes on the wire, header included: what positions count."""
        return HEADER_BYTES + len(self.payload)


def encode(kind: int, stream: int = 0, payload: bytes = b"") -> bytes:
    """The frame as sent."""
    return HEADER.pack(kind, 0, len(payload), stream) + payload


def open_frame(stream: int, window: int) -> bytes:
    """Opens a stream; `window` is how much the other side may send on it at first."""
    return encode(Kind.OPEN, stream, _WINDOW.pack(window))


def window_frame(stream: int, limit: int) -> bytes:
    """Lets the other side send the stream's bytes up to this count, from its beginning."""
    return encode(Kind.WINDOW, stream, _COUNT.pack(limit))


def count_frame(kind: Kind, count: int) -> bytes:
    """ACK, PING or PONG."""
    return encode(kind, 0, _COUNT.pack(count))


def reason_frame(kind: Kind, stream: int, reason: str) -> bytes:
    """RESET, REFUSED or BYE with a reason: a word of lower-case letters and underscores."""
    return encode(kind, stream, reason[:REASON_CHARS_MAX].encode())


def count_of(frame: Frame) -> int:
    """The count in an ACK, PING, PONG or WINDOW."""
    return int(_COUNT.unpack(frame.payload)[0])


def window_of(frame: Frame) -> int:
    """The first window in an OPEN."""
    return int(_WINDOW.unpack(frame.payload)[0])


def reason_of(frame: Frame) -> str:
    """The reason; what is not such a word is made one, since it is shown and logged."""
    text = frame.payload[:REASON_CHARS_MAX].decode("ascii", errors="replace")
    return "".join(one if one.islower() or one == "_" else "_" for one in text) or "unknown"


def hello_frame(kind: Kind, body: Mapping[str, object]) -> bytes:
    """HELLO, RESUME or ANSWER: a JSON object."""
    return encode(kind, 0, json.dumps(dict(body), separators=(",", ":")).encode())


def hello_of(frame: Frame) -> dict[str, object]:
    """The object in a HELLO, RESUME or ANSWER. Raises `WireError`."""
    body = load_json(frame.payload)
    if not isinstance(body, dict):
        raise LinkError("hello: not an object")
    return body


class FrameReader:
    """Cuts bytes as they come into frames."""

    def __init__(self) -> None:
        self._left = bytearray()  # the beginning of a frame, and at first what came with the hello

    def feed(self, data: Bytes) -> list[Frame]:
        """The frames that are whole now. Raises `LinkError`, after which it is of no more use.

        Each byte is copied once, or twice where its frame came in pieces; `data` may be lent.
        """
        frames: list[Frame] = []
        view = memoryview(data)
        if self._left:
            view = self._complete(view, frames)
        position, end = 0, len(view)
        while end - position >= HEADER_BYTES:
            kind, zero, length, stream = HEADER.unpack_from(view, position)
            _check_header(kind, zero, length, stream)
            start = position + HEADER_BYTES
            if end - start < length:
                break
            position = start + length
            frames.append(Frame(kind, stream, bytes(view[start:position])))
        if position < end:
            self._left += view[position:]
        return frames

    def _complete(self, view: memoryview, frames: list[Frame]) -> memoryview:
        """Takes what the frames begun before still need; what is left over."""
        while self._left:
            wanted = HEADER_BYTES
            if len(self._left) >= HEADER_BYTES:
                kind, zero, length, stream = HEADER.unpack_from(self._left)
                _check_header(kind, zero, length, stream)
                wanted += length
                if len(self._left) >= wanted:
                    frames.append(Frame(kind, stream, bytes(self._left[HEADER_BYTES:wanted])))
                    del self._left[:wanted]
                    continue
            if not view:
                break
            missing = wanted - len(self._left)
            self._left += view[:missing]
            view = view[missing:]
        return view

    def first(self, data: bytes) -> Frame | None:
        """The hello, once it is whole; what follows it stays here. Raises `LinkError`."""
        self._left += data
        if len(self._left) < HEADER_BYTES:
            return None
        kind, zero, length, stream = HEADER.unpack_from(self._left)
        if kind not in (Kind.HELLO, Kind.RESUME, Kind.ANSWER):
            raise LinkError("hello: another frame came first")
        _check_header(kind, zero, length, stream)
        size = HEADER_BYTES + length
        if len(self._left) < size:
            return None
        frame = Frame(kind, stream, bytes(self._left[HEADER_BYTES:size]))
        del self._left[:size]
        return frame


def _check_header(kind: int, zero: int, length: int, stream: int) -> None:
    if kind == _DATA and not zero and stream and 0 < length <= PAYLOAD_BYTES_MAX:
        return  # most are
    if kind not in _KINDS or zero:
        raise LinkError("frame: unknown kind")
    if (kind in NUMBERED) != (stream != 0):
        raise LinkError("frame: a stream where none belongs, or none where one does")
    if length > PAYLOAD_BYTES_MAX:
        raise LinkError("frame: too long")
    wanted = _LENGTHS.get(Kind(kind))
    if wanted is not None and length != wanted:
        raise LinkError("frame: wrong length")
    if kind < Kind.OPEN and length > HELLO_BYTES_MAX - HEADER_BYTES:
        raise LinkError("hello: too long")
    if kind in _WITH_REASON and length > REASON_CHARS_MAX:
        raise LinkError("frame: reason too long")
    if kind == Kind.DATA and not length:
        raise LinkError("frame: data without bytes")
