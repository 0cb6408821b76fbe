"""Proves the second factor of a person: a code of the app, or one of the recovery codes."""

from typing import NamedTuple

from sqlalchemy import delete, func, select, update

from gateway.domain.refusals import Code, Refused
from gateway.join.sealing import seal, unseal
from gateway.operations.registry import Call
from gateway.people import totp
from gateway.people.recovery_codes import hash_code
from gateway.storage.schema import person, recovery_code
from gateway.storage.transaction import AnyRow

CODE_CHARS_MAX = 40
NEEDED = "This account has a second factor: send `code`, from the app or a recovery code."
WRONG = "code: wrong, used already, or over; wait for the next one of the app"


class Proof(NamedTuple):
    """What was proven: whether there is a second factor, and by what."""

    second_factor: bool
    recovery_codes_left: int | None = None  # only where one was used


def prove_code(call: Call, person_id: int, code: str) -> Proof:
    """Uses up the code; nothing is proven where there is no second factor. Raises `Refused`.

    The person is locked: of two at once with one code only one gets through.
    """
    tx = call.tx
    tx.lock_person(person_id)
    row = factor_of(call, person_id)
    if row.totp_since is None:
        return Proof(second_factor=False)
    given = "".join(code.split())
    if not given:
        raise Refused(Code.CODE_NEEDED, NEEDED, field="code")
    if totp.is_code(given):
        use_step(call, person_id, row, given)
        left = None
    else:
        left = _use_recovery_code(call, person_id, given)
    if row.totp_reset_at is not None:
        # The factor is not lost: nobody takes it away.
        tx.run(update(person).where(person.c.id == person_id).values(totp_reset_at=None))
    return Proof(second_factor=True, recovery_codes_left=left)


def factor_of(call: Call, person_id: int) -> AnyRow:
    """What is kept of the person's second factor."""
    columns = (
        person.c.email,
        person.c.totp_secret,
        person.c.totp_since,
        person.c.totp_step,
        person.c.totp_reset_at,
    )
    row = call.tx.one(select(*columns).where(person.c.id == person_id))
    assert row is not None
    return row


def use_step(call: Call, person_id: int, row: AnyRow, code: str) -> None:
    """Notes the code's step as used; each is good once. Raises `Refused`."""
    secret = unseal(call.site.master_key, bytes(row.totp_secret), bound_to=_bound(person_id))
    step = totp.step_of(secret, code, call.tx.now_ms, row.totp_step)
    if step is None:
        raise code_wrong()
    call.tx.run(update(person).where(person.c.id == person_id).values(totp_step=step))


def sealed_secret(call: Call, person_id: int, secret: bytes) -> bytes:
    """The secret as it is kept."""
    return seal(call.site.master_key, secret, bound_to=_bound(person_id))


def code_wrong() -> Refused:
    """The same for codes that are wrong, used and over."""
    return Refused(Code.CREDENTIALS_WRONG, WRONG, field="code")


def _use_recovery_code(call: Call, person_id: int, code: str) -> int:
    own = recovery_code.c.person_id == person_id
    used = delete(recovery_code).where(own, recovery_code.c.code_hash == hash_code(code))
    if call.tx.run(used) == 0:
        raise code_wrong()
    left = select(func.count()).select_from(recovery_code).where(own)
    return int(call.tx.scalar(left) or 0)


def _bound(person_id: int) -> str:
    return f"totp:{person_id}"
