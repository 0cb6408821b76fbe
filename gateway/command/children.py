"""The programs that `fleetgate up` keeps running."""

import sys
from dataclasses import replace
from pathlib import Path

from gateway.command.installation import GatewayFiles, Installation
from gateway.command.mail_server import PASSWORD_VARIABLE
from gateway.command.own_programs import own_packages
from gateway.command.supervisor import ChildSpec
from gateway.mqtt_server.configuration import CONFIGURATION_NAME

# The database and the mail server are none of their business.
NO_PASSWORD = {"PGPASSWORD": "", PASSWORD_VARIABLE: ""}


def gateway(installation: Installation, one: GatewayFiles) -> ChildSpec:
    """One of the gateways on this data directory."""
    return _own_program(one.child, "gateway.command.gateway", installation, one.file)


def relay(installation: Installation) -> ChildSpec:
    """The relay beside it; all that it may know stands in its own file."""
    spec = _own_program("relay", "broker.relay", installation, installation.relay_file)
    return replace(spec, environment={**spec.environment, **NO_PASSWORD})


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
        environment=NO_PASSWORD,
    )
