"""Erasing over HTTP: by the password, and without a trace in the log and in what is answered."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.storage.address import Address
from tests.api_server import ApiServer, api_server

pytestmark = pytest.mark.either_engine

API = "/api/v1"
EMAIL, NAME, PASSWORD = "zoraida@example.org", "Zoraida Quintanilla", "correct horse of mine"
AGENT = {"User-Agent": "Zq9/1"}
TRACES = ("zoraida", "quintanilla", "zq9")


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


async def sign_in(server: ApiServer, password: str = PASSWORD) -> tuple[int, Any]:
    given = {"email": EMAIL, "password": password}
    status, found, _ = await server.ask("POST", f"{API}/login", given, token=None, headers=AGENT)
    return status, found


async def person(server: ApiServer, company: str) -> tuple[str, dict[str, str]]:
    """Somebody who was invited and signed in; the number, and what the browser sends along."""
    asked = {"email": EMAIL, "company_id": company, "role": "advanced"}
    made = await server.done("POST", f"{API}/invitations", asked)
    token = made["link"].rpartition("/")[2]
    given = {"token": token, "name": NAME, "password": PASSWORD}
    await server.done("POST", f"{API}/invitations/accept", given, token=None, headers=AGENT)
    assert (await sign_in(server, "wrong password"))[0] == 401
    status, entered = await sign_in(server)
    assert status == 200
    return str(entered["me"]["id"]), {"X-CSRF-Token": entered["csrf"], **AGENT}


async def answers(server: ApiServer, company: str) -> str:
    """What an operator and administrator can read of people."""
    paths = (
        "/audit?limit=500",
        "/audit/export?format=json",
        "/users?limit=500",
        f"/companies/{company}/export",
        f"/companies/{company}/members",
        "/invitations",
    )
    found = [str(await server.done("GET", f"{API}{path}")) for path in paths]
    return "\n".join(found).lower()


def found_in(text: str) -> list[str]:
    return [one for one in TRACES if one in text.lower()]


async def test_oneself_by_the_password_without_a_trace(
    server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    company = await server.company()
    number, browser = await person(server, company)
    assert found_in(await answers(server, company)) == list(TRACES)
    mine = await server.done("GET", f"{API}/me/export", token=None, headers=AGENT)
    assert mine["me"]["email"] == EMAIL
    assert [one["role"] for one in mine["memberships"]] == ["advanced"]
    status, refused, _ = await server.ask(
        "DELETE", f"{API}/me", {"password": "wrong password"}, token=None, headers=browser
    )
    assert (status, refused["code"]) == (401, "credentials_wrong")
    done = await server.done(
        "DELETE", f"{API}/me", {"password": PASSWORD}, token=None, headers=browser
    )
    assert done["id"] == number
    status, refused, _ = await server.ask("GET", f"{API}/me", token=None, headers=browser)
    assert (status, refused["code"]) == (401, "signed_out")
    assert (await sign_in(server))[0] == 401
    assert found_in(await answers(server, company)) == []
    # The gateway says when somebody signs in, and not who it is nor from where.
    said = [one.getMessage() for one in caplog.records if one.name.startswith("gateway")]
    assert f"signed in person={number}" in said
    assert found_in("\n".join(said)) == []


async def test_an_operator_erases_and_nobody_else_learns_of_accounts(server: ApiServer) -> None:
    company = await server.company()
    number, browser = await person(server, company)
    for method, path in (("GET", "/users"), ("POST", f"/users/{number}/erase")):
        for who in (browser, {}):
            status, refused, _ = await server.ask(
                method, f"{API}{path}", {}, token=None if who else "x", headers=who
            )
            assert (status, refused["code"]) in ((403, "forbidden"), (401, "signed_out"))
    listed = await server.done("GET", f"{API}/users?email={EMAIL.upper()}")
    assert [(one["id"], one["name"]) for one in listed["items"]] == [(number, NAME)]
    key = {"Idempotency-Key": "erase-1"}
    for _ in range(2):
        done = await server.done("POST", f"{API}/users/{number}/erase", {}, headers=key)
        assert done["id"] == number
    status, _, _ = await server.ask("POST", f"{API}/users/{number}/erase", {})
    assert status == 404
    status, refused, _ = await server.ask("POST", f"{API}/users/1/erase", {})
    assert (status, refused["code"]) == (409, "last_administrator")
