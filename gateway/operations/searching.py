"""Finding a device or a company as one types."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import msgspec
from sqlalchemy import func, or_, select

from gateway.domain.names import name_key
from gateway.domain.rights import Right
from gateway.domain.search_text import QUERY_CHARS_MAX, Place, matched
from gateway.operations.device_filters import Chosen, DeviceFilters, Reach, choose, has_typed
from gateway.operations.device_list import rows_of
from gateway.operations.registry import Call, company_number, operation
from gateway.operations.visible import Visible
from gateway.storage import latest_values
from gateway.storage.schema import company, device, device_search
from gateway.storage.transaction import AnyRow
from wire.fields import BY_NAME

FOUND_MAX = 20
_LOOKED_AT = 100  # of the devices and the companies that have it, the best are shown
_TOLD = {BY_NAME[name].id: shown for name, shown in (("imei", "imei"), ("iccid", "iccid"))}
_LAN_MAC = BY_NAME["lan_mac"].id
_tags = msgspec.json.Decoder(list[str]).decode


class Hit(msgspec.Struct):
    """A device, with its serial, or a company, with its id, and by which field it was found.

    `subtitle` is where it stands in the tree of companies, as far as the caller sees that.
    """

    kind: Literal["device", "company"]
    title: str
    subtitle: str
    matched: str
    value: str
    serial: str | None
    id: str | None


class Found(msgspec.Struct):
    """The best first: what is called exactly so, then what begins so."""

    items: list[Hit]


class Find(msgspec.Struct, kw_only=True):
    """What was typed so far; of all that one may see, or of a company and those below it."""

    company: str = ""
    q: Annotated[str, msgspec.Meta(max_length=QUERY_CHARS_MAX)]
    limit: Annotated[int, msgspec.Meta(ge=1, le=FOUND_MAX)] = 10


@operation("search.find", "GET", "/search", right=Right.SEE_COMPANIES, result=Found)
def find_typed(call: Call, given: Find) -> Found:
    """Finds devices and companies by part of what they are called, as one types.

    A device by its serial, name, alias, reference, tags, MAC address, IMEI and ICCID, a company by
    its name and reference; case and accents do not matter, and MAC addresses are taken in any
    usual form.
    """
    visible = call.visible_of(given.company, Right.SEE_COMPANIES)
    key = name_key(given.q)
    if not key:
        return Found([])
    names = _Paths(call)
    ranked = _companies(call, given.q, visible, names)
    company_id = company_number(given.company) if given.company else None
    if company_id is None or call.allows(Right.SEE_DEVICES, company_id):
        ranked += _devices(call, given, key, names)
    ranked.sort(key=lambda one: (one[0], one[1].kind, one[1].serial or one[1].title))
    return Found([hit for _, hit in ranked[: given.limit]])


class _Paths:
    """The way down to a company by names, from the highest that the caller may see."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._visible = call.visible(Right.SEE_COMPANIES)
        self._names: dict[int, str] = {}

    def learn(self, companies: Sequence[int]) -> None:
        """Reads the names that will be asked for."""
        wanted = {one for number in companies for one in self._call.treasury.path(number)}
        statement = select(company.c.id, company.c.name).where(
            company.c.id.in_(wanted - self._names.keys())
        )
        self._names.update({row.id: row.name for row in self._call.tx.all(statement)})

    def of(self, company_id: int) -> str:
        """As people read it."""
        path = self._call.treasury.path(company_id)
        seen = [
            self._names[number]
            for place, number in enumerate(path)
            if self._visible.covers(path[place:])
        ]
        return " › ".join(reversed(seen))


def _devices(call: Call, given: Find, key: str, names: _Paths) -> list[tuple[int, Hit]]:
    typed = given.q
    rows = rows_of(call, _best(call, given, key))
    names.learn([row.company_id for row in rows])
    inside = call.visible(Right.SEE_HISTORY)
    found = []
    for row in rows:
        known = inside.covers(call.treasury.path(row.company_id))
        values = _values(row, known=known)
        field, rank = matched(typed, values)
        value = next((value for name, value in values if name == field), "")
        hit = Hit(
            "device",
            row.name or row.alias or row.serial,
            names.of(row.company_id),
            field,
            value,
            row.serial,
            None,
        )
        # Of what begins so, serials first.
        found.append((0 if rank == 0 else 1 if (field, rank) == ("serial", 1) else 1 + rank, hit))
    return found


def _best(call: Call, given: Find, key: str) -> list[int]:
    """The devices that have it, as many as are looked at.

    Where more have it, those of which something is called exactly so, those whose serial begins so,
    and those of which something else does are looked for by themselves: they are the best.
    """
    reach = Reach(call, given.company, descendants=True)
    filters = DeviceFilters(company=given.company, q=given.q)

    def ids_of(chosen: Chosen) -> tuple[list[int], bool]:
        # Of many any will do: in the order of the list they may all stand at its end.
        statement = select(device.c.id).select_from(chosen.source()).where(*chosen.where)
        if chosen.few:
            statement = statement.order_by(device.c.serial)
        found = [row.id for row in call.tx.all(statement.limit(_LOOKED_AT + 1))]
        return found[:_LOOKED_AT], len(found) > _LOOKED_AT

    def choose_at(place: Place) -> Chosen:
        if not anywhere.few:
            return choose(call, filters, reach, place=place)
        where = *anywhere.where, has_typed(call, given.q, place, reach)
        return replace(anywhere, where=where, beside=anywhere.beside | {device_search})

    anywhere = choose(call, filters, reach)
    found, more = ids_of(anywhere)
    if not more:
        return found
    chosen = choose_at(Place.BEGIN)
    begin, more = ids_of(chosen)
    best = []
    if more:
        best = [*ids_of(choose_at(Place.ALL_OF_IT))[0], *_serials(call, chosen, key)]
    return list(dict.fromkeys([*best, *begin, *found]))[:_LOOKED_AT]


def _serials(call: Call, chosen: Chosen, key: str) -> list[int]:
    """Of these devices some whose serial begins so, as far as it is made of digits: they have one
    order in every database."""
    if not (key.isascii() and key.isdecimal()):
        return []
    serial = device.c.serial
    begins = [serial >= key, func.substr(serial, 1, len(key)) == key]
    following = str(int(key) + 1).zfill(len(key))
    if len(following) == len(key):
        begins.append(serial < following)
    statement = select(device.c.id).select_from(chosen.source()).where(*chosen.where, *begins)
    return [row.id for row in call.tx.all(statement.order_by(serial).limit(FOUND_MAX))]


def _values(row: AnyRow, *, known: bool) -> list[tuple[str, str]]:
    """All that a device can be found by, `(field, value)`."""
    made = [
        ("serial", row.serial),
        ("name", row.name),
        ("alias", row.alias or ""),
        ("reference", row.reference),
        ("mac", row.mac or ""),
        *(("tag", tag) for tag in _tags(row.tags)),
    ]
    if known:
        told = latest_values.both(row.latest, row.recent)
        made += [(name, str(told[id_][0])) for id_, name in _TOLD.items() if id_ in told]
        made += [("mac", str(told[_LAN_MAC][0]))] if _LAN_MAC in told else []
    return made


def _companies(call: Call, typed: str, visible: Visible, names: _Paths) -> list[tuple[int, Hit]]:
    key = name_key(typed)
    has = or_(
        company.c.name_key.contains(key, autoescape=True),
        func.lower(company.c.reference).contains(key, autoescape=True),
    )
    found = []
    rows = call.tx.all(
        select(company.c.id, company.c.name, company.c.reference)
        .where(visible.has(company.c.id), has)
        .order_by(func.length(company.c.name), company.c.id)
        .limit(_LOOKED_AT)
    )
    names.learn([row.id for row in rows])
    for row in rows:
        values = [("name", row.name), ("reference", row.reference)]
        field, rank = matched(typed, values)
        value = dict(values).get(field, "")
        hit = Hit("company", row.name, names.of(row.id), field, value, None, str(row.id))
        found.append((0 if rank == 0 else 1 + rank, hit))
    return found
