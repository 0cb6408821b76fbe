"""`fleetgate connect` closes the sessions that it opened, whatever comes in between."""

import asyncio
import random

import pytest

from broker.connect.arguments import parse
from broker.connect.program import EXIT_FAILED, Program
from broker.connect.session import Session
from tests.integration.connect_world import SERIAL, TOKEN, world
from tests.integration.test_connect import target


async def test_a_signal_while_sessions_are_closed_leaves_none_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop = asyncio.Event()
    close = Session.close

    async def signalled(session: Session) -> None:
        stop.set()
        await close(session)

    monkeypatch.setattr(Session, "close", signalled)
    said: list[str] = []
    async with target() as taken, world() as server:
        # The port is taken, so that it ends by itself as soon as it has its session.
        argv = ["--url", server.url, "--token", TOKEN, "--local", f"{taken}={SERIAL}:22"]
        program = Program(parse(argv, {}), say=said.append, show=said.append, rng=random.Random(1))
        assert await program.run(stop) == EXIT_FAILED, said
        assert len(server.sessions) == 1
        assert {one["ended_because"] for one in server.sessions.values()} == {"closed"}
