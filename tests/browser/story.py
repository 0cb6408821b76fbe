"""People in browsers at a real installation: each has a tab, a language and no other way in."""

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, expect

from gateway.web.languages import words_of
from tests.browser.watching import Watched

ROOT = Path(__file__).parents[2]
LIVE_MS_MAX = 45_000  # a router that was just started joins, reports and is heard


class Person:
    """One person at a browser, who reads one language."""

    def __init__(self, watched: Watched, url: str, language: str) -> None:
        self.watched = watched
        self.tab: Page = watched.tab
        self.url = url
        self._words = words_of(language)
        self.language = language

    def says(self, english: str, context: str = "", **values: Any) -> str:
        """The text as this person reads it; some texts stand in a context of their own."""
        words = self._words
        text = words.pgettext(context, english) if context else words.gettext(english)
        return text % values if values else text

    async def go(self, address: str) -> None:
        """Types an address."""
        await self.tab.goto(self.url + address)

    async def sign_in(self, email: str, password: str) -> None:
        """Signs in at the door."""
        await self.go(f"/choose?language={self.language}&next=/login")
        await self.tab.fill("#email", email)
        await self.tab.fill("#password", password)
        await self.tab.click("button[type=submit]")
        await self.tab.wait_for_url("**/devices", wait_until="commit")

    async def press(self, english: str) -> None:
        """Presses the button or link that is called so, on the page or in front of it."""
        name = self.says(english)
        dialog = self.tab.locator("dialog[open]")
        within = dialog if await dialog.count() else self.tab.locator("main")
        await (
            within.get_by_role("button", name=name, exact=True)
            .or_(within.get_by_role("link", name=name, exact=True))
            .first.click()
        )

    async def dialog(self, english: str) -> None:
        """Opens a dialog by its link, and waits until it is there."""
        await self.press(english)
        await self.tab.wait_for_selector("dialog[open] .dialog-body")

    async def fill(self, **fields: str) -> None:
        """Fills in the form in front, by the names of its fields."""
        dialog = self.tab.locator("dialog[open]")
        within = dialog if await dialog.count() else self.tab.locator("main")
        for name, value in fields.items():
            field = within.locator(f'[name="{name}"]:not([type=hidden])').first
            kind = await field.evaluate("node => node.type || node.localName")
            if kind == "select-one":
                await field.select_option(value)
            elif kind == "checkbox":
                await field.set_checked(value == "true")
            else:
                await field.fill(value)

    async def sees(self, english: str, context: str = "", **values: Any) -> None:
        """Waits until it stands on the page."""
        text = self.says(english, context, **values)
        await expect(self.tab.locator("body")).to_contain_text(text, timeout=LIVE_MS_MAX)

    async def told(self, english: str) -> None:
        """Waits for the message that something was done."""
        text = self.says(english, "done")
        await expect(self.tab.locator(".note.good").first).to_contain_text(text)

    async def chosen(self, name: str) -> str:
        """The value of a company's option in the form in front."""
        option = self.tab.locator("option", has_text=re.compile(rf"^\s*{re.escape(name)}\s*$"))
        return str(await option.first.get_attribute("value"))


@asynccontextmanager
async def person(browser: Browser, url: str, language: str, *hosts: str) -> AsyncIterator[Person]:
    """A person with a browser profile of their own."""
    context = await browser.new_context()
    context.set_default_timeout(20_000)
    try:
        watched = Watched(await context.new_page(), [url, *hosts])
        await watched.begin()
        yield Person(watched, url, language)
    finally:
        await context.close()


@contextmanager
def simulated_router(folder: Path, serial: str, join: str) -> Iterator[subprocess.Popen[bytes]]:
    """A router that does not exist, with a real agent, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    log = (folder / "router.log").open("wb")
    words = ["fleet", "--routers", "1", "--first-serial", serial, "--interval", "2", "--calm"]
    with log:
        process = subprocess.Popen(
            [sys.executable, "-m", "firmware_sim", *words, "--state", str(folder), "--join", join],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)
