"""What a device reported: its stored samples."""

from typing import Any

import msgspec
from sqlalchemy import and_, or_, select

from gateway.domain.instants import instant_text
from gateway.domain.positions import POSITION
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.registry import Call, Page, operation
from gateway.operations.tenures import history_of, sees_position
from gateway.storage.schema import heartbeat, run
from wire.fields import BY_ID

_TIMES = ("server", "device", "interpolated")


class Heartbeat(msgspec.Struct):
    """One stored sample; `fields` are those sent with it: what changed since an earlier one."""

    run: str
    number: int
    at: str
    time_from: str
    fields: dict[str, Any]


class Heartbeats(msgspec.Struct):
    """A page of samples, newest first."""

    items: list[Heartbeat]
    next_cursor: str | None


class ListHeartbeats(Page, kw_only=True):
    """Whose samples."""

    serial: str


@operation(
    "devices.heartbeats",
    "GET",
    "/devices/{serial}/heartbeats",
    right=Right.SEE_HISTORY,
    result=Heartbeats,
)
def list_heartbeats(call: Call, given: ListHeartbeats) -> Heartbeats:
    """Lists a device's stored samples, newest first."""
    tenures = history_of(call, given.serial, Right.SEE_HISTORY)
    position = sees_position(call, tenures)
    statement = (
        select(
            heartbeat.c.id,
            run.c.run,
            heartbeat.c.number,
            heartbeat.c.at,
            heartbeat.c.time_from,
            heartbeat.c.fields,
        )
        .join(run, run.c.id == heartbeat.c.run_id)
        .where(heartbeat.c.device_id.in_(tenures))
        .order_by(heartbeat.c.at.desc(), heartbeat.c.id.desc())
        .limit(given.limit + 1)
    )
    if given.cursor:
        at, id_ = _cursor(given.cursor)
        statement = statement.where(
            or_(heartbeat.c.at < at, and_(heartbeat.c.at == at, heartbeat.c.id < id_))
        )
    rows = call.tx.all(statement)
    items = [
        Heartbeat(
            sample.run,
            sample.number,
            instant_text(sample.at),
            _TIMES[sample.time_from],
            named(sample.fields, position=position),
        )
        for sample in rows[: given.limit]
    ]
    if len(rows) <= given.limit:
        return Heartbeats(items, None)
    last = rows[given.limit - 1]
    return Heartbeats(items, f"{last.at}.{last.id}")


def named(text: str, *, position: bool) -> dict[str, Any]:
    """The values by name, from the numbers of the wire by which they are stored."""
    values = msgspec.json.decode(text, type=dict[int, Any])
    return {
        BY_ID[id_].name: value
        for id_, value in values.items()
        if id_ in BY_ID and (position or BY_ID[id_].name not in POSITION)
    }


def _cursor(text: str) -> tuple[int, int]:
    at, _, id_ = text.partition(".")
    if not (at.isdigit() and id_.isdigit() and len(text) < 40):
        raise Refused(Code.VALIDATION, "cursor: not one that a list gave out", field="cursor")
    return int(at), int(id_)
