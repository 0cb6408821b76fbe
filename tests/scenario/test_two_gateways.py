"""Two gateways around one PostgreSQL do what one does, and one is enough when the other dies."""

import http.client
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier, Event, Lock

import pytest

from tests.conftest import SummaryRow
from tests.scenario.http_api import Answer, Api
from tests.scenario.installation import Installation, installed
from tests.scenario.racing import (
    race_below_one_payer,
    race_for_credits,
    race_to_register,
    race_with_one_key,
)

MOVES = 25
MOVES_LONG = 200
KILLS = 3
KILLS_LONG = 20
DEVICES = 60
CALLERS = 8
# Done before the strike, so that it meets callers who are in the middle of their work.
BEFORE_STRIKE = 12
SECOND = "gateway-2"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("two")
    with installed(folder, engine="postgresql", gateways=2) as found:
        yield found
        assert not found.tracebacks()


def test_the_last_credits_are_given_once(two: Installation) -> None:
    race_for_credits(two.apis, "Race", 1_420_000_001)
    race_to_register(two.apis, "Race to register", 1_421_000_001)
    race_below_one_payer(two.apis, "Above the race", 1_422_000_001)
    two.insist_verified()


def test_one_key_at_both_gateways_spends_once(two: Installation) -> None:
    race_with_one_key(two.apis, "One key", "1423000001")
    first, second = two.apis
    company = first.company("One after the other")
    first.grant(company, 5)
    first.register("1423000002", company, activate="later")
    path = "/devices/1423000002/activate"
    done = first.done("POST", path, {}, key="here and there")
    again = second.ask("POST", path, {}, key="here and there")
    assert (again.json, again.headers["Idempotency-Replayed"]) == (done, "true")
    other = second.ask("POST", path, {"credits": 2}, key="here and there")
    assert (other.status, other.code) == (409, "idempotency_conflict")
    assert second.credits(company)["credits"] == 4
    two.insist_verified()


def at_once(*requests: Callable[[], Answer]) -> list[Answer]:
    """The answers of requests that are made at the same moment."""
    line = Barrier(len(requests))

    def made(request: Callable[[], Answer]) -> Answer:
        line.wait()
        return request()

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(made, requests))


def move(api: Api, company: str, parent: str | None) -> Answer:
    return api.ask("POST", f"/companies/{company}/move", {"parent_id": parent})


def insist_no_cycle(api: Api) -> None:
    parents = {one["id"]: one["parent_id"] for one in api.items("/companies")}
    for company in parents:
        above: str | None = company
        for _ in range(len(parents) + 1):
            above = parents[above] if above is not None else None
        assert above is None, f"{company} is above itself: {parents}"


def crossing_moves(two: Installation, rounds: int) -> str:
    """Each company of a ring is moved below the next one, at both gateways at once."""
    refused = 0
    ring = [two.api.company(f"Ring {number}, {rounds} rounds") for number in range(3)]
    for number in range(rounds):
        size = 2 + number % 2
        apis = two.apis if number % 4 < 2 else two.apis[::-1]
        moves = [(apis[place % 2], ring[place], ring[(place + 1) % size]) for place in range(size)]
        answers = at_once(*(lambda a=api, c=one, p=to: move(a, c, p) for api, one, to in moves))
        refusals = [answer for answer in answers if answer.status != 200]
        # All but the last one to come can be done: the ring is closed by that one alone.
        assert [answer.code for answer in refusals] == ["would_make_a_cycle"], answers
        refused += len(refusals)
        insist_no_cycle(two.api)
        for company in ring:
            answer = move(two.api, company, None)
            assert answer.status == 200, answer.body
    two.insist_verified()
    return f"refused {refused}, never a cycle"


def test_crossing_moves_never_make_a_cycle(two: Installation) -> None:
    crossing_moves(two, MOVES)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_many_crossing_moves_never_make_a_cycle(two: Installation, summary_row: SummaryRow) -> None:
    summary_row("crossing moves at two gateways", MOVES_LONG, crossing_moves(two, MOVES_LONG))


@dataclass
class Callers:
    """Activations with a key each, by several callers at one gateway, until it is struck."""

    api: Api
    serials: Sequence[str]

    def __post_init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.broken: list[str] = []
        self.met = 0
        self.midway = Event()
        self._lock = Lock()

    def call(self, serial: str) -> None:
        try:
            answer = activate(self.api, serial)
        except (OSError, http.client.HTTPException) as error:
            # No answer: nobody knows whether it was done.
            refused = isinstance(getattr(error, "reason", error), ConnectionRefusedError)
            with self._lock:
                self.broken.append(serial)
                self.met += not refused
            return
        with self._lock:
            self.answers[serial] = answer
            if len(self.answers) >= BEFORE_STRIKE:
                self.midway.set()


def activate(api: Api, serial: str) -> Answer:
    return api.ask("POST", f"/devices/{serial}/activate", {}, key=f"activate {serial}")


def killed_under_callers(two: Installation, number: int) -> tuple[int, int, int]:
    """Kills the second gateway under its callers.

    How many were answered, how many were in the middle, and how many of these had been done.
    """
    first, second = two.apis
    company = first.company(f"Killed {number}")
    first.grant(company, DEVICES + 1)
    serials = [str(1_430_000_001 + number * 1_000 + index) for index in range(DEVICES)]
    for serial in serials:
        first.register(serial, company, activate="later")
    callers = Callers(second, serials)
    with ThreadPoolExecutor(CALLERS) as pool:
        calls = [pool.submit(callers.call, serial) for serial in serials]
        assert callers.midway.wait(20)
        former = two.kill_child(SECOND)
        for call in calls:
            call.result()
    assert {answer.status for answer in callers.answers.values()} == {200}
    # What was answered stands, what was not has one effect after it was repeated elsewhere.
    standing = first.devices(company)
    for serial in callers.answers:
        assert standing[serial]["service"]["state"] == "active"
    done_unheard = 0
    for serial in callers.broken:
        answer = activate(first, serial)
        assert answer.status == 200, answer.body
        done_unheard += answer.headers["Idempotency-Replayed"] == "true"
    rows = first.ledger(company=company, kind="activate")
    assert sorted(row["serial"] for row in rows) == serials
    assert {row["days"] for row in rows} == {30}
    assert first.credits(company)["credits"] == 1
    two.insist_verified()
    two.back(SECOND, former)
    return len(callers.answers), callers.met, done_unheard


def kills_under_callers(two: Installation, rounds: int, base: int) -> str:
    found = [killed_under_callers(two, base + number) for number in range(rounds)]
    answered, met, done = (sum(counts) for counts in zip(*found, strict=True))
    assert met, "vacuous: no caller was in the middle of anything"
    return (
        f"answered {answered}, in the middle {met}, of these done already {done}; "
        "each charged once, verified"
    )


def test_a_killed_gateways_callers_repeat_at_the_other(
    two: Installation, summary_row: SummaryRow
) -> None:
    summary_row("gateway killed under its callers", KILLS, kills_under_callers(two, KILLS, 0))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_many_kills_under_activations(two: Installation, summary_row: SummaryRow) -> None:
    text = kills_under_callers(two, KILLS_LONG, 100)
    summary_row("gateway killed under its callers, long", KILLS_LONG, text)
