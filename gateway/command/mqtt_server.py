"""`fleetgate mqtt-server`: becomes the MQTT server of one node, for operators with a supervisor of
their own."""

import argparse
import os
import pwd
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from gateway.command.configuration import ConfigurationError, GatewayConfiguration, load
from gateway.command.data_directory import DataDirectoryError, acquire
from gateway.command.installation import find_server_program, prepare_files, remove_server_files
from gateway.command.server_account import ServerAccount, own_files
from gateway.command.up_options import SetUpError
from gateway.join.ca import KeyFileError
from gateway.mqtt_server.configuration import CONFIGURATION_NAME, UnsafeConfiguration

FAILED, USAGE = 1, 2
LOOK_S = 0.05


def main(argv: Sequence[str]) -> int:
    """The exit code of what could not be started; else this process becomes the MQTT server."""
    parser = argparse.ArgumentParser(prog="fleetgate mqtt-server", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="gateway.toml")
    options = parser.parse_args(argv)
    try:
        configuration = load(options.config)
    except ConfigurationError as error:
        return _failed(error, USAGE)
    try:
        program = find_server_program()
        account = _account(configuration)
        _prepare(configuration, account)
    except (
        SetUpError,
        DataDirectoryError,
        KeyFileError,
        UnsafeConfiguration,
        OSError,
    ) as error:
        return _failed(error, FAILED)
    _wait_for_logins(configuration)
    return _become(program, configuration, account)


def _become(program: str, configuration: GatewayConfiguration, account: ServerAccount) -> NoReturn:
    os.chdir(configuration.mqtt.directory)
    if account.ids is not None:
        os.setgroups([])
        os.setgid(account.ids[1])
        os.setuid(account.ids[0])
    os.execv(program, [program, "-c", CONFIGURATION_NAME])


def _failed(error: Exception, code: int) -> int:
    print(f"fleetgate mqtt-server: {error}", file=sys.stderr)
    return code


def _account(configuration: GatewayConfiguration) -> ServerAccount:
    """The user of mqtt.server_user, whom only root can become."""
    user = configuration.mqtt.server_user
    if not user or os.geteuid() != 0:
        return ServerAccount()
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise SetUpError(f"mqtt.server_user: there is no user {user}") from error
    return ServerAccount(user, (entry.pw_uid, entry.pw_gid))


def _prepare(configuration: GatewayConfiguration, account: ServerAccount) -> None:
    """Keys, logins and files as `fleetgate up` makes them, the relay's too."""
    os.umask(0o077)
    directory = configuration.data.directory
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Refused while an `up` runs here, which has an MQTT server of its own.
    acquire(directory).release()
    configuration.mqtt.directory.mkdir(mode=0o700, exist_ok=True)
    remove_server_files(configuration)
    prepare_files(configuration, account)
    if account.ids is not None:
        own_files(configuration.mqtt.directory, account.ids)


def _wait_for_logins(configuration: GatewayConfiguration) -> None:
    """The server starts beside fresh logins only, which a gateway of the node writes."""
    mqtt = configuration.mqtt
    said = False
    while not (mqtt.password_file.exists() and mqtt.acl_file.exists()):
        if not said:
            print(f"Waiting for a gateway to write {mqtt.password_file} …", flush=True)
            said = True
        time.sleep(LOOK_S)
