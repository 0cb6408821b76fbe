"""What each role is shown of a thing that several may see, and what a shut door hides."""

import json
from typing import Any

import pytest
from sqlalchemy import delete, insert, update

from gateway.domain.instants import HOUR_MS
from gateway.domain.refusals import Refused
from gateway.domain.rights import Principal, Role, Scope, Token
from gateway.operations.registry import execute
from gateway.storage.schema import membership, setting, support_access
from gateway.storage.transaction import Transaction
from tests.contract.tunnel import S, Tunnel
from tests.contract.world import OPERATIONS, SITE, World

pytestmark = pytest.mark.either_engine

GPS = {"latitude": 484_000_000, "longitude": 99_000_000, "altitude": 500, "speed": 10}


def door(world: World, company_id: str, value: str) -> None:
    """The company's own word about people from above."""
    row = {"company_id": int(company_id), "key": "inside", "value": json.dumps(value)}

    def say(tx: Transaction) -> None:
        tx.run(delete(setting).where(setting.c.company_id == int(company_id)))
        tx.run(insert(setting), {**row, "set_at": tx.now_ms})

    world.write(say)


def let_in(world: World, company_id: str, for_ms: int) -> None:
    """Somebody inside lets support in."""
    row = {"company_id": int(company_id), "granted_by": "user:9", "reason": "help"}
    world.write(
        lambda tx: tx.run(
            insert(support_access),
            {**row, "granted_at": tx.now_ms, "until": tx.now_ms + for_ms},
        )
    )


class Family(Tunnel):
    """A device with a position, in a company below another whose people look at it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.top = world.company("Top")
        world.do("companies.move", company_id=self.acme, parent_id=self.top)
        world.heartbeat(S, values={"uptime": 9, **GPS})
        world.one_person(2, self.top, "administrator")


def test_billing_sees_names_and_days_and_nothing_of_the_device_itself(world: World) -> None:
    made = Family(world)
    world.one_person(3, made.acme, "billing")
    for shown in (
        world.do("devices.show", person=3, serial=S),
        world.do("devices.list", person=3)["items"][0],
    ):
        assert shown["serial"] == S and shown["service"]["days_left"] > 0
        assert shown["presence"] == {"state": "hidden", "last_heard_at": None}
        assert (shown["latest"], shown["counters"], shown["alerts"]) == ({}, None, [])
    line = world.do("devices.export", person=3, format="json")["items"][0]
    assert (line["presence"], line["last_heard_at"]) == ("hidden", None)
    # Asking for what is hidden tells nothing.
    assert world.do("devices.list", person=3, presence="online")["items"] == []
    assert world.do("devices.list", presence="online")["items"] != []
    own = world.do("devices.show", serial=S)
    assert own["latest"]["latitude"]["value"] == GPS["latitude"] and own["counters"]


def test_advanced_users_are_told_until_when_credits_last_and_no_figures(world: World) -> None:
    made = Family(world)
    world.one_person(3, made.acme, "advanced")
    full = world.do("companies.forecast", company_id=made.acme)
    told = world.do("companies.forecast", person=3, company_id=made.acme)
    assert full["lasts_until"] is not None and full["days"] > 0 and full["months"]
    assert told == full | {
        "days": None,
        "credits": None,
        "devices": None,
        "months": [],
        "wasted": [],
        "rate": None,
        "ahead": [],
        "balances": [],
    }


def test_roles_of_the_company_itself_reach_nothing_below(world: World) -> None:
    made = Family(world)
    for person, role in ((3, "basic"), (4, "read_only")):
        world.one_person(person, made.top, role)
        assert world.do("devices.list", person=person)["items"] == []
        assert world.do("devices.list", person=person, company=made.top)["items"] == []
        assert world.do("devices.export", person=person, format="json")["items"] == []
        listed = world.do("companies.list", person=person, company=made.top)["items"]
        assert [one["id"] for one in listed] == [made.top]
    assert [one["serial"] for one in world.do("devices.list", person=2)["items"]] == [S]


def test_a_shut_door_hides_position_and_sessions_from_above(world: World) -> None:
    made = Family(world)
    made.open()

    def seen() -> tuple[bool, int, bool, str, str]:
        """Position in three places; sessions; whether one may open another."""
        latest = world.do("devices.show", person=2, serial=S)["latest"]
        assert latest["uptime"]["value"] == 9  # state stays
        samples = world.do("devices.heartbeats", person=2, serial=S)["items"]
        sent = set(GPS) & {name for one in samples for name in one["fields"]}
        plot = world.ask("devices.series", person=2, serial=S, fields=["latitude"])
        opened = world.ask("sessions.open", person=2, serial=S, protocol="ssh")
        sessions = world.do("sessions.list", person=2)["items"]
        return bool(set(GPS) & set(latest)), len(sessions), bool(sent), plot, opened

    door(world, made.acme, "ask")
    assert seen() == (False, 0, False, "forbidden", "forbidden")
    # Its own people are not from above, nor is somebody of a company in between.
    assert "latitude" in world.do("devices.show", serial=S)["latest"]
    let_in(world, made.acme, HOUR_MS)
    shown = seen()
    assert shown[0] and shown[2:] == (True, "ok", "ok") and shown[1] > 0
    world.now_ms += HOUR_MS
    assert seen()[::2] == (False, False, "forbidden")
    door(world, made.acme, "open")
    assert seen()[::2] == (True, True, "ok")


def test_the_sweep_ends_sessions_from_above_when_the_door_shuts(world: World) -> None:
    made = Family(world)
    mine = made.open()["id"]
    theirs = world.do("sessions.open", person=2, serial=S, protocol="ssh")["id"]

    def state() -> tuple[str, str]:
        made.sweep()
        one, other = made.show(mine), made.show(theirs)
        return one["ended_because"] or "open", other["ended_because"] or "open"

    assert state() == ("open", "open")
    # Let in, they stay; and the door of a company above theirs does not concern them.
    door(world, made.top, "ask")
    let_in(world, made.acme, 10_000)
    door(world, made.acme, "ask")
    assert state() == ("open", "open")
    world.now_ms += 10_000
    made.state()
    assert state() == ("open", "right_lost")


def test_the_sweep_ends_sessions_when_a_membership_has_ended(world: World) -> None:
    made = Family(world)
    theirs = world.do("sessions.open", person=2, serial=S, protocol="ssh")["id"]
    until = world.now_ms + 5_000
    world.write(
        lambda tx: tx.run(update(membership).where(membership.c.person_id == 2).values(until=until))
    )
    made.sweep()
    assert made.show(theirs)["ended_because"] is None
    world.now_ms = until
    made.state()
    made.sweep()
    assert made.show(theirs)["ended_because"] == "right_lost"


def by_token(
    world: World, name: str, scope: Scope, companies: tuple[str, ...], **given: Any
) -> Any:
    """What an administrator's token is answered; the code of a refusal."""
    token = Token("t", frozenset({scope}), frozenset(map(int, companies)))
    op = OPERATIONS[name]

    def work(tx: Transaction) -> Any:
        memberships = world.principal(tx, 1).memberships
        assert Role.ADMINISTRATOR in memberships.values()
        who = Principal("user:1", 1, memberships=memberships, token=token)
        return execute(tx, op, who, SITE, op.input(**given))

    try:
        return world.write(work, op.tree)
    except Refused as refused:
        return refused.code.value


def test_a_token_reaches_no_session_that_it_is_not_for(world: World) -> None:
    made = Family(world)
    mine = made.open()["id"]
    other = (world.company("Other"),)
    # Its person's own sessions as well.
    for scope in (Scope.READ, Scope.DEVICES, Scope.CREDITS):
        assert by_token(world, "sessions.close", scope, (), session_id=mine) in (
            "forbidden",
            "not_found",
        )
    assert by_token(world, "sessions.close", Scope.REMOTE, other, session_id=mine) == "not_found"
    assert by_token(world, "sessions.show", Scope.ALL, other, session_id=mine) == "not_found"
    assert by_token(world, "sessions.list", Scope.ALL, other).items == []
    assert by_token(world, "sessions.list", Scope.CREDITS, (), mine=True).items == []
    assert len(by_token(world, "sessions.list", Scope.READ, (), mine=True).items) == 1
    assert by_token(world, "sessions.close", Scope.REMOTE, (made.acme,), session_id=mine).id == mine


def test_a_token_for_certain_companies_lists_these_and_all_below(world: World) -> None:
    made = Family(world)
    found = by_token(world, "devices.list", Scope.READ, (made.acme,))
    assert [one.serial for one in found.items] == [S]
    above = by_token(world, "devices.list", Scope.READ, (made.top,))
    assert [one.serial for one in above.items] == [S]
    beside = (world.company("Beside"),)
    assert by_token(world, "devices.list", Scope.READ, beside).items == []
    listed = by_token(world, "companies.list", Scope.READ, (made.acme,))
    assert [one.id for one in listed.items] == [made.acme]
