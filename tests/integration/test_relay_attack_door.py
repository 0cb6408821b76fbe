"""Handshakes of nonsense at the relay's port: each is refused, and no other notices."""

import asyncio
import logging
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import NamedTuple, cast

import pytest
import pytest_asyncio

from broker.relay.__main__ import log_unraisable
from broker.relay.web_door import web_factory
from tests.integration.test_relay_attack_devices import quick_loop
from tests.integration.test_relay_floods import lives, with_device
from tests.relay_rig import LIMIT_S, Rig, fact, running_relay
from wire.hello import LINK_NAME


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_relay(tmp_path, web=web_factory) as rig:
        yield rig


def client_hello(name: str | None) -> bytes:
    """What a TLS client says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def said(rig: Rig, data: bytes) -> bytes:
    """What the relay answers before it hangs up, to whoever says this and no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    try:
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(LIMIT_S):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


# The relay itself takes them: see below.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_names_that_are_none(rig: Rig) -> None:
    _, _, session = await with_device(rig)
    good = client_hello(LINK_NAME)
    name = LINK_NAME.encode()
    names = [
        b"\xff" * 14,
        b"link\0fleetgate",
        b"xn--\x80\x81.fleetgt",
        b"." * 14,
        b"LINK.FLEETGATE",
    ]
    async with quick_loop():
        for one in names:
            assert len(one) == len(name)
            await said(rig, good.replace(name, one))
        await said(rig, client_hello(None))
        await lives(session)
    await fact(lambda: len(rig.relay.arrivals) == 0)


def test_a_name_that_is_none_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for error in (UnicodeDecodeError("ascii", b"\xff", 0, 1, "no letter"), KeyError("a mistake")):
        found = _Ignored(type(error), error, None, None, b"\xff\n")
        log_unraisable(cast("sys.UnraisableHookArgs", found))
    assert caplog.text.count("ignored object") == 1 and "a mistake" in caplog.text


class _Ignored(NamedTuple):
    """As `sys.unraisablehook` is given it."""

    exc_type: type[BaseException]
    exc_value: BaseException
    exc_traceback: None
    err_msg: None
    object: bytes


async def test_handshakes_of_nonsense(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rng = Random(7)
    _, _, session = await with_device(rig)
    good = client_hello(LINK_NAME)
    async with quick_loop():
        for _ in range(150):
            data = bytearray(good[: rng.randrange(1, len(good) + 1)])
            for _ in range(rng.choice((0, 1, 1, 5, 50))):
                data[rng.randrange(len(data))] = rng.randrange(256)
            await said(rig, bytes(data))
        for begun in (b"\x16", b"\x16" * 20_000, b"\x16\x03\x01\xff\xff" + bytes(70_000)):
            await said(rig, begun)
        await lives(session)
    assert len(rig.relay.arrivals) == 0
    assert "Traceback" not in caplog.text


async def test_a_mistake_of_ours_at_the_door_costs_one_connection(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, _, session = await with_device(rig)
    loop = asyncio.get_running_loop()

    async def failing(*_: object, **__: object) -> None:
        raise KeyError("a mistake")

    with monkeypatch.context() as patch:
        patch.setattr(type(loop), "connect_accepted_socket", failing)
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(b"GET")
        async with asyncio.timeout(LIMIT_S):
            assert await reader.read() == b""
        writer.close()
    assert "a connection failed" in caplog.text
    await lives(session)
    assert len(rig.relay.arrivals) == 0
