"""Onto a router from a browser, in both languages: its own page, and a terminal on it."""

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

from tests.browser import chromium
from tests.browser.story import Person, person
from tests.integration.test_up_whole import running

pytestmark = [pytest.mark.either_engine, pytest.mark.timeout(240)]

SERIAL = "1100000001"
SEEN = re.compile(r"^seen-42\s*$")
ROUTER_USER, ROUTER_PASSWORD = "admin", "admin01"


async def router_page(boss: Person) -> None:
    """The router's own page opens by itself once the router answers."""
    await boss.go(f"/devices/{SERIAL}")
    await boss.press("Open page")
    await boss.tab.wait_for_url("**://s-*.localhost:*/**", timeout=30_000, wait_until="commit")
    await expect(boss.tab.locator("input[type=password]").first).to_be_visible()


async def plots(boss: Person) -> None:
    """Signal, temperature and traffic are drawn, and stand in tables for everybody else."""
    await boss.go(f"/devices/{SERIAL}?range=hour")
    await expect(boss.tab.locator("#plots canvas")).to_have_count(3)
    await boss.tab.locator("#plots summary").first.click()
    await expect(boss.tab.locator("#plots table").first).to_contain_text("RSRP")


async def terminal(boss: Person) -> None:
    """A terminal: the host key is accepted once, a wrong password is said, commands answer."""
    await boss.go(f"/devices/{SERIAL}")
    await boss.press("Open terminal")
    await boss.tab.wait_for_url("**/sessions/*/terminal", timeout=30_000, wait_until="commit")
    await boss.fill(user=ROUTER_USER, password="wrong")
    await boss.press("Connect")
    await expect(boss.tab.locator("#fingerprint")).to_contain_text("SHA256:")
    await boss.press("Accept it")
    await boss.sees("User or password is wrong.")
    await boss.fill(user=ROUTER_USER, password=ROUTER_PASSWORD)
    await boss.press("Connect")
    screen = boss.tab.locator("#terminal .xterm-rows")
    await expect(screen).to_contain_text("#", timeout=20_000)
    await boss.tab.locator("#terminal textarea").focus()
    await boss.tab.keyboard.type("echo seen-42\n")
    line = boss.tab.locator("#terminal .xterm-rows > div").filter(has_text=SEEN)
    await expect(line).to_have_count(1)
    await boss.tab.keyboard.type("exit\n")
    await boss.sees("The shell has ended.")


@pytest.mark.parametrize("language", [pytest.param("en", marks=pytest.mark.long), "es"])
async def test_a_page_and_a_terminal(tmp_path: Path, language: str) -> None:
    with running(tmp_path / "data", "--demo", "1") as up:
        ready = await asyncio.to_thread(up.wait_ready)
        url = ready["http_url"]
        async with (
            async_playwright() as playwright,
            await playwright.chromium.launch(
                executable_path=chromium(), args=["--no-sandbox"]
            ) as browser,
            person(browser, url, language) as boss,
        ):
            await boss.sign_in(ready["admin_email"], ready["admin_password"])
            row = boss.tab.locator(f'[data-key="{SERIAL}"] .tag.tone-online')
            await expect(row.first).to_be_visible(timeout=45_000)
            await router_page(boss)
            await plots(boss)
            await terminal(boss)
            await boss.press("Close session")
            await boss.told("The session is closed.")
            await boss.go("/sessions")
            await boss.sees("closed by a person", "word")
            assert [one for one in boss.watched.wrong if "another host" not in one] == []
