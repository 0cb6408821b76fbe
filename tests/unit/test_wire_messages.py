"""Heartbeats, receipts and `up`: round trips, and nothing but WireError for what is malformed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ingest.batch import Unreadable
from gateway.ingest.intake import read_payload
from wire.fields import BY_ID, COUNTER_MAX, FIELDS, Field, Value, check_value, decode_fields
from wire.heartbeat import (
    INTERVAL_S_MAX,
    MESSAGE_BYTES_MAX,
    NUMBER_MAX,
    SAMPLES_MAX,
    Message,
    Origin,
    Receipt,
    Refused,
    Sample,
    WireError,
    decode_receipt,
    encode_message,
    encode_receipt,
    fitting,
    is_run,
    load_json,
    new_run,
    parse_message,
)
from wire.presence import Up, decode_up, encode_up

RUN = "run00000001"
OTHER = "run00000002"


def values_of(field: Field) -> st.SearchStrategy[Value]:
    if field.type == "integer":
        return st.integers(field.low, field.high)
    if field.type == "boolean":
        return st.booleans()
    clean = st.characters(exclude_categories=("Cs", "Cc"))
    return st.text(clean, max_size=field.high // 4)


FIELD_VALUES = st.fixed_dictionaries({}, optional={one.id: values_of(one) for one in FIELDS})
RUNS = st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True)
NUMBERS = st.integers(1, NUMBER_MAX)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    run = draw(RUNS)
    current = draw(st.just(run) | RUNS)
    numbers = draw(st.lists(NUMBERS, min_size=1, max_size=4, unique=True).map(sorted))
    samples = [Sample(n, draw(st.integers(0, NUMBER_MAX)), draw(FIELD_VALUES)) for n in numbers]
    return Message(
        run,
        current,
        draw(NUMBERS),
        draw(st.integers(0, numbers[0] - 1)) if current == run else 0,
        draw(st.integers(1, numbers[0])),
        draw(st.integers(1, INTERVAL_S_MAX)),
        draw(st.booleans()),
        draw(st.integers(0, NUMBER_MAX)),
        draw(st.none() | st.builds(Origin, st.none() | st.integers(-NUMBER_MAX, NUMBER_MAX))),
        samples,
    )


@given(messages())
def test_a_message_comes_back_as_it_was_sent(message: Message) -> None:
    payload = encode_message(message)
    assert parse_message(load_json(payload)) == message
    # The gateway reads with another decoder; both must agree.
    if len(payload) <= MESSAGE_BYTES_MAX:
        assert read_payload("t", "hb", payload) == message


def array(**changed: Any) -> list[Any]:
    parts: dict[str, Any] = {
        "run": RUN,
        "current": 0,
        "c": 1,
        "base": 0,
        "low": 1,
        "interval": 60,
        "ask": 0,
        "dropped": 0,
        "origin": 0,
        "samples": [[1, 0, [1, 5]]],
    }
    return list({**parts, **changed}.values())


def test_the_plain_message_is_good() -> None:
    assert parse_message(array()).samples == [Sample(1, 0, {1: 5})]


MALFORMED: list[object] = [
    None,
    {},
    "x",
    [],
    array()[:9],
    [*array(), 0],
    array(run=1),
    array(run="short"),
    array(run="run0000000/"),
    array(run="run00000001\n"),
    array(current=1),
    array(current=False),
    array(current=""),
    array(current=None),
    array(c=0),
    array(c=True),
    array(c=1.0),
    array(c="1"),
    array(c=NUMBER_MAX + 1),
    array(base=-1),
    array(base=1),
    array(base=2),
    array(low=0),
    array(low=2),
    array(low=None),
    array(interval=0),
    array(interval=INTERVAL_S_MAX + 1),
    array(ask=2),
    array(ask=True),
    array(dropped=-1),
    array(origin=1),
    array(origin=False),
    array(origin=[]),
    array(origin=[1, 2]),
    array(origin=["1"]),
    array(origin=[NUMBER_MAX + 1]),
    array(samples=[]),
    array(samples={}),
    array(samples=[[n + 1, 0, []] for n in range(SAMPLES_MAX + 1)]),
    array(samples=[[1, 0]]),
    array(samples=[[1, 0, {}]]),
    array(samples=[[0, 0, []]]),
    array(samples=[[True, 0, []]]),
    array(samples=[[1.5, 0, []]]),
    array(samples=[[1, -1, []]]),
    array(samples=[[1, 0, []], [1, 0, []]]),
    array(samples=[[2, 0, []], [1, 0, []]]),
    array(samples=[[NUMBER_MAX + 1, 0, []]]),
    array(samples=[[1, 0, [0] * 513]]),
    array(current=OTHER, base=1, samples=[[5, 0, []]]),
]


@pytest.mark.parametrize("sent", MALFORMED, ids=lambda sent: json.dumps(sent)[:60])
def test_what_is_malformed_is_refused_by_name(sent: object) -> None:
    with pytest.raises(WireError):
        parse_message(sent)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=30,
)


@given(st.lists(JSON, min_size=10, max_size=10) | JSON)
def test_any_json_is_a_message_or_a_wire_error(sent: Any) -> None:
    try:
        parse_message(sent)
    except WireError:
        return


@given(messages(), st.integers(0, 9), JSON)
def test_a_message_with_one_part_replaced(message: Message, index: int, part: Any) -> None:
    sent: Any = load_json(encode_message(message))
    sent[index] = part
    try:
        parse_message(sent)
    except WireError:
        return


@given(messages(), st.data())
def test_damaged_bytes_are_read_or_quarantined_and_never_raise(
    message: Message, data: st.DataObject
) -> None:
    payload = bytearray(encode_message(message))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    for leaf in ("hb", "up", "ans"):
        assert read_payload("t", leaf, bytes(payload)) is not None


@given(st.binary(max_size=300), st.sampled_from(["hb", "up", "ans"]))
def test_any_bytes_are_quarantined(payload: bytes, leaf: str) -> None:
    assert isinstance(read_payload("t", leaf, payload), Unreadable)


@given(messages())
def test_what_fits_fits(message: Message) -> None:
    count = fitting(message.samples)
    assert 1 <= count <= min(len(message.samples), SAMPLES_MAX)
    if count > 1:
        short = message._replace(samples=message.samples[:count])
        assert len(encode_message(short)) <= MESSAGE_BYTES_MAX


def test_many_samples_are_cut_where_the_message_is_full() -> None:
    samples = [Sample(n, 0, {13: "x" * 64, 29: "y" * 64}) for n in range(1, 500)]
    count = fitting(samples)
    message = Message(RUN, OTHER, NUMBER_MAX, 0, 1, 60, True, NUMBER_MAX, None, samples[:count])
    assert MESSAGE_BYTES_MAX - 500 < len(encode_message(message)) <= MESSAGE_BYTES_MAX
    assert fitting([Sample(n, 0, {}) for n in range(1, 500)]) == SAMPLES_MAX


FIELD_CASES = [
    ([1, 5], {1: 5}, 0),
    ([1, True], {}, 1),
    ([1, 5.0], {}, 1),
    ([1, "5"], {}, 1),
    ([1, -1], {}, 1),
    ([1, COUNTER_MAX + 1], {}, 1),
    ([1, 4, 1, 5], {1: 5}, 0),
    ([1, 4, 1, -5], {1: 4}, 1),
    ([999, 1, 1, 5], {1: 5}, 1),
    ([True, 1], {}, 1),
    (["1", 1], {}, 1),
    ([None, 1], {}, 1),
    ([[], 1], {}, 1),
    ([1], {}, 1),
    ([40, True, 40, 1], {40: True}, 1),
    ([13, "x" * 64], {13: "x" * 64}, 0),
    ([13, "ü" * 33], {}, 1),
    ([13, "a\u0007b"], {}, 1),
    ([13, "a\u0085b"], {}, 1),
    ([13, "\ud800"], {}, 1),
    ([13, ""], {13: ""}, 0),
]


@pytest.mark.parametrize(("flat", "values", "ignored"), FIELD_CASES)
def test_a_field_that_does_not_fit_costs_itself(
    flat: list[object], values: dict[int, Value], ignored: int
) -> None:
    assert decode_fields(flat) == (values, ignored)


@given(st.sampled_from(FIELDS), JSON)
def test_checking_a_value_is_total(field: Field, value: Any) -> None:
    if check_value(field.id, value):
        assert type(value) is {"integer": int, "text": str, "boolean": bool}[field.type]
    assert not check_value(10_000, value) and BY_ID[field.id] is field


RANGES = st.lists(st.tuples(NUMBERS, NUMBERS).map(lambda pair: (min(pair), max(pair))), max_size=32)
RECEIPTS = st.builds(
    Receipt,
    run=RUNS,
    upto=st.integers(0, NUMBER_MAX),
    ranges=RANGES.map(tuple),
    server_time_ms=st.integers(0, NUMBER_MAX),
    every=st.integers(1, 1_000),
    full=st.booleans(),
    send_up=st.booleans(),
    spread_s=st.integers(0, INTERVAL_S_MAX),
    refused=st.lists(
        st.builds(Refused, NUMBERS, st.just(NUMBER_MAX), st.text("ab_", max_size=64)), max_size=4
    ).map(tuple),
)


@given(RECEIPTS)
def test_a_receipt_comes_back_as_it_was_sent(receipt: Receipt) -> None:
    assert decode_receipt(encode_receipt(receipt)) == receipt


def test_trailing_defaults_of_a_receipt_are_left_out_and_later_parts_ignored() -> None:
    short = Receipt(RUN, 4, (), 9, 4)
    assert encode_receipt(short) == b'["run00000001",4,[],9,4]'
    assert decode_receipt(b'["run00000001",4,[],9,4,0,0,[],"later",7]') == short
    assert decode_receipt(b'["run00000001",4,[],9,4,3,60]') == Receipt(
        RUN, 4, (), 9, 4, True, True, 60
    )


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_receipt_is_read_or_a_wire_error(payload: bytes) -> None:
    for decode in (decode_receipt, decode_up):
        try:
            decode(payload)
        except WireError:
            continue


@given(st.builds(Up, RUNS, NUMBERS, st.booleans(), st.from_regex(r"[0-9a-f]{32}", fullmatch=True)))
def test_up_comes_back_as_it_was_sent(up: Up) -> None:
    assert decode_up(encode_up(up)) == up


BAD_UP = [
    {"run": RUN, "c": 1, "up": 1},
    {"run": RUN, "c": 1, "up": True, "nonce": "0" * 32},
    {"run": RUN, "c": 1, "up": 2, "nonce": "0" * 32},
    {"run": RUN, "c": 0, "up": 1, "nonce": "0" * 32},
    {"run": RUN, "c": 1, "up": 1, "nonce": "0" * 31},
    {"run": RUN, "c": 1, "up": 1, "nonce": "A" * 32},
    {"run": "x", "c": 1, "up": 1, "nonce": "0" * 32},
    [],
]


@pytest.mark.parametrize("body", BAD_UP, ids=str)
def test_a_malformed_up_is_refused(body: object) -> None:
    with pytest.raises(WireError):
        decode_up(json.dumps(body).encode())


@pytest.mark.parametrize(
    "payload", [b"NaN", b"[Infinity]", b"\xff", b"{", b"[" * 100_000, b'{"a":-Infinity}', b""]
)
def test_json_is_strict(payload: bytes) -> None:
    with pytest.raises(WireError):
        load_json(payload)


def test_runs_are_random_and_of_one_form() -> None:
    runs = {new_run() for _ in range(200)}
    assert len(runs) == 200 and all(is_run(run) for run in runs)
