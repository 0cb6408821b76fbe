"""Real agents in the simulator against the whole product: joined, killed, restarted, all stored."""

import json
import secrets
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.integration.supervised import processes_naming, until_plain
from tests.integration.test_up_whole import ROOT, running

ROUTERS = 25
FIRST_SERIAL = 1_300_000_001
Key = tuple[str, str, int]


def call(ready: dict[str, Any], method: str, path: str, body: object = None) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{ready['http_url']}/api/v1{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {ready['admin_token']}",
            "Content-Type": "application/json",
            "Idempotency-Key": secrets.token_hex(8),
        },
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        read: dict[str, Any] = json.load(answer)
        return read


def join_string(ready: dict[str, Any], routers: int) -> str:
    company = call(ready, "POST", "/companies", {"name": "Fleet"})["id"]
    call(ready, "POST", "/credits/grants", {"company_id": company, "credits": routers})
    body = {"uses": routers, "register": True, "credits": routers}
    return str(call(ready, "POST", f"/companies/{company}/join-codes", body)["join"])


class Fleet:
    """One `firmware-sim fleet` process on a folder that outlives it."""

    def __init__(self, folder: Path, text: str, *, interval_s: int = 1, processes: int = 1) -> None:
        self.log = folder / "fleet.log"
        words = ["--routers", str(ROUTERS), "--first-serial", str(FIRST_SERIAL), "--calm"]
        words += ["--seed", "5", "--state", str(folder / "fleet"), "--interval", str(interval_s)]
        words += ["--journal", str(folder / "journal"), "--join", text]
        words += ["--processes", str(processes)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "firmware_sim", "fleet", *words],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def journal(folder: Path) -> dict[str, list[Key]]:
    path = folder / "journal"
    found: dict[str, list[Key]] = {"made": [], "receipted": []}
    # The last line may be one that is being written.
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    for line in whole.splitlines():
        event = json.loads(line)
        found[event["event"]].append((event["serial"], event["run"], event["number"]))
    return found


def stored(ready: dict[str, Any]) -> list[Key]:
    keys: list[Key] = []
    for number in range(FIRST_SERIAL, FIRST_SERIAL + ROUTERS):
        cursor = ""
        while cursor is not None:
            more = f"&cursor={cursor}" if cursor else ""
            page = call(ready, "GET", f"/devices/{number}/heartbeats?limit=500{more}")
            keys += [(str(number), item["run"], item["number"]) for item in page["items"]]
            cursor = page["next_cursor"]
    return keys


def everything_is_receipted(folder: Path) -> bool:
    told = journal(folder)
    return set(told["made"]) == set(told["receipted"])


def test_a_fleet_whose_process_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "data") as up:
        ready = up.wait_ready()
        text = join_string(ready, ROUTERS)
        fleet = Fleet(tmp_path, text)
        try:
            until_plain(lambda: len(journal(tmp_path)["receipted"]) >= 4 * ROUTERS, within_s=40)
            fleet.kill()
            fleet = Fleet(tmp_path, text)
            made = len(journal(tmp_path)["made"])
            until_plain(lambda: len(journal(tmp_path)["made"]) >= made + 4 * ROUTERS, within_s=40)
            assert fleet.stop() == 0
            # One that samples once at its start has quiet time enough to send what was left.
            fleet = Fleet(tmp_path, text, interval_s=3_600)
            until_plain(
                lambda: (
                    len({run for _, run, _ in journal(tmp_path)["made"]}) == 3 * ROUTERS
                    and everything_is_receipted(tmp_path)
                ),
                within_s=40,
            )
            assert fleet.stop() == 0
        finally:
            fleet.kill()
        told, kept = journal(tmp_path), stored(ready)
        assert len(kept) == len(set(kept))
        assert set(kept) == set(told["made"])
        assert len(told["receipted"]) == len(set(told["receipted"]))
        assert up.stop() == 0


def test_the_swarm_is_receipted(tmp_path: Path) -> None:
    with running(tmp_path / "data") as up:
        text = join_string(up.wait_ready(), 10)
        words = ["--devices", "10", "--rate", "200", "--seconds", "2", "--join", text]
        done = subprocess.run(
            [sys.executable, "-m", "firmware_sim", "swarm", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["connected"], report["sent"], report["receipted"]) == (10, 400, 400)


def test_processes_of_a_fleet_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    with running(tmp_path / "data") as up:
        fleet = Fleet(tmp_path, join_string(up.wait_ready(), ROUTERS), processes=2)
        try:
            mark = str(tmp_path / "fleet")
            until_plain(lambda: len(journal(tmp_path)["receipted"]) >= ROUTERS, within_s=40)
            assert len(processes_naming(mark)) == 3
        finally:
            fleet.kill()
        until_plain(lambda: not processes_naming(mark), within_s=10)


def test_an_agent_joins_runs_and_reports_its_status(tmp_path: Path) -> None:
    with running(tmp_path / "data") as up:
        text = join_string(up.wait_ready(), 1)
        file = tmp_path / "agent.toml"
        file.write_text(
            f'state_dir = "{tmp_path}/flash"\nspool_dir = "{tmp_path}/memory"\n'
            'serial = "1300000099"\nlan_mac = "00:1e:42:00:00:99"\nsampling_s = 1\nsending_s = 1\n'
        )
        assert agent("join", file, text).returncode == 0
        until_plain(lambda: agent("check", file).returncode == 0)
        log = tmp_path / "agent.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "--config", str(file)],
                cwd=ROOT,
                stderr=output,
            )
        try:
            until_plain(lambda: status(file).get("receipts", 0) > 0, within_s=40)
            assert status(file)["joined"] == "joined"
            said = agent("check", file)
            assert said.returncode == 0 and "the running agent is signed in" in said.stdout
            again = agent("run", file)
            assert again.returncode == 1 and "already" in again.stderr
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
        finally:
            process.kill()
            process.wait()
        assert "Traceback" not in log.read_text()


def agent(command: str, file: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "agent", command, "--config", str(file), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def status(file: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(agent("status", file, "--json").stdout)
    return read
