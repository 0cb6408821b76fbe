"""Credit codes: days in an envelope, which any company may redeem, once."""

import hashlib
import secrets
import string
import uuid
from typing import Annotated, Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Select, and_, exists, func, insert, or_, select, update

from gateway.domain.instants import instant_text
from gateway.domain.ledger import DAYS_PER_CREDIT, Kind, Lot
from gateway.domain.moves import is_own
from gateway.domain.notices import Notice
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.announcing import tell
from gateway.operations.booking import Booking, code_account, pool_account
from gateway.operations.clock_state import clock_refused, trust_of
from gateway.operations.companies import company_row
from gateway.operations.credit_moves import CreditsOf, Note
from gateway.operations.credits import days_asked
from gateway.operations.lots import take
from gateway.operations.newest_first import newest
from gateway.operations.queueing import queue_recheck
from gateway.operations.registry import (
    Call,
    Page,
    company_number,
    operation,
    row_number,
)
from gateway.operations.treasury import Treasury
from gateway.storage.schema import account, credit_code
from gateway.storage.transaction import AnyRow, Transaction

CODE_CHARS = 32
_ALPHABET = string.ascii_lowercase + string.digits  # 165 bits: not to be guessed
_HINT_CHARS = 4
State = Literal["open", "expired", "redeemed", "deleted"]


class MakeCode(CreditsOf, kw_only=True):
    """Whose days go into the code: whole `credits` or `days`."""

    comment: Note = ""


class CreditCode(msgspec.Struct):
    """A code as it is listed; its text is shown once, when it is made."""

    id: str
    hint: str
    company_id: str
    days: int
    credits: int
    days_left: int
    comment: str
    state: State
    created_by: str
    created_at: str
    redeemed_at: str | None
    redeemed_company_id: str | None
    deleted_at: str | None
    deleted_because: str | None


class MadeCode(CreditCode, kw_only=True):
    """The new code: whoever has its text can redeem it."""

    code: str


class Codes(msgspec.Struct):
    """A page of credit codes, newest first."""

    items: list[CreditCode]
    next_cursor: str | None


class ListCodes(Page, kw_only=True):
    """Which codes: of one company and those below, in one state."""

    company: str = ""
    state: Literal["", "open", "expired", "redeemed", "deleted"] = ""


class OneCode(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Names a credit code by its id."""

    code_id: str


class RedeemCode(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The code's text, and which company gets its days."""

    code: Annotated[str, msgspec.Meta(max_length=100)]
    company_id: str


class Redeemed(msgspec.Struct):
    """What the code gave; days of it that had expired are not among them."""

    company_id: str
    days: int
    credits: int
    days_expired: int


@operation(
    "credit-codes.create",
    "POST",
    "/credits/codes",
    right=Right.MOVE_CREDITS,
    result=MadeCode,
    status=201,
    errors=(Code.CREDITS_INSUFFICIENT, Code.COMPANY_CLOSED),
    moves_credits=True,
)
def make_code(call: Call, given: MakeCode) -> MadeCode:
    """Takes days out of a company's pool into a code, whose text is shown only now."""
    tx, number = call.tx, company_number(given.company_id)
    call.require(Right.MOVE_CREDITS, number, see=Right.SEE_COMPANIES, what="company")
    company_row(call, number)
    days = days_asked(given.credits, given.days)
    text = "".join(secrets.choice(_ALPHABET) for _ in range(CODE_CHARS))
    id_ = tx.insert(
        insert(credit_code),
        {
            "code_hash": _hashed(text),
            "hint": text[-_HINT_CHARS:],
            "company_id": number,
            "days": days,
            "comment": given.comment,
            "created_by": call.principal.name,
            "created_at": tx.now_ms,
        },
    )

    def envelope(lot: Lot) -> tuple[int, ...]:
        made = code_account(tx, id_, number, lot.expires_day, free=lot.free, redeemed=lot.redeemed)
        return (made,)

    own = is_own(call.principal.memberships, call.treasury.path(number))
    booking = _booking(call, number, given.comment)
    for draw, (target,) in take(call, number, days, envelope, without_redeemed=not own):
        booking.post(Kind.CODE_MAKE, draw.account_id, target, draw.days, free=draw.free)
    if not own:
        # Who made it can redeem it above.
        detail = {"days": days, "into": "code", "note": given.comment}
        tell(tx, number, Notice.CREDITS_MOVED_UP, str(number), detail, tx.operation_id)
    shown = _shown(call, _row(tx, credit_code.c.id == id_))
    return MadeCode(**msgspec.structs.asdict(shown), code=text)


@operation("credit-codes.list", "GET", "/credits/codes", right=Right.MOVE_CREDITS, result=Codes)
def list_codes(call: Call, given: ListCodes) -> Codes:
    """Lists the credit codes that one's companies made, newest first."""
    visible = call.visible_of(given.company, Right.MOVE_CREDITS)
    statement = _codes(call.tx.today).where(visible.has(credit_code.c.company_id))
    if given.state:
        statement = statement.where(_in_state(given.state, call.tx.today))
    rows, cursor = newest(call, statement, credit_code.c.id, given)
    return Codes([_shown(call, row) for row in rows], cursor)


@operation(
    "credit-codes.delete",
    "DELETE",
    "/credits/codes/{code_id}",
    right=Right.MOVE_CREDITS,
    result=CreditCode,
    errors=(Code.CREDIT_CODE_USED, Code.COMPANY_CLOSED),
    moves_credits=True,
    irrevocable=True,
)
def delete_code(call: Call, given: OneCode) -> CreditCode:
    """Makes a code worthless; its days go back to the lots they came from."""
    number = row_number(given.code_id, "credit code")
    row = call.tx.one(select(credit_code).where(credit_code.c.id == number))
    if row is None:
        raise call.missing(Right.MOVE_CREDITS, see=Right.MOVE_CREDITS, what="credit code")
    call.require(Right.MOVE_CREDITS, row.company_id, see=Right.MOVE_CREDITS, what="credit code")
    opened = _open(call, row)
    _back(call, row, opened, "deleted")
    return _shown(call, _row(call.tx, credit_code.c.id == row.id))


@operation(
    "credit-codes.redeem",
    "POST",
    "/credits/codes/redeem",
    right=Right.MOVE_CREDITS,
    result=Redeemed,
    errors=(
        Code.CREDIT_CODE_UNKNOWN,
        Code.CREDIT_CODE_USED,
        Code.CREDIT_CODE_EXPIRED,
        Code.TOO_MANY_ATTEMPTS,
        Code.COMPANY_CLOSED,
    ),
    moves_credits=True,
    guessed=Code.CREDIT_CODE_UNKNOWN,
)
def redeem_code(call: Call, given: RedeemCode) -> Redeemed:
    """Puts the days of a code into a company's pool; they keep their expiry."""
    tx, number = call.tx, company_number(given.company_id)
    call.require(Right.MOVE_CREDITS, number, see=Right.SEE_COMPANIES, what="company")
    company_row(call, number)
    text = given.code.strip().lower()
    row = tx.one(select(credit_code).where(credit_code.c.code_hash == _hashed(text)))
    if row is None:
        raise Refused(
            Code.CREDIT_CODE_UNKNOWN,
            f"There is no such credit code; it has {CODE_CHARS} letters and digits.",
            field="code",
        )
    pools = {
        one.id: pool_account(tx, number, one.expires_day, free=one.free, redeemed=True)
        for one in _accounts(tx, row.id)
    }
    good = [
        one
        for one in _open(call, row, pools.values())
        if one.expires_day is None or one.expires_day >= tx.today
    ]
    if sum(one.balance for one in good) < row.days and trust_of(tx).wary_after is not None:
        # What is not given now is lost, and it may not be over after all.
        raise clock_refused("part of this code seems to be over, and the clock may be wrong")
    if not good:
        raise Refused(
            Code.CREDIT_CODE_EXPIRED,
            "The days of this code were valid until a day that is over; it gives nothing.",
            field="code",
        )
    booking = _booking(call, number, "")
    for one in good:
        booking.post(Kind.CODE_REDEEM, one.id, pools[one.id], one.balance, free=one.free)
    _end(
        tx,
        row.id,
        redeemed_at=tx.now_ms,
        redeemed_by=call.principal.name,
        redeemed_company_id=number,
    )
    queue_recheck(tx, number)
    days = sum(one.balance for one in good)
    return Redeemed(str(number), days, days // DAYS_PER_CREDIT, row.days - days)


def void_codes(tx: Transaction, actor: str, because: str) -> int:
    """Makes every open code worthless, since it may have been redeemed elsewhere; how many."""
    rows = tx.all(select(credit_code).where(_UNUSED).order_by(credit_code.c.id))
    unused = select(credit_code.c.id).where(_UNUSED)
    held = tx.all(select(account).where(account.c.code_id.in_(unused), account.c.balance > 0))
    pools = {one.id: _pool_of(tx, one) for one in held}
    treasury = Treasury.of(tx)
    treasury.prepare((), accounts={*pools, *pools.values()})
    for row in rows:
        path = treasury.path(row.company_id)
        operation_id = str(uuid.uuid5(uuid.UUID(tx.operation_id), f"{because} code {row.id}"))
        booking = Booking(tx, actor, because, row.company_id, path, operation_id=operation_id)
        for one in held:
            if one.code_id == row.id:
                booking.post(Kind.CODE_DELETE, one.id, pools[one.id], one.balance, free=one.free)
        _end(tx, row.id, deleted_at=tx.now_ms, deleted_because=because)
        queue_recheck(tx, row.company_id)
    return len(rows)


def _open(call: Call, row: AnyRow, also: Any = ()) -> list[AnyRow]:
    """The accounts of a code that nobody used, locked as they are. Raises `Refused`."""
    tx = call.tx
    found = _accounts(tx, row.id)
    back = () if also else [_pool_of(tx, one) for one in found]
    call.treasury.prepare((), accounts={*(one.id for one in found), *also, *back})
    # Whoever had the locks before may have used it.
    now = _row(tx, credit_code.c.id == row.id)
    if now.redeemed_at is not None or now.deleted_at is not None:
        raise Refused(Code.CREDIT_CODE_USED, "This credit code was redeemed or deleted already.")
    return [one for one in _accounts(tx, row.id) if one.balance]


def _back(call: Call, row: AnyRow, opened: list[AnyRow], because: str) -> None:
    tx = call.tx
    booking = _booking(call, row.company_id, "")
    for one in opened:
        pool = _pool_of(tx, one)
        booking.post(Kind.CODE_DELETE, one.id, pool, one.balance, free=one.free)
    _end(tx, row.id, deleted_at=tx.now_ms, deleted_because=because)
    queue_recheck(tx, row.company_id)


def _accounts(tx: Transaction, code_id: int) -> list[AnyRow]:
    return list(tx.all(select(account).where(account.c.code_id == code_id).order_by(account.c.id)))


def _pool_of(tx: Transaction, one: AnyRow) -> int:
    return pool_account(tx, one.company_id, one.expires_day, free=one.free, redeemed=one.redeemed)


def _end(tx: Transaction, code_id: int, **values: Any) -> None:
    tx.run(update(credit_code).where(credit_code.c.id == code_id).values(**values))


def _row(tx: Transaction, which: ColumnElement[bool]) -> AnyRow:
    row = tx.one(_codes(tx.today).where(which))
    assert row is not None
    return row


def _booking(call: Call, company_id: int, note: str) -> Booking:
    path = call.treasury.path(company_id)
    return Booking(call.tx, call.principal.name, "operator", company_id, path, note=note)


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


_UNUSED = and_(credit_code.c.redeemed_at.is_(None), credit_code.c.deleted_at.is_(None))


def _valid(today: int) -> ColumnElement[bool]:
    """Accounts of the code that hold days which are not over."""
    lasts = or_(account.c.expires_day.is_(None), account.c.expires_day >= today)
    return and_(account.c.code_id == credit_code.c.id, account.c.balance > 0, lasts)


def _in_state(state: State, today: int) -> ColumnElement[bool]:
    match state:
        case "open":
            return and_(_UNUSED, exists().where(_valid(today)))
        case "expired":
            return and_(_UNUSED, ~exists().where(_valid(today)))
        case "redeemed":
            return credit_code.c.redeemed_at.is_not(None)
        case "deleted":
            return credit_code.c.deleted_at.is_not(None)


def _codes(today: int) -> Select[Any]:
    """Codes with the days that they still give."""
    left = select(func.coalesce(func.sum(account.c.balance), 0)).where(_valid(today))
    return select(credit_code, left.scalar_subquery().label("days_left"))


def _state_of(row: AnyRow) -> State:
    if row.redeemed_at is not None:
        return "redeemed"
    if row.deleted_at is not None:
        return "deleted"
    return "open" if row.days_left else "expired"


def _shown(call: Call, row: AnyRow) -> CreditCode:
    redeemer = row.redeemed_company_id
    # Whoever made a code learns that it was redeemed; by whom only if that company is theirs.
    known = redeemer is not None and call.allows(Right.SEE_COMPANIES, redeemer)
    return CreditCode(
        str(row.id),
        row.hint,
        str(row.company_id),
        row.days,
        row.days // DAYS_PER_CREDIT,
        int(row.days_left),
        row.comment,
        _state_of(row),
        row.created_by,
        instant_text(row.created_at),
        None if row.redeemed_at is None else instant_text(row.redeemed_at),
        str(redeemer) if known else None,
        None if row.deleted_at is None else instant_text(row.deleted_at),
        row.deleted_because,
    )
