"""What reaches the target of a visitor's request, and the visitor of its answer."""

from pathlib import Path

import pytest

from tests.relay_web_rig import Recorder, headers, running_site


async def test_a_request_arrives_as_it_was_sent(tmp_path: Path) -> None:
    target = Recorder()
    async with running_site(tmp_path, target) as site:
        browser = site.browser
        odd = {
            "X-One": "a  b",
            "x-One": "second",
            "X-Bytes": "caf\xe9",
            "Accept-Encoding": "gzip, br",
            "If-None-Match": '"e"',
            "Range": "bytes=0-3",
            "User-Agent": "Test/1",
        }
        for path in ("/a%2Fb/%7e?x=%20&y=+&z", "/a?", "//two//slashes/", "/a/../b/./c", "/%FF;p=1"):
            answer = await browser.ask(path, headers=odd)
            assert (answer.status, answer.body) == (200, b"ok")
            lines = target.lines()
            assert lines[0] == f"GET {path} HTTP/1.1".encode()
            assert lines[1] == b"Host: 127.0.0.1"
            assert lines[2:] == [f"{key}: {one}".encode("latin-1") for key, one in odd.items()]
        assert target.connections == 1


async def test_headers_of_this_hop_and_of_proxies_are_not_forwarded(tmp_path: Path) -> None:
    target = Recorder()
    async with running_site(tmp_path, target) as site:
        given = {
            "Connection": "keep-alive, X-Hop, close",
            "X-Hop": "1",
            "Keep-Alive": "timeout=5",
            "Proxy-Authorization": "Basic x",
            "Proxy-Whatever": "x",
            "TE": "trailers",
            "Trailer": "X",
            "Upgrade": "h2c",
            "HTTP2-Settings": "AAMAAABk",
            "X-Forwarded-For": "10.0.0.1",
            "X-Forwarded-Host": "evil",
            "Forwarded": "for=1",
            "X-Real-IP": "1.2.3.4",
            "X-Kept": "yes",
        }
        await site.browser.ask("/", headers=given)
        assert target.lines()[1:] == [b"Host: 127.0.0.1", b"X-Kept: yes"]


async def test_origin_and_referer_are_those_of_the_target(tmp_path: Path) -> None:
    target = Recorder()
    async with running_site(tmp_path, target, target="192.168.1.50:8080") as site:
        own = f"http://{site.browser.host}"
        given = {"Origin": own, "Referer": f"{own}/page?x=1"}
        await site.browser.ask("/", headers=given)
        assert target.lines()[1:] == [
            b"Host: 192.168.1.50:8080",
            b"Origin: http://192.168.1.50:8080",
            b"Referer: http://192.168.1.50:8080/page?x=1",
        ]
        await site.browser.ask("/", headers={"Referer": "https://elsewhere.example/"})
        assert target.values(b"referer") == [b"https://elsewhere.example/"]


async def test_our_cookies_never_reach_the_target(tmp_path: Path) -> None:
    target = Recorder()
    async with running_site(tmp_path, target) as site:
        ours = site.browser.cookie
        secret = ours.partition("=")[2].encode()
        for given, kept in (
            (ours, []),
            (f"a=1; {ours}; b=2", [b"a=1; b=2"]),
            (f"{ours};{ours}; fleetgate-state=x;c=3", [b"c=3"]),
            (f"{ours}; fleetgate-relay =other; d=4", [b"d=4"]),
            (f"  {ours}  ; fleetgate-relay=; __Host-fleetgate-relay=z", []),
            (f'{ours}; e="fleetgate-relay=5"', [b'e="fleetgate-relay=5"']),
            (f"xfleetgate-relay=6; {ours}", [b"xfleetgate-relay=6"]),
        ):
            answer = await site.browser.ask("/", headers={"Cookie": given})
            assert answer.status == 200, given
            assert target.values(b"cookie") == kept
        both = site.browser.head("GET", "/", {"Cookie": "a=1"})[:-2]
        await site.browser.raw(both + f"Cookie: {ours}\r\ncookie: b=2\r\n\r\n".encode())
        assert target.values(b"cookie") == [b"a=1", b"b=2"]
        assert not any(secret in head for head in target.heads)


async def test_an_answer_arrives_as_it_was_sent(tmp_path: Path) -> None:
    sent = headers(
        "HTTP/1.1 203 Quite So",
        "server: uhttpd",
        "X-A: 1",
        "x-a: 2",
        "X-Bytes: caf\xe9",
        "Content-Encoding: gzip",
        "Content-Type: text/plain",
        "Keep-Alive: timeout=5",
        "Connection: keep-alive, X-Hop",
        "X-Hop: 1",
        "Strict-Transport-Security: max-age=1",
        "Proxy-Authenticate: Basic",
        "Content-Length: 3",
    )
    async with running_site(tmp_path, Recorder(sent + b"\x1f\x8b\x00")) as site:
        answer = await site.browser.ask("/")
        assert (answer.status, answer.reason, answer.body) == (203, b"Quite So", b"\x1f\x8b\x00")
        assert answer.headers == [
            (b"server", b"uhttpd"),
            (b"X-A", b"1"),
            (b"x-a", b"2"),
            (b"X-Bytes", b"caf\xe9"),
            (b"Content-Encoding", b"gzip"),
            (b"Content-Type", b"text/plain"),
            (b"Content-Length", b"3"),
        ]


async def test_cookies_of_the_target_stay_on_this_host(tmp_path: Path) -> None:
    sent = headers(
        "HTTP/1.1 200 OK",
        "Set-Cookie: a=1; Path=/; Domain=example.org; HttpOnly",
        "Set-Cookie: b=2;domain = .localhost ;Secure;SameSite=None",
        "Set-Cookie: c=domain=x",
        "Set-Cookie: fleetgate-relay=evil; Path=/",
        "Set-Cookie:  __Host-fleetgate-STATE=evil",
        "Set-Cookie: =fleetgate-relay=evil",
        "Set-Cookie: fleetgate-state",
        "Content-Length: 0",
    )
    async with running_site(tmp_path, Recorder(sent)) as site:
        answer = await site.browser.ask("/")
        assert answer.all("set-cookie") == [
            b"a=1; Path=/; HttpOnly",
            b"b=2;Secure;SameSite=None",
            b"c=domain=x",
        ]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("/login", "/login"),
        ("http://192.168.1.50:8080/login?x=1", "{own}/login?x=1"),
        ("HTTP://192.168.1.50:8080", "{own}"),
        ("http://192.168.1.50/a", "{own}/a"),
        ("https://192.168.1.50/a", "{own}/a"),
        ("https://192.168.1.50:443/a#f", "{own}/a#f"),
        ("http://192.168.1.50:8081/", "http://192.168.1.50:8081/"),
        ("http://192.168.1.501/", "http://192.168.1.501/"),
        ("http://192.168.1.50@evil.example/", "http://192.168.1.50@evil.example/"),
        ("https://www.example.org/", "https://www.example.org/"),
        ("//192.168.1.50:8080/", "//192.168.1.50:8080/"),
    ],
)
async def test_locations_of_the_target_become_the_sessions(
    tmp_path: Path, given: str, shown: str
) -> None:
    target = Recorder()
    async with running_site(tmp_path, target, target="192.168.1.50:8080") as site:
        own = f"http://{site.browser.host}"
        wanted = shown.format(own=own)
        target.answer = headers(
            "HTTP/1.1 302 Found",
            f"Location: {given}",
            f"Content-Location: {given}",
            f"Refresh: 5; URL={given}",
            "Content-Length: 0",
        )
        answer = await site.browser.ask("/start")
        assert answer.one("location") == wanted
        assert answer.one("content-location") == wanted
        assert answer.one("refresh") == f"5; URL={wanted}"


async def test_a_target_that_insists_on_https_is_told_of(tmp_path: Path) -> None:
    sent = headers("HTTP/1.1 301 Moved", "Location: https://127.0.0.1/x", "Content-Length: 0")
    async with running_site(tmp_path, Recorder(sent)) as site:
        answer = await site.browser.ask("/x")
        assert answer.status == 502
        assert "wants_https" in answer.text


async def test_requests_that_servers_read_differently_are_refused(tmp_path: Path) -> None:
    target = Recorder()
    async with running_site(tmp_path, target) as site:
        browser = site.browser
        plain = browser.head("POST", "/")[:-2]
        for bad in (
            plain + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            plain + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            plain + b"Transfer-Encoding: gzip, identity\r\n\r\n",
            plain + b"X : 1\r\n\r\n",
            plain + b"X: a\rb\r\n\r\n",
            plain + b"Content-Length: -1\r\n\r\n",
            plain + b"Host: other.localhost\r\n\r\n",
            plain + b"Host: " + browser.host.encode() + b"\r\n\r\n",
            browser.head("GET", "http://192.168.1.1/"),
            browser.head("OPTIONS", "*"),
        ):
            assert (await browser.raw(bad)).status in (400, 421), bad
        assert target.heads == []
