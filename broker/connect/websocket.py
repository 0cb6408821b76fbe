"""A WebSocket client's bytes (RFC 6455), without I/O: request, answer, frames both ways.

Messages are not put together: the link cuts its own frames, so pieces go on as they come.
"""

import base64
import hashlib
import struct
from collections.abc import Mapping
from enum import IntEnum
from functools import cache
from typing import NamedTuple

KEY_BYTES = 16
MASK_BYTES = 4
HEAD_BYTES_MAX = 8 * 1024
FRAME_BYTES_MAX = 16 * 1024 * 1024
CONTROL_BYTES_MAX = 125
CLOSE_NORMAL = 1000
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_SHORT = struct.Struct("!BBH")
_LONG = struct.Struct("!BBQ")
_MASKED = 0x80
_FINAL = 0x80


class WebSocketError(Exception):
    """The server does not speak WebSocket; the text names the rule."""


class NotUpgraded(WebSocketError):
    """The server answered with something else than a WebSocket."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the server answered {status}")
        self.status = status
        self.text = text


class Opcode(IntEnum):
    """What a frame is."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


_OPCODES = frozenset(Opcode)


class Piece(NamedTuple):
    """Some bytes of a binary message, or one whole control frame."""

    opcode: Opcode
    payload: bytes


def key_text(key: bytes) -> str:
    """The request's key as sent."""
    assert len(key) == KEY_BYTES
    return base64.b64encode(key).decode()


def accept_text(key: str) -> str:
    """What the server has to answer to a key."""
    # The standard names this hash; nothing secret hangs on it.
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def request(host: str, path: str, key: str) -> bytes:
    """The request that asks for a WebSocket."""
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def check_answer(head: bytes, key: str) -> None:
    """Checks the head of the answer, empty line excluded. Raises `WebSocketError`."""
    status, headers = _head(head)
    if status != 101:
        raise NotUpgraded(status, headers.get("content-type", ""))
    connection = {one.strip().lower() for one in headers.get("connection", "").split(",")}
    if headers.get("upgrade", "").lower() != "websocket" or "upgrade" not in connection:
        raise WebSocketError("upgrade: not to a WebSocket")
    if headers.get("sec-websocket-accept", "") != accept_text(key):
        raise WebSocketError("upgrade: wrong answer to the key")
    if headers.get("sec-websocket-extensions") or headers.get("sec-websocket-protocol"):
        raise WebSocketError("upgrade: an extension or a protocol that was not asked for")


def _head(head: bytes) -> tuple[int, Mapping[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    status = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (status.isascii() and status.isdigit()):
        raise WebSocketError("upgrade: not HTTP")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name != name.strip():
            raise WebSocketError("upgrade: a header that is none")
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    return int(status), headers


@cache
def _table(key: int) -> bytes:
    """Every byte, masked with one byte of a key."""
    return bytes(one ^ key for one in range(256))


def frame(opcode: Opcode, payload: bytes, mask: bytes) -> bytearray:
    """A final frame, masked as a client's must be."""
    size = len(payload)
    first = _FINAL | opcode
    if size <= CONTROL_BYTES_MAX:
        made = bytearray((first, _MASKED | size))
    elif size < 1 << 16:
        made = bytearray(_SHORT.pack(first, _MASKED | 126, size))
    else:
        made = bytearray(_LONG.pack(first, _MASKED | 127, size))
    made += mask
    start = len(made)
    made += payload
    # Byte by byte would be a hundred times slower: every fourth byte goes through one table.
    for offset, key in enumerate(mask):
        made[start + offset :: MASK_BYTES] = made[start + offset :: MASK_BYTES].translate(
            _table(key)
        )
    return made


def close_frame(code: int, mask: bytes) -> bytearray:
    """The last frame."""
    return frame(Opcode.CLOSE, code.to_bytes(2, "big"), mask)


class Reader:
    """Cuts what a server sends into pieces."""

    def __init__(self) -> None:
        self._left = b""  # of a header, or of a control frame
        self._remaining = 0  # bytes of the present data frame
        self._in_message = False
        self._closed = False

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces in these bytes. Raises `WebSocketError`, after which it is of no more use."""
        if self._left:
            data, self._left = self._left + data, b""
        pieces: list[Piece] = []
        position, end = 0, len(data)
        while position < end and not self._closed:
            if self._remaining:
                after = min(end, position + self._remaining)
                self._remaining -= after - position
                pieces.append(Piece(Opcode.BINARY, data[position:after]))
                position = after
                continue
            after = self._take_header(data, position, pieces)
            if not after:
                self._left = data[position:]
                break
            position = after
        return pieces

    def _take_header(self, data: bytes, position: int, pieces: list[Piece]) -> int:
        """Reads one header, with the payload of a control frame; 0 when it is not whole yet."""
        if len(data) - position < 2:
            return 0
        first, second = data[position], data[position + 1]
        final, opcode = bool(first & _FINAL), first & 0x7F
        if opcode not in _OPCODES:
            raise WebSocketError("frame: an unknown kind, or reserved bits")
        if second & _MASKED:
            raise WebSocketError("frame: masked by the server")
        start, size = self._size(data, position, second)
        if not start:
            return 0
        if opcode < Opcode.CLOSE:
            self._begin(Opcode(opcode), final=final, size=size)
            return start
        if size > CONTROL_BYTES_MAX or not final:
            raise WebSocketError("frame: a control frame is too long, or in parts")
        if len(data) - start < size:
            return 0
        self._closed = opcode == Opcode.CLOSE
        pieces.append(Piece(Opcode(opcode), data[start : start + size]))
        return start + size

    def _size(self, data: bytes, position: int, second: int) -> tuple[int, int]:
        """Where the payload begins, 0 when that is not known yet; and its length."""
        if second < 126:
            return position + 2, second
        form, least = (_SHORT, 126) if second == 126 else (_LONG, 1 << 16)
        if len(data) - position < form.size:
            return 0, 0
        size: int = form.unpack_from(data, position)[2]
        if size < least:
            raise WebSocketError("frame: a length that could be written shorter")
        if size > FRAME_BYTES_MAX:
            raise WebSocketError("frame: too long")
        return position + form.size, size

    def _begin(self, opcode: Opcode, *, final: bool, size: int) -> None:
        if opcode == Opcode.TEXT:
            raise WebSocketError("frame: text where bytes belong")
        if (opcode == Opcode.CONTINUATION) != self._in_message:
            raise WebSocketError("frame: a message within another, or one that never began")
        self._in_message = not final
        self._remaining = size


def close_code(payload: bytes) -> int:
    """The code in a closing frame; 1005 stands for none."""
    return int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
