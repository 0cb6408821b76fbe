"""What `fleetgate up` calls this machine's node, gateways and relay, and where its database is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.atomic_file import write_atomically
from gateway.command import configuration as gateway_toml
from gateway.command.configuration_checks import check_database
from gateway.command.database import DATABASE_NAME, PASSWORD_NAME, without_password
from gateway.command.sections import (
    DatabaseSection,
    GatewayConfiguration,
    MqttSection,
    RelaySection,
)
from gateway.command.up_options import SetUpError, UpOptions

if TYPE_CHECKING:
    from gateway.join.ca import KeyFiles


def configured_before(data: Path) -> GatewayConfiguration:
    """What an operator or an earlier start set in gateway.toml; defaults where there is none."""
    path = data / gateway_toml.FILE_NAME
    if path.exists():
        return gateway_toml.load_unchecked(path)
    return gateway_toml.resolved(GatewayConfiguration(), data)


def named(before: GatewayConfiguration, options: UpOptions) -> GatewayConfiguration:
    """The same with the node's, the gateways' and the relay's names of this start.

    Names that were made of the node's follow it; others were set by hand and stay.
    """
    mqtt, relay = before.mqtt, before.relay
    node = options.node or mqtt.node
    login, relay_id = mqtt.login, relay.id
    if login == _gateway_login(mqtt.node) or login == MqttSection().login:
        login = _gateway_login(node)
    if options.relay_id:
        relay_id = options.relay_id
    elif relay_id == _relay_id(mqtt.node) or relay_id == RelaySection().id:
        relay_id = _relay_id(node)
    more = [f"{login}-{number}" for number in range(2, options.gateways + 1)]
    return replace(
        before,
        mqtt=replace(mqtt, node=node, login=login, gateways=(login, *more) if more else ()),
        relay=replace(relay, id=relay_id),
        database=database_section(before, options),
    )


def _gateway_login(node: str) -> str:
    return f"@gateway-{node.removeprefix('node-')}"


def _relay_id(node: str) -> str:
    return f"relay-{node.removeprefix('node-')}"


def database_section(before: GatewayConfiguration, options: UpOptions) -> DatabaseSection:
    """The database of this start; a password in its URL moves into a file of its own."""
    section = before.database
    if options.database:
        url, password = without_password(options.database)
        if not section.url and (options.data / DATABASE_NAME).exists():
            raise SetUpError(
                f"{options.data / DATABASE_NAME} holds an installation that --database would leave"
                " behind: move it with  fleetgate backup  and  fleetgate restore --database URL,"
                " or name another data directory"
            )
        section = replace(section, url=url)
        if password is not None:
            file = options.data / PASSWORD_NAME
            write_atomically(file, password.encode() + b"\n")
            section = replace(section, password_file=file)
        check_database(section)
    if options.gateways > 1 and not section.url:
        raise SetUpError(
            "--gateways: several gateways need PostgreSQL: add  --database"
            " postgresql://USER@HOST/NAME"
        )
    return section


async def settle_database(options: UpOptions, say: Callable[[str], None]) -> None:
    """Before keys are made: waits for the database, and brings the keys of what lies in it."""
    before = configured_before(options.data)
    configuration = replace(before, database=database_section(before, options))
    found = None
    if configuration.database.url:
        # Loaded here: whoever keeps to SQLite does not need it.
        from gateway.command.database import address_of
        from gateway.command.database_start import until_there

        found = await until_there(address_of(configuration), say)
    _bring_keys(options, configuration, None if found is None else found.keys)


def _bring_keys(
    options: UpOptions, configuration: GatewayConfiguration, of_database: str | None
) -> None:
    """Copies the keys of `--keys`, and refuses a database that is of other ones."""
    from gateway.command.database_start import fingerprint
    from gateway.join.ca import KeyFiles

    own = KeyFiles(configuration.data.keys)
    if options.keys is not None:
        given = KeyFiles(options.keys)
        if not own.master.exists():
            _copy_keys(given, own)
        elif fingerprint(given) != fingerprint(own):
            raise SetUpError(f"--keys {given.folder}: {own.folder} holds other keys already")
    if of_database is None or (own.master.exists() and fingerprint(own) == of_database):
        return
    raise SetUpError(
        f"{configuration.database.url} holds an installation with other keys than {own.folder}:"
        " copy the folder keys/ of its first machine to this one and start with  --keys DIR"
    )


def _copy_keys(given: "KeyFiles", own: "KeyFiles") -> None:
    """What all machines share; each makes the certificates of its own listeners."""
    shared = [given.master, given.ca_certificate, given.ca_key, *sorted(given.tickets.glob("*"))]
    own.tickets.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in shared:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SetUpError(f"--keys: {path}: {error.strerror}") from error
        target = own.folder / path.relative_to(given.folder)
        write_atomically(target, content, mode=path.stat().st_mode & 0o777)
