"""Marks that the server is alive, records outages, and deletes what has served its time."""

from sqlalchemy import (
    ColumnElement,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from gateway.domain.happenings import EVENT_KEPT_MS
from gateway.domain.instants import DAY_MS, MINUTE_MS
from gateway.domain.inviting import KEPT_MS as INVITATION_KEPT_MS
from gateway.domain.mails import KEPT_MS as MAIL_KEPT_MS
from gateway.domain.registering import HASH_KEPT_MS, UNDONE_WITHIN_MS
from gateway.domain.sessions import REVOCATION_KEPT_MS, SESSION_KEPT_MS, USAGE_KEPT_MS
from gateway.operations.clock_state import note_running, note_start, trust_of
from gateway.operations.outbox import command_ended
from gateway.operations.session_locks import locked
from gateway.storage.installation_facts import get, put
from gateway.storage.schema import (
    api_token,
    audit,
    audit_personal,
    device,
    device_live,
    enrolment,
    event,
    idempotency,
    invitation,
    join_code,
    mail,
    mqtt_login,
    outage,
    outbox,
    password_reset,
    password_reset_asked,
    replacement,
    revocation,
    session,
    session_usage,
    sign_in,
)
from gateway.storage.transaction import Transaction
from wire.commands import Outcome
from wire.fields import FIELD_TABLE_VERSION

OUTAGE_MS_MIN = MINUTE_MS
ROWS_AT_ONCE = 400  # heartbeats do not wait longer than some 20 ms for a job
IDEMPOTENCY_KEPT_MS = 30 * DAY_MS
WHENCE = ("address", "user_agent")  # personal values of the audit
WHENCE_KEPT_MS = 365 * DAY_MS
OUTBOX_KEPT_MS = 30 * DAY_MS
_ALIVE = "alive_at"
_FIELD_TABLE = "field_table_version"


def begin(tx: Transaction) -> None:
    """At a start, before anything else: notes what nobody can tell from a wrong clock.

    To be run alone, so that no gateway goes on before it is known.
    """
    note_start(tx, _alive_at(tx))
    mark_alive(tx)


def mark_alive(tx: Transaction, lived_ms: int = 0) -> bool:
    """Says that the server worked at this instant; a longer gap than usual was an outage.

    `lived_ms`: by how much a test moved the clock of the running server, and time in which its
    clock was in doubt. That counts as lived through; a clock that was moved while the server was
    down is an outage as any other. False, and nothing was said, while the clock is in doubt.
    """
    if trust_of(tx).doubt:
        return False
    if not tx.alone("alive"):
        return True  # another gateway says so now
    before = _alive_at(tx)
    if before is not None:
        ran_ms = tx.now_ms - before
        if ran_ms - lived_ms > OUTAGE_MS_MIN:
            tx.run(insert(outage), {"started_at": before, "ended_at": tx.now_ms})
            ran_ms = lived_ms
        note_running(tx, ran_ms)
    put(tx, _ALIVE, str(tx.now_ms))
    return True


def _alive_at(tx: Transaction) -> int | None:
    at = get(tx, _ALIVE)
    return None if at is None else int(at)


def note_field_table(tx: Transaction) -> None:
    """At a start with another field table: values that it reads anew are asked for."""
    version = str(FIELD_TABLE_VERSION)
    if get(tx, _FIELD_TABLE) != version and tx.alone("field table"):
        tx.lock_devices(select(device.c.id))
        tx.run(update(device_live).values(need_full=True))
        put(tx, _FIELD_TABLE, version)


def unanswered(tx: Transaction) -> list[str]:
    """Commands whose time is over without an answer; asked often, so it only reads."""
    return [
        row.id
        for row in tx.all(
            select(outbox.c.id)
            .where(outbox.c.answered_at.is_(None), outbox.c.expires_at <= tx.now_ms)
            .limit(ROWS_AT_ONCE)
        )
    ]


def end_commands(tx: Transaction, ids: list[str]) -> int:
    """These were never answered: their outcome is unknown. How many.

    What somebody else holds now is being answered, or comes again.
    """
    left = tx.claim(select(outbox.c.id).where(outbox.c.id.in_(ids), outbox.c.answered_at.is_(None)))
    whose = (
        select(outbox.c.id, outbox.c.serial, outbox.c.verb, device.c.company_id)
        .join(device, device.c.id == outbox.c.device_id)
        .where(outbox.c.id.in_(left))
    )
    for row in tx.all(whose):
        command_ended(tx, row.company_id, row.serial, row.id, row.verb, Outcome.UNKNOWN.value)
    return tx.run(
        update(outbox)
        .where(outbox.c.id.in_(left))
        .values(
            answered_at=tx.now_ms,
            sent_at=func.coalesce(outbox.c.sent_at, tx.now_ms),
            outcome="unknown",
            answer='{"error":"no_answer"}',
        )
    )


def clean(tx: Transaction) -> int:
    """Deletes some of what nobody needs any more; each kind has its own time. How many rows."""
    if not tx.alone("clean"):
        return 0
    now_ms = tx.now_ms
    for table, over in (
        (mail, mail.c.created_at < now_ms - MAIL_KEPT_MS),
        (event, and_(event.c.at < now_ms - EVENT_KEPT_MS, event.c.position.is_not(None))),
        (idempotency, idempotency.c.at < now_ms - IDEMPOTENCY_KEPT_MS),
        (invitation, _ended_invitation(now_ms - INVITATION_KEPT_MS)),
        (outbox, outbox.c.answered_at < now_ms - OUTBOX_KEPT_MS),
        (password_reset, password_reset.c.created_at < now_ms - DAY_MS),
        (password_reset_asked, password_reset_asked.c.asked_at < now_ms - DAY_MS),
        (sign_in, sign_in.c.expires_at < now_ms),
        (api_token, api_token.c.expires_at < now_ms),
        (join_code, or_(join_code.c.expires_at < now_ms, join_code.c.uses_left == 0)),
        (mqtt_login, and_(mqtt_login.c.hash.is_(None), _not_newest())),
        (revocation, revocation.c.at < now_ms - REVOCATION_KEPT_MS),
        (session_usage, _of_ended(now_ms - USAGE_KEPT_MS)),
    ):
        key = tuple(table.primary_key)
        # What somebody else holds now is not forgotten now.
        some = select(*key).where(over).limit(ROWS_AT_ONCE).with_for_update(skip_locked=True)
        deleted = tx.run(delete(table).where(tuple_(*key).in_(some)))
        if deleted:
            return deleted
    return (
        _forget_enrolments(tx)
        or _forget_replaced(tx)
        or _forget_sessions(tx)
        or _forget_addresses(tx)
    )


def _forget_addresses(tx: Transaction) -> int:
    """Where people's requests came from, of entries of the audit that are old; it stays whole.

    Only the first are looked at, which are the oldest: all of them would be very many.
    """
    first = (
        select(audit_personal.c.audit_id)
        .where(audit_personal.c.name.in_(WHENCE))
        .order_by(audit_personal.c.audit_id)
        .limit(ROWS_AT_ONCE)
    ).subquery()
    some = (
        select(audit.c.id)
        .join(first, audit.c.id == first.c.audit_id)
        .where(audit.c.at < tx.now_ms - WHENCE_KEPT_MS)
    )
    ids = sorted({row.id for row in tx.all(some)})
    if not ids:
        return 0
    of_these = (audit_personal.c.audit_id.in_(ids), audit_personal.c.name.in_(WHENCE))
    return tx.run(delete(audit_personal).where(*of_these))


def _forget_replaced(tx: Transaction) -> int:
    """Credentials of replaced devices, once the replacement cannot be undone any more."""
    over = replacement.c.at < tx.now_ms - UNDONE_WITHIN_MS
    some = select(replacement.c.id).where(over, replacement.c.kept != "{}").limit(ROWS_AT_ONCE)
    mine = tx.claim(some)
    if not mine:
        return 0
    return tx.run(update(replacement).where(replacement.c.id.in_(mine)).values(kept="{}"))


def _forget_enrolments(tx: Transaction) -> int:
    """Credentials of devices that cannot be woken from the desk any more."""
    dormant = (
        device.c.registered.is_(False),
        device.c.dormant_at < tx.now_ms - HASH_KEPT_MS,
    )
    some = (
        select(device.c.id)
        .join(enrolment, enrolment.c.device_id == device.c.id)
        .where(*dormant)
        .limit(ROWS_AT_ONCE)
    )
    claimed = tx.claim_devices(some)
    if not claimed:
        return 0
    still = select(device.c.id).where(device.c.id.in_(claimed), *dormant)
    return tx.run(delete(enrolment).where(enrolment.c.device_id.in_(still)))


def _forget_sessions(tx: Transaction) -> int:
    over = _ended_before(tx.now_ms - SESSION_KEPT_MS)
    rows = locked(tx, select(session.c.id).where(over).limit(ROWS_AT_ONCE))
    if not rows:
        return 0
    return tx.run(delete(session).where(session.c.id.in_([row.id for row in rows])))


def _not_newest() -> ColumnElement[bool]:
    """The newest row carries the version that nodes have to reach."""
    return mqtt_login.c.version < select(func.max(mqtt_login.c.version)).scalar_subquery()


def _ended_invitation(before_ms: int) -> ColumnElement[bool]:
    """Accepted or taken back so long ago, or never accepted in its time."""
    return or_(
        invitation.c.ended_at < before_ms,
        and_(invitation.c.ended_at.is_(None), invitation.c.expires_at < before_ms),
    )


def _of_ended(before_ms: int) -> ColumnElement[bool]:
    """Usage of sessions that ended so long ago; there is none of the many that ended earlier."""
    return exists().where(
        session.c.id == session_usage.c.session_id, session.c.ended_at < before_ms
    )


def _ended_before(before_ms: int) -> ColumnElement[bool]:
    """Who ended before that began before that, which there is an index for."""
    return and_(session.c.created_at < before_ms, session.c.ended_at < before_ms)
