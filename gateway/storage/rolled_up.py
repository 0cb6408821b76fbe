"""How a roll-up is kept: MessagePack, as small as most of its numbers are.

`[run, samples, {field id: numbers}]`. A gauge that stood still is its value alone; another one is
its least value, and how far the greatest, the last and the total lie above that. A counter is its
last value and its increase. A field that was known in fewer samples than there were says at its end
in how many.
"""

import msgspec

from gateway.domain.history import Counter, Gauge, RolledUp, Summary

Packed = int | list[int]

_GONE = -1  # in place of a last value that there is none of
_LARGEST = 2**63 - 1  # no honest device comes near
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, int, dict[int, Packed]]).decode


def packed(rolled: RolledUp) -> bytes:
    """The bytes of a row's `fields`."""
    fields = {id_: _numbers(each, rolled.samples) for id_, each in rolled.fields.items()}
    return _encode((rolled.run_id, rolled.samples, fields))


def unpacked(data: bytes) -> RolledUp:
    """The reverse of `packed`."""
    run_id, samples, fields = _decode(data)
    return RolledUp(run_id, samples, {id_: _summary(kept, samples) for id_, kept in fields.items()})


def _numbers(summary: Summary, samples: int) -> Packed:
    if isinstance(summary, Counter):
        numbers = [summary.last, min(summary.increase, _LARGEST)]
    else:
        low, high, last = summary.minimum, summary.maximum, summary.last
        if low == high == last and summary.samples == samples:
            return low
        above = summary.total - low * summary.samples
        beyond = _GONE if last is None else last - low
        numbers = [low, high - low, beyond, min(above, _LARGEST)]
    if summary.samples != samples:
        numbers.append(summary.samples)
    return numbers


def _summary(kept: Packed, samples: int) -> Summary:
    match kept:
        case [last, increase, *fewer] if len(kept) < 4:
            return Counter(fewer[0] if fewer else samples, increase, last)
        case [low, high, last, above, *fewer]:
            count = fewer[0] if fewer else samples
            known = None if last == _GONE else low + last
            return Gauge(count, low, low * count + above, low + high, known)
        case int(value):
            return Gauge(samples, value, value * samples, value, value)
    raise ValueError("not a roll-up that this version has made")
