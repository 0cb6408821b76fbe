"""A real Chromium for tests: Debian's, driven by Playwright."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, async_playwright

WAIT_MS_MAX = 20_000
AXE = Path(__file__).parents[2] / "packaging/pages/node_modules/axe-core/axe.min.js"


def chromium() -> str:
    """Where Chromium is; without one the test is skipped, and says what to install."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium here: packaging/system-packages tests")
    return program


@asynccontextmanager
async def browsing() -> AsyncIterator[BrowserContext]:
    """One browser with an empty profile; its tabs share their cookies, as a person's do."""
    program = chromium()
    async with async_playwright() as playwright:
        # Chromium's own sandbox does not work for root, as whom CI runs.
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            context = await browser.new_context()
            context.set_default_timeout(WAIT_MS_MAX)
            yield context
        finally:
            await browser.close()


def axe_source() -> str:
    """axe, which looks for what keeps people out; without it the test is skipped, and says why."""
    if not AXE.is_file():
        pytest.skip("no axe here: packaging/pages/fetch needs npm and its registry")
    return AXE.read_text(encoding="utf-8")
