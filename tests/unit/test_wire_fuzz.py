"""Every decoder of what peers send, fed with damaged messages at length: only `WireError`."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ingest.batch import Unreadable
from gateway.ingest.intake import read_payload
from tests.conftest import SummaryRow
from wire.commands import (
    Answer,
    Command,
    Outcome,
    decode_answer,
    decode_command,
    encode_answer,
    encode_command,
)
from wire.heartbeat import (
    Message,
    Origin,
    Receipt,
    Refused,
    Sample,
    WireError,
    decode_receipt,
    encode_message,
    encode_receipt,
    new_run,
)
from wire.join import (
    JoinAnswer,
    JoinString,
    decode_join_answer,
    decode_join_string,
    encode_join_string,
)
from wire.presence import Up, decode_up, encode_up

EXAMPLES = 15_000
RUN, NONCE, KEY = new_run(), "0" * 32, bytes(32)
_SAMPLES = [Sample(7, 3, {1: 5, 13: "Operator"}), Sample(9, 2, {9: -70, 40: True})]
_COMMAND = Command(1, "id", "ping", {"a": 1}, 1_700_000_000_000, 60)


def _open(payload: bytes) -> Command:
    return decode_command(payload, key=KEY, serial="1100000001", nonce=NONCE)


def _join(payload: bytes) -> JoinString:
    return decode_join_string(payload.decode("utf-8", errors="replace"))


def _ingest(leaf: str) -> Callable[[bytes], Any]:
    return lambda payload: read_payload(f"fg1/d/1100000001/{leaf}", leaf, payload)


# What is sent, and who reads it. Ingest answers with `Unreadable` and raises nothing.
CASES: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
    "heartbeat": (
        encode_message(Message(RUN, RUN, 1, 4, 2, 60, True, 0, Origin(5), _SAMPLES)),
        _ingest("hb"),
    ),
    "up at ingest": (encode_up(Up(RUN, 1, True, NONCE)), _ingest("up")),
    "answer at ingest": (encode_answer(Answer("id", Outcome.DONE, {"a": [1]})), _ingest("ans")),
    "up": (encode_up(Up(RUN, 1, True, NONCE)), decode_up),
    "answer": (encode_answer(Answer("id", Outcome.DONE, {"a": [1]})), decode_answer),
    "receipt": (
        encode_receipt(
            Receipt(RUN, 4, ((6, 9),), 1_700_000_000_000, 4, True, True, 9, (Refused(1, 2, "x"),))
        ),
        decode_receipt,
    ),
    "command": (encode_command(_COMMAND, key=KEY, serial="1100000001", nonce=NONCE), _open),
    "join string": (encode_join_string(JoinString(("h",), 1, "0" * 64, "c" * 22)).encode(), _join),
    "join answer": (
        json.dumps(JoinAnswer("joined", ("h",), 1, "r", 3, 5, 9).as_json()).encode(),
        decode_join_answer,
    ),
}
_PIECES = st.sampled_from(
    [
        *(b"[", b"]", b"{", b"}", b'"', b",", b"-", b"0.5", b"null", b"true", b"NaN", b"1e999"),
        *(b"\xff", b"\x00", b"\xed\xa0\x80", b'"\\ud800"', b'"up":'),
        *(b"99999999999999999999", b"[" * 3_000),
    ]
)


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """The message with pieces cut out, put in or exchanged at random places."""
    data = good
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 6)))
        data = data[:start] + draw(_PIECES | st.binary(max_size=4)) + data[end:]
    return data


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CASES)
def test_damaged_messages_are_refused_and_nothing_else_happens(
    name: str, summary_row: SummaryRow
) -> None:
    good, decode = CASES[name]
    decode(good)
    refused = 0

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(payload=damaged(good))
    def fuzz(payload: bytes) -> None:
        nonlocal refused
        try:
            refused += isinstance(decode(payload), Unreadable)
        except WireError:
            refused += 1

    fuzz()
    summary_row(f"fuzzing: {name}", f"{EXAMPLES} messages", f"{refused} refused, no other error")
    assert refused > EXAMPLES // 2
