"""The reseller's story, in both languages, at a real installation with real mail and a router."""

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

from tests.browser import chromium
from tests.browser.story import Person, person, simulated_router
from tests.integration.test_up_whole import running
from tests.mail_server import link_in, mail_server
from tests.pdf_text import text_of_pdf

pytestmark = [pytest.mark.either_engine, pytest.mark.timeout(300)]

SERIAL, SPARE = "1300000001", "1300000002"
CUSTOMER, PASSWORD = "carla@example.org", "correct horse battery 3"


def mail_section(port: int) -> str:
    return (
        f'[mail]\nhost = "127.0.0.1"\nport = {port}\nsecurity = "none"\n'
        'from_address = "fleet@example.org"\n'
    )


async def first_run(boss: Person) -> None:
    """An empty system explains itself; two companies and credits are made on the way."""
    await boss.sees("Add new company")
    await boss.go("/companies")
    await boss.dialog("Add new company")
    await boss.fill(name="Nordlift")
    await boss.press("Add")
    await boss.go("/companies")
    await boss.sees("Nordlift")
    await boss.go("/credits/grant")
    await boss.fill(company_id=await boss.chosen("Nordlift"), credits="20")
    await boss.press("Grant")
    await boss.told("The credits were granted.")


async def customer_company(boss: Person) -> None:
    """A company for the customer, whose administrator is invited by mail."""
    await boss.go("/companies")
    await boss.dialog("Add new company")
    await boss.fill(
        name="Hafen",
        parent_id=await boss.chosen("Nordlift"),
        use_parent_credits="true",
        administrator_email=CUSTOMER,
    )
    await boss.press("Add")
    await boss.sees("The invitation was sent.")


async def accept(customer: Person, link: str) -> None:
    """The link of the mail, a password, and one is in."""
    await customer.tab.goto(f"{link}?lang={customer.language}")
    await customer.tab.fill("#name", "Carla")
    await customer.tab.fill("#password", PASSWORD)
    await customer.tab.click("button[type=submit]")
    await customer.tab.wait_for_url("**/devices", wait_until="commit")
    await customer.go(f"/choose?language={customer.language}&next=/devices")


async def register(customer: Person) -> str:
    """Registers a router and gives back its join string."""
    await customer.go("/devices/register")
    await customer.fill(serial=SERIAL, name="Crane 7")
    await customer.press("Register")
    await customer.tab.wait_for_url(f"**/devices/{SERIAL}/join*", wait_until="commit")
    await customer.press("Make a join string")
    join = await customer.tab.locator("#join-string").inner_text()
    assert join.startswith("fg1:")
    assert await customer.tab.locator(".qr-box svg").count() == 1
    return join


async def move_credits(boss: Person) -> None:
    """*Move credits*, with what both would have then."""
    await boss.go("/credits")
    await boss.dialog("Move credits")
    await boss.fill(source=await boss.chosen("Nordlift"), target=await boss.chosen("Hafen"))
    await boss.fill(credits="3")
    cost = boss.tab.locator("dialog[open] .cost")
    await expect(cost).to_contain_text("Hafen")
    await expect(cost).to_contain_text("Nordlift")
    await boss.press("Move credits")
    await boss.told("The credits were moved.")


async def replace_and_unregister(customer: Person) -> None:
    """A broken router's days go along; unregistering says before what is lost."""
    await customer.go(f"/devices/{SERIAL}")
    await customer.dialog("Replace")
    await customer.fill(serial=SPARE)
    await customer.press("Replace")
    await customer.tab.wait_for_url(f"**/devices/{SPARE}/join*", wait_until="commit")
    await customer.go(f"/devices/{SPARE}")
    await customer.dialog("Unregister")
    await expect(customer.tab.locator("dialog[open] .cost")).to_contain_text(SPARE)
    await customer.press("Unregister")
    await customer.told("The device was unregistered.")


async def statement(boss: Person, company_id: str) -> None:
    """The statement prints to PDF, with the figures and without the menus."""
    await boss.go(f"/companies/{company_id}/statement?lang={boss.language}")
    printed = text_of_pdf(await boss.tab.pdf(format="A4"))
    assert "Nordlift" in printed
    assert boss.says("Main menu") not in printed


@pytest.mark.parametrize("language", ["en", "es"])
async def test_from_an_empty_system_to_a_printed_statement(tmp_path: Path, language: str) -> None:
    data = tmp_path / "data"
    async with mail_server() as boxes:
        data.mkdir()
        (data / "gateway.toml").write_text(mail_section(boxes.port))
        with running(data) as up:
            ready = await asyncio.to_thread(up.wait_ready)
            url = ready["http_url"]
            async with (
                async_playwright() as playwright,
                await playwright.chromium.launch(
                    executable_path=chromium(), args=["--no-sandbox"]
                ) as browser,
                person(browser, url, language) as boss,
                person(browser, url, language) as customer,
            ):
                await boss.sign_in(ready["admin_email"], ready["admin_password"])
                await first_run(boss)
                await customer_company(boss)
                await asyncio.wait_for(boxes.something_came.wait(), 20)
                await accept(customer, link_in(boxes.arrived[0][1], f"{url}/invitation"))
                join = await register(customer)
                await boss.go("/devices")
                with simulated_router(tmp_path / "router", SERIAL, join):
                    # Neither of them touches anything: the page changes by itself.
                    await expect(customer.tab.locator("#joined .tag.tone-online")).to_be_visible(
                        timeout=45_000
                    )
                    row = boss.tab.locator(f'[data-key="{SERIAL}"] .tag.tone-online')
                    await expect(row.first).to_be_visible(timeout=20_000)
                    await move_credits(boss)
                await replace_and_unregister(customer)
                await statement(boss, "1")
                assert boss.watched.wrong == [] and customer.watched.wrong == []
