"""Sentences of operations are in the reader's language on pages; the API keeps English."""

import re
from html import unescape
from pathlib import Path

import aiohttp
import pytest

from gateway.storage.address import Address
from tests.api_server import EMAIL, PASSWORD, api_server

pytestmark = pytest.mark.either_engine

SERIAL = "0123456789"


def bare(text: str) -> str:
    """As it is read: without tags, spaces as one."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


async def test_operations_speak_the_readers_language(tmp_path: Path, database: Address) -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        api_server(tmp_path, database) as server,
        aiohttp.ClientSession(server.url, cookie_jar=jar) as client,
    ):
        top = await server.company("Grúas <Sur>")
        await server.done("POST", "/api/v1/credits/grants", {"company_id": top, "credits": 3})
        device = {"serial": SERIAL, "company_id": top, "activate": True}
        await server.done("POST", "/api/v1/devices", device)
        signing_in = {"email": EMAIL, "password": PASSWORD}
        await client.post("/api/v1/login", json=signing_in, headers={"Origin": server.url})

        async def page_of(path: str, language: str) -> str:
            found = await client.get(
                path, params={"lang": language}, headers={"Accept": "text/html"}
            )
            return await found.text()

        form = await page_of("/credits/move", "en")
        (csrf,) = set(re.findall(r'name="csrf" value="([^"]+)"', form))

        async def refused(operation: str, language: str, **given: str) -> str:
            headers = {"HX-Request": "true", "Origin": server.url}
            answer = await client.post(
                f"/do/{operation}?lang={language}", data={"csrf": csrf, **given}, headers=headers
            )
            return bare(await answer.text())

        assert f"(user:1) registró {SERIAL}." in bare(await page_of("/audit", "es"))
        happened = f"{SERIAL} se activó por 1 crédito, a cargo de Grúas <Sur>, porque alguien lo"
        assert happened in bare(await page_of(f"/devices/{SERIAL}", "es"))
        away = bare(await page_of("/companies/999", "es"))
        assert "Esa empresa no existe, o usted no tiene acceso." in away
        assert "sin conexión con el servidor MQTT" in bare(await page_of("/status", "es"))

        move = {"source": top, "target": top, "credits": "1"}
        said = await refused("credits.move", "es", **move)
        assert "La petición no es válida Destino: es la misma empresa que el origen" in said
        said = await refused("credits.move", "en", **move)
        assert "The request does not fit Target: the same company as the source" in said
        said = await refused("devices.activate", "es", serial=SERIAL)
        assert "Hay un período en curso; use «Extender» para añadirle créditos." in said
        answer = await client.get("/api/v1/companies/999", headers={"Accept-Language": "es"})
        problem = await answer.json()
        assert problem["detail"] == "There is no such company, or it is not yours to see."
