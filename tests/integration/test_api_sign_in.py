"""Signing in: cookies, CSRF, limits in time, guessing."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.people.sign_ins import ABSOLUTE_MS, IDLE_MS, TOUCH_MS
from gateway.storage.address import Address
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server

LOGIN = "/api/v1/login"
RIGHT = {"email": EMAIL, "password": PASSWORD}
HTML = {"Accept": "text/html"}


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


async def sign_in(server: ApiServer, **more: Any) -> str:
    found = await server.done("POST", LOGIN, RIGHT, token=None, **more)
    assert found["me"]["operator"] is True
    return str(found["csrf"])


async def test_the_cookie_is_for_this_site_only_and_not_for_scripts(server: ApiServer) -> None:
    _, _, response = await server.ask("POST", LOGIN, RIGHT, token=None)
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith("fleetgate=")
    for part in ("HttpOnly", "SameSite=Lax", "Path=/", "Max-Age="):
        assert part in cookie
    assert "Secure" not in cookie and "Domain" not in cookie


async def test_behind_tls_the_cookie_is_bound_to_the_host(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database, behind_proxy=True) as server:
        _, _, response = await server.ask("POST", LOGIN, RIGHT, token=None)
        cookie = response.headers["Set-Cookie"]
        assert cookie.startswith("__Host-fleetgate=")
        assert "Secure" in cookie and "Path=/" in cookie and "Domain" not in cookie
        assert "Strict-Transport-Security" in response.headers
        token = re.match(r"__Host-fleetgate=([^;]+)", cookie)
        assert token
        named = {"Cookie": f"__Host-fleetgate={token[1]}"}
        # A cookie with the plain name, which another site could have planted, is worth nothing.
        planted = {"Cookie": f"fleetgate={token[1]}"}
        server.client.cookie_jar.clear()
        assert (await server.ask("GET", "/api/v1/me", token=None, headers=named))[0] == 200
        assert (await server.ask("GET", "/api/v1/me", token=None, headers=planted))[0] == 401


async def test_a_cookie_alone_changes_nothing(server: ApiServer) -> None:
    csrf = await sign_in(server)
    await server.done("GET", "/api/v1/me", token=None)
    content = {"name": "Acme"}
    same = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    for headers, wanted in (
        ({}, 403),
        ({"X-CSRF-Token": "wrong"}, 403),
        ({"X-CSRF-Token": csrf, "Origin": "https://evil.example"}, 403),
        ({"X-CSRF-Token": csrf, "Origin": "null"}, 403),
        ({"X-CSRF-Token": csrf, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"X-CSRF-Token": csrf, "Sec-Fetch-Site": "same-site"}, 403),
        ({"X-CSRF-Token": csrf} | same, 201),
    ):
        status, _, _ = await server.ask(
            "POST", "/api/v1/companies", content, token=None, headers=headers
        )
        assert status == wanted, headers
    # With a key the same is checked before anything is looked up.
    status, _, _ = await server.ask(
        "POST", "/api/v1/companies", content, token=None, headers={"Idempotency-Key": "k"}
    )
    assert status == 403
    # A page of another site cannot sign somebody in either.
    status, _, _ = await server.ask(
        "POST", LOGIN, RIGHT, token=None, headers={"Origin": "https://evil.example"}
    )
    assert status == 403


async def test_signing_in_again_ends_the_former_sign_in(server: ApiServer) -> None:
    await sign_in(server)
    (cookie,) = server.client.cookie_jar
    former = {"Cookie": f"fleetgate={cookie.value}"}
    await sign_in(server)
    server.client.cookie_jar.clear()
    assert (await server.ask("GET", "/api/v1/me", token=None, headers=former))[0] == 401


async def test_signing_out_ends_the_cookie(server: ApiServer) -> None:
    csrf = await sign_in(server)
    (cookie,) = server.client.cookie_jar
    held = {"Cookie": f"fleetgate={cookie.value}"}
    assert (await server.ask("POST", "/api/v1/logout", {}, token=None))[0] == 403
    done = await server.done(
        "POST", "/api/v1/logout", {}, token=None, headers={"X-CSRF-Token": csrf}
    )
    assert done == {"signed_out": True}
    server.client.cookie_jar.clear()
    assert (await server.ask("GET", "/api/v1/me", token=None, headers=held))[0] == 401


@pytest.mark.parametrize("path", ["/logout", "/api/v1/logout"])
async def test_no_page_of_another_site_takes_the_cookie_away(server: ApiServer, path: str) -> None:
    """Browsers send no cookie with such a form, but would take the one that ends it."""
    for elsewhere in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
        status, _, response = await server.ask("POST", path, {}, token=None, headers=elsewhere)
        assert status == 403
        assert "Set-Cookie" not in response.headers


async def test_a_sign_in_ends_by_idling_and_at_last_in_any_case(server: ApiServer) -> None:
    await sign_in(server)
    server.clock.moved_ms += IDLE_MS - 1_000
    assert (await server.ask("GET", "/api/v1/me", token=None))[0] == 200
    # That use counted.
    server.clock.moved_ms += IDLE_MS - 1_000
    assert (await server.ask("GET", "/api/v1/me", token=None))[0] == 200
    server.clock.moved_ms += IDLE_MS + 1_000
    assert (await server.ask("GET", "/api/v1/me", token=None))[0] == 401
    await sign_in(server)
    for _ in range(ABSOLUTE_MS // (IDLE_MS // 2)):
        server.clock.moved_ms += IDLE_MS // 2 - TOUCH_MS
        await server.ask("GET", "/api/v1/me", token=None)
    server.clock.moved_ms += IDLE_MS // 2
    assert (await server.ask("GET", "/api/v1/me", token=None))[0] == 401


async def test_guessing_is_slowed_down_and_the_right_password_still_works(
    server: ApiServer,
) -> None:
    wrong = {"email": EMAIL, "password": "wrong one"}
    answers = []
    for content in [wrong] * 7 + [{"email": "nobody@example.org", "password": "wrong one"}]:
        status, found, _ = await server.ask("POST", LOGIN, content, token=None)
        found.pop("request_id")
        answers.append((status, found))
    # The same answer whether the account exists or not.
    assert all(answer == answers[0] for answer in answers) and answers[0][0] == 401
    assert server.slept_s == [1.0, 2.0]
    await server.done("POST", LOGIN, RIGHT, token=None)
    assert server.slept_s == [1.0, 2.0, 4.0]
    server.client.cookie_jar.clear()
    await server.done("POST", LOGIN, RIGHT, token=None)
    assert len(server.slept_s) == 3


async def test_the_sign_in_page_works_without_script(server: ApiServer) -> None:
    status, _, response = await server.ask("GET", "/", token=None, headers=HTML)
    assert status == 303 and response.headers["Location"] == "/login"
    status, _, response = await server.ask("GET", "/status", token=None, headers=HTML)
    assert status == 303 and response.headers["Location"] == "/login?next=/status"
    status, page, _ = await server.ask("GET", "/login?next=/api/docs", token=None, headers=HTML)
    assert status == 200 and b"<script" not in page and b'value="/api/docs"' in page

    async def send(form: dict[str, str]) -> tuple[int, aiohttp.ClientResponse, str]:
        async with server.client.post(
            f"{server.url}/login", data=form, headers=HTML, allow_redirects=False
        ) as response:
            return response.status, response, await response.text()

    status, response, text = await send({"email": EMAIL, "password": "nope nope"})
    assert status == 401 and "E-mail or password is wrong." in text and EMAIL in text
    status, response, text = await send({"email": "", "password": ""})
    assert status == 422
    status, response, _ = await send(RIGHT | {"next": "//evil.example/"})
    assert status == 303 and response.headers["Location"] == "/devices"
    assert "HttpOnly" in response.headers["Set-Cookie"]
    status, page, _ = await server.ask("GET", "/status", token=None, headers=HTML)
    assert status == 200
    found = re.search(rb'name="csrf" value="([^"]+)"', page)
    assert found
    form = aiohttp.FormData({"csrf": "wrong"})
    async with server.client.post(f"{server.url}/logout", data=form) as answer:
        assert answer.status == 403
    form = aiohttp.FormData({"csrf": found[1].decode()})
    async with server.client.post(
        f"{server.url}/logout", data=form, allow_redirects=False
    ) as answer:
        assert answer.status == 303
    assert (await server.ask("GET", "/api/v1/me", token=None))[0] == 401
