"""How sessions end at a real relay: revoked, expired, idle, forgotten by the gateway."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from broker.relay.errors import TicketRefused
from tests.relay_rig import (
    Rig,
    opened,
    refusal,
    running_relay,
    session_of,
    visit,
)
from wire.relay_control import Revocation


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_relay(tmp_path) as rig:
        yield rig


class Guest:
    away = False

    def __init__(self) -> None:
        self.reason = ""

    def session_ended(self, reason: str) -> None:
        self.reason = reason


async def test_a_revocation_ends_link_streams_visitors_and_cookies_at_once(rig: Rig) -> None:
    claims = rig.mint.session()
    device = await rig.device(claims)
    session = session_of(rig, claims)
    visitor, guest = await opened(session), Guest()
    session.admit_link(guest)
    cookie = session.admit_browser("192.0.2.1")
    assert session.knows_browser(cookie) and session.usage().visitors == 2
    loop = asyncio.get_running_loop()
    before_s = loop.time()
    rig.lease(newest=7, revoked=(Revocation(7, claims.session, "right_lost"),))
    assert await device.end() == "right_lost"
    await device.closed()
    assert loop.time() - before_s < 1
    assert (await visitor.end(), guest.reason) == ("right_lost", "right_lost")
    assert not session.knows_browser(cookie)
    error = await refusal(session)
    assert (error.reason, error.detail) == ("session_over", "right_lost")
    assert rig.relay.control.applied == 7
    assert rig.relay.sessions.by_host(claims.host) is None
    assert [one.what for one in rig.relay.happenings.waiting(10)][-1] == "ended"
    with pytest.raises(TicketRefused, match="session_over"):
        visit(rig, claims)


async def test_a_cookie_is_of_one_session_and_can_be_dismissed(rig: Rig) -> None:
    one, two = visit(rig, rig.mint.session()), visit(rig, rig.mint.session())
    cookie = one.admit_browser("192.0.2.1")
    assert one.knows_browser(cookie) and not two.knows_browser(cookie)
    one.dismiss_browser(cookie)
    assert not one.knows_browser(cookie)
    many = [one.admit_browser("192.0.2.1") for _ in range(65)]
    assert [one.knows_browser(each) for each in many] == [False] + [True] * 64


@pytest.mark.parametrize(
    ("moved_s", "reason"), [(3_601, "expired"), (1_000, "idle_streams"), (700, "")]
)
async def test_time_ends_a_session(rig: Rig, moved_s: float, reason: str) -> None:
    claims = rig.mint.session()
    device = await rig.device(claims)
    rig.clock.moved_s = moved_s
    rig.lease()
    if reason:
        assert await device.end() == reason
    else:
        rig.relay.sessions.sweep()
        assert not device.ended.done()
        device.transport.abort()


async def test_an_open_stream_without_a_byte_for_an_hour_ends_the_session(rig: Rig) -> None:
    claims = rig.mint.session(until_ms=rig.clock.wall_ms() + 7_200_000)
    device = await rig.device(claims)
    await opened(session_of(rig, claims))
    rig.relay.sessions.sweep()
    rig.clock.moved_s = 3_000
    rig.lease()
    rig.relay.sessions.sweep()
    assert not device.ended.done()
    rig.clock.moved_s = 3_601
    rig.lease()
    assert await device.end() == "idle_bytes"


async def test_without_a_lease_no_stream_and_after_five_minutes_no_session(rig: Rig) -> None:
    claims = rig.mint.session(idle_streams_s=3_600)
    device = await rig.device(claims)
    session = session_of(rig, claims)
    visitor = await opened(session)
    rig.clock.moved_s = 16
    assert (await refusal(session)).reason == "control_link_lost"
    visitor.stream.write(b"goes on")
    assert await visitor.got(7) == b"goes on"
    rig.clock.moved_s = 299
    rig.relay.sessions.sweep()
    assert not device.ended.done()
    rig.lease()
    await opened(session)
    rig.clock.moved_s += 301
    assert await device.end() == "control_link_lost"
    assert await visitor.end() == "control_link_lost"


async def test_before_the_first_lease_there_are_no_streams(tmp_path: Path) -> None:
    async with running_relay(tmp_path, leased=False) as rig:
        claims = rig.mint.session()
        device = await rig.device(claims)
        assert (await refusal(session_of(rig, claims))).reason == "control_link_lost"
        rig.lease(epoch="d" * 32, newest=9)
        assert rig.relay.control.applied == 0
        assert (await refusal(session_of(rig, claims))).reason == "control_link_lost"
        rig.lease()
        await opened(session_of(rig, claims))
        device.transport.abort()


async def test_revocations_are_applied_once_and_in_order(rig: Rig) -> None:
    one, two = rig.mint.session(), rig.mint.session()
    rows = (Revocation(5, two.session, "closed"), Revocation(4, one.session, "expired"))
    rig.lease(newest=6, revoked=rows)
    assert rig.relay.control.applied == 5  # the sixth comes with the next
    rig.lease(newest=6, revoked=(Revocation(4, one.session, "moved"),))
    assert rig.relay.control.applied == 5
    assert rig.relay.sessions.over(one.session) == "expired"
    rig.lease(newest=6)
    assert rig.relay.control.applied == 6


async def test_a_relay_that_stops_says_so(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as rig:
        device = await rig.device()
    assert await device.end() == "relay_stopping"
