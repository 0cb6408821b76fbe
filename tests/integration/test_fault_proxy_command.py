"""`firmware-sim network`: what its lines mean, and the program with a connection through it."""

import argparse
import asyncio
import sys
from asyncio.subprocess import PIPE

import pytest

from firmware_sim.__main__ import main
from firmware_sim.network import FaultProxy
from firmware_sim.network.console import Place, WrongCommandError, amount, obey, place

AMOUNTS = [("50", 50), ("0", 0), ("1.5k", 1_500), ("1M", 1_000_000), ("2G", 2_000_000_000)]
PLACES = [("127.0.0.1:80", Place("127.0.0.1", 80)), ("[::1]:0", Place("::1", 0))]


def test_amounts_and_places() -> None:
    for text, value in AMOUNTS:
        assert amount(text) == value
    for text, expected in PLACES:
        assert place(text) == expected
    for wrong in ("", "k", "-1", "nan", "inf", "1e99", "x"):
        with pytest.raises(argparse.ArgumentTypeError):
            amount(wrong)
    for wrong in ("", "80", ":80", "host:", "host:65536", "host:x", "host:²"):
        with pytest.raises(argparse.ArgumentTypeError):
            place(wrong)


def silences(network: FaultProxy) -> tuple[bool, bool]:
    return network.to_server.silent, network.to_client.silent


def holds(network: FaultProxy) -> tuple[bool, bool]:
    return network.to_server.held, network.to_client.held


async def test_lines_set_the_faults() -> None:
    async with FaultProxy("127.0.0.1", 9) as network:
        assert obey(network, "set latency 80 to-client") == "ok"
        assert (network.to_client.latency_ms, network.to_server.latency_ms) == (80, 0)
        assert obey(network, "  set bandwidth 1M  ") == "ok"
        assert network.to_server.bandwidth_bytes_s == 1_000_000
        assert obey(network, "clear") == "ok" and network.to_client.latency_ms == 0
        assert obey(network, "blackhole to-server") == "ok"
        assert silences(network) == (True, False)
        assert obey(network, "hold") == "ok"
        assert holds(network) == (True, True)
        assert obey(network, "mend") == "ok"
        assert silences(network) == holds(network) == (False, False)
        assert obey(network, "status").startswith("0 connections of 0, to-server 0 bytes")


WRONG = ["", "cut now", "set", "set latency", "set depth 5", "set latency x", "hold sideways"]


@pytest.mark.parametrize("line", [*WRONG, "set latency 5 to-server to-client"])
async def test_wrong_lines_are_refused(line: str) -> None:
    async with FaultProxy("127.0.0.1", 9) as network:
        with pytest.raises(WrongCommandError):
            obey(network, line)


async def test_the_program_carries_bytes_and_takes_orders() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    words = f"network --target 127.0.0.1:{port} --latency 5 --slice 1 --seed 7 --until-input-ends"
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "firmware_sim", *words.split(), stdin=PIPE, stdout=PIPE
    )
    assert program.stdin is not None and program.stdout is not None
    try:
        async with server, asyncio.timeout(30):
            said = (await program.stdout.readline()).decode().split()
            host, _, number = said[-1].rpartition(":")
            assert said[:2] == ["listening", "on"]
            reader, writer = await asyncio.open_connection(host, int(number))
            writer.write(b"hello")
            assert await reader.read() == b"hello"
            writer.close()
            program.stdin.write(b"cut\nfly\n")
            assert await program.stdout.readline() == b"ok\n"
            assert (await program.stdout.readline()).startswith(b"wrong: ")
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(host, int(number))
            program.stdin.close()
            assert b"5 bytes delivered" in await program.stdout.readline()
            assert await program.wait() == 0
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()


def test_a_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["network", "--target", "127.0.0.1:9", "--listen", "192.0.2.1:80"])
    assert ended.value.code == 1 and "assign" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["network", "--target", "nowhere"])
    assert ended.value.code == 2 and "HOST:PORT" in capsys.readouterr().err
