"""Any sequence of operations, heartbeats, jobs and time, against a plain model of what is fair."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from gateway.domain.instants import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    SECOND_MS,
    day_of,
    day_text,
    month_of,
)
from gateway.domain.refusals import Code
from gateway.storage.transaction import AnyRow
from tests.conftest import SummaryRow
from tests.contract.figures import charges_after, figures, newest_tenures
from tests.contract.world import OPERATIONS, World
from tests.databases import Databases

SERIALS = [f"machine-{number}" for number in range(5)]
COMPANIES_MAX = 7
ALWAYS = {Code.NOT_FOUND, Code.VALIDATION}
PASSING_MS = [
    SECOND_MS,
    MINUTE_MS,
    HOUR_MS - 1,
    HOUR_MS + 1,
    DAY_MS,
    DAY_MS + HOUR_MS,
    3 * DAY_MS,
    12 * DAY_MS + 12 * HOUR_MS,
    30 * DAY_MS,
    30 * DAY_MS + 1,
]

LATE_MS = [-HOUR_MS, 0, SECOND_MS, HOUR_MS, HOUR_MS + 1, 90 * MINUTE_MS, DAY_MS, 5 * DAY_MS]

serials = st.sampled_from(SERIALS)
picks = st.integers(0, 99)


class Fair:
    """What one device may be charged for, kept without looking at how the gateway counts."""

    def __init__(self) -> None:
        self.device_id = 0
        self.registered = False
        self.period: tuple[int, int] | None = None
        self.last: tuple[int, int] | None = None  # the period before
        self.heard_ms: int | None = None
        self.grace_ms = 0  # served in grace and not paid for
        self.grace_until: int | None = None
        self.in_grace = False


class Node:
    """A company as the model knows it."""

    def __init__(self, parent: str | None) -> None:
        self.parent = parent
        self.flag = False
        self.limit: int | None = None
        self.suspended = False


class LedgerMachine(RuleBasedStateMachine):
    """After each step the ledger agrees with itself and with what is fair."""

    databases: Databases

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.databases.make())
        self.nodes: dict[str, Node] = {}
        self.fair = {serial: Fair() for serial in SERIALS}
        self.granted = 0
        self.seq = 0
        self.taken: dict[tuple[str, int], int] = {}
        self.by_contact: set[str] = set()
        self.by_hand: set[str] = set()
        for parent in (None, 0, 1, 2):
            self._create(None if parent is None else list(self.nodes)[parent])
        self.grant(pick=1, days=90, lasts=None, free=False)
        for serial in SERIALS[:3]:
            self.register(serial, 1, "on_contact", True)
            self.heartbeats([serial], 1)

    def teardown(self) -> None:
        try:
            self.world.jobs()
            self._look()
            self.world.check()
        finally:
            self.world.close()
            self.databases.drop(self.world.address)

    # ---- what may happen

    def _ask(self, name: str, /, **given: Any) -> bool:
        code = self.world.ask(name, **given)
        if code == "ok":
            return True
        told = {one.value for one in (*OPERATIONS[name].errors, *ALWAYS)}
        assert code in told, f"{name} refuses with {code}, which it does not declare"
        return False

    def _company(self, pick: int) -> str:
        return list(self.nodes)[pick % len(self.nodes)]

    def _create(self, parent: str | None) -> None:
        flag = parent is not None
        made = self.world.company(f"C{len(self.nodes)}", parent, use_parent_credits=flag)
        self.nodes[made] = Node(parent)
        self.nodes[made].flag = flag

    @rule(
        pick=picks,
        to=picks,
        what=st.sampled_from("create move flag limit suspend resume resume".split()),
        flag=st.sampled_from([True, True, False]),
        limit=st.sampled_from([None, None, 0, 1, 3]),
    )
    def change_tree(self, pick: int, to: int, what: str, flag: bool, limit: int | None) -> None:
        company_id, parent = self._company(pick), self._company(to)
        node = self.nodes[company_id]
        given: dict[str, Any] = {"company_id": company_id}
        match what:
            case "create" if len(self.nodes) < COMPANIES_MAX:
                self._create(company_id)
            case "move":
                if self._ask("companies.move", **given, parent_id=parent, use_parent_credits=flag):
                    node.parent, node.flag = parent, flag
            case "flag":
                if self._ask("companies.change", **given, use_parent_credits=flag):
                    node.flag = flag
            case "limit":
                assert self._ask("companies.change", **given, parent_limit=limit)
                node.limit = limit
            case "suspend":
                assert self._ask("companies.suspend", **given, reason="late")
                node.suspended = True
            case "resume":
                assert self._ask("companies.resume", **given)
                node.suspended = False
        self._look()

    @rule(
        pick=st.sampled_from([1, 1, 0, 0, 2, 3]),
        days=st.sampled_from([1, 15, 30, 60, 95, 300]),
        lasts=st.sampled_from([None, 0, 5, 45]),
        free=st.booleans(),
    )
    def grant(self, pick: int, days: int, lasts: int | None, free: bool) -> None:
        today = day_of(self.world.now_ms)
        more = {} if lasts is None else {"expires_on": day_text(today + lasts)}
        company_id = self._company(pick)
        assert self._ask("credits.grant", company_id=company_id, days=days, free=free, **more)
        self.granted += days
        self._look()

    @rule(
        serial=serials,
        pick=picks,
        activate=st.sampled_from([True, "on_contact", "on_contact", "later"]),
        join=st.booleans(),
    )
    def register(self, serial: str, pick: int, activate: bool | str, join: bool) -> None:
        self.by_hand.add(serial)
        company_id = self._company(pick)
        given = {"serial": serial, "company_id": company_id, "activate": activate}
        if self._ask("devices.register", **given) and join and self.world.login(serial) is None:
            self.world.join(serial)
        self._look()

    @rule(serial=serials, credits=st.integers(1, 3), extend=st.booleans())
    def pay(self, serial: str, credits: int, extend: bool) -> None:
        self.by_hand.add(serial)
        verb = "extend" if extend else "activate"
        self._ask(f"devices.{verb}", serial=serial, credits=credits)
        self._look()

    @rule(serial=serials, rarely=st.integers(0, 5))
    def unregister(self, serial: str, rarely: int) -> None:
        if rarely == 0:
            self._ask("devices.unregister", serial=serial)
            self._look()

    @rule(serial=serials, wanted=st.sampled_from([True, True, True, False]))
    def auto_extend(self, serial: str, wanted: bool) -> None:
        self._ask("devices.change", serial=serial, auto_extend=wanted)
        self._look()

    @rule(heard=st.lists(serials, min_size=1, max_size=8), samples=st.integers(1, 4))
    def heartbeats(self, heard: list[str], samples: int) -> None:
        self.by_contact |= set(heard)
        sent = [(one, "hb", self.world.router(one).message(samples, low=1)) for one in heard]
        self.world.deliver(*sent, *sent[:2])
        for serial in heard:
            if self.fair[serial].registered:
                self.fair[serial].heard_ms = self.world.now_ms
        self._look()

    @rule(serial=serials)
    def restart(self, serial: str) -> None:
        self.world.router(serial).restart(self.world.new_run())

    @rule(ms=st.sampled_from(PASSING_MS), jobs=st.booleans())
    def live(self, ms: int, jobs: bool) -> None:
        self._served(ms)
        self.world.live(ms, jobs=jobs)
        self._look()

    @rule(
        serial=serials,
        before=st.booleans(),
        after=st.booleans(),
        late_ms=st.sampled_from(LATE_MS),
        how=st.sampled_from("jobs jobs quiet off".split()),
    )
    def to_the_end(self, serial: str, before: bool, after: bool, late_ms: int, how: str) -> None:
        """To the instant that matters for a device: its period's end, or that of its grace."""
        fair = self.fair[serial]
        end_ms = fair.grace_until if fair.period is None else fair.period[1]
        ms = (end_ms or 0) + late_ms - self.world.now_ms
        if ms <= MINUTE_MS:
            return
        if before:
            self.heartbeats([serial], 1)
        if how == "off":
            self.world.outage(ms)
        else:
            self._served(ms)
            self.world.live(ms, jobs=how == "jobs")
        self._look()
        if after:
            self.heartbeats([serial], 1)

    @rule(hours=st.sampled_from([2, 24, 24, 48, 65 * 24]))
    def outage(self, hours: int) -> None:
        self.world.outage(hours * HOUR_MS)
        self._look()

    @rule()
    def jobs(self) -> None:
        self.world.jobs()
        self._look()

    # ---- what must be so

    def _served(self, ms: int) -> None:
        """Time that devices in grace are served for nothing."""
        for fair in self.fair.values():
            if fair.in_grace and fair.grace_until is not None:
                fair.grace_ms += max(0, min(ms, fair.grace_until - self.world.now_ms))

    def _look(self) -> None:
        self._sums()
        self._charges()
        rows = {row.serial: row for row in self.world.read(newest_tenures)}
        for serial, row in rows.items():
            self._fairly(serial, row)
        self.by_contact.clear()
        self.by_hand.clear()

    def _sums(self) -> None:
        found = self.world.read(figures)
        assert found["stored"] + found["sinks"] == found["issued"] == self.granted
        assert found["negative"] == found["prepaid_wrong"] == found["twice"] == 0, found

    def _charges(self) -> None:
        """Each charge: nobody suspended, flags set all the way, within every limit."""
        rows = self.world.read(lambda tx: charges_after(tx, self.seq))
        asked: dict[str, tuple[list[str], int, int]] = {}
        for row in rows:
            self.seq = row.seq
            path = row.payer_path.split("/")
            before = asked.get(row.operation_id, (path, 0, row.at))
            assert before[0] == path
            asked[row.operation_id] = (path, before[1] + row.days, row.at)
        for path, days, at in asked.values():
            assert days % 30 == 0
            for below, above in pairwise(path):
                node = self.nodes[below]
                assert node.parent == above and node.flag
                key = (below, month_of(at))
                self.taken[key] = self.taken.get(key, 0) + days
                assert node.limit is None or self.taken[key] <= node.limit * 30
            assert not any(self.nodes[one].suspended for one in self._up(path[0]))

    def _up(self, company_id: str) -> list[str]:
        found = [company_id]
        while (parent := self.nodes[found[-1]].parent) is not None:
            found.append(parent)
        return found

    def _fairly(self, serial: str, row: AnyRow) -> None:
        fair = self.fair[serial]
        if (row.id, bool(row.registered)) != (fair.device_id, fair.registered):
            # Another registration begins or ends: nothing is owed from before.
            self.fair[serial] = fair = Fair()
            fair.device_id, fair.registered = row.id, bool(row.registered)
            if serial in self.by_contact:
                fair.heard_ms = self.world.now_ms
        now = None if row.period_start is None else (row.period_start, row.period_end)
        if now is not None and (fair.period is None or now[0] != fair.period[0]):
            self._begun(serial, fair, now)
        if fair.period is not None and (now is None or now[0] != fair.period[0]):
            fair.last = fair.period
        fair.period = now
        in_grace = row.reason == "grace"
        if in_grace and not fair.in_grace and fair.grace_ms == 0:
            fair.grace_ms = self.world.now_ms - row.grace_from
            assert 0 <= fair.grace_ms <= HOUR_MS and fair.last is not None
        fair.in_grace, fair.grace_until = in_grace, row.grace_until

    def _begun(self, serial: str, fair: Fair, now: tuple[int, int]) -> None:
        """A period began in this step."""
        clock_ms, last = self.world.now_ms, fair.period or fair.last
        start_ms, end_ms = now
        assert start_ms <= clock_ms < end_ms and (end_ms - start_ms) % (30 * DAY_MS) == 0
        seamless = last is not None and start_ms == last[1] and clock_ms - start_ms <= HOUR_MS
        # Nothing is charged for but what lies ahead, and what was served in grace.
        assert seamless or clock_ms - start_ms <= fair.grace_ms
        assert last is None or start_ms >= last[1]
        if serial not in self.by_contact | self.by_hand:
            since = 0 if last is None else last[0]
            assert fair.heard_ms is not None and fair.heard_ms >= since, "never heard, but charged"
        fair.grace_ms = 0


def machine(databases: Databases) -> type[LedgerMachine]:
    """The machine's class over such databases."""
    return type("Machine", (LedgerMachine,), {"databases": databases})


QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def play(databases: Databases, *, examples: int, steps: int, derandomize: bool) -> None:
    run_state_machine_as_test(
        machine(databases),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=derandomize,
            suppress_health_check=QUIET,
        ),
    )


def test_a_few_lives_of_an_installation(databases: Databases) -> None:
    # Each of a statement's ways to the other engine and back takes its time.
    examples = 25 if databases.engine == "sqlite" else 5
    play(databases, examples=examples, steps=50, derandomize=True)


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_many_lives_of_an_installation(databases: Databases, summary_row: SummaryRow) -> None:
    examples = 300 if databases.engine == "sqlite" else 60
    play(databases, examples=examples, steps=80, derandomize=False)
    amount = f"{examples} of up to 80 steps on {databases.engine}"
    summary_row("lives of an installation", amount, "ledger fair after each")
