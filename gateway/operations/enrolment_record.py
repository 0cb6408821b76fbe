"""The sealed record of its enrolment that each device keeps, for the restore of an older backup."""

import base64
import binascii

import msgspec
from sqlalchemy import select

from gateway.join.sealing import SealBroken, seal, unseal
from gateway.operations.registry import Call
from gateway.storage.schema import company
from gateway.storage.transaction import AnyRow

COMPANIES_MAX = 16  # a record must fit into a request's line


class Record(msgspec.Struct, forbid_unknown_fields=True):
    """What the gateway must know to know the device again.

    `companies` are `(id, made at)` from the device's company up: after a restore another company
    may have got the same id.
    """

    serial: str
    companies: list[tuple[int, int]]
    password_hash: str
    fingerprint: bytes
    command_key: bytes  # sealed with master.key itself
    code_hash: bytes
    lan_mac: str
    at: int  # when the device joined


def sealed_record(call: Call, serial: str, company_id: int, credential: AnyRow) -> str:
    """The text that the device keeps and cannot read."""
    path = call.treasury.path(company_id)[:COMPANIES_MAX]
    made_at = {
        row.id: row.created_at
        for row in call.tx.all(
            select(company.c.id, company.c.created_at).where(company.c.id.in_(path))
        )
    }
    record = Record(
        serial,
        [(number, made_at[number]) for number in path],
        credential.password_hash,
        credential.fingerprint,
        credential.command_key,
        credential.code_hash,
        credential.lan_mac,
        credential.at,
    )
    sealed = seal(call.site.master_key, msgspec.json.encode(record), bound_to=serial)
    return base64.urlsafe_b64encode(sealed).decode()


def opened_record(master_key: bytes, serial: str, text: str) -> Record | None:
    """The record in the text; None when this gateway did not make it for this serial."""
    try:
        sealed = base64.b64decode(text, altchars=b"-_", validate=True)
        return msgspec.json.decode(unseal(master_key, sealed, bound_to=serial), type=Record)
    except (SealBroken, binascii.Error, ValueError, msgspec.DecodeError):
        return None
