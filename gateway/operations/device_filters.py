"""Which devices: the filters of lists, counts and maps, so that few and many are found fast."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    Table,
    Text,
    and_,
    cast,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
    union_all,
)

from gateway.domain.instants import DAY_MS, parse_instant
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.domain.search_text import Place, looked_for
from gateway.domain.signal import Signal, limits
from gateway.operations.device_texts import indexed, sought, texts_hold
from gateway.operations.registry import Call, company_number, not_found
from gateway.operations.visible import narrowed
from gateway.storage.schema import company, device, device_live, device_search, enrolment

# Where not more than these fit, they are found first, and the rest is asked of them alone; where
# more do, walking along in the order of the list is over soon.
FEW = 5_000
ATTENTION_DAYS = 7

# The company of a device, beside which conditions ask of companies for themselves.
HOLDER = company.alias("holder")

Typed = Annotated[str, msgspec.Meta(max_length=200)]
DaysLeft = Annotated[int, msgspec.Meta(ge=0, le=36_500)]
State = Literal["", "active", "unpaid", "off"]
Presences = Literal["", "online", "late", "offline", "never"]
Signals = Literal["", "excellent", "average", "low", "none"]


class Narrowing(msgspec.Struct, kw_only=True):
    """Which devices: of a company, with or without those below; all that is asked must be so."""

    company: str = ""
    descendants: bool = True
    q: Typed = ""
    tag: Typed = ""
    reason: Typed = ""
    payer: str = ""
    days_left_max: DaysLeft | None = None
    heard_before: str = ""
    signal: Signals = ""
    operator: Typed = ""
    firmware: Typed = ""
    alert: bool | None = None
    attention: bool | None = None


class DeviceFilters(Narrowing, kw_only=True):
    """The same, and how they are now."""

    state: State = ""
    presence: Presences = ""


class Reach:
    """The devices that a caller sees, and of which of them more than names and days."""

    def __init__(self, call: Call, company: str, *, descendants: bool) -> None:
        # Raises `Refused`.
        self._call = call
        self._seen = call.visible_of(company, Right.SEE_DEVICES, see=Right.SEE_DEVICES)
        self._alone = company_number(company) if company and not descendants else None
        inside = call.visible(Right.SEE_HISTORY)
        if company:
            inside = narrowed(inside, call.treasury, company_number(company))
        self._inside = inside
        self._is_few: bool | None = None
        self._is_whole: bool | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing of these devices is hidden from the caller."""
        return self._inside == self._seen

    @property
    def anything(self) -> bool:
        """Whether there is anything of which more than names and days may be known."""
        return bool(self._inside.everywhere or self._inside.below or self._inside.alone)

    def devices(self, *, by_company: bool) -> ColumnElement[bool]:
        """That a row of `device` is one of them; `by_company`: so are they to be found."""
        if not by_company and self._whole():
            return true()
        # The sum keeps a database from finding them by it all the same.
        column = device.c.company_id if by_company else device.c.company_id + 0
        return self._seen.has(column) if self._alone is None else column == self._alone

    def _whole(self) -> bool:
        """Whether there is no company whose devices the caller does not see: then there is no need
        to ask of each device. Said of one view of the database, so only where nothing is written.
        """
        if self._alone is not None or self._call.tx.writing:
            return False
        if self._is_whole is None:
            hidden = select(company.c.id).where(not_(self._seen.has(company.c.id))).limit(1)
            self._is_whole = self._call.tx.scalar(hidden) is None
        return self._is_whole

    def few(self) -> bool:
        """Whether they are so few that each can be looked at."""
        if self._is_few is None:
            own = self.devices(by_company=True)
            some = select(device.c.id).where(own).limit(FEW + 1).subquery()
            count = self._call.tx.scalar(select(func.count()).select_from(some))
            self._is_few = bool(count <= FEW)
        return self._is_few

    def known(self) -> ColumnElement[bool]:
        """That more than names and days of a row of `device` may be known."""
        return self._inside.has(device.c.company_id + 0)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Conditions on `device`, and on the tables beside it where they are needed."""

    where: tuple[ColumnElement[bool], ...]
    beside: frozenset[Table]
    few: bool  # so that each can be looked at

    def source(self, *more: FromClause) -> FromClause:
        """What is selected from: `device`, and beside it these as well."""
        made: FromClause = device
        for table in (device_live, device_search):
            if table in self.beside or table in more:
                made = made.join(table, table.c.device_id == device.c.id)
        return made.join(HOLDER, HOLDER.c.id == device.c.company_id) if HOLDER in more else made


def choose(call: Call, given: Narrowing, reach: Reach, *, place: Place = Place.WITHIN) -> Chosen:
    """The conditions that the filters mean; `q` stands in such a place. Raises `Refused`."""
    where = [device.c.registered, device.c.ended_at.is_(None), *_of_service(call, given)]
    if given.alert is not None:
        where.append(has_alert(reach) if given.alert else ~has_alert(reach))
    if given.attention is not None:
        wanted = needs_attention(call, reach)
        where.append(wanted if given.attention else ~wanted)
    beside, few = set(), None
    lived, texts, told = _of_live(given), sought(given.q, given.tag, place), _of_told(given)
    if isinstance(given, DeviceFilters):
        where += [device.c.state == given.state] if given.state else []
        lived += [device_live.c.presence == given.presence] if given.presence else []
    hides = not reach.everything
    if hides and (lived or given.operator or given.firmware or given.alert is not None):
        # What is hidden from the caller is not found by asking for it either.
        where.append(reach.known())
    by_company = reach.few()
    source, held = indexed(call, texts)
    for table, conditions, quick, quickly in (
        (device_search, [*(one.held(call) for one in texts), *told], source, [*held, *told]),
        (device_live, lived, device_live, lived),
    ):
        if not conditions or few == set():
            continue
        found = None if by_company else _few(call, table, quick, quickly)
        if found is None:
            beside.add(table)
            where += conditions
        else:
            few = found if few is None else few & found
    if given.q and hides:
        # It may have been found by what is hidden.
        beside.add(device_search)
        where.append(has_typed(call, given.q, place, reach))
    if few is not None:
        where.append(_one_of(call, few))
    where.append(reach.devices(by_company=by_company))
    return Chosen(tuple(where), frozenset(beside), by_company or few is not None)


def _few(
    call: Call, table: Table, source: FromClause, where: Sequence[ColumnElement[bool]]
) -> set[int] | None:
    """The devices of which this is so; None when they are many."""
    fitting = select(table.c.device_id).select_from(source).where(*where)
    some = fitting.limit(FEW + 1).subquery()
    # As one text, because thousands of rows take their time.
    if call.tx.connection.dialect.name == "sqlite":
        listed = func.group_concat(some.c.device_id)
    else:
        listed = func.string_agg(cast(some.c.device_id, Text), ",")
    text = call.tx.scalar(select(listed).select_from(some))
    found = set(map(int, text.split(","))) if text else set()
    return None if len(found) > FEW else found


def _one_of(call: Call, ids: set[int]) -> ColumnElement[bool]:
    """That a row of `device` is one of these; as one value, because thousands take their time."""
    if call.tx.connection.dialect.name == "sqlite":
        each = func.json_each(f"[{','.join(map(str, ids))}]").table_valued("value")
        return device.c.id.in_(select(each.c.value))
    listed = func.string_to_array(",".join(map(str, ids)), ",")
    return device.c.id == func.any(cast(listed, ARRAY(BigInteger)))


def _of_service(call: Call, given: Narrowing) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if given.reason:
        where.append(device.c.reason == given.reason)
    if given.payer:
        where.append(device.c.payer_id == _payer(call, given.payer))
    if given.days_left_max is not None:
        where.append(ends_within(call, given.days_left_max))
    return where


def ends_within(call: Call, days: int) -> ColumnElement[bool]:
    """That a device is paid, or served in grace, until within so many whole days."""
    end, grace = device.c.period_end, device.c.grace_until
    last_ms = call.tx.now_ms + (days + 1) * DAY_MS - 1
    if call.tx.connection.dialect.name == "sqlite":
        return PAID_UNTIL.between(0, last_ms)  # it would find many by an index, and sort them
    # Of the columns PostgreSQL knows how many fit, unlike of `PAID_UNTIL`.
    return or_(end.between(0, last_ms), and_(end.is_(None), grace.between(0, last_ms)))


# Until when a device is served; empty for the plan `daily`, and where nobody pays.
PAID_UNTIL: ColumnElement[int] = func.coalesce(device.c.period_end, device.c.grace_until)


def _payer(call: Call, text: str) -> int:
    number = company_number(text)
    # Who pays is told up to the direct parent, so nobody further up is found either.
    near = {one for own in call.principal.memberships for one in call.treasury.path(own)[:2]}
    if number not in near and not call.allows(Right.SEE_COMPANIES, number):
        raise not_found("company")
    return number


def _of_live(given: Narrowing) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if given.heard_before:
        where.append(device_live.c.last_heard_at < _instant(given.heard_before))
    if given.signal:
        column = device_live.c.signal
        wanted = Signal(given.signal)
        within = [and_(column >= low, column < high) for low, high in limits(wanted)]
        none = [column.is_(None)] if wanted is Signal.NONE else []
        where.append(or_(*within, *none))
    return where


def _instant(text: str) -> int:
    try:
        return parse_instant(text)
    except ValueError as error:
        raise Refused(
            Code.VALIDATION,
            "heard_before: an instant such as 2027-01-31T12:00:00Z",
            field="heard_before",
        ) from error


def _of_told(given: Narrowing) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if given.operator:
        where.append(device_search.c.operator == given.operator)
    if given.firmware:
        where.append(device_search.c.firmware == given.firmware)
    return where


def has_typed(call: Call, typed: str, place: Place, reach: Reach) -> ColumnElement[bool]:
    """That a device's texts have it in such a place, as far as the caller may know of them."""
    names, told = texts_hold(call, place.value.format(looked_for(typed)))
    return or_(names, told if reach.everything else and_(told, reach.known()))


def _alerts() -> Select[tuple[int]]:
    """The devices that a person has to look at."""
    waits = select(enrolment.c.device_id).where(enrolment.c.state != literal_column("'joined'"))
    twice = select(device_live.c.device_id).where(device_live.c.two_places_at.is_not(None))
    rotate = device.alias("rotating")
    secret = select(rotate.c.id).where(rotate.c.rotate_secret)
    found = union_all(waits, twice, secret).subquery()
    return select(found.c.device_id)


def has_alert(reach: Reach) -> ColumnElement[bool]:
    """That a device has an alert of which the caller may know."""
    found = device.c.id.in_(_alerts())
    return found if reach.everything else and_(found, reach.known())


def needs_attention(call: Call, reach: Reach) -> ColumnElement[bool]:
    """That a person has to do something: an alert, nobody pays, or it ends and is not extended."""
    end = call.tx.now_ms + ATTENTION_DAYS * DAY_MS
    return or_(
        device.c.state == "unpaid",
        and_(~device.c.auto_extend, device.c.period_end.is_not(None), device.c.period_end < end),
        device.c.grace_until.is_not(None),
        has_alert(reach),
    )
