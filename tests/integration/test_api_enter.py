"""From a session's own host name to the sign-in and back: the hand-over, and who is not let in."""

import hashlib
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
import jwt
import pytest
from sqlalchemy import insert, select, update

from gateway.api.limits import HAND_OVERS
from gateway.command.sections import RelaySection
from gateway.domain.instants import HOUR_MS
from gateway.operations.relays import take_state
from gateway.people.accounts import make_person, make_token
from gateway.storage.address import Address
from gateway.storage.schema import audit, device, membership, relay, session
from gateway.storage.transaction import Transaction
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server
from tests.relay_row import one_relay
from wire.relay_control import State
from wire.tickets import Party, Way, claims_of

pytestmark = pytest.mark.either_engine

HTML = {"Accept": "text/html,application/xhtml+xml"}
SERIAL = "1100000001"
HOST = "s-" + "a" * 26
STATE = "abcdefghij-klmnopqrst_uvwxyz012345"
ENTER = f"/enter?host={HOST}&state={STATE}"
SITE = f"http://{HOST}.localhost:8885"


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    """With one open session of the operator to a router's page."""
    async with api_server(tmp_path, database) as running:
        company_id = await running.company()
        await running.done(
            "POST", "/api/v1/credits/grants", {"company_id": company_id, "credits": 2}
        )
        await running.done(
            "POST",
            "/api/v1/devices",
            {"serial": SERIAL, "company_id": company_id, "activate": True},
        )
        await running.store.write(opened)
        yield running


def opened(tx: Transaction) -> None:
    one_relay(tx)
    take_state(tx, "relay-1", State("epoch-1", 0, 0, 0, 0))
    row = tx.one(select(device).where(device.c.serial == SERIAL))
    assert row is not None
    tx.run(
        insert(session),
        {
            "id": "5" * 32,
            "host": HOST,
            "device_id": row.id,
            "serial": SERIAL,
            "company_id": row.company_id,
            "person_id": 1,
            "actor": "person:1",
            "relay_id": "relay-1",
            "target": "127.0.0.1:80",
            "target_name": "",
            "protocol": "http",
            "right": "reach",
            "reason": "",
            "created_at": tx.now_ms,
            "expires_at": tx.now_ms + HOUR_MS,
            "idle_streams_s": 900,
            "idle_bytes_s": 3600,
            "settled": False,
            "link_state": "",
            "link_error": "",
            "linked": True,
            "refused_reason": "",
            "bytes_to_device": 0,
            "bytes_from_device": 0,
        },
    )


async def page(
    server: ApiServer, path: str, *, token: str | None = "", method: str = "GET"
) -> tuple[int, str, aiohttp.ClientResponse]:
    status, body, response = await server.ask(method, path, token=token, headers=HTML)
    return status, body.decode(), response


def ticket_in(server: ApiServer, location: str) -> tuple[dict[str, str], str]:
    """The claims of the ticket in this address, and the state beside it."""
    assert location.startswith(f"{SITE}/.fleetgate/enter?")
    query = parse_qs(urlsplit(location).query, strict_parsing=True)
    assert set(query) == {"ticket", "state"}
    public = server.site.tickets._key.public_key()
    payload: dict[str, str] = jwt.decode(query["ticket"][0], public, ["EdDSA"])
    return payload, query["state"][0]


async def test_who_is_signed_in_is_handed_over_with_a_ticket_for_this_browser(
    server: ApiServer,
) -> None:
    status, _, response = await page(server, ENTER)
    assert status == 303
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cache-Control"] == "no-store"
    payload, state = ticket_in(server, response.headers["Location"])
    claims = claims_of(payload)
    assert state == STATE
    assert claims.state == hashlib.sha256(STATE.encode()).hexdigest()
    assert (claims.party, claims.way, claims.host) == (Party.VISITOR, Way.WEB, HOST)
    assert (claims.relay, claims.epoch, claims.person) == ("relay-1", "epoch-1", "1")
    # Another look is another ticket, and each is on record.
    _, _, again = await page(server, ENTER)
    assert ticket_in(server, again.headers["Location"])[0]["jti"] != claims.jti
    verbs = await server.store.read(lambda tx: tx.all(select(audit.c.verb)))
    assert [row.verb for row in verbs].count("session.ticket") == 2


async def test_going_in_circles_ends_at_a_page_that_says_when_to_come_back(
    server: ApiServer,
) -> None:
    count = HAND_OVERS.burst
    for _ in range(2 * count):
        status, text, response = await page(server, ENTER)
        if status != 303:
            break
        count -= 1
    assert count <= 0 and status == 429 and "entered too often" in text
    assert 1 <= int(response.headers["Retry-After"]) <= 2
    assert response.headers["Cache-Control"] == "no-store" and "Location" not in response.headers
    # It is this person's limit alone, and for this page alone.
    token = await server.store.write(
        lambda tx: make_token(tx, make_person(tx, "b@example.org", "B", "x"), "b")
    )
    assert (await page(server, ENTER, token=token))[0] == 404
    status, _, _ = await server.ask("GET", "/api/v1/sessions")
    assert status == 200


async def test_signing_in_leads_on_to_the_session(server: ApiServer) -> None:
    status, _, response = await page(server, ENTER, token=None)
    assert status == 303
    login = response.headers["Location"]
    assert login == f"/login?next={quote(ENTER, safe='')}"
    status, form, response = await page(server, login, token=None)
    found = re.search(r'name="next" value="([^"]*)"', form)
    assert status == 200 and found is not None and unescape(found[1]) == ENTER
    # Browsers hold the redirects after a form against its page's policy.
    policy = response.headers["Content-Security-Policy"]
    assert "form-action 'self' http://*.localhost:8885;" in policy
    entered = aiohttp.FormData({"email": EMAIL, "password": PASSWORD, "next": ENTER})
    async with server.client.post(
        f"{server.url}/login", data=entered, headers=HTML, allow_redirects=False
    ) as answer:
        assert answer.status == 303 and answer.headers["Location"] == ENTER
    status, _, response = await page(server, ENTER, token=None)  # by the cookie now
    assert status == 303 and ticket_in(server, response.headers["Location"])[1] == STATE
    # Whoever is signed in already is sent on without a form.
    status, _, response = await page(server, login, token=None)
    assert status == 303 and response.headers["Location"] == ENTER


async def test_a_wrong_password_keeps_the_way_and_the_policy(server: ApiServer) -> None:
    entered = aiohttp.FormData({"email": EMAIL, "password": "wrong", "next": ENTER})
    async with server.client.post(f"{server.url}/login", data=entered, headers=HTML) as answer:
        assert answer.status == 401
        assert f'value="{ENTER.replace("&", "&amp;")}"' in await answer.text()
        assert "http://*.localhost:8885" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("following", ["/status", "/entering", "//evil.example/enter", ""])
async def test_other_ways_on_do_not_open_the_policy(following: str, server: ApiServer) -> None:
    address = f"/login?next={quote(following, safe='')}"
    _, _, response = await page(server, address, token=None)
    assert "form-action 'self';" in response.headers["Content-Security-Policy"]


DAMAGED = [
    "/enter",
    f"/enter?host={HOST}",
    f"/enter?host={HOST}&state=short",
    f"/enter?host={HOST}&state={'x' * 65}",
    f"/enter?host={HOST}&state={STATE}%0d%0aSet-Cookie:x",
    f"/enter?host={HOST}.localhost&state={STATE}",
    f"/enter?host=s-{'A' * 26}&state={STATE}",
    f"/enter?host=evil.example/&state={STATE}",
]


@pytest.mark.parametrize("address", DAMAGED)
async def test_a_damaged_address_leads_nowhere(address: str, server: ApiServer) -> None:
    for token in ("", None):
        status, text, response = await page(server, address, token=token)
        assert status == 422 and "This address is incomplete" in text
        assert "Location" not in response.headers


async def test_only_a_navigation_makes_a_ticket(server: ApiServer) -> None:
    for mode in ("cors", "no-cors", "websocket"):
        status, _, _ = await server.ask("GET", ENTER, headers={**HTML, "Sec-Fetch-Mode": mode})
        assert status == 422
    status, _, _ = await server.ask("GET", ENTER, headers={**HTML, "Sec-Fetch-Mode": "navigate"})
    assert status == 303
    for method in ("HEAD", "POST"):
        assert (await page(server, ENTER, method=method))[0] == 405


async def test_another_persons_session_is_not_there(server: ApiServer) -> None:
    token = await server.store.write(
        lambda tx: make_token(tx, make_person(tx, "b@example.org", "B", "x"), "b")
    )
    absent = ENTER.replace(HOST, "s-" + "b" * 26)
    answers = [await page(server, ENTER, token=token), await page(server, absent)]
    for status, text, response in answers:
        assert status == 404 and "No session of yours has this address" in text
        assert "Open a session of your own" in text
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-store"
    # Neither tells whether there is one.
    assert answers[0][1] == answers[1][1]


def end(tx: Transaction) -> None:
    tx.connection.execute(update(session).values(ended_at=tx.now_ms, ended_because="closed"))


def unpay(tx: Transaction) -> None:
    tx.connection.execute(update(device).values(state="unpaid"))


def silence(tx: Transaction) -> None:
    tx.connection.execute(update(relay).values(seen_at=tx.now_ms - 60_000))


def outlive(tx: Transaction) -> None:
    tx.connection.execute(update(session).values(expires_at=tx.now_ms))


def make_it_a_shell(tx: Transaction) -> None:
    tx.connection.execute(update(session).values(protocol="ssh"))


def take_the_right(tx: Transaction) -> None:
    tx.run(update(membership).values(role="billing"))


REFUSED = [
    (end, 409, "This session is over", "Open a new one"),
    (outlive, 409, "This session is over", "Open a new one"),
    (unpay, 409, "service is not paid", "Extend its service"),
    (silence, 503, "The relay does not answer right now", "load this page again"),
    (make_it_a_shell, 422, "This session has no page", "Open one for http"),
    (take_the_right, 403, "You may not reach this device any more", "Ask an administrator"),
]


@pytest.mark.parametrize(("change", "code", "what", "next_step"), REFUSED)
async def test_what_stands_in_the_way_is_said_with_what_to_do(
    change: object, code: int, what: str, next_step: str, server: ApiServer
) -> None:
    assert callable(change)
    await server.store.write(change)
    status, text, response = await page(server, ENTER)
    text = unescape(text)
    assert (status, what in text, next_step in text) == (code, True, True)
    assert "Location" not in response.headers


async def test_the_gateway_keeps_off_the_host_names_of_tunnelled_pages(server: ApiServer) -> None:
    port = server.listening.port
    for host in (f"localhost:{port}", "LOCALHOST", f"{HOST}.localhost:{port}", "x.localhost."):
        named = {**HTML, "Host": host}
        status, _, response = await server.ask("GET", ENTER, token=None, headers=named)
        assert status == 307 and response.headers["Location"] == server.site.public_url + ENTER
        assert "Set-Cookie" not in response.headers
        status, found, _ = await server.ask("POST", "/api/v1/login", {}, headers={"Host": host})
        assert status == 421 and server.site.public_url in found["detail"]
        for watched in ("/healthz", "/metrics"):
            assert (await server.ask("GET", watched, headers={"Host": host}))[0] == 200
    for host in (f"127.0.0.1:{port}", "notlocalhost", "localhost.example.org", f"[::1]:{port}"):
        status, _, _ = await server.ask("GET", "/login", token=None, headers={"Host": host})
        assert status == 200


async def test_the_owner_of_the_socket_may_say_any_host(server: ApiServer) -> None:
    connector = aiohttp.UnixConnector(str(server.admin_socket))
    async with (
        aiohttp.ClientSession("http://localhost", connector=connector) as owner,
        owner.post("/api/v1/companies", json={"name": "Other"}) as answer,
    ):
        assert answer.status == 201


async def test_with_tls_the_policy_names_the_relays_https_address(
    tmp_path: Path, database: Address
) -> None:
    section = RelaySection(domain="tunnel.example.net", behind_proxy=True, public_port=443)
    async with api_server(tmp_path, database, relay=section) as server:
        _, _, response = await page(server, f"/login?next={quote(ENTER, safe='')}", token=None)
        policy = response.headers["Content-Security-Policy"]
        assert "form-action 'self' https://*.tunnel.example.net:443;" in policy
