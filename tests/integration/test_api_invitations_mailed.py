"""An invitation by mail, from the desk over a real SMTP server into a real browser."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.jobs.mail_sender import MailSender
from gateway.storage.address import Address
from tests.api_server import ApiServer, api_server
from tests.browser import browsing
from tests.mail_server import Mailboxes, link_in, mail_server

pytestmark = pytest.mark.either_engine

ANN = "ann@example.org"
SECRET = "a very long secret"
INVITATIONS = "/api/v1/invitations"
LONG = "Beta" + "x" * 100  # in one word, on a phone


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database, mail=True) as running:
        yield running


async def mailed(server: ApiServer, boxes: Mailboxes, company_id: str, role: str) -> str:
    """The token in the link that arrives."""
    content = {"email": ANN, "company_id": company_id, "role": role}
    made = await server.done("POST", INVITATIONS, content)
    assert "link" not in made
    sender = MailSender(server.store, server.clock, server.telemetry, server.site, boxes.settings())
    await sender.send_due()
    recipient, message = boxes.arrived[-1]
    assert recipient == ANN
    beginning = f"{server.site.public_url}/invitation/"
    return link_in(message, beginning).removeprefix(beginning)


async def test_a_link_in_a_mail_takes_one_person_in_twice(server: ApiServer) -> None:
    acme, beta = await server.company(), await server.company(LONG)
    async with mail_server() as boxes, browsing() as browser:
        token = await mailed(server, boxes, acme, "advanced")
        tab = await browser.new_page()
        refused: list[str] = []
        tab.on("console", lambda said: refused.append(said.text))
        await tab.goto(f"{server.url}/invitation/{token}")
        assert await tab.locator("#email").input_value() == ANN
        await tab.fill("#name", "Ann Example")
        await tab.fill("#password", SECRET)
        await tab.click("button")
        await tab.wait_for_url("**/devices")
        assert "Ann Example" in await tab.content()
        # Signed in already: one button.
        token = await mailed(server, boxes, beta, "billing")
        await tab.goto(f"{server.url}/invitation/{token}")
        assert f"signed in as {ANN}" in await tab.content()
        await tab.set_viewport_size({"width": 360, "height": 740})
        assert await tab.evaluate("document.documentElement.scrollWidth") <= 360
        await tab.click("main button")
        await tab.wait_for_url("**/devices")
        await tab.goto(f"{server.url}/invitation/{token}")
        assert "This invitation is not good, or not any more" in await tab.content()
        found = await tab.evaluate("fetch('/api/v1/me').then(answer => answer.json())")
        roles = {one["company_name"]: one["role"] for one in found["memberships"]}
        assert roles == {"Acme": "advanced", LONG: "billing"}
        assert not [one for one in refused if "Policy" in one]
