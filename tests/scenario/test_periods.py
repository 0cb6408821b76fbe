"""Months lived by a moved clock while real agents go on sending."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.scenario.fleet import Fleet, until_online
from tests.scenario.history_checker import Journal
from tests.scenario.http_api import Api
from tests.scenario.installation import DAY_S, Installation, installed, instant_s, until

INTERVAL_S = 1
PERIOD_S = 30 * DAY_S
HEARD, SILENT = 1_900_000_001, 1_900_000_101
SOON_S = 15.0
RECHECK_S_MAX = 60.0  # within a minute of a grant, says credits.md


class Scene:
    """Agents of one company: some that go on, and one whose process will be killed."""

    def __init__(self, stack: ExitStack, folder: Path, credits: int, heard: int) -> None:
        self.installation: Installation = stack.enter_context(installed(folder))
        self.company = self.api.company("Periods")
        self.api.grant(self.company, credits)
        join = self.api.join_code(self.company, heard + 1)
        self.heard = Fleet(self.installation, join, heard, HEARD, INTERVAL_S, folder / "heard")
        self.silent = Fleet(self.installation, join, 1, SILENT, INTERVAL_S, folder / "silent")
        for fleet in (self.heard, self.silent):
            stack.callback(fleet.kill)
            fleet.start()
        until_online(self.api, heard + 1)
        self.until_service(*self.serials, state="active", reason="paid")

    @property
    def api(self) -> Api:
        return self.installation.api

    @property
    def serials(self) -> list[str]:
        return [*self.heard.serials, *self.silent.serials]

    @property
    def credits(self) -> int:
        return int(self.api.credits(self.company)["credits"])

    def service(self, serial: str) -> Any:
        return self.api.device(serial)["service"]

    def paid_until(self, serial: str) -> float:
        found = self.service(serial)["paid_until"]
        return 0.0 if found is None else instant_s(found)

    def until_service(
        self, *serials: str, state: str, reason: str, within_s: float = SOON_S
    ) -> None:
        def reached() -> bool:
            found = [self.service(serial) for serial in serials]
            return {(one["state"], one["reason"]) for one in found} == {(state, reason)}

        until(reached, f"{serials} are {state}, {reason}", within_s=within_s)

    def until_paid_until(self, expected: dict[str, float]) -> None:
        until(
            lambda: {serial: self.paid_until(serial) for serial in expected} == expected,
            f"paid until {expected}",
            within_s=SOON_S,
        )

    def until_heard_now(self) -> None:
        """Each of the agents that go on has a stored sample from after this call."""
        now_s = self.installation.now_s()

        def heard() -> bool:
            pages = (
                self.api.get(f"/devices/{serial}/heartbeats?limit=1")["items"]
                for serial in self.heard.serials
            )
            return all(items and instant_s(items[0]["at"]) > now_s for items in pages)

        until(heard, "stored after the clock was moved", within_s=SOON_S)

    def rows(self, serial: str) -> list[tuple[str, int]]:
        return [(row["kind"], row["days"]) for row in self.api.ledger(serial=serial)]

    def prepaid_days(self, serial: str) -> int:
        return prepaid_days(self.installation, serial)


def prepaid_days(installation: Installation, serial: str) -> int:
    """What the ledger's rows leave in the device's account."""
    days = 0
    for row in installation.api.ledger(serial=serial):
        days += row["days"] * row["to_account"].startswith("prepaid:")
        days -= row["days"] * row["from_account"].startswith("prepaid:")
    return days


@contextmanager
def scene(folder: Path, *, credits: int, heard: int) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack, folder, credits, heard)


@pytest.mark.timeout(150)
def test_periods_follow_one_another_and_grace_is_paid_for_later(tmp_path: Path) -> None:
    with scene(tmp_path, credits=8, heard=2) as now:
        installation, (silent,) = now.installation, now.silent.serials
        assert now.credits == 5
        ends = {serial: now.paid_until(serial) for serial in now.serials}
        now.silent.kill()
        # One minute before the end nothing has happened yet.
        installation.move_clock(PERIOD_S - 60)
        now.until_heard_now()
        assert now.credits == 5
        # Past the end: extended where the old period ended. The silent one was heard in it.
        installation.move_clock(120)
        ends = {serial: end + PERIOD_S for serial, end in ends.items()}
        now.until_paid_until(ends)
        assert now.credits == 2
        for serial in now.serials:
            assert now.rows(serial) == [("activate", 30), ("serve", 30), ("extend", 30)]
        row = now.api.ledger(serial=now.serials[0])[-1]
        assert row["payer_company_id"] == now.company
        assert row["payer_path"] == [now.company]
        assert now.serials[0] in row["sentence"] and "Periods" in row["sentence"]
        # In the second period it was not heard: the others are extended, it is not.
        now.until_heard_now()
        installation.move_clock(PERIOD_S)
        del ends[silent]
        ends = {serial: end + PERIOD_S for serial, end in ends.items()}
        now.until_paid_until(ends)
        now.until_service(silent, state="off", reason="unheard")
        assert now.credits == 0
        assert now.prepaid_days(silent) == 0
        in_grace(now, ends)
        installation.insist_verified()
        assert not installation.tracebacks()


def in_grace(now: Scene, ends: dict[str, float]) -> None:
    """Nobody can pay: served on; what is paid a day later counts from where grace began."""
    installation = now.installation
    now.until_heard_now()
    installation.move_clock(PERIOD_S)
    now.until_service(*ends, state="active", reason="grace")
    assert all(now.prepaid_days(serial) == 0 for serial in ends)
    now.until_heard_now()
    installation.move_clock(DAY_S)
    now.until_heard_now()
    # A day that was lived by a moved clock is no outage.
    moved_s = installation.now_s()
    until(
        lambda: instant_s(now.api.status()["jobs"]["alive"]) > moved_s,
        "the mark of being alive is made",
        within_s=20,
    )
    now.until_service(*ends, state="active", reason="grace")
    now.api.grant(now.company, 2)
    now.until_service(*ends, state="active", reason="paid", within_s=RECHECK_S_MAX)
    now.until_paid_until({serial: end + PERIOD_S for serial, end in ends.items()})
    assert now.credits == 0
    # Next time nobody pays at all: after three days of grace service ends.
    installation.move_clock(PERIOD_S - DAY_S)
    now.until_service(*ends, state="active", reason="grace")
    installation.move_clock(3 * DAY_S)
    now.until_service(*ends, state="unpaid", reason="no_credit")
    assert all(now.prepaid_days(serial) == 0 for serial in ends)


@pytest.mark.timeout(120)
def test_an_outage_of_65_days_costs_nothing(tmp_path: Path) -> None:
    with scene(tmp_path, credits=10, heard=2) as now:
        installation, (silent,) = now.installation, now.silent.serials
        assert now.credits == 7
        now.silent.kill()
        now.until_heard_now()
        installation.stop()
        installation.move_clock(65 * DAY_S)
        installation.start()
        now.until_heard_now()
        now.until_service(*now.heard.serials, state="active", reason="paid")
        now.until_service(silent, state="off", reason="unheard")
        # One new credit for each that reports again, from now on; none for who is silent.
        assert now.credits == 5
        for serial in now.heard.serials:
            rows = now.rows(serial)
            assert rows == [("activate", 30), ("serve", 30), ("activate", 30)]
            assert abs(now.paid_until(serial) - installation.now_s() - PERIOD_S) < 120
        assert now.rows(silent) == [("activate", 30), ("serve", 30)]
        # No day in between was counted for anybody.
        days = installation.rows("SELECT DISTINCT day FROM monitored_day ORDER BY day")
        assert len(days) == 2
        assert days[1][0] - days[0][0] in (64, 65, 66)
        installation.insist_verified()
        assert not installation.tracebacks()


@pytest.mark.timeout(150)
def test_unregistering_forfeits_and_the_same_agent_is_woken_from_the_desk(tmp_path: Path) -> None:
    with scene(tmp_path, credits=4, heard=1) as now:
        api, installation, (serial,) = now.api, now.installation, now.heard.serials
        assert now.credits == 2
        installation.move_clock(12.5 * DAY_S)
        now.until_heard_now()
        runs = {item["run"] for item in api.heartbeats(serial)}
        gone = api.done("DELETE", f"/devices/{serial}")
        assert (gone["days_forfeited"], gone["days_used"], gone["days_returned"]) == (17, 13, 0)
        assert sorted(now.rows(serial)) == [("activate", 30), ("forfeit", 17), ("serve", 13)]
        assert now.prepaid_days(serial) == 0
        assert api.ask("GET", f"/devices/{serial}").status == 404
        until(
            lambda: "connected=0" in now.heard.log.splitlines()[-1],
            "the agent lost its connection",
            within_s=30,
        )
        installation.insist_verified()
        # Registered again: the agent, which was not touched, comes back by itself.
        before = len(Journal().read([now.heard.journal]).made)
        woken = api.register(serial, now.company)
        assert woken["service"]["state"] == "off"
        now.until_service(serial, state="active", reason="paid", within_s=60)
        assert now.credits == 1
        assert now.rows(serial)[-1] == ("activate", 30)
        now.until_heard_now()
        assert {item["run"] for item in api.heartbeats(serial)} == runs
        assert api.device(serial)["presence"]["state"] == "online"
        assert len(Journal().read([now.heard.journal]).made) > before
        installation.insist_verified()


@pytest.mark.timeout(90)
def test_credits_that_expire_are_not_spent(tmp_path: Path) -> None:
    with installed(tmp_path) as installation:
        api = installation.api
        company = api.company("Expiry")
        today = api.status()["at"][:10]
        api.grant(company, 2, expires_on=today)
        api.grant(company, 1, expires_on="2099-12-31")
        api.register("1950000001", company, activate=True)
        assert api.credits(company)["credits"] == 2
        installation.move_clock(DAY_S)
        # Not spendable from the first moment on; the job only books it.
        assert api.credits(company)["credits"] == 1
        api.register("1950000002", company, activate=True)
        answer = api.ask(
            "POST",
            "/devices",
            {"serial": "1950000003", "company_id": company, "activate": True},
        )
        assert answer.code == "credits_insufficient"
        # The job comes by once a minute, and at each start.
        installation.stop()
        installation.start()
        until(lambda: api.ledger(company=company, kind="expire"), "booked", within_s=SOON_S)
        (row,) = api.ledger(company=company, kind="expire")
        assert (row["days"], row["to_account"]) == (30, "expired")
        installation.insist_verified()
