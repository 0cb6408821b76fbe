"""One's own account over HTTP: name, password, second factor, tokens, sign-ins, leaving."""

import base64
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from playwright.async_api import expect

from gateway.people.totp import STEP_S
from gateway.storage.address import Address
from gateway.web import companies_page
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server
from tests.browser import browsing
from tests.integration.test_page_companies import family, member, posted
from tests.integration.test_page_credits import visiting

pytestmark = pytest.mark.either_engine


def code_of(server: ApiServer, secret: str) -> str:
    """What an app shows now (RFC 6238)."""
    padded = secret + "=" * (-len(secret) % 8)
    app = TOTP(base64.b32decode(padded), 6, SHA1(), STEP_S)
    return app.generate(server.clock.wall_ms() / 1000).decode()


async def test_name_language_and_password(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as olga:
        await olga.sends("/account", "me.change", name="Olga <b>", language="es")
        text = await olga.sees("/account")
        assert "Olga &lt;b&gt;" in text and "<b>" not in text.split("<main")[1].split("</main")[0]
        _, answer = await olga.sends(
            "/account", "me.change-password", old_password="wrong one", new_password="n" * 12
        )
        assert 'data-code="credentials_wrong"' in answer
        _, answer = await olga.sends(
            "/account", "me.change-password", old_password=PASSWORD, new_password="short"
        )
        assert 'data-field="new_password"' in answer
        to, _ = await olga.sends(
            "/account", "me.change-password", old_password=PASSWORD, new_password="n" * 12
        )
        assert "The password was changed." in await olga.sees(to)
        async with visiting(server, EMAIL, "n" * 12) as again:
            assert "Sign out everywhere else" in await again.sees("/account")


async def test_tokens_are_shown_once_and_deleted(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as olga:
        top = await server.company("Nordlift")
        _, answer = await olga.sends(
            "/account/token", "tokens.create", name="script", scopes="read", companies=top
        )
        (token,) = re.findall(r'id="token">([^<]+)<', answer)
        assert (await server.ask("GET", "/api/v1/devices", token=token))[0] == 200
        text = await olga.sees("/account")
        assert "script" in text and token not in text and "<bdi>Nordlift</bdi>" in text
        assert "look at everything but credits" in text
        number = re.findall(r'name="token_id" value="([^"]+)"', text)[0]
        await posted(olga, "/account", "tokens.delete", token_id=number)
        assert (await server.ask("GET", "/api/v1/devices", token=token))[0] == 401
        _, answer = await olga.sends("/account/token", "tokens.create", name="x", scopes="")
        assert 'data-field="scopes"' in answer


async def test_sign_ins_end_and_a_company_is_left(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as olga:
        ids = await family(server)
        email = await member(server, ids["low"], "basic")
        async with visiting(server, email, PASSWORD) as here:
            async with visiting(server, email, PASSWORD) as there:
                text = await here.sees("/account")
                (other,) = re.findall(r'name="sign_in_id" value="([^"]+)"', text)
                await posted(here, "/account", "sign-ins.end", sign_in_id=other)
                assert 'action="/login"' in await there.sees("/account")
            (leave,) = re.findall(r'href="(/account/leave/\d+)"', await here.sees("/account"))
            await here.sends(leave, "members.remove")
            assert "Hafen" not in await here.sees("/account")
            await here.sees(leave, status=404)
        # The last administrator cannot go.
        text = await olga.sees("/account")
        _, answer = await olga.sends(
            re.findall(r'href="(/account/leave/\d+)"', text)[0], "members.remove"
        )
        assert 'data-code="last_administrator"' in answer


async def test_an_account_is_deleted_by_its_person(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server:
        ids = await family(server)
        email = await member(server, ids["low"], "basic")
        async with visiting(server, email, PASSWORD) as visitor:
            to, _ = await visitor.sends("/account/delete", "me.erase", password=PASSWORD)
            assert to.startswith("/login")
            assert 'action="/login"' in await visitor.sees("/account")


async def test_a_demanded_second_factor_is_set_up_before_all_else(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database) as server:
        ids = await family(server)
        email = await member(server, ids["low"], "administrator")
        change = {"require_totp": True}
        await server.done("PATCH", f"/api/v1/companies/{ids['low']}/settings", change)
        async with visiting(server, email, PASSWORD) as carla:
            assert "/account/second-factor" in await carla.sees("/account")
            assert "/account/second-factor" in await carla.sees("/devices", status=403)
            page = "/account/second-factor"
            assert "demands a second factor" in await carla.sees(page)
            _, answer = await carla.sends(page, "me.set-up-totp", password=PASSWORD)
            assert 'class="qr"' in answer
            (secret,) = re.findall(r'id="totp-secret">([^<]+)<', answer)
            confirm = f"{page}/confirm"
            _, answer = await carla.sends(confirm, "me.confirm-totp", code="000000x")
            assert 'data-code="credentials_wrong"' in answer
            code = code_of(server, secret)
            _, answer = await carla.sends(confirm, "me.confirm-totp", code=code)
            codes = re.findall(r"[a-z0-9]{4,}-[a-z0-9-]+", answer.split('id="recovery-codes">')[1])
            assert len(codes) >= 8
            assert "Hafen" in await carla.sees("/companies")
            _, answer = await carla.sends(page, "me.remove-totp", password=PASSWORD, code=codes[0])
            assert 'action="/login"' not in await carla.sees("/account")


async def test_the_tree_and_the_second_factor_in_a_browser(
    tmp_path: Path, database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companies_page, "SHOWN_AT_ONCE", 1)
    async with api_server(tmp_path, database) as server, browsing() as context:
        await family(server)
        tab = await context.new_page()
        wrong: list[str] = []
        tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        await tab.goto(server.url + "/login?next=/companies")
        await tab.fill("#email", EMAIL)
        await tab.fill("#password", PASSWORD)
        await tab.click("button[type=submit]")
        # The rest of a long branch comes when it is asked for, and a branch when it is opened.
        await expect(tab.locator("#tree .tree-name")).to_have_count(2)
        await tab.click("#tree a:has-text('More')")
        await expect(tab.locator("#tree .tree-name")).to_have_count(3)
        await expect(tab.locator("#tree a:has-text('More')")).to_have_count(0)
        await tab.click("summary:has-text('1 company below')")
        await expect(tab.locator(".branch .tree-name")).to_contain_text("Tief")
        await tab.fill("#q", "haf")
        await expect(tab.locator("#tree .tree-name")).to_have_count(1)
        # Add new company, by its dialog.
        await tab.click("main a:has-text('Add new company')")
        dialog = tab.locator("dialog[open]")
        await dialog.locator("[name=name]").fill("Neu")
        await dialog.locator("[name=parent_id]").select_option(label="Hafen")
        await dialog.locator("[name=administrator_email]").fill("n@example.org")
        await dialog.locator("button[type=submit]:visible").click()
        await expect(dialog.locator("#invitation-link")).to_contain_text("/invitation/")
        await tab.goto(server.url + "/users")
        await tab.click("main a:has-text('Invite new user')")
        await dialog.locator("[name=email]").fill("ines@example.org")
        await dialog.locator("[name=company_id]").select_option(label="Hafen")
        await dialog.locator("button[type=submit]:visible").click()
        await expect(dialog.locator("#invitation-link")).to_contain_text("/invitation/")
        # The second factor, from the QR code to the recovery codes.
        await tab.goto(server.url + "/account/second-factor")
        await tab.fill("[name=password]", PASSWORD)
        await tab.click("main button[type=submit]:has-text('Begin')")
        await expect(tab.locator(".qr-box svg")).to_be_visible()
        secret = await tab.locator("#totp-secret").inner_text()
        await tab.click("a:has-text('Type the code')")
        await dialog.locator("[name=code]").fill(code_of(server, secret))
        await dialog.locator("button[type=submit]").click()
        await expect(dialog.locator("#recovery-codes")).to_be_visible()
        await tab.emulate_media(media="print")
        await expect(dialog.locator("#recovery-codes")).to_be_visible()
        await expect(tab.locator("main h1")).to_be_hidden()
        await tab.emulate_media(media="screen")
        await tab.goto(server.url + "/account")
        await expect(tab.locator("main")).to_contain_text("in force")
        assert wrong == []
