"""The fast decoder of ingest says exactly what the decoder of `wire` says."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ingest.decoding import decode_message
from wire.heartbeat import (
    NUMBER_MAX,
    Message,
    Origin,
    Sample,
    WireError,
    encode_message,
    new_run,
    parse_message,
)

RUN, OTHER = new_run(), new_run()
GOOD: list[Any] = [RUN, 0, 3, 4, 2, 60, 0, 1, 0, [[5, 120, [9, -71, 13, "Operator", 40, True]]]]

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 12),
    st.sampled_from([NUMBER_MAX, NUMBER_MAX + 1, -NUMBER_MAX, 2**70, 1.0, 1.5, 1e300]),
    st.sampled_from([RUN, OTHER, "", "x" * 11, "ÄÖÜ-1234567", "\ud800"]),
    st.lists(st.one_of(st.none(), st.integers(-3, 60), st.text(max_size=3)), max_size=4),
    st.just([None]),
    st.just([1_700_000_000_000]),
    st.just([-(2**53)]),
    st.just({}),
)


def answer(decode: Any, payload: bytes) -> Message | str:
    try:
        message: Message = decode(payload)
    except (WireError, msgspec.MsgspecError, RecursionError, ValueError):
        return "refused"
    return message


def slow(payload: bytes) -> Message:
    return parse_message(msgspec.json.decode(payload))


@settings(max_examples=600)
@given(
    changes=st.dictionaries(st.integers(0, 9), ODD, max_size=3),
    samples=st.none()
    | st.lists(
        st.tuples(st.integers(0, 8), st.integers(-1, 5), st.lists(ODD, max_size=5)).map(list),
        max_size=4,
    ),
)
def test_both_decoders_agree_on_every_message(
    changes: dict[int, Any], samples: list[Any] | None
) -> None:
    array = [changes.get(index, part) for index, part in enumerate(GOOD)]
    if samples is not None:
        array[9] = samples
    payload = json.dumps(array).encode()
    assert answer(decode_message, payload) == answer(slow, payload)


@settings(max_examples=300)
@given(payload=st.binary(max_size=60) | st.text(alphabet='[]{}",:0123456789.eE-ntf', max_size=60))
def test_what_is_no_message_is_refused_by_both(payload: bytes | str) -> None:
    raw = payload if isinstance(payload, bytes) else payload.encode()
    assert answer(decode_message, raw) == answer(slow, raw) == "refused"


@pytest.mark.parametrize(
    "message",
    [
        Message(RUN, RUN, 1, 0, 1, 60, True, 0, None, [Sample(1, 0, {9: -70})]),
        Message(
            OTHER, RUN, 2, 0, 1, 1, False, 9, Origin(None), [Sample(3, 5, {}), Sample(9, 6, {})]
        ),
        Message(OTHER, RUN, 2, 0, 1, 1, False, 9, Origin(-5), [Sample(3, 5, {13: "ü"})]),
    ],
)
def test_what_an_agent_sends_is_read_back(message: Message) -> None:
    assert decode_message(encode_message(message)) == message
