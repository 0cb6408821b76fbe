"""A real relay and the sessions of a real agent, with a bad network between them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from agent.clock import SystemClock
from agent.links.allow import parse_allow
from agent.links.sessions import Sessions
from agent.tls import device_context
from broker.relay.session import Session
from firmware_sim.network import FaultProxy
from tests.linked_device import ALLOW, serving
from tests.model_relay import Visitor
from tests.relay_rig import LIMIT_S, Rig, fact, session_of
from wire.session_commands import Open, Report, open_args
from wire.targets import parse_target
from wire.tickets import Claims


class Away:
    """One session of one device, and the network that breaks its connections."""

    def __init__(
        self, rig: Rig, network: FaultProxy, sessions: Sessions, target: str, protocol: str
    ) -> None:
        self.rig = rig
        self.network = network
        self.sessions = sessions
        self.target = target
        self.reports: list[Report] = []
        self.claims: Claims = rig.mint.session(target=target, protocol=protocol)

    def tell(self) -> None:
        """The gateway tells the device of the session, with a new ticket."""
        self.sessions.open(
            open_args(
                Open(
                    self.claims.session,
                    self.claims.epoch,
                    self.rig.mint.sign(self.rig.mint.again(self.claims)),
                    ("127.0.0.1",),
                    self.network.port,
                    parse_target(self.target),
                    3_600,
                )
            )
        )

    @property
    def session(self) -> Session:
        return session_of(self.rig, self.claims)

    async def linked(self, limit_s: float = LIMIT_S) -> None:
        """Until the device's link has a connection."""
        sessions = self.rig.relay.sessions

        def there() -> bool:
            session = sessions.by_id(self.claims.session)
            return session is not None and session.link is not None

        await fact(there, limit_s)

    async def open(self, visitor: Visitor | None = None) -> Visitor:
        visitor = visitor or Visitor()
        visitor.stream = await self.session.stream(visitor)
        return visitor

    def changed(self) -> None:
        while (report := self.sessions.next_report()) is not None:
            self.reports.append(report)
            self.sessions.told(report)


async def generous(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A target: `get N` is answered with so many bytes, `put N` with a count; else an echo."""
    while line := await reader.readline():
        words = line.split()
        if words[:1] == [b"get"]:
            rng = Random(int(words[1]))
            left = int(words[1])
            while left:
                data = rng.randbytes(min(left, 65_536))
                writer.write(data)
                await writer.drain()
                left -= len(data)
        elif words[:1] == [b"put"]:
            data = await reader.readexactly(int(words[1]))
            same = data == expected(len(data))
            writer.write(b"%d %s\n" % (len(data), b"same" if same else b"other"))
        else:
            writer.write(line)
        await writer.drain()


def expected(size: int) -> bytes:
    """What `get` sends."""
    rng = Random(size)
    left, parts = size, []
    while left:
        parts.append(rng.randbytes(min(left, 65_536)))
        left -= len(parts[-1])
    return b"".join(parts)


@asynccontextmanager
async def away(rig: Rig, other: str = "", protocol: str = "tcp") -> AsyncIterator[Away]:
    """A session whose device's link is up; to the `generous` target, or another one."""
    tls = device_context(ca_file=rig.keys.ca_certificate, check_dates=True)
    async with (
        serving(generous) as target,
        FaultProxy("127.0.0.1", rig.port, roaming=True) as network,
    ):
        there: Away
        sessions = Sessions(
            allow=parse_allow(ALLOW),
            clock=SystemClock(),
            rng=Random(7),
            tls=lambda: tls,
            changed=lambda: there.changed(),
        )
        there = Away(rig, network, sessions, other or target, protocol)
        async with asyncio.TaskGroup() as tasks:
            sessions.begin(tasks)
            there.tell()
            await there.linked()
            yield there
            network.mend()
            sessions.end_all("agent_stopping")
