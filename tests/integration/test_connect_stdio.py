"""`fleetgate connect --stdio`: pipes, files, sockets and terminals, and stock ssh, scp and curl."""

import asyncio
import hashlib
import os
import pty
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from aiohttp import web

from tests.integration.connect_world import (
    END_S_MAX,
    ROOT,
    SERIAL,
    TOKEN,
    World,
    connecting,
    world,
)
from tests.integration.test_connect import PATTERN, target

PIPE = asyncio.subprocess.PIPE


async def test_pipes_carry_bytes_exactly_and_both_ends() -> None:
    async with (
        world() as server,
        target() as port,
        connecting(server, "--stdio", f"{SERIAL}:{port}", stdin=PIPE) as running,
    ):
        assert running.process.stdin is not None and running.process.stdout is not None
        running.process.stdin.write(PATTERN)
        running.process.stdin.write_eof()
        got = await asyncio.wait_for(running.process.stdout.read(), END_S_MAX)
        assert got == PATTERN
        assert await running.ends() == 0
        assert running.errors == []
    assert [one for one in server.asked if one[0] == "DELETE"]


async def test_the_targets_end_closes_the_output_before_the_input_ends() -> None:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def speak_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready")
        writer.write_eof()
        heard.set_result(await reader.read())
        writer.close()

    async with (
        world() as server,
        target(speak_first) as port,
        connecting(server, "--stdio", f"{SERIAL}:{port}", stdin=PIPE) as running,
    ):
        assert running.process.stdin is not None and running.process.stdout is not None
        assert await asyncio.wait_for(running.process.stdout.read(), END_S_MAX) == b"220 ready"
        running.process.stdin.write(b"bye")
        running.process.stdin.write_eof()
        assert await asyncio.wait_for(heard, END_S_MAX) == b"bye"
        assert await running.ends() == 0


async def test_files_serve_as_input_and_output(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(PATTERN)
    with source.open("rb") as incoming, copy.open("wb") as outgoing:
        async with (
            world() as server,
            target() as port,
            connecting(
                server, "--stdio", f"{SERIAL}:{port}", stdin=incoming, stdout=outgoing
            ) as running,
        ):
            assert await running.ends() == 0
    assert copy.read_bytes() == PATTERN


async def test_nothing_as_input_is_an_end() -> None:
    async with (
        world() as server,
        target() as port,
        connecting(server, "--stdio", f"{SERIAL}:{port}") as running,
    ):
        assert running.process.stdout is not None
        assert await asyncio.wait_for(running.process.stdout.read(), END_S_MAX) == b""
        assert await running.ends() == 0


async def test_one_socket_serves_as_both() -> None:
    ours, theirs = socket.socketpair()
    async with world() as server, target() as port:
        started = connecting(server, "--stdio", f"{SERIAL}:{port}", stdin=theirs, stdout=theirs)
        async with started as running:
            theirs.close()
            reader, writer = await asyncio.open_connection(sock=ours)
            writer.write(PATTERN)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), END_S_MAX) == PATTERN
            assert await running.ends() == 0
            writer.close()


async def test_a_terminal_serves_as_both_and_is_left_as_it_was() -> None:
    ours, theirs = pty.openpty()
    try:
        async with world() as server, target() as port:
            started = connecting(server, "--stdio", f"{SERIAL}:{port}", stdin=theirs, stdout=theirs)
            async with started as running:
                os.write(ours, b"hello\n")
                await read_until(ours, b"hello\r\nhello\r\n")  # once by the terminal itself
                os.write(ours, b"\x04")
                assert await running.ends() == 0
        assert os.get_blocking(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


async def read_until(descriptor: int, wanted: bytes) -> None:
    loop = asyncio.get_running_loop()
    found: asyncio.Future[None] = loop.create_future()
    got = bytearray()

    def read() -> None:
        got.extend(os.read(descriptor, 4096))
        if wanted in got and not found.done():
            found.set_result(None)

    loop.add_reader(descriptor, read)
    try:
        await asyncio.wait_for(found, END_S_MAX)
    finally:
        loop.remove_reader(descriptor)


async def test_a_reader_that_stops_is_waited_for_and_one_that_leaves_ends_it() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            while True:
                writer.write(bytes(65_536))
                await writer.drain()
                sent += 65_536
        except ConnectionError:
            writer.close()

    async with (
        world() as server,
        target(flood) as port,
        connecting(server, "--stdio", f"{SERIAL}:{port}", stdin=PIPE) as running,
    ):
        before = 0
        # It has begun, and until the windows are full, which nothing but quiet shows.
        while not sent or sent != before:
            before = sent
            await asyncio.sleep(0.5)
        assert sent < 40_000_000
        status = Path(f"/proc/{running.process.pid}/status").read_text()
        resident_kb = int(status.partition("VmRSS:")[2].split()[0])
        assert resident_kb < 70_000
        assert running.process.stdout is not None
        got = await running.process.stdout.readexactly(before + 1_000_000)
        assert not any(got)
        transport: Any = running.process._transport  # type: ignore[attr-defined]  # no public way
        transport.get_pipe_transport(1).close()
        assert await running.ends() == 1


@pytest.mark.parametrize(
    ("reason", "says"), [("refused", "nothing listens"), ("device_offline", "is offline")]
)
async def test_a_refused_stream_is_said_on_the_other_output(reason: str, says: str) -> None:
    async with world() as server:
        server.refuse_streams = reason
        async with connecting(server, "--stdio", f"{SERIAL}:22", stdin=PIPE) as running:
            assert running.process.stdout is not None
            await running.says(says)
            assert await running.ends() == 1
            assert await running.process.stdout.read() == b""


async def test_a_lost_link_ends_it() -> None:
    async with (
        world() as server,
        target() as port,
        connecting(server, "--stdio", f"{SERIAL}:{port}", stdin=PIPE) as running,
    ):
        assert running.process.stdin is not None and running.process.stdout is not None
        running.process.stdin.write(b"x")
        assert await running.process.stdout.readexactly(1) == b"x"
        server.cut()
        await running.says("broke")
        assert await running.ends() == 1


# Stock programs


class AnybodyServer(asyncssh.SSHServer):
    """Lets everybody in: what is looked at is the way, not the door."""

    def begin_auth(self, username: str) -> bool:
        return False


class FilesServer(asyncssh.SFTPServer):
    """Ends with a status; the library's own does not, which scp takes for a failure."""

    def __init__(self, channel: "asyncssh.SSHServerChannel[bytes]", folder: Path) -> None:
        self._channel = channel
        super().__init__(channel, chroot=os.fsencode(folder))

    def exit(self) -> None:
        self._channel.exit(0)


async def answer(process: "asyncssh.SSHServerProcess[str]") -> None:
    if process.command:
        process.stdout.write(f"ran {process.command}\n")
    else:
        line = (await process.stdin.readline()).strip()
        process.stdout.write(f"shell says {line}\n")
    process.exit(7 if process.command else 0)


@asynccontextmanager
async def ssh_server(folder: Path) -> AsyncIterator[int]:
    """An SSH server with a shell, SFTP and scp into a folder."""
    folder.mkdir()
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        server_factory=AnybodyServer,
        process_factory=answer,
        sftp_factory=lambda channel: FilesServer(channel, folder),
        allow_scp=True,
    )
    try:
        yield server.get_port()
    finally:
        server.close()
        await server.wait_closed()


def ssh_options(server: World) -> list[str]:
    program = f"{sys.executable} -m broker.connect --url {server.url} --token {TOKEN}"
    return [
        *("-o", f"ProxyCommand={program} --stdio %n:%p"),
        *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
        *("-o", "BatchMode=yes", "-o", "LogLevel=ERROR"),
    ]


async def ran(*command: str, given: bytes = b"") -> tuple[int, bytes]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(given), 50)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, said


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh on this machine")
async def test_stock_ssh_has_a_shell_and_exit_codes(tmp_path: Path) -> None:
    async with world() as server, ssh_server(tmp_path / "device") as port:
        ssh = ["ssh", *ssh_options(server), "-p", str(port), f"root@{SERIAL}"]
        assert await ran(*ssh, "uptime") == (7, b"ran uptime\n")
        assert await ran(*ssh, "-T", given=b"hello\n") == (0, b"shell says hello\n")


@pytest.mark.skipif(shutil.which("scp") is None, reason="no scp on this machine")
async def test_stock_scp_copies_50_mb_exactly_both_ways(tmp_path: Path) -> None:
    source, back, device = tmp_path / "source", tmp_path / "back", tmp_path / "device"
    source.write_bytes(os.urandom(50_000_000))
    async with world() as server, ssh_server(device) as port:
        scp = ["scp", *ssh_options(server), "-P", str(port)]
        assert await ran(*scp, str(source), f"root@{SERIAL}:/there") == (0, b"")
        assert await ran(*scp, f"root@{SERIAL}:/there", str(back)) == (0, b"")
    assert digest(device / "there") == digest(source) == digest(back)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
async def test_curl_fetches_200_in_parallel(tmp_path: Path) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(body=request.match_info["number"].encode() * 5_000)

    app = web.Application()
    app.add_routes([web.get("/{number}", page)])
    runner = web.AppRunner(app)
    await runner.setup()
    site: Any = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with (
            world() as server,
            connecting(server, "--json", f"{SERIAL}:{runner.addresses[0][1]}") as running,
        ):
            local = (await running.ports())[0]["port"]
            code, said = await ran(
                *("curl", "--silent", "--show-error", "--fail", "--no-progress-meter"),
                *("--parallel", "--parallel-max", "200", "--parallel-immediate", "--http1.1"),
                *("--output", f"{tmp_path}/#1", f"http://127.0.0.1:{local}/[1-200]"),
            )
            assert (code, said) == (0, b""), said
    finally:
        await runner.cleanup()
    for number in range(1, 201):
        assert (tmp_path / str(number)).read_bytes() == str(number).encode() * 5_000
