"""Resuming, tried by those who lie about counts, generations and secrets."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.integration.test_relay_web_links import connect_ticket, dialled
from tests.relay_rig import LIMIT_S, Rig, fact, opened, running_relay, session_of
from tests.relay_web_rig import Recorder, running_site
from tests.resuming_rig import away
from wire.hello import FORGOTTEN, Answered, Hello, Word, hello_bytes, resume_bytes


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_relay(tmp_path) as running:
        yield running


@pytest.mark.parametrize("more", [-1, 1, 1_000_000, 2**53 - 1])
async def test_a_count_that_cannot_be_true_costs_only_the_own_channel(rig: Rig, more: int) -> None:
    claims = rig.mint.session()
    device = await rig.device(claims)
    session = session_of(rig, claims)
    visitor = await opened(session)
    visitor.stream.write(b"hello")
    assert await visitor.got(5) == b"hello"
    assert device.link is not None
    taken = device.link.detach()
    new = await rig.dial()
    count = min(taken + more, 2**53 - 1)
    assert (await new.resume(claims.session, 1, device.secret, count)).word is Word.FRESH
    assert await visitor.end() == "link_lost"
    again = await opened(session)
    again.stream.write(b"again")
    assert await again.got(5) == b"again"
    new.transport.abort()


async def test_whoever_resumes_again_and_again_takes_no_more_than_one_place(rig: Rig) -> None:
    claims = rig.mint.session()
    device = await rig.device(claims)
    session = session_of(rig, claims)
    visitor = await opened(session)
    before = device
    for generation in range(1, 60):
        assert before.link is not None
        taken = before.link.detach()
        new = await rig.dial()
        new.link_before = before.link
        answered = await new.resume(claims.session, generation, device.secret, taken)
        assert answered.word is Word.RESUMED
        before = new
    visitor.stream.write(b"still here")
    assert await visitor.got(10) == b"still here"
    await fact(lambda: rig.relay.sessions.connected == 1)
    assert not len(rig.relay.sessions.detached)
    before.transport.abort()


async def visitor_resumes(
    socket: aiohttp.ClientWebSocketResponse, secret: bytes, session: str, generation: int
) -> None:
    await socket.send_bytes(resume_bytes(secret, session, generation, FORGOTTEN))


async def test_a_visitors_link_is_resumed_only_with_its_own_secret(tmp_path: Path) -> None:
    secret, session = b"1" * 32, ""
    async with running_site(tmp_path, Recorder(), enter=False) as site:
        session = site.claims.session
        async with dialled(site) as first:
            await first.socket.send_bytes(hello_bytes(Hello(connect_ticket(site), secret)))
            assert (await first.answered()).word is Word.WELCOME
            for wrong in ((b"2" * 32, session, 9), (secret, "f" * 32, 9)):
                async with dialled(site) as other:
                    await visitor_resumes(other.socket, *wrong)
                    assert await other.answered() == Answered(Word.UNKNOWN)
            async with dialled(site) as right, dialled(site) as late:
                await visitor_resumes(right.socket, secret, session, 3)
                assert await right.answered() == Answered(Word.FRESH)
                await visitor_resumes(late.socket, secret, session, 3)
                assert await late.answered() == Answered(Word.REFUSED, reason="generation_old")
                assert len(site.session.callers()) == 1
            # Its link was taken over, by one who then left.
            async with asyncio.timeout(LIMIT_S):
                while (await first.socket.receive()).type is aiohttp.WSMsgType.BINARY:
                    pass  # it was sent before
        await fact(lambda: not site.session.callers())


async def test_links_that_are_away_give_way_to_visitors_who_are_here(tmp_path: Path) -> None:
    async with running_site(tmp_path, Recorder(), enter=False) as site:
        for number in range(40):
            async with dialled(site) as guest:
                secret = number.to_bytes(32, "big")
                await guest.socket.send_bytes(hello_bytes(Hello(connect_ticket(site), secret)))
                assert (await guest.answered()).word is Word.WELCOME
                connection = guest.socket._response.connection
                assert connection is not None
                assert connection.transport is not None
                connection.transport.abort()
            await fact(lambda: site.session.usage().visitors == 0)
        assert len(site.session.callers()) == 32
        site.rig.clock.moved_s += 61
        site.rig.lease()
        site.rig.relay.sessions.sweep()
        assert not site.session.callers()
        assert site.session.budget.used == 0


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_61_seconds_away_a_new_stream_works_at_once(rig: Rig) -> None:
    """In real time, with the relay's own sweep."""
    async with away(rig) as there:
        shell = await there.open()
        there.network.cut()
        leases = asyncio.create_task(leased(rig))
        await fact(lambda: shell.ended, 70)
        assert shell.ended == "link_lost"
        there.network.mend()
        again = await there.open()
        await again.send(b"after\n")
        await fact(lambda: again.got == b"after\n")
        assert len(there.rig.relay.sessions) == 1
        leases.cancel()


async def leased(rig: Rig) -> None:
    """As the gateway does."""
    while True:
        await asyncio.sleep(2)
        rig.lease()
