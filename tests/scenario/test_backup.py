"""A backup under load, everything killed, and an installation made of it in an empty place."""

import json
import subprocess
import sys
import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SummaryRow
from tests.scenario.fleet import Fleet, until_online
from tests.scenario.handmade import Handmade
from tests.scenario.http_api import Api
from tests.scenario.installation import ROOT, Installation, end_with_the_tests, installed, until

DEMO = 10
ROUTERS = 20
LATE = ("1900000001", "1900000002")
BACK_S_MAX = 90.0


def command(installation: Installation, *words: str) -> str:
    """A `fleetgate` command that must succeed; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway.command.app", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env=installation.environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def agent(stack: ExitStack, folder: Path, serial: str, join: str) -> None:
    """A real `fleetgate-agent run` that joins by itself, and runs until the end of the test."""
    folder.mkdir()
    configuration = folder / "agent.toml"
    configuration.write_text(
        f'serial = "{serial}"\njoin = "{join}"\nsampling_s = 1\nsending_s = 1\n'
        f'spool_dir = "{folder / "memory"}"\n'
    )
    own = ["--config", str(configuration), "--state-dir", str(folder / "state")]
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", *own],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=end_with_the_tests,
        )
    stack.callback(process.wait)
    stack.callback(process.kill)


def manifest_of(out: Path) -> Any:
    with tarfile.open(out) as tar:
        file = tar.extractfile("manifest.json")
        assert file is not None
        return json.load(file)


def credits_of(api: Api, company: str) -> int:
    return int(api.credits(company)["credits"])


def lived(stack: ExitStack, first: Installation, out: Path) -> tuple[str, str]:
    """The first installation's life, with a backup in the middle: company and join string."""
    api = first.api
    company = api.company("Acme")
    api.grant(company, ROUTERS + 5)
    join = api.join_code(company, ROUTERS)
    # Not one of the installation's processes: it lives on when they are gone.
    outside = Installation(out.parent / "fleet")
    fleet = Fleet(outside, join, ROUTERS, 1_800_000_001, 1, outside.folder).start()
    stack.callback(fleet.kill)
    until_online(api, DEMO + ROUTERS)
    made_before = api.join_code(company, 5)
    command(first, "backup", "--data", str(first.data), "--out", str(out))
    for serial in LATE:
        agent(stack, out.parent / serial, serial, made_before)
    until_online(api, DEMO + ROUTERS + len(LATE))
    assert credits_of(api, company) == 5 - len(LATE)
    return company, made_before


# A device that is refused asks after some 15 s, and comes again some 15 s later.
@pytest.mark.timeout(240)
@pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def test_what_is_restored_goes_on(
    tmp_path: Path, engine: str, request: pytest.FixtureRequest, summary_row: SummaryRow
) -> None:
    out = tmp_path / "backup.tar"
    with ExitStack() as stack:
        with installed(tmp_path / "first", "--demo", str(DEMO)) as first:
            company, join = lived(stack, first, out)

        second = Installation(tmp_path / "second", ("--demo", str(DEMO)))
        stack.callback(second.end)
        second.folder.mkdir()
        words = ["restore", "--from", str(out), "--data", str(second.data)]
        if engine == "postgresql":
            words += ["--database", request.getfixturevalue("postgres_database")]
        command(second, *words)
        told = json.loads(command(second, "verify", "--data", str(second.data), "--json"))
        manifest = manifest_of(out)
        assert told["ok"] and told["ledger_digest"] == manifest["ledger_digest"]

        api = second.start().api
        # A join string of before the backup, with uses left then and used since, is dead.
        assert Handmade(second, "1900000003").ask_to_join(join).status == 403
        # Who was known goes on by itself; who was not shows its record, and waits.
        until_online(api, DEMO + ROUTERS, within_s=BACK_S_MAX)
        until(
            lambda: api.status()["recovered"] == len(LATE),
            "the late ones are recovered",
            within_s=BACK_S_MAX,
            look_s=0.2,
        )
        assert credits_of(api, company) == 5
        for serial in LATE:
            assert api.device(serial)["alerts"] == ["recovered"]
            api.done("POST", f"/devices/{serial}/release", {})
        until_online(api, DEMO + ROUTERS + len(LATE), within_s=BACK_S_MAX)
        assert api.status()["recovered"] == 0
        assert credits_of(api, company) == 5 - len(LATE)
        second.insist_verified()
        assert not second.tracebacks()
    rows = sum(table["rows"] for table in manifest["tables"].values())
    summary_row(f"backup, then restore into {engine}", f"{rows} rows", "same digest, all back")
