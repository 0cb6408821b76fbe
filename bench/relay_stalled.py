"""Many sessions whose readers stop after a fast transfer: what a relay keeps for each of them."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from bench.bad_network import resident_bytes
from bench.relay_scale import SESSION_MIB_MOST, Alone, joined, linked, part, relay_alone
from bench.row import Row
from wire.stream import Stream

SESSIONS = 40
STREAMS = 3  # of each
FAST_BYTES = 4 * 1024 * 1024
RELAY_MIB_MOST = 1024
_CHUNK = bytes(60_000)
_LOOK_S = 0.05
_STALLED_S = 3.0
_FAST_S_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Found:
    """Memory of the relay beyond what it took before, at the highest."""

    session_bytes: float
    relay_bytes: int


class Source:
    """A target that sends without end."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        stream.user = self
        self.stream_room()

    def stream_room(self) -> None:
        """Fills what there is."""
        while self._stream.room > 0 and not self._stream.ended:
            self._stream.write(_CHUNK)

    def stream_data(self, data: bytes) -> None:
        """Nothing is sent to it."""

    stream_finished = stream_ended = lambda self, *_: None


class Reader:
    """Reads fast, and then not at all."""

    def __init__(self) -> None:
        self.stream: Stream
        self.got = 0

    @property
    def stalls(self) -> bool:
        """Whether it has had enough."""
        return self.got >= FAST_BYTES

    def stream_data(self, data: bytes) -> None:
        """Counted, and taken as long as it reads."""
        if not self.stalls:
            self.stream.took(len(data))
        self.got += len(data)

    stream_finished = stream_ended = stream_room = lambda self, *_: None


def rows(folder: Path) -> list[Row]:
    """A gate."""
    found = measure(folder)
    session_mib, relay_mib = found.session_bytes / 2**20, found.relay_bytes / 2**20
    return [
        Row(
            f"{SESSIONS} sessions of {STREAMS} readers that stop after {FAST_BYTES // 2**20} MiB,"
            " memory of each and of the relay",
            f"{session_mib:.1f} MiB, {relay_mib:.0f} MiB",
            "",
            f"≤ {SESSION_MIB_MOST} MiB, ≤ {RELAY_MIB_MOST} MiB",
            session_mib <= SESSION_MIB_MOST and relay_mib <= RELAY_MIB_MOST,
        )
    ]


def measure(folder: Path, sessions: int = SESSIONS) -> Found:
    """Raises `RuntimeError` when a device or a visitor was turned away."""
    with relay_alone(folder) as relay:
        return asyncio.run(_measure(relay, sessions))


async def _measure(relay: Alone, sessions: int) -> Found:
    before = resident_bytes(relay.pid)
    readers: list[Reader] = []
    devices, links = [], []
    for _ in range(sessions):
        claims = relay.mint.session()
        devices.append(await joined(relay, claims, on_open=Source))
        links.append(await linked(relay, claims))
        for _ in range(STREAMS):
            reader = Reader()
            reader.stream = links[-1].open(reader)
            readers.append(reader)
    highest = before
    async with asyncio.timeout(_FAST_S_MAX):
        while not all(reader.stalls for reader in readers):
            await asyncio.sleep(_LOOK_S)
            highest = max(highest, resident_bytes(relay.pid))
    for _ in range(int(_STALLED_S / _LOOK_S)):
        await asyncio.sleep(_LOOK_S)
        highest = max(highest, resident_bytes(relay.pid))
    if any(device.lost.done() for device in devices):
        raise RuntimeError("a link was lost")
    await part(devices, links)
    return Found((highest - before) / sessions, highest)
