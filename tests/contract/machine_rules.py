"""What may happen to an installation: people, devices and time, each as a rule of the machine."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from gateway.domain.instants import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    SECOND_MS,
    day_of,
    day_text,
    month_of,
)
from tests.contract.machine_base import COMPANIES_MAX, SERIALS, MachineBase

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
BACK_MS = [SECOND_MS, HOUR_MS, DAY_MS, 5 * DAY_MS, 40 * DAY_MS]
LATE_MS = [-HOUR_MS, 0, SECOND_MS, HOUR_MS, HOUR_MS + 1, 90 * MINUTE_MS, DAY_MS, 5 * DAY_MS]

serials = st.sampled_from(SERIALS)
picks = st.integers(0, 99)
amounts = st.sampled_from([1, 15, 30, 60, 95, 300])


class TreeRules(MachineBase):
    """Companies: made, moved, stopped, closed; and what decides about paying."""

    @rule(
        pick=picks,
        to=picks,
        what=st.sampled_from("create move flag limit suspend resume resume".split()),
        flag=st.sampled_from([True, True, False]),
        limit=st.sampled_from([None, None, 0, 1, 3]),
    )
    def change_tree(self, pick: int, to: int, what: str, flag: bool, limit: int | None) -> None:
        company_id, parent = self.company(pick), self.company(to)
        node = self.nodes[company_id]
        given: dict[str, Any] = {"company_id": company_id}
        match what:
            case "create" if len(self.nodes) < COMPANIES_MAX:
                self.create(company_id)
            case "move":
                if self.ask("companies.move", **given, parent_id=parent, use_parent_credits=flag):
                    node.parent, node.flag = parent, flag
            case "flag":
                if self.ask("companies.change", **given, use_parent_credits=flag):
                    node.flag = flag
            case "limit":
                if self.ask("companies.change", **given, parent_limit=limit):
                    node.limit = limit
            case "suspend":
                if self.ask("companies.suspend", **given, reason="late"):
                    node.suspended = True
            case "resume":
                if self.ask("companies.resume", **given):
                    node.suspended = False
        self.look()

    @rule(
        pick=picks,
        plan=st.sampled_from(["daily", "daily", "block"]),
        unregister=st.sampled_from(["refund", "forfeit"]),
        grace_days=st.sampled_from([0, 3, 3, 30]),
    )
    def change_terms(self, pick: int, plan: str, unregister: str, grace_days: int) -> None:
        given = {"plan": plan, "unregister": unregister, "grace_days": grace_days}
        company_id = self.company(pick)
        if self.ask("companies.change", company_id=company_id, **given) and plan == "daily":
            self.nodes[company_id].was_daily = True
        self.look()


class CreditRules(MachineBase):
    """Credits that come from outside."""

    @rule(
        pick=st.sampled_from([1, 1, 0, 0, 2, 3]),
        days=amounts,
        lasts=st.sampled_from([None, 0, 5, 45]),
        free=st.booleans(),
    )
    def grant(self, pick: int, days: int, lasts: int | None, free: bool) -> None:
        today = day_of(self.world.now_ms)
        more = {} if lasts is None else {"expires_on": day_text(today + lasts)}
        company_id = self.company(pick)
        before = self.plain.issued
        if self.ask("credits.grant", company_id=company_id, days=days, free=free, **more):
            self.look()
            assert self.plain.issued == before + days


class DeviceRules(MachineBase):
    """Devices: registered, paid for, heard, ended."""

    @rule(
        serial=serials,
        pick=picks,
        activate=st.sampled_from([True, "on_contact", "on_contact", "later"]),
        join=st.booleans(),
    )
    def register(self, serial: str, pick: int, activate: bool | str, join: bool) -> None:
        self.step.by_hand.add(serial)
        given = {"serial": serial, "company_id": self.company(pick), "activate": activate}
        if self.ask("devices.register", **given) and join and self.world.login(serial) is None:
            self.world.join(serial)
        self.look()

    @rule(serial=serials, credits=st.integers(1, 3), extend=st.booleans())
    def pay(self, serial: str, credits: int, extend: bool) -> None:
        self.step.by_hand.add(serial)
        verb = "extend" if extend else "activate"
        self.ask(f"devices.{verb}", serial=serial, credits=credits)
        self.look()

    @rule(serial=serials, rarely=st.integers(0, 5))
    def unregister(self, serial: str, rarely: int) -> None:
        if rarely == 0:
            self.ask("devices.unregister", serial=serial)
            self.look()

    @rule(serial=serials, wanted=st.sampled_from([True, True, True, False]))
    def auto_extend(self, serial: str, wanted: bool) -> None:
        self.ask("devices.change", serial=serial, auto_extend=wanted)
        self.look()

    @rule(heard=st.lists(serials, min_size=1, max_size=8), samples=st.integers(1, 4))
    def heartbeats(self, heard: list[str], samples: int) -> None:
        self.hear(heard, samples)

    @rule(serial=serials)
    def router_restarts(self, serial: str) -> None:
        self.world.router(serial).restart(self.world.new_run())


class TimeRules(CreditRules):
    """Time passes, and does what it should not; servers come and go."""

    @rule(ms=st.sampled_from(PASSING_MS), jobs=st.booleans())
    def live(self, ms: int, jobs: bool) -> None:
        self._serve(ms)
        self.world.live(ms, jobs=jobs)
        self.look()

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
        if not MINUTE_MS < ms < 200 * DAY_MS:
            return
        if before:
            self.hear([serial], 1)
        if how == "off":
            self.world.outage(ms)
        else:
            self._serve(ms)
            self.world.live(ms, jobs=how == "jobs")
        self.look()
        if after:
            self.hear([serial], 1)

    @rule(hours=st.sampled_from([2, 24, 24, 48, 65 * 24]))
    def outage(self, hours: int) -> None:
        self.world.outage(hours * HOUR_MS)
        self.look()

    @rule(ms=st.sampled_from(BACK_MS), jobs=st.booleans(), rarely=st.integers(0, 3))
    def clock_goes_back(self, ms: int, jobs: bool, rarely: int) -> None:
        if rarely == 0:
            # A row of the ledger says how far the clock had come.
            self.grant(pick=0, days=1, lasts=None, free=True)
            self.world.now_ms -= ms
            self.world.alive()  # as a server that works says every few seconds
            self.grant(pick=0, days=1, lasts=None, free=True)
            if jobs:
                self.world.jobs()
            self.look()

    @rule(serial=serials)
    def servers_start_again(self, serial: str) -> None:
        self.start_again()
        self.world.jobs()
        self.look()
        self.hear([serial], 1)

    @rule()
    def other_gateway(self) -> None:
        """What follows is asked of the other one."""
        at = self.stores.index(self.world.store)
        self.world.store = self.stores[(at + 1) % len(self.stores)]

    @rule()
    def jobs(self) -> None:
        self.world.jobs()
        self.look()

    def _serve(self, ms: int) -> None:
        for fair in self.fair.values():
            fair.served(self.world.now_ms, ms)

    def last_month(self) -> str:
        """The month before this one, as statements name it."""
        number = month_of(self.world.now_ms)
        year, month = divmod(number, 100)
        return f"{year - (month == 1)}-{12 if month == 1 else month - 1:02d}"
