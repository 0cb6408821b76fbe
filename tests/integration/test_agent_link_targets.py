"""What an agent refuses to reach, and what it cannot reach."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent.commands import CommandRefused
from tests.linked_device import Device, closed_port, linked_device
from tests.model_relay import until
from wire.session_commands import open_args


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    async with linked_device(tmp_path) as made:
        yield made


async def test_each_refusal_has_its_word(device: Device) -> None:
    failures = {
        1: (OSError(errno.EMFILE, "too many"), "busy"),
        2: (OSError(errno.ENETUNREACH, "no way"), "unreachable"),
        3: (OSError(errno.EHOSTUNREACH, "no host"), "unreachable"),
        4: (TimeoutError(errno.ETIMEDOUT, "late"), "timed_out"),
        5: (TimeoutError(), "timed_out"),
        6: (ConnectionRefusedError(errno.ECONNREFUSED, "no"), "refused"),
        7: (socket.gaierror(socket.EAI_NONAME, "no name"), "unreachable"),
        8: (socket.gaierror(24, "a resolver's number that is EMFILE's"), "unreachable"),
    }

    async def fail(
        factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        raise failures[port][0]

    device.dial = fail
    async with device.running():
        for number, (port, (_, word)) in enumerate(failures.items()):
            device.open(f"127.0.0.1:{port}", session=port)
            visitor = device.relay.open(await device.relay.link(number))
            await visitor.send(b"early")
            await until(lambda: visitor.ended)  # noqa: B023  waited for in this turn
            assert visitor.ended == word, port
        assert not device.resolved


async def test_a_port_where_nobody_listens_is_refused(device: Device) -> None:
    async with device.running():
        device.open(f"127.0.0.1:{closed_port()}")
        visitor = device.relay.open(await device.relay.link())
        await until(lambda: visitor.ended)
        assert visitor.ended == "refused"


async def test_a_silent_target_times_out_and_an_unwanted_dial_is_let_go(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.links.target.REACH_S_MAX", 0.3)
    dialled: list[str] = []

    async def silent(
        factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        dialled.append("begun")
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            dialled.append("let go")
            raise
        raise AssertionError

    device.dial = silent
    async with device.running():
        device.open("127.0.0.1:81")
        link = await device.relay.link()
        visitor = device.relay.open(link)
        await until(lambda: visitor.ended)
        assert visitor.ended == "timed_out"
        monkeypatch.setattr("agent.links.target.REACH_S_MAX", 10.0)
        other = device.relay.open(link)
        await until(lambda: len(dialled) == 3)
        assert other.stream is not None
        other.stream.reset("reset")
        await until(lambda: dialled == ["begun", "let go"] * 2)


async def test_no_more_than_64_targets_are_dialled_at_once(device: Device) -> None:
    under_way, most = 0, 0
    gate = asyncio.Event()

    async def slow(
        factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await gate.wait()
        under_way -= 1
        raise ConnectionRefusedError

    device.dial = slow
    async with device.running():
        device.open("127.0.0.1:80")
        link = await device.relay.link()
        visitors = [device.relay.open(link) for _ in range(100)]
        await until(lambda: most == 64)
        gate.set()
        await until(lambda: all(visitor.ended == "refused" for visitor in visitors))
        assert most == 64


# The veto

FORBIDDEN = [
    "127.0.0.1:8080",
    "169.254.169.254:80",
    "0x7f.1:80",
    "127.1:80",
    "[::ffff:127.0.0.1]:80",
    "[::ffff:7f00:1]:80",
    "127.0.0.2:80",
    "0.0.0.0:80",
    "[::]:80",
    "224.0.0.1:80",
    "255.255.255.255:80",
    "[fe80::1]:80",
    "[64:ff9b::7f00:1]:80",
    "192.168.2.1:80",
]


async def test_targets_that_are_not_listed_are_refused_before_anything_is_dialled(
    device: Device,
) -> None:
    device.allow = ("router:22,80,443", "192.168.1.0/24:80", "[::]/0:80")
    async with device.running():
        for target in FORBIDDEN:
            args = open_args(device.order("127.0.0.1:80")) | {"target": target}
            with pytest.raises(CommandRefused, match="not_allowed"):
                device.sessions.open(args)
        assert not len(device.sessions) and not device.relay.sides


async def test_a_name_is_judged_by_the_address_that_is_dialled(device: Device) -> None:
    dialled: list[str] = []

    async def note(
        factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        dialled.append(host)
        raise ConnectionRefusedError

    device.dial = note
    device.allow = ("192.168.1.0/24:80",)
    device.names = {
        "plc.lan": ["192.168.1.50"],
        "metadata.lan": ["169.254.169.254", "127.0.0.1", "::ffff:192.168.1.50", "fe80::1%1"],
        "both.lan": ["127.0.0.1", "192.168.1.51", "192.168.1.52"],
        "empty.lan": [],
        "fickle.lan": ["192.168.1.50"],
    }
    wanted = {
        "plc.lan": ("refused", ["192.168.1.50"]),
        "metadata.lan": ("not_allowed", []),
        "both.lan": ("refused", ["192.168.1.51", "192.168.1.52"]),
        "empty.lan": ("unreachable", []),
        "unknown.lan": ("unreachable", []),
    }
    async with device.running():
        for number, (name, (word, addresses)) in enumerate(wanted.items()):
            dialled.clear()
            device.open(f"{name}:80", session=number + 1)
            visitor = device.relay.open(await device.relay.link(number))
            await until(lambda: visitor.ended)  # noqa: B023  waited for in this turn
            assert (visitor.ended, dialled) == (word, addresses), name
        device.open("fickle.lan:80", session=9)
        link = await device.relay.link(len(wanted))
        for answer, word in (("192.168.1.50", "refused"), ("169.254.169.254", "not_allowed")):
            device.names["fickle.lan"] = [answer]
            visitor = device.relay.open(link)
            await until(lambda: visitor.ended)  # noqa: B023  waited for in this turn
            assert visitor.ended == word
        assert "169.254.169.254" not in dialled
