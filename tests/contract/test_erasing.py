"""A person who is erased leaves nothing but a number, and the audit's chain stays whole."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from gateway.command.verify import verify
from gateway.domain.instants import DAY_MS
from gateway.domain.refusals import Refused
from gateway.domain.rights import ANONYMOUS, Principal
from gateway.jobs import housekeeping
from gateway.operations.erasing import EraseMe, OneUser, ProvenErasure
from gateway.operations.failed_attempts import SECRET_WRONG, SIGN_IN_FAILED, Failure
from gateway.operations.failed_attempts import write as write_failures
from gateway.operations.people import Nothing, ProvenSignIn
from gateway.people import accounts
from gateway.people.tokens import new_sign_in_token
from gateway.storage.schema import (
    audit,
    audit_personal,
    idempotency,
    invitation,
    membership,
    metadata,
    person,
)
from gateway.storage.transaction import Transaction
from tests.contract import invited
from tests.contract.browsers import row_of, run, signed_in
from tests.contract.mails import MAILING
from tests.contract.world import OPERATIONS, World

OPERATOR = Principal("user:1", 1, operator=True)
EMAIL, NAME = "zoraida.quintanilla@example.org", "Zoraida Quintanilla"
ADDRESS, AGENT = "203.0.113.77", "Mozilla/5.0 (Zq9; X11)"
TRACES = (EMAIL, NAME, "zoraida", "quintanilla", ADDRESS, "Zq9")


class Zoraida:
    """Somebody who left traces wherever there may be some."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.company = world.company("Acme")
        made = invited.invite(world, self.company, "administrator", email=EMAIL)
        done = invited.accept(world, invited.token_of(made), name=NAME)
        self.id = int(done["me"]["id"])
        self.who = signed_in(world, self.id, new_sign_in_token())
        self._sign_in()
        assert self._sign_in("wrong") == "credentials_wrong"
        run(world, "me.change", self.who, OPERATIONS["me.change"].input(name=NAME), MAILING)
        world.write(lambda tx: accounts.make_token(tx, self.id, "mine"))
        world.do("companies.change", company_id=self.company, billing_email=EMAIL)
        other = world.company("Other")
        invited.invite(world, other, "basic", email=EMAIL.upper())
        world.write(lambda tx: tx.run(idempotency.insert(), self._kept(tx.now_ms)))
        asked = OPERATIONS["password-resets.create"].input(email=EMAIL)
        run(world, "password-resets.create", ANONYMOUS, asked, MAILING)
        world.seal()

    def _kept(self, at: int) -> dict[str, Any]:
        own = {"principal": f"user:{self.id}/token:x", "key": "k", "request_hash": b"h"}
        return {**own, "status": 200, "body": b"b", "at": at}

    def _sign_in(self, checked: str = "") -> Any:
        given = ProvenSignIn(
            email=EMAIL,
            password="",
            person_id=self.id,
            password_hash=checked or row_of(self.world, self.id).password_hash,
            token=new_sign_in_token(),
            address=ADDRESS,
            user_agent=AGENT,
        )
        return run(self.world, "people.sign_in", ANONYMOUS, given)

    def export(self) -> Any:
        return run(self.world, "me.export", self.who, Nothing())


@pytest.fixture
def zoraida(world: World) -> Zoraida:
    return Zoraida(world)


def everything(world: World) -> str:
    """What stands in all tables, byte strings included; on SQLite in its files, too."""

    def read(tx: Transaction) -> list[str]:
        return [repr(row) for table in metadata.sorted_tables for row in tx.all(select(table))]

    said = world.read(read)
    if isinstance(world.address, Path):
        for path in sorted(world.address.parent.glob(f"{world.address.name}*")):
            said.append(path.read_bytes().decode("latin-1"))
    return "\n".join(said).lower()


def traces(world: World) -> list[str]:
    found = everything(world)
    return [one for one in TRACES if one.lower() in found]


def wrong_in(world: World) -> list[str]:
    world.seal()
    return [text for check in verify(world.address) for text in check.findings]


@pytest.mark.parametrize("by", ["operator", "oneself"])
def test_nothing_personal_is_left_and_the_chain_is_whole(
    world: World, zoraida: Zoraida, by: str
) -> None:
    assert set(traces(world)) == set(TRACES)
    before = world.read(lambda tx: len(tx.all(select(audit))))
    if by == "operator":
        done = run(world, "users.erase", OPERATOR, OneUser(user_id=str(zoraida.id)))
    else:
        kept = row_of(world, zoraida.id).password_hash
        done = run(world, "me.erase", zoraida.who, ProvenErasure(password="", checked_hash=kept))
    assert done["id"] == str(zoraida.id)
    assert traces(world) == []
    assert wrong_in(world) == []
    # What was done is still told, of somebody without a name.
    assert world.read(lambda tx: len(tx.all(select(audit)))) == before + 1
    listed = world.do("audit.list", actor=f"user:{zoraida.id}")["items"]
    assert listed and all("erased" in one["actor"] for one in listed)
    assert any(value == "erased" for one in listed for value in one["personal"].values())
    assert "zoraida" not in str(listed).lower()


def test_who_was_erased_can_do_nothing_any_more(world: World, zoraida: Zoraida) -> None:
    run(world, "users.erase", OPERATOR, OneUser(user_id=str(zoraida.id)))
    assert zoraida._sign_in("-") == "credentials_wrong"
    me = world.do("users.list", email=EMAIL)["items"]
    assert me == []
    shown = [one for one in world.do("users.list")["items"] if one["id"] == str(zoraida.id)]
    assert shown[0]["email"] == shown[0]["name"] == "erased" and shown[0]["erased_at"]
    again = run(world, "users.erase", OPERATOR, OneUser(user_id=str(zoraida.id)))
    assert again == "not_found"
    assert run(world, "users.reset-totp", OPERATOR, OneUser(user_id=str(zoraida.id)))
    # The address is free for another account.
    made = invited.invite(world, zoraida.company, "basic", email=EMAIL)
    assert invited.accept(world, invited.token_of(made))["me"]["id"] != str(zoraida.id)


def test_the_last_of_a_company_or_installation_stays(world: World, zoraida: Zoraida) -> None:
    for which in (1,):
        refused = run(world, "users.erase", OPERATOR, OneUser(user_id=str(which)))
        assert refused == "last_administrator"
    world.write(lambda tx: tx.run(update(person).where(person.c.id == 1).values(operator=False)))
    # The maker of the companies alone administers `Other`.
    assert run(world, "users.erase", OPERATOR, OneUser(user_id="1")) == "last_administrator"
    assert row_of(world, 1).erased_at is None
    world.write(lambda tx: tx.run(membership.delete().where(membership.c.person_id == 1)))
    assert run(world, "users.erase", OPERATOR, OneUser(user_id=str(zoraida.id))) == (
        "last_administrator"
    )


def test_erasing_oneself_takes_the_password(world: World, zoraida: Zoraida) -> None:
    for given in (EraseMe(password="x"), ProvenErasure(password="", checked_hash="other")):
        assert run(world, "me.erase", zoraida.who, given) == "credentials_wrong"
    assert row_of(world, zoraida.id).erased_at is None


@pytest.mark.parametrize("user_id", ["999999", "x", "", "-1", "9" * 30])
def test_nobody_is_not_erased(world: World, user_id: str) -> None:
    assert run(world, "users.erase", OPERATOR, OneUser(user_id=user_id)) == "not_found"


def test_an_export_holds_everything_of_the_person_and_no_secret(
    world: World, zoraida: Zoraida
) -> None:
    found = zoraida.export()
    text = str(found)
    for one in (EMAIL, NAME, ADDRESS, AGENT):
        assert one in text
    assert found["memberships"][0]["role"] == "administrator"
    assert {one["address"] for one in found["sign_ins"]} >= {ADDRESS}
    assert found["api_tokens"][0]["name"] == "mine"
    assert {"people.sign_in", "me.change", "invitations.accept"} <= {
        one["verb"] for one in found["audit"]
    }
    for secret in ("token_hash", "csrf", "password_hash", "totp", "sealed"):
        assert secret not in text


def test_a_company_is_exported_to_its_administrators(world: World, zoraida: Zoraida) -> None:
    world.grant(zoraida.company, 3)
    world.register("0000000001", zoraida.company, "later")
    found = world.do("companies.export", person=zoraida.id, company_id=zoraida.company)
    assert found["company"]["name"] == "Acme" and found["credits"]["credits"] == 3
    assert [one["serial"] for one in found["devices"]["items"]] == ["0000000001"]
    assert {one["email"] for one in found["members"]} == {EMAIL, "olga@example.org"}
    assert found["settings"]
    low = invited.person(world, "low@example.org", zoraida.company, "advanced")
    with pytest.raises(Refused) as refused:
        world.do("companies.export", person=low, company_id=zoraida.company)
    assert refused.value.code.value == "forbidden"


def test_addresses_of_old_entries_go_after_a_year(world: World, zoraida: Zoraida) -> None:
    def kept() -> set[str]:
        rows = world.read(lambda tx: tx.all(select(audit_personal)))
        return {row.name for row in rows if row.value in (ADDRESS, AGENT)}

    assert kept() == {"address", "user_agent"}
    world.now_ms += 364 * DAY_MS
    while world.write(housekeeping.clean):
        pass
    assert kept() == {"address", "user_agent"}
    world.now_ms += 2 * DAY_MS
    while world.write(housekeeping.clean):
        pass
    assert kept() == set()
    assert wrong_in(world) == []


def audited(world: World, verb: str) -> dict[str, str]:
    """The personal values of the one entry of this verb."""
    [entry] = world.do("audit.list", verb=verb)["items"]
    return dict(entry["personal"])


def erase(world: World, person_id: int) -> Any:
    return run(world, "users.erase", OPERATOR, OneUser(user_id=str(person_id)))


def test_an_address_is_found_however_it_was_written(world: World) -> None:
    company = world.company("Acme")
    # The audit cuts it off, and a database may not know the small letters of these.
    asked = "J\u00d6RG." + "\u00c4" * 150 + "@EXAMPLE." + "B" * 45 + ".ORG"
    made = invited.invite(world, company, "basic", email=asked)
    done = invited.accept(world, invited.token_of(made), name="J\u00f6rg")
    world.do("companies.change", company_id=company, billing_email=asked.lower())
    assert "j\u00f6rg" in everything_said(world)
    erase(world, int(done["me"]["id"]))
    assert "j\u00f6rg" not in everything_said(world)


def everything_said(world: World) -> str:
    """What stands in all tables."""
    rows = world.read(lambda tx: [tx.all(select(table)) for table in metadata.sorted_tables])
    return repr(rows).lower()


def test_whom_to_ask_is_forgotten_with_the_person_and_nothing_beside_it(
    world: World, zoraida: Zoraida
) -> None:
    def brand(support: str) -> Any:
        given = {"name": "Acme", "logo": "", "support": support}
        return world.do("settings.change", company_id=zoraida.company, brand=given)

    brand(f"Write to Zo <{EMAIL.title()}>.")
    brand(f"not{EMAIL} and {EMAIL}.mx")
    erase(world, zoraida.id)
    shown = world.do("settings.show", company_id=zoraida.company)["settings"]["brand"]["value"]
    assert shown == {"name": "Acme", "logo": "", "support": f"not{EMAIL} and {EMAIL}.mx"}
    assert "write to zo" not in everything(world)

    other = invited.person(world, "mel@example.org", zoraida.company, "administrator")
    brand("Mel, mel@example.org.")
    erase(world, other)
    shown = world.do("settings.show", company_id=zoraida.company)["settings"]["brand"]["value"]
    assert shown == {"name": "Acme", "logo": "", "support": ""}
    assert "mel@example.org" not in everything_said(world)


def test_somebody_of_the_same_name_and_address_keeps_the_own_values(
    world: World, zoraida: Zoraida
) -> None:
    made = invited.invite(world, zoraida.company, "administrator", email="zq@example.org")
    done = invited.accept(world, invited.token_of(made), name=NAME, new_cookie="d" * 43)
    twin = signed_in(world, int(done["me"]["id"]), new_sign_in_token())
    run(world, "me.change", twin, OPERATIONS["me.change"].input(name=NAME), MAILING)
    erase(world, zoraida.id)
    changed = world.do("audit.list", verb="me.change", actor=twin.name)["items"]
    assert [one["personal"]["name"] for one in changed] == [NAME]
    assert run(world, "me.export", twin, Nothing())["me"]["name"] == NAME


def test_a_wrong_secret_noted_before_leaves_no_address(world: World, zoraida: Zoraida) -> None:
    late = Failure(SECRET_WRONG, f"user:{zoraida.id}", ADDRESS, operation="me.change-password")
    nobodys = Failure(SIGN_IN_FAILED, "anonymous", ADDRESS)
    world.write(lambda tx: write_failures(tx, {nobodys: 1}))
    erase(world, zoraida.id)
    world.write(lambda tx: write_failures(tx, {late: 2}))
    assert traces(world) == []
    assert wrong_in(world) == []


def test_who_is_invited_by_the_address_alone_is_erased_with_it(world: World) -> None:
    company = world.company("Acme")
    person_id = invited.person(world, EMAIL)
    invited.invite(world, company, "basic", email=EMAIL)
    assert audited(world, "invitations.create")["email"] == EMAIL
    erase(world, person_id)
    assert audited(world, "invitations.create")["email"] == "erased"
    assert invited.all_rows(world, invitation) == []


def test_an_erasure_during_a_long_read_is_finished_after_it(world: World, zoraida: Zoraida) -> None:
    if not isinstance(world.address, Path):
        pytest.skip("PostgreSQL cleans up by itself (vacuum)")
    reader = sqlite3.connect(world.address)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM person").fetchone()
    erase(world, zoraida.id)
    assert traces(world)  # the reader needs the pages as they were
    reader.close()
    world.write(lambda tx: None)
    assert traces(world) == []
