"""The WebSocket client's bytes: the handshake, frames cut anywhere, servers that break rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.connect import websocket
from broker.connect.websocket import NotUpgraded, Opcode, Piece, Reader, WebSocketError

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # with its answer: RFC 6455, section 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
GOOD = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT.encode()
)


def served(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """A frame as a server sends it."""
    first = bytes([(0x80 if final else 0) | opcode])
    size = len(payload)
    if size < 126:
        return first + bytes([size]) + payload
    if size < 1 << 16:
        return first + b"\x7e" + size.to_bytes(2, "big") + payload
    return first + b"\x7f" + size.to_bytes(8, "big") + payload


def unmasked(frame: bytes) -> tuple[int, bytes]:
    """Slowly, straight from the standard: first byte, and the payload."""
    assert frame[1] & 0x80
    size, start = frame[1] & 0x7F, 2
    if size == 126:
        size, start = int.from_bytes(frame[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(frame[2:10], "big"), 10
    mask, body = frame[start : start + 4], frame[start + 4 :]
    assert len(body) == size
    return frame[0], bytes(byte ^ mask[index % 4] for index, byte in enumerate(body))


SIZES = (0, 1, 2, 3, 5, 125, 126, 127, 65_535, 65_536, 131_072)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sent_can_be_read(size: int) -> None:
    payload = bytes(index * 7 % 251 for index in range(size))
    made = bytes(websocket.frame(Opcode.BINARY, payload, b"\x01\xff\x80\x5a"))
    assert unmasked(made) == (0x82, payload)


@given(payload=st.binary(max_size=300), mask=st.binary(min_size=4, max_size=4))
def test_masking_is_that_of_the_standard(payload: bytes, mask: bytes) -> None:
    assert unmasked(bytes(websocket.frame(Opcode.PING, payload, mask))) == (0x89, payload)


def test_the_handshake_is_that_of_the_standard() -> None:
    asked = websocket.request("s-a.localhost:8885", "/.fleetgate/link", KEY).decode()
    assert asked.startswith("GET /.fleetgate/link HTTP/1.1\r\nHost: s-a.localhost:8885\r\n")
    assert f"Sec-WebSocket-Key: {KEY}\r\n" in asked and asked.endswith("\r\n\r\n")
    assert websocket.accept_text(KEY) == ACCEPT
    websocket.check_answer(GOOD, KEY)


@pytest.mark.parametrize(
    ("head", "rule"),
    [
        (GOOD.replace(b"101", b"200"), "200"),
        (GOOD.replace(ACCEPT.encode(), b"x" * 28), "key"),
        (GOOD.replace(b"WebSocket\r", b"h2c\r"), "not to a WebSocket"),
        (GOOD.replace(b", Upgrade", b""), "not to a WebSocket"),
        (GOOD + b"\r\nSec-WebSocket-Extensions: permessage-deflate", "extension"),
        (GOOD + b"\r\nbroken", "header"),
        (GOOD + b"\r\n folded: x", "header"),
        (b"SSH-2.0-OpenSSH", "not HTTP"),
        (b"HTTP/1.1 abc", "not HTTP"),
        (b"", "not HTTP"),
    ],
)
def test_another_answer_is_refused(head: bytes, rule: str) -> None:
    with pytest.raises(WebSocketError, match=rule):
        websocket.check_answer(head, KEY)


def test_another_status_can_be_told() -> None:
    with pytest.raises(NotUpgraded) as caught:
        websocket.check_answer(b"HTTP/1.1 421 Misdirected\r\nContent-Length: 0", KEY)
    assert caught.value.status == 421


FRAGMENTS = st.lists(st.binary(max_size=400), min_size=1, max_size=4)
CONTROLS = st.tuples(st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125))
MESSAGES = st.lists(st.one_of(FRAGMENTS, CONTROLS), max_size=8)


@given(messages=MESSAGES, cuts=st.lists(st.integers(1, 200), max_size=60))
def test_bytes_cut_anywhere_mean_the_same(
    messages: list[list[bytes] | tuple[Opcode, bytes]], cuts: list[int]
) -> None:
    sent, data, controls = bytearray(), bytearray(), []
    for message in messages:
        if isinstance(message, tuple):
            controls.append(message)
            sent += served(*message)
            continue
        for index, part in enumerate(message):
            opcode = Opcode.CONTINUATION if index else Opcode.BINARY
            sent += served(opcode, part, final=index == len(message) - 1)
            sent += served(Opcode.PING, b"between")  # control frames may stand within a message
            controls.append((Opcode.PING, b"between"))
            data += part
    reader, pieces, position = Reader(), list[Piece](), 0
    for cut in [*cuts, len(sent)]:
        pieces += reader.feed(bytes(sent[position : position + cut]))
        position += cut
    assert b"".join(p.payload for p in pieces if p.opcode == Opcode.BINARY) == data
    assert [tuple(p) for p in pieces if p.opcode != Opcode.BINARY] == controls


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        Reader().feed(data)
    except WebSocketError:
        pass  # fine: anything else would not be


def test_nothing_is_read_behind_the_end() -> None:
    closing = served(Opcode.CLOSE, (1001).to_bytes(2, "big"))
    reader = Reader()
    (piece,) = reader.feed(closing + b"\xff\xff\xff")
    assert piece.opcode == Opcode.CLOSE and websocket.close_code(piece.payload) == 1001
    assert reader.feed(b"\xff") == [] and websocket.close_code(b"") == 1005


WRONG = {
    "reserved bits": b"\xc2\x01x",
    "an unknown kind": b"\x83\x00",
    "masked": b"\x82\x81\x00\x00\x00\x00x",
    "text": b"\x81\x01x",
    "never began": b"\x80\x01x",
    "within another": b"\x02\x01x\x82\x01x",
    "in parts": b"\x09\x00",
    "too long, or": b"\x89\x7e\x00\x7e" + b"x" * 126,
    "written shorter": b"\x82\x7e\x00\x7d" + b"x" * 125,
    "shorter": b"\x82\x7f" + (65_535).to_bytes(8, "big"),
    "too long": b"\x82\x7f" + (1 << 40).to_bytes(8, "big"),
}


@pytest.mark.parametrize("rule", WRONG)
def test_a_server_that_breaks_a_rule_is_told_which(rule: str) -> None:
    with pytest.raises(WebSocketError, match=rule):
        Reader().feed(WRONG[rule])
