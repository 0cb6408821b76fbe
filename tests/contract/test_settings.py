"""Settings: what a company sets, what it inherits, who may change what, and what goes by them."""

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import select

from gateway.domain.refusals import Code, Refused
from gateway.domain.settings import RULES, Key
from gateway.operations.mailing import language_of
from gateway.storage.schema import audit
from tests.contract.test_rights_shown import Family
from tests.contract.tunnel import S
from tests.contract.world import OPERATIONS, World

pytestmark = pytest.mark.either_engine


def shown(world: World, company_id: str, key: str, *, as_: int = 1) -> tuple[Any, bool, bool, Any]:
    """Value, set here, inherited, origin."""
    found = world.do("settings.show", person=as_, company_id=company_id)["settings"][key]
    return found["value"], found["set_here"], found["inherited"], found["origin"]


def change(world: World, company_id: str, *, as_: int = 1, **values: Any) -> str:
    return world.ask("settings.change", person=as_, company_id=company_id, **values)


def change_one(world: World, company_id: str, key: str, value: Any) -> str:
    given: dict[str, Any] = {key: value}
    return change(world, company_id, **given)


def four_levels(world: World) -> list[str]:
    made = [world.company("Root")]
    for name in ("Reseller", "Customer", "Site"):
        made.append(world.company(name, made[-1]))
    return made


def test_every_setting_has_its_usual_value_until_somebody_sets_it(world: World) -> None:
    root = world.company("Root")
    listed = world.do("settings.show", company_id=root)["settings"]
    assert listed.keys() == set(Key)
    usual = {"set_here": False, "inherited": False, "origin": None}
    assert listed == {key: {"value": rule.default, **usual} for key, rule in RULES.items()}
    settings = world.do("companies.show", company_id=root)["settings"]
    assert {key: settings[key] for key in Key} == {key: rule.default for key, rule in RULES.items()}


def test_settings_are_inherited_through_four_levels_until_one_sets_its_own(world: World) -> None:
    root, reseller, customer, site = four_levels(world)
    world.one_person(2, site, "administrator")
    pairs: tuple[tuple[str, Any, Any], ...] = (
        ("time_zone", "Europe/Madrid", "America/Lima"),
        ("require_reason", True, False),
        ("brand", {"name": "R", "logo": "https://r.example/l.png", "support": "call"}, {}),
        ("idle_minutes", 60, 30),
    )
    for key, first, second in pairs:
        assert change_one(world, root, key, first) == "ok"
        assert shown(world, root, key) == (first, True, False, None)
        assert shown(world, reseller, key) == (first, False, True, "Root")
        # Who sees the root is told its name; who does not, is not.
        assert shown(world, site, key) == (first, False, True, "Root")
        assert shown(world, site, key, as_=2) == (first, False, True, "a company above")
        assert change_one(world, customer, key, second) == "ok"
        own = shown(world, customer, key)[0]
        assert own == (RULES[Key.BRAND].default if second == {} else second)
        assert shown(world, site, key, as_=2) == (own, False, True, "Customer")
        assert shown(world, reseller, key)[0] == first
        assert world.do("companies.show", company_id=site)["settings"][key] == own
        assert change_one(world, customer, key, None) == "ok"
        assert shown(world, site, key, as_=2) == (first, False, True, "a company above")
    listed = world.do("companies.list", company=root)["items"]
    assert [one["settings"]["idle_minutes"] for one in listed] == [60] * 4


def test_a_moved_company_inherits_from_where_it_is_now(world: World) -> None:
    root, reseller, customer, site = four_levels(world)
    other = world.company("Other")
    assert change(world, reseller, language="es", idle_minutes=10) == "ok"
    assert change(world, other, language="en", idle_minutes=20) == "ok"
    assert change(world, customer, idle_minutes=15) == "ok"
    world.do("companies.move", company_id=customer, parent_id=other)
    assert shown(world, site, "language") == ("en", False, True, "Other")
    assert shown(world, site, "idle_minutes") == (15, False, True, "Customer")
    assert shown(world, customer, "idle_minutes") == (15, True, False, None)
    assert root


def test_a_closed_company_shows_its_settings_and_changes_none(world: World) -> None:
    root, reseller, customer, site = four_levels(world)
    assert change(world, site, language="es") == "ok"
    world.do("companies.close", company_id=site, devices="unregister")
    assert shown(world, site, "language")[0] == "es"
    for given in ({"language": "en"}, {"extend_unheard": True}, {"language": None}, {}):
        assert change(world, site, **given) == "company_closed"
    assert root and reseller and customer


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"time_zone": "Europe/Nowhere"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"billing_email": "a,b@c.org"}, "billing_email"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_of_the_rest_is_kept(
    world: World, given: dict[str, Any], says: str
) -> None:
    root = world.company("Root")
    with pytest.raises(Refused) as refused:
        world.do("settings.change", company_id=root, language="es", **given)
    assert (refused.value.code, refused.value.field) == (Code.VALIDATION, says)
    assert shown(world, root, "language")[0] == "en"


def test_only_the_companys_own_administrators_shut_the_door(world: World) -> None:
    root, reseller, customer, site = four_levels(world)
    world.one_person(2, customer, "administrator")
    world.one_person(3, reseller, "administrator")
    world.one_person(4, customer, "advanced")
    for who, may in ((1, "forbidden"), (3, "forbidden"), (4, "forbidden"), (2, "ok")):
        assert change(world, customer, as_=who, inside="ask") == may
    # Nor can anybody from above open it again, by any way of saying it.
    for who in (1, 3):
        for value in ("open", None):
            assert change(world, customer, as_=who, inside=value) == "forbidden"
            assert change(world, customer, as_=who, language="es", inside=value) == "forbidden"
    assert shown(world, customer, "language")[0] == "en"
    assert shown(world, customer, "inside") == ("ask", True, False, None)  # shown above
    assert shown(world, site, "inside") == ("ask", False, True, "Customer")
    assert change(world, reseller, as_=3, inside="open") == "ok"  # their own, and nobody else's
    assert shown(world, customer, "inside")[0] == "ask"
    assert change(world, customer, as_=2, inside=None) == "ok"
    assert shown(world, customer, "inside", as_=2) == ("open", False, True, "Reseller")
    assert root


def test_who_pays_decides_about_silent_devices_by_both_ways_of_saying_it(world: World) -> None:
    _, reseller, customer, _ = four_levels(world)
    world.one_person(2, customer, "administrator")
    world.one_person(3, reseller, "administrator")
    assert change(world, customer, as_=2, extend_unheard=True) == "forbidden"
    assert change(world, customer, as_=3, extend_unheard=True) == "ok"
    assert world.do("companies.show", company_id=customer)["settings"]["extend_unheard"] is True
    world.set_company(customer, extend_unheard=False, billing_email="pay@example.org")
    assert shown(world, customer, "extend_unheard")[0] is False
    assert shown(world, customer, "billing_email")[0] == "pay@example.org"
    assert change(world, customer, as_=2, billing_email=None) == "ok"
    assert world.do("companies.show", company_id=customer)["settings"]["billing_email"] == ""


def test_below_nobody_reads_a_billing_address_of_above(world: World) -> None:
    root, reseller, _, _ = four_levels(world)
    world.one_person(2, reseller, "administrator")
    assert change(world, root, billing_email="secret@example.org", extend_unheard=False) == "ok"
    text = json.dumps(world.do("settings.show", person=2, company_id=reseller))
    assert "secret@example.org" not in text
    assert world.ask("settings.show", person=2, company_id=root) == "not_found"


def test_two_at_once_leave_one_value(world: World) -> None:
    root = world.company("Root")
    op = OPERATIONS["settings.change"]

    async def all_of_them() -> None:
        work = [
            world.work(op.name, company_id=root, idle_minutes=minutes) for minutes in range(10, 20)
        ]
        await asyncio.gather(*(world.store.write(one, tree=op.tree) for one in work))

    world.wait(all_of_them())
    assert shown(world, root, "idle_minutes")[0] in range(10, 20)


def test_the_audit_says_what_was_before_and_what_is_inherited_again(world: World) -> None:
    root = world.company("Root")
    world.do("settings.change", company_id=root, require_totp=True, language="es")
    world.do("settings.change", company_id=root, require_totp=False, language=None)
    statement = select(audit).where(audit.c.verb == "settings.change").order_by(audit.c.id.desc())
    row = world.read(lambda tx: tx.one(statement))
    assert row is not None and (row.company_id, row.subject) == (int(root), root)
    assert json.loads(row.detail) == {
        "require_totp": False,
        "before": {"require_totp": True, "language": "es"},
        "reset": ["language"],
    }


def test_mails_are_in_the_language_that_is_in_force(world: World) -> None:
    root, *_, site = four_levels(world)
    assert world.read(lambda tx: language_of(tx, None, int(site))) == "en"
    assert change(world, root, language="es") == "ok"
    assert world.read(lambda tx: language_of(tx, None, int(site))) == "es"


def test_a_company_may_want_a_reason_for_every_session(world: World) -> None:
    made = Family(world)
    ssh: dict[str, Any] = {"serial": S, "protocol": "ssh"}
    assert change(world, made.top, require_reason=True) == "ok"
    for reason in ("", "  \t "):
        with pytest.raises(Refused) as refused:
            world.do("sessions.open", reason=reason, **ssh)
        assert (refused.value.code, refused.value.field) == (Code.VALIDATION, "reason")
    assert world.do("sessions.open", reason="the pump", **ssh)["reason"] == "the pump"
    assert change(world, made.acme, require_reason=False) == "ok"
    assert world.ask("sessions.open", **ssh) == "ok"
