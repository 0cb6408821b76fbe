"""A flood of failed sign-ins from many addresses, and a person who only wants to get in."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from gateway.people.throttle import DELAY_S_MAX, TooManyWait
from gateway.storage.address import Address
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server
from tests.conftest import SummaryRow

ADDRESSES = 50
AT_ONCE = 10  # of one address; more than may wait
ATTEMPTS = 10_000
UNKNOWN = "nobody@example.org"
CHECKED_S_MAX = 15.0  # behind what is being checked for others, on a loaded machine

pytestmark = pytest.mark.either_engine


def from_address(number: int) -> aiohttp.ClientSession:
    """A client whose connections come from an address of its own."""
    connector = aiohttp.TCPConnector(local_addr=(f"127.0.0.{number}", 0), limit=0)
    return aiohttp.ClientSession(connector=connector)


async def sign_in(
    server: ApiServer, client: aiohttp.ClientSession, email: str, password: str
) -> tuple[int, bytes]:
    """Status and body, without what is new with each request."""
    given = {"email": email, "password": password}
    async with client.post(f"{server.url}/api/v1/login", json=given) as response:
        body = await response.read()
        return response.status, body.replace(response.headers["X-Request-Id"].encode(), b"")


class Flood:
    """Attempts at the operator's account and at one that does not exist, in turn."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self.bodies: dict[int, set[bytes]] = {}
        self.enough, self._over = asyncio.Event(), asyncio.Event()

    async def delay(self, seconds: float) -> None:
        """As long as it is asked for, or until the flood is over: nobody checks what is left."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)
            raise TooManyWait

    async def _attempts(self, server: ApiServer, client: aiohttp.ClientSession) -> None:
        for email in [EMAIL, UNKNOWN] * ATTEMPTS:
            status, body = await sign_in(server, client, email, "wrong one")
            self.answers[email, status] += 1
            self.bodies.setdefault(status, set()).add(body)
            if self.answers.total() >= ATTEMPTS:
                self.enough.set()
            if status == 429:
                await asyncio.sleep(0.02)  # as fast as anybody would, not as fast as loopback is

    @asynccontextmanager
    async def going_on(self, server: ApiServer) -> AsyncIterator[None]:
        clients = [from_address(number) for number in range(1, ADDRESSES + 1)]
        tasks = [
            asyncio.create_task(self._attempts(server, client))
            for client in clients
            for _ in range(AT_ONCE)
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            self._over.set()
            await asyncio.gather(*tasks, return_exceptions=True)
            for client in clients:
                await client.close()


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_ten_thousand_from_fifty_addresses_keep_nobody_out(
    tmp_path: Path, database: Address, summary_row: SummaryRow
) -> None:
    flood, before = Flood(), asyncio.all_tasks()
    async with (
        api_server(tmp_path, database, sleep=flood.delay) as server,
        flood.going_on(server),
    ):
        await asyncio.wait_for(flood.enough.wait(), 240)
        async with from_address(99) as victim:
            begin_s = time.monotonic()
            status, _ = await sign_in(server, victim, EMAIL, PASSWORD)
            took_s = time.monotonic() - begin_s
            begin_s = time.monotonic()
            await server.done("GET", "/api/v1/companies")
            other_s = time.monotonic() - begin_s
    # Passwords that were being checked are checked to the end, whoever has gone.
    if left := asyncio.all_tasks() - before:
        await asyncio.wait(left, timeout=60)
    assert status == 200 and took_s < DELAY_S_MAX + CHECKED_S_MAX
    assert {status for _, status in flood.answers} == {401, 429}
    # Known and unknown are told the same.
    assert all(len(bodies) == 1 for bodies in flood.bodies.values())
    checked = [flood.answers[email, 401] for email in (EMAIL, UNKNOWN)]
    summary_row(
        "failed sign-ins, 50 addresses",
        flood.answers.total(),
        f"{sum(checked)} checked, the account's person in after {took_s:.1f} s, another "
        f"request answered after {other_s * 1000:.0f} ms",
    )


async def test_a_flood_delays_its_victim_by_a_minute_at_most_and_nobody_else(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database) as server:
        clients = [from_address(number) for number in range(1, 13)]
        try:
            found = {await sign_in(server, one, EMAIL, "wrong one") for one in clients}
            found |= {await sign_in(server, one, UNKNOWN, "wrong one") for one in clients}
        finally:
            for client in clients:
                await client.close()
        assert [status for status, _ in found] == [401]
        # Whether the account exists makes no difference to the delays either.
        assert server.slept_s[:7] == server.slept_s[7:] == [1, 2, 4, 8, 16, 32, 60]
        async with from_address(99) as victim:
            assert (await sign_in(server, victim, EMAIL, PASSWORD))[0] == 200
            assert server.slept_s[14:] == [DELAY_S_MAX]
            assert (await sign_in(server, victim, EMAIL, PASSWORD))[0] == 200
        assert len(server.slept_s) == 15
