"""The programs that `fleetgate up` keeps running."""

import sys
from pathlib import Path

from gateway.command.installation import Installation
from gateway.command.own_programs import own_packages
from gateway.command.supervisor import ChildSpec
from gateway.mqtt_server.configuration import CONFIGURATION_NAME


def gateway(installation: Installation) -> ChildSpec:
    """The gateway on this data directory."""
    return _own_program(
        "gateway", "gateway.command.gateway", installation, installation.configuration_file
    )


def relay(installation: Installation) -> ChildSpec:
    """The relay beside it; all that it may know stands in its own file."""
    return _own_program("relay", "broker.relay", installation, installation.relay_file)


def _own_program(
    name: str, module: str, installation: Installation, configuration_file: Path
) -> ChildSpec:
    return ChildSpec(
        name=name,
        command=[sys.executable, "-m", module, "--config", str(configuration_file)],
        log_file=installation.log_file(name),
        environment=own_packages(),
    )


def mqtt_server(installation: Installation) -> ChildSpec:
    """Mosquitto, as the user that was found for it."""
    return ChildSpec(
        name="mosquitto",
        command=[installation.server_program, "-c", CONFIGURATION_NAME],
        log_file=installation.log_file("mosquitto"),
        directory=installation.configuration.mqtt.directory,
        user=installation.account.ids,
    )
