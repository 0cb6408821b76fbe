"""The files of a data directory that a backup takes along, and their places when restored."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from gateway.atomic_file import write_atomically
from gateway.command import ports
from gateway.command.configuration import (
    FILE_NAME,
    DatabaseSection,
    GatewayConfiguration,
    load_unchecked,
    resolved,
    write_gateway_toml,
)
from gateway.command.database import PASSWORD_NAME, without_password
from gateway.command.demo import STATE_NAME
from gateway.command.installation import FOUND_NAMES_NAME
from gateway.storage.address import Address

FOLDER = "files"
KEYS = "keys"
DEMO_FOLDER = "demo"
DEMO_FLASH = ("secret.json", "enrolment.json", "ca.pem")
_PLACE = re.compile(r"files(/[A-Za-z0-9_][A-Za-z0-9._-]*){1,4}")


def configuration_of(data: Path) -> GatewayConfiguration:
    """What stands in the directory's gateway.toml. Raises `ConfigurationError`."""
    path = data / FILE_NAME
    if path.exists():
        return load_unchecked(path)
    return resolved(GatewayConfiguration(), data)


def belongings(data: Path, configuration: GatewayConfiguration) -> Iterator[tuple[str, Path]]:
    """`(place in the archive, file)`.

    Keys that sign tickets stay out: a restored installation makes new ones, so that no ticket from
    before is good. The database's password stays out too, and what lies outside of the directory.
    """
    for path in sorted(configuration.data.keys.iterdir()):
        if path.is_file():
            yield f"{FOLDER}/{KEYS}/{path.name}", path
    named = (
        data / FILE_NAME,
        data / ports.FILE_NAME,
        data / FOUND_NAMES_NAME,
        data / STATE_NAME,
        configuration.mqtt.logins_file,
        configuration.data.admin_file,
        configuration.http.certificate_file,
        configuration.http.key_file,
        configuration.relay.certificate_file,
        configuration.relay.key_file,
    )
    # The demo's simulated routers live here; theirs is what a real one keeps on flash.
    demo = (path for name in DEMO_FLASH for path in sorted(data.glob(f"{DEMO_FOLDER}/*/{name}")))
    for file in (*named, *demo):
        if file is not None and file.is_file() and file.is_relative_to(data):
            place = f"{FOLDER}/{file.relative_to(data)}"
            if _PLACE.fullmatch(place):
                yield place, file


def put_back(folder: Path, place: str, content: bytes) -> bool:
    """Writes a file of a backup below the folder; False for a place that is none of a backup."""
    if _PLACE.fullmatch(place) is None:
        return False
    path = folder / place.removeprefix(f"{FOLDER}/")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, content)
    return True


def point_at(folder: Path, address: Address) -> None:
    """Makes the restored configuration use its keys, and this database; a password gets a file."""
    configuration = configuration_of(folder)
    database = DatabaseSection()
    if isinstance(address, str):
        url, password = without_password(address)
        database = DatabaseSection(url=url)
        if password is not None:
            file = folder / PASSWORD_NAME
            write_atomically(file, password.encode() + b"\n")
            database = replace(database, password_file=file)
    data = replace(configuration.data, directory=folder, keys=folder / KEYS)
    write_gateway_toml(replace(configuration, data=data, database=database))
