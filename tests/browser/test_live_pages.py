"""A page that keeps itself fresh takes nothing from whoever is at work on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from gateway.storage.address import Address
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server, everything_works
from tests.browser import browsing
from tests.browser.seeded import seed
from tests.browser.watching import PHONE

pytestmark = [pytest.mark.either_engine, pytest.mark.timeout(120)]

FRESH_MS_MAX = 20_000
# What scripts fill in by themselves is theirs.
_NODES = "[...document.querySelectorAll('#content *:not([data-keep] *)')]"


@asynccontextmanager
async def at(
    tmp_path: Path, database: Address, address: str
) -> AsyncIterator[tuple[ApiServer, Page, dict[str, Any]]]:
    """Somebody at a page of a small fleet; `{top}` and so on stand for what there is."""
    async with api_server(tmp_path, database) as server, browsing() as context:
        ids = await seed(server)
        tab = await context.new_page()
        await tab.goto(f"{server.url}/choose?language=en&next=/login")
        await tab.fill("#email", EMAIL)
        await tab.fill("#password", PASSWORD)
        await tab.click("button[type=submit]")
        await tab.wait_for_url("**/devices")
        await tab.goto(server.url + address.format(**ids))
        yield server, tab, ids


async def renamed(server: ApiServer, name: str, serial: str = "1100000001") -> None:
    await server.done("PATCH", f"/api/v1/devices/{serial}", {"name": name})


async def refresh(tab: Page) -> None:
    """As when somebody comes back to the tab: the page asks again, and has become new."""
    await tab.evaluate("""() => new Promise((done) => {
        document.addEventListener("refreshed", done, { once: true });
        document.dispatchEvent(new Event("visibilitychange"));
    })""")


async def test_what_is_open_focused_or_typed_stays_while_the_page_is_refreshed(
    tmp_path: Path, database: Address
) -> None:
    async with at(tmp_path, database, "/devices/{serial}") as (server, tab, _):
        await tab.set_viewport_size({"width": 1280, "height": 400})
        more = tab.locator("#service details.more")
        await more.locator("summary").click()
        await more.locator("summary").focus()
        await tab.evaluate("scrollTo(0, 250); window.more = document.querySelector('.more')")
        was = await tab.evaluate("scrollY")
        await renamed(server, "Another name")
        await expect(tab.locator("h1")).to_have_text("Another name", timeout=FRESH_MS_MAX)
        await expect(more).to_have_attribute("open", "")
        assert await tab.evaluate("document.activeElement === window.more.firstElementChild")
        assert await tab.evaluate("scrollY") == was > 0
        # A button says what it would do now, though the page was not loaded again.
        change = {"auto_extend": False}
        await server.done("PATCH", "/api/v1/devices/1100000001", change)
        await expect(tab.locator("#service").get_by_role("button", name="Do that")).to_be_visible(
            timeout=FRESH_MS_MAX
        )


async def test_typing_stays_when_something_before_it_goes_away(
    tmp_path: Path, database: Address
) -> None:
    async with at(tmp_path, database, "/sessions/{session}") as (_, tab, __):
        # A note that the server no longer gives, and a row between others.
        await tab.evaluate("""() => {
            const note = document.createElement("p");
            note.className = "note warn";
            document.querySelector("#content > .top").after(note);
            document.querySelector("dl.facts > div").after(document.createElement("div"));
        }""")
        name = tab.get_by_label("Name", exact=True)
        await name.fill("The crane's PLC")
        await tab.evaluate("window.typed = document.activeElement")
        await refresh(tab)
        await expect(tab.locator("#content > .note.warn")).to_have_count(0)
        assert await tab.evaluate("document.activeElement === window.typed")
        assert await name.input_value() == "The crane's PLC"


async def test_where_nothing_happened_nothing_is_replaced(
    tmp_path: Path, database: Address
) -> None:
    pages = (
        *("/devices", "/devices/{serial}", "/devices/{serial}/join", "/companies/{top}"),
        *("/credits?company={top}", "/map", "/sessions/{session}", "/status"),
    )
    async with at(tmp_path, database, pages[0]) as (server, tab, ids):
        for page in pages:
            everything_works(server)  # or a check of the status page fails meanwhile
            await tab.goto(server.url + page.format(**ids))
            await tab.evaluate(f"window.before = {_NODES}")
            await refresh(tab)
            replaced = await tab.evaluate(f"""() => {{
                const now = {_NODES};
                const gone = window.before.filter((one) => !one.isConnected);
                const fresh = now.filter((one) => !window.before.includes(one));
                return [...fresh, ...gone].map((one) => one.outerHTML);
            }}""")
            assert replaced == [], page


async def test_rows_that_are_ticked_stay_ticked(tmp_path: Path, database: Address) -> None:
    async with at(tmp_path, database, "/devices") as (server, tab, _):
        menu = tab.locator("#doing")
        await menu.locator("summary").click()
        await renamed(server, "Newest name")
        await refresh(tab)
        cell = tab.locator('tr[data-key="1100000001"] [data-part="name"]')
        await expect(cell).to_have_text("Newest name")
        await expect(menu).to_have_attribute("open", "")
        await tab.keyboard.press("Escape")
        first = tab.get_by_label("Tick 1100000000")
        await first.check()
        # While devices are being chosen nothing moves below the pointer.
        await renamed(server, "A later name")
        await tab.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await first.uncheck()
        await refresh(tab)
        await expect(cell).to_have_text("A later name")


async def test_an_open_branch_of_the_tree_is_fresh(tmp_path: Path, database: Address) -> None:
    async with at(tmp_path, database, "/companies") as (server, tab, ids):
        low = await server.company("Hafen West", parent_id=ids["low"])
        await refresh(tab)
        branch = tab.locator(f'li[data-key="{ids["low"]}"] > details.branch')
        await branch.locator("> summary").click()
        row = tab.locator(f'li[data-key="{low}"]')
        await expect(row).to_contain_text("Hafen West")
        await tab.evaluate("key => window.row = document.querySelector(key)", f'[data-key="{low}"]')
        await server.done("PATCH", f"/api/v1/companies/{low}", {"name": "Hafen Nord"})
        await server.company("Hafen Mitte", parent_id=ids["low"])
        await refresh(tab)
        await expect(row).to_contain_text("Hafen Nord")
        await expect(branch).to_have_attribute("open", "")
        assert await tab.evaluate("window.row.isConnected")
        await expect(branch.locator("> .below")).to_contain_text("Hafen Mitte")
        await expect(branch.locator("> summary")).to_have_text("2 companies below")


async def test_a_button_that_is_pressed_twice_does_it_once(
    tmp_path: Path, database: Address
) -> None:
    async with at(tmp_path, database, "/devices/{serial}") as (_, tab, __):
        sent = []
        tab.on("request", lambda asked: sent.append(asked.url) if "/do/" in asked.url else None)
        button = tab.locator("form.do.inline").get_by_role("button", name="Stop that")
        await button.evaluate("node => { node.click(); node.click(); node.click(); }")
        await tab.wait_for_url("**/devices/1100000001")
        await expect(tab.get_by_role("button", name="Do that")).to_be_visible()
        assert len(sent) == 1


async def test_fields_of_a_dialog_have_names_of_their_own(
    tmp_path: Path, database: Address
) -> None:
    async with at(tmp_path, database, "/sessions/{session}") as (_, tab, __):
        # The page has a field for a name, too.
        await tab.evaluate("""() => {
            const link = document.createElement("a");
            link.href = "/devices/1100000001/change";
            link.dataset.dialog = "";
            link.textContent = "opens";
            document.getElementById("content").append(link);
        }""")
        await tab.get_by_role("link", name="opens").click()
        dialog = tab.locator("dialog[open]")
        await dialog.get_by_label("Name", exact=True).fill("In front")
        twice = """() => {
            const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
            return ids.filter((id, at) => ids.indexOf(id) !== at);
        }"""
        assert await tab.evaluate(twice) == []
        assert await tab.locator("main").get_by_label("Name", exact=True).input_value() == ""


async def test_the_room_where_one_is_can_be_seen_on_a_phone(
    tmp_path: Path, database: Address
) -> None:
    async with at(tmp_path, database, "/devices") as (server, tab, _):
        await tab.set_viewport_size(PHONE)
        for room in ("/audit", "/status"):
            await tab.goto(server.url + room)
            await expect(tab.locator(".rooms [aria-current]")).to_be_in_viewport(ratio=1)
