"""Several gateways at one database: what one learns of the clock holds for all."""

from typing import Any

from sqlalchemy import select

from gateway.domain.instants import DAY_MS, HOUR_MS
from gateway.jobs import housekeeping, periods
from gateway.operations.clock_state import caution_of, known, trust_of
from gateway.storage.locks import Tree
from gateway.storage.schema import outage
from gateway.storage.store import Store
from tests.contract.faulty_clock import FaultyClock, HostToldGuard
from tests.contract.gateways import TwoGateways
from tests.databases import store_of

S = "0000000001"


def watched_second(two: TwoGateways) -> tuple[Store, HostToldGuard, FaultyClock]:
    """The second gateway, with clocks of its own."""
    clock = FaultyClock(two.world)
    guard = HostToldGuard(clock, two.world)
    two.second.close()
    two.second = store_of(two.world.address, lambda: two.world.now_ms, guard)
    guard.learn(*two.world.read(known))
    return two.second, guard, clock


def on(two: TwoGateways, store: Store, function: Any) -> Any:
    return two.world.wait(store.write(function))


def test_only_the_gateway_whose_clock_is_wrong_stops(two: TwoGateways) -> None:
    world = two.world
    company_id = world.company("Acme")
    world.grant(company_id, 5)
    world.register(S, company_id, "later")
    second, guard, clock = watched_second(two)
    clock.stepped_ms = HOUR_MS
    assert on(two, second, lambda tx: trust_of(tx).doubt)
    assert on(two, second, periods.expire_pools) == 0
    assert world.ask("devices.activate", serial=S) == "ok"
    # Accepted at the one, it holds at the other before that has looked.
    world.do("clock.accept")
    assert on(two, second, lambda tx: trust_of(tx).doubt) == ""
    guard.learn(*world.read(known))
    assert guard.trust().sure


def test_all_that_start_at_once_know_of_an_uncertain_clock(two: TwoGateways) -> None:
    world = two.world
    world.now_ms += 3 * DAY_MS
    two.at_once([housekeeping.begin] * 6, tree=Tree.ALONE)
    assert world.read(caution_of) is not None
    assert len(world.read(lambda tx: tx.all(select(outage)))) == 1
    # One that starts later, beside others, finds it as it is.
    two.at_once([housekeeping.begin], tree=Tree.ALONE)
    caution = world.read(caution_of)
    assert caution is not None and caution.since_ms == world.now_ms


def test_accepting_and_running_on_at_the_same_time(two: TwoGateways) -> None:
    world = two.world
    world.now_ms += 3 * DAY_MS
    two.at_once([housekeeping.begin], tree=Tree.ALONE)
    accept = world.work("clock.accept")
    for _ in range(5):
        two.at_once([housekeeping.mark_alive, housekeeping.mark_alive], tree=Tree.SHARED)
    alive = housekeeping.mark_alive
    for _ in range(5):
        outcomes = two.at_once([alive, accept, alive, accept, alive], tree=Tree.SHARED)
        assert not any(isinstance(one, BaseException) for one in outcomes)
        accepted, caution = world.read(known)
        assert accepted > 0 and caution is None
