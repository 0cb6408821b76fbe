"""Gateway and MQTT server of an installation, started without `up`: nobody restarts them."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.scenario.installation import (
    READY_S_MAX,
    ROOT,
    STOP_S_MAX,
    Installation,
    end_with_the_tests,
    until,
)


@dataclass
class ByHand:
    """Takes over the data directory of an installation whose `up` was stopped."""

    installation: Installation
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start_gateway(self) -> None:
        words = [sys.executable, "-m", "gateway.command.gateway", "--config"]
        self._start("gateway", [*words, str(self.installation.data / "gateway.toml")])

    def start_mqtt_server(self) -> None:
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
        words = ["mosquitto", "-c", str(self.folder / "mosquitto.conf")]
        self._start("mosquitto", words, cwd=str(self.folder), PATH=path)

    @property
    def folder(self) -> Path:
        return self.installation.data / "mosquitto"

    def start(self) -> None:
        """Both, in the order in which `up` starts them."""
        logins = self.installation.data / "mosquitto" / "passwd"
        logins.unlink(missing_ok=True)
        self.start_gateway()
        until(logins.exists, "the logins are written", within_s=READY_S_MAX)
        self.start_mqtt_server()
        self.until_ready()

    def until_ready(self) -> None:
        until(self.installation.api.ready, "ready", within_s=READY_S_MAX)

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(STOP_S_MAX)

    def end(self) -> None:
        for name in list(self.processes):
            self.stop(name, signal.SIGKILL)

    def _start(self, name: str, words: list[str], *, cwd: str = str(ROOT), **more: str) -> None:
        log = self.installation.data / "logs" / f"{name}.log"
        with log.open("ab") as output:
            self.processes[name] = subprocess.Popen(
                words,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**self.installation.environment, **more},
                start_new_session=True,
                preexec_fn=end_with_the_tests,
            )
