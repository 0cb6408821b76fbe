"""Pages behind routers in a real browser, through a whole installation, as they are served."""

import json
import re
from collections import Counter
from urllib.parse import urlsplit

import aiohttp
from playwright.async_api import BrowserContext, Page, Response

from firmware_sim.lan.facts import PASSWORD, USER
from firmware_sim.lan.pieces import OBJECTS, VALUES, pieces
from tests.browser import browsing
from tests.scenario import tunnel_pages
from tests.scenario.tunnel_pages import (
    GATEWAY_COOKIE,
    PLC_SERIAL,
    RELAY_COOKIE,
    ROUTER_SERIAL,
    SPARE_SERIAL,
    WHOLE_PLC,
    WHOLE_ROUTER,
    Opened,
    Pair,
    be_signed_in,
    cookie,
    cookies,
    open_session,
    sign_in,
    sign_in_at_router,
)

PIECES = [f"/piece/{name}" for name in pieces()]
VALUE_PATHS = [f"/api/value/{number}" for number in range(1, VALUES + 1)]
OWN = ["/status", "/status.js", "/router.css"]
OTHER_EMAIL, OTHER_PASSWORD = "other@example.com", "correct horse 47 staple"


class Watch:
    """Every answer that a tab gets from one host."""

    def __init__(self, page: Page, host: str) -> None:
        self.answers: list[Response] = []
        self.sockets: list[str] = []
        page.on("response", lambda answer: self._add(answer, host))
        page.on("websocket", lambda socket: self.sockets.append(socket.url))

    def _add(self, answer: Response, host: str) -> None:
        if urlsplit(answer.url).hostname == host:
            self.answers.append(answer)

    def asked(self) -> Counter[str]:
        return Counter(urlsplit(answer.url).path for answer in self.answers)

    async def bodies(self) -> dict[str, bytes]:
        """The last of each path, redirects left out."""
        last = {urlsplit(one.url).path: one for one in self.answers if one.status == 200}
        return {path: await answer.body() for path, answer in last.items()}


async def direct(port: int, paths: list[str]) -> dict[str, bytes]:
    """What the router's own server says without any tunnel."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", cookie_jar=jar) as client:
        form = {"username": USER, "password": PASSWORD}
        async with client.post("/login", data=form) as answer:
            assert answer.url.path == "/status"
        found = {}
        for path in paths:
            async with client.get(path) as answer:
                assert answer.status == 200, path
                found[path] = await answer.read()
        return found


def insist_same_value(seen: bytes, served: bytes) -> None:
    """The same reading, although it may have moved between the two questions."""
    ours, theirs = json.loads(seen), json.loads(served)
    assert ours.keys() == theirs.keys()
    assert (ours["number"], ours["name"]) == (theirs["number"], theirs["name"])
    assert type(ours["value"]) is type(theirs["value"])
    if isinstance(ours["value"], str):
        assert ours["value"] == theirs["value"]


async def test_a_routers_page_is_shown_exactly_as_the_router_serves_it(pair: Pair) -> None:
    session = pair.router
    async with browsing() as context:
        page = await context.new_page()
        watch = Watch(page, session.host)
        # Without any cookie: the gateway asks who it is, and leads back to the same host.
        await page.goto(session.url)
        assert page.url.startswith(pair.gateway + "/login?")
        await sign_in(page, pair.installation)
        await page.wait_for_url(session.url + "login")
        watch.answers.clear()  # a browser forgets bodies of pages that were left
        await sign_in_at_router(page)
        assert page.url == session.url + "status"
        assert await page.inner_text("#ready") == WHOLE_ROUTER
        assert await page.inner_text("#serial") == ROUTER_SERIAL

        asked = watch.asked()
        objects = {path: asked[path] for path in PIECES + VALUE_PATHS}
        assert objects == dict.fromkeys(PIECES + VALUE_PATHS, 1) and len(objects) == OBJECTS == 60
        assert watch.sockets == [session.origin.replace("http:", "ws:") + "/ws"]
        (found,) = [one for one in watch.answers if one.request.method == "POST"]
        assert found.status == 302
        assert (await found.all_headers())["location"] == session.url + "status"

        seen = await watch.bodies()
        port = tunnel_pages.router_port(pair.installation)
        served = await direct(port, OWN + PIECES + VALUE_PATHS)
        for path in OWN + PIECES:
            assert seen[path] == served[path], path
        for path in PIECES:
            assert seen[path] == pieces()[path.removeprefix("/piece/")]
        for path in VALUE_PATHS:
            insist_same_value(seen[path], served[path])
        await insist_cookies_stay_at_home(context, pair)
        await insist_nothing_of_ours_reaches_the_router(page, session)


async def insist_cookies_stay_at_home(context: BrowserContext, pair: Pair) -> None:
    """Each host has its own; a leading dot would send them to other sessions as well."""
    domains: dict[str, set[str]] = {}
    for one in await context.cookies():
        domains.setdefault(one["domain"], set()).add(one["name"])
        assert one["httpOnly"] is (one["name"] != "theme")
    assert domains == {
        "127.0.0.1": {GATEWAY_COOKIE},
        pair.router.host: {RELAY_COOKIE, "sysauth", "theme"},
    }
    assert await cookies(context, pair.plc.url) == set()


async def insist_nothing_of_ours_reaches_the_router(page: Page, session: Opened) -> None:
    """The request as the router got it."""
    seen = await page.evaluate("fetch('/headers').then((answer) => answer.json())")
    headers = [(name.lower(), value) for name, value in seen["headers"]]
    assert dict(headers)["host"] == "127.0.0.1"
    sent = dict(headers)["cookie"]
    assert set(re.findall(r"([^=; ]+)=", sent)) == {"sysauth", "theme"}
    text = json.dumps(headers)
    assert session.host not in text and "fleetgate" not in text
    assert not [name for name, _ in headers if name.startswith(("x-forwarded", "forwarded"))]


async def test_two_tabs_live_at_once_and_cookies_of_one_name_do_not_clash(pair: Pair) -> None:
    async with browsing() as context:
        await be_signed_in(context, pair)
        router, plc = await context.new_page(), await context.new_page()
        # A link to a page inside leads there, past the hand-over.
        await router.goto(pair.router.url + "form?a=b%20c")
        assert router.url == pair.router.url + "form?a=b%20c"
        await router.fill("[name=note]", "ž € <b>")
        await router.click("button")
        assert "note = ž € <b>" in await router.inner_text("#sent")
        await router.goto(pair.router.url)
        await sign_in_at_router(router)
        await plc.goto(pair.plc.url)
        await plc.wait_for_function(f"document.title === '{WHOLE_PLC}'")
        assert await plc.inner_text("#serial") == PLC_SERIAL

        ours = await cookie(context, pair.router.url, "sysauth")
        theirs = await cookie(context, pair.plc.url, "sysauth")
        assert theirs.startswith("plc-") and not ours.startswith("plc-")
        await plc.reload()
        assert await plc.inner_text("#visits") == "2"
        await plc.fill("[name=speed]", "77")
        await plc.press("[name=speed]", "Enter")
        await plc.wait_for_function("document.querySelector('#speed')?.defaultValue === '77'")
        assert plc.url == pair.plc.url
        await plc.wait_for_function(f"document.title === '{WHOLE_PLC}'")

        # Both WebSockets tick on, each in its tab.
        for page, place in ((router, "#uptime"), (plc, "#bottles")):
            before = await page.inner_text(place)
            await page.wait_for_function(
                "([place, before]) => document.querySelector(place).textContent !== before",
                arg=[place, before],
            )
        assert await router.inner_text("#ready") == WHOLE_ROUTER
        await router.reload()
        await router.wait_for_function(f"document.title === '{WHOLE_ROUTER}'")
        assert await cookie(context, pair.router.url, "sysauth") == ours


async def test_another_person_signs_in_at_the_right_address_and_is_not_let_in(pair: Pair) -> None:
    api, port = pair.installation.api, urlsplit(pair.gateway).port
    (demo,) = [company for company in api.items("/companies") if company["name"] == "Demo"]
    member = {"email": OTHER_EMAIL, "password": OTHER_PASSWORD, "role": "administrator"}
    api.done("POST", f"/companies/{demo['id']}/members", member)
    async with browsing() as context:
        page = await context.new_page()
        # Under names like those of sessions the gateway takes no sign-in.
        for name in ("localhost", "gateway.localhost"):
            await page.goto(f"http://{name}:{port}/login?next=%2Fapi%2Fdocs")
            assert page.url == f"{pair.gateway}/login?next=%2Fapi%2Fdocs"
        await sign_in(page, pair.installation, email=OTHER_EMAIL, password=OTHER_PASSWORD)
        await page.wait_for_url(pair.gateway + "/api/docs")
        assert {one["domain"] for one in await context.cookies()} == {"127.0.0.1"}
        # Administrator of the device's company, yet the session is another person's.
        answer = await page.goto(pair.router.url)
        assert answer is not None and answer.status == 404
        assert page.url.startswith(pair.gateway + "/enter?")
        assert await page.inner_text("h1") == "No session of yours has this address"
        assert not await cookie(context, pair.router.url, RELAY_COOKIE)


async def test_a_closed_session_says_so_with_its_reason(pair: Pair) -> None:
    api = pair.installation.api
    session = open_session(api, SPARE_SERIAL)
    async with browsing() as context:
        await be_signed_in(context, pair)
        gateway, page = await context.new_page(), await context.new_page()
        await page.goto(session.url)
        await sign_in_at_router(page)
        api.done("DELETE", f"/sessions/{session.id}")
        assert tunnel_pages.until_ended(api, session) == "closed"
        # The page's own WebSocket notices first.
        await page.wait_for_function(
            "document.querySelector('#ready').textContent.includes('websocket closed')",
            timeout=5_000,
        )
        answer = await page.reload()
        assert answer is not None and answer.status == 410
        assert await page.inner_text("h1") == "This session is over."
        assert "It was closed." in await page.inner_text("body")
        # The link back to the gateway works, and the gateway itself says the same.
        await page.click("a")
        await page.wait_for_url(pair.gateway + "/devices")
        label = session.host.partition(".")[0]
        answer = await gateway.goto(f"{pair.gateway}/enter?host={label}&state={'s' * 43}")
        assert answer is not None and answer.status == 409
        assert await gateway.inner_text("h1") == "This session is over"
