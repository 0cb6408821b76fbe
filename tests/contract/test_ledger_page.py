"""`docs/ledger.md` against the program: its lists are whole, its examples are recomputed."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, instant_text
from gateway.domain.ledger import DAYS_PER_CREDIT, Kind, Sink
from gateway.domain.periods import GRACE_DAYS_DEFAULT, GRACE_DAYS_MAX, SEAMLESS_MS
from gateway.domain.service import PAIRS, UNSERVED_INTERVAL_S, State
from gateway.domain.verification import WAYS
from tests.contract.tables import ROOT, tables
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

S = "1100000001"
PAGE = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
TABLES = tables("ledger.md")


def test_every_kind_of_transfer_is_described_as_it_is() -> None:
    said = {
        row["kind"]: (set(row["from"].split(", ")), set(row["to"].split(", ")))
        for row in TABLES["kind | from | to | when"]
    }
    assert said == {
        kind.value: ({source for source, _ in ways}, {target for _, target in ways})
        for kind, ways in WAYS.items()
    }
    assert set(WAYS) == set(Kind)


def test_every_account_is_described() -> None:
    said = {row["account"].split(":")[0] for row in TABLES["account | holds | balance"]}
    assert said == {sink.value for sink in Sink} | {"pool", "prepaid", "code"}


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


def moved_down(world: World) -> str:
    top = world.company("Top")
    low = world.company("Low", top)
    world.do("credits.grant", company_id=top, days=20, expires_on="2027-01-31")
    world.do("credits.grant", company_id=top, days=30)
    world.do("credits.move", source=top, target=low, days=30)
    until = world.balance(f"pool:{low}:2027-01-31:paid:given")
    return f"{until} until January, {world.balance(f'pool:{low}:never:')} that stay"


def _sold(world: World, seller: str) -> str:
    buyer = world.company("Buyer")
    world.do("devices.move", serial=S, company_id=buyer, history="leave")
    assert world.device(S)["company_id"] == buyer != seller
    return buyer


def sold_unheard(world: World) -> str:
    acme = world.company("Acme")
    world.do("credits.grant", company_id=acme, days=30, expires_on="2027-01-20")
    world.register(S, acme, activate=True)
    _sold(world, acme)
    world.live(DAY_MS)
    ended = world.do("devices.unregister", serial=S)
    back = world.balance(f"pool:{acme}:2027-01-20:")
    assert ended["days_returned"] == back
    return f"{back} back in the seller's lot"


def sold(world: World) -> str:
    acme = begin(world)
    world.live(12 * DAY_MS + 12 * HOUR_MS)
    _sold(world, acme)
    carried = sum(days for kind, days in world.kinds(S) if kind == "carry")
    return f"{world.device(S)['service']['days_left']} left, {carried} carried"


def unregistered_by_the_buyer(world: World) -> str:
    sold(world)
    ended = world.do("devices.unregister", serial=S)
    return f"{ended['days_forfeited']} forfeited, {ended['days_used']} used"


def replaced_and_undone(world: World) -> str:
    begin(world)
    world.live(DAY_MS + 12 * HOUR_MS)
    world.do("devices.replace", broken=S, serial="2200000002")
    world.live(12 * HOUR_MS)
    world.do("devices.undo-replace", serial=S)
    return f"{world.device(S)['service']['days_left']} left"


def given(world: World) -> str:
    acme = begin(world)
    world.live(12 * DAY_MS + 12 * HOUR_MS)
    before = world.pools(acme)
    world.do("credits.give", serial=S, days=5)
    left = world.device(S)["service"]["days_left"]
    return f"{left} left, the payer has {before - world.pools(acme)} less"


def _code(world: World, days: int) -> tuple[str, str]:
    """A code of so many days, the first ten of them until January; and who may redeem it."""
    acme = world.company("Acme")
    world.do("credits.grant", company_id=acme, days=10, expires_on="2027-01-31")
    world.do("credits.grant", company_id=acme, days=20)
    code = world.do("credit-codes.create", company_id=acme, days=days)["code"]
    world.live(20 * DAY_MS)
    return code, world.company("Other")


def partly_expired(world: World) -> str:
    code, other = _code(world, 30)
    got = world.do("credit-codes.redeem", code=code, company_id=other)
    return f"{got['days']} given, {got['days_expired']} expired"


def wholly_expired(world: World) -> str:
    code, other = _code(world, 10)
    return world.ask("credit-codes.redeem", code=code, company_id=other)


def taken_back(world: World) -> str:
    begin(world)
    (grant,) = world.ledger(kind="grant")
    world.do("credits.reverse", transfer=grant["id"])
    return f"{sum(row['days'] for row in world.ledger(kind='reverse'))} taken back"


def refunded(world: World) -> str:
    acme = begin(world)
    world.set_company(acme, unregister="refund")
    world.live(12 * DAY_MS + 12 * HOUR_MS)
    ended = world.do("devices.unregister", serial=S)
    return f"{ended['days_returned']} back, {ended['days_used']} used"


def by_the_day(world: World) -> str:
    acme = world.company("Acme", plan="daily")
    world.grant(acme, 1)
    world.register(S, acme)
    for heard in (True, False, True, False, True):
        if heard:
            world.heartbeat(S)
            world.heartbeat(S)
        world.live(DAY_MS)
    days = sum(row["days"] for row in world.ledger(kind="day"))
    return f"{days} taken, {world.pools(acme)} left"


def plan_changed(world: World) -> str:
    acme = begin(world)
    world.set_company(acme, plan="daily")
    world.live(29 * DAY_MS + 12 * HOUR_MS)
    world.heartbeat(S)
    world.live(DAY_MS)
    world.heartbeat(S)
    return ", ".join(f"{days} {kind}" for kind, days in _charges(world))


def _charges(world: World) -> list[tuple[str, int]]:
    rows = reversed(world.ledger())
    return [(row["kind"], row["days"]) for row in rows if row["kind"] in ("activate", "day")]


def priced(world: World) -> str:
    top = world.company("Top")
    low = world.company("Low", top, use_parent_credits=True)
    world.grant(top, 3)
    price: dict[str, Any] = {"per_credit": "1.85", "currency": "EUR", "from": "2027-01-01"}
    world.do("companies.price", company_id=low, **price)
    world.register(S, low)
    world.heartbeat(S)
    world.do("credits.move", source=top, target=low, days=15)
    month: dict[str, Any] = {"from": "2027-01", "group_by": "child"}
    (line,) = world.do("companies.statement", company_id=top, **month)["children"]
    (amount,) = line["amounts"]
    return f"{amount['days']} days, {amount['amount']} {amount['currency']}"


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
    moved_down,
    sold_unheard,
    sold,
    unregistered_by_the_buyer,
    replaced_and_undone,
    given,
    partly_expired,
    wholly_expired,
    taken_back,
    refunded,
    by_the_day,
    plan_changed,
    priced,
)
EXAMPLES = TABLES["example | result"]


def test_every_example_is_computed() -> None:
    assert len(EXAMPLES) == len(COMPUTED)


@pytest.mark.parametrize(("row", "compute"), list(zip(EXAMPLES, COMPUTED, strict=True)))
def test_each_example(world: World, row: dict[str, str], compute: Callable[[World], str]) -> None:
    assert compute(world) == row["result"], row["example"]
