"""The companies' pages over HTTP: the tree, one company, its settings, what each role sees."""

import re
from html import unescape
from pathlib import Path

import pytest

from gateway.domain.settings import Key
from gateway.storage.address import Address
from gateway.web.company_settings_page import GROUPS
from tests.api_server import PASSWORD, ApiServer, api_server
from tests.integration.test_page_credits import Visitor, visiting

pytestmark = pytest.mark.either_engine

HOSTILE = "<b>x</b>"


async def family(server: ApiServer) -> dict[str, str]:
    """Top, with Low (whose credits are Top's) and Side (a hostile name); Deep below Low."""
    top = await server.company("Nordlift", reference="K-17")
    low = await server.company("Hafen", parent_id=top, use_parent_credits=True)
    side = await server.company("Aufzüge " + HOSTILE, parent_id=top)
    deep = await server.company("Tief", parent_id=low)
    await server.done("POST", "/api/v1/credits/grants", {"company_id": top, "credits": 50})
    for number, company in enumerate((top, low, side)):
        made = {"serial": f"11000000{number:02}", "company_id": company, "activate": True}
        if company != side:
            await server.done("POST", "/api/v1/devices", made)
    return {"top": top, "low": low, "side": side, "deep": deep}


async def member(server: ApiServer, company: str, role: str) -> str:
    """The e-mail of a new person with this role."""
    email = f"{role}@example.org"
    made = {"email": email, "name": role.title(), "role": role, "password": PASSWORD}
    await server.done("POST", f"/api/v1/companies/{company}/members", made)
    return email


async def posted(visitor: Visitor, page: str, operation: str, **given: str) -> str:
    """Sends an operation with the page's token; the answer's text, empty where it leads on."""
    text = await visitor.sees(page)
    csrf = text.split('name="csrf" value="')[1].split('"')[0]
    return (await visitor.posts(operation, {"csrf": csrf, **given}))[1]


async def test_the_tree_answers_how_many_and_how_long(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as olga:
        ids = await family(server)
        text = await olga.sees("/companies")
        # One company at the top: what is below it stands there at once.
        for name in ("Nordlift", "Hafen", "K-17", "48 credits", "uses parent credits"):
            assert name in text, name
        assert "a company above pays" in text and "<b>x</b>" not in text
        assert "Aufzüge &lt;b&gt;x&lt;/b&gt;" in text
        assert "Tief" not in text and "1 company below" in text
        branch = await olga.sees(f"/companies/{ids['low']}/children")
        assert "Tief" in branch and "<html" not in branch
        found = await olga.sees("/companies?q=TIE")
        assert "Tief" in found and "in <bdi>Hafen</bdi>" in found and "Nordlift" not in found
        assert "No company matches." in await olga.sees("/companies?q=zzz")
        spanish = await olga.sees("/companies", "es")
        assert "usa créditos de la matriz" in spanish and "48 créditos" in spanish
        assert "Add new company" not in spanish


async def test_a_company_is_made_suspended_moved_and_closed_by_dialogs(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as olga:
        ids = await family(server)
        asked = f"/companies/new?parent={ids['top']}"
        given = {"name": "Neu", "parent_id": ids["top"], "administrator_email": "n@example.org"}
        _, answer = await olga.sends(asked, "companies.create", **given)
        # Without a mail server the link is shown once.
        assert "The company is there." in answer and "/invitation" in answer
        _, answer = await olga.sends(asked, "companies.create", **given)
        assert 'data-code="name_taken"' in answer
        page = f"/companies/{ids['low']}"
        to, _ = await olga.sends(f"{page}/suspend", "companies.suspend", reason="unpaid <i>")
        assert to == f"{page}?done=companies.suspend"
        text = await olga.sees(to)
        assert "The company is suspended." in text and "unpaid &lt;i&gt;" in text
        await olga.sends(f"{page}/resume", "companies.resume")
        await olga.sends(f"{page}/move", "companies.move", parent_id=ids["side"])
        text = await olga.sees(page)
        assert text.index("Nordlift") < text.index("Aufzüge &lt;b") < text.index("<h1>")
        closing = f"/companies/{ids['deep']}/close"
        _, tried = await olga.sends(closing, "companies.close", do="try", devices="move")
        assert "Nothing: no credits would move." in tried
        to, _ = await olga.sends(closing, "companies.close", devices="move")
        text = await olga.sees(f"/companies/{ids['deep']}")
        assert to.startswith("/companies?") and "it can only be read" in text
        for gone in ("/close", "/suspend", "/move", "/join-code", "companies/new?parent"):
            assert gone not in text.split("<main")[1], gone


async def test_join_codes_are_shown_once_with_their_command(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as olga:
        top = await server.company()
        _, answer = await olga.sends(
            f"/companies/{top}/join-code", "join-codes.create", uses=3, credits=2
        )
        assert "For 3 devices." in answer and "<svg" in answer and 'class="qr"' in answer
        assert "fleetgate-agent join 'fg1:" in unescape(answer)


async def test_settings_say_where_they_come_from(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as olga:
        ids = await family(server)
        top, low, deep = (f"/companies/{ids[name]}/settings" for name in ("top", "low", "deep"))
        await posted(
            olga,
            top,
            "settings.change",
            company_id=ids["top"],
            require_reason="true",
            shares="",
            record_terminals="",
            then=top,
        )
        text = await olga.sees(low)
        assert "<b>yes</b> · from <bdi>Nordlift</bdi>" in text and "the usual value" in text
        # Who is not of the company itself reads who may change what is the company's own.
        assert "Only the company's own administrators change this" in text
        assert "Whoever pays decides" not in text
        assert "<b>yes</b> · from <bdi>a company" not in await olga.sees(deep)
        await posted(
            olga,
            low,
            "settings.change",
            company_id=ids["low"],
            **{"retention.position_days": "0", "retention.raw_days": ""},
        )
        text = await olga.sees(low)
        assert "Take over from above again" in text and "set here" in text
        await posted(olga, low, "settings.change", company_id=ids["low"], retention="")
        assert "Take over from above again" not in await olga.sees(low)
        answer = await posted(
            olga, low, "settings.change", company_id=ids["low"], time_zone="Nowhere"
        )
        assert 'data-field="time_zone"' in answer
        carla = await member(server, ids["low"], "administrator")
        async with visiting(server, carla, PASSWORD) as child:
            text = await child.sees(low)
            # The operation behind what is not shown refuses as well.
            assert "Whoever pays decides" in text and 'name="use_parent_credits"' not in text
            answer = await posted(
                child, low, "companies.change", company_id=ids["low"], use_parent_credits="false"
            )
            assert 'data-code="forbidden"' in answer
            await posted(child, low, "settings.change", company_id=ids["low"], inside="ask")
            assert "must be let in by a member" in await olga.sees(low)


async def test_support_access_is_the_same_record_for_both_sides(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as olga:
        ids = await family(server)
        carla = await member(server, ids["low"], "administrator")
        page = f"/companies/{ids['low']}"
        async with visiting(server, carla, PASSWORD) as child:
            given = {"company_id": ids["low"], "inside": "ask"}
            await posted(child, f"{page}/settings", "settings.change", **given)
            assert "support-access" not in (await olga.sees(page)).split("<main")[1]
            await child.sends(
                f"{page}/support-access", "support-access.grant", minutes=60, reason="Printer <x>"
            )
            for visitor in (child, olga):
                text = await visitor.sees(page)
                assert "Printer &lt;x&gt;" in text and "Administrator" in text
                assert ("/do/support-access.end" in text) == (visitor is child)
            # What the child's people were told: until when, in the reader's language.
            for shown in (page, f"/credits?company={ids['low']}"):
                told = re.findall(r"<bdi>([^<]*Printer[^<]*)</bdi>", await child.sees(shown, "es"))
                assert re.search(r" hasta el \d+ \w+ \d{4}, [\d:]{7,8}: Printer", told[-1]), told
            (access_id,) = re.findall(r'name="access_id" value="(\d+)"', await child.sees(page))
            given = {"company_id": ids["low"], "access_id": access_id}
            await posted(child, page, "support-access.end", **given)
            text = await olga.sees(page)
            assert "ended by <bdi>Administrator</bdi>" in text


async def test_each_role_sees_the_buttons_it_may_use(tmp_path: Path, database: Address) -> None:
    shown = {
        "administrator": {"/settings", "companies/new", "/join-code", "/credits?", "/statement"},
        "advanced": {"/join-code", "/credits?", "/users/invite"},
        "basic": set(),
        "read_only": set(),
        "billing": {"/credits?", "/statement"},
    }
    shown["administrator"].add("/users/invite")
    every = {*shown["administrator"], "/suspend", "/close", "/move"}
    async with api_server(tmp_path, database) as server:
        ids = await family(server)
        for role, wanted in shown.items():
            email = await member(server, ids["low"], role)
            async with visiting(server, email, PASSWORD) as visitor:
                text = (await visitor.sees(f"/companies/{ids['low']}")).split("<main")[1]
                assert {one for one in every if one in text} == wanted, role
                await visitor.sees(f"/companies/{ids['top']}", status=404)
                refused = 200 if role == "administrator" else 403
                await visitor.sees(f"/companies/{ids['low']}/settings", status=refused)
                tree = (await visitor.sees("/companies")).split("<main")[1]
                assert "Nordlift" not in tree
                assert ("Add new company" in tree) == (role == "administrator")


def test_every_setting_of_the_list_stands_on_the_page() -> None:
    on_page = {group.whole or one.name for group in GROUPS for one in group.settings}
    assert on_page | {Key.EXTEND_UNHEARD.value} == {key.value for key in Key}
