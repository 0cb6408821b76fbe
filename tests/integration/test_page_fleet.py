"""The fleet's page over HTTP: what it answers, how it is narrowed, and what is done to many."""

import re
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import select, update

from gateway.jobs import events
from gateway.storage import latest_values
from gateway.storage.address import Address
from gateway.storage.locks import Tree
from gateway.storage.schema import device, device_latest, device_live
from gateway.storage.search_rows import note_told
from gateway.storage.transaction import Transaction
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server
from tests.browser import browsing
from wire.fields import BY_NAME

pytestmark = pytest.mark.either_engine

A, B, C = "1100000000", "1100000001", "1100000002"
HOSTILE = "<img src=x onerror=alert(1)> \u202egnol 🚚"
CHILD = {"email": "carla@example.org", "name": "Carla", "password": "correct horse battery 2"}
HEARD = {
    "operator": "Telefónica <i>",
    "firmware": "RUTX_R_00.07.06.3",
    "imei": "356938100030001",
    "rsrp": -101,
    "latitude": 546_871_570,
    "longitude": 252_796_520,
}


def hear(*serials: str) -> Callable[[Transaction], None]:
    """That these devices told of themselves just now."""

    def work(tx: Transaction) -> None:
        tx.lock_devices(select(device.c.id).where(device.c.serial.in_(serials)))
        kept = {BY_NAME[name].id: (value, tx.now_ms) for name, value in HEARD.items()}
        packed = latest_values.merged(latest_values.NOTHING, latest_values.encode(kept))
        told = {}
        for row in tx.all(select(device.c.id).where(device.c.serial.in_(serials))):
            live = {"presence": "online", "last_heard_at": tx.now_ms, "signal": -101}
            tx.run(update(device_live).where(device_live.c.device_id == row.id).values(**live))
            tx.run(
                update(device_latest)
                .where(device_latest.c.device_id == row.id)
                .values(latest=packed)
            )
            told[row.id] = latest_values.NOTHING
        note_told(tx, told)

    return work


async def seed(server: ApiServer) -> dict[str, str]:
    """A reseller who pays for a customer, and nine devices of both; C and others wait."""
    top = await server.company("Nordlift GmbH")
    low = await server.company("Hafen Ost", parent_id=top, use_parent_credits=True)
    await server.done("POST", "/api/v1/credits/grants", {"company_id": top, "credits": 50})
    for number in range(9):
        made = {
            "serial": f"11000000{number:02}",
            "company_id": (top, low)[number % 2],
            "name": HOSTILE if number == 4 else f"Crane {number}",
            "tags": ["port", "<i>"][: number % 3],
            "activate": True if number % 3 < 2 else "later",
        }
        await server.done("POST", "/api/v1/devices", made)
    return {"top": top, "low": low}


async def sign_in(server: ApiServer, email: str = EMAIL, password: str = PASSWORD) -> None:
    form = {"email": email, "password": password}
    async with server.client.post(server.url + "/login", data=form, allow_redirects=False) as sent:
        assert sent.status == 303


async def page(server: ApiServer, path: str, language: str = "en") -> str:
    headers = {"Accept": "text/html", "Accept-Language": language}
    async with server.client.get(server.url + path, headers=headers) as response:
        text = await response.text()
        assert response.status == 200, (path, response.status, text[:400])
        return text


def serials(text: str) -> list[str]:
    return re.findall(r'<tr data-key="([^"]+)">', text)


async def test_the_three_answers_and_a_list_that_its_address_narrows(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database) as server:
        made = await seed(server)
        await server.store.write(hear(A, B))
        await sign_in(server)
        text = await page(server, "/devices")
        assert "of 9 online" in text and "of 9 active" in text
        assert "none needs attention" in text
        assert "Nordlift GmbH" in text and "enough until" in text
        assert len(serials(text)) == 9 and "-101 dBm" in text
        assert "<img src=x" not in text and "Telefónica &lt;i&gt;" in text
        # Every filter stands in the address, and can be taken away by itself.
        for query, found in (
            ("presence=online", [A, B]),
            ("q=356938100030001&sort=-serial", [B, A]),
            (f"company={made['low']}&presence=online", [B]),
            ("operator=Telef%C3%B3nica+%3Ci%3E&firmware=RUTX_R_00.07.06.3", [A, B]),
            ("signal=average&tag=port", [B]),
            ("days_left_max=3", []),
            (f"payer={made['top']}&tag=port&state=active", [B, "1100000004", "1100000007"]),
            ("presence=nonsense&sort=nonsense&shown=x&days_left_max=-1&tag=port&q=crane+1", [B]),
        ):
            text = await page(server, f"/devices?{query}")
            assert serials(text) == found, query
        assert 'href="/devices?q=crane+1"' in text  # without the tag
        assert 'aria-sort="ascending"' in text
        empty = await page(server, "/devices?tag=nowhere", "es")
        assert "Ningún dispositivo coincide." in empty and "Quitar los filtros" in empty
        # A form sends empty fields: they do not stay in the address.
        response = await server.client.get(
            server.url + "/devices?q=&presence=late&tag=", headers={"Accept": "text/html"}
        )
        assert response.url.query_string == "presence=late"
        # Columns are kept.
        await page(server, "/fleet/columns?column=payer&column=firmware")
        text = await page(server, f"/devices?q={B}")
        assert 'data-part="payer"' in text and 'data-part="tags"' not in text


async def test_roles_see_what_they_may_and_no_button_beyond(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database) as server:
        made = await seed(server)
        for role, email in (("billing", "bill@example.org"), ("read_only", "rita@example.org")):
            member = {**CHILD, "email": email, "role": role}
            await server.done("POST", f"/api/v1/companies/{made['low']}/members", member)
        await sign_in(server, "bill@example.org", CHILD["password"])
        text = await page(server, "/devices")
        assert serials(text) == [B, "1100000003", "1100000005", "1100000007"]
        assert "does not see which are connected" in text and "not shown" in text
        assert 'name="serials"' not in text and "/devices/register" not in text
        await server.client.get(server.url + "/map", headers={"Accept": "text/html"})
        response = await server.client.get(server.url + "/map", headers={"Accept": "text/html"})
        assert response.status == 403
        server.client.cookie_jar.clear()
        await sign_in(server, "rita@example.org", CHILD["password"])
        text = await page(server, "/devices")
        assert "Your role does not see credits." in text and 'name="serials"' not in text
        path = f"/devices/act?action=extend&serials={B}"
        response = await server.client.get(server.url + path, headers={"Accept": "text/html"})
        assert response.status == 403


async def test_what_is_done_to_many_is_priced_before(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server:
        await seed(server)
        await sign_in(server)
        # More than fit into an address are sent by a form.
        asked = aiohttp.FormData([("action", "extend"), ("serials", A), ("serials", B)])
        headers = {"Accept": "text/html"}
        async with server.client.post(
            server.url + "/devices/act", data=asked, headers=headers
        ) as response:
            text = await response.text()
        assert response.status == 200 and f'name="serials" value="{A},{B}"' in text
        csrf = re.findall(r'name="csrf" value="([^"]+)"', text)[0]
        form = {"csrf": csrf, "action": "extend", "serials": f"{A},{B}", "credits": "2"}
        fragment = {"HX-Request": "true"}
        answer = await server.client.post(
            server.url + "/try/devices.act-many", data=form, headers=fragment
        )
        tried = await answer.text()
        assert tried.count("extended by 2 credits") == 2 and "Nordlift GmbH" in tried
        form["then"] = "/devices?tag=port"
        answer = await server.client.post(
            server.url + "/do/devices.act-many", data=form, headers={"HX-Request": "true"}
        )
        assert answer.headers["HX-Redirect"] == "/devices?tag=port&done=devices.act-many"
        assert (await server.done("GET", f"/api/v1/devices/{A}"))["service"]["days_left"] >= 89
        # All or nothing, and the refusal names the device, in the reader's language.
        form |= {"serials": f"{A},{C}", "credits": "1"}
        answer = await server.client.post(
            server.url + "/do/devices.act-many?lang=es", data=form, headers=fragment
        )
        refused = await answer.text()
        assert C in refused and "No hay ningún período" in refused
        for wrong in ("action=extend", "action=nonsense&serials=" + A):
            response = await server.client.get(f"{server.url}/devices/act?{wrong}", headers=headers)
            assert response.status in (404, 422)
        listed = await server.client.get(f"{server.url}/api/v1/devices/export?tag=port&format=csv")
        assert (await listed.text()).count("\r\n") == 1 + 6


async def test_search_and_map_show_what_was_found_as_text(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database) as server:
        await seed(server)
        await server.store.write(hear(A, "1100000004"))
        await sign_in(server)
        found = await page(server, "/search/found?q=356938100030001")
        assert found.count("data-hit") == 2 and "IMEI: " in found
        assert "data-hit" not in await page(server, "/search/found?q=")
        text = await page(server, "/search?q=hafen", "es")
        assert "Empresas" in text and "Hafen Ost" in text
        hostile = await page(server, "/search?q=onerror")
        assert "<img src=x" not in hostile and "onerror" in hostile
        assert "Nothing matches." in await page(server, "/search?q=" + "z" * 300)
        text = await page(server, "/map?presence=online")
        assert 'data-lat="54.687157"' in text and HOSTILE[:20] not in text
        assert "2 devices with a position" in text


async def test_an_empty_system_explains_itself(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server:
        await sign_in(server)
        text = await page(server, "/devices")
        assert text.count('class="open"') == 3 and 'href="/companies/new"' in text
        assert "Add new company" in await page(server, "/companies/new")
        company = await server.company("Nordlift")
        text = await page(server, "/devices")
        assert f'href="/credits/grant?company_id={company}"' in text
        assert text.count('class="done"') == 1
        await server.done("POST", "/api/v1/credits/grants", {"company_id": company, "credits": 3})
        text = await page(server, "/devices", "es")
        assert text.count('class="done"') == 2 and "Tres pasos hasta el primer router" in text
        await server.done("POST", "/api/v1/devices", {"serial": A, "company_id": company})
        assert f'href="/devices/{A}/join"' in await page(server, "/devices")
        await server.store.write(hear(A))
        assert "first-run" not in await page(server, "/devices")
        member = {**CHILD, "role": "read_only"}
        other = await server.company("Empty")
        await server.done("POST", f"/api/v1/companies/{other}/members", member)
        server.client.cookie_jar.clear()
        await sign_in(server, CHILD["email"], CHILD["password"])
        text = await page(server, "/devices")
        assert "Ask an administrator of your company" in text
        assert "/devices/register" not in text


async def test_with_scripts_one_types_ticks_and_sees_what_is_new(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database) as server, browsing() as context:
        made = await seed(server)
        tab = await context.new_page()
        await tab.goto(server.url + "/login?next=/devices")
        await tab.fill("#email", EMAIL)
        await tab.fill("#password", PASSWORD)
        await tab.click("button[type=submit]")
        await tab.wait_for_url("**/devices")
        # Another device is there without a reload.
        new = {"serial": "2200000001", "company_id": made["low"], "name": "Lock"}
        await server.done("POST", "/api/v1/devices", new)
        await server.store.write(events.place, tree=Tree.UNTOUCHED)
        await tab.wait_for_selector('#rows tr[data-key="2200000001"]')
        # A filter is set at once.
        await tab.select_option("#by-state", "active")
        await tab.wait_for_url("**/devices?state=active")
        # Two are ticked and tried out; then it is done.
        for serial in (A, B):
            await tab.check(f'input[name="serials"][value="{serial}"]')
        assert await tab.inner_text("[data-ticked]") == "(2)"
        await tab.click("#doing > summary")
        await tab.click('button[name="action"][value="extend"]')
        await tab.wait_for_selector("#dialog[open] .cost .left")
        assert "extended by 1 credit" in await tab.inner_text("#dialog .cost")
        await tab.click("#dialog button[type=submit]:not(.second)")
        await tab.wait_for_selector(".note.good")
        assert "state=active" in tab.url
        # Search by keyboard: type, down, Enter.
        await tab.keyboard.press("/")
        await tab.keyboard.type("lock")
        await tab.wait_for_selector('[data-typed="lock"] a[data-hit]')
        await tab.keyboard.press("ArrowDown")
        await tab.keyboard.press("Enter")
        await tab.wait_for_url("**/devices/2200000001")
