"""Who pays, over four levels of companies, and what registering does: through the HTTP API."""

from typing import Any

import pytest

from tests.scenario.engines import ENGINES_AT_LENGTH
from tests.scenario.http_api import Api
from tests.scenario.installation import Installation

pytestmark = pytest.mark.parametrize("engine", ENGINES_AT_LENGTH, indirect=True, scope="module")
LEVELS = ("Vendor", "Distributor", "Reseller", "Customer")
_serials = iter(range(1_500_000_001, 1_500_100_000))


def a_serial() -> str:
    return str(next(_serials))


def tree(api: Api, credits: str, flags: str, *, name: str) -> list[str]:
    """Four companies, root first. `credits`: one digit each. `flags`: of the lower three."""
    made: list[str] = []
    for level, (kind, amount) in enumerate(zip(LEVELS, credits, strict=True)):
        flag = level > 0 and flags[level - 1] == "1"
        parent = made[-1] if made else None
        made.append(api.company(f"{kind} of {name}", parent, use_parent_credits=flag))
        if int(amount):
            api.grant(made[-1], int(amount))
    return made


def register(api: Api, company: str, **more: Any) -> Any:
    """The answer to registering a new serial that is paid for now."""
    content = {"serial": a_serial(), "company_id": company, "activate": True, **more}
    return api.ask("POST", "/devices", content)


CLIMBS = [
    # credits of each level, flags of the lower three, level that pays (None: nobody)
    ("1111", "111", 3),
    ("1110", "111", 2),
    ("1100", "111", 1),
    ("1000", "111", 0),
    ("0000", "111", None),
    ("1110", "110", None),
    ("1100", "101", None),
    ("1000", "011", None),
    ("1010", "011", 2),
    ("1100", "011", 1),
    ("1001", "000", 3),
    ("1000", "000", None),
]


@pytest.mark.parametrize(("credits", "flags", "payer"), CLIMBS)
def test_the_climb_stops_where_it_must(
    api: Api, credits: str, flags: str, payer: int | None
) -> None:
    companies = tree(api, credits, flags, name=f"climb {credits} {flags}")
    shown = api.credits(companies[3])
    answer = register(api, companies[3])
    before = [int(amount) for amount in credits]
    after = [api.credits(company)["credits"] for company in companies]
    if payer is None:
        assert (answer.status, answer.code) == (409, "credits_insufficient")
        assert shown["payer_company_id"] is None
        assert after == before
        assert api.devices(companies[3]) == {}
        return
    assert answer.status == 201, answer.body
    # Told before, and done so.
    path = companies[payer:][::-1]
    assert shown["payer_company_id"] == companies[payer]
    assert shown["payer_path"] == path
    assert shown["covered_by"] == (None if payer == 3 else "above")
    assert answer.json["service"]["payer_company_id"] == companies[payer]
    before[payer] -= 1
    assert after == before
    (row,) = api.ledger(serial=answer.json["serial"])
    assert (row["kind"], row["days"]) == ("activate", 30)
    assert row["payer_company_id"] == companies[payer]
    assert row["payer_path"] == path
    assert row["company_id"] == companies[3]
    payer_name = f"{LEVELS[payer]} of climb {credits} {flags}"
    assert answer.json["serial"] in row["sentence"]
    assert payer_name in row["sentence"]


def test_a_charge_is_paid_whole_by_one_company(api: Api) -> None:
    companies = tree(api, "2000", "111", name="whole")
    # 29 of 30 days below are not a payment, and are not added to anything of above.
    api.done("POST", "/credits/grants", {"company_id": companies[3], "days": 29})
    assert register(api, companies[3]).json["service"]["payer_company_id"] == companies[0]
    assert api.credits(companies[3])["days"] == 29
    # Several pools of one company are one purse.
    api.done(
        "POST",
        "/credits/grants",
        {"company_id": companies[3], "days": 1, "expires_on": "2099-12-31"},
    )
    answer = register(api, companies[3])
    assert answer.json["service"]["payer_company_id"] == companies[3]
    rows = api.ledger(serial=answer.json["serial"])
    assert sorted(row["days"] for row in rows) == [1, 29]
    assert len({row["operation_id"] for row in rows}) == 1
    assert api.credits(companies[3])["days"] == 0


def test_a_suspended_company_stops_the_climb_and_its_own_devices(api: Api) -> None:
    companies = tree(api, "5050", "111", name="suspended")
    vendor, distributor, reseller, customer = companies
    api.done("POST", f"/companies/{distributor}/suspend", {"reason": "unpaid invoice"})
    for company in (distributor, reseller, customer):
        # Inherited: nothing new starts below it either, whoever could pay.
        answer = register(api, company)
        assert (answer.status, answer.code) == (409, "company_suspended")
    assert register(api, vendor).status == 201
    suspended = api.get(f"/companies/{distributor}")["suspended"]
    assert suspended["reason"] == "unpaid invoice"
    api.done("POST", f"/companies/{distributor}/resume", {})
    assert register(api, customer).json["service"]["payer_company_id"] == reseller
    assert api.credits(reseller)["credits"] == 4


def test_the_limit_from_above_counts_all_below(api: Api) -> None:
    companies = tree(api, "9000", "111", name="limit")
    vendor, distributor, reseller, customer = companies
    api.done("PATCH", f"/companies/{reseller}", {"parent_limit": 2})
    assert register(api, customer).status == 201
    assert register(api, reseller).status == 201
    for company in (customer, reseller):
        answer = register(api, company)
        assert (answer.status, answer.code) == (409, "parent_limit_reached")
    # One above the limit is not bound by it, and own credits are no matter of limits.
    assert register(api, distributor).status == 201
    api.grant(customer, 1)
    assert register(api, customer).json["service"]["payer_company_id"] == customer
    assert api.credits(vendor)["credits"] == 6
    api.done("PATCH", f"/companies/{reseller}", {"parent_limit": None})
    assert register(api, customer).status == 201
    assert api.credits(vendor)["credits"] == 5


def test_a_pack_that_the_limit_does_not_hold_is_refused_whole(api: Api) -> None:
    vendor, _, reseller, customer = tree(api, "9000", "111", name="pack")
    api.done("PATCH", f"/companies/{reseller}", {"parent_limit": 2})
    made = api.register(a_serial(), customer, activate="later")
    path = f"/devices/{made['serial']}"
    answer = api.ask("POST", f"{path}/activate", {"credits": 3})
    assert (answer.status, answer.code) == (409, "parent_limit_reached")
    assert api.credits(vendor)["credits"] == 9
    assert api.ask("POST", f"{path}/activate", {"credits": 2}).status == 200
    assert api.device(made["serial"])["service"]["days_left"] in (59, 60)


def test_flags_follow_the_tree_when_it_is_moved(api: Api) -> None:
    vendor, distributor, _, customer = tree(api, "9000", "111", name="moved")
    answer = api.done("POST", f"/companies/{customer}/move", {"parent_id": distributor})
    assert answer["use_parent_credits"] is False
    assert register(api, customer).code == "credits_insufficient"
    api.done("PATCH", f"/companies/{customer}", {"use_parent_credits": True})
    paid = register(api, customer).json
    (row,) = api.ledger(serial=paid["serial"])
    assert row["payer_path"] == [customer, distributor, vendor]
    cycle = api.ask("POST", f"/companies/{vendor}/move", {"parent_id": customer})
    assert (cycle.status, cycle.code) == (409, "would_make_a_cycle")


def test_registering_and_paying_in_each_state_that_needs_no_device(
    installation: Installation, api: Api
) -> None:
    company, other = api.company("States"), api.company("Elsewhere")
    api.grant(company, 10)
    # unknown
    later = api.register(a_serial(), company, activate="later")
    assert (later["service"]["state"], later["service"]["reason"]) == ("off", "not_activated")
    contact = api.register(a_serial(), company)
    assert contact["service"]["state"] == "off"
    now = api.register(a_serial(), company, activate=True)
    assert (now["service"]["state"], now["service"]["reason"]) == ("active", "paid")
    assert api.credits(company)["credits"] == 9
    # registered, in each of these states, by whomever: the same answer
    answers = set()
    for serial in (later["serial"], contact["serial"], now["serial"]):
        for asking in (company, other):
            answer = api.ask("POST", "/devices", {"serial": serial, "company_id": asking})
            assert (answer.status, answer.code) == (409, "serial_unavailable")
            answers.add(answer.json["detail"])
    assert len(answers) == 1
    # activate and extend
    table = [
        (later, "extend", "not_active"),
        (contact, "extend", "not_active"),
        (now, "activate", "already_active"),
        (now, "extend", ""),
        (later, "activate", ""),
        (contact, "activate", ""),
    ]
    for device, verb, code in table:
        answer = api.ask("POST", f"/devices/{device['serial']}/{verb}", {"credits": 1})
        assert answer.code == code, (device["serial"], verb, answer.body)
    assert api.credits(company)["credits"] == 6
    # never heard: everything goes back when it is unregistered
    gone = api.done("DELETE", f"/devices/{now['serial']}")
    assert (gone["days_returned"], gone["days_forfeited"]) == (60, 0)
    assert api.credits(company)["credits"] == 8
    assert api.ask("GET", f"/devices/{now['serial']}").status == 404
    assert api.ask("DELETE", f"/devices/{now['serial']}").status == 404
    # dormant without a credential: anybody may register it, as if it were new
    assert api.register(now["serial"], other, activate="later")["company_id"] == other
    installation.insist_verified()


BAD_SERIALS = ["@gateway-1", "short", "a" * 33, "11000/00001", "1100000001+", "11000 00001", "#"]


@pytest.mark.parametrize("serial", BAD_SERIALS)
def test_what_is_no_serial_is_refused(api: Api, serial: str) -> None:
    company = next(iter(api.items("/companies")), None) or {"id": api.company("Any")}
    content = {"serial": serial, "company_id": company["id"]}
    answer = api.ask("POST", "/devices", content)
    assert (answer.status, answer.code) == (422, "validation")
