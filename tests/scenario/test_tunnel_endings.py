"""Whatever ends a session, its streams end within five seconds and visitors are told why."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.scenario.fleet import Fleet
from tests.scenario.http_api import Api
from tests.scenario.installation import DAY_S, ROOT, Installation, instant_s
from tests.scenario.tunnel import (
    CONNECT,
    ECHO,
    END_S_MAX,
    PIPE,
    PLC,
    Browser,
    Connected,
    Echo,
    connecting,
    demo,
    demo_company,
    router,
    socket_gone,
    until_shown,
    until_true,
    variables,
)
from wire.frames import FrameReader
from wire.hello import SECRET_BYTES, Hello, Word, answered_of, hello_bytes

# By rule: from the answer to whoever ended it until no stream is open.
ENDED_S_MAX = 5.0
# Below the five minutes without a lease after which a relay would end all for another reason.
STEP_S = 250.0
PERIOD_S = 30 * DAY_S
GRACE_S = 3 * DAY_S
PAGES = {
    "closed": "It was closed.",
    "expired": "Its time is up.",
    "unregistered": "The device was unregistered.",
    "service_unpaid": "The device's service is not paid for.",
    "company_suspended": "The company is suspended.",
    "right_lost": "The right to it was taken back.",
    "released": "The device was released.",
}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with demo(tmp_path_factory.mktemp("endings"), 3) as found:
        yield found
        assert not found.tracebacks()


@pytest.fixture
def api(installation: Installation) -> Api:
    return installation.api


@dataclass
class Visited:
    """A device with two sessions: streams by `fleetgate connect`, a WebSocket of a web page."""

    installation: Installation
    serial: str
    running: Connected
    echo: Echo
    browser: Browser
    page: Any  # the web session
    socket: aiohttp.ClientWebSocketResponse

    async def ends(self, reason: str, *, since_s: float | None = None) -> None:
        """All of it, by now or within the time of the rule, for this reason."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout_at((since_s or loop.time()) + ENDED_S_MAX):
            await self.echo.gone()
            await socket_gone(self.socket)
        await self.told(reason)

    async def told(self, reason: str) -> None:
        await self.running.says("the session is over: ")
        await self.running.says(f"({reason})")
        assert await self.running.ends() == 1
        status, text, _ = await self.browser.page(self.page["url"])
        assert status == 410 and PAGES[reason] in text, text
        for session in (self.running.session, self.page["id"]):
            shown = self.installation.api.get(f"/sessions/{session}")
            assert (shown["state"], shown["ended_because"]) == ("ended", reason)
            self.no_ticket(session)
            rows = self.installation.api.items(f"/audit?subject={session}&verb=session.ended")
            assert [row["detail"]["ended_because"] for row in rows] == [reason]

    def no_ticket(self, session: str) -> None:
        for asked in ({"way": "connect"}, {"way": "web", "state": "0" * 64}):
            if asked["way"] == "web" and session != self.page["id"]:
                continue
            answer = self.installation.api.ask("POST", f"/sessions/{session}/tickets", asked)
            assert (answer.status, answer.code) == (409, "session_over"), answer.body


@asynccontextmanager
async def visited(
    installation: Installation, folder: Path, serial: str, *, minutes: int = 60
) -> AsyncIterator[Visited]:
    words = ("--minutes", str(minutes), "--reason", "endings", f"{serial}:{ECHO}")
    asked = {"serial": serial, "target": PLC, "protocol": "http", "minutes": minutes}
    async with (
        Browser(installation) as browser,
        connecting(installation, folder, *words) as running,
    ):
        await browser.sign_in()
        page = installation.api.done("POST", "/sessions", asked)
        status, text, _ = await browser.page(page["url"])
        assert status == 200 and serial in text, text
        socket = await browser.socket(f"{page['url']}ws")
        stream = await running.echo()
        yield Visited(installation, serial, running, stream, browser, page, socket)


def now_s() -> float:
    return asyncio.get_running_loop().time()


# Each ends for one reason


async def test_closed_by_a_person(installation: Installation, api: Api, tmp_path: Path) -> None:
    async with visited(installation, tmp_path, router(1)) as there:
        tickets = [
            api.done("POST", f"/sessions/{session}/tickets", {"way": "connect"})
            for session in (there.running.session, there.page["id"])
        ]
        for session in (there.running.session, there.page["id"]):
            ended = api.done("DELETE", f"/sessions/{session}")
            assert ended["ended_because"] == "closed"
        await there.ends("closed")
        # Closing again changes nothing, and tickets of before are worth nothing.
        again = api.done("DELETE", f"/sessions/{there.running.session}")
        assert again == api.get(f"/sessions/{there.running.session}")
        for ticket in tickets:
            assert await shown_to_the_relay(there.browser, ticket) == (Word.OVER, "closed")
        row = api.items(f"/audit?subject={there.running.session}&verb=session.ended")[0]
        assert (row["owner"], row["detail"]["ended_because"]) == ("Operator", "closed")
        assert row["detail"]["reason"] == "endings"


async def test_standard_streams_are_told_too(
    installation: Installation, api: Api, tmp_path: Path
) -> None:
    words = (*CONNECT, "--stdio", f"{router(1)}:{ECHO}")
    with (tmp_path / "said").open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            *words, cwd=ROOT, env=variables(installation), stdin=PIPE, stdout=PIPE, stderr=said
        )
    try:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"hello")
        assert await asyncio.wait_for(process.stdout.readexactly(5), END_S_MAX) == b"hello"
        # The newest of all.
        session = api.items("/sessions")[0]
        assert session["ended_at"] is None
        api.done("DELETE", f"/sessions/{session['id']}")
        async with asyncio.timeout(ENDED_S_MAX):
            assert await process.stdout.read() == b""
        assert await asyncio.wait_for(process.wait(), END_S_MAX) == 1
        assert "the session is over: somebody closed it" in (tmp_path / "said").read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def shown_to_the_relay(browser: Browser, ticket: Any) -> tuple[Word, str]:
    """What it answers to a connect ticket."""
    relay = ticket["relay"]
    url = f"http://{relay['name']}:{relay['port']}/.fleetgate/link"
    async with browser.http.ws_connect(url) as opened:
        await opened.send_bytes(
            hello_bytes(Hello(ticket["ticket"], secrets.token_bytes(SECRET_BYTES)))
        )
        frame = FrameReader().first(await opened.receive_bytes(timeout=END_S_MAX))
        assert frame is not None
        answered = answered_of(frame)
        return answered.word, answered.reason


async def test_company_suspended(installation: Installation, api: Api, tmp_path: Path) -> None:
    company = demo_company(installation)
    async with visited(installation, tmp_path, router(1)) as there:
        api.done("POST", f"/companies/{company}/suspend", {"reason": "to see it end"})
        began_s = now_s()
        asked = {"serial": router(1), "protocol": "ssh"}
        assert api.ask("POST", "/sessions", asked).code == "company_suspended"
        await there.ends("company_suspended", since_s=began_s)
    api.done("POST", f"/companies/{company}/resume")
    async with visited(installation, tmp_path, router(1)):
        pass  # all works again


async def test_right_lost(installation: Installation, api: Api, tmp_path: Path) -> None:
    """An administrator of the company above, from which the company is moved away."""
    company, above = demo_company(installation), api.company("Above")
    member = {"email": "eva@example.com", "name": "Eva", "password": "correct horse 9"}
    api.done("POST", f"/companies/{above}/members", {**member, "role": "administrator"})
    api.done("POST", f"/companies/{company}/move", {"parent_id": above})
    asked = {"serial": router(1), "target": PLC, "protocol": "http"}
    async with (
        Browser(installation) as eva,
        connecting(installation, tmp_path, f"{router(1)}:{ECHO}") as ours,
    ):
        await eva.sign_in(member["email"], member["password"])
        hers = await eva.ask("POST", "/sessions", asked)
        assert (await eva.page(hers["url"]))[0] == 200
        socket = await eva.socket(f"{hers['url']}ws")
        stream = await ours.echo()
        api.done("POST", f"/companies/{company}/move", {"parent_id": None})
        async with asyncio.timeout(ENDED_S_MAX):
            await socket_gone(socket)
        status, text, _ = await eva.page(hers["url"])
        assert status == 410 and PAGES["right_lost"] in text
        shown = api.get(f"/sessions/{hers['id']}")
        assert (shown["ended_because"], shown["ended_by"]) == ("right_lost", "gateway")
        # Nobody else is disturbed.
        await stream.says(b"still here")
        await stream.close()


async def test_expired(installation: Installation, tmp_path: Path) -> None:
    async with visited(installation, tmp_path, router(1), minutes=1) as there:
        began_s = now_s()
        await asyncio.to_thread(installation.move_clock, 70)
        await there.ends("expired", since_s=began_s)


async def test_released(installation: Installation, api: Api, tmp_path: Path) -> None:
    """Another device with this serial waited, and was let in."""
    serial = router(2)
    join = api.join_code(demo_company(installation), 1, credits=0)
    other = Fleet(installation, join, 1, int(serial), 1, tmp_path / "other")
    try:
        async with visited(installation, tmp_path, serial) as there:
            other.start()

            async def waits() -> bool:
                shown = await asyncio.to_thread(api.device, serial)
                return "waits_for_release" in shown["alerts"]

            await until_true(waits, "the other device waits")
            await there.echo.says(b"not disturbed by that")
            api.done("POST", f"/devices/{serial}/release")
            await there.ends("released")
    finally:
        if other.process is not None:
            other.kill()


async def test_unregistered(installation: Installation, api: Api, tmp_path: Path) -> None:
    async with visited(installation, tmp_path, router(3)) as there:
        api.done("DELETE", f"/devices/{router(3)}")
        began_s = now_s()
        assert api.ask("POST", "/sessions", {"serial": router(3)}).status == 404
        await there.ends("unregistered", since_s=began_s)


# By a clock that is moved in steps


async def moved(installation: Installation, by_s: float) -> None:
    """All servers live that much later, and the relay has heard of its gateway since."""
    await asyncio.to_thread(installation.move_clock, by_s)
    then_s = installation.now_s()

    async def leased() -> bool:
        (relay,) = (await asyncio.to_thread(installation.api.status))["relays"]
        # It has said something after a lease of after the step.
        return then_s < instant_s(relay["lease_at"]) < instant_s(relay["seen_at"])

    await until_true(leased, "the relay has a lease of after the step")


async def live(installation: Installation, minutes: float) -> None:
    """Lets so much time pass, as it passes: the relay is never without a lease for long."""
    left_s = minutes * 60
    while left_s > 0:
        await moved(installation, min(STEP_S, left_s))
        left_s -= STEP_S


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_idle_without_streams_then_without_bytes(
    installation: Installation, tmp_path: Path
) -> None:
    """After 15 minutes without a stream, after 60 without a byte; a step may count for either."""
    target = f"{router(1)}:{ECHO}"
    async with connecting(installation, tmp_path, target) as running:
        stream = await running.echo()
        await live(installation, 20)
        await stream.says(b"a stream is enough")
        await stream.close()
        await live(installation, 10)
        await until_shown(installation, running.session, state="open")
        await live(installation, 10)
        await ended_itself(installation, running, "idle_streams")
    async with connecting(installation, tmp_path, "--minutes", "300", target) as running:
        stream = await running.echo()
        await live(installation, 40)
        await stream.says(b"bytes")
        await live(installation, 50)
        await until_shown(installation, running.session, state="open")
        await live(installation, 15)
        async with asyncio.timeout(ENDED_S_MAX):
            await stream.gone()
        await ended_itself(installation, running, "idle_bytes")


async def ended_itself(installation: Installation, running: Connected, reason: str) -> None:
    await running.says(f"({reason})", within_s=ENDED_S_MAX)
    assert await running.ends() == 1
    # The relay has told its visitor and the gateway at the same time.
    shown = await until_shown(installation, running.session, state="ended")
    assert (shown["ended_because"], shown["ended_by"]) == (reason, "relay:relay-1")


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_service_that_nobody_pays_for_any_more(
    installation: Installation, api: Api, tmp_path: Path
) -> None:
    """One credit: a period, three days of grace, and a session that lives to see the end."""
    serial = "1950000001"
    company = api.company("Unpaid")
    api.grant(company, 1)
    fleet = Fleet(installation, api.join_code(company, 1), 1, int(serial), 1, tmp_path / "fleet")
    try:
        fleet.start()
        await until_service(api, serial, "active", "paid")
        assert api.credits(company)["credits"] == 0
        await asyncio.to_thread(installation.move_clock, PERIOD_S + 60)
        await until_service(api, serial, "active", "grace")
        await moved(installation, GRACE_S - 660)
        await until_service(api, serial, "active", "grace")
        async with visited(installation, tmp_path, serial) as there:
            await live(installation, 9)
            await there.echo.says(b"still served")
            began_s = now_s()
            await asyncio.to_thread(installation.move_clock, 120)
            await there.ends("service_unpaid", since_s=began_s)
            asked = {"serial": serial, "protocol": "ssh"}
            assert api.ask("POST", "/sessions", asked).code == "service_unpaid"
    finally:
        fleet.kill()


async def until_service(api: Api, serial: str, state: str, reason: str) -> None:
    async def reached() -> bool:
        answer = await asyncio.to_thread(api.ask, "GET", f"/devices/{serial}")
        found = answer.json.get("service", {}) if answer.status == 200 else {}
        return (found.get("state"), found.get("reason")) == (state, reason)

    await until_true(reached, f"{serial} is {state}, {reason}")
