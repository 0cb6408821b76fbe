"""A child's people try to get at the wallet above, through every operation that there is.

The attempts are made from the registry: each operation, with each company, device and number of
above in each field that could name one, and with each flag that could matter. An attempt runs for
real and is rolled back, so each meets the same installation.
"""

import re
from collections.abc import Callable, Iterator
from itertools import islice, product
from typing import Any, get_args

import msgspec
import pytest
from sqlalchemy import select, text

from gateway.api.inputs import fields_of
from gateway.domain.refusals import Refused
from gateway.operations.dry_run import TriedOut, try_out
from gateway.operations.registry import Operation, execute
from gateway.storage.schema import transfer
from gateway.storage.transaction import AnyRow, Transaction
from tests.contract.machine_base import reached_at
from tests.contract.world import OPERATIONS, SITE, World

pytestmark = pytest.mark.either_engine

TOP_NAME, SISTER_NAME = "Unspeakable Holding", "Unseen Sister"
TOP_DAYS, PARENT_DAYS, SISTER_DAYS = 7_654_321, 1_234_567, 3_456_789
TOP_PRICE = "13.57"
TOP_NOTE = "kept among those above"
TOP_SERIAL, PARENT_SERIAL, CHILD_SERIAL, SISTER_SERIAL = (
    "top-000001",
    "par-000001",
    "kid-000001",
    ("sis-000001"),
)
ADMINISTRATOR, BILLING, SISTER = 2, 3, 4
# What must not stand in any answer to the child: names, balances, prices and notes of above.
SECRETS = [
    TOP_NAME,
    SISTER_NAME,
    *(str(days + less) for days in (TOP_DAYS, PARENT_DAYS, SISTER_DAYS) for less in (0, -30, -60)),
    *(str(days // 30) for days in (TOP_DAYS, PARENT_DAYS, SISTER_DAYS)),
    TOP_PRICE,
    TOP_NOTE,
    TOP_SERIAL,
    PARENT_SERIAL,
    SISTER_SERIAL,
    "boss@example.org",
]
# Of one operation by one person: where credits and companies are changed all of them are tried.
ATTEMPTS_MAX, OTHER_ATTEMPTS_MAX = 150, 24


class Family:
    """Top, Parent, Child with a Grandchild, and the Child's Sister; and all that lies about."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.top = world.company(TOP_NAME)
        self.parent = world.company("Parent", self.top)
        self.child = world.company("Child", self.parent)
        self.grandchild = world.company("Grandchild", self.child)
        self.sister = world.company(SISTER_NAME, self.parent)
        world.one_person(ADMINISTRATOR, self.child, "administrator")
        world.one_person(BILLING, self.child, "billing")
        world.one_person(SISTER, self.sister, "administrator")
        given = ((self.top, TOP_DAYS), (self.parent, PARENT_DAYS), (self.sister, SISTER_DAYS))
        for company_id, days in given:
            world.do("credits.grant", company_id=company_id, days=days, note=TOP_NOTE)
        world.grant(self.child, 4)
        for serial, company_id in (
            (TOP_SERIAL, self.top),
            (PARENT_SERIAL, self.parent),
            (CHILD_SERIAL, self.child),
            (SISTER_SERIAL, self.sister),
        ):
            world.register(serial, company_id, activate=True if serial == CHILD_SERIAL else "later")
        world.set_company(self.parent, use_parent_credits=True, parent_limit=77)
        world.do("companies.suspend", company_id=self.grandchild, reason="late")
        self.codes = ["a" * 32]
        self._lay_about()
        self.ids: dict[str, list[Any]] = self._candidates()

    def _lay_about(self) -> None:
        """What later operations could take hold of."""
        world = self.world
        self._do("POST", "/credits/moves", source=self.parent, target=self.child, days=60)
        self._do("POST", "/credits/moves", source=self.top, target=self.parent, days=30)
        for company_id in (self.parent, self.child):
            made = self._do("POST", "/credits/codes", company_id=company_id, days=30)
            if made and company_id == self.child:
                self.codes.append(made["code"])  # of the other nobody told them the text
        self._do("POST", "/credits/courtesies", serial=CHILD_SERIAL, days=3)
        self._do("POST", "/credits/requests", company_id=self.child, days=90)
        self._do("POST", "/credits/requests", company_id=self.parent, days=90)
        priced = {"per_credit": TOP_PRICE, "currency": "EUR", "from": "2027-01-01"}
        for company_id in (self.parent, self.child):
            self._do("PUT", "/companies/{company_id}/prices", company_id=company_id, **priced)
        world.live(1_000)

    def _do(self, method: str, path: str, **given: Any) -> Any:
        return self.world.do(reached_at(method, path).name, **given)

    def _candidates(self) -> dict[str, list[Any]]:
        """For each name of a field that says what an operation is about: what it could say."""
        companies = [self.parent, self.child, self.top, self.grandchild, self.sister]
        serials = [CHILD_SERIAL, PARENT_SERIAL, TOP_SERIAL, SISTER_SERIAL]
        rows = self.world.read(lambda tx: tx.all(select(transfer.c.id).order_by(transfer.c.seq)))
        numbers = [str(number) for number in range(1, 5)]
        named: dict[str, list[Any]] = dict.fromkeys(
            "company_id company parent_id source from_company_id payer_company_id".split(),
            companies,
        )
        return {
            **named,
            "to": companies,
            "serial": serials,
            "serials": [[serial] for serial in serials],
            "transfer": [row.id for row in rows],
            "code": list(self.codes),
            **dict.fromkeys(
                "request_id code_id import_id id target_id session_id".split(), numbers
            ),
            "membership_id": numbers,
            "user_id": ["1", "2"],
        }

    def companies_for(self, op: Operation, name: str) -> list[Any] | None:
        """The candidates of one field; `target` is a company only where credits are moved."""
        if name == "target":
            return self.ids["company_id"] if op.path.startswith("/credits") else None
        return self.ids.get(name)


def _values(hint: Any) -> list[Any]:
    """What a field that is no id may be set to."""
    kinds = [hint, *get_args(hint)]
    kinds += [part for kind in kinds for part in get_args(kind)]
    texts = [kind for kind in kinds if isinstance(kind, str)]
    if texts:
        return texts
    for kind, values in ((bool, [True, False]), (int, [1, 30]), (str, ["x" * 8]), (list, [])):
        if kind in kinds:
            return list(values)
    return [{}]


HOSTILE: dict[str, list[Any]] = {
    "plan": ["daily"],
    "role": ["administrator"],
    "email": ["boss@example.org"],
    "administrator_email": ["person2@example.org"],
    "per_credit": ["0.01"],
    "currency": ["EUR"],
    "from": ["2027-01"],
    "to": ["2027-03"],
    "csv": [f"serial\n{PARENT_SERIAL}\n"],
    "verb": ["report_full"],
    "fields": [["uptime"]],
    "activate": [True],
    "unregister": ["refund"],
    "expires_on": [None],
    "cursor": [""],
    "limit": [500],
    "kind": [""],
    "free": [False],
    "format": ["json"],
    "note": ["x"],
    "name": ["x"],
    "scopes": [["all"]],
    "password": ["correct horse battery"],
}


def attempts(family: Family, op: Operation) -> Iterator[dict[str, Any]]:
    """Inputs of an operation that could do harm, those that name most things first."""
    fields = fields_of(op.input)
    needed: dict[str, Any] = {}
    chosen: dict[str, list[Any]] = {}
    flags: list[dict[str, Any]] = [{}]
    kinds = {field.encode_name: field for field in msgspec.structs.fields(op.input)}
    for name, field in fields.items():
        candidates = family.companies_for(op, name)
        if candidates is not None and not (name == "to" and "from" in fields):
            chosen[name] = candidates if kinds[name].required else [*candidates, None]
            continue
        values = HOSTILE.get(name) or _values(field.type)
        if name == "from" and op.path.endswith("/prices"):
            values = ["2027-01-01"]
        if kinds[name].required:
            needed[name] = values[0]
        elif name == "days":
            flags[0] = {"days": 1}
        elif name != "credits" or "days" not in fields:
            flags += [{name: value} for value in values]
    for flag, values in product(flags, product(*chosen.values())):
        given = {k: v for k, v in zip(chosen, values, strict=True) if v is not None}
        yield {**needed, **given, **flags[0], **flag}


def most(world: World, op: Operation) -> int:
    """How many attempts are made; what is refused is decided before an engine is asked."""
    if op.writes and op.path.startswith(("/companies", "/credits")):
        return ATTEMPTS_MAX if world.engine == "sqlite" else OTHER_ATTEMPTS_MAX
    return OTHER_ATTEMPTS_MAX if world.engine == "sqlite" else OTHER_ATTEMPTS_MAX // 4


class RolledBack(Exception):
    """Ends an attempt; carries what it said and what it would have left behind."""


_GUARDED = text(
    "SELECT id, parent_id, plan, use_parent_credits, parent_limit, grace_days, extend_unheard,"
    " refunds, show_prices, suspended_at, suspended_reason, closed_at, name, reference,"
    " billing_email FROM company ORDER BY id"
)
_PAYING = slice(0, 11)  # of a child's row: what is decided above it
_HELD_ABOVE = text(
    "SELECT a.company_id, a.kind, sum(a.balance) AS days FROM account AS a"
    " WHERE a.company_id IS NOT NULL GROUP BY a.company_id, a.kind ORDER BY a.company_id, a.kind"
)
_PRICES = text("SELECT seller_id AS company_id FROM price ORDER BY id")
_PEOPLE = text("SELECT person_id, company_id, role FROM membership ORDER BY 1, 2, 3")
_DEVICES = text("SELECT id, serial, company_id, registered, name, state, auto_extend FROM device")


def guarded(tx: Transaction, theirs: set[str], roots: set[str]) -> dict[str, Any]:
    """All that must stay as it is: these companies and what they hold, and the flags of `roots`."""

    def kept(row: AnyRow) -> bool:
        return str(row.company_id) in theirs

    companies = tx.all(_GUARDED)
    return {
        "companies": [tuple(row) for row in companies if str(row.id) in theirs],
        "flags": [tuple(row)[_PAYING] for row in companies if str(row.id) in roots],
        "days": {
            (row.company_id, row.kind): int(row.days) for row in tx.all(_HELD_ABOVE) if kept(row)
        },
        "prices": [row.company_id for row in tx.all(_PRICES) if kept(row)],
        "people": [tuple(row) for row in tx.all(_PEOPLE) if kept(row)],
        "devices": sorted(tuple(row) for row in tx.all(_DEVICES) if kept(row)),
    }


def attempt(
    world: World,
    op: Operation,
    person: int,
    given: dict[str, Any],
    look: Callable[[Transaction], dict[str, Any]],
    *,
    dry: bool,
) -> tuple[str, dict[str, Any]]:
    """What an attempt was told, and what it would have left behind."""
    read = msgspec.convert(given, op.input)

    def run(tx: Transaction) -> None:
        principal = world.principal(tx, person)
        done = try_out if dry else execute
        try:
            answer = done(tx, op, principal, SITE, read)
        except TriedOut as tried:
            raise RolledBack(_told(tried.report), {}) from None
        raise RolledBack(_told(answer), look(tx))

    try:
        world.write(run, op.tree)
    except RolledBack as over:
        return over.args[0], over.args[1]
    except Refused as refused:
        return f"{refused.code} {refused.detail}", {}
    raise AssertionError("the attempt was not rolled back")


def _told(answer: Any) -> str:
    return msgspec.json.encode(answer).decode()


def own_days(op: Operation, given: dict[str, Any]) -> str:
    """The request without what the child said itself: an answer may repeat that."""
    return msgspec.json.encode({"operation": op.name, **given}).decode()


PEOPLE = {
    "administrator": ADMINISTRATOR,
    "billing": BILLING,
    "administrator of a sister": SISTER,
}


@pytest.mark.parametrize("who", PEOPLE)
def test_no_operation_lets_a_child_at_what_is_above(world: World, who: str) -> None:
    family = Family(world)
    person = PEOPLE[who]
    if person == SISTER:
        family.ids["code"] = family.codes[:1]
    mine = {family.sister} if person == SISTER else {family.child, family.grandchild}
    own = SISTER_NAME if person == SISTER else ""
    root = family.sister if person == SISTER else family.child
    theirs = {family.top, family.parent, family.child, family.grandchild, family.sister} - mine

    def look(tx: Transaction) -> dict[str, Any]:
        return guarded(tx, theirs, {root})

    before = world.read(look)
    for op in (one for one in OPERATIONS.values() if one.name != "people.sign_out"):
        done = 0
        for given in islice(attempts(family, op), most(world, op)):
            ways = (False, True) if op.moves_credits else (False,)
            for dry in ways:
                try:
                    told, left = attempt(world, op, person, given, look, dry=dry)
                except msgspec.ValidationError:
                    continue
                done += 1
                where = f"{op.name} {given} by the {who}"
                _insist_untouched(left, before, f"{where}: {told}")
                said = own_days(op, given)
                for secret in SECRETS:
                    if secret in said or (own and secret in _sisters_own()):
                        continue
                    leaked = re.search(rf"\b{re.escape(secret)}\b", told)
                    assert not leaked, f"{where} was told {secret}: {told}"
                _insist_unnamed(told, family, person, where)
        assert done, f"{op.name} could not be tried: teach this test its fields"


def _insist_untouched(left: dict[str, Any], before: dict[str, Any], where: str) -> None:
    """Whatever was given to those above may be there; nothing was taken, and nothing decided."""
    if left:
        now, held = left.pop("days"), before["days"]
        less = {key: now.get(key, 0) for key in held if now.get(key, 0) < held[key]}
        assert not less, f"{where} took days: {less} of {held}"
        assert left == {key: before[key] for key in left}, f"{where} changed what is not theirs"


def _sisters_own() -> set[str]:
    days = (SISTER_DAYS, SISTER_DAYS - 30, SISTER_DAYS - 60)
    return {SISTER_NAME, SISTER_SERIAL, TOP_NOTE, str(SISTER_DAYS // 30), *map(str, days)}


def _insist_unnamed(told: str, family: Family, person: int, where: str) -> None:
    """No id of a company above the direct parent, in whatever field."""
    if not told.startswith(("{", "[")):
        return
    unseen = {family.top, family.child if person == SISTER else family.sister}
    for name, value in _leaves(msgspec.json.decode(told)):
        if "company" in name or name in ("parent_id", "payer_path", "path", "source", "target"):
            assert value not in unseen, f"{where}: {name} names {value}"
        if "account" in name and isinstance(value, str) and value.startswith("pool:"):
            assert value.split(":")[1] not in unseen, f"{where}: {name} is {value}"


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, str(key))
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(part, name)
    else:
        yield name, value


def test_the_parent_itself_may_what_its_child_may_not(world: World) -> None:
    """The attempts are not refused for another reason than who makes them."""
    family = Family(world)
    world.one_person(5, family.parent, "administrator")
    for flag in (
        {"use_parent_credits": True},
        {"parent_limit": 100},
        {"plan": "daily"},
        {"grace_days": 30},
        {"unregister": "refund"},
        {"show_prices": True},
    ):
        for person in PEOPLE.values():
            code = world.ask("companies.change", person=person, company_id=family.child, **flag)
            assert code == ("not_found" if person == SISTER else "forbidden"), flag
        assert world.ask("companies.change", person=5, company_id=family.child, **flag) == "ok"
    for verb, more in (("suspend", {"reason": "late"}), ("resume", {})):
        for person in (ADMINISTRATOR, BILLING):
            name = f"companies.{verb}"
            assert world.ask(name, person=person, company_id=family.child, **more) == "forbidden"
        assert world.ask(f"companies.{verb}", person=5, company_id=family.child, **more) == "ok"
