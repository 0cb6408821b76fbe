"""The narrow rows in which devices are found, kept as true as what they are made from."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.domain.names import name_key
from gateway.domain.search_text import names_text, told_text
from gateway.storage import latest_values
from gateway.storage.transaction import Plain, Transaction
from wire.fields import BY_NAME

_OPERATOR, _FIRMWARE, _IMEI, _ICCID, _LAN_MAC, LATITUDE = (
    BY_NAME[name].id for name in ("operator", "firmware", "imei", "iccid", "lan_mac", "latitude")
)
# Fields of which a row holds something; they hardly ever change.
WATCHED: Final = frozenset({_OPERATOR, _FIRMWARE, _IMEI, _ICCID, _LAN_MAC, LATITUDE})
RSRP: Final = BY_NAME["rsrp"].id
RSSI: Final = BY_NAME["rssi"].id

COLUMNS = ("device_id", "names", "name_key", "told", "operator", "firmware", "located")
_TOLD = ("told", "operator", "firmware", "located", "device_id")
AT_ONCE = 500
_NOTE = f"""
INSERT INTO device_search ({", ".join(COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (device_id) DO UPDATE SET names = excluded.names, name_key = excluded.name_key
"""  # noqa: S608 - columns of ours
_READ_NAMES = "SELECT id, serial, name, alias, reference, mac, tags FROM device WHERE id IN ({})"
_READ_TOLD = """
SELECT s.device_id, l.latest, s.told, s.operator, s.firmware, s.located
FROM device_search AS s JOIN device_latest AS l ON l.device_id = s.device_id
WHERE s.device_id IN ({}) ORDER BY s.device_id
"""
_tags = msgspec.json.Decoder(list[str]).decode
Told = tuple[str, str, str, bool]  # as `_TOLD`


def note_names(tx: Transaction, device_ids: Sequence[int]) -> None:
    """To be called where a device was added, or is called otherwise."""
    tx.change_many(_NOTE, list(_named(tx, device_ids)))


def add_names(tx: Transaction, device_ids: Sequence[int]) -> None:
    """The same for devices that are all new."""
    tx.add_rows("device_search", COLUMNS, list(_named(tx, device_ids)))


def _named(tx: Transaction, device_ids: Sequence[int]) -> Iterator[Plain]:
    for row in _rows(tx, _READ_NAMES, sorted(device_ids)):
        yield named(row)


def named(row: Plain) -> Plain:
    """A row of a device that told nothing yet, by what people call it."""
    id_, serial, name, alias, reference, mac, tags = row
    names = names_text(serial, name, alias, reference, mac, _tags(tags))
    return id_, names, name_key(name), "", "", "", False


def told_of(values: Mapping[int, tuple[Any, int]]) -> Told:
    """What a row holds of a device's newest values."""

    def text(id_: int) -> str:
        return str(values[id_][0]) if id_ in values else ""

    told = told_text(text(_IMEI), text(_ICCID), text(_LAN_MAC))
    return told, text(_OPERATOR), text(_FIRMWARE), LATITUDE in values


def note_told(tx: Transaction, recent: Mapping[int, bytes]) -> None:
    """After devices told something of `WATCHED`; `recent` as it is from now on, by device."""
    changed = []
    for id_, latest, *kept, located in _rows(tx, _READ_TOLD, sorted(recent)):
        made = told_of(latest_values.both(latest, recent[id_]))
        if (*kept, bool(located)) != made:
            changed.append((*made, id_))
    if changed:
        tx.change_rows("device_search", _TOLD, changed)


def _rows(tx: Transaction, statement: str, ids: Sequence[int]) -> Iterator[Plain]:
    for start in range(0, len(ids), AT_ONCE):
        part = ids[start : start + AT_ONCE]
        yield from tx.fetch(statement.format(",".join("?" * len(part))), part)
