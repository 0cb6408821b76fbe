"""A broken router's place taken by another; undone; forgotten devices."""

import json
from typing import Any

import pytest
from sqlalchemy import select

from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS
from gateway.domain.refusals import Refused
from gateway.jobs import housekeeping
from gateway.operations.recovering import recover
from gateway.storage.schema import enrolment, replacement
from tests.contract.world import SITE, World

pytestmark = pytest.mark.either_engine

OLD, NEW = "6003600201", "6003600202"


@pytest.fixture
def company(world: World) -> str:
    made = world.company("Acme")
    world.grant(made, 5)
    return made


@pytest.fixture
def broken(world: World, company: str) -> str:
    """A device with a name and a target, served for a day and a half."""
    world.register(OLD, company, True)
    world.join(OLD)
    world.up(OLD)
    world.heartbeat(OLD)
    world.do(
        "devices.change",
        serial=OLD,
        alias="pump",
        name="Pump house",
        tags=["north"],
        notes="key at the gate",
        reference="A-77",
        auto_extend=False,
    )
    world.do("targets.create", serial=OLD, name="PLC", target="192.168.1.2:502", protocol="tcp")
    world.live(DAY_MS + 12 * HOUR_MS)
    return company


def replace(world: World) -> dict[str, object]:
    made: dict[str, object] = world.do("devices.replace", broken=OLD, serial=NEW)
    return made


def kept(world: World) -> Any:
    """What is kept for undoing."""
    return json.loads(world.read(lambda tx: tx.scalar(select(replacement.c.kept))))


def test_name_days_and_history_carry_over(world: World, broken: str) -> None:
    before = world.device(OLD)
    shown = world.do("devices.replace", broken=OLD, serial=NEW)
    same = ("alias", "name", "company_id", "tags", "notes", "reference", "auto_extend", "service")
    assert {name: shown[name] for name in same} == {name: before[name] for name in same}
    assert shown["service"]["days_left"] == 28
    assert shown["joined_at"] is None and shown["presence"]["state"] == "never"
    assert [t["name"] for t in world.do("targets.list", serial=NEW)["items"]] == ["PLC"]
    assert world.kinds(OLD) == [("activate", 30)]
    assert world.kinds(NEW) == [("carry", 30)]
    assert "went over to 6003600202" in world.ledger(serial=NEW)[0]["sentence"]
    assert world.pools(broken) == 120
    assert world.ask("devices.show", serial=OLD) == "not_found"
    world.join(NEW, secret="c")
    world.up(NEW)
    assert world.heartbeat(NEW).stored == 1
    assert world.service(NEW) == ("active", "paid")
    samples = world.do("devices.heartbeats", serial=NEW)["items"]
    assert [sample["run"] for sample in samples] == [
        world.router(NEW).run,
        world.router(OLD).run,
    ]
    world.live(MINUTE_MS)
    since: dict[str, Any] = {"from": "2027-01-14T00:00:00Z"}
    plotted = world.do("devices.series", serial=NEW, fields=["uptime"], **since)
    assert sum(n or 0 for n in plotted["fields"][0]["count"]) == 2


def test_the_old_router_wakes_up_and_is_refused(world: World, broken: str) -> None:
    assert world.login(OLD) is not None
    code = world.do("devices.join", serial=OLD)["join"]
    assert code
    replace(world)
    paid_until = world.device(NEW)["service"]["paid_until"]
    assert world.login(OLD) is None
    credentials = world.read(lambda tx: tx.all(select(enrolment)))
    assert credentials == []
    # Its login is gone; a message that was on its way all the same changes nothing.
    outcome = world.heartbeat(OLD)
    assert (outcome.unknown, outcome.stored, outcome.receipts) == (1, 0, [])
    with pytest.raises(Refused):
        world.join(OLD)
    with pytest.raises(Refused):
        world.write(lambda tx: recover(tx, SITE, OLD, "old record"))
    world.jobs()
    assert world.device(NEW)["service"]["paid_until"] == paid_until
    assert world.prepaid(NEW) == 30
    assert world.kinds(OLD) == [("activate", 30)]


def test_undone_everything_is_back(world: World, broken: str) -> None:
    before, login = world.device(OLD), world.login(OLD)
    replace(world)
    world.join(NEW, secret="c")
    world.heartbeat(NEW)
    world.live(12 * HOUR_MS)
    back = world.do("devices.undo-replace", serial=NEW)
    assert back["serial"] == OLD
    same = ("alias", "name", "company_id", "tags", "notes", "reference", "auto_extend", "mac")
    assert {name: back[name] for name in same} == {name: before[name] for name in same}
    assert back["service"]["paid_until"] == before["service"]["paid_until"]
    assert back["service"]["days_left"] == 28  # of 30, two days after activation
    assert world.login(OLD) == login
    assert world.login(NEW) is None
    assert [t["name"] for t in world.do("targets.list", serial=OLD)["items"]] == ["PLC"]
    assert world.ask("devices.show", serial=NEW) == "not_found"
    assert world.kinds(OLD) == [("activate", 30), ("carry", 30)]
    world.router(OLD)
    assert world.heartbeat(OLD).stored == 1
    assert len(world.do("devices.heartbeats", serial=OLD)["items"]) == 3
    assert world.ask("devices.undo-replace", serial=OLD) == "cannot_replace"
    # The new serial is what it was: unknown to everybody.
    assert world.ask("devices.register", serial=NEW, company_id=broken) == "ok"


@pytest.mark.parametrize("named", [OLD, NEW])
def test_a_day_later_it_is_too_late(world: World, broken: str, named: str) -> None:
    replace(world)
    world.live(DAY_MS + 1)
    assert world.ask("devices.undo-replace", serial=named) == "too_late"
    assert world.device(NEW)["company_id"] == broken


def test_undone_at_the_last_moment(world: World, broken: str) -> None:
    replace(world)
    world.live(DAY_MS)
    assert world.do("devices.undo-replace", serial=OLD)["company_id"] == broken


def test_a_registered_serial_takes_the_place_and_is_there_again_when_undone(
    world: World, broken: str
) -> None:
    world.register(NEW, broken, "later")
    world.do("devices.change", serial=NEW, alias="spare", name="On the shelf")
    before = world.device(NEW)
    assert replace(world)["alias"] == "pump"
    world.do("devices.undo-replace", serial=NEW)
    assert world.device(NEW) == before
    assert world.device(OLD)["alias"] == "pump"


def test_an_alias_that_was_given_away_meanwhile_stays_given_away(world: World, broken: str) -> None:
    world.register(NEW, broken, "later")
    world.do("devices.change", serial=NEW, alias="spare")
    replace(world)
    world.register("6003600209", broken, "later")
    world.do("devices.change", serial="6003600209", alias="spare")
    world.do("devices.undo-replace", serial=NEW)
    assert world.device(NEW)["alias"] is None
    assert world.device("6003600209")["alias"] == "spare"


def test_what_cannot_take_the_place(world: World, broken: str) -> None:
    mine, other = "6003600203", world.company("Other")
    world.register(NEW, broken, True)
    assert world.ask("devices.replace", broken=OLD, serial=NEW) == "cannot_replace"
    world.register(mine, broken, "later")
    world.join(mine)
    assert world.ask("devices.replace", broken=OLD, serial=mine) == "cannot_replace"
    world.register("6003600204", other, "later")
    assert world.ask("devices.replace", broken=OLD, serial="6003600204") == "serial_unavailable"
    assert world.ask("devices.replace", broken=OLD, serial=OLD) == "validation"
    assert world.ask("devices.replace", broken=OLD, serial="no") == "validation"
    assert world.ask("devices.replace", broken="6003600299", serial=NEW) == "not_found"
    world.one_person(2, other, "administrator")
    assert world.ask("devices.replace", person=2, broken=OLD, serial="6003600298") == "not_found"
    world.one_person(3, broken, "billing")
    assert world.ask("devices.replace", person=3, broken=OLD, serial="6003600298") == "forbidden"
    assert world.device(OLD)["service"]["days_left"] == 28


def test_a_registration_elsewhere_that_lapsed_gives_way(world: World, company: str) -> None:
    other = world.company("Other")
    world.grant(other, 1)
    world.register(NEW, other, True)
    world.live(31 * DAY_MS)
    world.register(OLD, company, True)
    world.do("devices.replace", broken=OLD, serial=NEW)
    assert world.device(NEW)["company_id"] == company
    assert world.do("devices.undo-replace", serial=NEW)["serial"] == OLD
    assert world.ask("devices.show", serial=NEW) == "not_found"


def test_a_dormant_serial_joins_anew_and_sleeps_again_when_undone(
    world: World, broken: str
) -> None:
    world.register(NEW, broken, "later")
    world.join(NEW)
    world.do("devices.unregister", serial=NEW)
    replace(world)
    assert world.login(NEW) is None
    assert world.device(NEW)["joined_at"] is None
    world.do("devices.undo-replace", serial=NEW)
    woken = world.register(NEW, broken)
    assert woken["joined_at"] is not None
    assert world.login(NEW) is not None


def test_replaced_twice_the_days_are_there_once(world: World, broken: str) -> None:
    third = "6003600205"
    replace(world)
    world.do("devices.replace", broken=NEW, serial=third)
    assert world.balance("prepaid:") == 30
    assert world.ask("devices.undo-replace", serial=OLD) == "cannot_replace"
    world.do("devices.undo-replace", serial=third)
    world.do("devices.undo-replace", serial=OLD)
    assert world.prepaid(OLD) == 30
    assert world.device(OLD)["name"] == "Pump house"
    assert world.pools(broken) == 120


def test_undone_when_the_old_serial_was_registered_again(world: World, broken: str) -> None:
    replace(world)
    world.register(OLD, broken, "later")
    assert world.ask("devices.undo-replace", serial=NEW) == "serial_unavailable"
    world.do("devices.unregister", serial=OLD)
    assert world.do("devices.undo-replace", serial=NEW)["serial"] == OLD


def test_a_device_never_heard_gives_everything_back_through_both(
    world: World, company: str
) -> None:
    world.grant(company, 1, expires_on="2027-06-30", free=True)
    world.register(OLD, company, True)
    replace(world)
    assert world.do("devices.unregister", serial=NEW)["days_returned"] == 30
    assert world.balance(f"pool:{company}:2027-06-30:free:given") == 30


def test_the_new_router_that_never_came_costs_nothing_more(world: World, company: str) -> None:
    world.register(OLD, company, True)
    world.join(OLD)
    world.heartbeat(OLD)
    replace(world)
    world.live(30 * DAY_MS)
    assert world.service(NEW) == ("off", "unheard")
    assert world.pools(company) == 120
    world.join(NEW)
    world.heartbeat(NEW)
    assert world.service(NEW) == ("active", "paid")


def test_the_credential_that_is_kept_for_undoing_goes(world: World, broken: str) -> None:
    replace(world)
    world.do("devices.undo-replace", serial=NEW)
    assert kept(world) == {}


def test_it_is_kept_no_longer_than_it_can_be_wanted(world: World, broken: str) -> None:
    replace(world)
    world.live(DAY_MS)
    assert world.write(housekeeping.clean) == 0
    assert kept(world)["credential"] is not None
    world.live(1)
    assert world.write(housekeeping.clean) == 1
    assert kept(world) == {}
    assert world.write(housekeeping.clean) == 0


def test_forgotten_devices_are_nobodys(world: World, broken: str) -> None:
    ended = world.do("devices.forget", serial=OLD)
    assert (ended["days_forfeited"], ended["days_used"]) == (28, 2)
    assert world.login(OLD) is None
    assert world.read(lambda tx: tx.all(select(enrolment))) == []
    assert world.ask("devices.forget", serial=OLD) == "not_found"
    again = world.register(OLD, broken)
    assert again["joined_at"] is None  # nothing wakes it


def test_a_dormant_device_can_be_forgotten(world: World, broken: str) -> None:
    world.do("devices.unregister", serial=OLD)
    world.one_person(2, broken, "billing")
    assert world.ask("devices.forget", person=2, serial=OLD) == "forbidden"
    world.do("devices.forget", serial=OLD)
    assert world.register(OLD, broken)["joined_at"] is None


def test_people_read_who_replaced_and_forgot(world: World, broken: str) -> None:
    replace(world)
    world.live(MINUTE_MS)
    world.do("devices.undo-replace", serial=NEW)
    world.do("devices.forget", serial=OLD)
    verbs = [e["verb"] for e in world.do("audit.list", serial=OLD)["items"]]
    assert [v for v in verbs if v.startswith("device.")] == [
        "device.forgotten",
        "device.replacement_undone",
        "device.replaced",
    ]
