"""Health, readiness, metrics, the status document, and the socket of the owner."""

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.operations.relays import take_state
from gateway.people.accounts import make_person, make_token
from gateway.storage.address import Address
from gateway.storage.transaction import Transaction
from tests.api_server import ApiServer, api_server, everything_works
from tests.databases import Databases
from tests.relay_row import one_relay
from wire.relay_control import State

HTML = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


async def failing(server: ApiServer) -> dict[str, str]:
    status, found, _ = await server.ask("GET", "/readyz", token=None)
    assert (status == 200) is found["ready"]
    return {check["name"]: check["why"] for check in found["checks"] if not check["ok"]}


async def test_ready_is_said_with_every_check_and_why_not(server: ApiServer) -> None:
    assert set(await failing(server)) == {"mqtt", "mqtt_closed", "probe"}
    everything_works(server)
    assert await failing(server) == {}
    telemetry = server.telemetry
    telemetry.mqtt_connected = False
    assert set(await failing(server)) == {"mqtt"}
    telemetry.mqtt_connected = True
    telemetry.probe_at_ms -= 21_000
    assert "21 s ago" in (await failing(server))["probe"]
    everything_works(server)
    telemetry.ingest_waiting, telemetry.batch_ms = 5, 31_000.0
    assert set(await failing(server)) == {"ingest"}
    telemetry.ingest_waiting = 0
    # A login that is a moment behind is usual; one that stays so is not.
    telemetry.logins_version = 9
    assert await failing(server) == {}
    server.clock.moved_ms += 31_000
    everything_after = await failing(server)
    assert "version 3 instead of 9" in everything_after["logins"]
    telemetry.logins_written = 9
    assert "logins" not in await failing(server)
    assert (await server.done("GET", "/healthz", token=None)) == {"ok": True}


async def test_status_counts_what_is_there(server: ApiServer) -> None:
    everything_works(server)
    company_id = await server.company()
    await server.done("POST", "/api/v1/credits/grants", {"company_id": company_id, "credits": 2})
    for serial, activate in (("0000000001", True), ("0000000002", True), ("0000000003", "later")):
        await server.done(
            "POST",
            "/api/v1/devices",
            {"serial": serial, "company_id": company_id, "activate": activate},
        )
    found = await server.done("GET", "/status")
    assert found["ready"] is True
    assert found["devices"] == {"online": 0, "late": 0, "offline": 0, "never": 3}
    assert found["service"] == {"active": 2, "unpaid": 0, "off": 1}
    assert found["database"]["size_bytes"] > 10_000
    for name in ("mqtt", "ingest", "outbox", "ledger", "quarantine", "versions", "uptime_s"):
        assert name in found
    assert found["last_errors"] == []
    server.telemetry.failed(server.clock.wall_ms(), "job", "it went wrong")
    again = await server.done("GET", "/status")
    assert again["last_errors"][0]["what"] == "job: it went wrong"


async def test_relays_and_sessions_are_shown_but_never_awaited(server: ApiServer) -> None:
    everything_works(server)

    def heard(tx: Transaction) -> None:
        one_relay(tx)
        take_state(tx, "relay-1", State("epoch-1", 0, 3, 7, 1_048_576))

    await server.store.write(heard)
    server.telemetry.leases_at_ms["relay-1"] = server.clock.wall_ms()
    found = await server.done("GET", "/status")
    assert found["sessions"] == {"waiting": 0, "open": 0}
    assert (found["links"], found["streams"]) == (3, 7)
    (relay,) = found["relays"]
    assert relay["id"] == "relay-1" and relay["present"] is True
    assert (relay["revocations"], relay["applied"]) == (0, 0)
    assert relay["memory_bytes"] == 1_048_576
    for name in ("epoch", "seen", "lease"):
        assert 0 <= relay[f"{name}_age_s"] < 10 and relay[f"{name}_at"].endswith("Z")
    _, page, _ = await server.ask("GET", "/status", headers=HTML)
    for words in (b"<h2>relay-1</h2>", b"1.0 MiB", b"waiting for the device"):
        assert words in page
    text = (await server.ask("GET", "/metrics"))[1].decode()
    for line in (
        'fleetgate_sessions{state="waiting"} 0.0',
        "fleetgate_links 3.0",
        'fleetgate_relay_present{relay="relay-1"} 1.0',
        "fleetgate_relay_states_taken_total 0.0",
    ):
        assert line in text
    # A relay that fell silent has no links that anybody knows of; and the gateway stays ready.
    server.clock.moved_ms += 16_000
    everything_works(server)
    found = await server.done("GET", "/status")
    (relay,) = found["relays"]
    assert relay["present"] is False
    assert found["ready"] is True
    assert (found["links"], relay["streams"], relay["memory_bytes"]) == (0, 0, 0)
    assert relay["seen_age_s"] >= 16


async def test_status_is_for_operators_and_a_page_for_browsers(server: ApiServer) -> None:
    status, found, _ = await server.ask("GET", "/status", token=None)
    assert (status, found["code"]) == (401, "signed_out")
    token = await server.store.write(
        lambda tx: make_token(tx, make_person(tx, "b@example.org", "B", "x"), "b")
    )
    status, found, _ = await server.ask("GET", "/status", token=token)
    assert (status, found["code"]) == (403, "forbidden")
    # Whoever is not operator has a page of devices, without the installation.
    status, _, response = await server.ask("GET", "/status", token=token, headers=HTML)
    assert status == 303 and response.headers["Location"] == "/devices"
    status, page, _ = await server.ask("GET", "/devices", token=token, headers=HTML)
    assert status == 200 and b"Everything works" not in page
    everything_works(server)
    status, page, response = await server.ask("GET", "/status", headers=HTML)
    assert status == 200 and b"Everything works" in page
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
    status, page, _ = await server.ask("GET", "/nothing", headers=HTML)
    assert status == 404 and page.startswith(b"<!doctype html>")


async def test_metrics_are_open_on_loopback_but_not_behind_a_proxy(
    server: ApiServer, tmp_path: Path, migrated_databases: Databases
) -> None:
    status, found, response = await server.ask("GET", "/metrics", token=None)
    assert status == 200 and response.content_type == "text/plain"
    text = found.decode()
    for line in (
        'fleetgate_devices{presence="online"} 0.0',
        "fleetgate_heartbeats_total 0.0",
        "fleetgate_ready 0.0",
        'fleetgate_version{version="0.0.0"} 1.0',
    ):
        assert line in text
    (tmp_path / "proxied").mkdir()
    other = migrated_databases.make()
    async with api_server(tmp_path / "proxied", other, behind_proxy=True) as proxied:
        assert (await proxied.ask("GET", "/metrics", token=None))[0] == 401
        assert (await proxied.ask("GET", "/metrics"))[0] == 200
        spoofed = {"X-Forwarded-For": "127.0.0.1"}
        assert (await proxied.ask("GET", "/metrics", token=None, headers=spoofed))[0] == 401


async def test_the_socket_acts_as_the_first_operator_and_only_its_owner_opens_it(
    server: ApiServer,
) -> None:
    assert stat.S_IMODE(server.admin_socket.stat().st_mode) == 0o600
    connector = aiohttp.UnixConnector(str(server.admin_socket))
    async with aiohttp.ClientSession("http://localhost", connector=connector) as owner:
        async with owner.get("/api/v1/me") as answer:
            me = await answer.json()
            assert answer.status == 200 and me["id"] == "1" and me["operator"] is True
        async with owner.post("/api/v1/companies", json={"name": "Acme"}) as answer:
            assert answer.status == 201
        async with owner.get("/status", headers=HTML) as answer:
            assert answer.content_type == "application/json"
        # A token that is shown counts, and a wrong one is not forgiven.
        async with owner.get("/api/v1/me", headers={"Authorization": "Bearer fgt_wrong"}) as answer:
            assert answer.status == 401
    # Over TCP nothing of this is true.
    assert (await server.ask("GET", "/api/v1/me", token=None))[0] == 401


async def test_a_very_long_path_holds_a_socket_too(tmp_path: Path, database: Address) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    async with api_server(folder, database) as server:
        assert server.admin_socket.is_socket()
        assert len(str(server.admin_socket)) > 108
    assert not server.admin_socket.exists()


async def test_assets_are_ours_and_may_be_kept(server: ApiServer) -> None:
    _, page, _ = await server.ask("GET", "/login", token=None, headers=HTML)
    start = page.index(b"/static/fleetgate.css?v=")
    address = page[start : page.index(b'"', start)].decode()
    status, body, response = await server.ask("GET", address, token=None)
    assert status == 200 and response.content_type == "text/css" and b"--ground" in body
    assert "immutable" in response.headers["Cache-Control"]
    document = await server.done("GET", "/api/v1/openapi.json", token=None)
    assert document["openapi"] == "3.1.0"
    status, page, _ = await server.ask("GET", "/api/docs", token=None, headers=HTML)
    assert status == 200 and b"problem-credits_insufficient" in page
