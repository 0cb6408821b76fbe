"""How an agent asks for addresses and dials them."""

import asyncio
import socket
import threading

import pytest

from agent.links import resolver
from agent.links.resolver import LOOKUPS_MAX, SystemResolver
from agent.links.target import NotAllowed, dial_target, refusal_of


class Lookups:
    """Stands in for the system's resolver: answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.let = threading.Event()

    def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        assert self.let.wait(10)
        if name.startswith("no"):
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return ["192.0.2.1"]


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Lookups:
    made = Lookups()
    monkeypatch.setattr(resolver, "_lookup", made)
    return made


async def test_one_question_answers_all_who_ask_it(lookups: Lookups) -> None:
    resolve = SystemResolver()
    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(resolve("plc.lan")) for _ in range(20)]
        while not lookups.asked:  # noqa: ASYNC110  it is noted by a thread
            await asyncio.sleep(0.001)
        lookups.let.set()
    assert [task.result() for task in asking] == [["192.0.2.1"]] * 20
    assert lookups.asked == ["plc.lan"]
    await resolve("plc.lan")
    assert len(lookups.asked) == 2  # nothing is kept


async def test_few_threads_ask_and_who_gives_up_does_not_free_them(lookups: Lookups) -> None:
    resolve = SystemResolver()
    for turn in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.gather(*(resolve(f"{turn}-{name}.lan") for name in range(4)))
    assert len(lookups.asked) == LOOKUPS_MAX
    lookups.let.set()
    assert await resolve("after.lan") == ["192.0.2.1"]
    with pytest.raises(socket.gaierror):
        await resolve("no.lan")
    assert await resolve("again.lan") == ["192.0.2.1"]


async def test_the_system_knows_its_own_name() -> None:
    assert "127.0.0.1" in await SystemResolver()("localhost")
    with pytest.raises(OSError):
        await SystemResolver()("a" * 70 + ".invalid")


async def test_a_port_that_was_joined_with_itself_is_refused() -> None:
    """The kernel joins a socket with itself if it dials the port it was given."""
    loop = asyncio.get_running_loop()

    async def connect_to_itself(plain: socket.socket, address: tuple[str, int]) -> None:
        plain.bind(("127.0.0.1", address[1]))
        plain.setblocking(True)
        plain.connect(address)
        plain.setblocking(False)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "sock_connect", connect_to_itself)
        with pytest.raises(ConnectionRefusedError) as caught:
            await dial_target(asyncio.Protocol, "127.0.0.1", port)
    assert refusal_of(caught.value) == "refused"


async def test_who_answers_must_be_who_was_dialled() -> None:
    loop = asyncio.get_running_loop()
    connect = loop.sock_connect
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        async def astray(plain: socket.socket, address: tuple[str, int]) -> None:
            await connect(plain, ("127.0.0.1", port))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "sock_connect", astray)
            with pytest.raises(NotAllowed) as caught:
                await dial_target(asyncio.Protocol, "127.0.0.3", port)
    assert refusal_of(caught.value) == "not_allowed"


async def test_both_families_are_dialled() -> None:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.create_server((host, 0), family=family) as server:
            transport, _ = await dial_target(asyncio.Protocol, host, server.getsockname()[1])
            transport.close()
            await asyncio.sleep(0)
