"""A simulated router's SSH server with OpenSSH's own clients and with asyncssh."""

import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import asyncssh
import pytest

from firmware_sim.lan.facts import PASSWORD, USER
from firmware_sim.lan.lan import ROUTER, SimulatedLan
from tests.simulated_lan import FACTS, HOSTNAME, door_to, lan_in, output_of

SSH_WORDS = ("-F", "none", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")


@pytest.fixture
async def lan(tmp_path: Path) -> AsyncIterator[SimulatedLan]:
    async with lan_in(tmp_path / "lan") as made:
        yield made


@asynccontextmanager
async def stock_ssh(lan: SimulatedLan, tmp_path: Path) -> AsyncIterator[tuple[int, list[str]]]:
    """A port and the options of OpenSSH's clients, with a key that the router admits."""
    if shutil.which("ssh") is None:
        pytest.skip("no ssh here: apt-get install openssh-client")
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "lan").mkdir(exist_ok=True)
    key.write_public_key(tmp_path / "lan" / "authorized_keys")
    words = [*SSH_WORDS, "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes"]
    words += ["-o", "IdentitiesOnly=yes", "-i", str(tmp_path / "key")]
    async with door_to(lan, ROUTER, 22) as port:
        yield port, words


async def test_stock_ssh_runs_the_closed_list_of_commands(
    lan: SimulatedLan, tmp_path: Path
) -> None:
    async with stock_ssh(lan, tmp_path) as (port, options):
        words = ["ssh", *options, "-p", str(port), f"{USER}@127.0.0.1"]
        board = json.loads(await output_of(*words, "ubus call system board"))
        assert board["serial"] == FACTS.serial and board["hostname"] == HOSTNAME
        assert b"RSRP: -98\n" in await output_of(*words, "gsmctl -q")
        assert await output_of(*words, "cat /etc/version") == FACTS.firmware.encode() + b"\n"
        data = Random(2).randbytes(1_000_001)
        assert await output_of(*words, "cat", stdin=data) == data
        digest = await output_of(*words, "sha256sum", stdin=data)
        assert digest.split()[0].decode() == hashlib.sha256(data).hexdigest()
        lines = b"echo one two\nuptime\nexit 3\n"
        said = await output_of(*words, "-T", stdin=lines, code=3)
        assert said.startswith(b"one two\n up 1 days, 1:00, load average: ")
        refusals = {"/bin/sh": 127, "cat /etc/passwd": 1, "echo $(id); id": 0}
        for line, code in refusals.items():
            out = await output_of(*words, line, code=code)
            assert b"uid=" not in out and b"root:" not in out


async def test_stock_scp_and_sftp_stay_in_the_router_s_folder(
    lan: SimulatedLan, tmp_path: Path
) -> None:
    source, back = tmp_path / "source.bin", tmp_path / "back.bin"
    source.write_bytes(Random(3).randbytes(5_000_001))
    async with stock_ssh(lan, tmp_path) as (port, options):
        words = [*options, "-P", str(port)]
        await output_of("scp", *words, str(source), f"{USER}@127.0.0.1:../../up.bin")
        await output_of("scp", *words, f"{USER}@127.0.0.1:/up.bin", str(back))
        assert back.read_bytes() == source.read_bytes()
        await output_of("scp", "-O", *words, str(source), f"{USER}@127.0.0.1:old.bin")
        await output_of("scp", "-O", *words, f"{USER}@127.0.0.1:old.bin", str(back))
        assert back.read_bytes() == source.read_bytes()
        files = tmp_path / "lan" / "files"
        await output_of("scp", *words, str(source), f"{USER}@127.0.0.1:/tmp/")
        assert (files / "tmp" / source.name).read_bytes() == source.read_bytes()
        assert sorted(one.name for one in files.iterdir()) == ["old.bin", "tmp", "up.bin"]
        batch = b"symlink /etc/passwd leak\n"
        await output_of("sftp", *words, "-b", "-", f"{USER}@127.0.0.1", stdin=batch, code=1)
        batch = b"get /etc/passwd\n"
        await output_of("sftp", *words, "-b", "-", f"{USER}@127.0.0.1", stdin=batch, code=1)


async def test_a_password_an_interactive_shell_and_no_forwarding(
    lan: SimulatedLan, tmp_path: Path
) -> None:
    async with door_to(lan, ROUTER, 22) as port:

        def client(password: str) -> Any:
            return asyncssh.connect(
                "127.0.0.1",
                port,
                username=USER,
                password=password,
                known_hosts=None,
                client_keys=None,
                config=None,
            )

        with pytest.raises(asyncssh.PermissionDenied):
            async with client("wrong"):
                pass
        async with client(PASSWORD) as connection:
            async with connection.create_process(term_type="xterm") as process:
                process.stdin.write("hostname\nnonsense\nexit\n")
                said = await process.stdout.read()
                assert "A simulated router" in said and f"root@{HOSTNAME}:~# " in said
                assert f"\n{HOSTNAME}\r\n" in said and "nonsense: not found" in said
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_connection("127.0.0.1", 80)
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 80)
            key = connection.get_server_host_key().public_data
        await lan.reboot()
        async with client(PASSWORD) as connection:  # the key of before: one a router
            assert connection.get_server_host_key().public_data == key
