"""Hostile timing: coming and going, used and late tickets, revocations out of order, odd clocks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from broker.relay import tickets
from broker.relay.errors import TicketRefused
from broker.relay.happenings import KEPT_MAX, OF_ONE_MAX
from broker.relay.limits import Limits
from broker.relay.web_door import web_factory
from tests.integration.test_relay_attack_links import random_frame
from tests.integration.test_relay_floods import lives, visitor_of, with_device
from tests.relay_rig import LIMIT_S, SERIAL, RawDevice, Rig, fact, running_relay
from wire.frames import Kind, encode, reason_frame
from wire.hello import FORGOTTEN, Hello, Word, hello_bytes, resume_bytes
from wire.relay_control import Note, Revocation
from wire.tickets import Party, Way


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_relay(tmp_path, web=web_factory) as rig:
        yield rig


def heard(device: RawDevice) -> bool:
    return device.answered.done() or device.lost.done()


def leapt(wall_ms: Callable[[], int], leap_ms: int) -> int:
    return wall_ms() + leap_ms


async def test_a_device_that_comes_and_goes_pushes_out_no_others_news(rig: Rig) -> None:
    claims, device, _ = await with_device(rig)
    quiet, _, other = await with_device(rig)
    other.end("closed")
    happenings = rig.relay.happenings
    session = rig.relay.sessions.by_id(claims.session)
    assert session is not None
    for generation in range(1, 30):
        again = await rig.dial()
        assert (await again.resume(claims.session, generation, device.secret)).word is Word.FRESH
    for _ in range(KEPT_MAX):
        happenings.add(claims.session, "link_up")
        happenings.add(claims.session, "link_lost", "link_replaced")
    kept = happenings.waiting(KEPT_MAX)
    assert sum(one.session == claims.session for one in kept) == OF_ONE_MAX
    assert any((one.session, one.what) == (quiet.session, "ended") for one in kept)
    session.end("closed")
    assert happenings.waiting(KEPT_MAX)[-1].what == "ended"
    happenings.taken(happenings.newest)
    assert not happenings.waiting(1) and not happenings._of_one


async def test_a_generation_is_used_once_and_the_old_link_is_closed_first(rig: Rig) -> None:
    claims, device, session = await with_device(rig)
    dials = [await rig.dial() for _ in range(10)]
    for one in dials:  # the same generation, all at once
        one.transport.write(resume_bytes(device.secret, claims.session, 5, FORGOTTEN))
    words = [await asyncio.wait_for(one.answered, LIMIT_S) for one in dials]
    assert sorted(answer.word for answer in words) == [Word.FRESH] + [Word.REFUSED] * 9
    assert await device.end() == "link_lost"
    await lives(session)
    assert session.usage().link


async def test_revoked_tickets_in_any_order(rig: Rig) -> None:
    early, late, lower = (rig.mint.session() for _ in range(3))
    open_one, device, session = await with_device(rig)
    rig.lease(revoked=(Revocation(9, early.session, "right_lost"),), newest=9)
    with pytest.raises(TicketRefused, match="session_over"):
        rig.relay.desk.admit(rig.mint.sign(early), party=Party.DEVICE, way=Way.LINK)
    # A number below the newest: from a gateway that was restored from a copy.
    rig.lease(
        revoked=(
            Revocation(3, lower.session, "right_lost"),
            Revocation(4, open_one.session, "moved"),
        ),
        newest=4,
    )
    assert await device.end() == "moved" and session.over == "moved"
    with pytest.raises(TicketRefused, match="session_over"):
        rig.relay.desk.admit(rig.mint.sign(lower), party=Party.DEVICE, way=Way.LINK)
    assert rig.relay.control.applied == 9
    claims = rig.relay.desk.admit(rig.mint.sign(late), party=Party.DEVICE, way=Way.LINK)
    rig.lease(revoked=(Revocation(10, late.session, "right_lost"),), newest=10)
    # Between the ticket's use and the session's making: nothing may come between, or it is over.
    with pytest.raises(TicketRefused, match="session_over"):
        rig.relay.sessions.check(claims)


async def test_notes_of_other_words_are_not_taken(rig: Rig) -> None:
    session = rig.mint.session().session
    for code in ("<script>", "a" * 100, "ok\r\nSet-Cookie: a", "\ud800", "é"):
        rig.lease(notes=(Note(session, "agent", code, 1), Note(session, code, "ok", 1)))
        assert rig.relay.sessions.note(session) is None
    rig.lease(notes=(Note(session, "agent", "busy", 1),))
    assert rig.relay.sessions.note(session) is not None


async def test_a_clock_that_leaps_and_comes_back_makes_no_ticket_new(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = rig.mint.session()
    ticket = rig.mint.sign(claims)
    rig.relay.desk.admit(ticket, party=Party.DEVICE, way=Way.LINK)
    wall_ms = rig.clock.wall_ms
    for leap_ms in (600_000, 3_600_000, -30_000, 0):
        monkeypatch.setattr(rig.clock, "wall_ms", partial(leapt, wall_ms, leap_ms))
        other = rig.mint.session(host="s-" + "a" * 26)
        rig.relay.desk.admit(rig.mint.sign(other), party=Party.DEVICE, way=Way.LINK)
        with pytest.raises(TicketRefused):
            rig.relay.desk.admit(ticket, party=Party.DEVICE, way=Way.LINK)
    assert len(rig.relay.desk._used) == 5


async def test_a_full_memory_of_used_tickets_admits_nobody_and_empties(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "USED_MAX", 3)
    _, _, session = await with_device(rig)
    for _ in range(2):
        claims = rig.mint.session()
        rig.relay.desk.admit(rig.mint.sign(claims), party=Party.DEVICE, way=Way.LINK)
    claims = rig.mint.session()
    with pytest.raises(TicketRefused, match="busy"):
        rig.relay.desk.admit(rig.mint.sign(claims), party=Party.DEVICE, way=Way.LINK)
    await lives(session)  # who is in stays in
    rig.clock.moved_s += 90
    rig.lease()
    claims = rig.mint.session(device=SERIAL)
    assert rig.relay.desk.admit(rig.mint.sign(claims), party=Party.DEVICE, way=Way.LINK)


async def test_a_session_takes_only_so_many_links_of_visitors(tmp_path: Path) -> None:
    limits = Limits(links_per_session=2)
    async with running_relay(tmp_path, web=web_factory, limits=limits) as rig:
        claims, _, session = await with_device(rig)
        async with visitor_of(rig, claims), visitor_of(rig, claims):
            with pytest.raises(AssertionError):
                async with visitor_of(rig, claims):
                    pass
            await lives(session)
        await fact(lambda: session.usage().visitors == 0)
        async with visitor_of(rig, claims):
            pass


async def test_hellos_with_words_behind_them(rig: Rig) -> None:
    """What follows the hello in the same packet is taken, and ends no relay."""
    _, _, other = await with_device(rig)
    rng = Random(1)
    tails = [reason_frame(Kind.BYE, 0, "x"), encode(Kind.HELLO, 0, b"{}"), b"\xff" * 50_000]
    for tail in (*tails, *(random_frame(rng) for _ in range(20))):
        device: RawDevice = await rig.dial()
        hello = hello_bytes(Hello(rig.mint.sign(rig.mint.session()), device.secret))
        device.transport.write(hello + tail)
        await fact(partial(heard, device))
        device.transport.abort()
    await lives(other)
