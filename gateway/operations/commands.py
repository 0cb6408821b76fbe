"""Commands to devices: asking for one, and what became of it."""

from typing import Any

import msgspec
from sqlalchemy import select

from gateway.domain.instants import instant_text
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations import outbox as queue
from gateway.operations.devices import find
from gateway.operations.registry import Call, Page, operation
from gateway.storage.schema import outbox
from gateway.storage.transaction import AnyRow
from wire.commands import Verb
from wire.heartbeat import INTERVAL_S_MAX


class Command(msgspec.Struct):
    """`state`: waiting, sent or ended; `outcome`: done, failed, refused, unknown."""

    id: str
    serial: str
    verb: str
    args: dict[str, Any]
    state: str
    outcome: str | None
    result: dict[str, Any] | None
    actor: str
    created_at: str
    expires_at: str


class Commands(msgspec.Struct):
    """A device's newest commands, newest first."""

    items: list[Command]
    next_cursor: str | None


class SendCommand(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to tell a device: refresh, ping, or set_intervals with sampling_s and sending_s."""

    serial: str
    verb: str
    args: dict[str, Any] = {}


class ListCommands(Page, kw_only=True):
    """Whose commands; or one by its id."""

    serial: str
    id: str = ""


def _shown(row: AnyRow) -> Command:
    ended = row.answered_at is not None
    return Command(
        row.id,
        row.serial,
        row.verb,
        msgspec.json.decode(row.args),
        "ended" if ended else "waiting" if row.sent_at is None else "sent",
        row.outcome,
        None if row.answer is None else msgspec.json.decode(row.answer),
        row.actor,
        instant_text(row.created_at),
        instant_text(row.expires_at),
    )


# What sessions need is said by the gateway itself.
_FOR_PEOPLE = tuple(verb for verb in Verb if verb not in (Verb.OPEN, Verb.CLOSE))


def _checked(given: SendCommand) -> Verb:
    if given.verb not in _FOR_PEOPLE:
        known = ", ".join(_FOR_PEOPLE)
        raise Refused(Code.VALIDATION, f"verb: one of {known}", field="verb")
    verb = Verb(given.verb)
    allowed = {"sampling_s", "sending_s"} if verb is Verb.SET_INTERVALS else set()
    for name, value in given.args.items():
        if name not in allowed:
            raise Refused(Code.VALIDATION, f"args: {verb} does not take {name}", field="args")
        if type(value) is not int or not 1 <= value <= INTERVAL_S_MAX:
            raise Refused(
                Code.VALIDATION, f"args: {name} is 1 to {INTERVAL_S_MAX} seconds", field="args"
            )
    if verb is Verb.SET_INTERVALS and not given.args:
        raise Refused(Code.VALIDATION, "args: sampling_s, sending_s or both", field="args")
    return verb


@operation(
    "commands.send",
    "POST",
    "/devices/{serial}/commands",
    right=Right.COMMAND,
    result=Command,
    status=201,
    errors=(Code.SERVICE_UNPAID, Code.COMPANY_SUSPENDED, Code.NOT_JOINED),
)
def send_command(call: Call, given: SendCommand) -> Command:
    """Tells a device to do something; list its commands to see the outcome."""
    row = find(call, given.serial, Right.COMMAND)
    verb = _checked(given)
    if call.treasury.suspended(row.company_id):
        raise Refused(Code.COMPANY_SUSPENDED, "The company is suspended.")
    if row.state != "active":
        raise Refused(Code.SERVICE_UNPAID, "The device's service is not active; activate it first.")
    if row.joined_at is None:
        raise Refused(Code.NOT_JOINED, "The device has not joined yet.")
    id_ = queue.put(
        call.tx,
        device_id=row.id,
        serial=row.serial,
        node=row.node,
        verb=verb,
        args=given.args,
        actor=call.principal.name,
    )
    stored = call.tx.one(select(outbox).where(outbox.c.id == id_))
    assert stored is not None
    return _shown(stored)


@operation(
    "commands.list", "GET", "/devices/{serial}/commands", right=Right.COMMAND, result=Commands
)
def list_commands(call: Call, given: ListCommands) -> Commands:
    """Lists what a device was told, newest first."""
    row = find(call, given.serial, Right.COMMAND)
    statement = select(outbox).where(outbox.c.device_id == row.id)
    if given.id:
        statement = statement.where(outbox.c.id == given.id)
    if not call.allows(Right.SEE_SESSIONS, row.company_id):
        # Who may not see sessions learns nothing of them here, either.
        statement = statement.where(outbox.c.verb.in_([verb.value for verb in _FOR_PEOPLE]))
    statement = statement.order_by(outbox.c.created_at.desc(), outbox.c.id)
    # The page after this one begins where an earlier list ended; rows are kept 30 days.
    offset = int(given.cursor) if given.cursor.isdigit() and len(given.cursor) < 7 else 0
    rows = call.tx.all(statement.limit(given.limit + 1).offset(offset))
    more = str(offset + given.limit) if len(rows) > given.limit else None
    return Commands([_shown(found) for found in rows[: given.limit]], more)
