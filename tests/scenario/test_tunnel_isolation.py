"""What a hostile page behind a router can do to us and to others: nothing, in a real browser."""

import secrets
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import BrowserContext, Page, Response, expect

from broker.relay.web_cookies import OURS
from firmware_sim.lan.http_samples import WORKER_WORDS
from tests.browser import browsing
from tests.scenario import tunnel_pages
from tests.scenario.http_api import Api
from tests.scenario.tunnel import until_true
from tests.scenario.tunnel_pages import (
    GATEWAY_COOKIE,
    RELAY_COOKIE,
    SPARE_SERIAL,
    STATE_COOKIE,
    WHOLE_PLC,
    Pair,
    be_signed_in,
    both_shown,
    cookie,
    cookies,
    sign_in_at_router,
)

EVIL_SPEED = "599"
RELAYS = sorted(one.decode() for one in OURS)
NAMES = [GATEWAY_COOKIE, "__Host-fleetgate", *RELAYS]
# What a page might set to be taken for somebody, here or at other hosts.
TOSSED = [
    f"{name}=evil{attributes}"
    for name in NAMES
    for attributes in (
        "",
        "; path=/",
        "; domain=localhost",
        "; domain=.localhost; path=/",
        "; domain=127.0.0.1; path=/",
        "; path=/; secure",
        "; path=/headers",
        "; path=/.fleetgate",
    )
] + [f"={name}=evil; path=/" for name in NAMES]
FETCHED = """async ([url, options]) => {
  try {
    const answer = await fetch(url, options);
    return [answer.type, answer.status, await answer.text()];
  } catch (error) {
    return ["failed", 0, String(error)];
  }
}"""
SENT_FORM = """([url, fields]) => {
  const form = document.createElement("form");
  form.method = "post";
  form.action = url;
  form.target = "_blank";
  form.rel = "opener";
  for (const [name, value] of Object.entries(fields)) {
    const input = document.createElement("input");
    input.name = name;
    input.value = value;
    form.append(input);
  }
  document.body.append(form);
  form.submit();
}"""
FRAMED = """(url) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.onload = () => {
    let seen = "nothing";
    try { seen = frame.contentDocument.documentElement.outerHTML; } catch { /* not ours */ }
    done(seen);
  };
  frame.src = url;
  document.body.append(frame);
})"""
SOCKET = """(url) => new Promise((done) => {
  const socket = new WebSocket(url);
  socket.onmessage = () => done("message");
  socket.onopen = () => done("open");
  socket.onclose = () => done("closed");
})"""
READ_OF_WINDOW = """() => {
  const found = {closed: window.other.closed};
  for (const what of ["document", "localStorage", "origin"]) {
    try { found[what] = String(window.other[what]); } catch (error) { found[what] = error.name; }
  }
  try { found.url = window.other.location.href; } catch (error) { found.url = error.name; }
  return found;
}"""


class Answers:
    """What the network said to a page, which its scripts are not shown."""

    def __init__(self, page: Page) -> None:
        self._all: list[Response] = []
        page.on("response", lambda one: self._all.append(one))

    def statuses(self, url: str, method: str) -> list[int]:
        return [one.status for one in self._all if (one.url, one.request.method) == (url, method)]


async def speed_of(plc: Page) -> str:
    return str(await plc.evaluate("fetch('/value').then((a) => a.json()).then((v) => v.speed)"))


async def insist_all_is_well(context: BrowserContext, pair: Pair, router: Page, plc: Page) -> None:
    """The person is still signed in everywhere, and each page is still the right one."""
    await router.goto(pair.router.url + "form")
    assert await router.title() == "Form"
    await plc.goto(pair.plc.url)
    await plc.wait_for_function(f"document.title === '{WHOLE_PLC}'")
    status = await context.new_page()
    answer = await status.goto(pair.gateway + "/api/v1/me")
    assert answer is not None and answer.status == 200
    await status.close()


async def test_a_page_reads_and_sets_no_cookie_of_ours(pair: Pair) -> None:
    async with browsing() as context:
        router, plc = await both_shown(context, pair)
        await router.goto(pair.router.url + "login")
        await sign_in_at_router(router)
        hosts = [pair.gateway, pair.plc.url]
        before = [await cookies(context, url) for url in hosts]
        ours = await cookie(context, pair.router.url, RELAY_COOKIE)
        assert await router.evaluate("document.cookie") == "theme=harbour"
        for text in TOSSED:
            await router.evaluate("(text) => { document.cookie = text; }", text)
        assert [await cookies(context, url) for url in hosts] == before
        # A browser lets a page have cookies of these names for some path of its own, and sends
        # them first. They are neither taken for ours nor shown to the device.
        names = (RELAY_COOKIE, STATE_COOKIE)
        sent = await cookies(context, pair.router.url + "headers")
        assert {*((name, "evil") for name in names), (RELAY_COOKIE, ours)} <= sent
        answer = await router.goto(pair.router.url + "headers")
        assert answer is not None and answer.status == 200
        seen = [value for name, value in (await answer.json())["headers"] if name == "Cookie"]
        assert len(seen) == 1 and "sysauth=" in seen[0]
        assert not [name for name in RELAYS if name in seen[0]]
        await insist_all_is_well(context, pair, router, plc)


async def test_a_page_reaches_nothing_at_the_gateway(pair: Pair) -> None:
    api = pair.installation.api
    async with browsing() as context:
        router, plc = await both_shown(context, pair)
        facts, signed = pair.installation.facts(), await cookies(context, pair.gateway)
        me = pair.gateway + "/api/v1/me"
        for mode in ("cors", "no-cors"):
            options: Any = {"credentials": "include", "mode": mode}
            kind, status, text = await router.evaluate(FETCHED, [me, options])
            assert (kind, status) in (("failed", 0), ("opaque", 0)), (mode, kind, status)
            assert "email" not in text
        before = state_of(api)
        for path, body in (
            ("/api/v1/sessions", f'{{"serial": "{SPARE_SERIAL}", "protocol": "http"}}'),
            ("/api/v1/companies", '{"name": "Evil", "parent_id": null}'),
            ("/logout", "csrf="),
            ("/login", "email=a%40example.com&password=b"),
        ):
            for kind in ("text/plain", "application/x-www-form-urlencoded"):
                options = {
                    "credentials": "include",
                    "mode": "no-cors",
                    "method": "POST",
                    "body": body,
                    "headers": {"Content-Type": kind},
                }
                await router.evaluate(FETCHED, [pair.gateway + path, options])
        for path, fields, said in (
            ("/logout", {"csrf": ""}, "403"),
            ("/login", {"email": facts["admin_email"], "password": facts["admin_password"]}, "403"),
            ("/api/v1/logout", {}, "403"),
            ("/api/v1/companies", {"name": "Evil"}, "signed_out"),
        ):
            tab = await sent_form(router, pair.gateway + path, fields)
            assert said in await tab.inner_text("body"), path
            await tab.close()
            assert await cookies(context, pair.gateway) == signed, path
        assert "fleetgate" not in (await router.evaluate(FRAMED, pair.gateway + "/status")).lower()
        await insist_frame_is_refused(router)
        assert state_of(api) == before
        assert await cookies(context, pair.gateway) == signed
        await insist_no_window_is_ours(router, pair.gateway + "/status", "**/status")
        await insist_all_is_well(context, pair, router, plc)


async def insist_frame_is_refused(page: Page) -> None:
    """The page may hear of the event `load` before we are told where the frame arrived."""

    async def address() -> str:
        return page.frames[-1].url

    arrived = await until_true(address, "the frame has arrived somewhere")
    assert arrived.startswith("chrome-error:")


def state_of(api: Api) -> list[object]:
    return [api.items("/companies"), [one["id"] for one in api.items("/sessions")]]


async def sent_form(page: Page, url: str, fields: dict[str, str]) -> Page:
    """A form that a script sends into a tab of its own; the tab once it shows the answer."""
    async with page.context.expect_page() as opened:
        await page.evaluate(SENT_FORM, [url, fields])
    tab = await opened.value
    await tab.wait_for_load_state()
    return tab


async def insist_no_window_is_ours(page: Page, url: str, settled: str) -> None:
    """A page may open an address, as a link may, and sees nothing of what comes."""
    async with page.context.expect_page() as opened:
        await page.evaluate("(url) => { window.other = window.open(url); }", url)
    tab = await opened.value
    await tab.wait_for_url(settled)
    seen = await page.evaluate(READ_OF_WINDOW)
    if not seen.pop("closed"):
        assert set(seen.values()) == {"SecurityError"}, seen
    await tab.close()


async def test_a_page_reaches_nothing_of_another_session(pair: Pair) -> None:
    async with browsing() as context:
        router, plc = await both_shown(context, pair)
        answers = Answers(router)
        speed = await speed_of(plc)
        assert speed != EVIL_SPEED
        target = pair.plc.url + "set"
        for mode in ("cors", "no-cors"):
            for method, url in (("GET", pair.plc.url + "value"), ("POST", target)):
                options: Any = {"mode": mode, "method": method, "credentials": "include"}
                if method == "POST":
                    options["body"] = f"speed={EVIL_SPEED}"
                    options["headers"] = {"Content-Type": "application/x-www-form-urlencoded"}
                kind, status, text = await router.evaluate(FETCHED, [url, options])
                assert (kind, status) in (("failed", 0), ("opaque", 0)), (mode, url, kind, status)
                assert "bottles" not in text
                # Where the browser itself keeps an answer back, nothing is told about it.
                assert set(answers.statuses(url, method)) <= {403}
        tab = await sent_form(router, target, {"speed": EVIL_SPEED})
        assert await tab.inner_text("h1") == (
            "Another page asked for this; the relay does not allow that."
        )
        await tab.close()
        assert await router.evaluate(FRAMED, pair.plc.url) == "nothing"
        assert answers.statuses(pair.plc.url, "GET") == [403]
        address = pair.plc.origin.replace("http:", "ws:") + "/ws"
        assert await router.evaluate(SOCKET, address) == "closed"
        assert await plc.evaluate(SOCKET, address) == "open"
        for place in ("/.fleetgate/leave", "/.fleetgate/enter"):
            options = {"mode": "no-cors", "method": "POST", "credentials": "include"}
            await router.evaluate(FETCHED, [pair.plc.origin + place, options])
            assert answers.statuses(pair.plc.origin + place, "POST") == [403]
        await insist_no_window_is_ours(router, pair.plc.url, pair.plc.url)
        assert await speed_of(plc) == speed
        await insist_all_is_well(context, pair, router, plc)


async def test_no_worker_of_a_page_answers_for_us(pair: Pair) -> None:
    """One would see tickets on their way, and hide that a session is over."""
    register = """(options) => navigator.serviceWorker.register("/worker.js", options)
      .then(() => navigator.serviceWorker.ready).then(() => "registered", (error) => error.name)"""
    async with browsing() as context:
        await be_signed_in(context, pair)
        router = await context.new_page()
        await router.goto(pair.router.url + "form")
        for options in ({}, {"scope": "/"}, {"scope": "/.fleetgate/"}, {"type": "module"}):
            assert await router.evaluate(register, options) != "registered", options
        assert await router.evaluate("navigator.serviceWorker.getRegistrations()") == []
        answer = await router.goto(pair.router.url + ".fleetgate/anything")
        assert answer is not None and answer.status == 404 and not answer.from_service_worker
        assert await router.inner_text("h1") == "There is no such page."
        await router.goto(pair.router.url + "form")
        assert await router.title() == "Form"
        # The same script without the tunnel: it would have done what it says.
        port = tunnel_pages.router_port(pair.installation)
        alone = await context.new_page()
        await alone.goto(f"http://127.0.0.1:{port}/form")
        assert await alone.evaluate(register, {}) == "registered"
        await alone.goto(f"http://127.0.0.1:{port}/.fleetgate/enter")
        await expect(alone.locator("body")).to_have_text(WORKER_WORDS)


async def test_a_page_gets_no_ticket_even_to_its_own_session(pair: Pair) -> None:
    """It leaves, and lets the person's browser fetch a ticket for a state of its choice."""
    leave = """fetch("/.fleetgate/leave", {method: "POST"}).then((answer) => answer.status)"""
    label, state = pair.router.host.partition(".")[0], secrets.token_urlsafe(32)
    async with browsing() as context:
        router, plc = await both_shown(context, pair)
        assert await router.evaluate(leave) == 200
        assert not await cookie(context, pair.router.url, RELAY_COOKIE)
        entrance = f"{pair.gateway}/enter?host={label}&state={state}"
        assert (await router.evaluate(FETCHED, [entrance, {"credentials": "include"}]))[1] == 0
        await router.evaluate(FRAMED, entrance)
        await insist_frame_is_refused(router)
        await insist_no_window_is_ours(router, entrance, "**/.fleetgate/enter?ticket=*")
        # In its own tab the address with the ticket is behind a page of the relay's.
        await router.goto(entrance)
        assert "/.fleetgate/enter?ticket=" in router.url
        await router.click("a:last-of-type")
        await router.wait_for_url(pair.router.url + "login")
        entries = await router.evaluate("navigation.entries().map((one) => one.url)")
        assert router.url in entries and "ticket" not in str(entries)
        await insist_all_is_well(context, pair, router, plc)


async def test_a_foreign_ticket_opens_nothing(pair: Pair) -> None:
    """Neither another session's, nor one's own that was made for another browser or used."""
    api = pair.installation.api
    async with browsing() as context:
        await be_signed_in(context, pair)
        page = await context.new_page()
        page.on("response", lambda one: seen.append(one.headers.get("location", "")))
        seen: list[str] = []
        await page.goto(pair.router.url + "form")
        (used,) = [one for one in seen if "/.fleetgate/enter?" in one]
        query = parse_qs(urlsplit(used).query)
        ticket, state = query["ticket"][0], query["state"][0]
        await context.clear_cookies(name=RELAY_COOKIE)

        async def refused(session_url: str, ticket: str, state: str, held: str) -> str:
            """The title of the page that a stolen address leads to."""
            if held:
                await context.add_cookies(
                    [{"name": STATE_COOKIE, "value": held, "url": session_url}]
                )
            tried = f"{session_url}.fleetgate/enter?ticket={ticket}&state={state}"
            answer = await page.goto(tried)
            assert answer is not None and answer.status == 403
            assert not await cookie(context, session_url, RELAY_COOKIE)
            return await page.inner_text("h1")

        not_brought = "This browser did not bring back the cookie that was set for this visit."
        assert await refused(pair.router.url, ticket, state, "") == not_brought
        used_up = "This way in has been used up."
        assert await refused(pair.router.url, ticket, state, state) == used_up
        wrong = "This ticket is not for this visit."
        assert await refused(pair.plc.url, ticket, state, state) == wrong
        other_state = secrets.token_urlsafe(32)
        content = {"way": "web", "state": "0" * 64}
        made = api.done("POST", f"/sessions/{pair.router.id}/tickets", content)
        for url in (pair.router.url, pair.plc.url):
            assert await refused(url, made["ticket"], other_state, other_state) == wrong
        await page.goto(pair.router.url + "form")
        assert await page.title() == "Form"
