"""Two people move the same credits, one of them in Spanish; and somebody who presses twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

from gateway.storage.address import Address
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server
from tests.browser import chromium
from tests.browser.story import Person, person

pytestmark = [pytest.mark.either_engine, pytest.mark.timeout(120)]

OTHER = {"email": "bea@example.org", "name": "Bea", "password": "correct horse battery 3"}


@asynccontextmanager
async def at_the_desk(server: ApiServer) -> AsyncIterator[tuple[list[Person], str, str]]:
    """Two at the dialog of a company with five credits, and that company and one below it."""
    top = await server.company("Top")
    low = await server.company("Low", parent_id=top)
    await server.done("POST", "/api/v1/credits/grants", {"company_id": top, "credits": 5})
    billing = {**OTHER, "role": "billing"}
    await server.done("POST", f"/api/v1/companies/{top}/members", billing)
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        ) as browser,
        person(browser, server.url, "en") as one,
        person(browser, server.url, "es") as other,
    ):
        await one.sign_in(EMAIL, PASSWORD)
        await other.sign_in(OTHER["email"], OTHER["password"])
        for each in (one, other):
            await each.go(f"/credits?company={top}")
            await each.dialog("Move credits")
        yield [one, other], top, low


async def days_of(server: ApiServer, company_id: str) -> int:
    found = await server.done("GET", f"/api/v1/companies/{company_id}/credits")
    return int(found["days"])


async def ask(who: Person, source: str, target: str, credits: str) -> None:
    """Fills in the dialog and waits for what that would cost."""
    await who.fill(source=source, target=target, credits=credits)
    cost = who.tab.locator("dialog[open] .cost")
    await expect(cost).to_contain_text(who.says("What it would cost"))
    await expect(cost.locator("tbody tr")).to_have_count(2)


async def test_of_two_one_is_told_what_there_is_now(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, at_the_desk(server) as (both, top, low):
        for who in both:
            await ask(who, top, low, "5")
        await asyncio.gather(*(who.press("Move credits") for who in both))
        done: list[Person] = []
        refused: list[Person] = []
        for who in both:
            good = who.tab.locator(".note.good")
            bad = who.tab.locator("dialog[open] .said .note.bad")
            await expect(good.or_(bad).first).to_be_visible()
            (refused if await bad.count() else done).append(who)
        assert len(done) == len(refused) == 1
        await done[0].told("The credits were moved.")
        late = refused[0]
        told = late.tab.locator("dialog[open] .note.bad:visible")
        await expect(told).to_contain_text(late.says("There are not enough credits", "said"))
        none = "0 credits" if late.language == "en" else "0 créditos"
        await expect(told).to_contain_text(
            late.says("%(company)s has %(credits)s now.", company="Top", credits=none)
        )
        assert (await days_of(server, top), await days_of(server, low)) == (0, 150)
        # Whoever was refused goes on in the same dialog.
        await server.done("POST", "/api/v1/credits/grants", {"company_id": top, "credits": 2})
        await ask(late, top, low, "1")
        await late.press("Move credits")
        await late.told("The credits were moved.")
        assert await days_of(server, low) == 180


async def test_pressing_twice_moves_once(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, at_the_desk(server) as (both, top, low):
        who = both[1]
        await ask(who, top, low, "1")
        button = who.tab.locator("dialog[open] form button[type=submit]").last
        await button.dblclick()
        await who.told("The credits were moved.")
        # Nor does the same form once more, as the browser's own history brings it back.
        await who.tab.go_back()
        assert await days_of(server, low) == 30
