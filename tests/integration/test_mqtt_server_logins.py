"""The login file in force: new logins come in, removed ones go, the version says how far it is."""

import asyncio
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.mqtt_server import acl, passwords
from gateway.mqtt_server.connection import MqttRefused, connected
from gateway.mqtt_server.login_file import LoginFile, LoginFileSettings, LoginRows
from gateway.mqtt_server.pacing import PAUSE_S
from tests.conftest import MosquittoFactory
from tests.integration.mqtt_node import (
    DEVICE_A,
    DEVICE_B,
    GATEWAY,
    LOGINS,
    OTHER_RELAY,
    RELAY,
    MqttNode,
    make_node,
)
from tests.mosquitto import chosen_way

ACCESS = acl.render(gateways=[GATEWAY], relays=[RELAY, OTHER_RELAY])


@dataclass
class Table:
    """Stands where the gateway hands in its database table: version and rows together."""

    hashes: dict[str, str]
    version: int = 1
    reached: list[int] = field(default_factory=list)

    async def load(self) -> LoginRows:
        return LoginRows(self.version, list(self.hashes.items()), ACCESS)

    async def written(self) -> int:
        return self.reached[-1] if self.reached else 0

    async def report(self, version: int) -> None:
        self.reached.append(version)

    def remove(self, login: str) -> None:
        del self.hashes[login]
        self.version += 1

    def set(self, login: str, password: str) -> None:
        self.hashes[login] = passwords.hash_password(password)
        self.version += 1


def started(mosquitto: MosquittoFactory) -> tuple[MqttNode, Table]:
    if chosen_way()[0] == "container":
        pytest.skip("the process number in a container's pid file is not one of this machine")
    node = make_node(mosquitto)
    node.server.start()
    hashes = {login: passwords.hash_password(node.passwords[login]) for login in LOGINS}
    return node, Table(hashes)


def login_file(node: MqttNode, table: Table) -> LoginFile:
    settings = LoginFileSettings(
        path=node.directory / node.settings.password_name,
        access_path=node.directory / node.settings.acl_name,
        lock_path=node.directory / "writer.lock",
        pid_file=node.directory / node.settings.pid_name,
        listener=node.unix,
        owner=(os.geteuid(), os.getegid()),
    )
    return LoginFile(
        settings,
        load=table.load,
        reached=table.report,
        watch=table.written,
        connections=lambda: 0,
        clock=asyncio.get_running_loop().time,
    )


async def test_a_removed_login_is_thrown_out_and_the_others_stay(
    mosquitto: MosquittoFactory,
) -> None:
    node, table = started(mosquitto)
    file = login_file(node, table)
    async with (
        connected(node.tls, node.as_login(DEVICE_A)) as removed,
        connected(node.tls, node.as_login(DEVICE_B)) as kept,
        asyncio.TaskGroup() as tasks,
    ):
        task = tasks.create_task(file.run(), name="login file")
        table.remove(DEVICE_A)
        file.changed(removal=True)
        assert await file.wait_for(table.version, within_s=5)
        assert table.reached == [table.version]
        await removed.until_closed()
        await kept.ping()
        with pytest.raises(MqttRefused):
            async with connected(node.tls, node.as_login(DEVICE_A)):
                pass
        task.cancel()


async def test_a_new_login_comes_in_and_changes_in_a_pause_are_taken_together(
    mosquitto: MosquittoFactory,
) -> None:
    node, table = started(mosquitto)
    file = login_file(node, table)
    clock = asyncio.get_running_loop().time
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(file.run(), name="login file")
        file.changed(removal=False)
        assert await file.wait_for(1, within_s=5)
        first_s = clock()
        for number in range(5):
            node.passwords[f"110000010{number}"] = "word"
            table.set(f"110000010{number}", "word")
            file.changed(removal=False)
        assert await file.wait_for(table.version, within_s=8)
        assert clock() - first_s > PAUSE_S / 2
        assert table.reached == [1, table.version]
        async with connected(node.tls, node.as_login("1100000104")) as device:
            await device.ping()
        task.cancel()


async def test_a_server_that_is_away_is_told_when_it_is_back(mosquitto: MosquittoFactory) -> None:
    node, table = started(mosquitto)
    file = login_file(node, table)
    node.server.kill()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(file.run(), name="login file")
        table.set(DEVICE_A, "other")
        file.changed(removal=True)
        assert not await file.wait_for(table.version, within_s=0.3)
        await asyncio.to_thread(node.server.start)
        assert await file.wait_for(table.version, within_s=10)
        task.cancel()
    node.passwords[DEVICE_A] = "other"
    async with connected(node.tls, node.as_login(DEVICE_A)) as device:
        await device.ping()


async def test_the_first_file_lets_a_server_start(mosquitto: MosquittoFactory) -> None:
    node, table = started(mosquitto)
    node.server.stop()
    path = node.directory / node.settings.password_name
    path.unlink()
    writer, other = login_file(node, table), login_file(node, table)
    await writer.write_first()
    written = path.read_bytes()
    await other.write_first()  # one of a node writes
    assert (writer.writing, other.writing) == (True, False)
    assert path.read_bytes() == written
    await asyncio.to_thread(node.server.start)
    async with connected(node.tls, node.as_login(DEVICE_B)) as device:
        await device.ping()


def test_the_servers_own_tool_makes_the_same_hashes(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    tool = "/usr/bin/mosquitto_passwd"
    if not Path(tool).exists():
        pytest.skip("mosquitto_passwd is not installed")
    subprocess.run([tool, "-c", "-b", str(path), DEVICE_A, "secret"], check=True, timeout=10)
    login, _, hashed = path.read_text().strip().partition(":")
    assert login == DEVICE_A
    assert passwords.verify_password("secret", hashed)
    assert passwords.render([(login, hashed)]) == path.read_text()
