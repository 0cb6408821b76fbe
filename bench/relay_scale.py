"""A relay with many devices: what an idle link costs, and how many sessions work at once."""

import asyncio
import json
import resource
import secrets
import subprocess
import sys
import time
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bench.bad_network import resident_bytes
from bench.installation import cpu_s
from bench.row import Row
from broker.connect.connection import Connection
from tests.relay_rig import Mint, MovedClock, RawDevice, Visitor, dial
from wire.budget import SESSION_BYTES, Budget
from wire.frames import FrameReader
from wire.hello import Answered, Hello, Word, hello_bytes
from wire.link import Link
from wire.stream import Stream
from wire.tickets import Claims, Party, Way
from wire.transport import Transport

LINKS = 2_000
SESSIONS = 200
IDLE_LINK_KIB_MOST = 64
SESSION_MIB_MOST = 16
ROUNDS = 20
ECHO_BYTES = 32 * 1024
_AT_ONCE = 50
_IDLE_S = 10.0
_SETTLE_S = 2.0
_STOP_S_MAX = 10.0
_CLIENT_TLS_BYTES = 4 * 1024  # of each of 2,000 clients in this process
_FILES = 3 * (LINKS + SESSIONS)


@dataclass(frozen=True, slots=True)
class Alone:
    """A relay without a gateway."""

    port: int
    ca: Path
    mint: Mint
    pid: int


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured."""

    links_per_s: float
    idle_link_bytes: float
    idle_cpu: float  # of one processor, with all links idle
    echoes_per_s: float
    session_bytes: float


def rows(folder: Path) -> list[Row]:
    """Two gates of memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard not in (resource.RLIM_INFINITY,) and hard < _FILES:
        return [Row(f"{LINKS:,} idle links", f"only {hard} files may be open", "", "", False)]
    try:
        found = measure(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    idle_kib, session_mib = found.idle_link_bytes / 1024, found.session_bytes / 2**20
    return [
        Row(
            f"memory of an idle link, {LINKS:,} of them with TLS",
            f"{idle_kib:.1f} KiB",
            f"{found.links_per_s:.0f} links/s came up; idle {found.idle_cpu:.1%} of a processor",
            f"≤ {IDLE_LINK_KIB_MOST} KiB",
            idle_kib <= IDLE_LINK_KIB_MOST,
        ),
        Row(
            f"{SESSIONS} sessions at work beside them, memory of each",
            f"{session_mib:.2f} MiB",
            f"{found.echoes_per_s:.0f} echoes/s of {ECHO_BYTES // 1024} KiB, none lost",
            f"≤ {SESSION_MIB_MOST} MiB",
            session_mib <= SESSION_MIB_MOST,
        ),
    ]


def measure(folder: Path) -> Found:
    """Raises `RuntimeError` when a device or a visitor was turned away."""
    before, SSLProtocol.max_size = SSLProtocol.max_size, _CLIENT_TLS_BYTES
    try:
        with relay_alone(folder) as relay:
            return asyncio.run(_measure(relay))
    finally:
        SSLProtocol.max_size = before


@contextmanager
def relay_alone(folder: Path) -> Iterator[Alone]:
    """In a process of its own."""
    with (folder / "relay.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.relay_alone", str(folder)],
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError((folder / "relay.log").read_text())
        said = json.loads(line)
        mint = Mint(MovedClock())
        key = load_pem_private_key(said["key"].encode(), None)
        assert isinstance(key, Ed25519PrivateKey)
        mint.key = key
        yield Alone(said["port"], Path(said["ca"]), mint, process.pid)
    finally:
        process.terminate()
        process.wait(_STOP_S_MAX)
        process.stdout.close()


async def _measure(relay: Alone) -> Found:
    sessions = [relay.mint.session(device=f"{number:010}") for number in range(LINKS)]
    warm = await joined(relay, relay.mint.session())
    empty_bytes, began_s = resident_bytes(relay.pid), time.monotonic()
    devices: list[RawDevice] = []
    for start in range(0, LINKS, _AT_ONCE):
        some = (joined(relay, one) for one in sessions[start : start + _AT_ONCE])
        devices += await asyncio.gather(*some)
    up_s = time.monotonic() - began_s
    await asyncio.sleep(_SETTLE_S)
    idle_bytes, idle_cpu_s = resident_bytes(relay.pid), cpu_s(relay.pid)
    await asyncio.sleep(_IDLE_S)
    idle_cpu_s = cpu_s(relay.pid) - idle_cpu_s
    began_s = time.monotonic()
    links = await asyncio.gather(*(_work(relay, one) for one in sessions[:SESSIONS]))
    work_s = time.monotonic() - began_s
    working_bytes = resident_bytes(relay.pid)
    if any(device.lost.done() for device in (warm, *devices)):
        raise RuntimeError("a link was lost")
    await part([warm, *devices], links)
    return Found(
        LINKS / up_s,
        (idle_bytes - empty_bytes) / LINKS,
        idle_cpu_s / _IDLE_S,
        SESSIONS * ROUNDS / work_s,
        max(0, working_bytes - idle_bytes) / SESSIONS,
    )


async def joined(
    relay: Alone, claims: Claims, on_open: Callable[[Stream], object] | None = None
) -> RawDevice:
    """A device whose link is up. Raises `RuntimeError` when it was turned away."""
    device = await dial(relay.port, relay.ca, on_open=on_open)
    answered = await device.hello(relay.mint.sign(claims))
    if answered.word is not Word.WELCOME:
        raise RuntimeError(f"a device was turned away: {answered}")
    return device


async def part(devices: Sequence[RawDevice], links: Sequence[Link] = ()) -> None:
    """Ends all, and waits until their sockets are closed."""
    for device in devices:
        device.transport.abort()
    for link in links:
        link.end("done")
    await asyncio.gather(*(device.closed() for device in devices))
    await asyncio.sleep(0)  # visitors' sockets are plain, and closed in the turn after this


async def _work(relay: Alone, claims: Claims) -> Link:
    """One visitor, whose stream the device echoes."""
    link = await linked(relay, claims)
    visitor = Visitor()
    visitor.stream = link.open(visitor)
    for number in range(ROUNDS):
        visitor.stream.write(bytes((number,)) * ECHO_BYTES)
        await visitor.got((number + 1) * ECHO_BYTES)
    if set(visitor.data[-ECHO_BYTES:]) != {ROUNDS - 1}:
        raise RuntimeError("other bytes came back")
    return link


async def linked(relay: Alone, claims: Claims) -> Link:
    """A visitor's link to the session. Raises `RuntimeError` when it was turned away."""
    loop = asyncio.get_running_loop()
    wanted = relay.mint.again(claims, party=Party.VISITOR, way=Way.CONNECT)
    hello = hello_bytes(Hello(relay.mint.sign(wanted), secrets.token_bytes(32)))
    answered: asyncio.Future[Answered] = loop.create_future()
    links: list[Link] = []

    def take(_: Answered, transport: Transport, reader: FrameReader) -> Link:
        links.append(
            Link(
                transport,
                budget=Budget(SESSION_BYTES),
                clock=loop.time,
                later=loop.call_later,
                on_end=lambda reason: None,
                reader=reader,
            )
        )
        return links[0]

    host = f"{claims.host}.localhost:{relay.port}"
    await loop.create_connection(
        lambda: Connection(host, lambda: hello, take, answered, secrets.token_bytes),
        "127.0.0.1",
        relay.port,
    )
    said = await answered
    if said.word is not Word.WELCOME:
        raise RuntimeError(f"a visitor was turned away: {said}")
    return links[0]
