"""Dry runs over HTTP and by command: the same refusals, another answer, nothing kept."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from gateway.storage.address import Address
from gateway.storage.schema import device, idempotency, transfer
from gateway.storage.transaction import Transaction
from tests.admin_command import admin
from tests.api_server import ApiServer, api_server

pytestmark = pytest.mark.either_engine

S = "0000000001"
GRANTS = "/api/v1/credits/grants"


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


async def kept(server: ApiServer) -> list[int]:
    """How many transfers, devices and kept answers there are."""
    tables = (transfer, device, idempotency)

    def count(tx: Transaction) -> list[int]:
        return [tx.scalar(select(func.count()).select_from(table)) for table in tables]

    return await server.store.read(count)


async def test_the_answer_is_a_report_and_a_key_means_nothing(server: ApiServer) -> None:
    company_id = await server.company()
    content = {"company_id": company_id, "credits": 2}
    key = {"Idempotency-Key": "one"}
    for _ in range(2):
        status, found, response = await server.ask(
            "POST", f"{GRANTS}?dry_run=true", content, headers=key
        )
        assert status == 200 and found["dry_run"] is True
        assert "Idempotency-Replayed" not in response.headers
        assert found["would"]["days"] == 60 and found["transfers"][0]["kind"] == "grant"
        assert found["left"] == [{"company_id": company_id, "days": 60, "credits": 2}]
    assert await kept(server) == [0, 0, 0]
    status, found, _ = await server.ask("POST", GRANTS, content, headers=key)
    assert status == 201
    # The key is of the real thing now; a dry run still looks at it as little.
    status, found, _ = await server.ask("POST", f"{GRANTS}?dry_run=1", content, headers=key)
    assert (status, found["left"][0]["days"]) == (200, 120)


@pytest.mark.parametrize(
    ("method", "path", "content", "field"),
    [
        ("POST", f"{GRANTS}?dry_run=perhaps", {}, "dry_run"),
        ("POST", f"{GRANTS}?dry_run=true&dry_run=false", {}, "dry_run"),
        ("POST", GRANTS, {"dry_run": True}, "dry_run"),
        ("POST", "/api/v1/clock/accept?dry_run=true", {}, "dry_run"),
        ("GET", "/api/v1/ledger?dry_run=true", None, "dry_run"),
    ],
)
async def test_what_cannot_be_meant_changes_nothing(
    server: ApiServer, method: str, path: str, content: Any, field: str
) -> None:
    company_id = await server.company()
    given = content if content is None else {"company_id": company_id, "credits": 1} | content
    if "clock" in path:
        given = content
    status, found, _ = await server.ask(method, path, given)
    assert (status, found["code"], found["field"]) == (422, "validation", field)
    assert await kept(server) == [0, 0, 0]


async def test_false_is_the_real_thing_and_strangers_are_told_the_same(server: ApiServer) -> None:
    company_id = await server.company()
    content = {"company_id": company_id, "credits": 1}
    status, _, _ = await server.ask("POST", f"{GRANTS}?dry_run=true", content, token="fgt_no")
    assert status == 401
    status, _, _ = await server.ask("POST", f"{GRANTS}?dry_run=false", content)
    assert status == 201
    path = f"/api/v1/devices/{S}/activate"
    answers = [(await server.ask("POST", path + more, {}))[:2] for more in ("", "?dry_run=true")]
    for _, found in answers:
        found.pop("request_id")
    assert answers[0] == answers[1] and answers[0][0] == 404


async def test_a_delete_is_tried_out_too(server: ApiServer) -> None:
    company_id = await server.company()
    await server.done("POST", GRANTS, {"company_id": company_id, "credits": 1})
    made = {"serial": S, "company_id": company_id, "activate": True}
    await server.done("POST", "/api/v1/devices", made)
    found = await server.done("DELETE", f"/api/v1/devices/{S}?dry_run=true")
    assert found["would"]["days_returned"] == 30
    assert found["left"] == [{"company_id": company_id, "days": 30, "credits": 1}]
    assert (await server.done("GET", f"/api/v1/devices/{S}"))["service"]["state"] == "active"


async def test_the_document_tells_who_can_be_tried_out(server: ApiServer) -> None:
    document = await server.done("GET", "/api/v1/openapi.json")
    grant = document["paths"][GRANTS]["post"]
    assert "dry_run" in {one["name"] for one in grant["parameters"]}
    assert set(grant["responses"]) >= {"200", "201"}
    shown = document["paths"]["/api/v1/devices/{serial}/extend"]["post"]["responses"]["200"]
    assert len(shown["content"]["application/json"]["schema"]["oneOf"]) == 2
    listed = document["paths"]["/api/v1/ledger"]["get"]["parameters"]
    assert "dry_run" not in {one["name"] for one in listed}


async def test_by_command(server: ApiServer) -> None:
    company_id = await server.company()
    grant = ("credits", "grant", "--company-id", company_id, "--credits", "3")
    code, out, error = await admin(server, *grant, "--dry-run")
    assert code == 0 and "nothing was changed" in error
    assert "grant" in out and "90" in out and "issuer" in out
    code, out, _ = await admin(server, *grant, "--dry-run", "--json")
    assert code == 0 and json.loads(out)["left"][0]["credits"] == 3
    assert await kept(server) == [0, 0, 0]
    code, out, error = await admin(server, "devices", "activate", S, "--dry-run")
    assert (code, out) == (1, "") and "not_found" in error
    code, _, error = await admin(server, "companies", "list", "--dry-run")
    assert code == 2
    code, out, _ = await admin(server, "clock", "accept")
    assert code == 0 and "was_in_doubt" in out
