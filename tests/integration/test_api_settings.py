"""Settings and what they demand, by the API: unknown names, wrong values, the next request."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.settings import Key
from gateway.storage.address import Address
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server

pytestmark = pytest.mark.either_engine


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"languages": "es"}, "languages", "nearest known: language"),
        ({"language": "fr"}, "language", "language: "),
        ({"brand": {"logo": "javascript:alert(1)"}}, "brand", "brand: "),
        ({"brand": {"colour": "red"}}, "brand", "brand: "),
        ({"brand": "Acme"}, "brand", "brand: "),
        ({"retention": {"raw_days": 0}}, "retention", "retention: "),
        ({"intervals": {"send_s": 86_401}}, "intervals", "intervals: "),
        ({"idle_minutes": 4}, "idle_minutes", "idle_minutes: "),
        ({"idle_minutes": 721}, "idle_minutes", "idle_minutes: "),
        ({"idle_minutes": True}, "idle_minutes", "idle_minutes: "),
        ({"data_budget_mb": -1}, "data_budget_mb", "data_budget_mb: "),
        ({"time_zone": "Mars/Olympus"}, "time_zone", "for example Europe/Madrid"),
        ({"billing_email": "nobody"}, "billing_email", "billing_email: "),
        ({"inside": "closed"}, "inside", "inside: "),
    ],
)
async def test_what_does_not_fit_names_the_setting(
    server: ApiServer, given: dict[str, Any], field: str, says: str
) -> None:
    path = f"/api/v1/companies/{await server.company()}/settings"
    status, found, _ = await server.ask("PATCH", path, {"shares": False, **given})
    assert (status, found["code"], found.get("field")) == (422, "validation", field), found
    assert says in found["detail"]
    shown = (await server.done("GET", path))["settings"]
    assert shown.keys() == set(Key) and shown["shares"]["value"] is True


async def test_a_value_is_set_and_with_null_inherited_again(server: ApiServer) -> None:
    top = await server.company()
    below = await server.company("Below", parent_id=top)
    brand = {"name": "Acme", "logo": "https://acme.example/logo.png", "support": "Call us."}
    await server.done("PATCH", f"/api/v1/companies/{top}/settings", {"brand": brand})
    path = f"/api/v1/companies/{below}/settings"
    inherited = {"value": brand, "set_here": False, "inherited": True, "origin": "Acme"}
    assert (await server.done("GET", path))["settings"]["brand"] == inherited
    changed = await server.done("PATCH", path, {"brand": {"name": "Below"}})
    own = {"name": "Below", "logo": "", "support": ""}
    assert changed["company_id"] == below
    assert changed["settings"]["brand"]["value"] == own and changed["settings"]["brand"]["set_here"]
    assert (await server.done("PATCH", path, {"brand": None}))["settings"]["brand"] == inherited


async def test_a_demand_is_in_force_at_the_next_request_for_tokens_and_sign_ins(
    server: ApiServer,
) -> None:
    company = await server.company()
    path = f"/api/v1/companies/{company}/settings"
    signed_in = {"email": EMAIL, "password": PASSWORD}
    await server.done("POST", "/api/v1/login", signed_in, token=None)
    await server.done("PATCH", path, {"require_totp": True})
    for token in ("", None):
        for method, where, content in (
            ("GET", path, None),
            ("GET", "/api/v1/devices", None),
            ("GET", "/api/v1/companies", None),
            ("GET", f"/api/v1/companies/{company}", None),
        ):
            status, found, _ = await server.ask(method, where, content, token=token)
            assert (status, found["code"]) == (403, "second_factor_needed"), where
        assert (await server.done("GET", "/api/v1/me", token=token))["second_factor"] is False
    status, found, _ = await server.ask("PATCH", path, {"require_totp": False})
    assert (status, found["code"]) == (403, "second_factor_needed")


async def test_idling_is_measured_between_requests(server: ApiServer) -> None:
    company = await server.company()
    path = f"/api/v1/companies/{company}/settings"
    await server.done("PATCH", path, {"idle_minutes": 5})
    signed_in = {"email": EMAIL, "password": PASSWORD}
    await server.done("POST", "/api/v1/login", signed_in, token=None)
    for _ in range(3):
        server.clock.moved_ms += 4 * 60_000
        await server.done("GET", "/api/v1/me", token=None)
    server.clock.moved_ms += 5 * 60_000
    status, found, _ = await server.ask("GET", "/api/v1/me", token=None)
    assert (status, found["code"]) == (401, "signed_out")
