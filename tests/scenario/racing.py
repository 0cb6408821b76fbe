"""Many real processes that ask the API for something at the same instant."""

import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.scenario.http_api import Api
from tests.scenario.installation import end_with_the_tests

# Standard library alone, so that twenty of them start quickly; each waits for its start signal
# with an open connection.
RACER = """
import http.client, json, sys, urllib.parse
url, token, method, path, body, key = json.loads(sys.argv[1])
place = urllib.parse.urlsplit(url)
connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
connection.connect()
headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
if key:
    headers["Idempotency-Key"] = key
print("at the line", flush=True)
sys.stdin.readline()
connection.request(method, path, json.dumps(body), headers)
answer = connection.getresponse()
replayed = answer.getheader("Idempotency-Replayed")
print(json.dumps([answer.status, json.loads(answer.read()), replayed]), flush=True)
"""
RACE_S_MAX = 30
RACERS = 20
CREDITS = 5

Request = tuple[str, Any, str]
"""Path under `/api/v1`, body, Idempotency-Key (empty: none)."""
Result = tuple[int, Any, str | None]
"""Status, body, `Idempotency-Replayed`."""


def race(apis: Sequence[Api], requests: Sequence[Request]) -> list[Result]:
    """POSTs all of them at once, one process each, to the gateways in turn."""
    racers = [
        _racer(api, request) for api, request in zip(itertools.cycle(apis), requests, strict=False)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "at the line\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        results = []
        for racer in racers:
            output, _ = racer.communicate(timeout=RACE_S_MAX)
            status, body, replayed = json.loads(output)
            results.append((status, body, replayed))
        return results
    finally:
        for racer in racers:
            if racer.poll() is None:
                racer.kill()
                racer.communicate()


def _racer(api: Api, request: Request) -> subprocess.Popen[str]:
    path, body, key = request
    given = [api.url, api.token, "POST", f"/api/v1{path}", body, key]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", RACER, json.dumps(given)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=end_with_the_tests,
    )


def codes(results: Sequence[Result]) -> Counter[str]:
    """How often each refusal was the answer; "done" is none."""
    return Counter("done" if status < 300 else body["code"] for status, body, _ in results)


ONLY_THE_CREDITS = {"done": CREDITS, "credits_insufficient": RACERS - CREDITS}


def race_for_credits(apis: Sequence[Api], name: str, first: int) -> None:
    """More activations at once than a company has credits for."""
    api = apis[0]
    company = api.company(name)
    api.grant(company, CREDITS)
    serials = [str(first + index) for index in range(RACERS)]
    for serial in serials:
        api.register(serial, company, activate="later")
    results = race(apis, [(f"/devices/{serial}/activate", {}, "") for serial in serials])
    assert codes(results) == ONLY_THE_CREDITS
    credits = api.credits(company)
    assert (credits["credits"], credits["days"]) == (0, 0)
    winners = {body["serial"] for status, body, _ in results if status == 200}
    rows = api.ledger(company=company, kind="activate")
    assert {row["serial"] for row in rows} == winners
    assert [row["days"] for row in rows] == [30] * CREDITS
    states = {serial: row["service"]["state"] for serial, row in api.devices(company).items()}
    assert {serial for serial, state in states.items() if state == "active"} == winners


def race_to_register(apis: Sequence[Api], name: str, first: int) -> None:
    """More registrations with a credit at once than there are credits."""
    api = apis[0]
    company = api.company(name)
    api.grant(company, CREDITS)
    bodies = [
        {"serial": str(first + index), "company_id": company, "activate": True}
        for index in range(RACERS)
    ]
    results = race(apis, [("/devices", body, "") for body in bodies])
    assert codes(results) == ONLY_THE_CREDITS
    assert api.credits(company)["days"] == 0
    # Refused without a credit: nothing was created.
    assert len(api.devices(company)) == CREDITS


def race_below_one_payer(apis: Sequence[Api], name: str, first: int) -> None:
    """Two companies that want the credits of the one above them."""
    api = apis[0]
    above = api.company(name)
    api.grant(above, CREDITS)
    below = [
        api.company(f"{name}: racer {index}", above, use_parent_credits=True) for index in range(2)
    ]
    # Not every second one: each of two gateways is asked for devices of both companies.
    bodies = [
        {"serial": str(first + i), "company_id": below[i // 2 % 2], "activate": True}
        for i in range(RACERS)
    ]
    results = race(apis, [("/devices", body, "") for body in bodies])
    assert codes(results) == ONLY_THE_CREDITS
    assert api.credits(above)["days"] == 0


def race_with_one_key(apis: Sequence[Api], name: str, serial: str) -> None:
    """One request, many times at once: one effect, and everybody has its answer."""
    api = apis[0]
    company = api.company(name)
    api.grant(company, RACERS)
    api.register(serial, company, activate="later")
    request = (f"/devices/{serial}/activate", {"credits": 1}, f"all at once: {serial}")
    results = race(apis, [request] * RACERS)
    assert {status for status, _, _ in results} == {200}
    assert len({str(body) for _, body, _ in results}) == 1
    assert Counter(replayed for _, _, replayed in results) == {"true": RACERS - 1, None: 1}
    assert api.credits(company)["credits"] == RACERS - 1
    assert len(api.ledger(company=company, kind="activate")) == 1
    grant = ("/credits/grants", {"company_id": company, "credits": 3}, f"given once: {serial}")
    grants = race(apis, [grant] * RACERS)
    assert {status for status, _, _ in grants} == {201}
    assert api.credits(company)["credits"] == RACERS + 2
