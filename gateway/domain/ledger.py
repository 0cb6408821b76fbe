"""The ledger's words and arithmetic: kinds, accounts, lots, order of spending, ids, sentences."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.instants import day_text

DAYS_PER_CREDIT = 30
DAYS_MAX = 10_000_000  # of one operation: 333,333 credits
_TRANSFERS = uuid.UUID("5b0c4a60-6ef1-5b7e-9a53-1f6d8f2f2f01")
_OPERATIONS = uuid.UUID("5b0c4a60-6ef1-5b7e-9a53-1f6d8f2f2f02")


class Kind(StrEnum):
    """What a transfer is for."""

    GRANT = "grant"
    TRIAL = "trial"
    MOVE = "move"
    ACTIVATE = "activate"
    EXTEND = "extend"
    COURTESY = "courtesy"
    DAY = "day"
    SERVE = "serve"
    CARRY = "carry"
    FORFEIT = "forfeit"
    REFUND = "refund"
    UNUSED = "unused"
    EXPIRE = "expire"
    CODE_MAKE = "code_make"
    CODE_REDEEM = "code_redeem"
    CODE_DELETE = "code_delete"
    CLOSE = "close"
    REVERSE = "reverse"


# What begins, ends or counts by an instant: none of it is booked while the clock is in doubt.
CLOCK_DECIDES = frozenset(
    {
        Kind.ACTIVATE,
        Kind.EXTEND,
        Kind.COURTESY,
        Kind.DAY,
        Kind.SERVE,
        Kind.CARRY,
        Kind.FORFEIT,
        Kind.REFUND,
        Kind.UNUSED,
        Kind.EXPIRE,
        Kind.CODE_REDEEM,  # what is over of a code is lost then
    }
)


class Sink(StrEnum):
    """Accounts without a stored balance: their sum is over rows, so no row is hot."""

    ISSUER = "issuer"
    CONSUMED = "consumed"
    FORFEITED = "forfeited"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Lot:
    """Days with one expiry in a company's pool."""

    account_id: int
    expires_day: int | None  # the last valid UTC day
    free: bool
    redeemed: bool
    days: int


@dataclass(frozen=True, slots=True)
class Draw:
    """Days taken from one lot."""

    account_id: int
    days: int
    free: bool


def pool_name(company_id: int, expires_day: int | None, *, free: bool, redeemed: bool) -> str:
    """The name of a pool account, unique in the ledger."""
    return f"pool:{company_id}:{_lot_name(expires_day, free=free, redeemed=redeemed)}"


def code_name(code_id: int, expires_day: int | None, *, free: bool, redeemed: bool) -> str:
    """The name of an account of a credit code, which keeps the lots that its days came from."""
    return f"code:{code_id}:{_lot_name(expires_day, free=free, redeemed=redeemed)}"


def _lot_name(expires_day: int | None, *, free: bool, redeemed: bool) -> str:
    expiry = "never" if expires_day is None else day_text(expires_day)
    return f"{expiry}:{'free' if free else 'paid'}:{'redeemed' if redeemed else 'given'}"


def prepaid_name(device_id: int) -> str:
    """The name of a device's account of prepaid days."""
    return f"prepaid:{device_id}"


def spendable(lots: Iterable[Lot], today: int) -> int:
    """Days that can be spent today."""
    return sum(lot.days for lot in lots if lot.expires_day is None or lot.expires_day >= today)


def spend(lots: Iterable[Lot], days: int, today: int) -> tuple[Draw, ...] | None:
    """Which lots pay: soonest expiry, then free before paid, then given before redeemed.

    None when they cannot pay the whole.
    """
    assert days > 0
    valid = [
        lot for lot in lots if lot.days and (lot.expires_day is None or lot.expires_day >= today)
    ]
    valid.sort(
        key=lambda lot: (
            lot.expires_day is None,
            lot.expires_day or 0,
            not lot.free,
            lot.redeemed,
            lot.account_id,
        )
    )
    draws: list[Draw] = []
    for lot in valid:
        taken = min(lot.days, days)
        draws.append(Draw(lot.account_id, taken, lot.free))
        days -= taken
        if not days:
            return tuple(draws)
    return None


def operation_id(principal: str, key: str) -> str:
    """The id of an operation asked for with an Idempotency-Key."""
    return str(uuid.uuid5(_OPERATIONS, f"{principal}\n{key}"))


def transfer_id(operation: str, ordinal: int) -> str:
    """The id of an operation's n-th transfer: the same at every attempt."""
    return str(uuid.uuid5(_TRANSFERS, f"{operation}\n{ordinal}"))


def credits_text(days: int) -> str:
    """`2 credits`, `17 days`, `1 credit and 5 days`."""
    whole, rest = divmod(days, DAYS_PER_CREDIT)
    parts = []
    if whole:
        parts.append(f"{whole} credit{'s' * (whole != 1)}")
    if rest or not whole:
        parts.append(f"{rest} day{'s' * (rest != 1)}")
    return " and ".join(parts)


CAUSES = {
    "operator": "because somebody asked for it",
    "asked_for_many": "because somebody asked for it",  # of many devices at once
    "installation.restored": "because the installation was restored from a backup",
    "courtesy": "because somebody above wanted to",
    "on_contact": "because the device reported for the first time",
    "resumed": "because the device reported again and wanted service",
    "period_end": "because its period ended and auto extend is on",
    "recovered": "because a payment became possible again",
    "unregistered": "because the device was unregistered",
    "period_over": "because its period is over",
    "expired": "because its last valid day is over",
    "registration_lapsed": "because its registration was never used",
    "imported": "because it was registered from a file",
    "import_undone": "because its import was undone",
    "moved": "because the device went to another company",
    "replaced": "because it takes the place of another device",
    "replacement_undone": "because the replacement was undone",
    "company_closed": "because its company was closed",
    "trial": "because it reported for the first time",
}


@dataclass(frozen=True, slots=True)
class Told:
    """What a sentence about a transfer needs; names as the reader may see them."""

    kind: Kind
    days: int
    company: str
    serial: str | None
    payer: str | None
    path: Sequence[str]
    cause: str
    free: bool
    note: str
    source: str | None = None  # whose pool the days left
    target: str | None = None  # whose pool they reached


def sentence(told: Told) -> str:
    """Says in one sentence what a transfer did, who paid and why."""
    amount = ("free " if told.free else "") + credits_text(told.days)
    why = CAUSES.get(told.cause, "")
    by = f"paid by {told.payer}"
    if len(told.path) > 1:
        by += f" (asked {', then '.join(told.path)})"
    match told.kind:
        case Kind.GRANT:
            text = f"{told.company} was given {amount}"
        case Kind.TRIAL:
            text = f"{told.company} was given {amount} to try {told.serial}"
        case Kind.MOVE:
            text = f"{amount} of {told.source or told.company} went to {told.target or 'another'}"
        case Kind.ACTIVATE:
            text = f"{told.serial} was activated for {amount}, {by}, {why}"
        case Kind.EXTEND:
            text = f"{told.serial} was extended by {amount}, {by}, {why}"
        case Kind.COURTESY:
            text = f"{told.serial} was given {amount} by {told.payer}"
        case Kind.DAY:
            devices = "1 device was" if told.days == 1 else f"{told.days} devices were"
            text = f"{devices} heard for {amount}, {by}"
        case Kind.SERVE:
            text = f"{told.serial} used {amount}, {why}"
        case Kind.CARRY:
            text = f"{amount} went over to {told.serial}, {why}"
        case Kind.FORFEIT:
            text = f"{amount} of {told.serial} were forfeited, {why}"
        case Kind.REFUND:
            text = f"{amount} of {told.serial} went back to {told.payer}, {why}"
        case Kind.UNUSED:
            text = f"{amount} of {told.serial} went back to {told.payer}: it was never heard"
        case Kind.EXPIRE:
            text = f"{amount} of {told.company} expired"
        case Kind.CODE_MAKE:
            text = f"{told.company} put {amount} into a credit code"
        case Kind.CODE_REDEEM:
            text = f"{told.company} redeemed a credit code of {amount}"
        case Kind.CODE_DELETE:
            text = f"{amount} of a deleted credit code went back to {told.company}"
        case Kind.CLOSE:
            where = f"went to {told.target}" if told.target else "were forfeited"
            text = f"{amount} of {told.company} {where}: the company was closed"
        case Kind.REVERSE:
            text = f"{amount} were taken back from {told.source or told.serial or told.company}"
    return f"{text}; note: {told.note}." if told.note else f"{text}."
