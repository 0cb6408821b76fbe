"""What npm brings works in a real Chromium under the content policy of every page."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web
from playwright.async_api import Page

import gateway.web
from gateway.api.envelope import HEADERS
from gateway.web.assets import add_routes, asset_url, assets, has_asset
from tests.browser import browsing
from tests.browser.watching import Watched

FETCHED = (
    *("htmx.min.js", "uPlot.iife.min.js", "uPlot.min.css", "leaflet.js", "leaflet.css"),
    *("topojson-client.min.js", "countries-50m.json", "xterm.js", "xterm.css", "addon-fit.js"),
    *("leaflet-marker-icon.png", "leaflet-marker-shadow.png", "leaflet-layers.png"),
)
OUTLINES_PACKED_MAX = 250_000
WAIT_S_MAX = 15
PAGE = (Path(gateway.web.__file__).parent / "templates/page.html").read_text(encoding="utf-8")


class Proof(NamedTuple):
    """A page that uses one library, as ours do, and how one sees that it works."""

    files: tuple[str, ...]
    body: str
    script: str
    works: str


HTMX = Proof(
    files=("htmx.min.js",),
    body='<p id="old">old</p>'
    '<div id="part" hx-get="/part" hx-trigger="load" hx-swap="innerHTML settle:1ms">'
    '<p id="kept" class="wide">before</p></div>',
    # What a plot or a map has set by script must not come back as an attribute.
    script='document.getElementById("kept").style.color = "rgb(1, 2, 3)";',
    works='document.querySelector("#part > b#came") && document.getElementById("old") === null',
)
UPLOT = Proof(
    files=("uPlot.iife.min.js", "uPlot.min.css"),
    body='<div id="plot"></div>',
    script="""
        const lines = [{}, { label: "RSRP", stroke: "#06c", width: 2 }];
        const values = [[1, 2, 3, 4], [5, 9, 7, 8]];
        const room = document.getElementById("plot");
        new uPlot({ width: 300, height: 200, series: lines }, values, room);
    """,
    works="""(() => {
        const canvas = document.querySelector("#plot canvas");
        if (!canvas || !document.querySelector("#plot .u-legend")) return false;
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.some((value) => value !== 0);
    })()""",
)
LEAFLET = Proof(
    files=("leaflet.js", "leaflet.css", "topojson-client.min.js"),
    body='<div id="map"></div>',
    script="""
        const room = document.getElementById("map");
        room.style.height = "300px";
        const map = L.map(room).setView([50, 10], 3);
        const answer = await fetch("/static/countries-50m.json");
        const atlas = await answer.json();
        const countries = L.geoJSON(topojson.feature(atlas, atlas.objects.countries)).addTo(map);
        L.control.layers({}, { Countries: countries }).addTo(map);
        L.circleMarker([52, 13], { radius: 6 }).bindTooltip("Berlin").addTo(map);
        L.marker([48, 2]).addTo(map).bindPopup("Paris").openPopup();
        map.setZoom(4);
    """,
    works="""(() => {
        const images = [...document.querySelectorAll("#map img")];
        const toggle = document.querySelector(".leaflet-control-layers-toggle");
        return document.querySelectorAll("#map path").length > 200 && images.length === 2
            && images.every((one) => one.complete && one.naturalWidth > 0)
            && getComputedStyle(toggle).backgroundImage.includes("/static/leaflet-layers")
            && document.querySelector(".leaflet-popup-content")?.textContent === "Paris";
    })()""",
)
XTERM = Proof(
    files=("xterm.js", "xterm.css", "addon-fit.js"),
    body='<div id="terminal"></div>',
    script="""
        import { adoptStyles } from "/static/terminal_styles.js";
        adoptStyles();
        const room = document.getElementById("terminal");
        room.style.height = "300px";
        const look = { theme: { foreground: "#102030" }, cursorBlink: true, scrollback: 50 };
        const gone = new Terminal(look);
        gone.open(room);
        await new Promise((done) => gone.write("gone", done));
        gone.dispose();
        const terminal = new Terminal({ ...look, screenReaderMode: true });
        const fit = new FitAddon.FitAddon();
        terminal.loadAddon(fit);
        terminal.open(room);
        fit.fit();
        terminal.write("\\x1b[38;2;1;2;3mtrue\\x1b[0m \\x1b[1;4;31mred\\x1b[0m \\r\\n".repeat(60));
        terminal.selectAll();
        terminal.focus();
        terminal.options.theme = { foreground: "#203040" };
        terminal.options.fontSize = 17;
        window.terminal = terminal;
    """,
    works="""(() => {
        const rows = document.querySelector("#terminal .xterm-rows");
        const of = (text) => [...(rows?.querySelectorAll("span") ?? [])]
            .find((one) => one.textContent === text);
        if (!of("true") || !of("red")) return false;
        return getComputedStyle(of("true")).color === "rgb(1, 2, 3)"
            && getComputedStyle(of("red")).color === "rgb(239, 41, 41)"
            && getComputedStyle(of("red")).fontWeight === "700"
            && getComputedStyle(of("true")).display === "inline-block"
            && getComputedStyle(rows).color === "rgb(32, 48, 64)"
            && getComputedStyle(rows).fontSize === "17px"
            && document.querySelectorAll("#terminal style, head style").length === 0
            && window.terminal.cols > 20;
    })()""",
)
PROOFS = {"htmx": HTMX, "uplot": UPLOT, "leaflet": LEAFLET, "xterm": XTERM}


def proof_page(name: str) -> str:
    """One page, written like ours: nothing inline."""
    found = re.search(r"<meta name=\"htmx-config\"[^>]*>", PAGE)
    assert found, "page.html configures htmx"
    head = "".join(
        f'<link rel="stylesheet" href="{asset_url(one)}">'
        if one.endswith(".css")
        else f'<script defer src="{asset_url(one)}"></script>'
        for one in PROOFS[name].files
    )
    head += f'<script type="module" src="/{name}.js"></script>'
    body = PROOFS[name].body
    return f"<!doctype html><title>x</title>{found.group()}{head}<body>{body}</body>"


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """A server with the true assets and the true headers."""

    async def finish(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(HEADERS)

    def shows(text: str, content_type: str) -> Callable[[web.Request], web.Response]:
        return lambda _: web.Response(text=text, content_type=content_type)

    def answers(path: str, text: str, content_type: str = "text/html") -> None:
        answer = shows(text, content_type)

        async def handle(request: web.Request) -> web.Response:
            return answer(request)

        app.router.add_get(path, handle)

    app = web.Application()
    app.on_response_prepare.append(finish)
    add_routes(app)
    answers("/favicon.ico", "", "image/png")
    part = '<b id="came">came</b><p id="kept">after</p><p id="old" hx-swap-oob="delete"></p>'
    answers("/part", part)
    for name, proof in PROOFS.items():
        answers(f"/{name}", proof_page(name))
        answers(f"/{name}.js", proof.script, "text/javascript")
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def need_libraries() -> None:
    if not has_asset("xterm.js"):
        pytest.skip("no libraries here: packaging/pages/fetch needs npm and its registry")


async def until(tab: Page, fact: str) -> None:
    """Waits in the page; Playwright's own way evaluates texts there, which the policy forbids."""
    look = f"({fact}) ? done() : setTimeout(look, 20)"
    wait = f"new Promise((done) => {{ const look = () => {look}; look(); }})"
    async with asyncio.timeout(WAIT_S_MAX):
        await tab.evaluate(wait)


async def violations(tab: Page) -> list[str]:
    found: list[str] = await tab.evaluate("window.violations")
    return found


def test_everything_that_pages_need_was_fetched() -> None:
    need_libraries()
    assert set(FETCHED) <= set(assets())
    packed = assets()["countries-50m.json"].packed
    assert packed is not None and len(packed) <= OUTLINES_PACKED_MAX
    for name, asset in assets().items():
        assert b"sourceMappingURL" not in asset.body, name
        if asset.content_type == "text/css":
            for address in re.findall(rb"url\(([^#)]+)\)", asset.body):
                assert address.decode() in assets() or address.startswith(b'"data:'), address


async def test_each_library_works_under_the_policy_of_every_page() -> None:
    need_libraries()
    async with serving() as url, browsing() as context:
        for name, proof in PROOFS.items():
            tab = await context.new_page()
            watched = Watched(tab, [url])
            await watched.begin()
            await tab.goto(f"{url}/{name}")
            await until(tab, proof.works)
            assert await violations(tab) == [] and watched.wrong == [], name
            await tab.close()


async def test_what_is_inline_would_have_been_noticed() -> None:
    need_libraries()
    async with serving() as url, browsing() as context:
        tab = await context.new_page()
        watched = Watched(tab, [url])
        await watched.begin()
        await tab.goto(f"{url}/uplot")
        for inline in (
            "document.head.append(document.createElement('style'))",
            "document.body.setAttribute('style', 'color: red')",
        ):
            await tab.evaluate(inline)
        await until(tab, "window.violations.length > 0")
        assert watched.wrong
