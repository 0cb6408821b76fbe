"""API tokens: shown once, never more than their person, and of nobody else's making."""

import json
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from gateway.domain.instants import DAY_MS, instant_text
from gateway.domain.refusals import Refused
from gateway.domain.rights import ANONYMOUS, Principal, Scope
from gateway.operations.api_tokens import DAYS_MAX, TOKENS_MAX
from gateway.operations.registry import execute
from gateway.people import sign_ins
from gateway.people.authentication import Credential, Means, identity_of
from gateway.storage.schema import api_token, audit
from gateway.storage.transaction import Transaction
from tests.contract.invited import change_role, person, remove
from tests.contract.world import BEGIN_MS, OPERATIONS, SITE, World

pytestmark = pytest.mark.either_engine

ANN = "ann@example.org"


def browser(world: World, person_id: int) -> Principal:
    token = f"browser of {person_id}"
    world.write(lambda tx: sign_ins.begin(tx, person_id, token))
    return world.read(lambda tx: identity_of(tx, Credential(Means.COOKIE, token)).principal)


def bearer(world: World, token: str) -> Principal:
    """Whoever sends the token, with the rights of the moment."""
    return world.read(lambda tx: identity_of(tx, Credential(Means.BEARER, token)).principal)


def ask(world: World, who: Principal, operation: str, **given: Any) -> Any:
    """What came of it, or the code of the refusal."""
    op = OPERATIONS[operation]
    read = msgspec.convert(given, op.input)
    try:
        done = world.write(lambda tx: execute(tx, op, who, SITE, read), op.tree)
    except Refused as refused:
        return refused.code.value
    return msgspec.to_builtins(done)


@pytest.fixture
def acme(world: World) -> str:
    return world.company("Acme")


def test_a_token_is_shown_once_and_works_until_its_end(world: World, acme: str) -> None:
    ann = browser(world, person(world, ANN, acme, "administrator"))
    made = ask(world, ann, "tokens.create", name=" my  script ", scopes=["all"], expires_in_days=2)
    assert made["name"] == "my script" and made["token"].startswith("fgt_")
    assert made["expires_at"] == instant_text(BEGIN_MS + 2 * DAY_MS)
    (shown,) = ask(world, ann, "tokens.list")["items"]
    assert shown == {key: value for key, value in made.items() if key != "token"}
    holder = bearer(world, made["token"])
    assert ask(world, holder, "companies.show", company_id=acme)["name"] == "Acme"
    world.now_ms += 2 * DAY_MS
    assert bearer(world, made["token"]) == ANONYMOUS
    assert ask(world, ann, "tokens.list") == {"items": []}

    def everything(tx: Transaction) -> str:
        return repr([[tuple(row) for row in tx.all(select(one))] for one in (api_token, audit)])

    assert made["token"] not in world.read(everything)


def test_a_deleted_token_is_worth_nothing_and_anothers_is_like_none(
    world: World, acme: str
) -> None:
    ann, joe = (
        browser(world, person(world, email, acme, "administrator"))
        for email in (ANN, "joe@example.org")
    )
    made = ask(world, ann, "tokens.create", name="t", scopes=["read"])
    for other in (made["id"], "f" * 16, made["token"]):
        assert ask(world, joe, "tokens.delete", token_id=other) == "not_found"
    assert bearer(world, made["token"]) != ANONYMOUS
    assert ask(world, ann, "tokens.delete", token_id=made["id"]) == {"id": made["id"]}
    assert bearer(world, made["token"]) == ANONYMOUS
    assert ask(world, ann, "tokens.delete", token_id=made["id"]) == "not_found"


def test_a_token_is_its_persons_present_right_and_no_more(world: World, acme: str) -> None:
    person_id = person(world, ANN, acme, "administrator")
    ann = browser(world, person_id)
    below = world.company("Below", acme)
    for given, wanted in (
        ({"scopes": ["companies"]}, ("ok", "ok", "forbidden")),
        ({"scopes": ["read", "people"]}, ("ok", "forbidden", "forbidden")),
        ({"scopes": ["credits"]}, ("ok", "forbidden", "ok")),
        ({"scopes": ["all"], "companies": [below]}, ("not_found", "not_found", "not_found")),
        ({"scopes": ["all"], "companies": [acme, acme]}, ("ok", "ok", "ok")),
    ):
        holder = bearer(world, ask(world, ann, "tokens.create", name="t", **given)["token"])
        found = []
        for name, more in (
            ("companies.show", {}),
            ("companies.change", {"name": "Acme"}),
            ("companies.credits", {}),
        ):
            done = ask(world, holder, name, company_id=acme, **more)
            found.append(done if isinstance(done, str) else "ok")
        assert tuple(found) == wanted, given
    change_role(world, person_id, role="read_only")
    token = ask(world, ann, "tokens.create", name="t", scopes=["all"])["token"]
    assert ask(world, bearer(world, token), "companies.change", company_id=acme, name="x") == (
        "forbidden"
    )
    remove(world, person_id)
    assert ask(world, bearer(world, token), "companies.show", company_id=acme) == "not_found"


def test_more_scope_than_right_gives_nothing_and_operate_is_for_operators(
    world: World, acme: str
) -> None:
    ann = browser(world, person(world, ANN, acme, "basic"))
    made = ask(world, ann, "tokens.create", name="t", scopes=["credits", "companies", "people"])
    holder = bearer(world, made["token"])
    assert ask(world, holder, "companies.change", company_id=acme, name="x") == "forbidden"
    assert ask(world, holder, "companies.credits", company_id=acme) == "forbidden"
    assert ask(world, ann, "tokens.create", name="t", scopes=["operate"]) == "forbidden"
    everything = bearer(world, ask(world, ann, "tokens.create", name="t", scopes=["all"])["token"])
    assert ask(world, everything, "companies.create", name="Root") == "forbidden"
    operator = browser(world, 1)
    made = ask(world, operator, "tokens.create", name="t", scopes=["operate"])
    assert made["scopes"] == ["operate"]
    assert ask(world, bearer(world, made["token"]), "companies.create", name="Root")["id"]


def test_no_token_reaches_what_belongs_to_the_account(world: World, acme: str) -> None:
    ann = browser(world, person(world, ANN, acme, "administrator"))
    made = ask(world, ann, "tokens.create", name="t", scopes=["all"])
    holder = bearer(world, made["token"])
    asked = 0
    for name, given in (
        ("tokens.create", {"name": "u", "scopes": ["all"]}),
        ("tokens.list", {}),
        ("tokens.delete", {"token_id": made["id"]}),
        ("sign-ins.list", {}),
        ("sign-ins.end", {"sign_in_id": ann.sign_in}),
        ("sign-ins.end-all", {"all": True}),
        ("me.change", {"name": "x"}),
        ("me.change-password", {"old_password": "-", "new_password": "long enough"}),
    ):
        assert ask(world, holder, name, **given) == "forbidden", name
        asked += 1
    assert asked == 8
    assert ask(world, holder, "me.show")["email"] == ANN


def test_what_a_token_is_asked_for_with_is_checked(world: World, acme: str) -> None:
    beside = world.company("Beside")
    ann = browser(world, person(world, ANN, acme, "administrator"))
    unfit: tuple[dict[str, Any], ...] = (
        {"scopes": []},
        {"scopes": ["everything"]},
        {"name": "n" * 201},
        {"expires_in_days": 0},
        {"expires_in_days": DAYS_MAX + 1},
    )
    for given in unfit:
        with pytest.raises(msgspec.ValidationError):
            ask(world, ann, "tokens.create", **{"name": "t", "scopes": ["read"], **given})
    assert ask(world, ann, "tokens.create", name=" ", scopes=["read"]) == "validation"
    # A company that one does not see is like one that is not there.
    for company_id in (beside, "999999", "x", "-1"):
        asked: dict[str, Any] = {"name": "t", "scopes": ["read"], "companies": [acme, company_id]}
        assert ask(world, ann, "tokens.create", **asked) == "not_found"
    longest = ask(
        world, ann, "tokens.create", name="t", scopes=list(Scope)[:2], expires_in_days=DAYS_MAX
    )
    assert longest["expires_at"] == instant_text(BEGIN_MS + DAYS_MAX * DAY_MS)


def test_one_person_has_a_limited_number_of_tokens_also_at_once(
    world: World, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TOKENS_MAX == 100
    monkeypatch.setattr("gateway.operations.api_tokens.TOKENS_MAX", 3)
    ann = browser(world, person(world, ANN, acme, "basic"))
    op = OPERATIONS["tokens.create"]
    given = msgspec.convert({"name": "t", "scopes": ["read"]}, op.input)
    found = world.together([lambda tx: execute(tx, op, ann, SITE, given)] * 6)
    assert sum(isinstance(one, Refused) for one in found) == 3
    shown = ask(world, ann, "tokens.list")["items"]
    assert len(shown) == 3 and all(json.dumps(one["scopes"]) == '["read"]' for one in shown)
