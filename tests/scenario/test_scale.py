"""Thousands of devices at once: all are admitted, and what is receipted is stored once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SummaryRow
from tests.scenario.installation import ROOT, Installation, end_with_the_tests, installed

DEVICES = 3_000
RATE_PER_S = 3_000
SECONDS = 20
RUN_S_MAX = 400


def swarm(installation: Installation, journal: Path) -> dict[str, int]:
    """The report of `firmware-sim swarm`."""
    api = installation.api
    company = api.company("Scale")
    api.grant(company, DEVICES)
    words = [
        *("--devices", str(DEVICES), "--rate", str(RATE_PER_S), "--seconds", str(SECONDS)),
        *("--join", api.join_code(company, DEVICES, credits=DEVICES)),
        *("--journal", str(journal), "--state", str(journal.with_name("swarm"))),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "firmware_sim", "swarm", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        preexec_fn=end_with_the_tests,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, int] = json.loads(done.stdout)
    return report


@pytest.mark.long
@pytest.mark.timeout(600)
def test_three_thousand_devices_lose_and_double_nothing(
    tmp_path: Path, summary_row: SummaryRow
) -> None:
    journal = tmp_path / "journal"
    with installed(tmp_path / "installation") as installation:
        report = swarm(installation, journal)
        assert report["connected"] == DEVICES
        stored = installation.rows(
            "SELECT d.serial, r.run, h.number, count(*) FROM heartbeat AS h"
            " JOIN run AS r ON r.id = h.run_id JOIN device AS d ON d.id = h.device_id"
            " GROUP BY 1, 2, 3"
        )
        assert all(row[3] == 1 for row in stored)
        kept = {(row[0], row[1], row[2]) for row in stored}
        receipted = set()
        for line in journal.read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "receipted":
                receipted.add((event["serial"], event["run"], event["number"]))
        assert receipted
        assert receipted <= kept
        balances = installation.rows("SELECT count(*) FROM monitored_day")
        assert balances[0][0] == DEVICES
        installation.insist_verified()
    summary_row(
        "scale",
        f"{DEVICES} devices, {RATE_PER_S}/s, {SECONDS} s",
        f"sent {report['sent']}, receipted {len(receipted)}, stored {len(kept)}; lost 0, "
        f"doubled 0; receipt p99 {report['receipt_ms_p99']} ms",
    )
