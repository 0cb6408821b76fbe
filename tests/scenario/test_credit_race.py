"""Twenty processes want the last five credits; requests that are repeated spend once."""

import pytest

from tests.conftest import SummaryRow
from tests.scenario.engines import ENGINES
from tests.scenario.http_api import Api
from tests.scenario.installation import Installation
from tests.scenario.racing import (
    CREDITS,
    race_below_one_payer,
    race_for_credits,
    race_to_register,
    race_with_one_key,
)

pytestmark = pytest.mark.parametrize("engine", ENGINES, indirect=True, scope="module")
ROUNDS_LONG = 20


def test_twenty_processes_race_for_the_last_five_credits(
    installation: Installation, api: Api
) -> None:
    race_for_credits([api], "Race", 1_400_000_001)
    installation.insist_verified()


def test_registering_with_a_credit_now_races_alike(installation: Installation, api: Api) -> None:
    race_to_register([api], "Race to register", 1_401_000_001)
    installation.insist_verified()


def test_two_companies_race_for_the_credits_of_the_one_above(
    installation: Installation, api: Api
) -> None:
    race_below_one_payer([api], "Above the race", 1_402_000_001)
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
    race_with_one_key([api], "At once", "1404000001")
    installation.insist_verified()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_many_races(
    installation: Installation, api: Api, engine: str, summary_row: SummaryRow
) -> None:
    for number in range(ROUNDS_LONG):
        race_for_credits([api], f"Race {number}", 1_410_000_001 + number * 1_000)
    installation.insist_verified()
    outcome = f"{CREDITS} activations in each, balance 0, verified"
    summary_row(f"races of 20 processes, {engine}", ROUNDS_LONG, outcome)
