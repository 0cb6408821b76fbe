"""The few requests that `fleetgate up` makes over the unix socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from gateway.command.local_api import ApiRefused, ApiUnreachable, LocalApi
from gateway.unix_socket import short_path


async def echo(request: web.Request) -> web.Response:
    return web.json_response(
        {
            "authorization": request.headers.get("Authorization"),
            "key": request.headers.get("Idempotency-Key"),
            "body": await request.json() if request.can_read_body else None,
        }
    )


async def chunked(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for part in (b'{"parts"', b": ", b"3}"):
        await response.write(part)
    await response.write_eof()
    return response


async def refuse(_request: web.Request) -> web.Response:
    return web.json_response({"code": "credits_insufficient"}, status=409)


@pytest.fixture
async def socket(tmp_path: Path) -> AsyncIterator[Path]:
    app = web.Application()
    app.router.add_route("*", "/echo", echo)
    app.router.add_get("/chunked", chunked)
    app.router.add_post("/refuse", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    path = tmp_path / "admin.sock"
    with short_path(path) as name:
        await web.UnixSite(runner, name).start()
    yield path
    await runner.cleanup()


async def test_requests_carry_token_key_and_body(socket: Path) -> None:
    api = LocalApi(socket, token="secret")
    assert (await api.get("/echo")).json() == {
        "authorization": "Bearer secret",
        "key": None,
        "body": None,
    }
    assert await api.post("/echo", {"a": 1}, key="once") == {
        "authorization": "Bearer secret",
        "key": "once",
        "body": {"a": 1},
    }


async def test_an_answer_in_chunks_is_put_together(socket: Path) -> None:
    assert (await LocalApi(socket).get("/chunked")).json() == {"parts": 3}


async def test_refusals_and_silence_are_told_apart(socket: Path) -> None:
    with pytest.raises(ApiRefused, match=r"409.*credits_insufficient"):
        await LocalApi(socket).post("/refuse", {}, key="k")
    assert (await LocalApi(socket).get("/absent")).status == 404
    with pytest.raises(ApiUnreachable, match="No such file"):
        await LocalApi(socket.with_name("absent.sock")).get("/echo")
