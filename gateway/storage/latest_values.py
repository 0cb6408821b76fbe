"""How a device's newest values are kept: in two maps, of which a heartbeat touches the small one.

The few fields that change all the time stand apart (`recent`) from the many that hardly ever do
(`latest`). MessagePack, because it is half the size of JSON and nothing asks for it by SQL.
"""

from collections.abc import Set
from typing import Any

import msgspec

Values = dict[int, tuple[Any, int]]  # field id: value, instant

RECENT_FIELDS_MAX = 12
_decode = msgspec.msgpack.Decoder(Values).decode
encode = msgspec.msgpack.Encoder().encode
NOTHING = encode({})


def changed(
    recent: bytes, changes: Values, watched: Set[int], once: int
) -> tuple[bytes, bool, bool]:
    """`recent` with some values replaced, and whether it should be merged into `latest`.

    The last: whether a watched field may have another value now; of `once` it matters whether it
    has one.
    """
    held = _decode(recent)
    other = not watched.isdisjoint(changes) and any(
        id_ not in held or (id_ != once and held[id_][0] != changes[id_][0])
        for id_ in watched & changes.keys()
    )
    held.update(changes)
    return encode(held), len(held) > RECENT_FIELDS_MAX, other


def merged(latest: bytes, recent: bytes) -> bytes:
    """The new `latest`; `recent` begins anew after it."""
    return encode(both(latest, recent))


def both(latest: bytes, recent: bytes) -> Values:
    """Every field's newest value and its instant."""
    held = _decode(latest)
    held.update(_decode(recent))
    return held
