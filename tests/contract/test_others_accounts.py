"""Nobody reads or touches another's account: every operation, with the ids of the other."""

import os
from typing import Any, NamedTuple

import msgspec
import pytest
from sqlalchemy import insert, select, update

from gateway.domain.refusals import Refused
from gateway.operations.registry import execute
from gateway.people import sign_ins
from gateway.people.accounts import make_token
from gateway.people.authentication import identity_of
from gateway.people.tokens import hash_token
from gateway.storage.schema import (
    api_token,
    membership,
    password_reset,
    person,
    recovery_code,
    sign_in,
)
from gateway.storage.transaction import Transaction
from tests.contract.invited import person as make
from tests.contract.rights_cases import CASES, filled
from tests.contract.rights_world import Caller, RightsWorld, Undone
from tests.contract.world import OPERATIONS, SITE, World

pytestmark = pytest.mark.either_engine

VICTIM = "victim@example.org"
HASH = "hash of the victim's password"
# What an operator may do to somebody's account, and nobody else: to erase the person as the law
# asks for, and to have a lost second factor taken away after a day.
OF_OPERATORS = frozenset({"users.erase", "users.reset-totp"})
CALLERS = (
    "operator",
    "administrator in",
    "administrator above",
    "advanced in",
    "billing in",
    "token for all",
)


class Victim(NamedTuple):
    """Whose account it is, and what could be asked about it."""

    person_id: int
    ids: dict[str, str]
    hidden: tuple[str, ...]  # what no answer may show


def make_victim(world: World, company_id: str) -> Victim:
    """An administrator with everything an account can have."""
    person_id = make(world, VICTIM, company_id, "administrator")

    def fill(tx: Transaction) -> Victim:
        own = {"person_id": person_id}
        csrf = sign_ins.begin(tx, person_id, "cookie")
        make_token(tx, person_id, "t", token="fgt_victim")
        tx.run(
            update(person)
            .where(person.c.id == person_id)
            .values(password_hash=HASH, totp_secret=b"secret", totp_since=1, totp_step=1)
        )
        tx.run(insert(recovery_code), {"code_hash": os.urandom(32), **own})
        reset = {"token_hash": hash_token("reset"), "created_at": 1, "expires_at": tx.now_ms + 1}
        tx.run(insert(password_reset), reset | own)
        cookie = tx.scalar(select(sign_in.c.id).where(sign_in.c.person_id == person_id))
        token = tx.scalar(select(api_token.c.id).where(api_token.c.person_id == person_id))
        member = tx.scalar(select(membership.c.id).where(membership.c.person_id == person_id))
        ids = {"sign_in_id": cookie, "token_id": token, "email": VICTIM}
        of_person = dict.fromkeys(("id", "user_id", "person_id"), str(person_id))
        of_member = dict.fromkeys(("member_id", "membership_id"), str(member))
        hidden = (HASH, csrf, cookie, token, "fgt_victim")
        return Victim(person_id, ids | of_person | of_member, hidden)

    return world.write(fill)


def account(tx: Transaction, person_id: int) -> list[Any]:
    """Everything that belongs to the person and not to a company."""
    own: list[Any] = [tx.one(select(person).where(person.c.id == person_id))]
    for table in (sign_in, api_token, recovery_code, password_reset):
        rows = tx.all(select(table).where(table.c.person_id == person_id))
        own.append(sorted(map(repr, rows)))
    return own


def touched(world: World, caller: Caller, name: str, given: dict[str, Any], whose: Victim) -> str:
    """What the operation did to the account, or showed of it; empty when nothing."""
    op = OPERATIONS[name]
    read = msgspec.convert(given, op.input)
    found: list[str] = []

    def work(tx: Transaction) -> None:
        found.clear()
        before = account(tx, whose.person_id)
        who = identity_of(tx, caller.credential).principal
        try:
            shown = msgspec.json.encode(execute(tx, op, who, SITE, read)).decode()
        except Refused as refused:
            shown = refused.detail  # nothing of what it did is kept
        else:
            if account(tx, whose.person_id) != before:
                found.append("changed")
        found.extend(f"showed {one}" for one in whose.hidden if one in shown)
        raise Undone

    try:
        world.write(work, op.tree)
    except Undone:
        pass
    return ", ".join(found)


def test_no_operation_touches_or_shows_the_account_of_another(world: World) -> None:
    made = RightsWorld(world)
    whose = make_victim(world, made.company)
    callers = [one for one in made.callers if one.name in CALLERS]
    assert len(callers) == len(CALLERS)
    wrong, asked = [], 0
    for name, given in CASES.items():
        fields = OPERATIONS[name].input.__struct_fields__
        case = filled(given, made.facts) | {
            key: value for key, value in whose.ids.items() if key in fields
        }
        for caller in callers:
            if name in OF_OPERATORS and caller.name == "operator":
                continue
            if found := touched(world, caller, name, case, whose):
                wrong.append(f"{name}: {caller.name}: {found}")
            asked += 1
    assert not wrong, "\n".join(wrong)
    assert asked > 400
    reaching = [
        name for name in CASES if whose.ids.keys() & set(OPERATIONS[name].input.__struct_fields__)
    ]
    assert len(reaching) >= 6, reaching


def test_the_person_does_touch_the_own_account(world: World) -> None:
    """Else the test above would prove nothing."""
    made = RightsWorld(world)
    whose = make_victim(world, made.company)
    (operator, *_) = [one for one in made.callers if one.name == "operator"]
    own = Caller("own", operator.credential.__class__(operator.credential.means, "cookie"))
    for name in ("sign-ins.end", "sign-ins.end-all", "tokens.delete", "me.change"):
        fields = OPERATIONS[name].input.__struct_fields__
        case = filled(CASES[name], made.facts) | {
            key: value for key, value in whose.ids.items() if key in fields
        }
        if name == "sign-ins.end-all":
            case = {"all": True}
        assert "changed" in touched(world, own, name, case, whose), name
    assert "showed" in touched(world, own, "tokens.list", {}, whose)
