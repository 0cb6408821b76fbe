"""Writes the devices of a file, all in one transaction, in few statements for all of them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete, select, update

from gateway.domain.ledger import prepaid_name
from gateway.domain.refusals import Code
from gateway.domain.registering import Outcome
from gateway.operations.carrying import lots_of
from gateway.operations.held import HELD_COLUMNS, Held, held_of, save_all
from gateway.operations.import_lines import Candidate, Judged, is_charged, parts
from gateway.operations.registering import NEVER_HEARD, fresh, wake
from gateway.operations.registration_end import book_end, take_login
from gateway.operations.registry import Call
from gateway.operations.session_ends import end_sessions_of
from gateway.operations.standing import mark_active, pay
from gateway.storage.constraints import RULE_BROKEN, broke
from gateway.storage.latest_values import NOTHING
from gateway.storage.locks import Raced
from gateway.storage.schema import device, device_live, enrolment
from gateway.storage.search_rows import add_names
from gateway.storage.transaction import AnyRow, Transaction
from wire.endings import Ended

CAUSE = "imported"
_RACES = ("uq_device_serial", "uq_device_alias")


class Written(NamedTuple):
    """What was done, and the lines that nobody pays for: then nothing of it may be kept."""

    days_paid: int
    unpaid: list[tuple[Candidate, Code]]
    paid: list[tuple[Candidate, int]]  # and by which company


def write_devices(
    call: Call, import_id: int, candidates: Sequence[Candidate], judged: Judged
) -> Written:
    """Registers them all, wakes up who sleeps nearby, and pays for those that are to begin now."""
    woken = [one for one in candidates if judged.outcomes[one.line.serial] is Outcome.WAKE]
    added = [one for one in candidates if judged.outcomes[one.line.serial] is not Outcome.WAKE]
    lapsed = _end_tenures(call, added, judged)
    ids = {one.line.serial: judged.tenures[one.line.serial].id for one in woken}
    ids |= _add(call, import_id, added)
    charged = [one for one in candidates if is_charged(call, one)]
    lots = {lot.account_id for row in lapsed for lot in lots_of(call, row)}
    call.treasury.prepare(
        {one.company_id for one in charged},
        {ids[one.line.serial] for one in charged} | {row.id for row in lapsed},
        lots,
    )
    call.treasury.gather()
    for row in lapsed:
        book_end(call, row, cause="registration_lapsed")
    _wake(call, import_id, woken, judged)
    written = _pay(call, charged, ids)
    call.treasury.write()
    for row in lapsed:
        take_login(call, row)
    return written


def _end_tenures(call: Call, added: Sequence[Candidate], judged: Judged) -> Sequence[AnyRow]:
    """Ends the former tenures of the serials; those that were registered, as they were."""
    tx = call.tx
    former = [judged.tenures[one.line.serial] for one in added if one.line.serial in judged.tenures]
    registered = [tenure.id for tenure in former if tenure.known.registered]
    lapsed = tx.all(select(device).where(device.c.id.in_(registered)).order_by(device.c.id))
    for row in lapsed:
        end_sessions_of(tx, row.id, Ended.UNREGISTERED, call.principal.name)
    for part in parts([tenure.id for tenure in former]):
        # The credential of a tenure that ends must not open the new one.
        tx.run(delete(enrolment).where(enrolment.c.device_id.in_(part)))
        tx.run(
            update(device).where(device.c.id.in_(part)).values(ended_at=tx.now_ms, registered=False)
        )
    return lapsed


def _add(call: Call, import_id: int, added: Sequence[Candidate]) -> dict[str, int]:
    """New tenures, each with all the rows that a device has; their ids by serial."""
    if not added:
        return {}
    tx = call.tx
    same: dict[tuple[int, str], Mapping[str, Any]] = {}
    rows = []
    # In one order, so that two imports of the same serials wait for each other at the first.
    for one in sorted(added, key=lambda one: one.line.serial):
        start = _start(call, one)
        key = (one.company_id, start)
        if key not in same:
            same[key] = {**fresh(call, *key), "import_id": import_id}
        rows.append({"serial": one.line.serial, **one.values, **same[key]})
    try:
        _add_rows(tx, "device", rows)
    except RULE_BROKEN as error:
        if any(broke(error, name) for name in _RACES):
            # Somebody registered one at the same time; the rules decide with that known.
            raise Raced("a serial or alias of an import") from error
        raise
    found = tx.all(
        select(device.c.id, device.c.serial)
        .where(device.c.import_id == import_id, device.c.ended_at.is_(None))
        .order_by(device.c.id)
    )
    ids = {row.serial: int(row.id) for row in found}
    node = call.site.node
    live = [{"device_id": id_, "node": node, **NEVER_HEARD} for id_ in ids.values()]
    _add_rows(tx, "device_live", live)
    latest = [{"device_id": id_, "latest": NOTHING} for id_ in ids.values()]
    _add_rows(tx, "device_latest", latest)
    add_names(tx, list(ids.values()))
    _add_rows(tx, "account", [_account(id_) for id_ in ids.values()])
    return ids


def _start(call: Call, one: Candidate) -> str:
    # By the day nobody pays for a router that was not there.
    return "on_contact" if one.start == "now" and not is_charged(call, one) else one.start


def _account(device_id: int) -> dict[str, Any]:
    return {
        "name": prepaid_name(device_id),
        "kind": "prepaid",
        "device_id": device_id,
        "free": False,
        "redeemed": False,
        "balance": 0,
    }


def _add_rows(tx: Transaction, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    tx.add_rows(table, list(rows[0]), [tuple(row.values()) for row in rows])


def _wake(call: Call, import_id: int, woken: Sequence[Candidate], judged: Judged) -> None:
    """Their own credentials are valid again."""
    rows: dict[str, AnyRow] = {}
    for part in parts([judged.tenures[one.line.serial].id for one in woken]):
        found = call.tx.all(select(device).where(device.c.id.in_(part)))
        rows |= {row.serial: row for row in found}
    for one in woken:
        values = {**one.values, "import_id": import_id}
        wake(call, rows[one.line.serial], one.company_id, _start(call, one), values)


def _pay(call: Call, charged: Sequence[Candidate], ids: Mapping[str, int]) -> Written:
    """A credit for each; the lines in the order of the file."""
    tx, treasury = call.tx, call.treasury
    held = held_by_id(tx, [ids[one.line.serial] for one in charged])
    unpaid: list[tuple[Candidate, Code]] = []
    paid: list[tuple[Candidate, int]] = []
    active: list[Held] = []
    days = 0
    for one in charged:
        its = held[ids[one.line.serial]]
        if treasury.suspended(one.company_id):
            unpaid.append((one, Code.COMPANY_SUSPENDED))
            continue
        payment = pay(tx, treasury, its, 1, actor=call.principal.name, cause=CAUSE)
        if isinstance(payment, Code):
            unpaid.append((one, payment))
            continue
        mark_active(tx, its)
        paid.append((one, payment.payer_id))
        active.append(its)
        assert its.period is not None
        days += its.period.days
    save_all(tx, active)
    return Written(days, unpaid, paid)


def held_by_id(tx: Transaction, ids: Sequence[int]) -> dict[int, Held]:
    """What decides about the service of many devices."""
    found: dict[int, Held] = {}
    for part in parts(ids):
        statement = (
            select(*HELD_COLUMNS)
            .join(device_live, device_live.c.device_id == device.c.id)
            .where(device.c.id.in_(part))
        )
        found |= {row.id: held_of(row) for row in tx.all(statement)}
    return found
