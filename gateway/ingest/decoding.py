"""Decodes heartbeats at speed: JSON and header in one pass of C, with the meaning of `wire`."""

from typing import Annotated, Any

import msgspec

from wire.fields import decode_fields
from wire.heartbeat import (
    FIELDS_FLAT_MAX,
    INTERVAL_S_MAX,
    NUMBER_MAX,
    SAMPLES_MAX,
    Message,
    Origin,
    Sample,
    WireError,
    is_run,
    parse_message,
)

_Number = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]
_Flag = Annotated[int, msgspec.Meta(ge=0, le=1)]
_Samples = Annotated[
    list[tuple[_Positive, _Number, list[Any]]], msgspec.Meta(min_length=1, max_length=SAMPLES_MAX)
]


class _Array(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """The positional array of a heartbeat message (`wire.heartbeat`)."""

    run: str
    current: int | str
    connection: _Positive
    base: _Number
    low: _Positive
    interval_s: Annotated[int, msgspec.Meta(ge=1, le=INTERVAL_S_MAX)]
    ask: _Flag
    dropped: _Number
    origin: int | tuple[int | None]
    samples: _Samples


_decode = msgspec.json.Decoder(_Array).decode
_decode_any = msgspec.json.Decoder().decode


def decode_message(payload: bytes) -> Message:
    """The same message, or refusal, as `wire.heartbeat.parse_message` of the payload's JSON.

    Raises `WireError` naming the part that is wrong, or msgspec's error where it is not JSON.
    """
    try:
        array = _decode(payload)
    except msgspec.ValidationError:
        # Refused; the slow way says what is wrong.
        return parse_message(_decode_any(payload))
    message = _message(array)
    return parse_message(_decode_any(payload)) if message is None else message


def _message(array: _Array) -> Message | None:
    """None where a rule is broken that the types of `_Array` do not hold."""
    run, current = array.run, array.current
    if current == 0:
        current = run
    elif type(current) is not str or not is_run(current):
        return None
    origin = array.origin
    ignored = previous = 0
    samples: list[Sample] = []
    for number, clock_ms, flat in array.samples:
        if number <= previous or len(flat) > FIELDS_FLAT_MAX:
            return None
        previous = number
        values, bad = decode_fields(flat)
        ignored += bad
        samples.append(Sample(number, clock_ms, values))
    first = samples[0].number
    base = array.base
    if (
        not is_run(run)
        or (type(origin) is int and origin != 0)
        or base >= first
        or (base and run != current)
        or array.low > first
    ):
        return None
    return Message(
        run,
        current,
        array.connection,
        base,
        array.low,
        array.interval_s,
        array.ask == 1,
        array.dropped,
        None if type(origin) is int else _origin(origin),
        samples,
        ignored,
    )


def _origin(origin: object) -> Origin:
    assert isinstance(origin, tuple)
    (offset_ms,) = origin
    if offset_ms is not None and abs(offset_ms) > NUMBER_MAX:
        raise WireError(f"origin: not an integer from {-NUMBER_MAX} to {NUMBER_MAX}")
    return Origin(offset_ms)
