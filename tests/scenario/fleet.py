"""Fleets of real agents, each in a process that can be killed and started again."""

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.scenario.http_api import Api
from tests.scenario.installation import (
    CLOCK_VARIABLE,
    ROOT,
    STOP_S_MAX,
    Installation,
    end_with_the_tests,
    until,
)


@dataclass
class Fleet:
    """One `firmware-sim fleet` process; killed and started again it goes on with its state."""

    installation: Installation
    join: str
    routers: int
    first_serial: int
    interval_s: int
    folder: Path
    options: tuple[str, ...] = ("--calm",)
    process: subprocess.Popen[bytes] | None = None

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def serials(self) -> list[str]:
        return [str(self.first_serial + number) for number in range(self.routers)]

    def start(self) -> "Fleet":
        self.folder.mkdir(parents=True, exist_ok=True)
        numbers = {
            "--routers": self.routers,
            "--first-serial": self.first_serial,
            "--interval": self.interval_s,
            "--state": self.folder / "state",
            "--journal": self.journal,
            "--join": self.join,
        }
        words = [str(word) for pair in numbers.items() for word in pair]
        with (self.folder / "log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "firmware_sim", "fleet", *words, *self.options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Routers live by the real clock; only server processes are moved.
                env={
                    key: v
                    for key, v in self.installation.environment.items()
                    if key != CLOCK_VARIABLE
                },
                start_new_session=True,
                preexec_fn=end_with_the_tests,
            )
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """A clean end: agents say goodbye and save their spools."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(STOP_S_MAX) == 0, self.log


def until_online(api: Api, devices: int, *, within_s: float = 60.0) -> None:
    """Waits until so many devices are online."""
    until(
        lambda: api.status()["devices"]["online"] == devices,
        f"{devices} devices are online",
        within_s=within_s,
        look_s=0.2,
    )
