"""The pages about credits: who sees what, what each dialog does, in two languages, on paper."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.storage.address import Address
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server
from tests.browser import browsing
from tests.pdf_text import text_of_pdf

pytestmark = pytest.mark.either_engine

SERIAL = "0123456789"
HOSTILE = "<script>x</script> \u202egnol"


class Visitor:
    """Somebody signed in with a browser that runs no scripts, or htmx."""

    def __init__(self, server: ApiServer, client: aiohttp.ClientSession) -> None:
        self.server = server
        self._client = client

    async def sees(self, path: str, language: str = "en", *, status: int = 200) -> str:
        """The text of a page, its tags included; of a file without a language."""
        headers = {"Accept": "text/html"}
        sign = "&" if "?" in path else "?"
        address = f"{self.server.url}{path}" + (f"{sign}lang={language}" if language else "")
        async with self._client.get(address, headers=headers) as response:
            text = await response.text()
            assert response.status == status, (path, text)
            return text

    async def sends(
        self, form: str, operation: str, *, do: Any = "do", **given: Any
    ) -> tuple[str, str]:
        """Fills in the form of a page: where it leads, and what htmx is told instead."""
        page = await self.sees(form)
        (body,) = re.findall(
            rf'<form class="do" method="post" action="/do/{operation}".*?</form>', page, re.DOTALL
        )
        fields = {
            name: unescape(value)
            for name, value in re.findall(
                r'<input type="hidden" name="([^"]+)" value="([^"]*)"', body
            )
        }
        for name, options in re.findall(
            r'<select[^>]* name="([^"]+)"(.*?)</select>', body, re.DOTALL
        ):
            chosen = re.findall(r'value="([^"]*)" selected', options)
            fields[name] = chosen[0] if chosen else ""
        fields |= {name: str(value) for name, value in given.items()}
        return await self.posts(operation, fields, do=do)

    async def posts(
        self, operation: str, fields: dict[str, str], *, do: Any = "do"
    ) -> tuple[str, str]:
        """Sends fields as they are: where it leads, and what htmx is told instead."""
        address = f"{self.server.url}/{do}/{operation}"
        headers = {"HX-Request": "true", "Origin": self.server.url}
        async with self._client.post(address, data=fields, headers=headers) as response:
            return response.headers.get("HX-Redirect", ""), await response.text()


@asynccontextmanager
async def visiting(
    server: ApiServer, email: str = EMAIL, password: str = PASSWORD
) -> AsyncIterator[Visitor]:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as client:
        signing_in = {"email": email, "password": password}
        address = f"{server.url}/api/v1/login"
        async with client.post(address, json=signing_in, headers={"Origin": server.url}) as found:
            assert found.status == 200
        yield Visitor(server, client)


async def a_member(server: ApiServer, company_id: str, role: str) -> tuple[str, str]:
    """E-mail and password of somebody with one role."""
    email, password = f"{role}{company_id}@example.org", "correct horse battery 2"
    member = {"email": email, "name": role.title(), "password": password, "role": role}
    await server.done("POST", f"/api/v1/companies/{company_id}/members", member)
    return email, password


async def a_tree(server: ApiServer) -> tuple[str, str]:
    """A reseller with ten credits, twenty days of which expire, and a customer."""
    top = await server.company("Top", reference="K-1")
    low = await server.company("Low", parent_id=top, use_parent_credits=True)
    await server.done("POST", "/api/v1/credits/grants", {"company_id": top, "days": 280})
    lot = {"company_id": top, "days": 20, "expires_on": "2099-01-01", "free": True}
    await server.done("POST", "/api/v1/credits/grants", lot)
    return top, low


async def days_of(server: ApiServer, company_id: str) -> int:
    found = await server.done("GET", f"/api/v1/companies/{company_id}/credits")
    return int(found["days"])


def bare(text: str) -> str:
    """Without tags and line ends, as it is read."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text)))


async def test_the_desk_says_what_there_is_and_how_long(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as me:
        top, low = await a_tree(server)
        table = bare(await me.sees("/credits"))
        assert "Top 10 credits" in table and "Low 0 credits" in table
        assert "a company above pays" in table
        found = await me.sees(f"/credits?company={top}")
        text = bare(found)
        assert "10 credits 300 days in all" in text
        assert text.index("1 Jan 2099 free of charge 20") < text.index("never expires paid for")
        assert "The next credit is paid by Top" in text
        assert "nothing is taken: no device was heard lately" in text
        assert '<path class="area" d="M0 100V0.0H1' in found and "style=" not in found
        for act in ("move?source=", "redeem?company_id=", "grant?company_id=", "give?company="):
            assert f'href="/credits/{act}{top}"' in found
        assert f'href="/credits/request?company_id={top}"' not in found  # nobody is above
        below = await me.sees(f"/credits?company={low}", "es")
        assert "El próximo crédito lo paga Low → Top" in bare(below)
        assert f'href="/credits/request?company_id={low}"' in below
        assert "Mover créditos" in below and "Saldo" in below
        await me.sees("/credits?company=999", status=404)
        await me.sees("/ledger?company=999", status=404)
        await me.sees("/ledger/operations/none", status=404)


async def test_each_role_sees_what_it_may(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server:
        top, low = await a_tree(server)
        seen = {}
        for role in ("administrator", "billing", "advanced", "basic", "read_only"):
            async with visiting(server, *await a_member(server, low, role)) as person:
                status = 403 if role in ("basic", "read_only") else 200
                seen[role] = await person.sees("/credits", status=status)
                of_above = await person.sees(f"/credits?company={top}", status=404)
                assert "300" not in of_above and "K-1" not in of_above
                ledger = 200 if role in ("administrator", "billing") else 403
                await person.sees("/ledger", status=ledger)
                await person.sees("/credits/codes", status=ledger)
                await person.sees("/credits/move", status=ledger)
                await person.sees("/credits/grant", status=403)
        for role in ("administrator", "billing"):
            assert "/credits/move?source=" in seen[role] and "/credits/grant" not in seen[role]
            assert "/credits/give" not in seen[role]  # from above
            assert "Low → Top" in bare(seen[role])
        assert "/credits/move" not in seen["advanced"]
        assert "a company above pays" in bare(seen["advanced"])
        assert not re.search("Ledger|Balance|Statement", bare(seen["advanced"]))
        assert "/credits" not in seen["basic"].partition("<main")[0]


async def test_credits_move_with_a_preview_and_of_two_at_once_one_is_told(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as me:
        top, low = await a_tree(server)
        form = f"/credits/move?source={top}"
        asked = {"source": top, "target": low, "credits": 3}
        _, preview = await me.sends(form, "credits.move", do="try", **asked)
        assert "Top 10 credits 7 credits" in bare(preview)
        assert "Low 0 credits 3 credits" in bare(preview)
        assert await days_of(server, low) == 0
        _, nothing = await me.sends(form, "credits.move", do="try", source=top, auto="true")
        assert nothing == ""  # not filled in yet
        following, _ = await me.sends(form, "credits.move", **asked)
        assert following == f"/credits?company={top}&done=credits.move"
        assert "The credits were moved." in await me.sees(following)
        assert await days_of(server, low) == 90

        other = await a_member(server, top, "billing")
        async with visiting(server, *other) as rival:
            all_of_it = {"source": top, "target": low, "credits": 7}
            answers = await asyncio.gather(
                *(one.sends(form, "credits.move", **all_of_it) for one in (me, rival))
            )
        told = [text for following, text in answers if not following]
        assert len(told) == 1 and 'data-code="credits_insufficient"' in told[0]
        assert "There are not enough credits" in told[0]
        assert "Top has 0 credits now." in bare(told[0])
        assert (await days_of(server, top), await days_of(server, low)) == (0, 300)


async def test_every_dialog_does_what_it_says(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as me:
        top, low = await a_tree(server)
        given = {"serial": SERIAL, "company_id": low, "activate": True}
        await server.done("POST", "/api/v1/devices", given)

        grant = {"company_id": top, "days": 45, "expires_on": "2099-02-01", "free": "true"}
        await me.sends("/credits/grant", "credits.grant", **grant, note="spring")
        assert await days_of(server, top) == 315
        assert "1 Feb 2099 free of charge 45" in bare(await me.sees(f"/credits?company={top}"))

        await me.sends("/credits/give", "credits.give", serial=SERIAL, days=5)
        assert await days_of(server, top) == 310

        made = {"company_id": top, "credits": 2, "comment": HOSTILE}
        _, shown = await me.sends("/credits/code", "credit-codes.create", **made)
        (code,) = re.findall(r'id="credit-code">(\w{32})<', shown)
        assert "data-copy" in shown
        codes = await me.sees(f"/credits/codes?company={top}")
        assert f"…{code[-4:]}" in codes and code not in codes
        assert "<script>x" not in codes and "⟨202E⟩" in codes
        redeem = {"code": code.upper(), "company_id": low}
        _, shown = await me.sends("/credits/redeem", "credit-codes.redeem", **redeem)
        assert "Low got 2 credits." in bare(shown)
        assert await days_of(server, low) == 60
        _, shown = await me.sends("/credits/redeem", "credit-codes.redeem", **redeem)
        assert 'data-code="credit_code_used"' in shown

        await me.sends("/credits/code", "credit-codes.create", company_id=top, credits=1)
        codes = await me.sees("/credits/codes?state=open")
        (form,) = {
            unescape(one) for one in re.findall(r'href="(/credits/delete-code[^"]+)"', codes)
        }
        _, cost = await me.sends(form, "credit-codes.delete", do="try")
        assert "went back to Top" in bare(cost) and "8 credits 10 days" in bare(cost)
        await me.sends(form, "credit-codes.delete")
        assert await days_of(server, top) == 250

        price = {"per_credit": "1.85", "currency": "EUR", "from": "2020-01-01"}
        await me.sends(f"/companies/{low}/prices", "companies.price", **price)
        assert "1.85 EUR" in bare(await me.sees(f"/companies/{low}/prices"))
        assert "A credit costs 1.85 EUR" in bare(await me.sees(f"/credits?company={low}"))


async def test_a_request_is_asked_and_answered(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as me:
        top, low = await a_tree(server)
        async with visiting(server, *await a_member(server, low, "administrator")) as child:
            ask = {"credits": 4, "note": HOSTILE}
            await child.sends(f"/credits/request?company_id={low}", "credit-requests.create", **ask)
            waits = await child.sees("/credits")
            assert "waits for an answer" in waits and "/credits/accept" not in waits
            desk = await me.sees(f"/credits?company={top}", "es")
            assert "<script>x" not in desk and "pide 4 créditos" in bare(desk)
            (form,) = re.findall(r'href="(/credits/accept[^"]+)"', desk)
            dialog = await me.sees(unescape(form))
            assert "Asked for 4 credits" in bare(dialog) and "⟨202E⟩" in dialog
            answer = {"days": "", "credits": 1}
            following, _ = await me.sends(unescape(form), "credit-requests.accept", **answer)
            assert following.startswith(f"/credits?company={top}&done=")
            assert await days_of(server, low) == 30
            await child.sends(f"/credits/request?company_id={low}", "credit-requests.create", **ask)
            desk = await me.sees(f"/credits?company={top}")
            (form,) = re.findall(r'href="(/credits/refuse[^"]+)"', desk)
            await me.sends(unescape(form), "credit-requests.refuse", answer="in May")
            assert await days_of(server, low) == 30
            told = bare(await child.sees("/credits", "es"))
            assert "La petición de 4 créditos fue rechazada; nota: in May." in told


async def test_a_sentence_of_the_ledger_opens_its_rows(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as me:
        top, low = await a_tree(server)
        await server.done("PATCH", f"/api/v1/companies/{low}", {"name": "<script>x</script>"})
        given = {"serial": SERIAL, "company_id": low, "activate": True}
        await server.done("POST", "/api/v1/devices", given)
        moved = {"source": top, "target": low, "days": 25, "note": "=1+1" + HOSTILE}
        await server.done("POST", "/api/v1/credits/moves", moved)

        page = await me.sees(f"/ledger?company={top}", "es")
        assert "<script>x" not in page and "&lt;script&gt;" in page and "⟨202E⟩" in page
        text = bare(page)
        assert f"{SERIAL} se activó por 20 días gratis, a cargo de Top" in text
        assert "−25" in text and "+280" in text
        assert "Olga" in text
        only = bare(await me.sees(f"/ledger?company={top}&kind=activate&serial={SERIAL}"))
        assert "−20" in only and "−10" in only and "+280" not in only
        own = bare(await me.sees(f"/ledger?company={top}&descendants=false"))
        assert "+280" in own and SERIAL not in own

        (first, *_) = re.findall(r'href="(/ledger/operations/[^"]+)" data-dialog', page)
        rows = await me.sees(first)
        assert rows.count('<li data-key="o-') == 1 and "=1+1" in rows
        assert "Top never expires, paid for" in bare(rows)
        (back,) = re.findall(r'href="(/credits/reverse[^"]+)"', rows)
        _, cost = await me.sends(unescape(back), "credits.reverse", do="try")
        assert "Top 8 credits 5 days 9 credits" in bare(cost)  # now and then
        async with visiting(server, *await a_member(server, low, "administrator")) as child:
            assert "/credits/reverse" not in await child.sees(first)  # it came from above
        await me.sends(unescape(back), "credits.reverse", days=10)
        assert await days_of(server, low) == 15

        (file,) = re.findall(r'href="(/api/v1/ledger/export\?[^"]*format=csv)"', page)
        status, body, answer = await server.ask("GET", unescape(file))
        assert status == 200 and answer.content_type == "text/csv"
        assert ",'=1+1" in body.decode() and b",=1+1" not in body


async def test_a_browser_previews_a_move_and_prints_the_statement(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database) as server, browsing() as browser:
        top, low = await a_tree(server)
        tab = await browser.new_page()
        wrong: list[str] = []
        tab.on("console", lambda one: wrong.append(one.text) if one.type == "error" else None)
        tab.on("pageerror", lambda one: wrong.append(str(one)))
        await tab.goto(f"{server.url}/login?next=/credits?company={top}")
        await tab.fill("#email", EMAIL)
        await tab.fill("#password", PASSWORD)
        await tab.click("button[type=submit]")
        await tab.click("text=Move credits >> nth=-1")
        await tab.wait_for_selector("dialog[open] select[name=target]")
        await tab.select_option("dialog select[name=target]", low)
        await tab.fill("dialog input[name=credits]", "4")
        cost = tab.locator("dialog .cost table")
        await cost.wait_for()
        shown = re.sub(r"\s+", " ", await cost.inner_text())
        assert "Top 10 credits 6 credits" in shown and "Low 0 credits 4 credits" in shown
        assert await days_of(server, low) == 0
        await tab.click("dialog button[type=submit]:has-text('Move credits')")
        await tab.wait_for_selector("text=The credits were moved.")
        assert await days_of(server, low) == 120
        for width in (1280, 360):
            await tab.set_viewport_size({"width": width, "height": 800})
            for path in (f"/credits?company={top}", f"/ledger?company={top}", "/credits"):
                await tab.goto(server.url + path)
                assert await tab.evaluate("document.documentElement.scrollWidth") <= width, path
        await tab.goto(f"{server.url}/companies/{top}/statement?lang=es")
        assert await tab.is_visible("button[data-print]") and await tab.is_visible("nav.rooms")
        text = text_of_pdf(await tab.pdf(prefer_css_page_size=True))
        for part in ("Extracto:Top", "Saldoinicial", "300", "−120", "180", "K-1"):
            assert part in text, part
        assert "Imprimir" not in text and "Mostrar" not in text and "Fleetgate" not in text
        assert not wrong
