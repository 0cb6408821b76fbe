"""Trying out credit codes is slowed down, and nobody else waits for it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.people import throttle
from gateway.storage.address import Address
from tests.api_server import ApiServer, api_server

REDEEM = "/api/v1/credits/codes/redeem"


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


async def redeem(server: ApiServer, company_id: str, code: str, query: str = "") -> str:
    content = {"company_id": company_id, "code": code}
    status, found, _ = await server.ask("POST", REDEEM + query, content)
    return "ok" if status == 200 else str(found["code"])


async def make(server: ApiServer, company_id: str) -> str:
    content = {"company_id": company_id, "credits": 1}
    return str((await server.done("POST", "/api/v1/credits/codes", content))["code"])


async def test_wrong_codes_are_answered_ever_more_slowly(server: ApiServer) -> None:
    acme = await server.company()
    await server.done("POST", "/api/v1/credits/grants", {"company_id": acme, "credits": 3})
    codes = [await make(server, acme) for _ in range(2)]
    # A dry run would tell a guesser as much.
    for query in ("", "?dry_run=true") * 3:
        assert await redeem(server, acme, "a" * 32, query) == "credit_code_unknown"
    assert server.slept_s == [1.0]
    # A right one waits as well, and forgives nothing; what is not about the code does not count.
    assert await redeem(server, acme, codes[0]) == "ok"
    assert await redeem(server, acme, codes[0]) == "credit_code_used"
    assert await redeem(server, "9999", codes[1]) == "not_found"
    assert server.slept_s == [1.0, 2.0, 2.0, 2.0]
    assert await redeem(server, acme, "b" * 32) == "credit_code_unknown"
    assert await redeem(server, acme, codes[1]) == "ok"
    assert server.slept_s[4:] == [2.0, 4.0]
    # Signing in and everything else goes on at once.
    wrong = {"email": "nobody@example.org", "password": "wrong one"}
    await server.ask("POST", "/api/v1/login", wrong, token=None)
    await server.done("GET", f"/api/v1/companies/{acme}/credits")
    assert len(server.slept_s) == 6
    server.clock.moved_ms += 16 * 60_000
    assert await redeem(server, acme, "c" * 32) == "credit_code_unknown"
    assert len(server.slept_s) == 6


async def test_who_may_not_redeem_at_all_does_not_count(server: ApiServer) -> None:
    acme = await server.company()
    content = {"company_id": acme, "code": "a" * 32}
    for _ in range(8):
        status, found, _ = await server.ask("POST", REDEEM, content, token=None)
        assert (status, found["code"]) == (401, "signed_out")
        assert await redeem(server, acme, "\0") == "validation"
    assert await redeem(server, acme, "b" * 32) == "credit_code_unknown"
    assert server.slept_s == []


async def test_many_that_wait_at_once_are_too_many(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = await server.company()
    with monkeypatch.context() as patch:
        patch.setattr(throttle, "WAITING_OF_ONE_ADDRESS_MAX", 0)
        assert await redeem(server, acme, "a" * 32) == "too_many_attempts"
    assert await redeem(server, acme, "a" * 32) == "credit_code_unknown"
