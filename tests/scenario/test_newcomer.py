"""What a newcomer sees within a minute: routers online, credits spent, each row with its reason."""

import subprocess
import sys
import time
from pathlib import Path

from tests.scenario.installation import ROOT, installed

ROUTERS = 25
READY_S_MAX = 60.0


def test_a_demo_is_online_and_has_spent_its_credits_within_a_minute(tmp_path: Path) -> None:
    began_s = time.monotonic()
    with installed(tmp_path, "--demo", str(ROUTERS)) as installation:
        assert time.monotonic() - began_s < READY_S_MAX, installation.log
        api = installation.api
        status = api.status()
        assert status["ready"]
        assert status["devices"] == {"online": ROUTERS, "late": 0, "offline": 0, "never": 0}
        assert status["service"]["active"] == ROUTERS
        (demo,) = [company for company in api.items("/companies") if company["name"] == "Demo"]
        rows = api.ledger(company=demo["id"], kind="activate")
        assert len({row["serial"] for row in rows}) == len(rows) == ROUTERS
        for row in rows:
            assert row["days"] == 30
            assert row["payer_company_id"] == demo["id"]
            assert row["payer_path"] == [demo["id"]]
            assert row["serial"] in row["sentence"]
            assert "because the device reported for the first time" in row["sentence"]
        devices = api.devices(demo["id"])
        assert {len(device["latest"]) > 10 for device in devices.values()} == {True}
        second = subprocess.run(
            [sys.executable, "-m", "gateway.command.app", "up", "--data", str(installation.data)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert second.returncode == 1
        assert "in use" in second.stderr
        assert api.ready()
        installation.insist_verified()
        installation.stop()
