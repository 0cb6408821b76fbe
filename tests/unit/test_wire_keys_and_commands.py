"""Keys, commands, join strings, topics and ranges: what both sides must compute alike."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from wire import topics
from wire.commands import (
    ANSWER_BYTES_MAX,
    COMMAND_BYTES_MAX,
    TAG_BYTES,
    Answer,
    Command,
    Outcome,
    decode_answer,
    decode_command,
    encode_answer,
    encode_command,
    tag,
)
from wire.heartbeat import NUMBER_MAX, WireError
from wire.join import (
    SCHEME,
    JoinAnswer,
    JoinString,
    decode_join_answer,
    decode_join_string,
    encode_join_string,
)
from wire.keys import SECRET_BYTES, command_key, mqtt_password
from wire.ranges import RANGES_MAX, Settled, add, bounded, close_below
from wire.serials import is_serial

SERIAL = "1100000001"
NONCE = "0123456789abcdef" * 2
KEY = bytes(range(32))
SERIALS = st.from_regex(r"[A-Za-z0-9_-]{6,32}", fullmatch=True)


def hkdf(secret: bytes, info: bytes) -> bytes:
    """RFC 5869, by another implementation."""
    return HKDF(SHA256(), 32, salt=b"fleetgate/1", info=info).derive(secret)


@given(st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES), SERIALS)
def test_derived_keys_are_those_of_rfc_5869(secret: bytes, serial: str) -> None:
    name = b"\x00" + serial.encode()
    assert mqtt_password(secret, serial) == hkdf(secret, b"mqtt password" + name).hex()
    assert command_key(secret, serial) == hkdf(secret, b"command key" + name)


COMMANDS = st.builds(
    Command,
    n=st.integers(1, NUMBER_MAX),
    id=st.text("0123456789abcdef", min_size=1, max_size=64),
    verb=st.sampled_from(["ping", "refresh", "anything"]),
    args=st.dictionaries(st.text(max_size=9), st.integers() | st.text(max_size=20), max_size=4),
    time_ms=st.integers(1, NUMBER_MAX),
    ttl_s=st.integers(1, 300),
)


@given(COMMANDS)
def test_a_command_comes_back_and_its_tag_is_hmac_over_the_bytes_as_sent(command: Command) -> None:
    payload = encode_command(command, key=KEY, serial=SERIAL, nonce=NONCE)
    assert decode_command(payload, key=KEY, serial=SERIAL, nonce=NONCE) == command
    mac = HMAC(KEY, SHA256())
    mac.update(b"fg1/cmd\x00" + SERIAL.encode() + b"\x00" + bytes.fromhex(NONCE))
    mac.update(payload[TAG_BYTES:])
    mac.verify(payload[:TAG_BYTES])


@given(COMMANDS, st.integers(0, 10_000), st.integers(1, 255))
def test_a_command_with_any_bit_changed_is_refused(command: Command, at: int, flip: int) -> None:
    payload = bytearray(encode_command(command, key=KEY, serial=SERIAL, nonce=NONCE))
    payload[at % len(payload)] ^= flip
    with pytest.raises(WireError, match="tag"):
        decode_command(bytes(payload), key=KEY, serial=SERIAL, nonce=NONCE)


def test_a_command_for_another_device_connection_or_key_is_refused() -> None:
    command = Command(1, "a", "ping", {}, 5, 60)
    payload = encode_command(command, key=KEY, serial=SERIAL, nonce=NONCE)
    for key, serial, nonce in (
        (bytes(32), SERIAL, NONCE),
        (KEY, "1100000002", NONCE),
        (KEY, SERIAL, "0" * 32),
    ):
        with pytest.raises(WireError, match="tag"):
            decode_command(payload, key=key, serial=serial, nonce=nonce)


@pytest.mark.parametrize("size", [0, TAG_BYTES, TAG_BYTES + COMMAND_BYTES_MAX + 1])
def test_a_command_of_a_wrong_size_is_refused_before_its_tag(size: int) -> None:
    with pytest.raises(WireError, match="short"):
        decode_command(bytes(size), key=KEY, serial=SERIAL, nonce=NONCE)


GOOD = {"n": 1, "id": "a", "verb": "ping", "args": {}, "time": 1, "ttl": 60}


@pytest.mark.parametrize(
    "changed",
    [
        {"n": 0},
        {"n": True},
        {"id": 1},
        {"verb": None},
        {"args": []},
        {"time": 0},
        {"ttl": 0},
        {"ttl": 301},
    ],
    ids=str,
)
def test_a_true_tag_excuses_no_malformed_body(changed: dict[str, Any]) -> None:
    body = json.dumps({**GOOD, **changed}).encode()
    payload = tag(KEY, SERIAL, NONCE, body) + body
    with pytest.raises(WireError):
        decode_command(payload, key=KEY, serial=SERIAL, nonce=NONCE)


def test_answers_come_back_and_what_is_too_large_says_so() -> None:
    answer = Answer("a", Outcome.DONE, {"pong": True})
    assert decode_answer(encode_answer(answer)) == answer
    large = encode_answer(Answer("a", Outcome.FAILED, {"text": "x" * ANSWER_BYTES_MAX}))
    assert decode_answer(large) == Answer("a", Outcome.FAILED, {"error": "result_too_large"})
    bad: list[Any] = [{}, {"id": "a", "outcome": "unknown", "result": {}}, {"id": 1}, [], None]
    for body in bad:
        with pytest.raises(WireError):
            decode_answer(json.dumps(body).encode())
    with pytest.raises(WireError):
        decode_answer(b" " * (ANSWER_BYTES_MAX + 1))


JOIN = JoinString(("gate.example.org", "192.0.2.7"), 8884, "ab" * 32, "c" * 22, SERIAL)


@given(
    st.lists(st.from_regex(r"[a-z0-9.-]{1,40}", fullmatch=True), min_size=1, max_size=3),
    st.integers(1, 65_535),
    st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    st.text("abcABC019_-", min_size=16, max_size=64),
    st.none() | SERIALS,
)
def test_join_strings_come_back(
    hosts: list[str], port: int, ca: str, code: str, serial: str | None
) -> None:
    join = JoinString(tuple(hosts), port, ca, code, serial)
    text = encode_join_string(join)
    assert decode_join_string(f"  {text}\n") == join
    assert text.startswith(SCHEME) and "=" not in text and text.isascii()


def packed(**changed: Any) -> str:
    body = {"hosts": ["a"], "port": 1, "ca": "ab" * 32, "code": "c" * 22, **changed}
    return SCHEME + base64.urlsafe_b64encode(json.dumps(body).encode()).decode()


BAD_JOINS = [
    "",
    "fg2:abc",
    SCHEME,
    SCHEME + "%%%",
    SCHEME + "e30",
    SCHEME + "A" * 3_000,
    encode_join_string(JOIN)[:-7],
    packed(hosts=[]),
    packed(hosts=["a"] * 4),
    packed(hosts=[1]),
    packed(hosts=[""]),
    packed(hosts="a"),
    packed(port=0),
    packed(port="1"),
    packed(port=True),
    packed(ca="AB" * 32),
    packed(ca=None),
    packed(code="short"),
    packed(code=7),
    packed(serial="x"),
    packed(serial=7),
]


@pytest.mark.parametrize("text", BAD_JOINS, ids=lambda text: text[:40])
def test_a_damaged_join_string_is_refused_in_words(text: str) -> None:
    with pytest.raises(WireError, match=r"join string|json"):
        decode_join_string(text)


@given(st.text(max_size=80))
def test_any_text_is_a_join_string_or_a_wire_error(text: str) -> None:
    for candidate in (text, SCHEME + text):
        with pytest.raises(WireError):
            decode_join_string(candidate)


def test_join_answers_come_back_and_damaged_ones_are_refused() -> None:
    answer = JoinAnswer("joined", ("h",), 8883, "sealed", 3, 5, 9)
    body = answer.as_json()
    assert decode_join_answer(json.dumps(body).encode()) == answer
    values: list[Any] = [None, "x", -1, [], {}]
    for name in body:
        for value in values:
            if name == "record" and value == "x":
                continue
            with pytest.raises(WireError):
                decode_join_answer(json.dumps({**body, name: value}).encode())


SERIAL_CASES = [
    ("1100000001", True),
    ("000000", True),
    ("A_b-9z", True),
    ("a" * 32, True),
    ("a" * 33, False),
    ("12345", False),
    ("", False),
    ("@gateway-1", False),
    ("1100000001\n", False),
    ("1100/00001", False),
    ("110000000+", False),
    ("110000000#", False),
    ("11000000é1", False),
    ("١١٠٠٠٠٠٠٠١", False),
]


@pytest.mark.parametrize(("text", "good"), SERIAL_CASES)
def test_serials(text: str, good: bool) -> None:
    assert is_serial(text) is good


@given(SERIALS)
def test_topics_of_devices_name_their_serial(serial: str) -> None:
    for make, leaf in (
        (topics.heartbeat, "hb"),
        (topics.presence, "up"),
        (topics.answer, "ans"),
    ):
        assert topics.parse_device_topic(make(serial)) == (serial, leaf)
    others = (topics.receipt, topics.command, topics.probe, topics.relay_event)
    for topic in [make(serial) for make in others]:
        assert topics.parse_device_topic(topic) is None


FOREIGN = [
    "",
    "fg1/d/1100000001",
    "fg1/d/1100000001/hb/x",
    "fg1/d//hb",
    "fg1/d/+/hb",
    "fg1/d/12345/hb",
    "fg2/d/1100000001/hb",
    "fg1/c/1100000001/ok",
    "fg1/d/1100000001/cmd",
    "/fg1/d/1100000001/hb",
    "fg1/d/1100000001/hb\n",
]


@pytest.mark.parametrize("topic", FOREIGN)
def test_a_topic_that_is_not_exactly_a_devices_is_none(topic: str) -> None:
    assert topics.parse_device_topic(topic) is None


def numbers(settled: Settled) -> set[int]:
    above = {n for first, last in settled.ranges for n in range(first, last + 1)}
    return set(range(1, settled.upto + 1)) | above


@given(st.lists(st.integers(1, 120), max_size=150), st.integers(1, 130))
def test_ranges_are_a_set_of_numbers(added: list[int], low: int) -> None:
    settled, model = Settled(), set[int]()
    for number in added:
        settled = add(settled, number)
        model.add(number)
    assert numbers(settled) == model
    assert all((number in settled) == (number in model) for number in range(-1, 125))
    closed, lost = close_below(settled, low)
    assert numbers(closed) == model | set(range(1, low))
    assert lost == len(set(range(1, low)) - model)
    small, more = bounded(closed)
    assert len(small.ranges) <= RANGES_MAX
    assert numbers(small) >= numbers(closed)
    assert more == len(numbers(small)) - len(numbers(closed))
