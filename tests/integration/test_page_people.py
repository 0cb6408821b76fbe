"""The people's pages over HTTP: members and invitations of companies, and all accounts."""

import re
from pathlib import Path

import pytest

from gateway.storage.address import Address
from tests.api_server import PASSWORD, api_server
from tests.integration.test_page_companies import family, member, posted
from tests.integration.test_page_credits import visiting

pytestmark = pytest.mark.either_engine


async def test_members_of_all_companies_or_of_the_chosen_one(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as olga:
        ids = await family(server)
        await member(server, ids["low"], "basic")
        await member(server, ids["deep"], "billing")
        text = await olga.sees("/users")
        for name in ("operator@example.org", "basic user", "billing@example.org", "Tief"):
            assert name in text, name
        text = await olga.sees(f"/users?company={ids['deep']}")
        assert "billing@example.org" in text and "basic@example.org" not in text
        assert f'name="company" value="{ids["deep"]}"' in text
        text = await olga.sees("/users?q=BASIC")
        assert "basic@example.org" in text and "billing@example.org" not in text
        assert "usuario básico" in await olga.sees("/users?q=basic", "es")


async def test_a_role_is_changed_ended_and_taken_away(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as olga:
        ids = await family(server)
        email = await member(server, ids["low"], "basic")
        text = await olga.sees("/users?q=basic")
        (dialog,) = re.findall(r'href="(/users/memberships/\d+\?of=\d+)"', text)
        to, _ = await olga.sends(dialog, "members.change", role="advanced", until="2099-01-31")
        assert to == "/users?done=members.change"
        text = await olga.sees(to)
        assert "The role was changed." in text and "advanced user" in text and "2099" in text
        _, answer = await olga.sends(dialog, "members.change", until="2001-01-31")
        assert 'data-field="until"' in answer
        number = dialog.split("?")[0].rpartition("/")[2]
        await posted(olga, dialog, "members.remove", membership_id=number)
        assert email not in await olga.sees("/users")
        await olga.sees(dialog, status=404)


async def test_an_invitation_is_made_sent_again_and_withdrawn(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as olga:
        ids = await family(server)
        asked = f"/users/invite?company={ids['low']}"
        given = {"email": "ines@example.org", "role": "read_only"}
        _, answer = await olga.sends(asked, "invitations.create", **given)
        (link,) = re.findall(r'id="invitation-link">([^<]+)<', answer)
        text = await olga.sees("/users")
        assert "ines@example.org" in text and "not answered yet" in text and link not in text
        (number,) = re.findall(r'name="invitation_id" value="(\d+)"', text)[:1]
        again = await posted(olga, "/users", "invitations.resend", invitation_id=number)
        assert 'id="invitation-link"' in again and link not in again
        await posted(olga, "/users", "invitations.withdraw", invitation_id=number)
        text = await olga.sees("/users?state=withdrawn")
        assert "ines@example.org" in text and "/do/invitations.resend" not in text
        assert "ines@example.org" not in await olga.sees("/users?state=open")


async def test_each_role_sees_the_people_it_looks_after(tmp_path: Path, database: Address) -> None:
    async with api_server(tmp_path, database) as server:
        ids = await family(server)
        emails = {}
        for role in ("administrator", "advanced", "basic", "read_only", "billing"):
            emails[role] = await member(server, ids["low"], role)
        async with visiting(server, emails["administrator"], PASSWORD) as visitor:
            text = await visitor.sees("/users")
            assert text.count("/users/memberships/") == 4 and "/users/all" not in text
            assert "operator@example.org" not in text
            await visitor.sees("/users/all", status=403)
        async with visiting(server, emails["advanced"], PASSWORD) as visitor:
            text = await visitor.sees("/users")
            # Those whose role an advanced user may give or take.
            assert text.count("/users/memberships/") == 2
            dialog = await visitor.sees("/users/invite")
            assert "read-only user" in dialog and 'value="billing"' not in dialog
        for role in ("basic", "read_only", "billing"):
            async with visiting(server, emails[role], PASSWORD) as visitor:
                text = await visitor.sees("/users")
                assert "example.org" not in text.split("<main")[1]
                await visitor.sees("/users/invite", status=403)


async def test_operators_reset_a_second_factor_and_erase_a_person(
    tmp_path: Path, database: Address
) -> None:
    async with api_server(tmp_path, database) as server, visiting(server) as olga:
        ids = await family(server)
        await member(server, ids["low"], "basic")
        text = await olga.sees("/users/all?email=basic@example.org")
        (dialog,) = re.findall(r'href="(/users/all/\d+)"', text)
        text = await olga.sees(dialog)
        assert "users.reset-totp" not in text and "Nothing brings the account back." in text
        to, _ = await olga.sends(dialog, "users.erase")
        text = await olga.sees(to)
        assert "The person was erased." in text and "basic@example.org" not in text
        await olga.sees("/users/all/999", status=404)
