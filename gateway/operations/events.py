"""What happened in the companies that one may see, in order, to be read on from any position."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from gateway.domain.happenings import RIGHTS, Happening
from gateway.domain.instants import instant_text
from gateway.domain.rights import Right
from gateway.operations.event_positions import last_position
from gateway.operations.registry import Call, company_number, operation
from gateway.operations.visible import narrowed
from gateway.storage.transaction import Plain, Transaction

STREAM_TYPE = "text/event-stream"
LOOKED_AT_MAX = 2_000  # events of others are passed over; one look does not take longer
POSITION_CHARS_MAX = 16
_ROWS = """
SELECT position, at, kind, company_id, serial, subject, person_id, detail FROM event
WHERE position > ? ORDER BY position LIMIT ?
"""
# Itself, or the next one: then nothing in between was deleted.
_IS_KEPT = "SELECT 1 FROM event WHERE position IN (?, ?) LIMIT 1"
# The company itself comes first.
_PATHS = """
SELECT descendant_id, ancestor_id FROM company_path WHERE descendant_id IN ({})
ORDER BY descendant_id, depth
"""
_PATHS_AT_ONCE = 500
_RIGHTS: Mapping[str, Right] = {kind.value: right for kind, right in RIGHTS.items()}


class Event(msgspec.Struct):
    """One thing that happened; what it changed is read where it stands.

    `subject` is what it is about: a serial, or the id of a session, a command, a company.
    """

    id: str
    at: str
    kind: str
    company_id: str
    serial: str | None
    subject: str
    detail: dict[str, Any]


class Events(msgspec.Struct):
    """What happened after a position, oldest first.

    `position` is where to read on (`after`), and `more` says that there is more by now. `reset`:
    what was asked for is not kept any more, so load everything anew, then read on from there.
    """

    events: list[Event]
    position: str
    more: bool
    reset: bool


class FollowEvents(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which events: of a company and those below, of a serial, of these kinds.

    `after` is the id of the last one that was heard, as the header `Last-Event-ID`: left out, only
    what happens from now on; 0: all that is kept, which is a week. Besides a stream
    (`text/event-stream`) there are pages: with `Accept: application/json`, `limit` at a time.
    """

    company: str = ""
    serial: str = ""
    kinds: list[Happening] = []
    after: Annotated[str, msgspec.Meta(max_length=POSITION_CHARS_MAX)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 100

    def __post_init__(self) -> None:
        if self.after and not (self.after.isascii() and self.after.isdigit()):
            raise ValueError("after: the id of an event, or 0")


@operation(
    "events.follow",
    "GET",
    "/events",
    right=Right.SEE_COMPANIES,
    result=Events,
    file_type=STREAM_TYPE,
)
def follow_events(call: Call, given: FollowEvents) -> Events:
    """Follows what happens in the companies that one may see, as server-sent events.

    Every event is shown to those who have its right at that moment, and each one's own sessions
    to them.
    """
    sight = _Sight(call, given.company)
    last = last_position(call.tx)
    if not given.after:
        return Events([], str(last), more=False, reset=False)
    after = int(given.after)
    if after not in (0, last) and not call.tx.fetch(_IS_KEPT, (after, after + 1)):
        return Events([], str(last), more=False, reset=True)
    rows = call.tx.fetch(_ROWS, (after, LOOKED_AT_MAX))
    # What is passed over need not be looked at again.
    position = rows[-1][0] if rows else after
    heard = sight.of([row for row in rows if _asked_for(row, given)])
    if len(heard) > given.limit:
        heard = heard[: given.limit]
        position = heard[-1][0]
    shown = [_shown(row) for row in heard]
    return Events(shown, str(position), more=position < last, reset=False)


class _Sight:
    """What the caller may hear of at this moment: rights are looked up as events need them."""

    def __init__(self, call: Call, company: str) -> None:
        self._call = call
        self._within = company_number(company, "company") if company else None
        # Refuses where the company that is named is not to be seen.
        self._seen = {Right.SEE_COMPANIES: call.visible_of(company, Right.SEE_COMPANIES)}

    def of(self, rows: Sequence[Plain]) -> list[Plain]:
        """Of these events those that the caller may hear of."""
        paths = _paths(self._call.tx, {row[3] for row in rows})
        return [row for row in rows if self._hears(row, paths.get(row[3], ()))]

    def _hears(self, row: Plain, path: Sequence[int]) -> bool:
        if self._covers(_RIGHTS[row[2]], path):
            return True
        mine = row[6] is not None and row[6] == self._call.principal.user_id
        return mine and self._covers(Right.SEE_DEVICES, path)

    def _covers(self, right: Right, path: Sequence[int]) -> bool:
        if right not in self._seen:
            visible = self._call.visible(right)
            if self._within is not None:
                visible = narrowed(visible, self._call.treasury, self._within)
            self._seen[right] = visible
        return self._seen[right].covers(path)


def _asked_for(row: Plain, given: FollowEvents) -> bool:
    if row[2] not in _RIGHTS:
        return False  # of a later version of this server, beside this one
    if given.kinds and row[2] not in given.kinds:
        return False
    return not given.serial or row[4] == given.serial


def _paths(tx: Transaction, companies: Collection[int]) -> dict[int, list[int]]:
    """Of each company itself, then all above it, as they are now."""
    found: dict[int, list[int]] = {}
    ids = sorted(companies)
    for start in range(0, len(ids), _PATHS_AT_ONCE):
        part = ids[start : start + _PATHS_AT_ONCE]
        for company_id, above in tx.fetch(_PATHS.format(",".join("?" * len(part))), part):
            found.setdefault(company_id, []).append(above)
    return found


def _shown(row: Plain) -> Event:
    position, at, kind, company_id, serial, subject, _, detail = row
    return Event(
        str(position),
        instant_text(at),
        kind,
        str(company_id),
        serial,
        subject,
        json.loads(detail),
    )
