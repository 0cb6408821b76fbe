"""The status page in a real browser: it renders, refreshes itself, and breaks no policy."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from gateway.storage.address import Address
from tests.api_server import ApiServer, api_server, everything_works

BROWSER_S_MAX = 50


@asynccontextmanager
async def signed_in_proxy(server: ApiServer) -> AsyncIterator[tuple[str, list[str]]]:
    """Adds the operator's token, since a browser on the command line cannot sign in."""
    seen: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request.path_qs)
        headers = {
            "Accept": request.headers.get("Accept", ""),
            "Authorization": f"Bearer {server.token}",
        }
        address = server.url + request.path_qs
        async with server.client.get(address, headers=headers) as answer:
            kept = ("Content-Type", "Content-Security-Policy", "X-Content-Type-Options")
            return web.Response(
                body=await answer.read(),
                status=answer.status,
                headers={name: answer.headers[name] for name in kept if name in answer.headers},
            )

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


async def test_the_status_page_lives_in_a_browser(tmp_path: Path, database: Address) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium here: apt-get install chromium")
    async with api_server(tmp_path, database) as server, signed_in_proxy(server) as (url, seen):
        everything_works(server)
        company_id = await server.company("Lifts <b>Nord</b>")
        await server.done(
            "POST",
            "/api/v1/devices",
            {"serial": "0123456789", "company_id": company_id, "name": "Crane <i>4</i>"},
        )
        process = await asyncio.create_subprocess_exec(
            browser,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
            *(
                "--virtual-time-budget=5000",
                "--dump-dom",
                f"--user-data-dir={tmp_path / 'profile'}",
            ),
            f"{url}/status",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(BROWSER_S_MAX):
            out, error = await process.communicate()
        page, console = out.decode(), error.decode()
        assert "Everything works" in page and "0123456789" in page
        assert "Crane &lt;i&gt;4&lt;/i&gt;" in page and "Lifts &lt;b&gt;Nord&lt;/b&gt;" in page
        assert sum("part" in path for path in seen) >= 1, "it did not refresh itself"
        assert page.count('id="content"') == 1
        assert "Content Security Policy" not in console and "CONSOLE" not in console
