"""A page left open over a sign-out, a deploy or a server that is away: one clear message."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

from gateway.api.services import SERVICES
from gateway.storage.address import Address
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server
from tests.browser import chromium
from tests.browser.seeded import seed
from tests.browser.story import Person, person

pytestmark = [pytest.mark.either_engine, pytest.mark.timeout(120)]

FRESH_MS_MAX = 20_000


@asynccontextmanager
async def at_a_page(
    server: ApiServer, language: str, address: str
) -> AsyncIterator[tuple[Person, Person]]:
    """Somebody at a page that keeps itself fresh, and the same person in another browser."""
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        ) as browser,
        person(browser, server.url, language) as here,
        person(browser, server.url, language) as there,
    ):
        await seed(server)
        for one in (here, there):
            await one.sign_in(EMAIL, PASSWORD)
        await here.go(address)
        yield here, there


async def happens(server: ApiServer, name: str) -> None:
    """Something that every page hears of."""
    change = {"name": name}
    await server.done("PATCH", "/api/v1/devices/1100000001", change)


async def test_over_a_sign_out(tmp_path: Path, database: Address) -> None:
    async with (
        api_server(tmp_path, database) as server,
        at_a_page(server, "es", "/devices/1100000001") as (here, there),
    ):
        await there.go("/account")
        await there.press("Sign out everywhere else")
        await happens(server, "Another name")
        lost = here.tab.locator("#lost")
        await expect(lost).to_contain_text(here.says("You are signed out."), timeout=FRESH_MS_MAX)
        # A form that is sent now says the same, and no more.
        await here.tab.locator("form.do button[type=submit]").first.click()
        await expect(lost).to_have_count(1)
        await lost.get_by_role("link").click()
        await here.tab.fill("#email", EMAIL)
        await here.tab.fill("#password", PASSWORD)
        await here.tab.click("button[type=submit]")
        await here.tab.wait_for_url("**/devices/1100000001", wait_until="commit")
        await expect(here.tab.locator("h1")).to_contain_text("Another name")


async def test_over_a_deploy(tmp_path: Path, database: Address) -> None:
    async with (
        api_server(tmp_path, database) as server,
        at_a_page(server, "en", "/devices/1100000001") as (here, _there),
    ):
        # Another version answers at the same address.
        object.__setattr__(server.app[SERVICES].site, "version", "9.9.9")
        await happens(server, "Newer name")
        lost = here.tab.locator("#lost")
        await expect(lost).to_contain_text(
            here.says("Fleetgate was updated."), timeout=FRESH_MS_MAX
        )
        await lost.get_by_role("link").click()
        await expect(here.tab.locator("h1")).to_contain_text("Newer name")
        await expect(lost).to_be_hidden()


async def test_while_the_server_is_away(tmp_path: Path, database: Address) -> None:
    async with (
        api_server(tmp_path, database) as server,
        at_a_page(server, "en", "/devices/1100000001") as (here, _there),
    ):
        await here.tab.route("**/*", lambda route: route.abort())
        lost = here.tab.locator("#lost")
        await expect(lost).to_contain_text("No answer from the server", timeout=FRESH_MS_MAX)
        await here.tab.unroute("**/*")
        await expect(lost).to_be_hidden(timeout=FRESH_MS_MAX)
