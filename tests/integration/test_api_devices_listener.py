"""The listener for devices: the CA, joining, its status, and nothing else."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.api.devices_listener import FAILURES_FREE, make_devices_app
from gateway.api.serving import Listening, devices_tls, serve_devices
from gateway.command.sections import DevicesSection
from gateway.storage.address import Address
from tests.api_server import ApiServer, api_server, own_ca
from wire.join import decode_join_answer, decode_join_string


@dataclass(slots=True)
class Door:
    """Both listeners, and a client that trusts the own CA."""

    people: ApiServer
    client: aiohttp.ClientSession
    listening: Listening
    tls: ssl.SSLContext
    ca_pem: bytes
    slept_s: list[float]

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, bytes]:
        async with self.client.request(
            method, f"https://127.0.0.1:{self.listening.port}{path}", ssl=self.tls, **more
        ) as response:
            return response.status, await response.read()


@asynccontextmanager
async def opened(folder: Path, database: Address) -> AsyncIterator[Door]:
    keys, digest = own_ca(folder)
    async with api_server(folder, database) as people:
        site = replace(people.site, ca_digest=digest)
        ca_pem = keys.ca_certificate.read_bytes()
        slept_s: list[float] = []

        async def sleep(seconds: float) -> None:
            slept_s.append(seconds)

        app = make_devices_app(
            people.store, site, people.telemetry, people.clock, ca_pem, sleep=sleep
        )
        listening = await serve_devices(
            app, DevicesSection(port=0), devices_tls(keys.server_certificate, keys.server_key)
        )
        tls = ssl.create_default_context(cadata=ca_pem.decode())
        try:
            async with aiohttp.ClientSession() as client:
                yield Door(people, client, listening, tls, ca_pem, slept_s)
        finally:
            await listening.close()


@pytest.fixture
async def door(tmp_path: Path, database: Address) -> AsyncIterator[Door]:
    async with opened(tmp_path, database) as open_door:
        yield open_door


def request_of(code: str, serial: str = "0123456789", **more: Any) -> dict[str, Any]:
    return {
        "code": code,
        "serial": serial,
        "lan_mac": "00:1E:42:00:00:01",
        "mqtt_password": "ab" * 32,
        "command_key": "cd" * 32,
    } | more


async def join_code(door: Door) -> str:
    company_id = await door.people.company()
    made = await door.people.done(
        "POST",
        f"/api/v1/companies/{company_id}/join-codes",
        {"uses": 3, "register": True},
    )
    return decode_join_string(made["join"]).code


async def test_a_device_joins_and_asks_for_its_status(door: Door) -> None:
    status, body = await door.ask("GET", "/ca.pem")
    assert (status, body) == (200, door.ca_pem)
    code = await join_code(door)
    status, body = await door.ask("POST", "/api/v1/join", json=request_of(code))
    assert status == 200
    answer = decode_join_answer(body)
    assert answer.state == "joined"
    # The same again is answered again.
    status, body = await door.ask("POST", "/api/v1/join", json=request_of(code))
    assert status == 200 and decode_join_answer(body).state == "joined"
    query = {"serial": "0123456789", "record": answer.record}
    status, body = await door.ask("GET", "/api/v1/join/status", params=query)
    assert status == 200 and decode_join_answer(body).state == "joined"


async def test_every_failed_join_has_the_same_answer(door: Door) -> None:
    code = await join_code(door)
    answers = []
    for body in (
        json.dumps(request_of("x" * 22)),
        json.dumps(request_of(code, serial="../x")),
        json.dumps(request_of(code, mqtt_password="short")),
        json.dumps({"code": code}),
        "{",
        "[" * 4_000,
        '{"code": NaN}',
        "",
    ):
        status, answered = await door.ask("POST", "/api/v1/join", data=body)
        found = json.loads(answered)
        assert found.pop("request_id")
        answers.append((status, found))
    for query in ({}, {"serial": "0123456789", "record": "AAAA"}, {"record": "x" * 5_000}):
        status, answered = await door.ask("GET", "/api/v1/join/status", params=query)
        found = json.loads(answered)
        found.pop("request_id")
        answers.append((status, found))
    assert answers[0][0] == 403
    assert all(answer == answers[0] for answer in answers)
    assert door.people.telemetry.errors.total() == 0


async def test_nothing_else_is_served_there(door: Door) -> None:
    for method, path, wanted in (
        ("GET", "/", 404),
        ("GET", "/api/v1/me", 404),
        ("POST", "/api/v1/login", 404),
        ("GET", "/status", 404),
        ("GET", "/metrics", 404),
        ("GET", "/api/v1/join", 405),
        ("POST", "/ca.pem", 405),
    ):
        status, _ = await door.ask(method, path)
        assert status == wanted, path
    status, _ = await door.ask("POST", "/api/v1/join", data=b"x" * 9_000)
    assert status == 413


async def test_a_crowd_of_failures_is_slowed_down_and_a_good_join_is_not(door: Door) -> None:
    code = await join_code(door)
    bad = request_of("x" * 22)
    await asyncio.gather(
        *(door.ask("POST", "/api/v1/join", json=bad) for _ in range(FAILURES_FREE))
    )
    assert door.slept_s == []
    await door.ask("POST", "/api/v1/join", json=bad)
    await door.ask("POST", "/api/v1/join", json=bad)
    assert door.slept_s == [0.5, 1.0]
    status, _ = await door.ask("POST", "/api/v1/join", json=request_of(code))
    assert status == 200
    assert len(door.slept_s) == 2
