"""Many real processes that ask the API for something at the same instant."""

import json
import subprocess
import sys
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

Request = tuple[str, Any, str]
"""Path under `/api/v1`, body, Idempotency-Key (empty: none)."""
Result = tuple[int, Any, str | None]
"""Status, body, `Idempotency-Replayed`."""


def race(api: Api, requests: Sequence[Request]) -> list[Result]:
    """POSTs all of them at once, one process each."""
    racers = [_racer(api, request) for request in requests]
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
