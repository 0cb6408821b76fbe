"""Invitations over HTTP: cookies, forms, mails; the token is nowhere but in the link."""

import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import insert, select

from gateway.domain.inviting import GOOD_MS
from gateway.storage.address import Address
from gateway.storage.schema import membership, person, sign_in
from gateway.web.languages import words_of
from tests.admin_command import admin
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server

pytestmark = pytest.mark.either_engine

OTHER = "You are signed in as somebody else"
ACCEPT_NEW = "Make the account and accept"
UNFIT_NAME = "The name is too long, or holds a character that cannot be shown."
OVER = "This invitation is not good, or not any more"
KNOWN_LEAD = "There is an account with this address. Type its password to accept."
WRONG_PASSWORD = "The password is wrong."
TYPE_PASSWORD = "Type the password."
ANN = "ann@example.org"
SECRET = "a very long secret"
INVITATIONS = "/api/v1/invitations"
HTML = {"Accept": "text/html"}


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


async def invite(server: ApiServer, company_id: str, email: str = ANN, role: str = "basic") -> str:
    """The token of the link."""
    content = {"email": email, "company_id": company_id, "role": role}
    made = await server.done("POST", INVITATIONS, content)
    return str(made["link"]).removeprefix(f"{server.site.public_url}/invitation/")


async def accept(
    server: ApiServer, token: str, *, headers: dict[str, str] | None = None, **more: str
) -> tuple[int, Any, aiohttp.ClientResponse]:
    """As somebody with nothing but the link, or with the cookie of the client."""
    content = {"token": token, **more}
    return await server.ask("POST", f"{INVITATIONS}/accept", content, token=None, headers=headers)


async def test_a_new_person_is_signed_in_with_exactly_the_role(server: ApiServer) -> None:
    acme = await server.company()
    token = await invite(server, acme, role="advanced")
    status, seen, _ = await server.ask("POST", f"{INVITATIONS}/look", {"token": token}, token=None)
    assert status == 200 and seen["has_account"] is False
    assert (seen["company_name"], seen["email"], seen["role"]) == ("Acme", ANN, "advanced")
    for wrong in ("", "short"):
        status, found, _ = await accept(server, token, password=wrong)
        assert (status, found["field"]) == (422, "password")
    status, found, response = await accept(server, token, password=SECRET, name="Ann")
    assert status == 200
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    me = await server.done("GET", "/api/v1/me", token=None)
    assert me["email"] == ANN and not me["operator"]
    roles = [(one["company_id"], one["role"]) for one in me["memberships"]]
    assert roles == [(acme, "advanced")]
    # The CSRF token of the answer is that of the cookie.
    device = {"serial": "0123456789", "company_id": acme, "activate": "later"}
    shown = {"X-CSRF-Token": found["csrf"]}
    await server.done("POST", "/api/v1/devices", device, token=None, headers=shown)
    assert (await accept(server, token, password=SECRET, headers=shown))[1]["code"] == (
        "invitation_over"
    )
    server.client.cookie_jar.clear()
    status, again, _ = await accept(server, token, password=SECRET)
    assert (status, again["code"]) == (404, "invitation_over")
    signed_in = {"email": ANN, "password": SECRET}
    await server.done("POST", "/api/v1/login", signed_in, token=None)


async def test_somebody_with_an_account_gives_its_password_or_is_signed_in(
    server: ApiServer,
) -> None:
    acme, beta = await server.company(), await server.company("Beta")
    await accept(server, await invite(server, acme), password=SECRET)
    server.client.cookie_jar.clear()
    token = await invite(server, beta, role="read_only")
    status, found, _ = await accept(server, token)
    assert (status, found["code"]) == (401, "signed_out")
    status, found, response = await accept(server, token, password="not the secret")
    assert (status, found["code"]) == (401, "credentials_wrong")
    assert "Set-Cookie" not in response.headers
    status, found, response = await accept(server, token, password=SECRET, name="Other")
    assert status == 200 and "Set-Cookie" in response.headers
    me = await server.done("GET", "/api/v1/me", token=None)
    assert {one["company_name"]: one["role"] for one in me["memberships"]} == {
        "Acme": "basic",
        "Beta": "read_only",
    }
    assert me["name"] == ANN
    # Signed in, the cookie and its CSRF token do; both are new afterwards.
    gamma = await server.company("Gamma")
    token = await invite(server, gamma)
    (cookie,) = server.client.cookie_jar
    old = {"Cookie": f"fleetgate={cookie.value}"}
    assert (await accept(server, token))[1]["code"] == "forbidden"
    shown = {"X-CSRF-Token": found["csrf"]}
    status, done, _ = await accept(server, token, headers=shown)
    assert status == 200 and done["csrf"] != found["csrf"]
    await server.done("GET", "/api/v1/me", token=None)
    server.client.cookie_jar.clear()
    assert (await server.ask("GET", "/api/v1/me", token=None, headers=old))[0] == 401
    rows = await server.store.read(lambda tx: tx.all(select(sign_in)))
    assert len(rows) == 2  # one for each time a password was given


async def test_whoever_is_signed_in_as_somebody_else_is_told_so(server: ApiServer) -> None:
    acme = await server.company()
    token = await invite(server, acme)
    signed_in = {"email": EMAIL, "password": PASSWORD}
    found = await server.done("POST", "/api/v1/login", signed_in, token=None)
    shown = {"X-CSRF-Token": found["csrf"]}
    for more in ({}, {"password": SECRET}):
        status, said, _ = await accept(server, token, headers=shown, **more)
        assert (status, said["code"]) == (409, "other_account") and "Sign out" in said["detail"]
    status, page, _ = await server.ask("GET", f"/invitation/{token}", token=None, headers=HTML)
    assert status == 409 and OTHER in page.decode()
    # An API token is no person.
    status, said, _ = await server.ask("POST", f"{INVITATIONS}/accept", {"token": token})
    assert (status, said["code"]) == (403, "forbidden")
    server.client.cookie_jar.clear()
    assert (await accept(server, token, password=SECRET))[0] == 200


async def test_guessing_the_password_of_an_invited_account_is_slowed_down(
    server: ApiServer,
) -> None:
    acme, beta = await server.company(), await server.company("Beta")
    await accept(server, await invite(server, acme), password=SECRET)
    server.client.cookie_jar.clear()
    token = await invite(server, beta)
    for number in range(7):
        status, _, _ = await accept(server, token, password=f"wrong {number}")
        assert status == 401
    assert server.slept_s == [1.0, 2.0]


async def test_an_acceptance_that_fails_leaves_no_sign_in(server: ApiServer) -> None:
    acme = await server.company()
    await accept(server, await invite(server, acme), password=SECRET)
    server.client.cookie_jar.clear()
    beta = await server.company("Beta")
    token = await invite(server, beta)
    (ann,) = await server.store.read(
        lambda tx: tx.all(select(person.c.id).where(person.c.email == ANN))
    )
    # Past all invitations.
    values = {"person_id": ann.id, "company_id": int(beta), "role": "billing", "created_at": 0}
    await server.store.write(lambda tx: tx.run(insert(membership), values))
    before = len(await server.store.read(lambda tx: tx.all(select(sign_in))))
    status, found, response = await accept(server, token, password=SECRET)
    assert (status, found["code"]) == (409, "name_taken")
    assert "Set-Cookie" not in response.headers
    assert len(await server.store.read(lambda tx: tx.all(select(sign_in)))) == before


async def test_pages_of_other_sites_accept_nothing(server: ApiServer) -> None:
    token = await invite(server, await server.company())
    for elsewhere in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        status, _, response = await accept(server, token, headers=elsewhere, password=SECRET)
        assert status == 403 and "Set-Cookie" not in response.headers
        form = {"password": SECRET}
        async with server.client.post(
            f"{server.url}/invitation/{token}", data=form, headers=elsewhere | HTML
        ) as answer:
            assert answer.status == 403


async def send(
    server: ApiServer, token: str, form: dict[str, str], query: str = ""
) -> tuple[int, aiohttp.ClientResponse, str]:
    async with server.client.post(
        f"{server.url}/invitation/{token}{query}", data=form, headers=HTML, allow_redirects=False
    ) as response:
        return response.status, response, await response.text()


async def look(
    server: ApiServer, token: str, query: str = "", language: str = "en"
) -> tuple[int, aiohttp.ClientResponse, str]:
    headers = HTML | {"Accept-Language": language}
    status, page, response = await server.ask(
        "GET", f"/invitation/{token}{query}", token=None, headers=headers
    )
    return status, response, page.decode()


async def test_the_page_takes_a_new_person_in_without_a_script(server: ApiServer) -> None:
    acme = await server.company("Lifts <b>Nord</b>")
    token = await invite(server, acme)
    status, response, text = await look(server, token)
    assert status == 200 and '<html lang="en">' in text and ANN in text
    assert "Lifts &lt;b&gt;Nord&lt;/b&gt;" in text and "<script" not in text
    assert "style=" not in text and "basic user" in text
    # With `no-referrer` a browser would say `Origin: null` of the form.
    assert response.headers["Referrer-Policy"] == "strict-origin"
    assert response.headers["Cache-Control"] == "no-store"
    status, _, text = await look(server, token, language="es-ES,es;q=0.9")
    assert '<html lang="es">' in text and words_of("es").gettext(ACCEPT_NEW) in text
    status, _, text = await look(server, token, "?lang=es")
    assert '<html lang="es">' in text and "?lang=es" in text
    status, _, text = await send(server, token, {"password": "short", "name": "Ann"}, "?lang=es")
    assert status == 422 and 'value="Ann"' in text and '<html lang="es">' in text
    status, _, text = await send(server, token, {"password": SECRET, "name": "A\u202eB"})
    assert status == 422 and UNFIT_NAME in text
    status, response, _ = await send(server, token, {"password": SECRET, "name": "Ann"})
    assert status == 303 and response.headers["Location"] == "/devices"
    me = await server.done("GET", "/api/v1/me", token=None)
    assert (me["email"], me["name"]) == (ANN, "Ann")
    for answer in (await look(server, token), await send(server, token, {"password": SECRET})):
        assert answer[0] == 404 and OVER in answer[2]
    status, _, text = await look(server, "x" * 400)
    assert status == 404 and OVER in text


async def test_the_page_takes_in_somebody_with_an_account(server: ApiServer) -> None:
    acme, beta = await server.company(), await server.company("Beta")
    await accept(server, await invite(server, acme), password=SECRET)
    server.client.cookie_jar.clear()
    token = await invite(server, beta)
    status, _, text = await look(server, token)
    assert status == 200 and KNOWN_LEAD in text and 'name="name"' not in text
    status, _, text = await send(server, token, {"password": "not the secret"})
    assert status == 401 and WRONG_PASSWORD in text
    status, _, text = await send(server, token, {"password": ""})
    assert status == 401 and TYPE_PASSWORD in text
    await server.done("POST", "/api/v1/login", {"email": ANN, "password": SECRET}, token=None)
    status, _, text = await look(server, token)
    assert status == 200 and f"signed in as {ANN}" in text
    found = re.search(r'name="csrf" value="([^"]+)"', text)
    assert found
    status, _, _ = await send(server, token, {"csrf": "wrong"})
    assert status == 403
    status, response, _ = await send(server, token, {"csrf": found[1]})
    assert status == 303 and "Set-Cookie" in response.headers
    me = await server.done("GET", "/api/v1/me", token=None)
    assert len(me["memberships"]) == 2


async def test_after_its_time_the_page_says_what_to_do(server: ApiServer) -> None:
    token = await invite(server, await server.company())
    server.clock.moved_ms += GOOD_MS
    status, _, text = await look(server, token, language="es")
    assert status == 404 and words_of("es").gettext(OVER) in text and 'href="/login"' in text


async def test_the_token_is_not_in_the_log(
    server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = await invite(server, await server.company())
    await look(server, token)
    await send(server, token, {"password": "short"})
    await server.ask("POST", f"{INVITATIONS}/look", {"token": token}, token=None)
    await accept(server, token, password=SECRET)
    paths = [one.getMessage() for one in caplog.records if "path=/invitation" in one.getMessage()]
    assert len(paths) == 2 and all("/invitation/\\u2026 " in one for one in paths)
    for record in caplog.records:
        assert token not in record.getMessage() and SECRET not in record.getMessage()


async def test_programs_that_look_at_links_first_change_nothing(server: ApiServer) -> None:
    token = await invite(server, await server.company())
    for _ in range(3):
        assert (await look(server, token))[0] == 200
    status, _, _ = await server.ask("HEAD", f"/invitation/{token}", token=None, headers=HTML)
    assert status == 405
    assert (await accept(server, token, password=SECRET))[0] == 200


async def test_the_same_key_sends_nothing_twice(server: ApiServer) -> None:
    acme = await server.company()
    content = {"email": ANN, "company_id": acme, "role": "basic"}
    key = {"Idempotency-Key": "k"}
    first = await server.done("POST", INVITATIONS, content, headers=key)
    again = await server.done("POST", INVITATIONS, content, headers=key)
    assert first == again


async def test_the_link_is_built_from_the_configured_address(server: ApiServer) -> None:
    content = {"email": ANN, "company_id": await server.company(), "role": "basic"}
    evil = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    made = await server.done("POST", INVITATIONS, content, headers=evil)
    assert made["link"].startswith(f"{server.site.public_url}/invitation/")


async def test_the_command_prints_the_link_in_one_piece(server: ApiServer) -> None:
    acme = await server.company()
    words = ("--email", ANN, "--company-id", acme, "--role", "basic")
    code, out, error = await admin(server, "invitations", "create", *words)
    assert code == 0, error
    (link,) = [line for line in out.splitlines() if line.startswith("http")]
    token = link.removeprefix(f"{server.site.public_url}/invitation/")
    status, made, _ = await accept(server, token, password=SECRET)
    assert status == 200 and made["role"] == "basic"
    code, out, _ = await admin(server, "invitations", "list")
    assert code == 0 and "accepted" in out and ANN in out and "http" not in out
    code, _, error = await admin(server, "invitations", "resend", "1")
    assert code == 1 and "(invitation_over)" in error and "invitations list" in error
    # What the bearer of a link does is no command.
    code, _, _ = await admin(server, "invitations", "accept")
    assert code == 2
