"""Heartbeats and receipts: the positional JSON arrays that devices and gateway exchange."""

import json
import re
import secrets
from typing import NamedTuple

from wire.fields import Value, decode_fields, encode_fields

MESSAGE_BYTES_MAX = 16_000
SAMPLES_MAX = 200
NUMBER_MAX = 2**53 - 1
INTERVAL_S_MAX = 86_400
REFUSED_MAX = 32
FIELDS_FLAT_MAX = 512  # ids and values of one sample
TOO_MANY_GAPS = "too_many_gaps"  # why samples are refused: a gap was closed above them

_RUN = re.compile(r"[A-Za-z0-9_-]{11}")
_FULL, _SEND_UP = 1, 2


class WireError(ValueError):
    """The peer sent something that is not of this form; the text names the part."""


def new_run() -> str:
    """64 random bits, made at every start of an agent: 11 characters of base64url."""
    return secrets.token_urlsafe(8)


def is_run(value: object) -> bool:
    """Whether the value has the form of a run."""
    return type(value) is str and _RUN.fullmatch(value) is not None


class Sample(NamedTuple):
    """One reading.

    `clock_ms` is the sample's age at sending, or, in a message with an `origin`, the boot-time
    clock of the earlier boot at which it was made.
    """

    number: int
    clock_ms: int
    values: dict[int, Value]


class Origin(NamedTuple):
    """Samples of an earlier boot: wall clock = boot-time clock + `offset_ms`, if ever known."""

    offset_ms: int | None


class Message(NamedTuple):
    """A heartbeat message: 1–200 samples of one run, ascending."""

    run: str
    current_run: str
    connection: int
    base: int
    low: int
    interval_s: int
    ask: bool
    dropped: int
    origin: Origin | None
    samples: list[Sample]
    ignored_fields: int = 0


def checked_integer(value: object, low: int, high: int, part: str) -> int:
    """The value, if it is an integer (no bool) within bounds. Raises `WireError`."""
    if type(value) is not int or not low <= value <= high:
        raise WireError(f"{part}: not an integer from {low} to {high}")
    return value


def parse_message(array: object) -> Message:
    """Reads a decoded heartbeat. Raises `WireError` naming the part that is wrong."""
    if type(array) is not list or len(array) != 10:
        raise WireError("message: not an array of 10")
    run, current, connection, base, low, interval_s, ask, dropped, origin, samples = array
    if not is_run(run):
        raise WireError("run: not 11 characters of base64url")
    if current == 0 and type(current) is int:
        current = run
    elif not is_run(current):
        raise WireError("current: neither 0 nor a run")
    if not (
        type(connection) is type(base) is type(low) is type(interval_s) is type(dropped) is int
        and 1 <= connection <= NUMBER_MAX
        and 0 <= base <= NUMBER_MAX
        and 1 <= low <= NUMBER_MAX
        and 1 <= interval_s <= INTERVAL_S_MAX
        and 0 <= dropped <= NUMBER_MAX
        and type(ask) is int
        and 0 <= ask <= 1
    ):
        _refuse_header(connection, base, low, interval_s, ask, dropped)
    read_origin = None if type(origin) is int and origin == 0 else _parse_origin(origin)
    if type(samples) is not list or not 1 <= len(samples) <= SAMPLES_MAX:
        raise WireError(f"samples: not an array of 1 to {SAMPLES_MAX}")
    read, ignored = _parse_samples(samples)
    first = read[0].number
    if base >= first or (base and run != current):
        raise WireError("base: not before the first sample of the current run")
    if low > first:
        raise WireError("low: above the first sample")
    return Message(
        run,
        current,
        connection,
        base,
        low,
        interval_s,
        ask == 1,
        dropped,
        read_origin,
        read,
        ignored,
    )


def _refuse_header(
    connection: object, base: object, low: object, interval_s: object, ask: object, dropped: object
) -> None:
    """Names the part that is wrong; the quick check above does not."""
    checked_integer(connection, 1, NUMBER_MAX, "c")
    checked_integer(base, 0, NUMBER_MAX, "base")
    checked_integer(low, 1, NUMBER_MAX, "low")
    checked_integer(interval_s, 1, INTERVAL_S_MAX, "interval")
    checked_integer(ask, 0, 1, "ask")
    checked_integer(dropped, 0, NUMBER_MAX, "dropped")


def _parse_origin(origin: object) -> Origin:
    if type(origin) is not list or len(origin) != 1:
        raise WireError("origin: neither 0 nor an array of 1")
    offset_ms = origin[0]
    if offset_ms is None:
        return Origin(None)
    return Origin(checked_integer(offset_ms, -NUMBER_MAX, NUMBER_MAX, "origin"))


def _parse_samples(samples: list[object]) -> tuple[list[Sample], int]:
    read: list[Sample] = []
    previous = ignored = 0
    for sample in samples:
        if type(sample) is not list or len(sample) != 3:
            raise WireError("sample: not an array of 3")
        number, clock_ms, flat = sample
        if type(number) is not int or not previous < number <= NUMBER_MAX:
            raise WireError("sample: numbers are not ascending integers")
        if type(clock_ms) is not int or not 0 <= clock_ms <= NUMBER_MAX:
            raise WireError("sample clock: not milliseconds")
        if type(flat) is not list or len(flat) > FIELDS_FLAT_MAX:
            raise WireError(f"sample: fields are not an array of at most {FIELDS_FLAT_MAX}")
        values, bad = decode_fields(flat)
        ignored += bad
        read.append(Sample(number, clock_ms, values))
        previous = number
    return read, ignored


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def encode_message(message: Message) -> bytes:
    """The message as sent; `samples` must already fit (see `fitting`)."""
    return _dump(
        [
            message.run,
            0 if message.current_run == message.run else message.current_run,
            message.connection,
            message.base,
            message.low,
            message.interval_s,
            int(message.ask),
            message.dropped,
            0 if message.origin is None else [message.origin.offset_ms],
            [[s.number, s.clock_ms, encode_fields(s.values)] for s in message.samples],
        ]
    )


def fitting(samples: list[Sample], *, bytes_max: int = MESSAGE_BYTES_MAX) -> int:
    """How many of the first samples fit into one message, at least 1."""
    room = bytes_max - 200  # the header's largest form
    for count, sample in enumerate(samples[:SAMPLES_MAX]):
        size = len(_dump([sample.number, sample.clock_ms, encode_fields(sample.values)])) + 1
        if size > room and count:
            return count
        room -= size
    return min(len(samples), SAMPLES_MAX)


class Refused(NamedTuple):
    """Samples the gateway will never take, so that the agent drops and counts them."""

    first: int
    last: int
    reason: str


class Receipt(NamedTuple):
    """The gateway's word that samples of a run are committed."""

    run: str
    upto: int
    ranges: tuple[tuple[int, int], ...]
    server_time_ms: int
    every: int
    full: bool = False
    send_up: bool = False
    spread_s: int = 0
    refused: tuple[Refused, ...] = ()


def encode_receipt(receipt: Receipt) -> bytes:
    """The receipt as sent; trailing defaults are left out."""
    array: list[object] = [
        receipt.run,
        receipt.upto,
        receipt.ranges,
        receipt.server_time_ms,
        receipt.every,
        _FULL * receipt.full + _SEND_UP * receipt.send_up,
        receipt.spread_s,
        receipt.refused,
    ]
    while array[-1] in (0, ()):
        array.pop()
    return _dump(array)


def decode_receipt(payload: bytes) -> Receipt:
    """Reads a receipt. Raises `WireError`; fields that a later gateway appends are ignored."""
    array = load_json(payload)
    if type(array) is not list or len(array) < 5:
        raise WireError("receipt: not an array of at least 5")
    array = array + [0, 0, []][max(0, len(array) - 5) :]
    run, upto, ranges, server_time_ms, every, flags, spread_s, refused = array[:8]
    if not is_run(run):
        raise WireError("run: not 11 characters of base64url")
    flags = checked_integer(flags, 0, 255, "flags")
    if type(refused) is not list or len(refused) > REFUSED_MAX:
        raise WireError("refused: not a short array")
    return Receipt(
        run,
        checked_integer(upto, 0, NUMBER_MAX, "upto"),
        _parse_ranges(ranges),
        checked_integer(server_time_ms, 0, NUMBER_MAX, "time"),
        checked_integer(every, 1, 1_000, "every"),
        bool(flags & _FULL),
        bool(flags & _SEND_UP),
        checked_integer(spread_s, 0, INTERVAL_S_MAX, "spread"),
        tuple(_parse_refused(entry) for entry in refused),
    )


def _parse_ranges(ranges: object) -> tuple[tuple[int, int], ...]:
    if type(ranges) is not list or len(ranges) > 64:
        raise WireError("ranges: not a short array")
    read = []
    for entry in ranges:
        if type(entry) is not list or len(entry) != 2:
            raise WireError("ranges: an entry is not a pair")
        first = checked_integer(entry[0], 1, NUMBER_MAX, "range")
        read.append((first, checked_integer(entry[1], first, NUMBER_MAX, "range")))
    return tuple(read)


def _parse_refused(entry: object) -> Refused:
    if type(entry) is not list or len(entry) != 3 or type(entry[2]) is not str:
        raise WireError("refused: an entry is not a range with a reason")
    first = checked_integer(entry[0], 1, NUMBER_MAX, "refused")
    return Refused(first, checked_integer(entry[1], first, NUMBER_MAX, "refused"), entry[2][:64])


def _no_constant(name: str) -> object:
    raise WireError(f"json: {name} is not a number here")


def load_json(payload: bytes) -> object:
    """Strict JSON from a peer: UTF-8, no NaN, bounded by the caller. Raises `WireError`."""
    try:
        return json.loads(payload.decode("utf-8"), parse_constant=_no_constant)
    except WireError:
        raise
    except (ValueError, RecursionError, OverflowError) as error:
        raise WireError(f"json: {type(error).__name__}") from error
