"""Addresses on the command line, and which port is taken when."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.command import ports
from gateway.command.app import _with_demo_number
from gateway.command.ports import AddressRefused, AddressUsageError, Asked, Chosen
from tests.ports import free_port

PARSED = [
    (None, ("127.0.0.1", None)),
    ("", ("127.0.0.1", None)),
    ("0.0.0.0", ("0.0.0.0", None)),
    (":9000", ("127.0.0.1", 9000)),
    ("10.0.0.1:0", ("10.0.0.1", 0)),
    ("[::1]:443", ("::1", 443)),
    ("[::]", ("::", None)),
    ("fleet.example.org:8080", ("fleet.example.org", 8080)),
]


def test_addresses_are_read() -> None:
    for text, expected in PARSED:
        asked = ports.parse("http", text, 8080)
        assert (asked.host, asked.port) == expected, text


@pytest.mark.parametrize("text", ["h:x", "h:70000", "h:-1", "::1", "[::1", "[::1]x", "h:1:2"])
def test_what_is_no_address_is_told_with_its_option(text: str) -> None:
    with pytest.raises(AddressUsageError, match="--http"):
        ports.parse("http", text, 8080)


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def asked(port: int | None, usual: int) -> Asked:
    return Asked("mqtt", "127.0.0.1", port, usual)


def test_an_explicit_busy_port_is_refused_with_its_option(busy: int) -> None:
    with pytest.raises(AddressRefused, match=rf"--mqtt 127\.0\.0\.1:{busy}: address in use"):
        ports.choose(asked(busy, 1), {}, set())


def test_a_usual_port_that_is_busy_is_replaced_and_said(busy: int) -> None:
    chosen = ports.choose(asked(None, busy), {}, set())
    assert chosen.picked and chosen.port != busy
    assert chosen.port in ports.PICKED
    assert f"port {busy} is busy" in chosen.note


def test_a_saved_port_is_used_again_unless_busy(busy: int) -> None:
    saved = free_port()
    for port in (None, 0):
        chosen = ports.choose(asked(port, busy), {"mqtt": saved}, set())
        assert chosen == Chosen("mqtt", "127.0.0.1", saved, picked=True)
    chosen = ports.choose(asked(0, 1), {"mqtt": busy}, set())
    assert chosen.picked and chosen.port != busy
    assert chosen.port in ports.PICKED
    assert "devices that know it will not connect" in chosen.note


def test_no_two_listeners_get_the_same_port() -> None:
    port = free_port()
    assert ports.choose(asked(None, port), {}, {port}).port != port
    with pytest.raises(AddressRefused, match="given twice"):
        ports.choose(asked(port, 1), {}, {port})


def test_an_address_of_another_machine_is_refused() -> None:
    for port in (free_port(), 0, None):
        with pytest.raises(AddressRefused, match=r"--http 192\.0\.2\.1"):
            ports.choose(Asked("http", "192.0.2.1", port, 8080), {}, set())


def test_only_picked_ports_are_kept_and_a_damaged_file_is_no_obstacle(tmp_path: Path) -> None:
    chosen = {
        "http": Chosen("http", "127.0.0.1", 1234, picked=True),
        "mqtt": Chosen("mqtt", "127.0.0.1", 8883, picked=False),
    }
    ports.save(tmp_path, chosen)
    assert ports.load(tmp_path) == {"http": 1234}
    for content in ("{", "[]", '{"http": "x", "mqtt": 0, "devices": true}'):
        (tmp_path / "ports.json").write_text(content)
        assert ports.load(tmp_path) == {}


def test_demo_may_stand_without_a_number() -> None:
    assert _with_demo_number(["up", "--demo"]) == ["up", "--demo", "25"]
    assert _with_demo_number(["up", "--demo", "--data", "x"]) == [
        "up",
        "--demo",
        "25",
        "--data",
        "x",
    ]
    assert _with_demo_number(["up", "--demo", "3"]) == ["up", "--demo", "3"]
