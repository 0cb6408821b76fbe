"""Where devices are, for a map."""

import msgspec
from sqlalchemy import select

from gateway.domain.instants import instant_text
from gateway.domain.rights import Right
from gateway.operations.device_filters import DeviceFilters, Reach, choose
from gateway.operations.registry import Call, operation
from gateway.storage import latest_values
from gateway.storage.schema import device, device_latest, device_live, device_search
from wire.fields import BY_NAME

POSITIONS_MAX = 2_000
_LATITUDE, _LONGITUDE = BY_NAME["latitude"].id, BY_NAME["longitude"].id
_DEGREES = 10_000_000  # of what is sent


class Position(msgspec.Struct):
    """Where a device was last, in degrees, and when that was read."""

    serial: str
    name: str
    lat: float
    lon: float
    at: str
    presence: str


class Positions(msgspec.Struct):
    """At most 2,000, by serial; `more`: there are others, so the filters should be narrower."""

    items: list[Position]
    more: bool


class ListPositions(DeviceFilters, kw_only=True):
    """Which devices, as `devices.list` takes it."""


@operation(
    "devices.positions", "GET", "/devices/positions", right=Right.SEE_POSITION, result=Positions
)
def list_positions(call: Call, given: ListPositions) -> Positions:
    """Lists where the devices are whose position one may see, for a map."""
    reach = Reach(call, given.company, descendants=given.descendants)
    chosen = choose(call, given, reach)
    visible = call.visible_of(given.company, Right.SEE_POSITION, see=Right.SEE_DEVICES)
    shown = visible.has(device.c.company_id + 0)
    found = call.tx.all(
        select(
            device.c.serial,
            device.c.name,
            device_live.c.presence,
            device_live.c.recent,
            device_latest.c.latest,
        )
        .select_from(
            chosen.source(device_live, device_search).join(
                device_latest, device_latest.c.device_id == device.c.id
            )
        )
        .where(*chosen.where, shown, device_search.c.located)
        .order_by(device.c.serial)
        .limit(POSITIONS_MAX + 1)
    )
    items = []
    for row in found[:POSITIONS_MAX]:
        values = latest_values.both(row.latest, row.recent)
        if _LATITUDE not in values or _LONGITUDE not in values:
            continue
        (lat, at), (lon, _) = values[_LATITUDE], values[_LONGITUDE]
        items.append(
            Position(
                row.serial,
                row.name,
                lat / _DEGREES,
                lon / _DEGREES,
                instant_text(at),
                row.presence,
            )
        )
    return Positions(items, len(found) > POSITIONS_MAX)
