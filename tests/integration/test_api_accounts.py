"""Accounts over HTTP: passwords, links, sign-ins and tokens, as browsers and scripts use them."""

import logging
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from gateway.jobs import reset_mails
from gateway.join.sealing import unseal
from gateway.operations.mailing import bound_to
from gateway.storage.address import Address
from gateway.storage.schema import mail, sign_in
from gateway.web.languages import words_of
from tests.admin_command import admin
from tests.api_server import EMAIL, MASTER_KEY, PASSWORD, ApiServer, api_server

pytestmark = pytest.mark.either_engine

SAID = {
    "ask": "Forgot your password?",
    "unfit_email": "This is not an e-mail address.",
    "sent": "Look into your mailbox",
    "no_mail": "This server sends no mail",
    "choose": "Choose a new password",
    "unfit_password": "A password has %(least)s to %(most)s characters.",
    "done": "Your password is changed",
    "over": "This link is not good, or not any more",
}
LOGIN = "/api/v1/login"
RESETS = "/api/v1/password-resets"
NEW = "another horse battery"
HTML = {"Accept": "text/html"}
AGENT = "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database, mail=True) as running:
        yield running


async def sign_in_as(
    server: ApiServer, password: str = PASSWORD, email: str = EMAIL
) -> dict[str, str]:
    """A browser of its own: what it sends from now on."""
    content = {"email": email, "password": password}
    headers = {"User-Agent": AGENT, "Cookie": "none=1"}
    status, found, response = await server.ask("POST", LOGIN, content, token=None, headers=headers)
    assert status == 200, found
    cookie = response.headers["Set-Cookie"].partition(";")[0]
    server.client.cookie_jar.clear()
    return {"Cookie": cookie, "X-CSRF-Token": found["csrf"]}


async def status_of(server: ApiServer, method: str, path: str, content: Any, **more: Any) -> int:
    status, _, _ = await server.ask(method, path, content, token=None, **more)
    return status


async def can_sign_in(server: ApiServer, password: str) -> bool:
    content = {"email": EMAIL, "password": password}
    status = await status_of(server, "POST", LOGIN, content)
    server.client.cookie_jar.clear()
    return status == 200


async def newest_link(server: ApiServer) -> str:
    """The path of the link in the newest mail, once the job came by."""
    while await server.store.write(partial(reset_mails.queue_some, site=server.site)):
        pass
    statement = select(mail).where(mail.c.template == "password_reset").order_by(mail.c.id.desc())
    row = await server.store.read(lambda tx: tx.one(statement.limit(1)))
    assert row is not None
    text = unseal(MASTER_KEY, row.sealed, bound_to=bound_to(row.template, row.recipient)).decode()
    found = re.search(r'"(http[^"]+)"', text)
    assert found and found[1].startswith(f"{server.site.public_url}/password-reset/")
    return found[1].removeprefix(server.site.public_url)


async def test_a_new_password_leaves_only_the_browser_that_changed_it(server: ApiServer) -> None:
    here, there = await sign_in_as(server), await sign_in_as(server)
    path = "/api/v1/me/password"
    wrong = {"old_password": "not this one", "new_password": NEW}
    status, found, _ = await server.ask("POST", path, wrong, token=None, headers=here)
    assert (status, found["code"], found["field"]) == (401, "credentials_wrong", "old_password")
    right = wrong | {"old_password": PASSWORD}
    assert await status_of(server, "POST", path, right | {"new_password": "x"}, headers=here) == 422
    no_csrf = {"Cookie": here["Cookie"]}
    assert await status_of(server, "POST", path, right, headers=no_csrf) == 403
    assert (await server.ask("POST", path, right))[0] == 403  # an API token never may
    assert await status_of(server, "POST", path, right) == 401
    keyed = here | {"Idempotency-Key": "once"}
    done = await server.done("POST", path, right, token=None, headers=keyed)
    assert done == {"sign_ins_ended": 1}
    # Whoever did not get the answer asks again, though the old password is wrong by now.
    _, again, response = await server.ask("POST", path, right, token=None, headers=keyed)
    assert again == done and response.headers["Idempotency-Replayed"] == "true"
    assert await status_of(server, "POST", path, right, headers=here) == 401
    assert await status_of(server, "GET", "/api/v1/me", None, headers=here) == 200
    assert await status_of(server, "GET", "/api/v1/me", None, headers=there) == 401
    assert not await can_sign_in(server, PASSWORD)
    assert await can_sign_in(server, NEW)


async def test_guessing_the_old_password_is_slowed_down(server: ApiServer) -> None:
    here = await sign_in_as(server)
    wrong = {"old_password": "not this one", "new_password": NEW}
    for _ in range(7):
        assert await status_of(server, "POST", "/api/v1/me/password", wrong, headers=here) == 401
    assert server.slept_s == [1.0, 2.0]
    # Whoever signs in is not kept waiting by that.
    assert await can_sign_in(server, PASSWORD)
    assert server.slept_s == [1.0, 2.0]


async def test_an_unknown_address_is_answered_like_a_known_one(server: ApiServer) -> None:
    answers = []
    for email in (EMAIL, "nobody@example.org", EMAIL.upper()):
        status, found, response = await server.ask("POST", RESETS, {"email": email}, token=None)
        names = sorted(name for name in response.headers if name not in ("Date", "X-Request-Id"))
        answers.append((status, found, names))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][:2] == (200, {"mail": True})
    status, found, _ = await server.ask("POST", RESETS, {"email": "no address"}, token=None)
    assert (status, found["field"]) == (422, "email")
    evil = {"Origin": "https://evil.example"}
    assert await status_of(server, "POST", RESETS, {"email": EMAIL}, headers=evil) == 403


async def test_asking_often_is_slowed_down_by_address_alone(server: ApiServer) -> None:
    for number in range(7):
        content = {"email": f"n{number}@example.org"}
        assert await status_of(server, "POST", RESETS, content) == 200
    assert server.slept_s == [1.0, 2.0]
    assert await can_sign_in(server, PASSWORD) and server.slept_s == [1.0, 2.0]


async def test_a_link_over_the_api_ends_sign_ins_and_sets_no_cookie(
    server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    here = await sign_in_as(server)
    await server.done("POST", RESETS, {"email": EMAIL}, token=None)
    token = (await newest_link(server)).rpartition("/")[2]
    address = f"{RESETS}/{token}"
    assert await status_of(server, "POST", address, {"password": "short"}) == 422
    status, found, response = await server.ask("POST", address, {"password": NEW}, token=None)
    assert (status, found) == (200, {"sign_ins_ended": 1})
    assert "Set-Cookie" not in response.headers
    assert await status_of(server, "GET", "/api/v1/me", None, headers=here) == 401
    status, found, _ = await server.ask("POST", address, {"password": NEW}, token=None)
    assert (status, found["code"]) == (404, "link_over")
    assert not await can_sign_in(server, PASSWORD) and await can_sign_in(server, NEW)
    said = "".join(record.getMessage() for record in caplog.records)
    assert "password-resets/" in said and token not in said and NEW not in said


async def page(
    server: ApiServer, path: str, form: dict[str, str] | None = None, **headers: str
) -> tuple[int, str, aiohttp.ClientResponse]:
    method = "GET" if form is None else "POST"
    async with server.client.request(
        method, server.url + path, data=form, headers=HTML | headers, allow_redirects=False
    ) as response:
        return response.status, await response.text(), response


async def test_the_pages_lead_to_a_new_password_in_two_languages(server: ApiServer) -> None:
    status, text, _ = await page(server, "/login")
    assert status == 200 and 'href="/password-reset"' in text
    for language in ("en", "es"):
        words = {key: words_of(language).gettext(text) for key, text in SAID.items()}
        accepted: dict[str, Any] = {"Accept-Language": language}
        status, text, _ = await page(server, "/password-reset", **accepted)
        assert status == 200 and words["ask"] in text and f'<html lang="{language}"' in text
        assert "<script" not in text
        asked = f"/password-reset?lang={language}"
        status, text, _ = await page(server, asked, {"email": "x"})
        assert status == 422 and words["unfit_email"] in text
        status, text, _ = await page(server, asked, {"email": EMAIL})
        assert status == 200 and words["sent"] in text
        link = await newest_link(server) + f"?lang={language}"
        status, text, response = await page(server, link)
        assert status == 200 and words["choose"] in text
        assert response.headers["Referrer-Policy"] == "strict-origin"
        assert response.headers["Cache-Control"] == "no-store"
        status, text, _ = await page(server, link, {"password": "short"})
        assert status == 422 and words["unfit_password"] % {"least": 8, "most": 200} in text
        chosen = f"{NEW} {language}"
        evil: dict[str, Any] = {"Origin": "https://evil.example"}
        assert (await page(server, link, {"password": chosen}, **evil))[0] == 403
        status, text, response = await page(server, link, {"password": chosen})
        assert status == 200 and words["done"] in text and "Set-Cookie" not in response.headers
        assert await can_sign_in(server, chosen)
        for form in (None, {"password": chosen}):
            status, text, _ = await page(server, link, form)
            assert status == 404 and words["over"] in text


async def test_links_that_are_none_are_pages_not_errors(server: ApiServer) -> None:
    for token in ("x", "x" * 500, "%ff", "..%2f", "%00", "a%20b", "<script>"):
        for form in (None, {"password": NEW}, {}):
            status, text, _ = await page(server, f"/password-reset/{token}", form)
            assert status in (404, 422), (token, form, status)
            assert "<script>" not in text


async def test_without_mail_the_page_says_so_and_the_owner_gets_a_link(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database) as server:
        for form in (None, {"email": EMAIL}):
            status, text, _ = await page(server, "/password-reset", form)
            assert status == 200 and SAID["no_mail"] in text
        assert await server.done("POST", RESETS, {"email": EMAIL}) == {"mail": False}
        create = ("password-resets", "create", "--json", "--email")
        exit_code, made, error = await admin(server, *create, EMAIL)
        assert exit_code == 0 and "/password-reset/" in made, error
        exit_code, other, _ = await admin(server, *create, "a@example.org")
        assert exit_code == 0 and "link" not in other


async def test_sign_ins_are_listed_with_address_and_browser_and_ended(server: ApiServer) -> None:
    here, there = await sign_in_as(server), await sign_in_as(server)
    path = "/api/v1/me/sign-ins"
    found = (await server.done("GET", path, token=None, headers=here))["items"]
    assert sorted(one["this_one"] for one in found) == [False, True]
    for one in found:
        assert (one["address"], one["user_agent"]) == ("127.0.0.1", AGENT)
    (other,) = [one["id"] for one in found if not one["this_one"]]
    done = await server.done("DELETE", f"{path}/{other}", token=None, headers=here)
    assert done == {"ended": 1}
    assert await status_of(server, "GET", "/api/v1/me", None, headers=there) == 401
    third = await sign_in_as(server)
    assert await server.done("DELETE", path, token=None, headers=here) == {"ended": 1}
    assert await status_of(server, "GET", "/api/v1/me", None, headers=third) == 401
    ended = await server.done("DELETE", f"{path}?all=true", token=None, headers=here)
    assert ended == {"ended": 1}
    assert await status_of(server, "GET", "/api/v1/me", None, headers=here) == 401
    assert not await server.store.read(lambda tx: tx.all(select(sign_in)))
    assert (await server.ask("GET", path))[0] == 403


async def test_a_token_made_in_the_browser_works_for_a_script(server: ApiServer) -> None:
    here = await sign_in_as(server)
    content = {"name": "report", "scopes": ["read"], "expires_in_days": 30}
    key = {"Idempotency-Key": "k1"}
    path = "/api/v1/me/tokens"
    status, made, _ = await server.ask("POST", path, content, token=None, headers=here | key)
    assert status == 201
    again = await server.done("POST", path, content, token=None, headers=here | key)
    assert again == made
    assert (await server.ask("GET", "/api/v1/companies", token=made["token"]))[0] == 200
    status, _, _ = await server.ask(
        "POST", "/api/v1/companies", {"name": "Acme"}, token=made["token"]
    )
    assert status == 403
    assert (await server.ask("POST", path, content, token=made["token"]))[0] == 403
    deleted = await server.done("DELETE", f"{path}/{made['id']}", token=None, headers=here)
    assert deleted == {"id": made["id"]}
    assert (await server.ask("GET", "/api/v1/me", token=made["token"]))[0] == 401
    _, listed, error = await admin(server, "tokens", "list")
    assert "report" not in listed and "first" in listed, error


async def test_strangers_from_many_addresses_keep_the_owner_waiting_a_minute_at_most(
    tmp_path: Path, database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an account that there is cannot be told from one that there is not."""
    checked: list[str] = []

    def check(password: str, hash_text: str) -> bool:
        checked.append(hash_text)
        return password == PASSWORD

    monkeypatch.setattr("gateway.people.passwords.verify_password", check)
    async with api_server(tmp_path, database, behind_proxy=True) as server:
        seen: dict[str, tuple[Any, ...]] = {}
        for email in (EMAIL, "nobody@example.org"):
            answers = []
            for number in range(100):
                content = {"email": email, "password": "a guess"}
                headers = {"X-Forwarded-For": f"10.{len(seen)}.0.{number % 50}"}
                status, found, response = await server.ask(
                    "POST", LOGIN, content, token=None, headers=headers
                )
                found.pop("request_id")
                names = sorted(set(response.headers) - {"Date", "X-Request-Id"})
                answers.append((status, found, names, response.headers["Content-Length"]))
            seen[email] = (answers, list(server.slept_s), len(checked))
            server.slept_s.clear()
            checked.clear()
        assert seen[EMAIL] == seen["nobody@example.org"]
        answers, slept_s, checks = seen[EMAIL]
        assert len(answers) == checks == 100 and all(one == answers[0] for one in answers)
        assert slept_s[:4] == [1.0, 2.0, 4.0, 8.0] and max(slept_s) == 60.0
        for waited in ([60.0], []):
            server.slept_s.clear()
            new = {"X-Forwarded-For": "198.51.100.9"}
            content = {"email": EMAIL, "password": PASSWORD}
            await server.done("POST", LOGIN, content, token=None, headers=new)
            assert server.slept_s == waited


async def test_the_command_line_changes_the_owners_password(server: ApiServer) -> None:
    change = ("me", "change-password", "--old-password", "-", "--new-password", "-")
    exit_code, _, error = await admin(server, *change, typed=f"wrong one\n{NEW}\n")
    assert exit_code == 1 and "old_password" in error
    exit_code, _, error = await admin(server, *change, typed=f"{PASSWORD}\n{NEW}\n")
    assert exit_code == 0, error
    assert await can_sign_in(server, NEW)
    exit_code, _, error = await admin(server, "me", "change-password")
    assert exit_code == 2 or "old_password: missing" in error
