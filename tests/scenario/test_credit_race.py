"""Twenty processes want the last five credits; requests that are repeated spend once."""

from collections import Counter

import pytest

from tests.conftest import SummaryRow
from tests.scenario.http_api import Api
from tests.scenario.installation import Installation
from tests.scenario.racing import Result, race

RACERS = 20
CREDITS = 5
ROUNDS_LONG = 20


def codes(results: list[Result]) -> Counter[str]:
    return Counter("done" if status < 300 else body["code"] for status, body, _ in results)


def race_for_credits(api: Api, name: str, first: int) -> None:
    company = api.company(name)
    api.grant(company, CREDITS)
    serials = [str(first + index) for index in range(RACERS)]
    for serial in serials:
        api.register(serial, company, activate="later")
    results = race(api, [(f"/devices/{serial}/activate", {}, "") for serial in serials])
    assert codes(results) == {"done": CREDITS, "credits_insufficient": RACERS - CREDITS}
    credits = api.credits(company)
    assert (credits["credits"], credits["days"]) == (0, 0)
    winners = {body["serial"] for status, body, _ in results if status == 200}
    rows = api.ledger(company=company, kind="activate")
    assert {row["serial"] for row in rows} == winners
    assert [row["days"] for row in rows] == [30] * CREDITS
    states = {serial: row["service"]["state"] for serial, row in api.devices(company).items()}
    assert {serial for serial, state in states.items() if state == "active"} == winners


def test_twenty_processes_race_for_the_last_five_credits(
    installation: Installation, api: Api
) -> None:
    race_for_credits(api, "Race", 1_400_000_001)
    installation.insist_verified()


def test_registering_with_a_credit_now_races_alike(installation: Installation, api: Api) -> None:
    company = api.company("Race to register")
    api.grant(company, CREDITS)
    bodies = [
        {"serial": str(1_401_000_001 + index), "company_id": company, "activate": True}
        for index in range(RACERS)
    ]
    results = race(api, [("/devices", body, "") for body in bodies])
    assert codes(results) == {"done": CREDITS, "credits_insufficient": RACERS - CREDITS}
    assert api.credits(company)["days"] == 0
    # Refused without a credit: nothing was created.
    assert len(api.devices(company)) == CREDITS
    installation.insist_verified()


def test_two_companies_race_for_the_credits_of_the_one_above(
    installation: Installation, api: Api
) -> None:
    above = api.company("Above the race")
    api.grant(above, CREDITS)
    below = [api.company(f"Racer {index}", above, use_parent_credits=True) for index in range(2)]
    bodies = [
        {"serial": str(1_402_000_001 + i), "company_id": below[i % 2], "activate": True}
        for i in range(RACERS)
    ]
    results = race(api, [("/devices", body, "") for body in bodies])
    assert codes(results) == {"done": CREDITS, "credits_insufficient": RACERS - CREDITS}
    assert api.credits(above)["days"] == 0
    installation.insist_verified()


def test_a_repeated_key_spends_once_and_another_body_is_a_conflict(
    installation: Installation, api: Api
) -> None:
    company = api.company("Repeated")
    api.grant(company, 10)
    api.register("1403000001", company, activate="later")
    api.register("1403000002", company, activate="later")
    path = "/devices/1403000001/activate"
    first = api.ask("POST", path, {"credits": 2}, key="again")
    second = api.ask("POST", path, {"credits": 2}, key="again")
    assert (first.status, second.status) == (200, 200)
    assert first.json == second.json
    assert first.headers["Idempotency-Replayed"] is None
    assert second.headers["Idempotency-Replayed"] == "true"
    other_body = api.ask("POST", path, {"credits": 3}, key="again")
    other_path = api.ask("POST", "/devices/1403000002/activate", {"credits": 2}, key="again")
    for answer in (other_body, other_path):
        assert (answer.status, answer.code) == (409, "idempotency_conflict")
    assert api.credits(company)["credits"] == 8
    assert api.device("1403000002")["service"]["state"] == "off"
    installation.insist_verified()


def test_a_refusal_is_not_kept_under_its_key(api: Api) -> None:
    company = api.company("Refused first")
    api.register("1403000003", company, activate="later")
    path = "/devices/1403000003/activate"
    assert api.ask("POST", path, {}, key="later").code == "credits_insufficient"
    api.grant(company, 1)
    assert api.ask("POST", path, {}, key="later").status == 200
    assert api.credits(company)["credits"] == 0


def test_one_key_from_twenty_processes_at_once_spends_once(
    installation: Installation, api: Api
) -> None:
    company = api.company("At once")
    api.grant(company, RACERS)
    api.register("1404000001", company, activate="later")
    request = ("/devices/1404000001/activate", {"credits": 1}, "all at once")
    results = race(api, [request] * RACERS)
    assert {status for status, _, _ in results} == {200}
    assert len({str(body) for _, body, _ in results}) == 1
    assert Counter(replayed for _, _, replayed in results) == {"true": RACERS - 1, None: 1}
    assert api.credits(company)["credits"] == RACERS - 1
    assert len(api.ledger(company=company, kind="activate")) == 1
    grants = race(
        api, [("/credits/grants", {"company_id": company, "credits": 3}, "given once")] * RACERS
    )
    assert {status for status, _, _ in grants} == {201}
    assert api.credits(company)["credits"] == RACERS + 2
    installation.insist_verified()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_many_races(installation: Installation, api: Api, summary_row: SummaryRow) -> None:
    for number in range(ROUNDS_LONG):
        race_for_credits(api, f"Race {number}", 1_410_000_001 + number * 1_000)
    installation.insist_verified()
    outcome = f"{CREDITS} activations in each, balance 0, verified"
    summary_row("races of 20 processes", ROUNDS_LONG, outcome)
