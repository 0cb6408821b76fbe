"""Moving devices to another company: one, many, or all of a company; all of it or nothing."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError

from gateway.domain.moving import History, usual_history
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.audit_writing import record
from gateway.operations.carrying import (
    begin_next,
    end_commands,
    end_tenure,
    end_what_is_over,
    hand_over,
    is_over,
)
from gateway.operations.companies import company_row
from gateway.operations.days_along import note_days_along
from gateway.operations.devices import Device, alias_taken, rows, show
from gateway.operations.held import held_among, save
from gateway.operations.queueing import queue_recheck
from gateway.operations.registering import begin_tenure
from gateway.operations.registry import Call, company_number, operation
from gateway.operations.session_ends import end_sessions_of
from gateway.operations.session_locks import lock_sessions_of
from gateway.storage.constraints import broke
from gateway.storage.schema import device, device_live, enrolment, join_code, run
from gateway.storage.transaction import AnyRow
from wire.endings import Ended
from wire.serials import is_serial

MOVED_AT_ONCE_MAX = 1_000
DEVICES_MAX = 5_000  # of a whole company: none of them is heard or charged until all are there
_UNNAMED = {"name": "", "tags": "[]", "notes": "", "reference": ""}
# Of the row of a tenure's last heartbeat: the device must not notice that its company changed.
_LIVE = (
    "node last_heard_at last_day interval_s presence late_at offline_at run upto ranges state_seq "
    "last_at connection nonce command_n commanded_at supersessions supersessions_since"
).split()
_COPY_RUNS = """
INSERT INTO run (device_id, run, upto, ranges, state_seq, last_at, superseded_at)
SELECT ?, run, upto, ranges, state_seq, last_at, superseded_at FROM run WHERE device_id = ?
ORDER BY id
"""


class MoveDevice(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where a device goes, and whether its history goes along.

    `history` is `keep` or `leave`; left out, it is kept within one subtree of the caller's.
    """

    serial: str
    company_id: str
    history: Literal["keep", "leave"] | None = None


class MoveDevices(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which devices go where: these `serials`, or all that `from_company_id` itself holds."""

    company_id: str
    serials: Annotated[list[str], msgspec.Meta(max_length=MOVED_AT_ONCE_MAX)] = []
    from_company_id: str | None = None
    history: Literal["keep", "leave"] | None = None


class Moved(msgspec.Struct):
    """How many devices went to the company, and which."""

    company_id: str
    moved: int
    serials: list[str]


@operation(
    "devices.move",
    "POST",
    "/devices/{serial}/move",
    right=Right.MOVE_DEVICES,
    result=Device,
    errors=(Code.NAME_TAKEN, Code.COMPANY_CLOSED),
    moves_credits=True,
)
def move_device(call: Call, given: MoveDevice) -> Device:
    """Moves a device to another company; its running period goes along."""
    found = named_devices(call, [given.serial], Right.MOVE_DEVICES)
    target = _target(call, given.company_id)
    _require_elsewhere(found, target)
    move_all(call, found, target, _history(given.history))
    return show(call, given.serial)


@operation(
    "devices.move-many",
    "POST",
    "/devices/move",
    right=Right.MOVE_DEVICES,
    result=Moved,
    errors=(Code.NAME_TAKEN, Code.COMPANY_CLOSED),
    moves_credits=True,
)
def move_devices(call: Call, given: MoveDevices) -> Moved:
    """Moves many devices, or all of a company, to another; all of them or none."""
    if bool(given.serials) == (given.from_company_id is not None):
        raise Refused(
            Code.VALIDATION, "Give `serials` or `from_company_id`, one of them.", field="serials"
        )
    if given.from_company_id is None:
        found = named_devices(call, sorted(set(given.serials)), Right.MOVE_DEVICES)
        target = _target(call, given.company_id)
    else:
        source = company_number(given.from_company_id, "from_company_id")
        call.require(Right.MOVE_DEVICES, source, see=Right.SEE_COMPANIES, what="company")
        company_row(call, source)
        target = _target(call, given.company_id)
        found = devices_of(call, source, "from_company_id")
        if source == target:
            raise _already_there("from_company_id: these devices are in that company already")
    _require_elsewhere(found, target)
    move_all(call, found, target, _history(given.history))
    return Moved(str(target), len(found), [row.serial for row in found])


def _history(text: str | None) -> History | None:
    return None if text is None else History(text)


def named_devices(call: Call, serials: Sequence[str], right: Right) -> list[AnyRow]:
    """The devices of these serials, locked, each with the right to it. Raises `Refused`."""
    call.allows(right)
    known = [serial for serial in serials if is_serial(serial)]
    call.tx.lock_devices(
        select(device.c.id).where(device.c.serial.in_(known), device.c.ended_at.is_(None))
    )
    found = {row.serial: row for row in call.tx.all(rows().where(device.c.serial.in_(known)))}
    for serial in serials:
        row = found.get(serial)
        try:
            if row is None:
                raise call.missing(right, see=Right.SEE_DEVICES, what="device")
            call.require(right, row.company_id, see=Right.SEE_DEVICES, what="device")
        except Refused as refused:
            raise refused if len(serials) == 1 else about_serial(serial, refused) from None
    return [found[serial] for serial in serials]


def about_serial(serial: str, refused: Refused) -> Refused:
    """The same refusal, saying of many devices which one it is about."""
    return Refused(refused.code, f"{serial[:40]!r}: {refused.detail}", field="serials")


def devices_of(call: Call, company_id: int, field: str) -> list[AnyRow]:
    """All registered devices that the company itself holds, locked, by serial. Raises `Refused`."""
    held = device.c.company_id == company_id, device.c.registered
    if call.tx.scalar(select(func.count()).select_from(device).where(*held)) > DEVICES_MAX:
        raise Refused(
            Code.VALIDATION,
            f"{field}: more than {DEVICES_MAX} devices; move some of them first, by `serials`",
            field=field,
        )
    call.tx.lock_devices(select(device.c.id).where(*held))
    statement = rows().where(device.c.company_id == company_id)
    return list(call.tx.all(statement.order_by(device.c.serial)))


def _target(call: Call, text: str) -> int:
    number = company_number(text)
    call.require(Right.MOVE_DEVICES, number, see=Right.SEE_COMPANIES, what="company")
    company_row(call, number)
    return number


def _already_there(text: str) -> Refused:
    return Refused(Code.VALIDATION, text, field="company_id")


def _require_elsewhere(found: Sequence[AnyRow], target: int) -> None:
    for row in found:
        if row.company_id == target:
            raise _already_there(f"company_id: {row.serial} is in this company already")


class Move(NamedTuple):
    """Devices on their way, all locked, with the rows that hold them from now on."""

    found: Sequence[AnyRow]
    target: int
    how: dict[int, History]
    followers: dict[int, int]  # of each device: itself, or the row of its new tenure
    charged: tuple[int, ...]  # the companies that may have to pay in the same transaction


def move_all(call: Call, found: Sequence[AnyRow], target: int, history: History | None) -> None:
    """Moves devices, which are locked, to a company. Raises `Refused`, and then none is moved."""
    move = begin_move(call, found, target, history)
    call.treasury.prepare(move.charged, {*move.followers, *move.followers.values()})
    end_move(call, move)


def begin_move(call: Call, found: Sequence[AnyRow], target: int, history: History | None) -> Move:
    """The first half, up to the locks of accounts: all of a transaction are locked at once."""
    _end_sessions(call, found)
    how = {row.id: history or _usual(call, row.company_id, target) for row in found}
    kept = [row for row in found if how[row.id] is History.KEEP]
    _require_free_aliases(call, kept, target)
    followers = {
        row.id: row.id if how[row.id] is History.KEEP else _follow(call, row, target)
        for row in found
    }
    over = any(is_over(row, call.tx.now_ms) for row in found)
    return Move(found, target, how, followers, (target,) if over else ())


def end_move(call: Call, move: Move) -> None:
    """The second half: days and service go over."""
    for row in move.found:
        _record(call, row, move.target, move.how[row.id])
        _bring(call, row, move.followers[row.id], move.target)
    queue_recheck(call.tx, move.target)


def _usual(call: Call, former: int, target: int) -> History:
    paths = call.treasury.path(former), call.treasury.path(target)
    common = set(paths[0]) & set(paths[1])
    return usual_history(*paths, {id_ for id_ in common if call.allows(Right.MOVE_DEVICES, id_)})


def _end_sessions(call: Call, found: Sequence[AnyRow]) -> None:
    """Sessions belong to the company in which they were opened."""
    lock_sessions_of(call.tx, [row.id for row in found])
    for row in found:
        end_sessions_of(call.tx, row.id, Ended.MOVED, call.principal.name)


def _require_free_aliases(call: Call, kept: Sequence[AnyRow], target: int) -> None:
    wanted = {row.alias_key: row.serial for row in kept if row.alias_key is not None}
    if not wanted:
        return
    taken = call.tx.scalar(
        select(device.c.alias_key).where(
            device.c.company_id == target, device.c.registered, device.c.alias_key.in_(wanted)
        )
    )
    if taken is not None:
        raise Refused(
            Code.NAME_TAKEN,
            f"alias: another device of the company is called as {wanted[taken]} is; "
            "change one of them first.",
            field="alias",
        )


def _bring(call: Call, row: AnyRow, follower: int, target: int) -> None:
    """Service and days go over; what was over before the move is settled as it would have been."""
    note_days_along(call, row, follower, target)
    if follower != row.id:
        more = {
            "joined_at": row.joined_at,
            "sending_s": row.sending_s,
            "taken_over_at": call.tx.now_ms,
            # Its former owner may know the secret.
            "rotate_secret": row.joined_at is not None,
        }
        hand_over(call, row, follower, cause="moved", more=more)
        return
    former = held_among(row)
    ended = end_what_is_over(call, former)
    if ended:
        save(call.tx, former)
    _keep(call, row, target)
    if ended:
        begin_next(call, row.id)


def _keep(call: Call, row: AnyRow, target: int) -> None:
    """The same tenure goes on in the other company."""
    try:
        call.tx.run(update(device).where(device.c.id == row.id).values(company_id=target))
    except IntegrityError as error:
        if not broke(error, "uq_device_alias"):
            raise
        raise alias_taken() from error
    # Who stands at the router with its join string need not be sent another.
    call.tx.run(update(join_code).where(join_code.c.serial == row.serial).values(company_id=target))


def _follow(call: Call, row: AnyRow, target: int) -> int:
    """A new, empty tenure with the same router: connection, run and receipts go on in it."""
    end_tenure(call, row.id)
    values: dict[str, Any] = {**_UNNAMED, "mac": row.mac, "auto_extend": row.auto_extend}
    id_ = begin_tenure(call, None, row.serial, target, row.start, values)
    call.tx.change(_COPY_RUNS, (id_, row.id))
    current = select(run.c.id).where(run.c.device_id == id_, run.c.run == row.run)
    going_on = {name: getattr(row, name) for name in _LIVE}
    call.tx.run(
        update(device_live)
        .where(device_live.c.device_id == id_)
        .values(**going_on, run_id=call.tx.scalar(current), need_full=True)
    )
    call.tx.run(update(enrolment).where(enrolment.c.device_id == row.id).values(device_id=id_))
    call.tx.run(delete(join_code).where(join_code.c.serial == row.serial))
    end_commands(call, row.id, "moved", follower=id_)
    return id_


def _record(call: Call, row: AnyRow, target: int, history: History) -> None:
    """Both companies read that it went; who it is that sold or bought it is not theirs to know."""
    for company_id, other in ((row.company_id, target), (target, row.company_id)):
        detail: dict[str, object] = {"history": history.value, "went": "away"}
        if company_id == target:
            detail["went"] = "here"
        if history is History.KEEP:
            detail["other_company_id"] = str(other)
        record(
            call.tx,
            "device.moved",
            actor=call.principal.name,
            owner_id=None,
            company_id=company_id,
            device_id=row.id,
            serial=row.serial,
            subject=row.serial,
            detail=detail,
        )
