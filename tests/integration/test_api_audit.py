"""The audit over HTTP: sign-ins and those that failed, repeated requests, files."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from sqlalchemy import select

from gateway.api.attempt_writing import write_failed_attempts
from gateway.api.services import SERVICES, Services
from gateway.operations.failed_attempts import SIGN_IN_FAILED, Failure, Failures
from gateway.storage.address import Address
from gateway.storage.schema import audit, audit_personal
from gateway.storage.store import Store
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server
from tests.databases import store_of

pytestmark = pytest.mark.either_engine

LOGIN = "/api/v1/login"
RIGHT = {"email": EMAIL, "password": PASSWORD}
AUDIT = "/api/v1/audit"
WRITTEN_S_MAX = 30.0


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


@dataclass(frozen=True)
class Failed:
    """What the task uses of the services."""

    store: Store
    failures: Failures = field(default_factory=Failures)


async def entries(server: ApiServer, verb: str) -> list[Any]:
    found = await server.done("GET", f"{AUDIT}?verb={verb}&limit=500")
    return list(found["items"])


async def test_signing_in_and_out_are_entries(server: ApiServer) -> None:
    agent = {"User-Agent": "Browser \udcff/1"}
    signed_in = await server.done("POST", LOGIN, RIGHT, token=None, headers=agent)
    csrf = {"X-CSRF-Token": signed_in["csrf"]}
    await server.done("POST", "/api/v1/logout", {}, token=None, headers=csrf)
    [entered] = await entries(server, "people.sign_in")
    [left] = await entries(server, "people.sign_out")
    assert entered["sentence"] == "Olga (user:1) signed in."
    assert left["sentence"] == "Olga (user:1) signed out."
    assert entered["personal"]["address"] == "127.0.0.1"
    assert entered["personal"]["email"] == EMAIL
    assert entered["personal"]["user_agent"].startswith("Browser ")
    assert PASSWORD not in str(entered)


async def test_sign_ins_that_failed_are_entries_whoever_it_was(
    tmp_path: Path, database: Address
) -> None:
    mistyped = "my-secret-password"
    async with api_server(tmp_path, database) as server:
        for email in (EMAIL, EMAIL, EMAIL.upper(), f"{mistyped}@example.org"):
            content = {"email": email, "password": "wrong-password"}
            status, _, _ = await server.ask("POST", LOGIN, content, token=None)
            assert status == 401
    # What was not written by then is written when the application ends.
    store = store_of(database, lambda: 1)
    try:
        rows = await store.read(lambda tx: tx.all(select(audit).order_by(audit.c.id)))
        values = await store.read(lambda tx: tx.all(select(audit_personal)))
    finally:
        await asyncio.to_thread(store.close)
    failed = [row for row in rows if row.verb == "people.sign_in_failed"]
    times = {
        subject: sum(
            int(json.loads(row.detail)["times"]) for row in failed if row.subject == subject
        )
        for subject in ("1", "")
    }
    assert times == {"1": 3, "": 1}
    assert {row.actor for row in failed} == {"anonymous"}
    assert {value.value for value in values} == {"127.0.0.1"}
    assert mistyped not in str(rows) + str(values)


async def test_a_gateway_writes_what_failed_while_it_runs(server: ApiServer) -> None:
    services = Failed(server.store)
    app = web.Application()
    app[SERVICES] = cast(Services, services)
    task = asyncio.create_task(write_failed_attempts(app))
    services.failures.note(Failure(SIGN_IN_FAILED, "anonymous", "192.0.2.1"))
    async with asyncio.timeout(WRITTEN_S_MAX):
        while not (found := await entries(server, SIGN_IN_FAILED)):
            pass  # asked again over HTTP
    assert found[0]["detail"] == {"times": 1}
    assert found[0]["sentence"] == "anonymous could not sign in."
    services.failures.note(Failure(SIGN_IN_FAILED, "anonymous", "192.0.2.1"))
    task.cancel()  # as at the gateway's end
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await entries(server, SIGN_IN_FAILED)) == 2


async def test_a_repeated_request_is_one_entry_and_a_refused_one_none(server: ApiServer) -> None:
    company = await server.company()
    key = {"Idempotency-Key": "k-1"}
    content = {"company_id": company, "credits": 2}
    for _ in range(2):
        await server.done("POST", "/api/v1/credits/grants", content, headers=key)
    status, _, _ = await server.ask("POST", "/api/v1/credits/grants", {**content, "credits": 0})
    assert status == 422
    dry = "/api/v1/credits/grants?dry_run=true"
    await server.done("POST", dry, content)
    assert len(await entries(server, "credits.grant")) == 1
    assert len(await entries(server, "companies.create")) == 1


async def test_what_one_does_to_an_account_is_on_record(server: ApiServer) -> None:
    company = await server.company()
    member = {"email": "ann@example.org", "role": "basic", "password": PASSWORD, "name": "Ann"}
    await server.done("POST", f"/api/v1/companies/{company}/members", member)
    signed_in = await server.done("POST", LOGIN, RIGHT, token=None)
    how: dict[str, Any] = {"token": None, "headers": {"X-CSRF-Token": signed_in["csrf"]}}
    made = await server.done("POST", "/api/v1/me/tokens", {"name": "t", "scopes": ["read"]}, **how)
    await server.done("DELETE", f"/api/v1/me/tokens/{made['id']}", **how)
    changed = {"old_password": PASSWORD, "new_password": "another long password"}
    await server.done("POST", "/api/v1/me/password", changed, **how)
    items = (await server.done("GET", f"{AUDIT}?limit=500"))["items"]
    verbs = ["me.change-password", "tokens.delete", "tokens.create", "people.sign_in"]
    assert [item["verb"] for item in items] == [*verbs, "members.create", "companies.create"]
    assert items[4]["company_id"] == company and items[4]["personal"]["email"] == "ann@example.org"
    for secret in (PASSWORD, "another long password", made["token"]):
        assert secret not in str(items)


async def test_the_audit_is_a_file_too(server: ApiServer) -> None:
    await server.company("Böhm")
    _, found, response = await server.ask("GET", f"{AUDIT}/export?format=csv")
    assert response.content_type == "text/csv"
    assert found.decode().startswith("id,at,actor,verb,company,serial,subject,sentence,detail\r\n")
    assert "Böhm" in found.decode()
    told = await server.done("GET", f"{AUDIT}/export?format=json&limit=20000")
    assert [item["verb"] for item in told["items"]] == ["companies.create"]
    status, _, _ = await server.ask("GET", f"{AUDIT}/export?limit=20001")
    assert status == 422
    status, _, _ = await server.ask("GET", f"{AUDIT}/export", token=None)
    assert status == 401
