"""Every route of the API: the shape of failures, who is let in, bad bodies, limits."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from yarl import URL

from gateway.api.catalogue import PREFIX, all_operations
from gateway.api.openapi import errors_of
from gateway.domain.refusals import STATUS, Code
from gateway.domain.rights import Right
from gateway.operations import people
from gateway.people.accounts import make_token
from gateway.storage.address import Address
from gateway.storage.store import StoreBusy
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server

pytestmark = pytest.mark.either_engine

ENDLESS = frozenset({"events.follow"})  # it answers as long as one listens


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


def check_problem(status: int, found: Any, response: Any) -> None:
    """The one shape of every failure."""
    assert response.content_type == "application/problem+json"
    assert set(found) - {"field"} == {"type", "title", "status", "detail", "code", "request_id"}
    assert found["status"] == status
    usual, title = STATUS[Code(found["code"])]
    assert usual == status or found["code"] in ("validation", "internal")
    assert found["title"] == title and found["detail"]
    assert found["type"] == f"/api/docs#problem-{found['code']}"
    assert response.headers["X-Request-Id"] == found["request_id"]
    for name in ("Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy"):
        assert name in response.headers
    assert response.headers["Cache-Control"] == "no-store"
    assert "aiohttp" not in response.headers["Server"]


async def test_every_route_fails_in_one_shape_and_lets_nobody_in(server: ApiServer) -> None:
    walked = 0
    for op in all_operations():
        path = PREFIX + op.path.format(**dict.fromkeys(op.path_fields, "9999999999"))
        # Nobody in particular is told to sign in, whatever else is wrong with the request.
        for content in ({}, {"nonsense": 1}):
            sent = content if op.writes else None
            status, found, response = await server.ask(op.method, path, sent, token=None)
            check_problem(status, found, response)
            wanted = 422 if op.right is Right.PUBLIC else 401
            assert status == wanted, (op.name, found)
        status, found, response = await server.ask(op.method, path, token="fgt_wrong")
        assert status == wanted
        # An operator without a role in any company finds nothing, or is told what is missing.
        if op.name not in ENDLESS:
            status, found, response = await server.ask(op.method, path, {} if op.writes else None)
            if status >= 400:
                check_problem(status, found, response)
                assert Code(found["code"]) in errors_of(op), op.name
        # Unknown fields are refused everywhere.
        query = "" if op.writes else "?nonsense=1"
        sent = {"nonsense": 1} if op.writes else None
        status, found, response = await server.ask(op.method, path + query, sent)
        if op.right is Right.OWN_ACCOUNT:
            # Not for tokens at all, whatever is sent.
            assert (status, found["code"]) == (403, "forbidden"), op.name
        else:
            assert status == 422 and found["field"] == "nonsense", op.name
        walked += 1
    assert walked > 20
    for method, path, wanted in (
        ("GET", "/nothing", 404),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v1/../../etc/passwd", 404),
        ("PUT", "/api/v1/me", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/static/nothing.js", 404),
        ("GET", "/static/..%2f..%2fpages.py", 404),
    ):
        status, found, response = await server.ask(method, path)
        assert status == wanted, path
        check_problem(status, found, response)
    assert server.telemetry.errors.total() == 0


async def test_bad_bodies_change_nothing_and_are_told_apart(server: ApiServer) -> None:
    path = "/api/v1/companies"
    for data, status, said in (
        (b"[" * 50_000, 422, "deep"),
        (b'{"name": NaN}', 422, "JSON"),
        (b'{"name": "\xff\xfe"}', 422, "JSON"),
        (b'{"name": 5}', 422, "text"),
        (b'{"name": "x", "parent_limit": 99999999999999999999}', 422, ""),
        (b'{"name": "a\\u0000b"}', 422, "stored"),
        (b"name=x", 422, "JSON"),
        (b'{"name": "' + b"x" * 70_000 + b'"}', 413, "bytes"),
        (b"x" * 3_000_000, 413, "bytes"),
    ):
        found_status, found, response = await server.ask("POST", path, data=data)
        assert found_status == status, (data[:40], found)
        assert said in found["detail"]
        check_problem(status, found, response)
    listed = await server.done("GET", path)
    assert listed["items"] == []


async def test_a_chunked_body_has_the_same_limit(server: ApiServer) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 4_096

    async with server.client.post(
        f"{server.url}/api/v1/companies",
        data=pieces(),
        headers={"Authorization": f"Bearer {server.token}"},
    ) as response:
        assert response.status == 413


async def test_rights_are_those_of_the_moment(server: ApiServer) -> None:
    company_id = await server.company()
    made = await server.done(
        "POST",
        f"/api/v1/companies/{company_id}/members",
        {"email": "bill@example.org", "role": "billing", "password": PASSWORD},
    )
    person_id = int(made["person_id"])
    token = await server.store.write(lambda tx: make_token(tx, person_id, "his"))
    me = await server.done("GET", "/api/v1/me", token=token)
    assert [
        {name: one[name] for name in ("company_id", "company_name", "role")}
        for one in me["memberships"]
    ] == [{"company_id": company_id, "company_name": "Acme", "role": "billing"}]
    member = {"email": "x@y.z", "role": "billing"}
    # Sees the company and its credits; spends nothing, manages nobody, grants nothing.
    await server.done("GET", f"/api/v1/companies/{company_id}/credits", token=token)
    for method, path, content, wanted in (
        ("POST", "/api/v1/devices", {"serial": "0123456789", "company_id": company_id}, 403),
        ("POST", "/api/v1/credits/grants", {"company_id": company_id, "credits": 1}, 403),
        ("GET", f"/api/v1/companies/{company_id}/members", None, 403),
        ("POST", f"/api/v1/companies/{company_id}/members", member, 403),
        ("GET", "/status", None, 403),
    ):
        status, found, response = await server.ask(method, path, content, token=token)
        assert status == wanted, (path, found)
        check_problem(status, found, response)
    other = await server.company("Other")
    foreign = await server.ask("GET", f"/api/v1/companies/{other}", token=token)
    missing = await server.ask("GET", "/api/v1/companies/999", token=token)
    for found in (foreign[1], missing[1]):
        found.pop("request_id")
    assert foreign[0] == missing[0] == 404 and foreign[1] == missing[1]
    # The token dies with its time.
    server.clock.moved_ms += 3_651 * 86_400_000
    status, _, _ = await server.ask("GET", "/api/v1/me", token=token)
    assert status == 401


async def test_an_operator_makes_people_with_a_password_or_adds_known_ones(
    server: ApiServer,
) -> None:
    first, second = await server.company("One"), await server.company("Two")
    person = {"email": "Ann@Example.org", "name": "Ann", "role": "administrator"}
    members = f"/api/v1/companies/{first}/members"
    for content, field in (
        (person, "password"),
        (person | {"password": "short"}, "password"),
        (person | {"password": PASSWORD, "email": "ann"}, "email"),
        (person | {"password": PASSWORD, "role": "boss"}, "role"),
    ):
        status, found, _ = await server.ask("POST", members, content)
        assert status == 422 and found["field"] == field, found
    made = await server.done("POST", members, person | {"password": PASSWORD})
    assert made["email"] == "Ann@Example.org" and made["role"] == "administrator"
    status, found, _ = await server.ask("POST", members, {**person, "email": "ann@example.ORG"})
    assert status == 409 and found["code"] == "name_taken"
    status, found, _ = await server.ask(
        "POST", f"/api/v1/companies/{second}/members", person | {"password": PASSWORD}
    )
    assert status == 422 and found["field"] == "password"
    await server.done("POST", f"/api/v1/companies/{second}/members", person)
    listed = await server.done("GET", members + "?limit=1")
    assert len(listed["items"]) == 1 and listed["next_cursor"]
    rest = await server.done("GET", f"{members}?cursor={listed['next_cursor']}")
    assert [one["email"] for one in rest["items"]] == ["Ann@Example.org"]
    status, found, _ = await server.ask("POST", "/api/v1/companies/77/members", person)
    assert status == 404


async def test_an_unexpected_error_is_counted_logged_and_tells_nothing(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "hunter" + "2"

    def broken(*_: Any) -> None:
        raise RuntimeError(f"the password is {secret}")

    monkeypatch.setattr(people, "show_person", broken)
    status, found, response = await server.ask("GET", "/api/v1/me")
    assert status == 500 and found["code"] == "internal"
    check_problem(status, found, response)
    assert found["request_id"] in caplog.text and "RuntimeError" in caplog.text
    assert server.telemetry.errors["request"] == 1
    told = caplog.text + str(found) + str(server.telemetry.last_errors)
    assert secret not in told and server.token not in told


async def test_a_full_store_asks_for_patience(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(*_: Any, **__: Any) -> None:
        raise StoreBusy("full")

    monkeypatch.setattr(server.store, "write", busy)
    status, found, response = await server.ask("POST", "/api/v1/companies", {"name": "x"})
    assert status == 503 and found["code"] == "unavailable"
    assert response.headers["Retry-After"] == "1"
    check_problem(status, found, response)


async def test_limits_are_said_in_headers(server: ApiServer) -> None:
    _, _, response = await server.ask("GET", "/api/v1/me")
    _, _, response = await server.ask("GET", "/api/v1/me")
    assert int(response.headers["RateLimit-Limit"]) >= 400
    assert int(response.headers["RateLimit-Remaining"]) < int(response.headers["RateLimit-Limit"])
    assert int(response.headers["RateLimit-Reset"]) >= 0


# What requests are read for, besides their address and body.
READ_HEADERS = (
    "Accept",
    "Accept-Language",
    "Authorization",
    "Cookie",
    "Idempotency-Key",
    "Last-Event-ID",
    "Origin",
    "Sec-Fetch-Mode",
    "Sec-Fetch-Site",
    "User-Agent",
    "X-CSRF-Token",
    "X-Forwarded-For",
    "X-Request-ID",
)


@pytest.mark.parametrize("sent", [b"\xff\xfe", b"Bearer \xff", b"fleetgate=\xff", b"\xed\xa0\x80"])
async def test_headers_of_any_bytes_are_no_error_of_the_server(
    server: ApiServer, sent: bytes
) -> None:
    signed_in = await server.done(
        "POST", "/api/v1/login", {"email": EMAIL, "password": PASSWORD}, token=None
    )
    cookie = server.client.cookie_jar.filter_cookies(URL(server.url))["fleetgate"].value
    known = {"Cookie": f"fleetgate={cookie}", "X-CSRF-Token": signed_in["csrf"]}
    for name in READ_HEADERS:
        headers = {key: value.encode() for key, value in known.items()} | {name: sent}
        lines = b"".join(key.encode() + b": " + value + b"\r\n" for key, value in headers.items())
        for method, path in (
            (b"GET", b"/api/v1/me"),
            (b"POST", b"/api/v1/companies"),
            (b"GET", b"/"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.listening.port)
            body = b'{"name": "' + name.encode() + sent[:1].hex().encode() + b'"}'
            head = b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" % (method, path)
            about = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            writer.write(head + lines + about + body)
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            status = int(answer.split(b" ", 2)[1])
            assert status < 500, (name, method, path, answer)


async def test_no_secret_is_logged(server: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await server.done("GET", "/api/v1/me")
    await server.done(
        "POST", "/api/v1/login", {"email": "operator@example.org", "password": PASSWORD}
    )
    await server.ask("POST", "/api/v1/login", {"email": "x@example.org", "password": "guessed one"})
    assert "status=200" in caplog.text
    for secret in (server.token, PASSWORD, "guessed one", "Bearer"):
        assert secret not in caplog.text


async def test_many_at_once_are_all_answered(server: ApiServer) -> None:
    company_id = await server.company()
    await server.done("POST", "/api/v1/credits/grants", {"company_id": company_id, "credits": 5})

    async def register(number: int) -> tuple[int, str]:
        status, found, _ = await server.ask(
            "POST",
            "/api/v1/devices",
            {"serial": f"{number:010d}", "company_id": company_id, "activate": True},
        )
        return status, found.get("code", "")

    answers = await asyncio.gather(*(register(number) for number in range(20)))
    assert sorted(answers) == [(201, "")] * 5 + [(409, "credits_insufficient")] * 15
    found = await server.done("GET", f"/api/v1/companies/{company_id}/credits")
    assert found["credits"] == 0


def test_results_can_be_encoded_as_they_are_declared() -> None:
    for op in all_operations():
        assert issubclass(op.result, msgspec.Struct), op.name
        assert all(name in op.input.__struct_fields__ for name in op.path_fields), op.name
