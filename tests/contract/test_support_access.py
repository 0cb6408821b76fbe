"""Support access: a company that asks people from above to stay out lets them in for a time."""

import json
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select

from gateway.domain.instants import MINUTE_MS
from gateway.domain.notices import Notice
from gateway.domain.refusals import Code, Refused
from gateway.storage.schema import audit, notice, session
from tests.contract.test_rights_shown import Family
from tests.contract.test_settings import change
from tests.contract.tunnel import S
from tests.contract.world import World

pytestmark = pytest.mark.either_engine


_TOLD: Any = (
    ("audit.list", {}),
    ("audit.list", {"serial": S}),
    ("audit.export", {"format": "csv"}),
    ("audit.export", {"format": "json"}),
    ("commands.list", {"serial": S}),
)


class Shut(Family):
    """A company that asks people from above to stay out, with people of its own."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.world = world
        world.one_person(3, self.acme, "administrator")
        world.one_person(4, self.acme, "advanced")
        world.one_person(5, self.acme, "basic")
        assert change(world, self.acme, as_=3, inside="ask") == "ok"

    def grant(self, as_: int, minutes: int = 60) -> str:
        given = {"company_id": self.acme, "minutes": minutes, "reason": "a look"}
        return self.world.ask("support-access.grant", person=as_, **given)

    def granted(self) -> Any:
        given = {"company_id": self.acme, "minutes": 60, "reason": " a  look "}
        return self.world.do("support-access.grant", person=4, **given)

    def opens(self) -> str:
        return self.world.ask("sessions.open", person=2, serial=S, protocol="ssh", minutes=120)

    def still_open(self) -> int:
        statement = select(func.count()).where(session.c.ended_at.is_(None))
        return int(self.world.read(lambda tx: tx.scalar(statement)))

    def listed(self, as_: int) -> Any:
        given = {"company_id": self.acme}
        return self.world.do("support-access.list", person=as_, **given)["items"]


def test_people_of_the_company_let_support_in_and_nobody_else_does(world: World) -> None:
    made = Shut(world)
    assert [made.grant(who) for who in (2, 5, 3, 4)] == ["forbidden", "forbidden", "ok", "ok"]
    with pytest.raises(Refused) as refused:
        world.do("support-access.grant", person=4, company_id=made.acme, minutes=1, reason="  ")
    assert refused.value.field == "reason"
    access = made.listed(4)[0]["id"]
    for who in (2, 5):
        given = {"company_id": made.acme, "access_id": access}
        assert world.ask("support-access.end", person=who, **given) == "forbidden"
    assert made.listed(2) == made.listed(4) == made.listed(5) and len(made.listed(2)) == 2


def test_inside_is_told_how_to_be_let_in(world: World) -> None:
    made = Shut(world)
    for name, given in (
        ("sessions.open", {"serial": S, "protocol": "ssh"}),
        ("targets.list", {"serial": S}),
        ("devices.series", {"serial": S, "fields": ["latitude"]}),
    ):
        with pytest.raises(Refused) as refused:
            world.do(name, person=2, **given)
        assert refused.value.code is Code.FORBIDDEN, name
    with pytest.raises(Refused, match="support access"):
        world.do("sessions.open", person=2, serial=S, protocol="ssh")
    # State, days and credits stay.
    assert world.ask("devices.show", person=2, serial=S) == "ok"
    assert world.ask("companies.credits", person=2, company_id=made.acme) == "ok"


def test_a_support_access_opens_for_its_time_and_sessions_end_with_it(world: World) -> None:
    made = Shut(world)
    access = made.granted()
    assert (access["reason"], access["granted_by"], access["in_force"]) == (
        "a look",
        "user:4",
        True,
    )
    assert made.opens() == "ok"
    own = world.do("sessions.open", person=3, serial=S, protocol="ssh", minutes=120)["id"]
    world.live(60 * MINUTE_MS - 1, jobs=False)
    made.sweep()
    assert made.still_open() == 2
    world.live(1, jobs=False)
    assert made.opens() == "forbidden"
    made.sweep()
    assert made.still_open() == 1
    assert world.do("sessions.show", person=3, session_id=own)["ended_because"] is None
    assert [one["in_force"] for one in made.listed(2)] == [False]


def test_a_support_access_that_is_ended_early_closes_sessions_at_the_next_sweep(
    world: World,
) -> None:
    made = Shut(world)
    access = made.granted()
    assert made.opens() == "ok"
    ended = {"company_id": made.acme, "access_id": access["id"]}
    over = world.do("support-access.end", person=3, **ended)
    assert (over["in_force"], over["ended_by"]) == (False, "user:3")
    assert made.opens() == "forbidden"
    made.sweep()
    assert made.still_open() == 0
    world.live(MINUTE_MS, jobs=False)
    assert world.do("support-access.end", person=4, **ended) == over  # stays as it was
    again = {**ended, "access_id": "999"}
    assert world.ask("support-access.end", person=3, **again) == "not_found"


def test_shutting_the_door_ends_sessions_of_people_from_above(world: World) -> None:
    made = Shut(world)
    assert change(world, made.acme, as_=3, inside="open") == "ok"
    assert made.opens() == "ok"
    assert change(world, made.acme, as_=3, inside="ask") == "ok"
    made.sweep()
    assert made.still_open() == 0


def test_a_support_access_of_another_company_is_not_found_by_number(world: World) -> None:
    made = Shut(world)
    access = made.granted()["id"]
    other = world.company("Beside")
    given = {"company_id": other, "access_id": access}
    assert world.ask("support-access.end", **given) == "not_found"
    assert world.ask("support-access.end", **{**given, "access_id": "x"}) == "not_found"
    assert made.listed(3)[0]["in_force"]


def test_the_audit_and_commands_tell_people_from_above_nothing_of_what_is_inside(
    world: World,
) -> None:
    made = Shut(world)
    plc = {"name": "plc", "target": "10.9.8.7:502", "protocol": "tcp"}
    world.do("targets.create", person=3, serial=S, **plc)
    opened = world.do("sessions.open", person=5, serial=S, protocol="ssh", minutes=30)

    def told(person: int) -> str:
        whole = [world.do(name, person=person, **more) for name, more in _TOLD]
        return json.dumps(whole, default=msgspec.to_builtins)

    secrets = ("10.9.8.7", opened["id"], "session.opened", "target.created")
    assert not any(secret in told(2) for secret in secrets) and "devices.register" in told(2)
    assert all(secret in told(3) for secret in secrets)
    made.granted()
    assert all(secret in told(2) for secret in secrets)
    own = world.do("sessions.open", person=2, serial=S, protocol="http", minutes=30)
    world.live(60 * MINUTE_MS, jobs=False)
    assert own["id"] in told(2) and opened["id"] not in told(2)


def test_both_sides_are_told_of_a_support_access(world: World) -> None:
    made = Shut(world)
    made.granted()
    statement = select(notice.c.company_id).where(notice.c.kind == Notice.SUPPORT_ACCESS.value)
    told = {row.company_id for row in world.read(lambda tx: tx.all(statement))}
    assert told == {int(made.acme), int(made.top)}
    sentences = [one["sentence"] for one in world.do("notices.list", company_id=made.acme)["items"]]
    assert any("may look inside" in one and "a look" in one for one in sentences), sentences
    row = world.read(lambda tx: tx.one(select(audit).where(audit.c.verb == "support-access.grant")))
    assert row is not None and row.company_id == int(made.acme)
    assert json.loads(row.detail)["minutes"] == 60
