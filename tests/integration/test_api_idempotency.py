"""An Idempotency-Key: one effect, the same answer, whoever races."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.domain import ledger
from gateway.domain.rights import Scope
from gateway.people.accounts import make_person, make_token
from gateway.people.sign_ins import TOUCH_MS
from gateway.storage.address import Address
from gateway.storage.schema import api_token, idempotency, transfer
from tests.api_server import PASSWORD, ApiServer, api_server

GRANTS = "/api/v1/credits/grants"


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


async def days(server: ApiServer, company_id: str) -> int:
    found = await server.done("GET", f"/api/v1/companies/{company_id}/credits")
    return int(found["days"])


async def test_the_same_request_has_one_effect_and_the_same_answer(server: ApiServer) -> None:
    company_id = await server.company()
    content = {"company_id": company_id, "credits": 2}
    key = {"Idempotency-Key": "k-1"}
    status, first, response = await server.ask("POST", GRANTS, content, headers=key)
    assert status == 201 and "Idempotency-Replayed" not in response.headers
    status, again, response = await server.ask("POST", GRANTS, content, headers=key)
    assert status == 201 and again == first
    assert response.headers["Idempotency-Replayed"] == "true"
    assert await days(server, company_id) == 60
    (token,) = await server.store.read(lambda tx: tx.all(select(api_token.c.id)))
    assert first["operation_id"] == ledger.operation_id(f"user:1/token:{token.id}", "k-1")
    for changed in (
        server.ask("POST", GRANTS, content | {"credits": 3}, headers=key),
        server.ask("POST", GRANTS + "?note=x", content, headers=key),
        server.ask("POST", "/api/v1/companies", content, headers=key),
    ):
        status, found, _ = await changed
        assert status in (409, 422) and found["code"] in ("idempotency_conflict", "validation")
    status, found, _ = await server.ask("POST", GRANTS, content | {"credits": 3}, headers=key)
    assert (status, found["code"]) == (409, "idempotency_conflict")
    assert await days(server, company_id) == 60


async def test_racing_requests_with_one_key_spend_once(server: ApiServer) -> None:
    company_id = await server.company()
    content = {"company_id": company_id, "credits": 1}
    answers = await asyncio.gather(
        *(
            server.ask("POST", GRANTS, content, headers={"Idempotency-Key": "race"})
            for _ in range(20)
        )
    )
    assert {status for status, _, _ in answers} == {201}
    assert len({found["id"] for _, found, _ in answers}) == 1
    replayed = [r.headers.get("Idempotency-Replayed") for _, _, r in answers]
    assert replayed.count("true") == 19
    assert await days(server, company_id) == 30


async def test_refusals_are_not_kept(server: ApiServer) -> None:
    company_id = await server.company()
    device = {"serial": "0123456789", "company_id": company_id, "activate": True}
    key = {"Idempotency-Key": "later"}
    status, found, _ = await server.ask("POST", "/api/v1/devices", device, headers=key)
    assert (status, found["code"]) == (409, "credits_insufficient")
    await server.done("POST", GRANTS, {"company_id": company_id, "credits": 1})
    status, _, response = await server.ask("POST", "/api/v1/devices", device, headers=key)
    assert status == 201 and "Idempotency-Replayed" not in response.headers


async def test_keys_belong_to_their_principal(server: ApiServer) -> None:
    company_id = await server.company()
    other = await server.store.write(
        lambda tx: make_token(
            tx, make_person(tx, "b@example.org", "B", "x", operator=True), "theirs"
        )
    )
    key = {"Idempotency-Key": "shared"}
    content = {"company_id": company_id, "credits": 1}
    await server.done("POST", GRANTS, content, headers=key)
    await server.done("POST", GRANTS, content, headers=key, token=other)
    assert await days(server, company_id) == 60


async def test_keys_of_two_tokens_of_one_person_are_apart(server: ApiServer) -> None:
    """A token must not get what its person, or another token, was answered."""
    company_id = await server.company()
    content = {"company_id": company_id, "credits": 1}
    narrow = await server.store.write(
        lambda tx: make_token(tx, 1, "narrow", scopes=[Scope.READ], companies=[int(company_id)])
    )
    wide = await server.store.write(lambda tx: make_token(tx, 1, "wide"))
    key = {"Idempotency-Key": "same"}
    assert (await server.ask("POST", GRANTS, content, headers=key))[0] == 201
    status, found, response = await server.ask("POST", GRANTS, content, headers=key, token=narrow)
    assert (status, found["code"]) == (403, "forbidden")
    assert "Idempotency-Replayed" not in response.headers
    assert (await server.ask("POST", GRANTS, content, headers=key, token=wide))[0] == 201
    assert await days(server, company_id) == 60


async def test_the_use_of_a_token_is_noted_seldom(server: ApiServer) -> None:
    async def used_at() -> int | None:
        found = await server.store.read(lambda tx: tx.all(select(api_token.c.used_at)))
        assert len(found) == 1
        return None if found[0].used_at is None else int(found[0].used_at)

    assert await used_at() is None
    await server.company()
    first = await used_at()
    assert first is not None
    await server.done("GET", "/api/v1/me")
    assert await used_at() == first
    server.clock.moved_ms += TOUCH_MS
    await server.done("GET", "/api/v1/me")
    assert (await used_at() or 0) > first


async def test_a_replay_needs_a_principal_that_is_still_good(server: ApiServer) -> None:
    company_id = await server.company()
    key = {"Idempotency-Key": "k"}
    content = {"company_id": company_id, "credits": 1}
    await server.done("POST", GRANTS, content, headers=key)
    status, _, _ = await server.ask("POST", GRANTS, content, headers=key, token="fgt_other")
    assert status == 401


async def test_delete_takes_a_key_too(server: ApiServer) -> None:
    company_id = await server.company()
    device = {"serial": "0123456789", "company_id": company_id, "activate": "later"}
    await server.done("POST", "/api/v1/devices", device)
    key = {"Idempotency-Key": "del"}
    path = "/api/v1/devices/0123456789"
    first = await server.done("DELETE", path, headers=key)
    status, again, response = await server.ask("DELETE", path, headers=key)
    assert 200 <= status < 300 and again == first
    assert response.headers["Idempotency-Replayed"] == "true"
    status, _, _ = await server.ask("DELETE", path)
    assert status == 404


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "emoji-\u00e9"])
async def test_odd_keys_are_refused(server: ApiServer, key: str) -> None:
    status, found, _ = await server.ask(
        "POST", "/api/v1/companies", {"name": "x"}, headers={"Idempotency-Key": key}
    )
    assert (status, found["field"]) == (422, "Idempotency-Key")


async def test_what_is_kept_shows_neither_request_nor_answer(server: ApiServer) -> None:
    company_id = await server.company()
    await server.done(
        "POST",
        f"/api/v1/companies/{company_id}/members",
        {"email": "a@example.org", "role": "billing", "password": PASSWORD},
        headers={"Idempotency-Key": "secret"},
    )
    joined = await server.done(
        "POST",
        f"/api/v1/companies/{company_id}/join-codes",
        {"uses": 2},
        headers={"Idempotency-Key": "join"},
    )
    rows = await server.store.read(lambda tx: tx.all(select(idempotency)))
    assert len(rows) == 2
    for row in rows:
        kept = bytes(row.body) + bytes(row.request_hash)
        assert b"example.org" not in kept and joined["join"].encode() not in kept
    assert await server.store.read(lambda tx: len(tx.all(select(transfer)))) == 0
