"""The list of devices, filtered and sorted, page by page."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, FromClause, and_, case, func, or_, select

from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.domain.signal import RSSI_APART, RSSI_BELOW
from gateway.operations.device_filters import (
    HOLDER,
    PAID_UNTIL,
    Chosen,
    DeviceFilters,
    Reach,
    choose,
)
from gateway.operations.devices import Device, Shown, rows
from gateway.operations.registry import Call, check_limit, operation
from gateway.storage.schema import device, device_live, device_search
from gateway.storage.transaction import AnyRow

Sort = Literal[
    "serial",
    "-serial",
    "name",
    "-name",
    "company",
    "-company",
    "presence",
    "-presence",
    "last_heard",
    "-last_heard",
    "days_left",
    "-days_left",
    "signal",
    "-signal",
    "firmware",
    "-firmware",
    "operator",
    "-operator",
]


class Devices(msgspec.Struct):
    """A page of devices, in the order that was asked for."""

    items: list[Device]
    next_cursor: str | None


class ListDevices(DeviceFilters, kw_only=True):
    """Which devices, and in which order: with `-` the greatest first, of the same by serial."""

    limit: int = 100
    cursor: str = ""
    sort: Sort = "serial"

    def __post_init__(self) -> None:
        check_limit(self.limit)


@dataclass(frozen=True, slots=True)
class Key:
    """What a list is sorted by; never empty, so that a cursor can name it."""

    value: ColumnElement[Any]
    type: type[int] | type[str]
    table: FromClause | None = None
    hidden: bool = False  # from whoever sees names and days alone


_PRESENCE = case({"online": 0, "late": 1, "offline": 2}, value=device_live.c.presence, else_=3)
_SIGNAL = case(
    (device_live.c.signal.is_(None), RSSI_BELOW),
    (device_live.c.signal < RSSI_BELOW, device_live.c.signal + RSSI_APART),
    else_=device_live.c.signal,
)
_HIDDEN = {int: -RSSI_APART, str: ""}  # before all that there is
_KEYS: Mapping[str, Key] = {
    "name": Key(device_search.c.name_key, str, device_search),
    "company": Key(HOLDER.c.name_key, str, HOLDER),
    "presence": Key(_PRESENCE, int, device_live, hidden=True),
    "last_heard": Key(func.coalesce(device_live.c.last_heard_at, 0), int, device_live, hidden=True),
    "days_left": Key(func.coalesce(PAID_UNTIL, 0), int),
    "signal": Key(_SIGNAL, int, device_live, hidden=True),
    "firmware": Key(device_search.c.firmware, str, device_search, hidden=True),
    "operator": Key(device_search.c.operator, str, device_search, hidden=True),
}


@operation("devices.list", "GET", "/devices", right=Right.SEE_DEVICES, result=Devices)
def list_devices(call: Call, given: ListDevices) -> Devices:
    """Lists the devices that one may see.

    All filters that are given must fit. `q` is part of a serial, name, alias, reference, tag, MAC
    address in any usual form, IMEI or ICCID, whatever its case and accents. `days_left_max`: those
    that are paid, or served in grace, until within so many days. `signal`: by RSRP, from -85 dBm on
    `excellent`, from -105 dBm on `average`, from -115 dBm on `low`, below that or unknown `none`;
    where a modem tells RSSI alone, from limits 10 dB higher. `alert`: those with an alert, or
    without. `attention`: those with an alert, those for which nobody pays or that are served in
    grace, and those that end within 7 days and are not extended by themselves. Whoever sees names
    and days alone finds nothing by presence, values or alerts, and does not sort by them.
    """
    reach = Reach(call, given.company, descendants=given.descendants)
    chosen = choose(call, given, reach)
    ids, next_cursor = found_ids(call, chosen, reach, given.sort, given.cursor, given.limit)
    return Devices(shown_devices(call, ids), next_cursor)


def shown_devices(call: Call, ids: Sequence[int]) -> list[Device]:
    """The devices with these ids, in their order."""
    shown = Shown(call)
    return [shown.device(row) for row in rows_of(call, ids)]


def rows_of(call: Call, ids: Sequence[int]) -> list[AnyRow]:
    """All that is known of these devices, in the order of the ids, and the ways up from theirs."""
    found = {row.id: row for row in call.tx.all(rows().where(device.c.id.in_(ids)))} if ids else {}
    call.treasury.read_chains([row.company_id for row in found.values()])
    return [found[id_] for id_ in ids]


def found_ids(
    call: Call, chosen: Chosen, reach: Reach, sort: str, cursor: str, limit: int
) -> tuple[list[int], str | None]:
    """The devices of one page, and the cursor of the next. Raises `Refused`."""
    name, falling = sort.removeprefix("-"), sort.startswith("-")
    key = _KEYS.get(name)
    serial = device.c.serial
    columns: list[ColumnElement[Any]] = [device.c.id, serial]
    where = list(chosen.where)
    if key is None:
        order: list[ColumnElement[Any]] = [serial.desc() if falling else serial]
        source = chosen.source()
        if cursor:
            where.append(serial < cursor if falling else serial > cursor)
    else:
        value = key.value
        if key.hidden and not reach.everything:
            value = case((reach.known(), value), else_=_HIDDEN[key.type])
        value = value.label("value")
        tables = [] if key.table is None else [key.table]
        columns.append(value)
        order = [value.desc() if falling else value, serial]
        source = chosen.source(*tables)
        if cursor:
            last, after = _read_cursor(cursor, key.type)
            beyond = value < last if falling else value > last
            where.append(or_(beyond, and_(value == last, serial > after)))
    statement = select(*columns).select_from(source).where(*where).order_by(*order)
    found = call.tx.all(statement.limit(limit + 1))
    page = found[:limit]
    if len(found) <= limit:
        return [row.id for row in page], None
    last_row = page[-1]
    text = last_row.serial if key is None else _cursor(last_row.value, last_row.serial)
    return [row.id for row in page], text


def _cursor(value: int | str, serial: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((value, serial))).decode().rstrip("=")


def _read_cursor(text: str, kind: type[int] | type[str]) -> tuple[int | str, str]:
    """Raises `Refused` for one that no list of this order gave out."""
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        value, serial = msgspec.json.decode(packed, type=tuple[int | str, str])
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise _wrong_cursor() from error
    if not isinstance(value, kind) or (isinstance(value, int) and abs(value) >= 2**63):
        raise _wrong_cursor()
    return value, serial


def _wrong_cursor() -> Refused:
    return Refused(
        Code.VALIDATION, "cursor: not one that a list in this order gave out", field="cursor"
    )
