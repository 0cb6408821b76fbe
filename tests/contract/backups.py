"""Data directories to back up, and the commands that do it."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.command import backup, restore
from gateway.command.data_directory import prepare_mqtt_logins
from gateway.join.ca import prepare_keys
from gateway.join.ticket_keys import prepare_ticket_keys
from gateway.storage.address import Address
from tests.contract.lived import folder_of


def installed(address: Address, folder: Path) -> Path:
    """A data directory with all that `up` makes, whose database this is."""
    data = Path(folder_of(address, folder))
    now = datetime.now(UTC)
    keys = prepare_keys(data / "keys", ["localhost"], now)
    prepare_ticket_keys(keys.tickets, now)
    prepare_mqtt_logins(data / "mqtt-logins.json", "@gateway-1")
    (data / "ports.json").write_text('{"http": 8123}')
    (data / "log").write_text("none of a backup's business")
    with (data / "gateway.toml").open("a") as configuration:
        configuration.write('[relay]\ndomain = "tunnels.example.org"\n')
    return data


def back_up(data: Path, *options: str) -> Path:
    out = data.parent / "backup.tar"
    assert backup.main(["--data", str(data), "--out", str(out), *options]) == 0
    return out


def restored(out: Path, new_database: str) -> tuple[Path, Address]:
    target = out.parent / "restored"
    words = ["--from", str(out), "--data", str(target)]
    assert restore.main([*words, *(["--database", new_database] if new_database else [])]) == 0
    return target, new_database or target / "fleetgate.db"


def fail(capsys: pytest.CaptureFixture[str], main: Callable[..., int], *words: object) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said, said
    return said
