"""Importing a list on a page: what does not fit, what it costs, what it did, and taking it back."""

import re
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.storage.address import Address
from gateway.web.import_page import EXAMPLE
from tests.api_server import PASSWORD, ApiServer, api_server
from tests.integration.test_page_companies import member
from tests.integration.test_page_credits import Visitor, bare, visiting

pytestmark = pytest.mark.either_engine

SHEET = "serial;name;activate\n1100000001;Süd \u2013 1;true\n1100000002;<b>;later\n"


async def sent(
    visitor: Visitor, do: str, file: bytes = b"", name: str = "pumps.csv", **given: Any
) -> tuple[int, str, str]:
    """The form with a file, as a browser without scripts sends it: status, where to, text."""
    page = await visitor.sees("/devices/import")
    form = aiohttp.FormData(quote_fields=False)
    for key, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page):
        if key not in given and key in ("csrf", "key", "then"):
            form.add_field(key, unescape(value))
    for key, value in given.items():
        form.add_field(key, value)
    form.add_field("csv", BytesIO(file), filename=name, content_type="text/csv")
    address = f"{visitor.server.url}/{do}/devices.import"
    headers = {"Origin": visitor.server.url}
    client = visitor._client
    async with client.post(address, data=form, headers=headers, allow_redirects=False) as answer:
        return answer.status, answer.headers.get("Location", ""), await answer.text()


async def serials(server: ApiServer) -> list[str]:
    found = await server.done("GET", "/api/v1/devices")
    return [one["serial"] for one in found["items"]]


async def test_a_list_is_tried_imported_and_undone(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as me:
        top = await server.company("Top")
        await server.done("POST", "/api/v1/credits/grants", {"company_id": top, "credits": 3})
        about = {"company_id": top, "activate": "on_contact"}
        status, _, text = await sent(me, "try", SHEET.encode("utf-8-sig"), **about)
        assert status == 200 and "2 devices would be registered." in bare(text)
        assert "Top 3 credits 2 credits" in bare(text)
        assert await serials(server) == []
        key = "the-same-key"
        for _ in range(2):  # a second press is the same answer, and no second import
            status, following, _ = await sent(
                me, "do", SHEET.encode("cp1252"), "pumps.csv", **about, key=key
            )
            assert (status, following) == (303, "/devices/imports?done=devices.import")
        assert await serials(server) == ["1100000001", "1100000002"]
        text = await me.sees(following)
        assert "The devices of the list are registered." in text and text.count("pumps.csv") == 1
        shown = await server.done("GET", "/api/v1/devices/1100000001")
        assert shown["name"] == "Süd \u2013 1"
        (undo,) = re.findall(r'href="(/devices/imports/\d+/undo)"', text)
        following, _ = await me.sends(undo, "imports.undo")
        assert following.startswith("/devices/imports?done=imports.undo")
        assert await serials(server) == []
        assert "undone" in bare(await me.sees("/devices/imports"))


async def test_each_line_that_does_not_fit_is_named(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as me:
        top = await server.company("Top")
        lines = "serial,mac,name\n11,,short\n1100000001,zz,<i>mac\n1100000002,,fits\n"
        for do in ("try", "do"):
            status, _, text = await sent(me, do, lines.encode(), company_id=top)
            assert status == 422 and "2 lines do not fit, of 3" in bare(text)
            assert re.search(r"Line Serial What is wrong 2 11 .* 3 1100000001 ", bare(text))
        assert await serials(server) == []
        many = "serial\n" + "".join(f"{number}\n" for number in range(70))
        _, _, text = await sent(me, "try", many.encode(), company_id=top)
        assert "and 20 more" in bare(text)
        for file, said in (
            (b"", "the file is empty"),
            (b"colour\nred\n", "unknown column"),
            (b'serial\n"1100000001\n', "a quote is opened here and never closed"),
            (bytes(range(256)), "holds a character that cannot be stored"),
        ):
            status, _, text = await sent(me, "try", file, company_id=top)
            assert status == 422 and said in bare(text), (file, text)
        status, _, text = await sent(me, "do", b"x" * 9_000_000, company_id=top)
        assert status == 413 and await serials(server) == []


async def test_pasted_lines_and_the_example(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as me:
        top = await server.company("Top")
        given = {"company_id": top, "csv": EXAMPLE, "activate": "later"}
        following, _ = await me.sends("/devices/import", "devices.import", **given)
        assert following == "/devices/imports?done=devices.import"
        assert await serials(server) == ["1100000001", "1100000002"]


async def test_only_who_may_is_shown_it(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server:
        top = await server.company("Top")
        email = await member(server, top, "basic")
        async with visiting(server, email, PASSWORD) as basic:
            assert "/devices/import" not in await basic.sees("/devices")
            await basic.sees("/devices/import", status=403)
            page = await basic.sees("/devices")
            (csrf,) = {*re.findall(r'name="csrf" value="([^"]+)"', page)}
            _, said = await basic.posts(
                "devices.import", {"csrf": csrf, "company_id": top, "csv": EXAMPLE}
            )
            assert 'data-code="forbidden"' in said
        async with aiohttp.ClientSession() as nobody:
            address = f"{server.url}/do/devices.import"
            async with nobody.post(address, data={"csv": "x" * 100_000}) as answer:
                assert answer.status in (401, 403)


async def test_a_saved_target_is_changed(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as me:
        top = await server.company("Top")
        made = {"serial": "1100000001", "company_id": top, "activate": "later"}
        await server.done("POST", "/api/v1/devices", made)
        saved = {"serial": "1100000001", "name": "plc", "target": "10.0.0.7:80", "protocol": "http"}
        await server.done("POST", "/api/v1/targets", saved)
        page = await me.sees("/devices/1100000001")
        (change,) = re.findall(r'href="(/devices/1100000001/target\?[^"]+)"', page)
        following, _ = await me.sends(unescape(change), "targets.change", target="10.0.0.8:80")
        assert following == "/devices/1100000001?done=targets.change"
        assert "10.0.0.8:80" in await me.sees("/devices/1100000001")
