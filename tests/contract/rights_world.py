"""Companies, things in them, and everybody who could ask for them: for the matrix of rights."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import insert, update

from gateway.domain.instants import DAY_MS
from gateway.domain.refusals import Refused
from gateway.domain.rights import Role, Scope
from gateway.operations.memberships import HashedMember
from gateway.operations.registry import execute
from gateway.people import sign_ins
from gateway.people.accounts import make_person, make_token
from gateway.people.authentication import NO_CREDENTIAL, Credential, Means, identity_of
from gateway.people.tokens import new_api_token, new_sign_in_token
from gateway.storage.locks import Tree
from gateway.storage.schema import company, membership, support_access
from gateway.storage.transaction import Transaction
from tests.contract.world import OPERATIONS, SITE, World
from tests.relay_row import one_relay

# Where a caller's role is, seen from the company that is asked about.
PLACES = ("in", "above", "below", "beside")
ACTIVE, LATER, SPARE, NEW = (f"000000000{number}" for number in range(1, 5))
FOREIGN, MISSING = "0000000008", "0000000009"


class Undone(Exception):
    """Ends a transaction so that nothing of it is kept."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody, by what decides about what they may."""

    name: str
    credential: Credential = field(repr=False, default=NO_CREDENTIAL)
    role: Role | None = None
    place: str = ""
    scope: Scope | None = None  # of a token
    suspended: bool = False  # while the company is


class RightsWorld:
    """One tree of companies, with one of each thing in the company in the middle."""

    def __init__(self, world: World) -> None:
        self.world = world
        top = world.company("Above")
        self.numbers = {"above": top, "in": world.company("In", top)}
        self.numbers["below"] = world.company("Below", self.numbers["in"])
        self.numbers["beside"] = world.company("Beside")
        self.company = self.numbers["in"]
        sold: dict[str, Any] = {"per_credit": "2.00", "currency": "EUR", "from": "2027-01-01"}
        world.do("companies.price", company_id=self.company, **sold)
        world.set_company(self.company, show_prices=True)
        world.grant(top, 50)
        world.do("credits.move", source=top, target=self.company, credits=20)
        world.do("credits.move", source=top, target=self.numbers["below"], credits=2)
        for serial, activate in ((ACTIVE, True), (SPARE, "later"), (LATER, "later")):
            world.register(serial, self.company, activate)
        world.write(one_relay)
        self._serve(ACTIVE)
        below = self.numbers["below"]
        self.facts = self._things(self.company, below, ACTIVE)
        self.facts |= {"company": self.company, "above": top, "below": below}
        self.callers = world.write(self._make_callers)

    def _serve(self, serial: str) -> None:
        """The device is connected and paid."""
        self.world.join(serial)
        self.world.up(serial)
        self.world.heartbeat(serial, values={"uptime": 1, "latitude": 1, "longitude": 2})

    def foreign(self) -> dict[str, str]:
        """The same things in the company beside, by the same words."""
        world, beside = self.world, self.numbers["beside"]
        world.grant(beside, 20)
        under = world.company("Under", beside)
        world.register(FOREIGN, beside, True)
        self._serve(FOREIGN)
        return {**self._things(beside, under, FOREIGN), "company": beside}

    def _things(self, company_id: str, below: str, serial: str) -> dict[str, str]:
        """One of each, in a company and with the one below it."""
        do = self.world.do
        saved: dict[str, Any] = {"name": "plc", "target": "10.0.0.7:502", "protocol": "tcp"}
        named = do("targets.create", serial=serial, **saved)
        made = do("credit-codes.create", company_id=company_id, credits=1)
        asked = do("credit-requests.create", company_id=below, credits=1, note="")
        moved = do("credits.move", source=company_id, target=below, credits=1)
        opened = do("sessions.open", serial=serial, protocol="http")
        do("commands.send", serial=serial, verb="ping")  # that of the session not all may see
        invited: dict[str, Any] = {
            "company_id": company_id,
            "email": "asked@example.org",
            "role": "basic",
        }
        asks = do("invitations.create", **invited)
        csv = f"serial\n{serial[:-1]}7\n" if company_id == self.company else "serial\n0000000006\n"
        loaded = do("devices.import", company_id=company_id, csv=csv, activate="later")
        return {
            "target": named["id"],
            "code": made["id"],
            "code_text": made["code"],
            "request": asked["id"],
            "transfer": moved["transfers"][0]["id"],
            "session": opened["id"],
            "import": loaded["id"],
            "invitation": asks["id"],
            "membership": self._basic_member(company_id),
            "access": self._support_access(company_id),
        }

    def _support_access(self, company_id: str) -> str:
        """Granted by somebody inside; the world's operator has no role there."""
        row = {"company_id": int(company_id), "granted_by": "user:9", "reason": "help"}
        return str(
            self.world.write(
                lambda tx: tx.insert(
                    insert(support_access),
                    {**row, "granted_at": tx.now_ms, "until": tx.now_ms + DAY_MS},
                )
            )
        )

    def _basic_member(self, company_id: str) -> str:
        """Somebody with the least role that advanced users may give."""
        email = f"basic-of-{company_id}@example.org"
        given: dict[str, Any] = {"email": email, "role": Role.BASIC, "password": "-" * 12}
        hashed = HashedMember(company_id=company_id, password_hash="-", **given)
        op = OPERATIONS["members.create"]
        made = self.world.write(
            lambda tx: execute(tx, op, self.world.principal(tx, 1), SITE, hashed)
        )
        return str(made.id)

    def _make_callers(self, tx: Transaction) -> list[Caller]:
        return list(self._callers(tx))

    def _callers(self, tx: Transaction) -> Iterator[Caller]:
        yield Caller("signed out")
        operator = make_person(tx, "operator@example.org", "O", "-", operator=True)
        yield Caller("operator", _cookie(tx, operator))
        yield Caller("nobody's member", _cookie(tx, self._person(tx, "nobody", {})))
        for role in Role:
            for place in PLACES:
                name = f"{role.value} {place}"
                person_id = self._person(tx, name, {place: role})
                yield Caller(name, _cookie(tx, person_id), role, place)
        ended = self._person(tx, "ended", {"in": Role.ADMINISTRATOR}, until=tx.now_ms)
        yield Caller("administrator until now", _cookie(tx, ended))
        still = self._person(tx, "still", {"in": Role.ADMINISTRATOR}, until=tx.now_ms + DAY_MS)
        yield Caller("administrator of today", _cookie(tx, still), Role.ADMINISTRATOR, "in")
        yield Caller("suspended", _cookie(tx, still), Role.ADMINISTRATOR, "in", suspended=True)
        # Above as well, so that what is decided above is for the token's scopes to decide.
        both = {"in": Role.ADMINISTRATOR, "above": Role.ADMINISTRATOR, "beside": Role.ADMINISTRATOR}
        holder = self._person(tx, "holder", both)
        for scope in Scope:
            for place in ("in", "above", "below", "beside"):
                name = f"token for {scope.value} {place}"
                token = _token(tx, holder, scope, [int(self.numbers[place])])
                yield Caller(name, token, Role.ADMINISTRATOR, place, scope)
            anywhere = _token(tx, holder, scope, [])
            yield Caller(f"token for {scope.value}", anywhere, Role.ADMINISTRATOR, "above", scope)

    def _person(
        self, tx: Transaction, name: str, roles: dict[str, Role], until: int | None = None
    ) -> int:
        email = f"{name.replace(' ', '-')}@example.org"
        person_id = make_person(tx, email, name, "-")
        for place, role in roles.items():
            tx.run(
                insert(membership),
                {
                    "person_id": person_id,
                    "company_id": int(self.numbers[place]),
                    "role": role.value,
                    "created_at": tx.now_ms,
                    "until": until,
                },
            )
        return person_id

    def outcome(self, caller: Caller, name: str, given: dict[str, Any]) -> str:
        """`ok`, `nothing` of a list without a row, or the code of the refusal."""
        answer = self.answer(caller, name, given)
        if isinstance(answer, Refused):
            return answer.code.value
        shown = msgspec.to_builtins(answer)
        listed = shown.get("items") if isinstance(shown, dict) else None
        return "nothing" if listed == [] else "ok"

    def answer(self, caller: Caller, name: str, given: dict[str, Any]) -> Any:
        """The result of the operation, or how it was refused; nothing of it is kept."""
        op = OPERATIONS[name]
        read = msgspec.convert(given, op.input)
        found: list[Any] = []

        def work(tx: Transaction) -> None:
            found.clear()
            if caller.suspended:
                tx.run(
                    update(company)
                    .where(company.c.id == int(self.company))
                    .values(suspended_at=tx.now_ms, suspended_reason="unpaid")
                )
            principal = identity_of(tx, caller.credential).principal
            try:
                found.append(execute(tx, op, principal, SITE, read))
            except Refused as refused:
                found.append(refused)
            if op.writes or caller.suspended:
                raise Undone

        try:
            if op.writes or caller.suspended:
                self.world.write(work, Tree.ALONE if caller.suspended else op.tree)
            else:
                self.world.read(work)
        except Undone:
            pass
        return found[0]


def _cookie(tx: Transaction, person_id: int) -> Credential:
    token = new_sign_in_token()
    sign_ins.begin(tx, person_id, token)
    return Credential(Means.COOKIE, token)


def _token(tx: Transaction, person_id: int, scope: Scope, companies: list[int]) -> Credential:
    token = new_api_token()
    make_token(tx, person_id, "t", token=token, scopes=[scope], companies=companies)
    return Credential(Means.BEARER, token)


def plain(answer: Any) -> str:
    """An answer or refusal as the bytes that tell one from another."""
    if isinstance(answer, Refused):
        return json.dumps([answer.code.value, str(answer), answer.field])
    return json.dumps(msgspec.to_builtins(answer))
