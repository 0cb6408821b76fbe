"""A real agent on a real Mosquitto, with a small gateway on the other side."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import aiomqtt
import pytest

from agent.agent import Agent
from agent.clock import SystemClock
from agent.connection import Address, Connection, connect
from agent.errors import LoginRefused
from agent.intervals import Intervals
from agent.state import Login
from tests.conftest import MosquittoFactory
from tests.model_gateway import SERVER_TIME_MS, ModelGateway
from tests.mosquitto import MosquittoServer
from wire import topics
from wire.commands import Answer, Command, Outcome, decode_answer, encode_command
from wire.presence import Up, decode_up

SERIAL = "1100000001"
KEY = bytes(range(32))


async def until(fact: Callable[[], object], *, within_s: float = 15.0) -> None:
    async with asyncio.timeout(within_s):
        while not fact():  # noqa: ASYNC110  # facts of many kinds, none of which has an event
            await asyncio.sleep(0.01)


class Journal:
    def __init__(self) -> None:
        self.made_keys: list[tuple[str, int]] = []
        self.receipted_keys: list[tuple[str, int]] = []

    def made(self, serial: str, run: str, number: int, at_ms: int) -> None:
        self.made_keys.append((run, number))

    def receipted(self, serial: str, run: str, numbers: list[int], at_ms: int) -> None:
        self.receipted_keys.extend((run, number) for number in numbers)


class Peer:
    """The gateway's side of the pipe: stores by the model, answers, hears presence."""

    def __init__(self, client: aiomqtt.Client, gateway: ModelGateway) -> None:
        self.client = client
        self.gateway = gateway
        self.ups: list[Up] = []
        self.answers: list[Answer] = []

    async def subscribe(self) -> None:
        await self.client.subscribe([(f"fg1/d/+/{leaf}", 1) for leaf in topics.DEVICE_LEAVES])

    async def serve(self) -> None:
        async for message in self.client.messages:
            assert isinstance(message.payload, bytes)
            leaf = str(message.topic).rpartition("/")[2]
            if leaf == "up":
                self.ups.append(decode_up(message.payload))
            elif leaf == "ans":
                self.answers.append(decode_answer(message.payload))
            else:
                _, receipt = self.gateway.take(message.payload)
                if receipt is not None:
                    await self.client.publish(topics.receipt(SERIAL), receipt)

    async def command(self, n: int, verb: str, **args: object) -> Answer:
        body = Command(n, f"id-{n}", verb, args, SERVER_TIME_MS, 60)
        payload = encode_command(body, key=KEY, serial=SERIAL, nonce=self.ups[-1].nonce)
        count = len(self.answers)
        await self.client.publish(topics.command(SERIAL), payload, qos=1)
        await until(lambda: len(self.answers) > count)
        return self.answers[-1]


@pytest.fixture
def server(mosquitto: MosquittoFactory) -> MosquittoServer:
    made = mosquitto()
    made.configuration.write_text(
        f"listener {made.port} {made.bind_host}\nallow_anonymous true\nmax_packet_size 16384\n"
    )
    made.start()
    return made


@asynccontextmanager
async def peer_on(server: MosquittoServer, gateway: ModelGateway) -> AsyncIterator[Peer]:
    async with aiomqtt.Client(
        server.host, server.port, protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        peer = Peer(client, gateway)
        await peer.subscribe()  # or what an agent says first would be said to nobody
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(peer.serve())
            yield peer
            serving.cancel()


def new_agent(
    server: MosquittoServer, folder: Path, journal: Journal, *, interval_s: int = 1
) -> Agent:
    readings = iter(range(10**9))
    return Agent(
        login=Login(SERIAL, "secret", KEY),
        addresses=[Address(server.host, server.port)],
        tls=None,
        state_dir=folder / "flash",
        spool_dir=folder / "memory",
        clock=SystemClock(),
        rng=Random(secrets.randbits(32)),
        collector=lambda: {"uptime": next(readings), "operator": "LT BITE GSM", "nonsense": 1},
        intervals=Intervals(interval_s, interval_s),
        journal=journal,
    )


@asynccontextmanager
async def running(agent: Agent) -> AsyncIterator[Agent]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(agent.run())
        yield agent
        agent.stop()


async def test_samples_are_receipted_and_a_stop_says_goodbye(
    server: MosquittoServer, tmp_path: Path
) -> None:
    gateway, journal = ModelGateway(), Journal()
    async with peer_on(server, gateway) as peer:
        async with running(new_agent(server, tmp_path, journal)) as agent:
            await until(lambda: len(journal.receipted_keys) >= 4)
            assert agent.connected
            run = agent.heartbeats.run
        await until(lambda: peer.ups and not peer.ups[-1].up)
        assert [(up.run, up.connection, up.up) for up in peer.ups] == [
            (run, 1, True),
            (run, 1, False),
        ]
    assert set(journal.receipted_keys) <= set(gateway.stored) <= set(journal.made_keys)
    assert gateway.stored[run, 1].keys() == {1, 13, 32}
    assert gateway.stored[run, 2].keys() == {1}  # the rest has not changed
    assert (tmp_path / "flash" / "spool.snapshot").exists()


async def test_commands_are_carried_out_and_answered(
    server: MosquittoServer, tmp_path: Path
) -> None:
    gateway, journal = ModelGateway(), Journal()
    async with (
        peer_on(server, gateway) as peer,
        running(new_agent(server, tmp_path, journal, interval_s=3_600)) as agent,
    ):
        await until(lambda: gateway.stored)
        pong = await peer.command(1, "ping")
        assert pong.outcome is Outcome.DONE and pong.result["run"] == agent.heartbeats.run
        refreshed = await peer.command(2, "refresh")
        assert refreshed.result["number"] == 2
        await until(lambda: (agent.heartbeats.run, 2) in gateway.stored)
        unknown = await peer.command(3, "explode")
        assert (unknown.outcome, unknown.result) == (Outcome.REFUSED, {"error": "unknown_verb"})
        bad = await peer.command(4, "set_intervals", sampling_s=0)
        assert bad.result == {"error": "interval_out_of_bounds"}
        good = await peer.command(5, "set_intervals", sampling_s=2, sending_s=2)
        assert good.outcome is Outcome.DONE
        await until(lambda: len(gateway.stored) >= 5)
    again = new_agent(server, tmp_path, journal)
    assert again.heartbeats.intervals == Intervals(2, 2)
    again.spool.close()


async def test_garbage_from_the_server_changes_nothing(
    server: MosquittoServer, tmp_path: Path
) -> None:
    gateway, journal = ModelGateway(), Journal()
    async with (
        peer_on(server, gateway) as peer,
        running(new_agent(server, tmp_path, journal)) as agent,
    ):
        await until(lambda: peer.ups)
        for topic in (topics.receipt(SERIAL), topics.command(SERIAL)):
            for payload in (b"", b"\xff", b"[[[[", b"[NaN]", b"{}", b"x" * 15_000, b"[" * 9_000):
                await peer.client.publish(topic, payload)
        await until(lambda: len(journal.receipted_keys) >= 4)
        assert agent.connected and agent.heartbeats.connection == 1


async def test_a_server_that_dies_and_returns_loses_nothing(
    server: MosquittoServer, tmp_path: Path
) -> None:
    gateway, journal = ModelGateway(), Journal()
    async with AsyncExitStack() as lives:
        async with peer_on(server, gateway) as peer:
            agent = await lives.enter_async_context(running(new_agent(server, tmp_path, journal)))
            await until(lambda: len(journal.receipted_keys) >= 4)
            assert peer.ups
        server.kill()
        made = len(journal.made_keys)
        await until(lambda: len(journal.made_keys) >= made + 3)
        server.start()
        async with peer_on(server, gateway):
            await until(lambda: agent.connected, within_s=40)
            await until(lambda: set(journal.made_keys[: made + 3]) <= set(gateway.stored))
    assert gateway.lost == 0


async def test_a_device_that_loses_its_power_is_spoken_for_by_its_will(
    server: MosquittoServer, tmp_path: Path
) -> None:
    gateway, journal = ModelGateway(), Journal()
    async with peer_on(server, gateway) as peer:
        first = new_agent(server, tmp_path, journal)
        async with asyncio.TaskGroup() as tasks:
            life = tasks.create_task(first.run())
            await until(lambda: gateway.stored)
            life.cancel()
        await until(lambda: len(peer.ups) == 2)
        assert (peer.ups[1].run, peer.ups[1].connection, peer.ups[1].up) == (
            first.heartbeats.run,
            1,
            False,
        )
        # The memory outlived the process: the next one sends what is left, under a new run.
        async with running(new_agent(server, tmp_path, journal)) as agent:
            await until(lambda: set(journal.made_keys[:2]) <= set(gateway.stored))
            assert agent.heartbeats.run != first.heartbeats.run


class Hurried(Random):
    """Jitter at its shortest."""

    def uniform(self, a: float, b: float) -> float:
        return a / 1_000


async def test_a_login_that_is_refused_again_and_again_asks_the_gateway(
    server: MosquittoServer, tmp_path: Path
) -> None:
    asked: list[int] = []
    dialled: list[Address] = []

    async def dial(address: Address, *args: object, **options: object) -> Connection:
        dialled.append(address)
        if address.port == server.port:
            return await connect(address, *args, **options)  # type: ignore[arg-type]  # handed on
        raise LoginRefused("not authorised")

    async def ask_gateway() -> list[Address]:
        asked.append(len(dialled))
        return [Address(server.host, server.port)] if len(asked) == 2 else []

    agent = Agent(
        login=Login(SERIAL, "secret", KEY),
        addresses=[Address("127.0.0.1", 1)],
        tls=None,
        state_dir=tmp_path / "flash",
        spool_dir=tmp_path / "memory",
        clock=SystemClock(),
        rng=Hurried(1),
        collector=dict,
        dial=dial,
        ask_gateway=ask_gateway,
    )
    async with running(agent):
        await until(lambda: agent.connected)
    assert asked == [3, 4]
    assert agent.heartbeats.connection == 5


async def test_an_agent_moves_on_to_the_next_host_and_stays_where_it_works(
    server: MosquittoServer, tmp_path: Path
) -> None:
    dialled: list[int] = []

    async def dial(address: Address, *args: object, **options: object) -> Connection:
        dialled.append(address.port)
        return await connect(address, *args, **options)  # type: ignore[arg-type]  # handed on

    agent = Agent(
        login=Login(SERIAL, "secret", KEY),
        addresses=[Address("127.0.0.1", 1), Address(server.host, server.port)],
        tls=None,
        state_dir=tmp_path / "flash",
        spool_dir=tmp_path / "memory",
        clock=SystemClock(),
        rng=Hurried(1),
        collector=dict,
        dial=dial,
    )
    async with running(agent):
        await until(lambda: agent.connected)
        assert dialled == [1, server.port]
        await asyncio.to_thread(server.stop)
        await until(lambda: not agent.connected)
        await asyncio.to_thread(server.start)
        await until(lambda: agent.connected)
    # It begins with the one that worked, and tries the other one as well while that is away.
    assert dialled[2] == dialled[-1] == server.port


async def test_a_server_that_speaks_something_else_is_tried_again(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(1))
        writer.write(b"\xf0HTTP/1.1 400 Bad Request\r\n\r\n" + b"\x00\xff" * 500)
        writer.close()

    listener = await asyncio.start_server(talk, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    agent = Agent(
        login=Login(SERIAL, "secret", KEY),
        addresses=[Address("127.0.0.1", 1), Address(host, port)],
        tls=None,
        state_dir=tmp_path / "flash",
        spool_dir=tmp_path / "memory",
        clock=SystemClock(),
        rng=Random(1),
        collector=dict,
    )
    async with listener, running(agent):
        await until(lambda: len(seen) >= 2, within_s=50)
        assert not agent.connected
