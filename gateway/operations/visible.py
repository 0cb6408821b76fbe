"""Which companies' rows a list shows its caller: `authorize`, said of all companies at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, false, or_, select, true

from gateway.domain.rights import INSIDE, Principal, Reach, Right, reach_of
from gateway.operations.inside import Doors, doors_below
from gateway.operations.treasury import Treasury
from gateway.storage.schema import company_path
from gateway.storage.transaction import Transaction

_NO_DOORS = Doors()


@dataclass(frozen=True, slots=True)
class Visible:
    """Companies with all below them, and companies alone.

    Where people from above are asked to stay out (`doors`), a company is seen only if, on the way
    up, a door that is open or a role of the caller's comes before the one that is shut.
    """

    below: tuple[int, ...]
    alone: tuple[int, ...] = ()
    doors: Doors = _NO_DOORS
    everywhere: bool = False  # the gateway's own work

    def covers(self, path: Sequence[int]) -> bool:
        """Whether a company is seen; `path` holds it, then all above it."""
        if self.everywhere or (path and path[0] in self.alone):
            return True
        if not any(number in self.below for number in path):
            return False
        for number in path:
            if number in self.doors.open:
                return True
            if number in self.doors.shut:
                return False
        return True

    def has(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        """The same as a condition on the column that holds a row's company."""
        if self.everywhere:
            return true()
        seen: ColumnElement[bool] = column.in_(self._below())
        if self.doors.shut:
            seen = and_(seen, column.not_in(self._shut()))
        if self.alone:
            return or_(seen, column.in_(self.alone)) if self.below else column.in_(self.alone)
        return seen if self.below else false()

    def _below(self) -> Select[Any]:
        return select(company_path.c.descendant_id).where(
            company_path.c.ancestor_id.in_(self.below)
        )

    def _shut(self) -> Select[Any]:
        """Companies whose nearest door is shut."""
        nearer = company_path.alias("nearer")
        opened = (
            select(nearer.c.ancestor_id)
            .where(
                nearer.c.descendant_id == company_path.c.descendant_id,
                nearer.c.depth < company_path.c.depth,
                nearer.c.ancestor_id.in_(self.doors.open),
            )
            .exists()
        )
        return select(company_path.c.descendant_id).where(
            company_path.c.ancestor_id.in_(self.doors.shut), ~opened
        )


def visible_to(tx: Transaction, treasury: Treasury, principal: Principal, right: Right) -> Visible:
    """Where the principal has the right, by its memberships and what its token leaves of them."""
    if principal.internal:
        return Visible((), everywhere=True)
    below: list[int] = []
    alone: list[int] = []
    for company_id, role in principal.memberships.items():
        reach = reach_of(role, right)
        if reach is not None:
            (below if reach is Reach.BELOW else alone).append(company_id)
    doors = _NO_DOORS
    if right in INSIDE and below:
        found = doors_below(tx, below)
        # A role in the company itself, or below a shut door, is not from above.
        doors = Doors(found.shut - {*below}, found.open | {*below})
    if principal.token is not None:
        below, alone = _left_by_token(treasury, principal, right, below, alone)
    return Visible(tuple(below), tuple(alone), doors if below else _NO_DOORS)


def _left_by_token(
    treasury: Treasury,
    principal: Principal,
    right: Right,
    below: Iterable[int],
    alone: Iterable[int],
) -> tuple[list[int], list[int]]:
    """Of these companies what the token is for, too."""
    token = principal.token
    assert token is not None

    def within(company_id: int) -> bool:
        return token.carries(right, treasury.path(company_id))

    left = [number for number in below if within(number)]
    # Companies of the token that lie below one of these.
    above = set(below)
    for number in sorted(token.companies):
        path = treasury.path(number)
        if not above.isdisjoint(path[1:]) and token.carries(right, path):
            left.append(number)
    return left, [number for number in alone if within(number)]


def narrowed(visible: Visible, treasury: Treasury, company_id: int) -> Visible:
    """Of these companies one that is seen, and those below it."""
    if visible.everywhere:
        return Visible((company_id,))
    below, alone = (
        tuple(one for one in ids if company_id in treasury.path(one))
        for ids in (visible.below, visible.alone)
    )
    if any(number in visible.below for number in treasury.path(company_id)):
        below = (company_id,)
    return Visible(below, alone, visible.doors)
