"""What routers and people write is text wherever it is shown, and nothing else."""

import csv
import io
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from gateway.ingest.batch import Incoming, Terms, take_batch
from gateway.ingest.intake import read_payload
from gateway.storage.address import Address
from tests.api_server import ApiServer, api_server
from tests.browser import browsing
from tests.browser.seeded import seed
from tests.browser.test_every_page import sign_in
from tests.browser.watching import DESKTOP, PHONE, Watched
from tests.contract.world import Router
from wire.fields import FIELDS, Value

pytestmark = [pytest.mark.either_engine, pytest.mark.timeout(180)]

MARKUP = "<img src=x onerror=owned=1>"
TURNED = "\u202egnol\u2066x\u200f"
TEXTS = (
    MARKUP,
    f'"><svg onload=owned=1> {TURNED}',
    "=cmd|'/c calc'!A0",
    "{{7*7}} ${7*7} %(x)s",
    "👩\u200d🔧🇪🇸🚚" + "\u0301" * 3,
    "</script><script>owned=1</script>",
    "javascript:owned=1//",
    "W" * 64,
)
LONG = f"{MARKUP} {TURNED} =1+1 " + "W" * 4_000
SERIAL = "1100000001"  # of `seed`, where it has joined
COLUMNS = "name.company.presence.heard.service.days.payer.signal.operator.firmware.tags"
# The pages on which such a router, and what people say of it, is shown.
PAGES = (
    f"/devices/{SERIAL}",
    f"/devices/{SERIAL}/change",
    f"/devices/{SERIAL}/replace",
    f"/sessions/new?serial={SERIAL}",
    "/devices",
    "/devices?q=cmd",
    "/search?q=cmd",
    "/sessions",
    "/sessions/{session}",
    "/sessions/{session}/terminal",
    "/companies/{low}",
    "/users?company={low}",
    "/ledger",
    "/ledger/operations/{operation}",
    "/credits?company={low}",
    "/companies/{top}/statement",
    "/audit",
    "/map",
    "/status",
)
_FOUND = """() => ({
  owned: typeof owned,
  elements: document.querySelectorAll("img[src=x], svg[onload], main script:not([src])").length,
  links: [...document.links].filter((one) => one.protocol === "javascript:").length,
  loose: (() => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const loose = [];
    while (walker.nextNode()) {
      const { nodeValue: text, parentElement: parent } = walker.currentNode;
      const steers = /[\\0-\\x08\\x0e-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]/;
      if (parent.closest("textarea")) continue;  // a field of its own, to be changed
      if (steers.test(text)) loose.push(text);
      else if (text.includes("owned") && !parent.closest("bdi, option"))
        loose.push(text);
    }
    return loose;
  })(),
})"""
NOTHING = {"owned": "undefined", "elements": 0, "links": 0, "loose": []}


async def tell(server: ApiServer, serial: str) -> None:
    """A heartbeat as it comes from Mosquitto, hostile in each text that a router can tell."""
    texts = cycle(TEXTS)
    values: dict[str, Value] = {
        one.name: next(texts).encode()[: one.high].decode(errors="ignore")
        for one in FIELDS
        if one.type == "text"
    }
    router = Router(serial, "run00000001")
    values |= {"uptime": 1, "rsrp": -90, "latitude": 480_000_000, "longitude": 90_000_000}
    payload = router.message(values=values)
    now_ms = server.clock.wall_ms()
    incoming = [Incoming(serial, read_payload(f"fg1/d/{serial}/hb", "hb", payload), now_ms)]
    terms = Terms("node-1", now_ms, 4, 5)
    outcome = await server.store.write(lambda tx: take_batch(tx, incoming, terms))
    assert outcome.receipts


async def write(server: ApiServer, ids: Mapping[str, str]) -> None:
    """The same by people, as long as the API takes it."""
    tags = [f"{text[:30]}" for text in TEXTS if text.isprintable()]
    given = {"name": LONG[:200].replace(TURNED, ""), "notes": LONG[:4_000], "tags": tags}
    await server.done("PATCH", f"/api/v1/devices/{SERIAL}", given)
    saved = {"serial": SERIAL, "name": MARKUP, "target": "192.168.1.50:80", "protocol": "http"}
    await server.done("POST", "/api/v1/targets", saved)
    moving = {"source": ids["top"], "target": ids["side"], "days": 1, "note": LONG[:500]}
    await server.done("POST", "/api/v1/credits/moves", moving)


async def look(watched: Watched, where: str, language: str) -> None:
    """The page that is shown, on a desk and on a phone."""
    for size in (DESKTOP, PHONE):
        await watched.tab.set_viewport_size(size)
        await watched.look(f"{where} {size['width']}", language)
    found = await watched.tab.evaluate(_FOUND)
    assert found == NOTHING, where


async def told_on(tab: Page) -> str:
    return await tab.locator("main").inner_text()


async def test_it_is_text_on_every_page(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, browsing() as context:
        ids = await seed(server)
        await tell(server, SERIAL)
        await write(server, ids)
        tab = await context.new_page()
        watched = Watched(tab, [server.url])
        await watched.begin()
        await sign_in(tab, server, "es")
        await tab.evaluate(f"document.cookie = 'fleetgate_columns={COLUMNS}; path=/'")
        for address in PAGES:
            answer = await tab.goto(server.url + address.format(**ids))
            assert answer is not None and answer.status == 200, address
            await look(watched, address, "es")
        await tab.goto(f"{server.url}/devices/{SERIAL}")
        shown = await told_on(tab)
        for text in (
            MARKUP,
            "=cmd|'/c calc'!A0",
            "{{7*7}} ${7*7} %(x)s",
            "⟨202E⟩gnol⟨2066⟩x⟨200F⟩",
        ):
            assert text in shown, text
        assert "👩\u200d🔧🇪🇸🚚" in shown
        await _suggestions(watched)
        await _popup(watched, server)
        assert watched.wrong == []


async def _suggestions(watched: Watched) -> None:
    field = watched.tab.locator("input[name=q]").first
    await field.fill("owned")
    await expect(watched.tab.get_by_text(MARKUP).first).to_be_visible()
    await look(watched, "suggestions", "es")


async def _popup(watched: Watched, server: ApiServer) -> None:
    tab = watched.tab
    await tab.goto(f"{server.url}/map")
    if await tab.locator("#map .leaflet-interactive").count():
        await tab.locator("#map .leaflet-interactive").last.click()
        await expect(tab.locator(".leaflet-popup")).to_contain_text(MARKUP)
        await look(watched, "popup", "es")


async def test_it_is_text_in_files(tmp_path: Path, database: Address) -> None:
    """Each record has as many cells as its head, and none of them is a formula."""
    async with api_server(tmp_path, database) as server:
        ids = await seed(server)
        await tell(server, SERIAL)
        await write(server, ids)
        month = datetime.now(UTC)
        for path in (
            "/api/v1/devices/export",
            "/api/v1/ledger/export",
            "/api/v1/audit/export",
            f"/api/v1/companies/{ids['top']}/statement?from=2026-01&to={month:%Y-%m}",
        ):
            for form, between in (("csv", ","), ("csv-excel", ";")):
                text = await _file(server, f"{path}{'&' if '?' in path else '?'}format={form}")
                _whole([*csv.reader(io.StringIO(text), delimiter=between)], path)


async def _file(server: ApiServer, address: str) -> str:
    headers = {"Authorization": f"Bearer {server.token}"}
    async with server.client.get(server.url + address, headers=headers) as response:
        text = await response.text(encoding="utf-8-sig")
        assert response.status == 200, (address, text[:500])
        return text


def _whole(records: Iterable[list[str]], path: str) -> None:
    """Each record has as many cells as the head of its part; a number alone begins as a formula."""
    widths = {len(record) for record in records}
    assert widths
    for record in records:
        for cell in record:
            number = cell.lstrip("+-").replace(".", "").replace(",", "").isdecimal()
            assert not cell.startswith(tuple("=@+-\t\r")) or number, (path, cell)


ODD = (
    "%00",
    "%ff%fe",
    "<script>",
    "'",
    '"',
    "%25%32",
    "9" * 300,
    "x" * 4_000,
    "\u202e",
    "-1",
    "[]",
)
NAMES = (
    "q",
    "sort",
    "cursor",
    "company",
    "presence",
    "range",
    "from",
    "to",
    "limit",
    "shown",
    "lang",
)


async def test_odd_addresses_get_a_clear_answer(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server:
        ids = await seed(server)
        await tell(server, SERIAL)
        headers = {"Authorization": f"Bearer {server.token}", "Accept": "text/html"}
        for number, page in enumerate((*PAGES, "/companies", "/credits", "/devices/register")):
            address = page.format(**ids)
            for place, name in enumerate(NAMES):
                sign, odd = "&" if "?" in address else "?", ODD[(number + place) % len(ODD)]
                url = f"{server.url}{address}{sign}{name}={odd}"
                async with server.client.get(url, headers=headers) as response:
                    text = await response.text()
                    assert response.status in (200, 303, 400, 404, 414, 422), (url, text[:500])
                    assert "<script>" not in text.split("<main")[-1]
