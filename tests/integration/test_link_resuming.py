"""A device's link over connections that break: what is open goes on, and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from agent.links import session_link
from broker.relay.detached import DETACHED_S
from broker.relay.session import Session
from tests.model_relay import Visitor
from tests.relay_rig import Rig, fact, opened, refusal, running_relay, session_of, visit
from tests.resuming_rig import Away, away, expected
from wire.frames import Kind, reason_frame
from wire.hello import Word
from wire.session_commands import LinkState

MIB = 1 << 20
BREAKS = ["cut", "reset_all", "black_hole", "to the relay", "to the device", "hold"]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_relay(tmp_path) as running:
        yield running


@pytest.fixture
async def there(rig: Rig) -> AsyncIterator[Away]:
    async with away(rig) as made:
        yield made


def break_it(there: Away, how: str) -> None:
    match how:
        case "to the relay":
            there.network.black_hole(to_client=False)
        case "to the device":
            there.network.black_hole(to_server=False)
        case _:
            getattr(there.network, how)()


def more(visitor: Visitor, size: int) -> bool:
    return visitor.count >= size


def dialled(there: Away, number: int) -> bool:
    return there.network.connections_made >= number


def alone(session: Session) -> bool:
    return session.link is None


async def said(visitor: Visitor, size: int) -> None:
    await fact(lambda: visitor.count >= size or visitor.ended, 60)
    assert visitor.ended is None


@pytest.mark.parametrize("how", BREAKS)
async def test_what_is_open_goes_on_after_a_break(there: Away, how: str) -> None:
    shell, download, upload = [await there.open() for _ in range(3)]
    await download.send(b"get %d\n" % (16 * MIB))
    await upload.send(b"put %d\n" % (8 * MIB))
    sending = asyncio.create_task(upload.send(expected(8 * MIB)))
    await shell.send(b"before\n")
    await fact(lambda: shell.got == b"before\n" and download.count > MIB)
    break_it(there, how)
    typing = asyncio.create_task(shell.send(b"between\n"))
    await fact(lambda: there.network.connections_made > 1 or how in ("cut", "hold"))
    there.network.mend()
    await typing
    await said(shell, len(b"before\nbetween\n"))
    await said(download, 16 * MIB)
    await sending
    await fact(lambda: upload.got)
    assert bytes(shell.got) == b"before\nbetween\n"
    assert bytes(download.got) == expected(16 * MIB)
    assert bytes(upload.got) == b"%d same\n" % (8 * MIB)
    kept = [one.what for one in there.rig.relay.happenings.waiting(100)]
    assert "ended" not in kept
    usage = there.session.usage()
    assert (usage.opened, usage.streams, usage.link) == (3, 3, True)
    # Bytes are counted once, however often they were sent.
    assert usage.to_device == len(b"before\nbetween\n") + 8 * MIB + len(b"get 16777216\n") + len(
        b"put 8388608\n"
    )
    for visitor in (shell, download, upload):
        assert visitor.stream is not None
        visitor.stream.reset("reset")


async def test_many_breaks_in_one_transfer(there: Away) -> None:
    shell, download = await there.open(), await there.open()
    await download.send(b"get %d\n" % (24 * MIB))
    typed = bytearray()
    for turn, how in enumerate(("reset_all", "cut", "reset_all", "black_hole", "cut", "reset_all")):
        await fact(partial(more, download, download.count + MIB))
        break_it(there, how)
        line = b"line %d\n" % turn
        typed += line
        await shell.send(line)
        if how == "black_hole":
            await fact(partial(dialled, there, there.network.connections_made + 1))
        there.network.mend()
        await said(shell, len(typed))
    await said(download, 24 * MIB)
    assert bytes(download.got) == expected(24 * MIB)
    assert shell.got == typed
    assert there.session.usage().opened == 2
    states = [report.link for report in there.reports]
    assert LinkState.UNKNOWN not in states


async def test_being_told_again_while_away_resumes_and_does_not_begin_anew(there: Away) -> None:
    """Its way out changed: the device signs in at the MQTT server before it is back here."""
    shell = await there.open()
    there.network.cut()
    await fact(lambda: there.session.link is None)
    there.tell()
    await shell.send(b"waits\n")
    there.network.mend()
    await said(shell, 6)
    assert there.session.usage().opened == 1


async def test_being_told_again_ends_a_dial_that_hangs_in_the_old_network(
    there: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_link, "HANGS_S", 0.0)
    monkeypatch.setattr(session_link, "HOST_S_MAX", 1_000.0)
    shell = await there.open()
    there.network.black_hole()
    await shell.send(b"waits\n")
    await fact(lambda: there.network.connections_made == 2)  # it hangs, and would for long
    there.tell()
    await fact(lambda: there.network.connections_made == 3)
    there.network.mend()
    await said(shell, 6)
    assert there.session.usage().opened == 1


async def test_a_visitor_waits_for_a_device_that_is_away(there: Away) -> None:
    there.network.cut()
    await fact(lambda: there.session.link is None)
    opening = asyncio.create_task(there.open())
    assert (await refusal(there.session)).reason == "no_link"
    assert not opening.done()
    there.network.mend()
    visitor = await opening
    await visitor.send(b"here\n")
    await said(visitor, 5)


async def test_after_a_minute_the_channel_is_forgotten_and_new_streams_work(there: Away) -> None:
    shell = await there.open()
    await shell.send(b"before\n")
    await said(shell, 7)
    there.network.cut()
    await fact(lambda: there.session.link is None)
    rig = there.rig
    rig.clock.moved_s += DETACHED_S - 1
    rig.lease()
    rig.relay.sessions.sweep()
    ended = [shell.ended]
    rig.clock.moved_s += 2
    rig.lease()
    rig.relay.sessions.sweep()
    assert [*ended, shell.ended] == [None, "link_lost"]
    assert there.session.usage().streams == 0
    there.network.mend()
    await there.linked()
    again = await there.open()
    await again.send(b"after\n")
    await said(again, 6)
    assert len(there.sessions) == 1


async def test_a_session_that_ends_while_its_device_is_away_is_over_when_it_returns(
    there: Away,
) -> None:
    shell = await there.open()
    there.network.cut()
    await fact(lambda: there.session.link is None)
    there.session.end("closed")
    assert shell.ended == "closed"
    assert not len(there.rig.relay.sessions.detached)
    there.network.mend()
    await fact(lambda: not len(there.sessions))
    assert there.reports[-1].link is LinkState.OVER


async def test_where_memory_is_short_the_largest_goes_first(rig: Rig) -> None:
    sizes = {}
    for size in (1, 3, 2):
        claims = rig.mint.session()
        device = await rig.device(claims)
        session = session_of(rig, claims)
        visitor = await opened(session)
        session.budget.take(size * MIB)  # as windows that have grown
        device.transport.abort()
        await fact(partial(alone, session))
        sizes[size] = (session, visitor)
    sessions = rig.relay.sessions
    sessions.sweep()
    assert len(sessions.detached) == 3
    rest = sessions.budget.free() - sessions.budget.limit // 8
    sessions.budget.take(rest + MIB)
    sessions.sweep()
    ended = {size: visitor.ended.done() for size, (_, visitor) in sizes.items()}
    assert ended[3]
    assert not ended[1]
    sessions.budget.give(rest + MIB)
    for size, (session, _) in sizes.items():
        session.budget.give(size * MIB)


async def test_the_old_connections_late_words_change_nothing(rig: Rig) -> None:
    claims = rig.mint.session()
    old = await rig.device(claims)
    session = session_of(rig, claims)
    visitor = await opened(session)
    visitor.stream.write(b"one")
    assert await visitor.got(3) == b"one"
    assert old.link is not None
    link = session.channel
    taken = old.link.detach()
    new = await rig.dial()
    new.link_before = old.link
    answered = await new.resume(claims.session, 1, old.secret, taken)
    assert answered.word is Word.RESUMED
    assert answered.received > 0
    old.transport.write(reason_frame(Kind.BYE, 0, "agent_stopping"))
    visitor.stream.write(b"two")
    assert await visitor.got(6) == b"onetwo"
    assert session.channel is link
    new.transport.abort()


async def test_a_session_without_a_device_keeps_nothing(rig: Rig) -> None:
    claims = rig.mint.session()
    session = visit(rig, claims)
    assert session.channel is None
    assert (await refusal(session)).reason == "no_link"
    rig.relay.sessions.sweep()
    assert not len(rig.relay.sessions.detached)
