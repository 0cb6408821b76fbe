"""Every operation for every kind of caller, as `docs/rights.md` says; foreign is like missing."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.domain.refusals import Refused
from gateway.domain.rights import Role, Scope
from gateway.operations.registry import operations
from tests.contract.rights_cases import CASES, filled
from tests.contract.rights_world import (
    ACTIVE,
    FOREIGN,
    LATER,
    MISSING,
    SPARE,
    Caller,
    RightsWorld,
    plain,
)
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

DOCUMENT = Path(__file__).parents[2] / "docs" / "rights.md"
REFUSED = frozenset({"forbidden", "not_found", "nothing", "signed_out"})
# What a suspended company's people are refused that they may do otherwise.
WHILE_SUSPENDED = "company_suspended"
# Whose object is shown to a caller besides those who see its company; else `companies.show`.
SEEN_BY_ITSELF = frozenset({"credit-codes.delete", "sessions.diagnosis", "sessions.show"})
SEEN_WITH = {
    "devices.counts": "devices.show",
    "devices.export": "devices.show",
    "devices.facets": "devices.show",
    "devices.import": "devices.show",
    "devices.list": "devices.show",
    "devices.positions": "devices.show",
    "devices.register": "devices.show",
    "imports.list": "devices.show",
    "imports.show": "devices.show",
    "imports.undo": "devices.show",
    "invitations.resend": "invitations.list",
    "invitations.withdraw": "invitations.list",
    "members.change": "members.list",
    "members.remove": "members.list",
    "sessions.close": "sessions.show",
    "credit-requests.accept": "credit-requests.list",
    "credit-requests.refuse": "credit-requests.list",
    "credits.reverse": "ledger.list",
    "host-keys.show": "sessions.show",
    "host-keys.trust": "sessions.show",
    "sessions.ticket": "sessions.show",
    "support-access.end": "support-access.list",
    "targets.change": "targets.list",
    "targets.delete": "targets.list",
}
# These are seen from the company below as well, which asked, or which got the days.
BELOW_SEES = frozenset({"credit-requests.accept", "credit-requests.refuse", "credits.reverse"})
BELOW_LISTS = ("credit-requests.list", "below", "below")
# Of one's own things; the case names one that nobody has, and nobody who asks has tokens to list.
OWN_THINGS = {"sign-ins.end": "not_found", "tokens.delete": "not_found", "tokens.list": "nothing"}


class Row(NamedTuple):
    """A row of the table."""

    roles: dict[Role, str]
    operator: bool
    scopes: frozenset[str]


def table() -> dict[str, Row]:
    """The rows by operation."""
    rows: dict[str, Row] = {}
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        name = re.fullmatch(r"`([a-z_-]+\.[a-z_-]+)`", cells[0])
        if name is None:
            continue
        assert len(cells) == 8, line
        assert name[1] not in rows, line
        roles = dict(zip(Role, cells[1:6], strict=True))
        rows[name[1]] = Row(roles, cells[6] == "yes", frozenset(cells[7].split(", ")))
    return rows


TABLE = table()


def test_every_operation_has_a_row_and_a_case() -> None:
    names = {op.name for op in operations()}
    assert names == set(TABLE), "docs/rights.md: a row for each operation, and no other"
    assert names == set(CASES), "tests/contract/rights_cases.py: a case for each, and no other"
    words = {cell for row in TABLE.values() for cell in row.roles.values()}
    known = {"below", "own", "above", "opener", "oneself", "everybody", "signed in", "–"}
    assert words <= known
    scopes = {scope for row in TABLE.values() for scope in row.scopes}
    assert scopes <= {*Scope, "any", "none", "–"} and {"devices", "remote", "credits"} <= scopes


def reaches(cell: str, place: str) -> bool:
    """Whether a role with this cell, at this place, goes as far as the company."""
    return place in {"below": ("in", "above"), "own": ("in",), "above": ("above",)}.get(cell, ())


def in_scope(row: Row, caller: Caller) -> bool:
    """Whether the caller's token, if it has one, is for this operation."""
    return caller.scope in (None, Scope.ALL) or caller.scope in row.scopes


def sees(name: str, caller: Caller) -> bool:
    """Whether what is asked about exists for the caller."""
    if name in SEEN_BY_ITSELF or caller.role is None:
        return False
    about_device = {"serial", "broken", "serials"} & CASES[name].keys()
    row = TABLE[SEEN_WITH.get(name, "devices.show" if about_device else "companies.show")]
    place = "in" if name in BELOW_SEES and caller.place == "below" else caller.place
    return reaches(row.roles[caller.role], place) and in_scope(row, caller)


def expected(name: str, caller: Caller) -> set[str]:
    """The refusals that the table demands; none when it allows."""
    row = TABLE[name]
    cells = set(row.roles.values())
    if cells == {"everybody"}:
        return set()
    if caller.name == "signed out":
        return {"signed_out"}
    if cells <= {"signed in"}:
        return set()
    if cells == {"oneself"}:
        if caller.scope is not None:
            return {"forbidden"}
        return {OWN_THINGS[name]} if name in OWN_THINGS else set()
    if row.operator and caller.name == "operator":
        return set()
    if row.operator and cells == {"–"}:
        return {"forbidden"}
    cell = "–" if caller.role is None or not in_scope(row, caller) else row.roles[caller.role]
    # Holders of tokens have a role in the company itself, whatever the token is for.
    held = caller.scope is not None and (cell, caller.place) == ("own", "above")
    if held or reaches(cell, caller.place) or (name, caller.place, cell) == BELOW_LISTS:
        return set()
    if not CASES[name]:
        return {"nothing"}
    if cell == "above" and caller.place == "in":
        return {"forbidden"}
    return {"forbidden"} if sees(name, caller) else {"not_found"}


def test_everybody_may_exactly_what_the_table_says(world: World) -> None:
    made = RightsWorld(world)
    wrong = []
    allowed = refused = suspended = 0
    for name, given in CASES.items():
        asked = filled(given, made.facts)
        for caller in made.callers:
            outcome = made.outcome(caller, name, asked)
            wanted = expected(name, caller)
            if caller.suspended and outcome == WHILE_SUSPENDED:
                suspended += 1
                continue
            if (outcome in REFUSED and outcome not in wanted) or (wanted and outcome not in wanted):
                wrong.append(f"{name}: {caller.name}: {outcome}, not {wanted or 'allowed'}")
            allowed += not wanted
            refused += bool(wanted)
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong[:60])
    assert allowed > 500 and refused > 2_000 and suspended >= 4, (allowed, refused, suspended)


# What is foreign

_NUMBERS = {"access", "company", "target", "code", "request", "import", "invitation", "membership"}


def foreign_and_missing(made: RightsWorld) -> tuple[dict[str, str], dict[str, str]]:
    """The words of the cases for things of the company beside, and for things of nobody."""
    foreign = made.foreign()
    missing = {word: "999999999" if word in _NUMBERS else "f" * 32 for word in foreign}
    missing["code_text"] = made.facts["code_text"]
    missing["transfer"] = "00000000-0000-5000-8000-000000000000"
    missing["session"] = "0" * len(foreign["session"])
    return made.facts | foreign, made.facts | missing


def with_serials(given: dict[str, Any], serial: str) -> dict[str, Any]:
    """The case with this serial for each that the company in the middle has."""
    mine = (ACTIVE, LATER, SPARE)

    def other(value: Any) -> Any:
        if isinstance(value, list):
            return [serial for one in value if one in mine] or value
        return serial if value in mine else value

    return {name: other(value) for name, value in given.items()}


def test_what_is_foreign_answers_like_what_is_missing(world: World, statements: list[str]) -> None:
    """Byte for byte, and with as many statements: so it takes the same time."""
    made = RightsWorld(world)
    foreign, missing = foreign_and_missing(made)
    names = ("administrator in", "billing in", "basic in", "token for all in")
    callers = [one for one in made.callers if one.name in names]
    assert len(callers) == len(names)
    wrong, compared = [], 0
    for name, given in CASES.items():
        cases = [
            filled(with_serials(given, serial), facts)
            for serial, facts in ((FOREIGN, foreign), (MISSING, missing))
        ]
        if cases[0] == cases[1]:
            continue
        for caller in callers:
            answers, counts = [], []
            for one in cases:
                statements.clear()
                answer = made.answer(caller, name, one)
                assert isinstance(answer, Refused), (name, caller.name, one)
                answers.append(plain(answer).replace(MISSING, FOREIGN))
                counts.append(len(statements))
            compared += 1
            if len(set(answers)) != 1 or len(set(counts)) != 1:
                wrong.append(f"{name}: {caller.name}: {answers} {counts}")
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong)
    assert compared > 150
