"""Sessions of an agent: told, told again, lost, dialled again, over."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.commands import CommandRefused
from agent.links import relay_connection, session_link
from agent.links.sessions import SESSIONS_MAX
from tests.linked_device import Device, ShiftedClock, closed_port, echo, linked_device, serving
from tests.model_relay import ModelRelay, relay_keys, server_context, until
from wire.hello import Answered, Hello, Resume, Word
from wire.session_commands import LinkState, Report, open_args


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    async with linked_device(tmp_path) as made:
        yield made


async def test_eight_sessions_at_once_and_no_ninth(device: Device) -> None:
    async with serving(echo) as target, device.running():
        for session in range(SESSIONS_MAX):
            device.open(target, session=session)
        with pytest.raises(CommandRefused, match="busy"):
            device.open(target, session=99)
        await until(lambda: len(device.relay.links) == SESSIONS_MAX)
        for number, link in enumerate(device.relay.links):
            visitor = device.relay.open(link)
            await visitor.send(bytes([number]) * 1000)
            await until(lambda: len(visitor.got) == 1000)  # noqa: B023  waited for in this turn
        assert len(device.sessions.lines()) == SESSIONS_MAX
        assert f"{target} up, 1 streams" in device.sessions.lines()[0]
        assert device.sessions.close({"session": f"{3:032x}"}) == {"closed": True}
        await until(lambda: len(device.sessions) == SESSIONS_MAX - 1)
        assert device.sessions.close({"session": f"{3:032x}"}) == {"closed": False}
        assert device.open(target, session=99) == {"dialling": True}
        await until(lambda: len(device.relay.links) == SESSIONS_MAX + 1)
    assert [side.ended for side in device.relay.sides].count("agent_stopping") == SESSIONS_MAX


async def test_told_again_it_says_up_and_another_epoch_is_dialled_anew(device: Device) -> None:
    async with serving(echo) as target, device.running():
        device.open(target)
        await until(device.said(LinkState.UP))
        assert device.open(target) == {"link": "up"}
        with pytest.raises(CommandRefused, match="other_target"):
            device.open("127.0.0.1:1")
        assert device.open(target, epoch="epoch-2") == {"dialling": True}
        await until(device.said(LinkState.UP, LinkState.LOST, LinkState.UP))
        first, second = device.relay.greetings
        assert isinstance(first, Hello) and isinstance(second, Hello)
        assert first.secret != second.secret
        await until(lambda: device.relay.sides[0].ended == "other_relay")
        assert device.open(target, epoch="epoch-2") == {"link": "up"}
        assert len(device.sessions) == 1


MALFORMED: list[dict[str, object]] = [
    {},
    {"session": "x"},
    {"hosts": []},
    {"port": 0},
    {"left_s": 0},
    {"ticket": ""},
]


async def test_malformed_orders_are_refused(device: Device) -> None:
    async with device.running():
        for change in MALFORMED:
            args = open_args(device.order("127.0.0.1:80")) | change if change else {}
            with pytest.raises(CommandRefused, match="malformed"):
                device.sessions.open(args)
        with pytest.raises(CommandRefused, match="malformed"):
            device.sessions.close({"session": 7})


async def test_a_session_ends_by_the_boot_clock(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_link, "_LOOK_AT_CLOCK_S", 0.05)
    async with serving(echo) as target, device.running():
        device.open(target, left_s=600)
        visitor = device.relay.open(await device.relay.link())
        device.clock.shift_ms = 590_000
        device.open(target, left_s=600)  # told again: as long again from now
        device.clock.shift_ms = 1_180_000
        await asyncio.sleep(0.1)
        assert len(device.sessions) == 1
        device.clock.shift_ms = 1_200_000
        await until(lambda: not len(device.sessions))
        assert visitor.ended == "expired"
        assert device.reports[-1] == Report(f"{1:032x}", LinkState.OVER, "expired")


class SetClock(ShiftedClock):
    """Both clocks go only when they are set."""

    def boot_ms(self) -> int:
        return self.shift_ms

    def wall_ms(self) -> int:
        return 1_800_000_001_000 + self.shift_ms  # 08:00:01 UTC


async def test_what_people_are_shown_is_the_same_a_second_later(device: Device) -> None:
    """Each other line makes the agent write its status file."""
    device.clock = clock = SetClock()
    async with serving(echo) as target, device.running():
        device.open(target, left_s=600)
        await until(device.said(LinkState.UP))
        shown = device.sessions.lines()
        assert shown == (f"00000000 {target} up, 0 streams, until 08:11 UTC",)
        for clock.shift_ms in (999, 1_000, 59_000, 599_000):
            assert device.sessions.lines() == shown


async def test_a_lost_link_is_dialled_again_with_the_secret(device: Device) -> None:
    async with serving(echo) as target, device.running():
        device.open(target)
        visitor = device.relay.open(await device.relay.link())
        await visitor.send(b"before")
        await until(lambda: visitor.got == b"before")
        for generation in (1, 2):
            await until(lambda: device.sessions.lines()[0].count(" up,"))
            device.relay.sides[-1].transport.abort()
            link = await device.relay.link(generation)
            greeting = device.relay.greetings[-1]
            assert isinstance(greeting, Resume)
            # This relay remembers the secret and not the channel, so the second begins anew.
            assert (greeting.generation, greeting.received > 0) == (generation, generation == 1)
        assert visitor.ended == "link_lost"
        after = device.relay.open(link)
        await after.send(b"works again")
        await until(lambda: after.got == b"works again")
        up, lost = LinkState.UP, LinkState.LOST
        await until(device.said(up, lost, up, lost, up))


async def test_a_lost_answer_is_resumed_with_the_same_secret(device: Device) -> None:
    def admit_and_vanish(greeting: Hello | Resume) -> Answered | None:
        original(greeting)
        device.relay.admit = original  # type: ignore[method-assign]  # only the first time
        return None

    original = device.relay.admit
    device.relay.admit = admit_and_vanish  # type: ignore[method-assign]  # only the first time
    async with serving(echo) as target, device.running():
        device.open(target)
        await device.relay.link()
        hello, resume = device.relay.greetings
        assert isinstance(hello, Hello) and isinstance(resume, Resume)
        await until(device.said(LinkState.FAILED, LinkState.UP))


async def test_unknown_is_reported_and_waits_for_a_ticket(device: Device) -> None:
    async with serving(echo) as target, device.running():
        device.open(target)
        await until(device.said(LinkState.UP))
        device.relay.secrets.clear()
        device.relay.sides[-1].transport.abort()
        await until(device.said(LinkState.UP, LinkState.LOST, LinkState.UNKNOWN))
        await asyncio.sleep(0.3)
        assert len(device.relay.greetings) == 2  # nothing is dialled without a ticket
        assert device.open(target) == {"dialling": True}
        await device.relay.link(1)
        assert isinstance(device.relay.greetings[-1], Hello)
        await until(lambda: device.reports[-1].link is LinkState.UP)


OVERS = [
    Answered(Word.OVER, reason="closed"),
    Answered(Word.REFUSED, reason="session_over"),
]


async def test_over_ends_the_session(device: Device) -> None:
    async with device.running():
        for answered in OVERS:
            device.relay.scripted = [answered]
            device.open("127.0.0.1:80")
            await until(lambda: not len(device.sessions))
            assert device.reports[-1] == Report(f"{1:032x}", LinkState.OVER, answered.reason)
        device.open("127.0.0.1:80")
        (await device.relay.link()).bye("right_lost")
        await until(lambda: not len(device.sessions))
        assert device.reports[-1] == Report(f"{1:032x}", LinkState.OVER, "right_lost")
        assert len(device.relay.greetings) == 3


async def test_a_refused_ticket_is_reported_and_a_new_one_asked_for(device: Device) -> None:
    async with device.running():
        device.relay.scripted = [Answered(Word.REFUSED, reason="ticket_expired")]
        device.open("127.0.0.1:80")
        await until(device.said(LinkState.FAILED, LinkState.UNKNOWN))
        assert {report.error for report in device.reports} == {"ticket_expired"}
        device.open("127.0.0.1:80")
        await device.relay.link()
        # Of one that is wrong another is not asked for: it would be as wrong.
        device.relay.scripted = [Answered(Word.REFUSED, reason="ticket_wrong")]
        device.open("127.0.0.1:80", session=2)
        await until(lambda: device.reports[-1].error == "ticket_wrong")
        await asyncio.sleep(0.4)
        assert device.reports[-1].link is LinkState.FAILED
        assert len(device.relay.greetings) == 3


async def test_hosts_are_tried_in_turn_until_the_relay_is_there(device: Device) -> None:
    away = ModelRelay()
    away.port = closed_port()
    async with serving(echo) as target, device.running():
        device.open(target, session=2, hosts=("127.0.0.2", "127.0.0.1"))
        await device.relay.link()  # the server listens at 127.0.0.1 alone
        device.relay = away
        device.open(target)
        await until(lambda: [r.link for r in device.reports if r.session[-1] == "1"])
        assert device.reports[-1].link is LinkState.FAILED and device.reports[-1].error
        before = len(device.reports)
        async with away.listening(server_context(device.keys), away.port):
            await away.link()
            await until(lambda: device.reports[-1].link is LinkState.UP)
            assert len(device.reports) == before + 1  # the same failure is said once
            assert isinstance(away.greetings[0], Hello)  # the ticket was not shown in vain


async def test_a_relay_without_our_certificate_is_not_spoken_to(
    device: Device, tmp_path: Path
) -> None:
    foreign = ModelRelay()
    async with foreign.listening(server_context(relay_keys(tmp_path / "other"))), device.running():
        device.relay = foreign
        device.open("127.0.0.1:80")
        await until(lambda: device.reports)
        assert device.reports[0].link is LinkState.FAILED
        assert "certificate" in device.reports[0].error
        assert not foreign.greetings


async def test_a_certificate_for_another_name_is_not_accepted(device: Device) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(device.keys.server_certificate, device.keys.server_key)
    other = ModelRelay()
    async with other.listening(context), device.running():
        device.relay = other
        device.open("127.0.0.1:80")
        await until(lambda: device.reports)
        assert "certificate" in device.reports[0].error
        assert not other.greetings


async def test_a_silent_relay_does_not_hold_the_next_host(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_link, "HOST_S_MAX", 0.5)
    monkeypatch.setattr(relay_connection, "HOST_S_MAX", 0.5)
    with socket.create_server(("127.0.0.2", 0)) as silent:
        port = silent.getsockname()[1]
        device.relay.port = port
        async with device.running():
            device.open("127.0.0.1:80", hosts=("127.0.0.2",))
            await until(device.said(LinkState.FAILED))
            # Another relay is named: what is under way is dropped, not waited for.
            monkeypatch.setattr(session_link, "HOST_S_MAX", 60.0)
            monkeypatch.setattr(relay_connection, "HOST_S_MAX", 60.0)
            await asyncio.sleep(0.5)
            device.relay = relay = ModelRelay()
            async with relay.listening(server_context(device.keys)):
                device.open("127.0.0.1:80", epoch="epoch-2")
                await relay.link()
