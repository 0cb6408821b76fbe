"""How a device's newest values are kept: in two maps, of which a heartbeat touches the small one.

The few fields that change all the time stand apart (`recent`) from the many that hardly ever do
(`latest`). MessagePack, because it is half the size of JSON and nothing asks for it by SQL.
"""

from typing import Any

import msgspec

Values = dict[int, tuple[Any, int]]  # field id: value, instant

RECENT_FIELDS_MAX = 12
_decode = msgspec.msgpack.Decoder(Values).decode
_encode = msgspec.msgpack.Encoder().encode
NOTHING = _encode({})


def changed(recent: bytes, changes: Values) -> tuple[bytes, bool]:
    """`recent` with some values replaced, and whether it should be merged into `latest`."""
    held = _decode(recent)
    held.update(changes)
    return _encode(held), len(held) > RECENT_FIELDS_MAX


def merged(latest: bytes, recent: bytes) -> bytes:
    """The new `latest`; `recent` begins anew after it."""
    return _encode(both(latest, recent))


def both(latest: bytes, recent: bytes) -> Values:
    """Every field's newest value and its instant."""
    held = _decode(latest)
    held.update(_decode(recent))
    return held
