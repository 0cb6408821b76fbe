"""`fleetgate-agent` as a person uses it on a box: sample, join, run, status, check."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.scenario.http_api import Api
from tests.scenario.installation import end_with_the_tests, until

SERIAL = "workshop-1"


@pytest.fixture
def box(tmp_path: Path) -> list[str]:
    """The options of an agent with a state of its own that reports each second."""
    configuration = tmp_path / "agent.toml"
    spool = tmp_path / "memory"
    configuration.write_text(f'sampling_s = 1\nsending_s = 1\nspool_dir = "{spool}"\n')
    return ["--config", str(configuration), "--state-dir", str(tmp_path / "state")]


def command(box: list[str], *words: str) -> list[str]:
    return [sys.executable, "-m", "agent", words[0], *box, *words[1:]]


def done(box: list[str], *words: str, code: int = 0) -> str:
    """What the command prints, once it has ended as it should."""
    ended = subprocess.run(command(box, *words), capture_output=True, text=True, timeout=40)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@contextmanager
def running(box: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command(box, "run"), stderr=subprocess.DEVNULL, preexec_fn=end_with_the_tests
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def test_a_box_joins_by_a_string_and_says_how_it_fares(api: Api, box: list[str]) -> None:
    company = api.company("Workshop")
    api.grant(company, 1)
    api.register(SERIAL, company)
    sample = json.loads(done(box, "sample", "--json"))
    assert sample["uptime"] > 0 and sample["memory_total"] > 0
    assert "join with a string made for one serial" in done(box, "check", code=1)
    join = api.done("POST", f"/devices/{SERIAL}/join", {})["join"]
    assert "joined" in done(box, "join", join)
    # The serial came with the join string; the box has none of its own.
    assert SERIAL in done(box, "status")
    with running(box):
        path = f"/devices/{SERIAL}"
        until(lambda: api.done("GET", path)["presence"]["state"] == "online", "online", within_s=20)
        until(lambda: api.done("GET", path)["latest"], "values", within_s=20)
        device = api.done("GET", path)
        assert (device["service"]["state"], device["service"]["reason"]) == ("active", "paid")
        assert device["latest"]["hostname"]["value"] == sample["hostname"]
        assert "signed in" in done(box, "check")
    assert f"serial {SERIAL}" in done(box, "check")
    assert "already" in done(box, "join", join) or "joined" in done(box, "join", join)


def test_what_does_not_work_is_said_with_what_to_do(api: Api, box: list[str]) -> None:
    damaged = done(box, "join", "fg1:nonsense", code=2)
    assert "join string" in damaged
    used = api.join_code(api.company("Once"), 1)
    # Without a serial of its own the box cannot use a string for many devices.
    assert 'serial = "' in done(box, "join", "--once", used, code=2)
    assert 'serial = "' in done(box, "run", code=2)
