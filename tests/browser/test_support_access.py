"""A company asks people from above to stay out, and lets them in for an hour, in the browser."""

from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

from gateway.storage.address import Address
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server
from tests.browser import chromium
from tests.browser.seeded import CHILD, seed
from tests.browser.story import Person, person

pytestmark = [pytest.mark.either_engine, pytest.mark.timeout(120)]

SERIAL = "1100000001"  # of the company below, whose administrator is Carla


async def ask_first(customer: Person, company_id: str) -> None:
    """The customer's administrator sets that people from above are let in by a member."""
    await customer.go(f"/companies/{company_id}/settings")
    form = customer.tab.locator("form.do", has=customer.tab.locator('[name="inside"]'))
    await form.locator('[name="inside"]').select_option("ask")
    await form.get_by_role("button", name=customer.says("Save"), exact=True).click()
    await customer.told("Saved.")


async def let_in(customer: Person, company_id: str) -> None:
    """For an hour, with a reason that both sides read."""
    await customer.go(f"/companies/{company_id}")
    await customer.dialog("Let support in")
    await customer.fill(minutes="60", reason="The crane stands still")
    await customer.press("Let in")
    await customer.told("People from above are let in.")


async def opens_nothing(server: ApiServer, boss: Person) -> None:
    """No button leads inside, and what a button would send is refused."""
    await boss.go(f"/devices/{SERIAL}")
    await expect(boss.tab.locator("h1")).to_be_visible()
    await expect(boss.tab.get_by_text(boss.says("Open terminal"), exact=True)).to_have_count(0)
    status, found, _ = await server.ask("POST", "/api/v1/sessions", {"serial": SERIAL})
    assert (status, found["code"]) == (403, "forbidden")


@pytest.mark.parametrize("language", [pytest.param("en", marks=pytest.mark.long), "es"])
async def test_support_is_let_in_for_a_time(
    tmp_path: Path, database: Address, language: str
) -> None:
    async with (
        api_server(tmp_path, database) as server,
        async_playwright() as playwright,
        await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        ) as browser,
        person(browser, server.url, language) as boss,
        person(browser, server.url, language) as customer,
    ):
        low = (await seed(server))["low"]
        await boss.sign_in(EMAIL, PASSWORD)
        await customer.sign_in(CHILD["email"], CHILD["password"])
        await boss.go(f"/devices/{SERIAL}")
        terminal = boss.tab.get_by_text(boss.says("Open terminal"), exact=True)
        await expect(terminal).to_be_visible()

        await ask_first(customer, low)
        await opens_nothing(server, boss)
        await let_in(customer, low)
        await boss.go(f"/devices/{SERIAL}")
        await expect(terminal).to_be_visible()
        for one in (boss, customer):
            await one.go(f"/companies/{low}")
            await one.sees("The crane stands still")
        section = customer.tab.locator("#support")
        await section.get_by_role("button", name=customer.says("End"), exact=True).click()
        await expect(
            section.get_by_role("button", name=customer.says("End"), exact=True)
        ).to_have_count(0)
        await opens_nothing(server, boss)
        assert boss.watched.wrong == [] and customer.watched.wrong == []
