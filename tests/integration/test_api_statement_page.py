"""The statement as a page: for whoever may see it, in two languages, on paper too."""

import re
from pathlib import Path

import pytest

from gateway.operations.statements import Figures
from gateway.storage.address import Address
from gateway.web.statement_texts import BALANCE, BESIDE, WORDS, language_of, words_of
from tests.api_server import ApiServer, api_server
from tests.browser import browsing

pytestmark = pytest.mark.either_engine

ROOM = Path(__file__).parents[2] / "gateway/web/templates"
SERIAL = "0123456789"
SAME = {"csv", "total"}  # in both languages
PERSON = {"email": "child@example.org", "name": "Carla", "password": "correct horse battery 2"}


async def page(
    server: ApiServer, address: str, *, language: str = "", token: str | None = ""
) -> tuple[int, str]:
    headers = {"Accept": "text/html", "Accept-Language": language}
    status, body, _ = await server.ask("GET", address, headers=headers, token=token)
    return status, body.decode()


def figures(text: str) -> dict[str, int]:
    """The days of each figure on the page in English, free and paid together."""
    names = {WORDS[name]: name for name in (*BALANCE, *BESIDE)}
    found = re.findall(r'<th scope="row">([^<]*)</th><td class="number">([^<]*)</td>', text)
    return {names[word]: int(re.sub(r"[^0-9]", "", days)) for word, days in found if word in names}


async def month_of(server: ApiServer, company_id: str) -> str:
    """This month, by the server's clock."""
    made = await server.done("GET", f"/api/v1/companies/{company_id}")
    return str(made["created_at"])[:7]


async def test_the_page_says_what_the_api_says(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server:
        top = await server.company("Lifts <b>Nord</b>", reference="K<17>")
        low = await server.company("Below", parent_id=top)
        grant = {"company_id": top, "credits": 50}
        await server.done("POST", "/api/v1/credits/grants", grant)
        given = {"serial": SERIAL, "company_id": top, "name": "Crane <i>4</i>", "activate": True}
        await server.done("POST", "/api/v1/devices", given)
        price = {"per_credit": "1.85", "currency": "EUR", "from": "2020-01-01"}
        await server.done("PUT", f"/api/v1/companies/{low}/prices", price)
        moved = {"source": top, "target": low, "credits": 4}
        await server.done("POST", "/api/v1/credits/moves", moved)
        month = await month_of(server, top)

        address = f"/companies/{top}/statement?from={month}&to="
        status, text = await page(server, address, language="en-GB,en;q=0.5")
        assert status == 200 and '<html lang="en">' in text
        assert "Lifts &lt;b&gt;Nord&lt;/b&gt;" in text and "K&lt;17&gt;" in text
        assert "Crane &lt;i&gt;4&lt;/i&gt;" in text and SERIAL in text
        assert not re.search(r"<script(?![^>]*\ssrc=)", text) and "style=" not in text
        assert WORDS["incomplete"] in text
        asked = f"/api/v1/companies/{top}/statement?from={month}"
        said = (await server.done("GET", asked))["total"]
        shown = figures(text)
        assert shown["closing"] == said["closing"] == 1350
        assert shown == {name: said[name] for name in shown}
        assert not any(said[name] for name in Figures.__struct_fields__ if name not in shown)

        address = f"/companies/{top}/statement?from={month}&group_by=child"
        status, text = await page(server, address, language="es-ES")
        assert status == 200 and '<html lang="es">' in text
        assert words_of("es")("companies") in text and "7.40 EUR" in text
        status, text = await page(server, f"{address}&lang=en", language="es-ES")
        assert '<html lang="en">' in text and words_of("en")("companies") in text


async def test_the_page_is_for_whoever_may_see_it(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server:
        top = await server.company("Top secret")
        low = await server.company("Low", parent_id=top, use_parent_credits=True)
        await server.done("POST", "/api/v1/credits/grants", {"company_id": top, "credits": 5})
        given = {"serial": SERIAL, "company_id": low, "activate": True}
        await server.done("POST", "/api/v1/devices", given)
        member = {**PERSON, "role": "administrator"}
        await server.done("POST", f"/api/v1/companies/{low}/members", member)
        month = await month_of(server, top)

        signing_in = {"email": PERSON["email"], "password": PERSON["password"]}
        address = f"/companies/{low}/statement?from={month}"
        status, _, answer = await server.ask("GET", address, token=None)
        assert status == 303
        assert answer.headers["Location"].startswith(f"/login?next=/companies/{low}/statement")
        status, _, _ = await server.ask(
            "POST", "/api/v1/login", signing_in, token=None, headers={"Origin": server.url}
        )
        assert status == 200
        status, text = await page(server, address, token=None)
        assert status == 200 and figures(text)["spent_by_above"] == 30
        assert "Top secret" not in text
        status, text = await page(server, f"/companies/{top}/statement", token=None)
        assert status == 404 and "Top secret" not in text
        unknown = await page(server, "/companies/999999/statement", token=None)
        assert (status, _without_request_id(text)) == (
            unknown[0],
            _without_request_id(unknown[1]),
        )


def _without_request_id(text: str) -> str:
    return re.sub(r"Request \S+</p>", "", text)


async def test_what_cannot_be_shown_is_said(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server:
        top = await server.company("Top")
        for query, status in (
            ("", 200),
            ("?from=&to=&group_by=", 200),
            ("?from=2027-13", 422),
            ("?from=2027-02&to=2027-01", 422),
            ("?from=2027-01&group_by=x", 422),
            ("?from=2027-01&format=csv", 200),
            ("?lang=xx", 200),
        ):
            found, text = await page(server, f"/companies/{top}/statement{query}")
            assert (found, "<html" in text) == (status, True), query


async def test_on_paper_and_on_a_phone_no_column_is_lost(tmp_path: Path, database: Address) -> None:
    """Paper has no scroll bar, and the form that chooses months has no place on it."""
    async with api_server(tmp_path, database) as server, browsing() as browser:
        top = await server.company("Top")
        low = await server.company("Below " + "x" * 60, parent_id=top)
        await server.done("POST", "/api/v1/credits/grants", {"company_id": top, "credits": 5000})
        moved = {"source": top, "target": low, "credits": 4000}
        await server.done("POST", "/api/v1/credits/moves", moved)
        await server.done("POST", "/api/v1/credits/codes", {"company_id": top, "credits": 300})
        month = await month_of(server, top)
        await browser.set_extra_http_headers({"Authorization": f"Bearer {server.token}"})
        tab = await browser.new_page()
        address = f"{server.url}/companies/{top}/statement?from={month}&group_by=child&lang=es"
        await tab.goto(address)
        await tab.set_viewport_size({"width": 360, "height": 700})
        assert await tab.evaluate("document.documentElement.scrollWidth") <= 360
        # A4 across, without its margins.
        await tab.set_viewport_size({"width": 1000, "height": 700})
        await tab.emulate_media(media="print")
        assert not await tab.is_visible("form.choose")
        for table in await tab.query_selector_all("table"):
            box = await table.bounding_box()
            assert box is not None and box["x"] + box["width"] <= 1000
        scrolls = "getComputedStyle(document.querySelector('.scroll')).overflowX"
        assert await tab.evaluate(scrolls) == "visible"


def test_every_figure_has_its_words_in_both_languages() -> None:
    assert {*Figures.__struct_fields__} == {*BALANCE, *BESIDE} <= set(WORDS)
    text = (ROOM / "statement.html").read_text(encoding="utf-8")
    for key in {*BALANCE, *BESIDE, *re.findall(r"\bw\('(\w+)'\)", text)}:
        assert words_of("en")(key) == WORDS[key]
        assert key in SAME or words_of("es")(key) != WORDS[key]


def test_the_language_is_the_one_asked_for() -> None:
    assert language_of("es", "en") == "es"
    assert language_of("", "de-DE, es;q=0.8, en;q=0.5") == "es"
    assert language_of("xx", "fr") == "en"
    assert language_of("", "") == "en"
