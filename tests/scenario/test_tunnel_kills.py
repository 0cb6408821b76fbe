"""`kill -9` of each part while streams are open: they need the relay and the device, no others."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from firmware_sim.lan.bulk import bulk_sha256
from tests.scenario.installation import Installation
from tests.scenario.tunnel import (
    ECHO,
    PIPE,
    PLC,
    Browser,
    Connected,
    Echo,
    authorized_key,
    connecting,
    demo,
    demo_pid,
    ran,
    router,
    socket_gone,
    ssh_options,
    until_shown,
    until_true,
)

# A download that goes on for so long after the gateway was killed.
DOWNLOAD_BYTES = 54_000_000
DOWNLOAD_BYTES_PER_S = 3_000_000
GOES_ON_S_MIN = 10.0
# By rule: a relay that was started again takes new streams of its sessions.
BACK_S_MAX = 10.0
# A lease is good for 15 s, and may be two seconds old when the next does not come.
LEASE_LOST_S_MIN, LEASE_LOST_S_MAX = 12.5, 25.0
STILL_S = 20.0
LOOK_S = 0.1


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with demo(tmp_path_factory.mktemp("kills"), 2) as found:
        yield found
        assert not found.tracebacks()


def now_s() -> float:
    return asyncio.get_running_loop().time()


class Shell:
    """A line-wise shell over ssh, held open."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def runs(self, line: str, answer: bytes) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line.encode() + b"\n")
        assert await asyncio.wait_for(self.process.stdout.readline(), 10) == answer + b"\n"


@asynccontextmanager
async def shell(installation: Installation, folder: Path, port: int) -> AsyncIterator[Shell]:
    key = authorized_key(installation, folder, router(1))
    ssh = ("ssh", "-T", *ssh_options(key), "-p", str(port), "admin@127.0.0.1")
    process = await asyncio.create_subprocess_exec(*ssh, stdin=PIPE, stdout=PIPE)
    try:
        opened = Shell(process)
        await opened.runs("echo ready", b"ready")
        yield opened
        await asyncio.wait_for(process.communicate(b"exit 5\n"), 10)
        assert process.returncode == 5
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_the_gateway_is_not_needed_by_open_streams(
    installation: Installation, tmp_path: Path
) -> None:
    file = tmp_path / "download"
    async with connecting(
        installation, tmp_path, router(1), f"{router(1)}:80", f"{router(2)}:{ECHO}"
    ) as running:
        ssh_port, page_port, _ = (int(row["port"]) for row in running.ports)
        steady = await running.echo(2)
        async with shell(installation, tmp_path, ssh_port) as ssh:
            curl = await asyncio.create_subprocess_exec(
                *("curl", "--silent", "--fail", "--limit-rate", str(DOWNLOAD_BYTES_PER_S)),
                *("--output", str(file)),
                f"http://127.0.0.1:{page_port}/download?bytes={DOWNLOAD_BYTES}",
            )

            async def begun() -> bool:
                return file.exists() and file.stat().st_size > 0

            await until_true(begun, "the download has begun")
            former = installation.kill_child("gateway")
            killed_s = now_s()
            # While nobody is there, and while it starts.
            await ssh.runs("echo without", b"without")
            await steady.says(os.urandom(1_000_000))
            await asyncio.to_thread(installation.back, "gateway", former)
            await ssh.runs("echo with", b"with")
            (again,) = [row["session"] for row in running.ports[2:]]
            before = installation.api.get(f"/sessions/{again}")["bytes_out"]
            await steady.says(os.urandom(500_000))
            # Bytes count on, and the sessions can be managed.
            exact = len(b"hello") + 1_500_000
            await until_shown(installation, again, state="open", bytes_out=exact, bytes_in=exact)
            assert before <= exact
            # New streams, in a session of before.
            more = await running.echo(2)
            await more.close()
            assert await asyncio.wait_for(curl.wait(), 40) == 0
            assert now_s() - killed_s >= GOES_ON_S_MIN
            assert sha256(file) == bulk_sha256(DOWNLOAD_BYTES)
            await ssh.runs("echo still", b"still")
        ended = installation.api.done("DELETE", f"/sessions/{again}")
        assert ended["ended_because"] == "closed"
        async with asyncio.timeout(5):
            await steady.gone()
        assert running.process.returncode is None  # the other sessions go on


async def test_sessions_go_on_by_themselves_after_the_relay_was_killed(
    installation: Installation, tmp_path: Path
) -> None:
    async with (
        Browser(installation) as browser,
        connecting(installation, tmp_path, f"{router(1)}:{ECHO}") as running,
    ):
        await browser.sign_in()
        asked = {"serial": router(2), "target": PLC, "protocol": "http"}
        page = installation.api.done("POST", "/sessions", asked)
        assert (await browser.page(page["url"]))[0] == 200
        socket = await browser.socket(f"{page['url']}ws")
        stream = await running.echo()
        counted = await until_shown(installation, running.session, bytes_out=5, bytes_in=5)
        former = installation.kill_child("relay")
        async with asyncio.timeout(5):
            await stream.gone()
            await socket_gone(socket)

        async def started() -> bool:
            return installation.pid("relay") != former

        await until_true(started, "the relay is started again")
        began_s = now_s()
        async with asyncio.timeout_at(began_s + BACK_S_MAX):
            stream = await echo_again(running)
            way = await page_again(browser, page["url"])
        # Back through the gateway, which knows the sign-in still.
        assert "/enter" in way and "/login" not in way
        socket = await browser.socket(f"{page['url']}ws")
        await socket.close()
        # Counts of both lives of the relay are added up.
        await stream.says(b"more bytes")
        total = counted["bytes_out"] + len(b"hello") + len(b"more bytes")
        shown = await until_shown(installation, running.session, bytes_out=total, state="open")
        assert shown["bytes_in"] == total
        await stream.close()
        installation.api.done("DELETE", f"/sessions/{page['id']}")


async def test_a_shell_ends_with_its_relay_and_its_port_stays(
    installation: Installation, tmp_path: Path
) -> None:
    async with connecting(installation, tmp_path, router(1)) as running:
        key = authorized_key(installation, tmp_path, router(1))
        ssh = ("ssh", "-T", *ssh_options(key), "-p", str(running.port), "admin@127.0.0.1")
        typed = await asyncio.create_subprocess_exec(*ssh, stdin=PIPE, stdout=PIPE)
        try:
            await Shell(typed).runs("echo before", b"before")
            installation.kill_child("relay")
            began_s = now_s()
            # Whoever types learns it at once, instead of waiting for an answer that never comes.
            assert await asyncio.wait_for(typed.wait(), 5) == 255
        finally:
            if typed.returncode is None:
                typed.kill()
                await typed.wait()

        async def works() -> bool:
            return await ran(*ssh, "echo after") == (0, b"after\n")

        left_s = began_s + BACK_S_MAX - now_s()
        await until_true(works, "the same port works again", within_s=left_s)
        assert running.process.returncode is None
        assert (await until_shown(installation, running.session, state="open"))["ended_at"] is None


async def echo_again(running: Connected) -> Echo:
    """A new stream, as soon as there can be one."""
    while True:
        try:
            return await running.echo()
        except (ConnectionError, asyncio.IncompleteReadError):
            await asyncio.sleep(LOOK_S)


async def page_again(browser: Browser, url: str) -> list[str]:
    """The way to the page, as soon as it is there again."""
    while True:
        try:
            status, _, way = await browser.page(url)
            if status == 200:
                return way
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(LOOK_S)


async def test_open_streams_do_not_need_the_mqtt_server(
    installation: Installation, tmp_path: Path
) -> None:
    async with connecting(installation, tmp_path, f"{router(1)}:{ECHO}") as running:
        stream = await running.echo()
        former = installation.kill_child("mosquitto")
        await stream.says(b"nothing is missing")
        # The lease is good for a while: new ones work as well.
        more = await running.echo()
        await asyncio.to_thread(installation.back, "mosquitto", former)
        await stream.says(b"still there")
        await more.says(b"this one too")
        exact = 2 * 5 + 18 + 11 + 12
        await until_shown(installation, running.session, bytes_out=exact, bytes_in=exact)
        # A new session is told to the device by the new MQTT server.
        async with connecting(installation, tmp_path, f"{router(2)}:{ECHO}") as other:
            newest = await other.echo()
            await newest.close()
        for one in (stream, more):
            await one.close()


async def test_sessions_come_back_with_their_devices(
    installation: Installation, tmp_path: Path
) -> None:
    async with connecting(installation, tmp_path, f"{router(1)}:{ECHO}") as running:
        stream = await running.echo()
        former = demo_pid(installation)
        os.kill(former, signal.SIGKILL)
        async with asyncio.timeout(5):
            await stream.gone()

        async def back() -> bool:
            try:
                return demo_pid(installation) != former
            except ValueError:  # none at the moment
                return False

        await until_true(back, "the devices are started again", within_s=30)
        async with asyncio.timeout(30):
            stream = await echo_again(running)
        shown = await until_shown(installation, running.session, state="open")
        assert shown["ended_at"] is None
        await stream.close()


@pytest.mark.long
@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", ["gateway", "mosquitto"])
async def test_who_stands_still_lets_open_streams_go_on(
    installation: Installation, tmp_path: Path, name: str
) -> None:
    async with connecting(installation, tmp_path, f"{router(1)}:{ECHO}") as running:
        stream = await running.echo()
        pid = installation.pid(name)
        os.kill(pid, signal.SIGSTOP)
        stopped_s = now_s()
        try:
            await refused_in_the_end(running)
            assert now_s() - stopped_s > LEASE_LOST_S_MIN
            await running.says("(control_link_lost)")
            await stream.says(os.urandom(1_000_000))
            while now_s() - stopped_s < STILL_S:
                await stream.says(b"goes on")
                await asyncio.sleep(LOOK_S)
        finally:
            os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(BACK_S_MAX):
            await echo_again(running)
        await stream.says(b"the old one too")
        # The devices may have lost their MQTT server meanwhile; they are told of new sessions.
        async with connecting(installation, tmp_path, f"{router(2)}:{ECHO}") as other:
            await echo_again(other)


async def refused_in_the_end(running: Connected) -> None:
    """New streams as long as the lease is fresh, then no more."""
    async with asyncio.timeout(LEASE_LOST_S_MAX):
        while True:
            try:
                await (await running.echo()).close()
            except (ConnectionError, asyncio.IncompleteReadError):
                return
            await asyncio.sleep(LOOK_S)
