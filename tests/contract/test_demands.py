"""What companies demand of whoever signs in: a second factor, and not to idle for long."""

from typing import Any

import msgspec
from sqlalchemy import update

from gateway.domain.instants import MINUTE_MS
from gateway.domain.refusals import Refused
from gateway.operations.registry import execute
from gateway.people import sign_ins
from gateway.people.accounts import make_token
from gateway.people.authentication import Credential, Means, identity_of
from gateway.people.tokens import new_api_token, new_sign_in_token
from gateway.storage.schema import person
from gateway.storage.transaction import Transaction
from tests.contract.test_settings import change, four_levels
from tests.contract.world import OPERATIONS, SITE, World


def cookie(world: World, person_id: int) -> Credential:
    token = new_sign_in_token()
    world.write(lambda tx: sign_ins.begin(tx, person_id, token))
    return Credential(Means.COOKIE, token)


def bearer(world: World, person_id: int) -> Credential:
    token = new_api_token()
    world.write(lambda tx: make_token(tx, person_id, "t", token=token))
    return Credential(Means.BEARER, token)


def ask(world: World, credential: Credential, name: str, /, **given: Any) -> str:
    """`ok`, or the code of the refusal, as a request would be answered."""
    op = OPERATIONS[name]
    read = msgspec.convert(given, op.input)

    def work(tx: Transaction) -> None:
        execute(tx, op, identity_of(tx, credential).principal, SITE, read)

    try:
        world.write(work, op.tree)
    except Refused as refused:
        return refused.code.value
    return "ok"


def set_up_totp(world: World, person_id: int, since: int | None) -> None:
    world.write(
        lambda tx: tx.run(update(person).where(person.c.id == person_id).values(totp_since=since))
    )


def test_without_the_demanded_second_factor_nothing_but_the_own_account_is_left(
    world: World,
) -> None:
    root, *_, site = four_levels(world)
    world.one_person(2, site, "administrator")
    both = [cookie(world, 2), bearer(world, 2)]
    elsewhere = [cookie(world, 1), bearer(world, 1)]

    def outcomes(credentials: list[Credential]) -> set[str]:
        return {
            ask(world, one, name, **given)
            for one in credentials
            for name, given in (
                ("companies.show", {"company_id": site}),
                ("devices.list", {}),
                ("settings.change", {"company_id": site, "require_totp": False}),
                ("credits.grant", {"company_id": site, "credits": 1}),  # an operator, too
                ("companies.create", {"name": f"New {len(credentials)}", "parent_id": site}),
            )
        }

    assert change(world, root, require_totp=True) == "ok"
    # The operator of the root is a member of it, and so is refused; nobody can undo it so.
    assert outcomes(both) == outcomes(elsewhere) == {"second_factor_needed"}
    assert {ask(world, one, "me.show") for one in both} == {"ok"}
    assert ask(world, both[0], "me.change", name="Still") == "ok"
    assert ask(world, both[1], "me.change", name="Still") == "forbidden"
    # A company below may say that its own people need none.
    assert change(world, site, require_totp=False) == "ok"
    assert ask(world, both[1], "companies.show", company_id=site) == "ok"
    assert change(world, site, require_totp=None) == "ok"
    assert ask(world, both[1], "companies.show", company_id=site) == "second_factor_needed"
    set_up_totp(world, 2, world.now_ms)
    assert {ask(world, one, "companies.show", company_id=site) for one in both} == {"ok"}
    set_up_totp(world, 2, None)
    assert ask(world, both[0], "companies.show", company_id=site) == "second_factor_needed"
    # The data directory's owner sets it right, whatever the first operator's account lacks.
    assert ask(world, Credential(Means.ADMIN_SOCKET), "settings.show", company_id=root) == "ok"


def test_a_sign_in_idles_as_long_as_the_strictest_company_lets_it(world: World) -> None:
    one, other = world.company("One"), world.company("Two")
    world.one_person(2, one, "basic")
    world.one_person(3, other, "basic")
    assert change(world, one, idle_minutes=30) == "ok"
    strict, free = cookie(world, 2), cookie(world, 3)
    token = bearer(world, 2)
    world.live(29 * MINUTE_MS, jobs=False)
    assert ask(world, strict, "me.show") == "ok"
    world.live(MINUTE_MS, jobs=False)
    assert (ask(world, strict, "me.show"), ask(world, free, "me.show")) == ("signed_out", "ok")
    assert ask(world, token, "me.show") == "ok"
    assert world.do("sign-ins.list", person=2)["items"] == []
    assert len(world.do("sign-ins.list", person=3)["items"]) == 1
    # With a second role, the strictest counts.
    assert change(world, other, idle_minutes=31) == "ok"
    assert ask(world, free, "me.show") == "ok"
    assert change(world, other, idle_minutes=5) == "ok"
    assert ask(world, free, "me.show") == "signed_out"
