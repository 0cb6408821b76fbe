"""Who may pass the relay's door for browsers, and how one gets in."""

import asyncio
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from broker.relay import web_door, web_front
from tests.relay_rig import fact
from tests.relay_web_rig import NAVIGATION, Browser, Recorder, read_answer, running_site
from wire.tickets import Party, Way


async def test_the_hand_over_step_by_step(tmp_path: Path) -> None:
    target = Recorder()
    async with running_site(tmp_path, target, enter=False) as site:
        browser = site.browser
        first = await browser.ask("/menu?x=1&y=%20", headers=NAVIGATION)
        assert first.status == 302
        assert (first.one("cache-control"), first.one("referrer-policy")) == (
            "no-store",
            "no-referrer",
        )
        url = urlsplit(first.one("location"))
        assert f"{url.scheme}://{url.netloc}{url.path}" == "http://127.0.0.1:8080/enter"
        query = parse_qs(url.query)
        state = query["state"][0]
        assert query["host"] == [site.claims.host]
        name, *attributes = first.one("set-cookie").split("; ")
        assert name == f"fleetgate-state={state}"
        assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Lax", "Max-Age=900"}

        cross = {**NAVIGATION, "Sec-Fetch-Site": "cross-site"}
        entered = await browser.ask(browser.entrance(state), headers={**cross, "Cookie": name})
        assert (entered.status, entered.one("location")) == (303, "/menu?x=1&y=%20")
        assert entered.one("cache-control") == "no-store"
        relay, state_gone = (one.decode() for one in entered.all("set-cookie"))
        cookie, *attributes = relay.split("; ")
        assert cookie.startswith("fleetgate-relay=") and len(cookie) > 50
        assert attributes == ["Path=/", "HttpOnly", "SameSite=Lax"]
        assert state_gone.startswith("fleetgate-state=; ") and "Max-Age=0" in state_gone
        assert target.heads == []

        browser.cookie = cookie
        assert (await browser.ask("/menu?x=1&y=%20", headers=cross)).body == b"ok"
        assert site.session.usage().visitors == 1
        # Loaded again with its ticket in the address: they are in already.
        again = await browser.ask(browser.entrance(state), headers=NAVIGATION)
        assert (again.status, again.one("location")) == (303, "/")


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "0" * 64},
        {"state": ""},
        {"way": Way.CONNECT},
        {"party": Party.DEVICE, "way": Way.LINK},
        {"host": "s-" + "a" * 26},
        {"relay": "relay-2"},
        {"epoch": "f" * 32},
        {"person": "8"},
    ],
)
async def test_wrong_tickets_let_nobody_in(tmp_path: Path, changes: dict[str, str]) -> None:
    async with running_site(tmp_path, Recorder(), enter=False) as site:
        entered = await site.browser.enter(**changes)
        assert entered.status == 403
        assert entered.all("set-cookie") == []
        assert site.session.usage().visitors == 0


async def test_a_ticket_is_bound_to_the_browser_that_asked(tmp_path: Path) -> None:
    async with running_site(tmp_path, Recorder(), enter=False) as site:
        browser = site.browser
        first = await browser.ask("/", headers=NAVIGATION)
        state = parse_qs(urlsplit(first.one("location")).query)["state"][0]
        for cookie in (
            "",
            "fleetgate-state=other",
            f'fleetgate-state="{state}"',
            f"Fleetgate-State={state}",
            f"xfleetgate-state={state}",
            f"__Host-fleetgate-state={state}",
        ):
            stolen = await browser.ask(
                browser.entrance(state), headers={**NAVIGATION, "Cookie": cookie}
            )
            assert stolen.status == 403, cookie
        entrance = browser.entrance(state)
        good = {**NAVIGATION, "Cookie": f"a=1;fleetgate-state={state} ; b=2"}
        assert (await browser.ask(entrance, headers=good)).status == 303
        assert (await browser.ask(entrance, headers=good)).status == 403  # used


async def test_cookies_of_others_do_not_open(tmp_path: Path) -> None:
    target = Recorder()
    async with running_site(tmp_path, target) as site:
        browser = site.browser
        value = browser.cookie.partition("=")[2]
        other = Browser(site.rig, site.rig.mint.session())
        device = await site.rig.device(site.rig.mint.again(other.claims))
        other.cookie = browser.cookie
        assert (await other.ask("/")).status == 401  # another session's host
        device.transport.abort()
        for cookie in (
            "",
            f'fleetgate-relay="{value}"',
            f"FLEETGATE-RELAY={value}",
            f"fleetgate-relay={value}x",
            f"fleetgate-relay=x{value}",
            f"fleetgate-relay={value[:-1]}",
            f"fleetgate-relay-={value}",
            f"fleetgate-relay, x=1, fleetgate-relay={value}",
            f"__Host-fleetgate-relay={value}",
            f'a="; fleetgate-relay=x; b={value}"',
        ):
            assert (await browser.ask("/", headers={"Cookie": cookie})).status == 401, cookie
        assert target.heads == []
        # What a page of the device planted beside it does not lock anybody out.
        planted = f"fleetgate-relay=evil; {browser.cookie}"
        assert (await browser.ask("/", headers={"Cookie": planted})).status == 200


async def test_without_a_cookie_only_navigations_are_sent_to_the_gateway(tmp_path: Path) -> None:
    async with running_site(tmp_path, Recorder(), enter=False) as site:
        browser = site.browser
        fetch = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
        image = {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
        assert (await browser.ask("/", headers=fetch)).status == 401
        assert (await browser.ask("/", headers=image)).status == 401
        assert (await browser.ask("/", method="POST", headers=NAVIGATION)).status == 401
        assert (await browser.ask("/", headers={"Accept": "*/*"})).status == 401
        assert (await browser.ask("/", headers={"Accept": "text/html"})).status == 302


async def test_leaving(tmp_path: Path) -> None:
    async with running_site(tmp_path, Recorder()) as site:
        browser = site.browser
        own = {"Origin": f"http://{browser.host}"}
        assert (await browser.ask("/.fleetgate/leave", headers=own)).status == 404
        evil = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
        assert (await browser.ask("/.fleetgate/leave", method="POST", headers=evil)).status == 403
        left = await browser.ask("/.fleetgate/leave", method="POST", headers=own)
        assert left.status == 200 and "Max-Age=0" in left.one("set-cookie")
        assert site.session.usage().visitors == 0
        assert (await browser.ask("/")).status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/.fleetgate",
        "/.fleetgate/",
        "/.fleetgate/x",
        "//.fleetgate/enter",
        "/./.fleetgate/leave",
        "/x/../.fleetgate/enter",
        "/.fleetgate/../index",
        "/.FleetGate/enter",
        "/%2efleetgate/enter",
        "/%2Efleetgat%65/",
        "/%252efleetgate/",
        "/%25252e%2566leetgate/",
        "/.fleetgate%2fenter",
        "/x%2f.fleetgate%2fenter",
        "/x%5c.fleetgate%5center",
        "/\\.fleetgate\\enter",
        "/.fleetgate;x/",
        "/.fleetgate./",
        "/.fleetgate%00/",
        "/.fleetgate%20/",
        "/.fleetgate%3fx",
        "/%ef%bc%8efleetgate/",
        "/.fleetgate?x=1",
        "/.fleetgate/link",
    ],
)
async def test_our_paths_are_never_forwarded(tmp_path: Path, path: str) -> None:
    target = Recorder()
    async with running_site(tmp_path, target) as site:
        for method in ("GET", "POST"):
            answer = await site.browser.ask(path, method=method)
            assert answer.status == 404, path
        assert target.heads == []
        for fine in ("/fleetgate/", "/x.fleetgate/", "/.fleetgates", "/?/.fleetgate/", "/a%20b"):
            assert (await site.browser.ask(fine)).status == 200
        assert len(target.heads) == 5


async def test_hosts(tmp_path: Path) -> None:
    target = Recorder()
    async with running_site(tmp_path, target) as site:
        browser = site.browser
        name = browser.claims.host
        for host in (
            "localhost",
            "127.0.0.1",
            f"{name}.localhost.",
            f"{name}.localhost.evil.example",
            f"x.{name}.localhost",
            f"{name.upper()}.localhost",
            f"{name}.localhost:80:80",
            f"{name}.localhost:",
            f"{name}.localhost@evil",
            f"{name[:-1]}.localhost",
            f"{name}1.localhost",
            "s-" + "1" * 26 + ".localhost",
            "",
        ):
            answer = await browser.ask("/", headers={"Host": host})
            assert answer.status in (400, 421), host
        no_host = f"GET / HTTP/1.0\r\nCookie: {browser.cookie}\r\n\r\n".encode()
        assert (await browser.raw(no_host)).status == 421
        assert target.heads == []
        for host in (f"{name}.localhost", f"{name}.localhost:8885"):
            assert (await browser.ask("/", headers={"Host": host})).status == 200
        # A name of the right shape that nobody knows looks like one whose ticket is yet to come.
        unknown = {**NAVIGATION, "Host": "s-" + "a" * 26 + ".localhost"}
        assert (await browser.ask("/", headers=unknown)).status == 302


async def test_other_pages_may_only_link_to_a_session(tmp_path: Path) -> None:
    target = Recorder()
    async with running_site(tmp_path, target) as site:
        browser = site.browser
        own = f"http://{browser.host}"
        passed: list[dict[str, str]] = [
            {},
            {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Origin": own},
            {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "iframe"},
            {**NAVIGATION, "Sec-Fetch-Site": "cross-site"},
            {**NAVIGATION, "Sec-Fetch-Site": "same-site"},
            {"Origin": own},
        ]
        other = f"http://s-{'b' * 26}.localhost:{site.rig.port}"
        refused = [
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
            {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Origin": other},
            {**NAVIGATION, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"},
            {**NAVIGATION, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
            {"Sec-Fetch-Site": "anything"},
            {"Origin": other},
            {"Origin": "null"},
            {"Origin": f"https://{browser.host}"},
            {"Origin": f"http://{browser.claims.host}.localhost"},
        ]
        for given in passed:
            assert (await browser.ask("/", headers=given)).status == 200, given
        for given in refused:
            assert (await browser.ask("/", headers=given)).status == 403, given
        posted = {**NAVIGATION, "Sec-Fetch-Site": "cross-site"}
        assert (await browser.ask("/", method="POST", headers=posted)).status == 403
        twice = browser.head("GET", "/", {"Sec-Fetch-Site": "same-origin"})[:-2]
        answer = await browser.raw(twice + b"Sec-Fetch-Site: cross-site\r\n\r\n")
        assert answer.status == 403
        assert len(target.heads) == len(passed)


async def test_pages_install_no_service_worker(tmp_path: Path) -> None:
    target = Recorder()
    async with running_site(tmp_path, target) as site:
        browser = site.browser
        own = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "same-origin"}
        for given in (
            {**own, "Sec-Fetch-Dest": "serviceworker", "Service-Worker": "script"},
            {**own, "Sec-Fetch-Dest": "serviceworker"},
            {"Service-Worker": "script"},
        ):
            answer = await browser.ask("/sw.js", headers=given)
            assert answer.status == 403 and b"(service_worker)" in answer.body, given
        for kind in ("worker", "sharedworker", "script"):
            shown = await browser.ask("/sw.js", headers={**own, "Sec-Fetch-Dest": kind})
            assert shown.status == 200, kind
        assert len(target.heads) == 3


async def test_long_heads(tmp_path: Path) -> None:
    target = Recorder()
    async with running_site(tmp_path, target) as site:
        browser = site.browser
        cookie = browser.cookie
        assert (await browser.ask("/", headers={"X": "y" * 12_000})).status == 200
        assert (await browser.ask("/" + "p" * 12_000)).status == 200
        browser.cookie = "a=b"
        assert (await browser.ask("/", headers={"X": "y" * 3_000})).status == 401
        assert (await browser.ask("/", headers={"X": "y" * 4_100})).status == 431
        browser.cookie = cookie
        many = browser.head("GET", "/", {f"X-{one}": "y" * 400 for one in range(45)})
        assert (await browser.raw(many)).status in (400, 431)
        await browser.connect()
        browser.writer.write(many[:17_000])  # an end that never comes
        answer = await read_answer(browser.reader)
        assert answer.status in (400, 431)
        browser.close()
        assert len(target.heads) == 2


async def test_slow_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_front, "HEAD_S", 0.3)
    async with running_site(tmp_path, Recorder()) as site:
        browser = site.browser
        head = browser.head("GET", "/")
        # The first, the second on a kept connection, and one behind a whole request.
        for before in (b"", head, head + head[:20]):
            await browser.connect()
            browser.writer.write(before)
            if before:
                assert (await read_answer(browser.reader)).status == 200
                await asyncio.sleep(0.35)  # an idle connection may wait longer than a head
            browser.writer.write(head[:10] if len(before) <= len(head) else head[20:30])
            started = asyncio.get_running_loop().time()
            async with asyncio.timeout(5):
                assert (await browser.reader.read()).startswith(b"HTTP/1.1 408 ")
            assert asyncio.get_running_loop().time() - started < 2
            browser.close()


async def test_connections_of_one_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_door, "CONNECTIONS_PER_ADDRESS_MAX", 5)
    async with running_site(tmp_path, Recorder()) as site:
        browsers = [Browser(site.rig, site.claims) for _ in range(5)]
        for browser in browsers:
            browser.cookie = site.browser.cookie
            await browser.connect()
            browser.writer.write(browser.head("GET", "/"))
            assert (await read_answer(browser.reader)).status == 200
        assert (await site.browser.ask("/")).status == 503
        browsers[0].close()
        await fact(lambda: len(site.rig.relay.arrivals) == 0)
        async with asyncio.timeout(5):
            while (await site.browser.ask("/")).status != 200:  # noqa: ASYNC110  the relay's count
                await asyncio.sleep(0.01)
        for browser in browsers[1:]:
            browser.close()


async def test_a_relay_with_tls_uses_prefixed_cookies(tmp_path: Path) -> None:
    # Behind a proxy, which has the certificate.
    async with running_site(
        tmp_path, Recorder(), enter=False, relay={"behind_proxy": True}
    ) as site:
        browser = site.browser
        first = await browser.ask("/", headers=NAVIGATION)
        assert first.one("set-cookie").startswith("__Host-fleetgate-state=")
        assert first.one("set-cookie").endswith("; Secure")
        assert (await browser.enter()).status == 303
        assert browser.cookie.startswith("__Host-fleetgate-relay=")
        assert (await browser.ask("/", headers={"Origin": f"https://{browser.host}"})).status == 200
        plain = browser.cookie.removeprefix("__Host-")
        assert (await browser.ask("/", headers={"Cookie": plain})).status == 401


async def test_pages_say_what_to_do(tmp_path: Path) -> None:
    async with running_site(tmp_path, Recorder(), enter=False) as site:
        html = {**NAVIGATION, "Host": "localhost"}
        english = await site.browser.ask("/", headers=html)
        assert english.one("content-type").startswith("text/html")
        assert "There is no session under this name" in english.text
        assert 'href="http://127.0.0.1:8080/"' in english.text
        spanish = await site.browser.ask(
            "/", headers={**html, "Accept-Language": "es-ES,es;q=0.9,en;q=0.8"}
        )
        assert "No hay ninguna sesión con este nombre" in spanish.text
        other = await site.browser.ask(
            "/", headers={**html, "Accept-Language": "de,en;q=0.8,es;q=0.2"}
        )
        assert other.text == english.text
        plain = await site.browser.ask("/", headers={"Host": "localhost"})
        assert plain.one("content-type").startswith("text/plain")
        assert "(wrong_host)" in plain.text


async def test_headers_of_garbage(tmp_path: Path) -> None:
    async with running_site(tmp_path, Recorder()) as site:
        for garbage in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
            answer = await site.browser.raw(garbage)
            assert (answer.status, answer.body) == (400, b"Bad request.\n")
