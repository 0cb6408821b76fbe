"""Devices' links at a real relay: streams, limits, later connections."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from broker.relay.errors import StreamRefused
from broker.relay.limits import Limits
from tests.relay_rig import (
    LIMIT_S,
    Rig,
    Visitor,
    fact,
    opened,
    refusal,
    running_relay,
    session_of,
    visit,
)
from wire.frames import Kind, open_frame, reason_frame
from wire.hello import Answered, Word
from wire.relay_control import Note, Revocation
from wire.stream import Stream


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_relay(tmp_path) as rig:
        yield rig


def refuse(stream: Stream) -> None:
    stream.refuse("unreachable")


def stall(stream: Stream) -> None:
    stream.user = Visitor(reads=False)


# Streams


async def test_bytes_go_both_ways_and_are_counted(rig: Rig) -> None:
    claims = rig.mint.session()
    device = await rig.device(claims)
    session = session_of(rig, claims)
    visitor = await opened(session)
    visitor.stream.write(b"x" * 50_000)
    visitor.stream.finish()
    assert await visitor.got(50_000) == b"x" * 50_000
    async with asyncio.timeout(LIMIT_S):
        await visitor.finished.wait()
    usage = session.usage()
    assert (usage.to_device, usage.from_device, usage.opened) == (50_000, 50_000, 1)
    await fact(lambda: session.usage().streams == 0)
    device.transport.abort()
    await fact(lambda: session.link is None)
    assert session.usage()[1:] == (50_000, 50_000, 0, 1, 0, False)
    assert rig.relay.sessions.budget.used == 0


async def test_a_visitor_waits_for_the_device(rig: Rig) -> None:
    claims = rig.mint.session()
    session = visit(rig, claims)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(opened(session, wait_s=LIMIT_S))
        await asyncio.sleep(0)
        device = await rig.device(claims)
    waiting.result().stream.write(b"hello")
    assert await waiting.result().got(5) == b"hello"
    device.transport.abort()


async def test_why_no_device_came(rig: Rig) -> None:
    claims = rig.mint.session()
    session = visit(rig, claims)
    assert (await refusal(session)).reason == "no_link"
    rig.lease(notes=(Note(claims.session, "mqtt", "device_offline", 1),))
    error = await refusal(session)
    assert (error.reason, error.hop) == ("device_offline", "mqtt")


async def test_a_final_note_ends_the_wait_at_once(rig: Rig) -> None:
    claims = rig.mint.session()
    session = visit(rig, claims)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(refusal(session, wait_s=60))
        await asyncio.sleep(0)
        rig.lease(notes=(Note(claims.session, "agent", "not_allowed", 1),))
    assert waiting.result().reason == "not_allowed"
    assert (await refusal(session, wait_s=60)).hop == "agent"
    rig.clock.moved_s = 100
    rig.lease()
    assert (await refusal(session)).reason == "no_link"  # nobody says so any more


async def test_a_refusal_of_the_device_is_passed_on_and_reported(rig: Rig) -> None:
    claims = rig.mint.session()
    device = await rig.device(claims, on_open=refuse)
    visitor = await opened(session_of(rig, claims))
    assert await visitor.end() == "unreachable"
    happened = [one[1:4] for one in rig.relay.happenings.waiting(10)]
    assert happened == [
        (claims.session, "link_up", ""),
        (claims.session, "refused", "unreachable"),
    ]
    device.transport.abort()


async def test_streams_are_limited_by_whom_they_are_for(tmp_path: Path) -> None:
    limits = Limits(session=4, device=5, person=6, company=7, address=3)
    async with running_relay(tmp_path, limits=limits) as rig:
        first, second, third, fourth = (
            rig.mint.session(),
            rig.mint.session(),
            rig.mint.session(device="1100000002"),
            rig.mint.session(device="1100000003", person="8"),
        )
        devices = [await rig.device(claims) for claims in (first, second, third, fourth)]
        one, two, three, four = (session_of(rig, each) for each in (first, second, third, fourth))
        kept = [await opened(one, address="192.0.2.1") for _ in range(3)]
        with pytest.raises(StreamRefused, match="busy"):
            await opened(one, address="192.0.2.1")
        kept.append(await opened(one))
        for session, more in ((one, 0), (two, 1), (three, 1), (four, 1)):
            kept += [await opened(session) for _ in range(more)]
            assert (await refusal(session)).reason == "busy"
        kept[0].stream.reset("reset")
        kept.append(await opened(one, address="192.0.2.1"))
        assert (await refusal(one)).reason == "busy"
        for device in devices:
            device.transport.abort()


async def test_who_waited_in_vain_holds_no_place(tmp_path: Path) -> None:
    async with running_relay(tmp_path, limits=Limits(session=2)) as rig:
        claims = rig.mint.session()
        session = visit(rig, claims)
        for _ in range(3):
            assert (await refusal(session)).reason == "no_link"
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(opened(session, wait_s=60)) for _ in range(2)]
            await asyncio.sleep(0)
            assert (await refusal(session)).reason == "busy"
            for task in waiting:
                task.cancel()
        device = await rig.device(claims)
        for _ in range(2):
            await opened(session)
        device.transport.abort()


async def test_256_streams_and_no_more(rig: Rig) -> None:
    claims = rig.mint.session()
    device = await rig.device(claims)
    session = session_of(rig, claims)
    visitors = [await opened(session) for _ in range(256)]
    assert (await refusal(session)).reason == "busy"
    for number, visitor in enumerate(visitors):
        visitor.stream.write(b"%d" % number)
    for number, visitor in enumerate(visitors):
        assert await visitor.got(len(str(number))) == b"%d" % number
    assert device.link is not None and not device.link.ended
    device.transport.abort()


async def test_opening_is_paced_and_giving_up_costs_nothing(tmp_path: Path) -> None:
    async with running_relay(tmp_path, opens_per_s=20.0) as rig:
        claims = rig.mint.session()
        device = await rig.device(claims)
        session = session_of(rig, claims)
        for _ in range(200):
            (await opened(session)).stream.reset("reset")
        for _ in range(50):  # a flood of visitors who go again at once
            assert (await refusal(session, wait_s=0)).reason == "busy"
        loop = asyncio.get_running_loop()
        before_s = loop.time()
        for _ in range(4):
            (await opened(session)).stream.reset("reset")
        assert 0.05 < loop.time() - before_s < 1.5
        assert device.link is not None and not device.link.ended
        device.transport.abort()


async def test_a_stalled_reader_holds_up_nobody_else(rig: Rig) -> None:
    claims = rig.mint.session()
    device = await rig.device(claims)
    session = session_of(rig, claims)
    stalled = await opened(session, reads=False)
    for _ in range(64):
        stalled.stream.write(b"x" * 65_536)
    lively = await opened(session)
    for _ in range(40):
        before = len(lively.data)
        lively.stream.write(b"y" * 10_000)
        await lively.got(before + 10_000)
    assert len(stalled.data) <= 128 * 1024
    stalled.stream.reset("reset")
    device.transport.abort()


# Later connections of a device


async def test_a_device_comes_back_and_the_old_connection_is_closed(rig: Rig) -> None:
    claims = rig.mint.session()
    old = await rig.device(claims)
    session = session_of(rig, claims)
    visitor = await opened(session)
    new = await rig.dial()
    assert (await new.resume(claims.session, 1, old.secret)).word is Word.FRESH
    await old.closed()
    assert await visitor.end() == "link_lost"
    visitor = await opened(session)
    visitor.stream.write(b"again")
    assert await visitor.got(5) == b"again"
    assert len(new.accepted) == 1 and len(old.accepted) == 1
    new.transport.abort()


@pytest.mark.parametrize("generation", [1, 4, 5])
async def test_an_older_generation_changes_nothing(rig: Rig, generation: int) -> None:
    claims = rig.mint.session()
    first = await rig.device(claims)
    new = await rig.dial()
    assert (await new.resume(claims.session, 5, first.secret)).word is Word.FRESH
    late = await rig.dial()
    answered = await late.resume(claims.session, generation, first.secret)
    assert answered == Answered(Word.REFUSED, reason="generation_old")
    await late.closed()
    assert not new.ended.done()
    visitor = await opened(session_of(rig, claims))
    visitor.stream.write(b"still here")
    assert await visitor.got(10) == b"still here"
    new.transport.abort()


async def test_what_the_old_connection_still_says_is_ignored(rig: Rig) -> None:
    claims = rig.mint.session()
    old = await rig.device(claims)
    session = session_of(rig, claims)
    before = session.link
    assert before is not None
    new = await rig.dial()
    assert (await new.resume(claims.session, 1, old.secret)).word is Word.FRESH
    # Bytes that had been read, and would be handed over late.
    before.receive(reason_frame(Kind.BYE, 0, "agent_stopping"))
    before.receive(open_frame(1, 65_536))
    before.lost()
    session.link_down(before, "late")
    assert session.link is not None and session.link is not before
    visitor = await opened(session)
    visitor.stream.write(b"fine")
    assert await visitor.got(4) == b"fine"
    new.transport.abort()


async def test_a_new_ticket_supersedes_the_link(rig: Rig) -> None:
    claims = rig.mint.session()
    old = await rig.device(claims)
    new = await rig.device(rig.mint.again(claims))
    await old.closed()
    late = await rig.dial()
    # The secret of the first hello is worth nothing any more.
    assert (await late.resume(claims.session, 9, old.secret)).word is Word.UNKNOWN
    assert not new.ended.done()
    assert len(rig.relay.sessions) == 1
    new.transport.abort()


async def test_only_the_secret_resumes(rig: Rig) -> None:
    claims = rig.mint.session()
    device = await rig.device(claims)
    thief = await rig.dial()
    assert (await thief.resume(claims.session, 9, b"?" * 32)).word is Word.UNKNOWN
    other = rig.mint.session()
    visit(rig, other)  # a session whose device never came has no secret
    thief = await rig.dial()
    assert (await thief.resume(other.session, 1, bytes(32))).word is Word.UNKNOWN
    assert not device.ended.done()
    device.transport.abort()


async def test_resuming_what_is_unknown_or_over(rig: Rig) -> None:
    claims = rig.mint.session()
    device = await rig.dial()
    assert (await device.resume(claims.session, 1)).word is Word.UNKNOWN
    device = await rig.device(claims)
    rig.lease(newest=1, revoked=(Revocation(1, claims.session, "service_unpaid"),))
    assert await device.end() == "service_unpaid"
    again = await rig.dial()
    answered = await again.resume(claims.session, 1, device.secret)
    assert answered == Answered(Word.OVER, reason="service_unpaid")
