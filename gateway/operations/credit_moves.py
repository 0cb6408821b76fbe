"""Moving credits between companies of one tree."""

from dataclasses import replace
from itertools import pairwise
from typing import Annotated

import msgspec

from gateway.domain.ledger import DAYS_MAX, DAYS_PER_CREDIT, Kind, Lot
from gateway.domain.moves import is_down, is_own, way
from gateway.domain.notices import Notice
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.announcing import tell
from gateway.operations.booking import Booking
from gateway.operations.companies import company_row
from gateway.operations.credits import (
    Shown,
    Transfer,
    days_asked,
    ledger_rows,
)
from gateway.operations.lots import Taken, pool_for, take
from gateway.operations.queueing import queue_recheck
from gateway.operations.registry import Call, company_number, operation
from gateway.storage.schema import transfer

CreditCount = Annotated[int, msgspec.Meta(ge=1, le=DAYS_MAX // DAYS_PER_CREDIT)]
DayCount = Annotated[int, msgspec.Meta(ge=1, le=DAYS_MAX)]
Note = Annotated[str, msgspec.Meta(max_length=500)]


class MoveCredits(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """From which company to which, whole `credits` or `days`."""

    source: str
    target: str
    credits: CreditCount | None = None
    days: DayCount | None = None
    note: Note = ""


class CreditsOf(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Of which company, and how many: whole `credits` or `days`."""

    company_id: str
    credits: CreditCount | None = None
    days: DayCount | None = None


class Moved(msgspec.Struct):
    """What was moved: one transfer for each lot and each pool on the way."""

    operation_id: str
    source: str
    target: str
    days: int
    credits: int
    transfers: list[Transfer]


@operation(
    "credits.move",
    "POST",
    "/credits/moves",
    right=Right.MOVE_CREDITS,
    result=Moved,
    status=201,
    errors=(Code.CREDITS_INSUFFICIENT, Code.COMPANY_CLOSED),
    moves_credits=True,
)
def move_credits(call: Call, given: MoveCredits) -> Moved:
    """Moves credits from one company to another of the same tree; each day keeps its expiry."""
    source = _company(call, given.source, "source")
    days = days_asked(given.credits, given.days)
    # To the company right above its own people may always give.
    target = _company(call, given.target, "target", also=call.treasury.path(source)[1:2])
    if source == target:
        raise Refused(Code.VALIDATION, "target: the same company as the source", field="target")
    call.require_open(target)
    return move(call, source, target, days, note=given.note)


def _company(call: Call, text: str, field: str, *, also: tuple[int, ...] = ()) -> int:
    """A company in which the caller may move credits, or one of these."""
    try:
        number = company_number(text, field)
        if number not in also:
            call.require(Right.MOVE_CREDITS, number, see=Right.SEE_COMPANIES, what="company")
        company_row(call, number)
    except Refused as refused:
        refused.field = field  # two companies are named: which of them it is about
        raise
    return number


def move(call: Call, source: int, target: int, days: int, *, note: str) -> Moved:
    """Books the move, tells whose credits went without their own doing, and who may pay now."""
    above_source, above_target = call.treasury.path(source), call.treasury.path(target)
    passed = way(above_source, above_target)
    if passed is None:
        raise Refused(
            Code.VALIDATION,
            "target: not of the same tree of companies; make a credit code instead",
            field="target",
        )
    down = is_down(above_source, above_target)
    own = is_own(call.principal.memberships, above_source)

    def pools(lot: Lot) -> tuple[int, ...]:
        # Moved down by somebody from above they still cannot come up again without its people.
        kept = lot.redeemed and not own
        return tuple(pool_for(call, company, lot, redeemed=kept) for company in passed[1:])

    taken = take(call, source, days, pools, without_redeemed=not (own or down))
    ids = _book(call, passed, taken, note)
    queue_recheck(call.tx, target)
    if not down and source not in call.principal.memberships:
        # Its people know the company right above by name, and nobody beyond.
        known = {"to": str(target)} if target in above_source[1:2] else {}
        detail = {"days": days, **known, "note": note}
        tell(call.tx, source, Notice.CREDITS_MOVED_UP, str(source), detail, call.tx.operation_id)
    rows = call.tx.all(ledger_rows().where(transfer.c.id.in_(ids)).order_by(transfer.c.seq))
    shown = Shown(call)
    return Moved(
        call.tx.operation_id,
        str(source),
        str(target),
        days,
        days // DAYS_PER_CREDIT,
        [shown.transfer(row) for row in rows],
    )


def _book(call: Call, passed: tuple[int, ...], taken: list[Taken], note: str) -> list[str]:
    """The rows of each half of the way belong to the lower company, which both of them see."""
    path = call.treasury.path
    booking = Booking(
        call.tx, call.principal.name, "operator", passed[0], path(passed[0]), note=note
    )
    ids = []
    for n, (here, there) in enumerate(pairwise(passed)):
        lower = here if there in path(here) else there
        booking = replace(booking, company_id=lower, company_path=path(lower))
        for draw, ends in taken:
            begin = ends[n - 1] if n else draw.account_id
            ids.append(booking.post(Kind.MOVE, begin, ends[n], draw.days, free=draw.free))
    return ids
