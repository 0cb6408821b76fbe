"""Every page, in both languages: on a desk, on a phone, in the dark, without a complaint.

A screenshot of each is written to `build/screenshots`. A page fails on a horizontal scroll bar, an
error on the console, a breach of the content policy, a request to another host, a text without
translation, and on what axe calls serious.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from playwright.async_api import Page

from gateway.storage.address import Address
from gateway.web import company_acts, credit_acts, device_acts, fleet_acts
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server
from tests.browser import browsing
from tests.browser.seeded import seed
from tests.browser.watching import DESKTOP, PHONE, Watched

pytestmark = [pytest.mark.either_engine, pytest.mark.timeout(240)]

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
# Some dialogs are about something that `seed` made.
CREDITS = {
    "accept": "?request_id={request}",
    "delete-code": "?code_id={code}",
    "refuse": "?request_id={request}",
    "reverse": "?transfer={transfer}",
}
# Each address as it is registered, and examples of it; `{serial}` and so on come from `seed`.
PAGES: Mapping[str, tuple[str, ...]] = {
    "/account": ("/account",),
    "/account/delete": ("/account/delete",),
    "/account/leave/{membership_id}": ("/account/leave/{membership}",),
    "/account/token": ("/account/token",),
    "/account/second-factor": ("/account/second-factor",),
    "/account/second-factor/confirm": ("/account/second-factor/confirm",),
    "/api/docs": ("/api/docs",),
    "/audit": ("/audit", "/audit?verb=nothing"),
    "/companies": ("/companies", "/companies?q=nothing"),
    "/companies/new": ("/companies/new",),
    "/companies/{company_id}": ("/companies/{top}", "/companies/{side}"),
    "/companies/{company_id}/prices": ("/companies/{low}/prices",),
    "/companies/{company_id}/settings": ("/companies/{low}/settings",),
    "/companies/{company_id}/statement": ("/companies/{top}/statement?group_by=child",),
    "/companies/{company_id}/{act}": tuple(
        f"/companies/{{low}}/{name}" for name in company_acts.ACTS
    ),
    "/credits": ("/credits", "/credits?company={top}"),
    "/credits/codes": ("/credits/codes",),
    "/credits/{act}": tuple(f"/credits/{name}{CREDITS.get(name, '')}" for name in credit_acts.ACTS),
    "/devices": ("/devices", "/devices?presence=online"),
    "/devices/act": tuple(
        f"/devices/act?action={name}&serials={{serial}},{{hostile}}" for name in fleet_acts.ACTS
    ),
    "/devices/import": ("/devices/import",),
    "/devices/imports": ("/devices/imports",),
    "/devices/imports/{import_id}/undo": ("/devices/imports/{import}/undo",),
    "/devices/register": ("/devices/register",),
    "/devices/{serial}": ("/devices/{serial}?range=year", "/devices/{hostile}"),
    "/devices/{serial}/join": ("/devices/{serial}/join",),
    "/devices/{serial}/{act}": tuple(f"/devices/{{serial}}/{name}" for name in device_acts.ACTS),
    "/ledger": ("/ledger",),
    "/ledger/operations/{operation}": ("/ledger/operations/{operation}",),
    "/map": ("/map",),
    "/search": ("/search?q=crane",),
    "/sessions": ("/sessions",),
    "/sessions/{session_id}": ("/sessions/{session}",),
    "/sessions/{session_id}/terminal": ("/sessions/{session}/terminal",),
    "/sessions/new": ("/sessions/new?serial={serial}",),
    "/status": ("/status",),
    "/users": ("/users",),
    "/users/all": ("/users/all",),
    "/users/all/{user_id}": ("/users/all/{person}",),
    "/users/invite": ("/users/invite",),
    "/users/memberships/{membership_id}": ("/users/memberships/{member}",),
}
# Addresses that are no pages of their own: pieces, files, doors, and what only leads on.
OTHERS = frozenset(
    {
        "/",
        "/choose",
        "/companies/choose",
        "/companies/options",
        "/companies/{company_id}/children",
        "/devices/import/example.csv",
        "/enter",
        "/healthz",
        "/fleet/columns",
        "/fleet/facets",
        "/fleet/lasting",
        "/invitation/{token}",  # below, for those who are not signed in
        "/login",
        "/metrics",
        "/password-reset",
        "/password-reset/{token}",
        "/readyz",
        "/sessions/{session_id}/terminal/socket",
        "/search/found",
        "/static/{name}",
    }
)


@pytest.fixture(scope="module")
def shots() -> Path:
    """Where the screenshots go."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    return SHOTS


async def sign_in(tab: Page, server: ApiServer, language: str) -> None:
    await tab.goto(f"{server.url}/choose?language={language}&next=/login")
    await tab.fill("#email", EMAIL)
    await tab.fill("#password", PASSWORD)
    await tab.click("button[type=submit]")
    await tab.wait_for_url("**/devices")


async def seen(watched: Watched, shots: Path, name: str, language: str) -> None:
    """Three looks at the page that is shown: on a desk, there in the dark, and on a phone."""
    tab = watched.tab
    await tab.set_viewport_size(DESKTOP)
    await watched.look(f"{name} desktop", language)
    await watched.hinder(f"{name} light")
    await tab.screenshot(path=shots / f"{language}_{name}_desktop.png", full_page=True)
    await tab.emulate_media(color_scheme="dark")
    await watched.hinder(f"{name} dark", colours=True)
    await tab.screenshot(path=shots / f"{language}_{name}_dark.png", full_page=True)
    await tab.set_viewport_size(PHONE)
    await watched.look(f"{name} phone", language)
    await tab.screenshot(path=shots / f"{language}_{name}_phone.png", full_page=True)
    await tab.emulate_media(color_scheme="light")


def named(address: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", address.lower()).strip("_") or "start"


async def look_at_all(
    server: ApiServer, shots: Path, language: str, pages: Mapping[str, tuple[str, ...]]
) -> list[str]:
    async with browsing() as context:
        ids = await seed(server)
        tab = await context.new_page()
        watched = Watched(tab, [server.url])
        await watched.begin()
        await sign_in(tab, server, language)
        for examples in pages.values():
            for example in examples:
                address = example.format(**ids)
                await tab.set_viewport_size(DESKTOP)
                answer = await tab.goto(server.url + address)
                assert answer is not None and answer.status == 200, (address, answer)
                await seen(watched, shots, named(example), language)
        return watched.wrong


def part(which: int) -> dict[str, tuple[str, ...]]:
    """Half of all pages, so that none of the tests takes for ever."""
    return {name: PAGES[name] for name in [*PAGES][which::2]}


# Spanish words are the longer ones, and the ones that may be missing; English follows at length.
LANGUAGES = ["es", pytest.param("en", marks=pytest.mark.long)]


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("language", LANGUAGES)
async def test_pages_of_those_who_are_signed_in(
    tmp_path: Path, database: Address, shots: Path, language: str, half: int
) -> None:
    async with api_server(tmp_path, database) as server:
        assert await look_at_all(server, shots, language, part(half)) == []


@pytest.mark.parametrize("language", LANGUAGES)
async def test_doors(tmp_path: Path, database: Address, shots: Path, language: str) -> None:
    async with api_server(tmp_path, database) as server, browsing() as context:
        ids = await seed(server)
        invitation = ids["link"].rpartition("/")[2]
        tab = await context.new_page()
        watched = Watched(tab, [server.url])
        await watched.begin()
        await tab.goto(f"{server.url}/choose?language={language}&next=/login")
        for name, address in (
            ("login", "/login"),
            ("password_reset", "/password-reset"),
            ("password_reset_over", "/password-reset/nothing"),
            ("invitation", f"/invitation/{invitation}"),
        ):
            await tab.goto(server.url + address)
            await seen(watched, shots, name, language)
        for name, address in (
            ("problem", "/nothing/here"),
            ("invitation_over", "/invitation/nothing"),
            ("enter", "/enter?host=x&state=y"),
        ):
            await tab.goto(server.url + address)
            # A browser writes every such answer to the console itself.
            watched.wrong[:] = [one for one in watched.wrong if "Failed to load" not in one]
            await seen(watched, shots, name, language)
        assert watched.wrong == []


def routes_of(server: ApiServer) -> Iterator[str]:
    for resource in server.app.router.resources():
        if not resource.canonical.startswith("/api/v1"):
            for route in resource:
                if route.method == "GET":
                    yield resource.canonical


async def test_no_page_is_forgotten(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server:
        found = {*routes_of(server)}
    assert found == {*PAGES} | OTHERS
