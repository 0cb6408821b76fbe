"""Devices that joined after the backup which was restored: known again by their own records.

Such a device is `recovered`: registered, without a login, until a person releases it. So nobody
gets back in by an old record alone.
"""

from sqlalchemy import ColumnElement, and_, bindparam, delete, exists, insert, or_, select, update

from gateway.domain.rights import GATEWAY
from gateway.operations.enrolment_record import Record, opened_record
from gateway.operations.joining import WAITING_STATES, answer_to, refused_join
from gateway.operations.registering import begin_tenure, newest
from gateway.operations.registry import Call, Site
from gateway.storage.schema import company, device, enrolment
from gateway.storage.transaction import AnyRow, Transaction
from wire.join import JoinAnswer

RECOVERED = "recovered"
assert RECOVERED in WAITING_STATES

_UNNAMED = {"name": "", "tags": "[]", "notes": "", "reference": "", "auto_extend": True}
_KNOWN = select(enrolment).where(
    enrolment.c.device_id == bindparam("of_device"),
    enrolment.c.fingerprint == bindparam("print"),
)


def status(tx: Transaction, site: Site, serial: str, text: str) -> JoinAnswer | None:
    """Where a device that shows this record stands; None: its record is good, but it is not known.

    Raises the one `Refused` that every wrong record gets. Only reads.
    """
    record = _opened(site, serial, text)
    call = Call(tx, GATEWAY, site)
    return _known(call, newest(call, serial), record)


def recover(tx: Transaction, site: Site, serial: str, text: str) -> JoinAnswer:
    """Makes a device that is not known recovered, or refuses like all others.

    It has to be younger than everything that this database knows of its serial: a device that was
    removed or replaced does not come back by a record of before. Its service begins like that of a
    new registration, on the first contact after its release; a registration that is there already
    stays as it is.
    """
    record = _opened(site, serial, text)
    call = Call(tx, GATEWAY, site)
    row = newest(call, serial)
    known = _known(call, row, record)
    if known is not None:
        return known
    company_id = _company_of(tx, record)
    if company_id is None or tx.scalar(select(exists().where(_younger_than(record)))):
        raise refused_join()
    if row is None or not row.registered:
        device_id = begin_tenure(call, row, serial, company_id, "on_contact", dict(_UNNAMED))
    elif row.company_id == record.companies[0][0] == company_id:
        device_id = int(row.id)
    else:
        raise refused_join()
    _put(tx, device_id, record)
    made = tx.one(select(device).where(device.c.id == device_id))
    known = _known(call, made, record)
    assert known is not None
    return known


def _opened(site: Site, serial: str, text: str) -> Record:
    record = opened_record(site.master_key, serial, text)
    if record is None or record.serial != serial or not record.companies:
        raise refused_join()
    return record


def _known(call: Call, row: AnyRow | None, record: Record) -> JoinAnswer | None:
    if row is None:
        return None
    found = {"of_device": row.id, "print": record.fingerprint}
    credential = call.tx.one(_KNOWN, found)
    return None if credential is None else answer_to(call, record.serial, row, credential)


def _company_of(tx: Transaction, record: Record) -> int | None:
    """The device's company, or the nearest above it that the database knows."""
    same = [
        and_(
            company.c.id == number,
            company.c.created_at == made_at,
            company.c.closed_at.is_(None),
        )
        for number, made_at in record.companies
    ]
    there = {row.id for row in tx.all(select(company.c.id).where(or_(*same)))}
    return next((number for number, _ in record.companies if number in there), None)


def _younger_than(record: Record) -> ColumnElement[bool]:
    """A removal, or somebody else's enrolment, that came after the record was made."""
    enrolled = exists().where(
        enrolment.c.device_id == device.c.id,
        enrolment.c.at >= record.at,
        enrolment.c.fingerprint != record.fingerprint,
    )
    return and_(
        device.c.serial == record.serial,
        or_(device.c.dormant_at >= record.at, device.c.ended_at >= record.at, enrolled),
    )


def _put(tx: Transaction, device_id: int, record: Record) -> None:
    # It did join: nobody else's join code takes the serial over, as one never joined would be.
    tx.run(update(device).where(device.c.id == device_id).values(joined_at=record.at))
    mine = enrolment.c.device_id == device_id, enrolment.c.state == RECOVERED
    tx.run(delete(enrolment).where(*mine))
    tx.run(
        insert(enrolment),
        {
            "device_id": device_id,
            "state": RECOVERED,
            "password_hash": record.password_hash,
            "fingerprint": record.fingerprint,
            "command_key": record.command_key,
            "code_hash": record.code_hash,
            "lan_mac": record.lan_mac,
            "at": record.at,
        },
    )
