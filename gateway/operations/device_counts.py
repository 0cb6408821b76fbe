"""How many devices there are of each kind, and by what a list of them can be narrowed."""

from collections import Counter
from collections.abc import Sequence
from itertools import product

import msgspec
from sqlalchemy import ColumnElement, case, func, literal, literal_column, select

from gateway.domain.presence import Presence
from gateway.domain.rights import Right
from gateway.domain.service import Reason, State
from gateway.operations.device_filters import (
    ATTENTION_DAYS,
    Narrowing,
    Reach,
    choose,
    ends_within,
    needs_attention,
)
from gateway.operations.registry import Call, operation
from gateway.storage.schema import device, device_live, device_search

FACETS_MAX = 200
_HIDDEN = ""  # the presence of a device of which names and days alone may be known
_PRESENCES = (*(one.value for one in Presence), _HIDDEN)
_STATES = tuple(one.value for one in State)
_REASONS = tuple(one.value for one in Reason)
_KINDS = tuple(product(_PRESENCES, _STATES, _REASONS))
_tags = msgspec.json.Decoder(list[str]).decode


class DeviceCounts(msgspec.Struct):
    """How many devices fit. `presence` is null for whoever sees names and days alone.

    `ending`: paid, or served in grace, until within 7 days.
    """

    total: int
    attention: int
    ending: int
    service: dict[str, int]
    reasons: dict[str, int]
    presence: dict[str, int] | None


class CountDevices(Narrowing, kw_only=True):
    """Which devices, as `devices.list` takes it."""


class Facet(msgspec.Struct):
    """A value to narrow a list by, and how many devices have it."""

    value: str
    devices: int


class DeviceFacets(msgspec.Struct):
    """The values that most devices have, at most 200 of a kind; `more`: there are others.

    Operators and firmwares are null for whoever sees names and days alone.
    """

    tags: list[Facet]
    operators: list[Facet] | None
    firmwares: list[Facet] | None
    more: bool


class ReadFacets(msgspec.Struct, kw_only=True):
    """Of which devices."""

    company: str = ""
    descendants: bool = True


@operation("devices.counts", "GET", "/devices/counts", right=Right.SEE_DEVICES, result=DeviceCounts)
def count_devices(call: Call, given: CountDevices) -> DeviceCounts:
    """Counts devices by presence, by service and its reason, and those that need attention.

    The filters are those of `devices.list`, but for presence and state, of which each is counted.
    `presence` counts those devices of which more than names and days may be known.
    """
    reach = Reach(call, given.company, descendants=given.descendants)
    chosen = choose(call, given, reach)
    attention = func.sum(case((needs_attention(call, reach), 1), else_=0)).label("attention")
    ending = func.sum(case((ends_within(call, ATTENTION_DAYS), 1), else_=0)).label("ending")
    found = call.tx.all(
        select(_kind(reach).label("kind"), func.count().label("devices"), attention, ending)
        .select_from(chosen.source(*([device_live] if reach.anything else [])))
        .where(*chosen.where)
        .group_by("kind")
    )
    presences, service, reasons = (
        dict.fromkeys(each, 0) for each in (_PRESENCES, _STATES, _REASONS)
    )
    for row in found:
        presence, state, reason = _KINDS[row.kind]
        presences[presence] += row.devices
        service[state] += row.devices
        reasons[reason] += row.devices
    presences.pop(_HIDDEN)
    return DeviceCounts(
        sum(row.devices for row in found),
        sum(row.attention for row in found),
        sum(row.ending for row in found),
        service,
        reasons,
        presences if reach.anything else None,
    )


def _kind(reach: Reach) -> ColumnElement[int]:
    """The place of a device in `_KINDS`: one number, since to group by texts takes much longer."""
    presence: ColumnElement[int] = literal(_PRESENCES.index(_HIDDEN))
    if reach.anything:
        presence = _place(device_live.c.presence, _PRESENCES)
        if not reach.everything:
            presence = case((reach.known(), presence), else_=_PRESENCES.index(_HIDDEN))
    state, reason = _place(device.c.state, _STATES), _place(device.c.reason, _REASONS)
    return (presence * len(_STATES) + state) * len(_REASONS) + reason


def _place(column: ColumnElement[str], values: Sequence[str]) -> ColumnElement[int]:
    return case({value: place for place, value in enumerate(values)}, value=column)


@operation("devices.facets", "GET", "/devices/facets", right=Right.SEE_DEVICES, result=DeviceFacets)
def read_facets(call: Call, given: ReadFacets) -> DeviceFacets:
    """Reads by what the devices that one may see can be narrowed: tags, operators, firmwares."""
    reach = Reach(call, given.company, descendants=given.descendants)
    mine = device.c.registered, device.c.ended_at.is_(None), reach.devices(by_company=reach.few())
    tagged = select(device.c.tags, func.count().label("devices")).where(
        *mine[:2], reach.devices(by_company=True), device.c.tags != literal_column("'[]'")
    )
    tags: Counter[str] = Counter()
    for row in call.tx.all(tagged.group_by(device.c.tags)):
        tags.update(dict.fromkeys(_tags(row.tags), row.devices))
    operators: Counter[str] = Counter()
    firmwares: Counter[str] = Counter()
    if reach.anything:
        told = device_search.c.operator, device_search.c.firmware
        joined = device.join(device_search, device_search.c.device_id == device.c.id)
        known = [] if reach.everything else [reach.known()]
        for row in call.tx.all(
            select(*told, func.count().label("devices"))
            .select_from(joined)
            .where(*mine, *known)
            .group_by(*told)
        ):
            operators[row.operator] += row.devices
            firmwares[row.firmware] += row.devices
    more = any(len(one) - ("" in one) > FACETS_MAX for one in (tags, operators, firmwares))
    return DeviceFacets(
        _facets(tags),
        _facets(operators) if reach.anything else None,
        _facets(firmwares) if reach.anything else None,
        more,
    )


def _facets(found: Counter[str]) -> list[Facet]:
    """The most frequent, by value."""
    found.pop("", None)
    return [Facet(*one) for one in sorted(found.most_common(FACETS_MAX))]
