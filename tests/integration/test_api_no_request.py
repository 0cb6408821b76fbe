"""What is no HTTP request gets a short answer, and nothing of it is written into the log."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from broker.relay import log_format
from gateway.command import logging_setup
from gateway.storage.address import Address
from tests.api_server import api_server

SECRET = b"fgt_secret"
NO_REQUESTS = {
    "too long": b"GET /devices?q=" + SECRET * 2_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes": b"GET /devices?q=" + SECRET + b"\xd9\xa3 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nCookie: " + SECRET * 2_000 + b"\r\n\r\n",
    "a wrong header": b"GET / HTTP/1.1\r\nCookie " + SECRET + b"\r\n\r\n",
    "no version": b"GET / " + SECRET + b"\r\n\r\n",
}


@pytest.fixture(params=[logging_setup.is_of_ours, log_format.is_of_ours])
def set_up(request: pytest.FixtureRequest) -> Iterator[None]:
    """The server's log as the programs set it up."""
    log = logging.getLogger("aiohttp.server")
    log.addFilter(request.param)
    yield
    log.removeFilter(request.param)


@pytest.mark.usefixtures("set_up")
@pytest.mark.either_engine
async def test_it_is_refused_and_not_written_out(
    tmp_path: Path, database: Address, caplog: pytest.LogCaptureFixture
) -> None:
    async with api_server(tmp_path, database) as server:
        port = urlsplit(server.url).port
        for name, sent in NO_REQUESTS.items():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            answer = await asyncio.wait_for(reader.read(), 10)
            writer.close()
            assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 ")), name
    assert SECRET.decode() not in caplog.text
