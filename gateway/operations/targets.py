"""Saved targets of devices, and what somebody means who names a target."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.domain.instants import instant_text
from gateway.domain.names import clean_name, name_key
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.audit_writing import record
from gateway.operations.companies import given_values
from gateway.operations.devices import find
from gateway.operations.registry import Call, Page, cursor_number, operation
from gateway.storage.schema import device, target
from gateway.storage.transaction import AnyRow
from wire.heartbeat import WireError
from wire.targets import PROTOCOL_PORTS, ROUTER, Target, parse_target, spelled_target

TARGETS_OF_DEVICE_MAX = 100
NAME_CHARS_MAX = 63
Text = Annotated[str, msgspec.Meta(max_length=300)]
Protocol = Annotated[str, msgspec.Meta(max_length=16)]


class SavedTarget(msgspec.Struct):
    """A target with a name, which can be reached by whoever may reach the router itself."""

    id: str
    serial: str
    name: str
    target: str
    protocol: str
    created_at: str


class SavedTargets(msgspec.Struct):
    """A page of saved targets."""

    items: list[SavedTarget]
    next_cursor: str | None


class CreateTarget(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A name for `host:port` (or a host alone: the protocol's usual port) behind a device."""

    serial: str
    name: Text
    target: Text
    protocol: Protocol


class ListTargets(Page, kw_only=True):
    """Whose targets."""

    serial: str


class ChangeTarget(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to change."""

    target_id: str
    name: Text | msgspec.UnsetType = msgspec.UNSET
    target: Text | msgspec.UnsetType = msgspec.UNSET
    protocol: Protocol | msgspec.UnsetType = msgspec.UNSET


class OneTarget(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Names a saved target."""

    target_id: str


class Meant(NamedTuple):
    """What is to be reached, by which protocol, and what right that needs."""

    target: Target
    name: str
    protocol: str
    right: Right


def checked_protocol(text: str) -> str:
    """One of the closed list. Raises `Refused`."""
    if text not in PROTOCOL_PORTS:
        known = ", ".join(PROTOCOL_PORTS)
        raise Refused(Code.VALIDATION, f"protocol: one of {known}", field="protocol")
    return text


def read_target(text: str, protocol: str, read: Callable[[str], Target] = spelled_target) -> Target:
    """`host:port`, or a host alone with the protocol's port. Raises `Refused`.

    How an address is spelt is for the router's own list to judge.
    """
    port = PROTOCOL_PORTS[protocol]
    try:
        try:
            return read(text)
        except WireError:
            if not port or text.endswith("]") or text.count(":") == 1:
                raise
            return read(f"[{text}]:{port}" if ":" in text else f"{text}:{port}")
    except WireError as error:
        raise Refused(Code.VALIDATION, str(error), field="target") from error


def meant(call: Call, device_id: int, text: str, protocol: str) -> Meant:
    """What is meant by a saved name, `host:port`, an address or name with dots, or nothing.

    Raises `Refused`.
    """
    saved = call.tx.all(select(target).where(target.c.device_id == device_id))
    for row in saved:
        if text and row.name_key == name_key(text):
            chosen = checked_protocol(protocol or row.protocol)
            return Meant(Target(row.host, row.port), row.name, chosen, Right.REACH)
    if text and not set(text) & set(".:"):
        # A name without a dot could be a host's too, but is far more often a saved one misspelt.
        raise Refused(
            Code.VALIDATION,
            f"target: there is no saved target {text!r}; write host:port, or save it first",
            field="target",
        )
    checked_protocol(protocol)
    if not text and not PROTOCOL_PORTS[protocol]:
        raise Refused(
            Code.VALIDATION, f"target: {protocol} has no usual port; give host:port", field="target"
        )
    found = read_target(text or ROUTER, protocol)
    name = next((row.name for row in saved if (row.host, row.port) == found), "")
    right = Right.REACH if name or found.host == ROUTER else Right.REACH_ANY
    return Meant(found, name, protocol, right)


def _checked_name(text: str) -> str:
    try:
        name = clean_name(text)
    except ValueError as error:
        raise Refused(Code.VALIDATION, f"name: {error}", field="name") from error
    if len(name) > NAME_CHARS_MAX or set(name) & set(":/[]"):
        raise Refused(
            Code.VALIDATION,
            f"name: at most {NAME_CHARS_MAX} characters, without : / [ ]",
            field="name",
        )
    return name


def _shown(row: AnyRow) -> SavedTarget:
    return SavedTarget(
        str(row.id),
        row.serial,
        row.name,
        str(Target(row.host, row.port)),
        row.protocol,
        instant_text(row.created_at),
    )


_ROWS = select(target, device.c.serial, device.c.company_id).join(
    device, device.c.id == target.c.device_id
)

_DEVICE_OF = select(target.c.device_id).where(target.c.id == bindparam("wanted"))


def _find(call: Call, target_id: str) -> AnyRow:
    number = int(target_id) if target_id.isascii() and target_id.isdigit() else 0
    row = None
    if len(target_id) <= 18:
        if call.tx.writing:
            call.tx.lock_devices(_DEVICE_OF, {"wanted": number})
        row = call.tx.one(
            _ROWS.where(target.c.id == number, device.c.registered, device.c.ended_at.is_(None))
        )
    if row is None:
        raise call.missing(Right.REACH_ANY, see=Right.REACH, what="target")
    call.require(Right.REACH_ANY, row.company_id, see=Right.REACH, what="target")
    return row


def _record(call: Call, verb: str, row: AnyRow) -> None:
    record(
        call.tx,
        verb,
        actor=call.principal.name,
        owner_id=None,
        company_id=row.company_id,
        device_id=row.device_id,
        serial=row.serial,
        subject=str(row.id),
        detail={
            "name": row.name,
            "target": str(Target(row.host, row.port)),
            "protocol": row.protocol,
        },
    )


def _taken(error: Exception) -> Refused:
    del error
    return Refused(
        Code.NAME_TAKEN, "Another target of the device has a name like this.", field="name"
    )


@operation(
    "targets.create",
    "POST",
    "/targets",
    right=Right.REACH_ANY,
    result=SavedTarget,
    status=201,
    errors=(Code.NAME_TAKEN,),
)
def create_target(call: Call, given: CreateTarget) -> SavedTarget:
    """Saves a target behind a device under a name."""
    held = find(call, given.serial, Right.REACH_ANY)
    protocol = checked_protocol(given.protocol)
    found = read_target(given.target, protocol, parse_target)
    name = _checked_name(given.name)
    of_device = select(func.count()).where(target.c.device_id == held.id)
    if call.tx.scalar(of_device) >= TARGETS_OF_DEVICE_MAX:
        raise Refused(
            Code.VALIDATION, f"A device has at most {TARGETS_OF_DEVICE_MAX} saved targets."
        )
    try:
        number = call.tx.insert(
            insert(target),
            {
                "device_id": held.id,
                "name": name,
                "name_key": name_key(name),
                "host": found.host,
                "port": found.port,
                "protocol": protocol,
                "created_at": call.tx.now_ms,
            },
        )
    except IntegrityError as error:
        raise _taken(error) from error
    row = _find(call, str(number))
    _record(call, "target.created", row)
    return _shown(row)


@operation("targets.list", "GET", "/targets", right=Right.REACH, result=SavedTargets)
def list_targets(call: Call, given: ListTargets) -> SavedTargets:
    """Lists a device's saved targets."""
    held = find(call, given.serial, Right.REACH)
    rows = call.tx.all(
        _ROWS.where(target.c.device_id == held.id, target.c.id > (cursor_number(given.cursor) or 0))
        .order_by(target.c.id)
        .limit(given.limit + 1)
    )
    items = [_shown(row) for row in rows[: given.limit]]
    return SavedTargets(items, items[-1].id if len(rows) > given.limit else None)


@operation(
    "targets.change",
    "PATCH",
    "/targets/{target_id}",
    right=Right.REACH_ANY,
    result=SavedTarget,
    errors=(Code.NAME_TAKEN,),
)
def change_target(call: Call, given: ChangeTarget) -> SavedTarget:
    """Changes a saved target; sessions that are open keep theirs."""
    row = _find(call, given.target_id)
    wanted = given_values(given, "target_id")
    values: dict[str, object] = {}
    if "name" in wanted:
        name = _checked_name(wanted["name"])
        values |= {"name": name, "name_key": name_key(name)}
    protocol = checked_protocol(wanted.get("protocol", row.protocol))
    values["protocol"] = protocol
    if "target" in wanted:
        # A target that no agent will ever reach is not worth saving.
        found = read_target(wanted["target"], protocol, parse_target)
        values |= {"host": found.host, "port": found.port}
    try:
        call.tx.run(update(target).where(target.c.id == row.id).values(**values))
    except IntegrityError as error:
        raise _taken(error) from error
    changed = _find(call, given.target_id)
    _record(call, "target.changed", changed)
    return _shown(changed)


@operation(
    "targets.delete",
    "DELETE",
    "/targets/{target_id}",
    right=Right.REACH_ANY,
    result=SavedTarget,
)
def delete_target(call: Call, given: OneTarget) -> SavedTarget:
    """Forgets a saved target; sessions that are open keep theirs."""
    row = _find(call, given.target_id)
    call.tx.run(delete(target).where(target.c.id == row.id))
    _record(call, "target.deleted", row)
    return _shown(row)
