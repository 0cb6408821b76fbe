"""`docs/ledger.md` against the program: its lists are whole, its examples are recomputed."""

from collections.abc import Callable

import pytest

from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, instant_text
from gateway.domain.ledger import DAYS_PER_CREDIT, Kind, Sink
from gateway.domain.periods import GRACE_DAYS_DEFAULT, GRACE_DAYS_MAX, SEAMLESS_MS
from gateway.domain.service import PAIRS, UNSERVED_INTERVAL_S, State
from gateway.domain.verification import WAYS
from tests.contract.tables import ROOT, tables
from tests.contract.world import World

S = "1100000001"
PAGE = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
TABLES = tables("ledger.md")


def test_every_kind_of_transfer_is_described_as_it_is() -> None:
    said = {
        row["kind"]: {(row["from"], target) for target in row["to"].split(", ")}
        for row in TABLES["kind | from | to | when"]
    }
    assert said == {kind.value: set(ways) for kind, ways in WAYS.items()}
    assert set(WAYS) == set(Kind)


def test_every_account_is_described() -> None:
    said = {row["account"].split(":")[0] for row in TABLES["account | holds | balance"]}
    assert said == {sink.value for sink in Sink} | {"pool", "prepaid"}


def test_every_pair_of_state_and_reason_is_described() -> None:
    said = {(row["state"], row["reason"]) for row in TABLES["state | reason | meaning"]}
    assert said == {(pair.state.value, pair.reason.value) for pair in PAIRS}
    assert {pair.state for pair in PAIRS} == set(State)


FIGURES = [
    f"**1 credit = {DAYS_PER_CREDIT} days**",
    f"at most {SEAMLESS_MS // SECOND_MS:,} s ago",
    f"`grace_days` ({GRACE_DAYS_DEFAULT} unless changed, 0 to {GRACE_DAYS_MAX})",
    f"send every {UNSERVED_INTERVAL_S // 60} minutes",
    f"`end = start + days × {DAY_MS // SECOND_MS:,} s`",
]


@pytest.mark.parametrize("figure", FIGURES)
def test_figures_are_those_of_the_program(figure: str) -> None:
    assert figure in PAGE


def begin(world: World, credits: int = 3) -> str:
    acme = world.company("Acme")
    world.grant(acme, credits)
    world.register(S, acme)
    world.heartbeat(S)
    return acme


def period(world: World) -> str:
    row = world.row(S)
    assert row.period_start is not None
    return f"from {instant_text(row.period_start)} until {instant_text(row.period_end)}"


def paid_until(world: World) -> str:
    begin(world)
    return str(world.device(S)["service"]["paid_until"])


def left(world: World) -> str:
    begin(world)
    world.live(SECOND_MS)
    return str(world.device(S)["service"]["days_left"])


def unregistered(world: World) -> str:
    begin(world)
    world.live(12 * DAY_MS + 12 * HOUR_MS)
    ended = world.do("devices.unregister", serial=S)
    return f"{ended['days_forfeited']} forfeited, {ended['days_used']} used"


def extended(world: World) -> str:
    begin(world)
    world.live(30 * DAY_MS + 59 * MINUTE_MS)
    return period(world)


def heard_late(world: World) -> str:
    begin(world)
    world.live(30 * DAY_MS + 61 * MINUTE_MS)
    world.heartbeat(S)
    return period(world)


def in_grace(world: World) -> str:
    acme = begin(world, 1)
    world.live(30 * DAY_MS)
    world.live(36 * HOUR_MS)
    world.heartbeat(S)
    world.grant(acme, 1)
    world.jobs()
    return period(world)


def _after_grace(world: World) -> None:
    acme = begin(world, 1)
    world.live(30 * DAY_MS)
    for _ in range(20):
        world.live(DAY_MS)
        world.heartbeat(S)
    world.grant(acme, 1)
    world.jobs()


def after_grace(world: World) -> str:
    _after_grace(world)
    return period(world)


def left_after_grace(world: World) -> str:
    _after_grace(world)
    return str(world.device(S)["service"]["days_left"])


def outage(world: World) -> str:
    begin(world)
    world.live(10 * DAY_MS)
    world.outage(65 * DAY_MS)
    world.heartbeat(S)
    return period(world)


def lots(world: World) -> str:
    acme = world.company("Acme")
    for given in ({"days": 20, "expires_on": "2027-01-31"}, {"days": 15, "free": True}):
        world.do("credits.grant", company_id=acme, **given)
    world.do("credits.grant", company_id=acme, days=15)
    world.register(S, acme)
    world.heartbeat(S)
    names = {
        f"pool:{acme}:2027-01-31:paid:given": "until January",
        f"pool:{acme}:never:free:given": "free",
        f"pool:{acme}:never:paid:given": "paid",
    }
    rows = reversed(world.ledger(kind="activate"))
    return ", ".join(f"{row['days']} {names[row['from_account']]}" for row in rows)


# In the order of the page.
COMPUTED: tuple[Callable[[World], str], ...] = (
    paid_until,
    left,
    unregistered,
    extended,
    heard_late,
    in_grace,
    after_grace,
    left_after_grace,
    outage,
    lots,
)
EXAMPLES = TABLES["example | result"]


def test_every_example_is_computed() -> None:
    assert len(EXAMPLES) == len(COMPUTED)


@pytest.mark.parametrize(("row", "compute"), list(zip(EXAMPLES, COMPUTED, strict=True)))
def test_each_example(world: World, row: dict[str, str], compute: Callable[[World], str]) -> None:
    assert compute(world) == row["result"], row["example"]
