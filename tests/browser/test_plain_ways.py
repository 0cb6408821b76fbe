"""Who has no scripts, no libraries from npm or no mouse gets through all the same."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from gateway.storage.address import Address
from gateway.web import assets
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server
from tests.browser import browsing
from tests.browser.seeded import seed
from tests.browser.watching import DESKTOP, Watched

pytestmark = [pytest.mark.either_engine, pytest.mark.timeout(120)]

NOT_ACTIVE = "1100000003"  # of the company at the top


@asynccontextmanager
async def signed_in(
    tmp_path: Path, database: Address, *, scripts: bool = True
) -> AsyncIterator[tuple[ApiServer, Page, dict[str, Any]]]:
    """Somebody who has come in by the door alone."""
    async with api_server(tmp_path, database) as server, browsing() as context:
        ids = await seed(server)
        browser = context.browser
        assert browser is not None
        own = await browser.new_context(java_script_enabled=scripts, viewport=DESKTOP)
        own.set_default_timeout(20_000)
        tab = await own.new_page()
        await tab.goto(f"{server.url}/choose?language=en&next=/login")
        await tab.get_by_label("E-mail").fill(EMAIL)
        await tab.get_by_label("Password").fill(PASSWORD)
        await tab.keyboard.press("Enter")
        await tab.wait_for_url("**/devices")
        yield server, tab, ids


async def days_of(server: ApiServer, company_id: str) -> int:
    found = await server.done("GET", f"/api/v1/companies/{company_id}/credits")
    return int(found["days"])


async def activate_and_move(server: ApiServer, tab: Page, ids: dict[str, Any]) -> None:
    """From the fleet to a device, which is activated; then credits go to another company."""
    had = await days_of(server, ids["side"])
    await tab.goto(f"{server.url}/devices")
    await tab.get_by_role("link", name=NOT_ACTIVE).click()
    await expect(tab.get_by_role("heading", level=1)).to_have_text("Crane 3")
    await tab.get_by_role("link", name="Activate").click()
    await expect(tab.get_by_role("heading", name="Activate")).to_be_visible()
    await tab.get_by_role("button", name="What would it cost?").click()
    await expect(tab.locator("main")).to_contain_text("What it would cost")
    await tab.goto(f"{server.url}/devices/{NOT_ACTIVE}/activate")
    await tab.get_by_role("button", name="Activate", exact=True).click()
    await expect(tab.locator(".note.good")).to_be_visible()
    shown = await server.done("GET", f"/api/v1/devices/{NOT_ACTIVE}")
    assert shown["service"]["state"] == "active"
    await tab.get_by_role("navigation").get_by_role("link", name="Credits", exact=True).click()
    await tab.get_by_role("link", name="Move credits").first.click()
    await tab.get_by_label("Source").select_option(ids["top"])
    await tab.get_by_label("Destination").select_option(ids["side"])
    await tab.locator("input[name=credits]").fill("2")
    await tab.get_by_role("button", name="Move credits", exact=True).click()
    await expect(tab.locator(".note.good")).to_be_visible()
    assert await days_of(server, ids["side"]) == had + 60


async def test_the_main_path_without_scripts(tmp_path: Path, database: Address) -> None:
    async with signed_in(tmp_path, database, scripts=False) as (server, tab, ids):
        await activate_and_move(server, tab, ids)
        # More than there is: a page says so, and leads back.
        await tab.goto(f"{server.url}/credits/move?source={ids['low']}&target={ids['side']}")
        await tab.locator("input[name=credits]").fill("4000")
        await tab.get_by_role("button", name="Move credits", exact=True).click()
        await expect(tab.get_by_role("alert")).to_be_visible()
        await tab.get_by_role("link", name="Back").click()
        for address, what in (("/map", "The map"), (f"/devices/{NOT_ACTIVE}", "Plots")):
            await tab.goto(server.url + address)
            await expect(tab.locator(".note", has_text=f"{what} need")).to_be_visible()
        # Menus are plain ones, and lists filter by a button.
        await tab.goto(f"{server.url}/devices")
        await tab.locator("#by-state").select_option("off")
        await tab.get_by_role("button", name="Show", exact=True).click()
        await expect(tab.locator("#rows > tr")).to_have_count(2)
        await tab.locator("#rows input[name=serials]").first.check()
        await tab.locator("#doing > summary").click()
        await tab.get_by_role("button", name="Add a tag").click()
        await expect(tab.get_by_role("heading", name="Add a tag")).to_be_visible()
        await tab.locator(".account > summary").click()
        await tab.get_by_role("button", name="Sign out").click()
        await tab.wait_for_url("**/login*")
        await tab.goto(f"{server.url}/devices")
        await tab.wait_for_url("**/login?next=**")


@pytest.fixture
def no_libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installation to which npm brought nothing."""
    monkeypatch.setattr(assets, "_FOLDERS", ("static",))
    assets.assets.cache_clear()
    yield
    assets.assets.cache_clear()


@pytest.mark.usefixtures("no_libraries")
async def test_without_the_libraries_pages_say_how_and_everything_else_works(
    tmp_path: Path, database: Address
) -> None:
    assert not assets.has_asset("htmx.min.js")
    async with signed_in(tmp_path, database) as (server, tab, ids):
        watched = Watched(tab, [server.url])
        await watched.begin()
        for address, missing in (
            ("/map", "Leaflet"),
            ("/devices/{serial}", "uPlot"),
            ("/sessions/{session}/terminal", "xterm"),
        ):
            await tab.goto(server.url + address.format(**ids))
            note = tab.locator(".note", has_text="make venv")
            await expect(note).to_have_count(1)
            await expect(note).to_contain_text(missing)
        await activate_and_move(server, tab, ids)
        assert watched.wrong == []


async def focused(tab: Page) -> str:
    """The name of what has the focus."""
    name: str = await tab.evaluate("""() => {
        const one = document.activeElement;
        return (one.getAttribute("aria-label") ?? one.textContent).trim() || one.id || one.nodeName;
    }""")
    return name


async def tab_to(tab: Page, name: str, most: int = 60) -> None:
    """Presses the tabulator until that has the focus, which one can see."""
    for _ in range(most):
        await tab.keyboard.press("Tab")
        if (await focused(tab)).startswith(name):
            style = "getComputedStyle(document.activeElement).outlineStyle"
            assert await tab.evaluate(style) != "none", name
            return
    pytest.fail(f"the tabulator does not lead to {name}")


async def test_by_keyboard_alone(tmp_path: Path, database: Address) -> None:
    async with signed_in(tmp_path, database) as (server, tab, _):
        await tab.goto(f"{server.url}/devices")
        await tab.keyboard.press("Tab")
        assert await focused(tab) == "Skip to content"
        await tab.keyboard.press("Enter")
        assert await tab.evaluate("document.activeElement.id") == "content"
        # Headings sort, and say how.
        await tab_to(tab, "Name")
        await tab.keyboard.press("Enter")
        await tab.wait_for_url("**sort=name*")
        heading = tab.locator("th[aria-sort=ascending]")
        await expect(heading).to_contain_text("Name")
        # The menu of what is done to devices opens, and closes where it was opened.
        await tab.locator("#doing > summary").focus()
        await tab.keyboard.press("Enter")
        await tab_to(tab, "Extend", most=3)
        await tab.keyboard.press("Escape")
        await expect(tab.locator("#doing")).not_to_have_attribute("open", "")
        assert (await focused(tab)).startswith("Do with those ticked")
        # A dialog takes the focus, keeps it, and gives it back.
        await tab.goto(f"{server.url}/devices/{NOT_ACTIVE}")
        await tab.locator("#content").focus()
        await tab_to(tab, "Activate")
        await tab.keyboard.press("Enter")
        await tab.wait_for_selector("dialog[open] .dialog-body")
        inside = "document.activeElement.closest('dialog') !== null"
        outside = "document.activeElement.closest('main, header, nav') !== null"
        assert await tab.evaluate(inside)
        assert await tab.evaluate("document.activeElement.name") == "credits"
        for _step in range(8):
            await tab.keyboard.press("Tab")
            assert not await tab.evaluate(outside)
        await tab.keyboard.press("Escape")
        await expect(tab.locator("dialog[open]")).to_have_count(0)
        assert await focused(tab) == "Activate"
        await tab.keyboard.press("Enter")
        await tab.wait_for_selector("dialog[open] .dialog-body")
        await tab_to(tab, "Activate", most=8)
        await tab.keyboard.press("Enter")
        await expect(tab.locator(".note.good")).to_be_visible()
        # Search: a key leads there, the arrows lead to what was found.
        await tab.locator("#content").focus()
        await tab.keyboard.press("/")
        await tab.keyboard.type("Crane 7")
        await expect(tab.locator("#found a[data-hit]")).to_have_count(1)
        await tab.keyboard.press("ArrowDown")
        await tab.keyboard.press("Enter")
        await tab.wait_for_url("**/devices/1100000007")
