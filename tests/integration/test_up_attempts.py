"""`fleetgate up` where somebody takes a port between its picking and its use."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.command import installation, ports, up
from gateway.command.data_directory import Lock
from gateway.command.installation import Installation
from gateway.command.up_options import UpOptions


@pytest.fixture
def strangers() -> Iterator[ExitStack]:
    """Listeners of somebody else."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def own_umask() -> Iterator[None]:
    """`up` sets the umask of its process, which here is the tests' own."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def take(stack: ExitStack, port: int) -> None:
    listener = stack.enter_context(socket.socket())
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()


def options(data: Path, **addresses: str) -> UpOptions:
    asked = {
        name: ports.parse(name, addresses.get(name, ":0"), installation.USUAL_PORTS[name])
        for name in installation.LISTENERS
    }
    return UpOptions(data=data, asked=asked)


def test_a_picked_port_that_was_taken_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strangers: ExitStack
) -> None:
    tried: list[Installation] = []

    async def serve(_options: UpOptions, made: Installation, _lock: Lock) -> None:
        tried.append(made)
        if len(tried) == 1:
            take(strangers, made.configuration.mqtt.port)
            raise up.StartFailed("mosquitto", "ended at its start")
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    monkeypatch.setattr(up, "_serve", serve)
    assert up.run(options(tmp_path / "data")) == 0
    first, second = (made.configuration for made in tried)
    assert first.mqtt.port != second.mqtt.port
    assert (first.http.port, first.devices.port) == (second.http.port, second.devices.port)


def test_an_explicit_port_that_was_taken_ends_the_start_by_its_option(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    strangers: ExitStack,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def serve(_options: UpOptions, made: Installation, _lock: Lock) -> None:
        take(strangers, made.configuration.http.port)
        raise up.StartFailed("gateway", "ended at its start")

    monkeypatch.setattr(up, "_serve", serve)
    assert up.run(options(tmp_path / "data", http=f":{port}")) == 1
    assert f"--http 127.0.0.1:{port}: address in use" in capsys.readouterr().err


def test_a_failure_that_no_port_explains_is_tried_twice_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(_options: UpOptions, made: Installation, _lock: Lock) -> None:
        made.log_file("gateway").write_text("Traceback\nKeyError: 'why'\n")
        raise up.StartFailed("gateway", "ended at its start")

    monkeypatch.setattr(up, "_serve", serve)
    assert up.run(options(tmp_path / "data")) == 1
    said = capsys.readouterr()
    assert said.out.count("Could not start gateway: ended at its start") == 2
    assert "    KeyError: 'why'" in said.out
    assert "gave up" in said.err
