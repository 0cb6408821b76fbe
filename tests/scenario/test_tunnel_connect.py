"""Stock programs through `fleetgate connect`, all the way to machines behind simulated routers."""

import asyncio
import fcntl
import hashlib
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firmware_sim.lan.bulk import bulk_sha256
from tests.scenario.http_api import Api
from tests.scenario.installation import ROOT, Installation, end_with_the_tests
from tests.scenario.tunnel import (
    CONNECT,
    ECHO,
    END_S_MAX,
    PLC,
    Browser,
    authorized_key,
    connecting,
    demo,
    demo_company,
    ran,
    router,
    ssh_options,
    until_shown,
    until_true,
    variables,
)

FILE_BYTES = 50_000_000
PARALLEL = 200
# What ssh adds to a file: headers of packets and of its own windows.
OVERHEAD = 1.05
COUNTED_S_MAX = 10.0  # a relay says its counts every two seconds
SETTLED_S = 15.0  # after its end, by the servers' clock, a session's counts are final
BUILDER = ROOT / "packaging" / "connect" / "build.py"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with demo(tmp_path_factory.mktemp("tunnel"), 2) as found:
        yield found
        assert not found.tracebacks()


@pytest.fixture(scope="module")
def key(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return authorized_key(installation, tmp_path_factory.mktemp("key"), router(1), router(2))


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def test_ssh_by_proxy_command_runs_commands_and_leaves_its_trace(
    installation: Installation, key: Path
) -> None:
    proxy = (*CONNECT, "--reason", "ticket 4711")
    ssh = ["ssh", *ssh_options(key, proxy), f"admin@{router(1)}"]
    serial = await ran(*ssh, "ubus call system board", env=variables(installation))
    assert serial[0] == 0 and f'"serial": "{router(1)}"'.encode() in serial[1], serial
    assert (await ran(*ssh, "no-such-command", env=variables(installation)))[0] == 127
    given = os.urandom(100_000)
    code, said = await ran(*ssh, "sha256sum", given=given, env=variables(installation))
    assert (code, said) == (0, f"{hashlib.sha256(given).hexdigest()}  -\n".encode())
    # ssh ends its proxy command with a signal, and none leaves its session behind.
    listed = installation.api.items(f"/sessions?serial={router(1)}")
    assert len(listed) == 3
    for session in listed:
        assert (session["protocol"], session["reason"]) == ("ssh", "ticket 4711")
        assert (session["state"], session["ended_because"]) == ("ended", "closed")
        assert session["ended_by"] == "user:1"
        check_audit(installation.api, session["id"])
    await counted(installation, listed[0]["id"], "bytes_out", len(given))


def check_audit(api: Api, session: str) -> None:
    """Who, what, why, how long, how many bytes, and how it ended."""
    shown = api.get(f"/sessions/{session}")
    rows = {row["verb"]: row for row in api.items(f"/audit?subject={session}")}
    assert {"session.opened", "session.ticket", "session.ended"} <= set(rows)
    for verb in ("session.opened", "session.ended"):
        row, detail = rows[verb], rows[verb]["detail"]
        assert (row["owner"], row["serial"]) == (shown["person"], shown["serial"])
        assert row["company_id"] == shown["company_id"]
        assert {name: detail[name] for name in ("target", "protocol", "reason")} == {
            name: shown[name] for name in ("target", "protocol", "reason")
        }
    assert rows["session.opened"]["detail"]["minutes"] == 60
    ended = rows["session.ended"]["detail"]
    assert ended["ended_because"] == shown["ended_because"]
    assert ended["duration_s"] >= 0
    assert {"bytes_in", "bytes_out"} <= set(ended)


class Terminal:
    """A program with a terminal of its own, as a person has it."""

    def __init__(self, *command: str, environment: dict[str, str]) -> None:
        self.ours, theirs = pty.openpty()
        self.got = bytearray()
        self._changed = asyncio.Event()

        def take_over() -> None:
            end_with_the_tests()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=take_over,
        )
        os.close(theirs)
        asyncio.get_running_loop().add_reader(self.ours, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self.ours, 65_536)
        except OSError:  # the other side is closed
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self.ours)
        self.got += data
        self._changed.set()

    async def shows(self, text: str, *, times: int = 1) -> None:
        async with asyncio.timeout(END_S_MAX):
            while self.got.count(text.encode()) < times:
                self._changed.clear()
                await self._changed.wait()

    def types(self, text: str) -> None:
        os.write(self.ours, text.encode())

    async def ends(self) -> int:
        return await asyncio.to_thread(self.process.wait, END_S_MAX)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.ours)
        os.close(self.ours)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


async def test_an_interactive_shell_through_a_local_port(
    installation: Installation, key: Path, tmp_path: Path
) -> None:
    async with connecting(installation, tmp_path, router(1)) as running:
        terminal = Terminal(
            *("ssh", "-tt", *ssh_options(key), "-p", str(running.port), "root@127.0.0.1"),
            environment=variables(installation),
        )
        try:
            await terminal.shows(f"serial {router(1)}")
            await terminal.shows(":~# ")
            terminal.types("echo one two\n")
            # As typed, and as answered.
            await terminal.shows("one two", times=2)
            await terminal.shows(":~# ", times=2)
            terminal.types("uptime\n")
            await terminal.shows("load average")
            terminal.types("exit 3\n")
            assert await terminal.ends() == 3
        except TimeoutError as error:
            raise AssertionError(terminal.got.decode(errors="replace")) from error
        finally:
            terminal.close()


@pytest.mark.timeout(120)
async def test_scp_copies_50_mb_each_way_by_both_ways_in(
    installation: Installation, key: Path, tmp_path: Path
) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(FILE_BYTES))
    there = installation.data / "demo" / router(2) / "lan" / "files" / "firmware.bin"
    # There by a proxy command …
    scp = ["scp", "-q", *ssh_options(key, CONNECT)]
    place = f"root@{router(2)}:/firmware.bin"
    assert await ran(*scp, str(source), place, env=variables(installation)) == (0, b"")
    assert digest(there) == digest(source)
    up = installation.api.items(f"/sessions?serial={router(2)}&state=ended")[0]
    # … and back through a local port.
    async with connecting(installation, tmp_path, router(2)) as running:
        scp = ["scp", "-q", "-P", str(running.port), *ssh_options(key)]
        assert await ran(*scp, "root@127.0.0.1:/firmware.bin", str(back)) == (0, b"")
        down = running.session
    assert digest(back) == digest(source)
    ways = ((up["id"], "bytes_out", "bytes_in"), (down, "bytes_in", "bytes_out"))
    for session, most, least in ways:
        shown = await counted(installation, session, most, FILE_BYTES)
        assert FILE_BYTES < shown[most] < OVERHEAD * FILE_BYTES
        assert shown[least] < 0.05 * FILE_BYTES


async def counted(installation: Installation, session: str, name: str, least: int) -> Any:
    """The session, once so many bytes of it are known."""

    async def enough() -> Any:
        shown = await asyncio.to_thread(installation.api.get, f"/sessions/{session}")
        return shown if shown[name] >= least else None

    return await until_true(enough, f"{least} {name} are counted", within_s=COUNTED_S_MAX)


async def test_curl_makes_200_requests_at_once(installation: Installation, tmp_path: Path) -> None:
    first = 100_001
    sizes = range(first, first + PARALLEL)
    async with connecting(installation, tmp_path, f"{router(1)}:80") as running:
        code, said = await ran(
            *("curl", "--no-progress-meter", "--http1.1", "--write-out", "%{http_code}\n"),
            *("--parallel", "--parallel-max", str(PARALLEL), "--parallel-immediate"),
            *("--output", f"{tmp_path}/#1"),
            f"http://127.0.0.1:{running.port}/download?bytes=[{sizes[0]}-{sizes[-1]}]",
        )
        assert code == 0, said
        assert said.split() == [b"200"] * PARALLEL
        for size in sizes:
            assert digest(tmp_path / str(size)) == bulk_sha256(size), size
        shown = await counted(installation, running.session, "bytes_in", sum(sizes))
        # Beside the bodies only the heads of the answers.
        assert shown["bytes_in"] < sum(sizes) + PARALLEL * 1_000


async def test_several_ports_at_once_lead_each_to_its_own_target(
    installation: Installation, key: Path, tmp_path: Path
) -> None:
    targets = [f"{router(1)}:{ECHO}", f"{router(2)}:{ECHO}", f"{router(2)}:22", f"{router(1)}/plc"]
    saved = {"serial": router(1), "name": "plc", "target": PLC, "protocol": "http"}
    installation.api.done("POST", "/targets", saved)
    async with connecting(installation, tmp_path, *targets) as running:
        rows = [(row["serial"], row["target"], row["protocol"]) for row in running.ports]
        assert rows == [
            (router(1), ECHO, "tcp"),
            (router(2), ECHO, "tcp"),
            (router(2), "127.0.0.1:22", "ssh"),
            (router(1), PLC, "http"),
        ]
        ports = [str(row["port"]) for row in running.ports]
        given = [os.urandom(300_000), os.urandom(700_000)]
        visitors = [await running.echo(number) for number in range(2)]
        async with asyncio.TaskGroup() as tasks:
            for visitor, data in zip(visitors, given, strict=True):
                tasks.create_task(visitor.says(data))
            ssh = ("ssh", *ssh_options(key), "-p", ports[2], "admin@127.0.0.1", "hostname")
            shell = tasks.create_task(ran(*ssh))
            page = tasks.create_task(ran("curl", "--silent", f"http://127.0.0.1:{ports[3]}/"))
        assert shell.result()[0] == 0
        assert page.result()[0] == 0 and router(1).encode() in page.result()[1]
        for row, data in zip(running.ports[:2], given, strict=True):
            # Bytes of streams, and nothing of what carries them.
            exact = len(data) + len(b"hello")
            await until_shown(
                installation,
                row["session"],
                within_s=COUNTED_S_MAX,
                bytes_out=exact,
                bytes_in=exact,
                state="open",
            )
        for visitor in visitors:
            await visitor.close()
    for row in running.ports:
        shown = installation.api.get(f"/sessions/{row['session']}")
        assert (shown["state"], shown["ended_because"]) == ("ended", "closed")
        check_audit(installation.api, row["session"])


async def test_two_persons_at_one_target_are_told_of_each_other(
    installation: Installation, tmp_path: Path
) -> None:
    member = {"email": "ana@example.com", "name": "Ana", "password": "correct horse 9"}
    company = demo_company(installation)
    installation.api.done(
        "POST", f"/companies/{company}/members", {**member, "role": "administrator"}
    )
    asked = {"serial": router(2), "target": PLC, "protocol": "http"}
    async with (
        Browser(installation) as ana,
        connecting(installation, tmp_path, f"{router(2)}:{PLC}") as running,
    ):
        await ana.sign_in(member["email"], member["password"])
        hers = await ana.ask("POST", "/sessions", asked)
        assert [(one["person"], one["protocol"]) for one in hers["others"]] == [
            ("Operator", "http")
        ]
        ours = installation.api.get(f"/sessions/{running.session}")
        assert [one["person"] for one in ours["others"]] == ["Ana"]
        assert ours["others"][0]["since"] == hers["created_at"]
        # Both are there at once.
        status, text, way = await ana.page(hers["url"])
        assert status == 200 and router(2) in text
        assert "/enter" in way and "/login" not in way
        code, said = await ran("curl", "--silent", f"http://127.0.0.1:{running.port}/")
        assert code == 0 and router(2).encode() in said
        await ana.ask("DELETE", f"/sessions/{hers['id']}")
        assert installation.api.get(f"/sessions/{running.session}")["others"] == []
        (row,) = installation.api.items(f"/audit?subject={hers['id']}&verb=session.ended")
        assert row["owner"] == "Ana"


async def test_the_single_file_serves_ssh_with_a_bare_python(
    installation: Installation, key: Path, tmp_path: Path
) -> None:
    made = tmp_path / "fleetgate-connect.pyz"
    assert await ran(sys.executable, str(BUILDER), str(made)) == (0, b"")
    facts = installation.facts()
    bare = (sys.executable, "-I", "-S", str(made))
    proxy = (*bare, "--url", facts["http_url"], "--token", facts["admin_token"])
    ssh = ["ssh", *ssh_options(key, proxy), f"admin@{router(1)}"]
    code, said = await ran(*ssh, "ubus call system board")
    assert code == 0 and router(1).encode() in said, said


async def test_the_audit_has_all_bytes_in_the_end(installation: Installation) -> None:
    """What was counted in a session's last seconds is told in a row of its own."""
    api = installation.api
    assert api.items("/sessions?state=open") == []
    count = len(api.items("/sessions"))

    async def all_ended() -> bool:
        (relay,) = (await asyncio.to_thread(api.status))["relays"]
        return bool(relay["applied"] == relay["revocations"] >= count)

    # The relay has told its last counts with the number of the last revocation.
    await until_true(all_ended, "the relay has ended all sessions")
    sessions = api.items("/sessions?state=ended")
    assert len(sessions) == count
    installation.move_clock(SETTLED_S)

    async def all_told() -> bool:
        told: dict[str, tuple[int, int]] = {}
        for row in await asyncio.to_thread(api.items, "/audit"):  # the newest first
            if row["verb"] in ("session.ended", "session.counted"):
                counts = row["detail"]["bytes_in"], row["detail"]["bytes_out"]
                told.setdefault(row["subject"], counts)
        return all(told[one["id"]] == (one["bytes_in"], one["bytes_out"]) for one in sessions)

    assert sum(one["bytes_in"] + one["bytes_out"] for one in sessions) > 2 * FILE_BYTES
    await until_true(all_told, "the audit tells what was counted", within_s=COUNTED_S_MAX)
