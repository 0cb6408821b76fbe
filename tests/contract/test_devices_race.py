"""Devices that are moved, replaced and heard at the same moment, at two gateways."""

from collections import Counter
from functools import partial

from sqlalchemy import func, select

from gateway.domain.instants import DAY_MS, HOUR_MS
from gateway.ingest.batch import Incoming, Terms, take_batch
from gateway.ingest.intake import read_payload
from gateway.storage.locks import Tree
from gateway.storage.schema import heartbeat
from tests.contract.gateways import TwoGateways, Work
from tests.contract.world import World

SERIALS = [f"6003600{number:03}" for number in range(400, 408)]


def served(world: World, company: str, serials: list[str]) -> None:
    for serial in serials:
        world.register(serial, company, True)
        world.join(serial)
        world.heartbeat(serial)


def beat(world: World, serials: list[str]) -> Work:
    """One heartbeat of each device, in one batch."""
    incoming = []
    for serial in serials:
        payload = world.router(serial).message(low=1)
        incoming.append(
            Incoming(serial, read_payload(f"fg1/d/{serial}/hb", "hb", payload), world.now_ms)
        )
    terms = Terms("node-1", world.now_ms, 4, 5)
    return partial(take_batch, batch=incoming, terms=terms)


def samples(world: World) -> int:
    statement = select(func.count()).select_from(heartbeat)
    return int(world.read(lambda tx: tx.scalar(statement)))


def test_two_moves_that_cross(two: TwoGateways) -> None:
    world = two.world
    one, other = world.company("One"), world.company("Other")
    world.grant(one, 20)
    served(world, one, SERIALS)
    for serial in SERIALS[:4]:
        world.do("devices.move", serial=serial, company_id=other, history="leave")
    there = {"serials": SERIALS[4:], "company_id": other, "history": "leave"}
    back = {"serials": SERIALS[:4], "company_id": one, "history": "leave"}
    assert two.ask_at_once("devices.move-many", [there, back]) == ["ok", "ok"]
    assert {world.device(serial)["company_id"] for serial in SERIALS[:4]} == {one}
    assert {world.device(serial)["company_id"] for serial in SERIALS[4:]} == {other}
    assert world.balance("prepaid:") == 8 * 30


def test_one_device_is_sold_once(two: TwoGateways) -> None:
    world = two.world
    one = world.company("One")
    world.grant(one, 1)
    served(world, one, SERIALS[:1])
    buyers = [world.company(f"Buyer{number}") for number in range(4)]
    given = [{"serial": SERIALS[0], "company_id": buyer, "history": "leave"} for buyer in buyers]
    # Whoever sees all of them sells it on, one after the other; the days are there once.
    assert Counter(two.ask_at_once("devices.move", given)) == {"ok": 4}
    assert world.balance("prepaid:") == 30 == world.prepaid(SERIALS[0])


def test_devices_are_heard_while_they_are_sold(two: TwoGateways) -> None:
    world = two.world
    one, other = world.company("One"), world.company("Other")
    world.grant(one, 20)
    served(world, one, SERIALS)
    target = one
    for _ in range(4):
        target = other if target == one else one
        world.now_ms += 60_000
        works: list[Work] = [
            world.work("devices.move", serial=serial, company_id=target, history="leave")
            for serial in SERIALS
        ]
        beats = [beat(world, SERIALS[n : n + 2]) for n in range(0, 8, 2)]
        mixed = [work for pair in zip(works[:4], beats, strict=True) for work in pair] + works[4:]
        for outcome in two.at_once(mixed):
            assert not isinstance(outcome, BaseException), outcome
    # What came while its device changed hands was not receipted, so it is sent again.
    for serial in SERIALS:
        router = world.router(serial)
        world.deliver((serial, "hb", router.message(5, number=1, base=0)))
    assert samples(world) == 8 * 5
    assert world.balance("prepaid:") == 8 * 30


def test_a_broken_router_is_replaced_once(two: TwoGateways) -> None:
    world = two.world
    acme = world.company("Acme")
    world.grant(acme, 1)
    served(world, acme, SERIALS[:1])
    given = [{"broken": SERIALS[0], "serial": new} for new in SERIALS[1:7]]
    told = Counter(two.ask_at_once("devices.replace", given))
    assert told == {"ok": 1, "not_found": 5}
    assert world.balance("prepaid:") == 30


def test_one_router_takes_one_place(two: TwoGateways) -> None:
    world = two.world
    acme = world.company("Acme")
    world.grant(acme, 6)
    served(world, acme, SERIALS[:6])
    given = [{"broken": broken, "serial": SERIALS[7]} for broken in SERIALS[:6]]
    told = Counter(two.ask_at_once("devices.replace", given))
    assert told == {"ok": 1, "cannot_replace": 5}
    assert world.balance("prepaid:") == 6 * 30


def test_two_that_replace_each_other(two: TwoGateways) -> None:
    world = two.world
    acme = world.company("Acme")
    one, other = SERIALS[:2]
    world.register(one, acme, "later")
    world.register(other, acme, "later")
    given = [{"broken": one, "serial": other}, {"broken": other, "serial": one}] * 3
    told = two.ask_at_once("devices.replace", given)
    assert "ok" in told and set(told) <= {"ok", "not_found"}


def test_the_old_router_is_heard_while_it_is_replaced(two: TwoGateways) -> None:
    world = two.world
    acme = world.company("Acme")
    world.grant(acme, 4)
    served(world, acme, SERIALS[:4])
    world.now_ms += DAY_MS
    works: list[Work] = []
    for broken, new in zip(SERIALS[:4], SERIALS[4:], strict=True):
        works += [world.work("devices.replace", broken=broken, serial=new), beat(world, [broken])]
    for outcome in two.at_once(works):
        assert not isinstance(outcome, BaseException), outcome
    assert {world.device(new)["service"]["days_left"] for new in SERIALS[4:]} == {29}
    assert {world.login(broken) for broken in SERIALS[:4]} == {None}


def test_replaced_and_undone_at_once(two: TwoGateways) -> None:
    world = two.world
    acme = world.company("Acme")
    world.grant(acme, 1)
    served(world, acme, SERIALS[:1])
    world.do("devices.replace", broken=SERIALS[0], serial=SERIALS[1])
    world.now_ms += HOUR_MS
    told = Counter(two.ask_at_once("devices.undo-replace", [{"serial": SERIALS[1]}] * 4))
    assert told["ok"] == 1 and sum(told.values()) == 4
    assert set(told) <= {"ok", "not_found", "cannot_replace"}
    assert world.prepaid(SERIALS[0]) == 30


def test_closed_once(two: TwoGateways) -> None:
    world = two.world
    parent = world.company("Parent")
    leaving = world.company("Leaving", parent)
    world.grant(leaving, 9)
    works = [world.work("companies.close", company_id=leaving) for _ in range(4)]
    outcomes = two.at_once(works, tree=Tree.ALONE)
    assert sum(not isinstance(one, BaseException) for one in outcomes) == 1
    assert world.pools(parent) == 270
