"""Invitations: nothing changes until they are accepted, and they give no more than they may."""

from typing import Any

import pytest
from sqlalchemy import update

from gateway.domain.instants import DAY_MS, HOUR_MS, instant_text
from gateway.domain.inviting import GOOD_MS, OPEN_OF_COMPANY_MAX, SENT_OF_PERSON_MAX
from gateway.domain.refusals import Refused
from gateway.domain.rights import Principal, Role, Scope, Token
from gateway.jobs import housekeeping
from gateway.operations import inviting
from gateway.operations.registry import Site
from gateway.people import sign_ins
from gateway.people.tokens import hash_token
from gateway.storage.schema import audit, audit_personal, invitation, mail, person, sign_in
from tests.contract import invited, mails
from tests.contract.invited import ANN, accept, invite, look, roles, token_of
from tests.contract.world import OPERATIONS, SITE, World

pytestmark = pytest.mark.either_engine

NEVER_MADE = "x" * 43


@pytest.fixture
def top(world: World) -> str:
    return world.company("Top")


@pytest.fixture
def child(world: World, top: str) -> str:
    """A company below: no operator has a say in it."""
    return world.company("Child", top)


@pytest.mark.parametrize("role", invited.ROLES)
def test_somebody_new_becomes_exactly_what_the_invitation_says(
    world: World, child: str, role: str
) -> None:
    made = invite(world, child, role)
    assert made["state"] == "open" and made["email"] == ANN and made["role"] == role
    people = len(invited.all_rows(world, person))
    done = accept(world, token_of(made), name="  Ann   Example ")
    assert done["role"] == role and done["company_name"] == "Child" and done["csrf"]
    me = done["me"]
    assert (me["email"], me["name"], me["operator"]) == (ANN, "Ann Example", False)
    assert [(one["company_id"], one["role"]) for one in me["memberships"]] == [(child, role)]
    assert roles(world, int(me["id"])) == {int(child): role}
    assert len(invited.all_rows(world, person)) == people + 1
    (listed,) = world.do("invitations.list", company=child)["items"]
    assert listed["state"] == "accepted" and "link" not in listed


def test_nothing_changes_for_somebody_with_an_account_until_it_is_accepted(
    world: World, top: str, child: str
) -> None:
    elsewhere = world.company("Elsewhere")
    ann = invited.person(world, ANN, elsewhere, "read_only")
    token = token_of(invite(world, child, "advanced", email=" ANN@Example.org "))
    assert roles(world, ann) == {int(elsewhere): "read_only"}
    # Neither a stranger with a password of their own nor anybody else can take it.
    assert accept(world, token).startswith("signed_out: ")
    bob = invited.person(world, "bob@example.org", top, "administrator")
    assert accept(world, token, bob).startswith("other_account: ")
    assert roles(world, ann) == {int(elsewhere): "read_only"}
    done = accept(world, token, ann)
    assert done["role"] == "advanced"
    assert roles(world, ann) == {int(elsewhere): "read_only", int(child): "advanced"}


def test_an_api_token_accepts_nothing(world: World, child: str) -> None:
    ann = invited.person(world, ANN)
    token = token_of(invite(world, child))
    bearer = Principal(f"user:{ann}", ann, token=Token("t", frozenset({Scope.ALL})))
    with pytest.raises(Refused, match="API token"):
        invited.as_person(world, "invitations.accept", bearer, SITE, token=token)
    assert roles(world, ann) == {}


@pytest.mark.parametrize("site", [SITE, mails.MAILING], ids=["shown", "mailed"])
def test_the_inviter_cannot_tell_whether_there_is_an_account(
    world: World, child: str, statements: list[str], site: Site
) -> None:
    invited.person(world, "known@example.org")
    who = world.read(lambda tx: world.principal(tx, 1))
    answers, sent = [], []
    for email in ("known@example.org", "other@example.org"):
        given = {"email": email, "company_id": child, "role": "basic"}
        statements.clear()
        made = invited.as_person(world, "invitations.create", who, site, **given)
        sent.append(sorted(statements))
        assert ("link" in made) == (site is SITE)
        answers.append({key: made[key] for key in made.keys() - {"id", "link", "email"}})
    assert answers[0] == answers[1]
    assert sent[0] == sent[1] and len(sent[0]) > 5
    states = {one["email"]: one["state"] for one in world.do("invitations.list")["items"]}
    assert len(states) == 2 and set(states.values()) == {"open"}


def refusals_of(world: World, token: str) -> set[str]:
    """What is said to somebody without an account, and to somebody who only looks."""
    return {look(world, token), accept(world, token)}


def test_what_is_not_good_any_more_is_refused_like_what_never_was(
    world: World, top: str, child: str
) -> None:
    (over,) = refusals_of(world, NEVER_MADE)
    assert over.startswith("invitation_over: ") and "ask for a new one" in over

    used = token_of(invite(world, child, email="used@example.org"))
    assert accept(world, used)["role"] == "basic"
    late = token_of(invite(world, child, email="late@example.org"))
    withdrawn = invite(world, child, email="withdrawn@example.org")
    assert world.do("invitations.withdraw", invitation_id=withdrawn["id"])["state"] == "withdrawn"
    resent = invite(world, child, email="resent@example.org")
    again = world.do("invitations.resend", invitation_id=resent["id"])
    assert again["id"] == resent["id"] and again["link"] != resent["link"]
    for token in (used, token_of(withdrawn), token_of(resent)):
        assert refusals_of(world, token) == {over}
    world.now_ms += GOOD_MS - 1
    assert look(world, late) == look(world, token_of(again)) == "ok"
    world.now_ms += 1
    assert refusals_of(world, late) == refusals_of(world, token_of(again)) == {over}
    (shown,) = world.do("invitations.list", state="expired", limit=1)["items"]
    assert shown["state"] == "expired"

    of_closed = token_of(invite(world, child, email="closed@example.org"))
    world.do("companies.close", company_id=child, devices="unregister")
    assert refusals_of(world, of_closed) == {over}
    shown = world.do("invitations.list", state="closed")["items"][0]
    assert shown["email"] == "closed@example.org"
    assert world.ask("invitations.create", email=ANN, company_id=child, role="basic") == (
        "company_closed"
    )


@pytest.mark.parametrize(
    "lost", ["removed", "lowered", "ended", "erased", "moved away", "role over"]
)
def test_the_inviter_must_still_be_able_to_give_the_role(
    world: World, top: str, child: str, lost: str
) -> None:
    high = world.company("High", top)
    inviter = invited.person(world, "ivo@example.org", high, "administrator")
    low = world.company("Low", high)
    given: dict[str, Any] = {"email": ANN, "company_id": low, "role": "administrator"}
    until = instant_text(world.now_ms + HOUR_MS) if lost == "role over" else None
    made = world.do("invitations.create", person=inviter, until=until, **given)
    token = token_of(made)
    assert look(world, token) == "ok"
    if lost == "removed":
        invited.remove(world, inviter)
    elif lost == "lowered":
        invited.change_role(world, inviter, role="advanced")
    elif lost == "ended":
        invited.change_role(world, inviter, until=world.now_ms)
    elif lost == "erased":
        gone = update(person).where(person.c.id == inviter).values(erased_at=world.now_ms)
        world.write(lambda tx: tx.run(gone))
    elif lost == "moved away":
        world.do("companies.move", company_id=low, parent_id=child)
    else:
        world.now_ms += HOUR_MS
    (over,) = refusals_of(world, NEVER_MADE)
    assert refusals_of(world, token) == {over}
    if lost == "lowered":
        # What an advanced user may give is still good.
        lower: dict[str, Any] = {**given, "email": "low@example.org", "role": "basic"}
        less = world.do("invitations.create", person=inviter, **lower)
        assert accept(world, token_of(less))["role"] == "basic"


def test_inviting_again_sends_a_new_link_with_the_new_role(world: World, child: str) -> None:
    first = invite(world, child, "basic")
    ends = instant_text(world.now_ms + DAY_MS)
    second = invite(world, child, "billing", email=ANN.upper(), until=ends)
    assert second["id"] == first["id"] and second["link"] != first["link"]
    assert look(world, token_of(first)).startswith("invitation_over")
    done = accept(world, token_of(second))
    assert (done["role"], done["until"]) == ("billing", ends)
    assert len(world.do("invitations.list")["items"]) == 1
    # Who is a member is not invited; a role that has ended is begun anew.
    asked: dict[str, Any] = {"email": ANN, "company_id": child, "role": "advanced"}
    assert world.ask("invitations.create", **asked) == "name_taken"
    world.now_ms += DAY_MS
    third = world.do("invitations.create", **asked)
    ann = int(done["me"]["id"])
    assert accept(world, token_of(third), ann)["role"] == "advanced"
    assert roles(world, ann) == {int(child): "advanced"}


def test_whoever_became_a_member_meanwhile_keeps_the_role(world: World, child: str) -> None:
    ann = invited.person(world, ANN)
    token = token_of(invite(world, child, "read_only"))
    world.write(invited.add_role(ann, child, "administrator"))
    assert accept(world, token, ann).startswith("name_taken: ")
    assert roles(world, ann) == {int(child): "administrator"}


def test_an_advanced_user_gives_and_takes_only_the_lower_roles(world: World, child: str) -> None:
    ada = invited.person(world, "ada@example.org", child, "advanced")
    high = invite(world, child, "administrator")
    for role in invited.ROLES:
        asked: dict[str, Any] = {"email": f"{role}@example.org", "company_id": child, "role": role}
        wanted = "ok" if role in ("basic", "read_only") else "forbidden"
        assert world.ask("invitations.create", person=ada, **asked) == wanted, role
    again: dict[str, Any] = {"email": ANN, "company_id": child, "role": "basic"}
    assert world.ask("invitations.create", person=ada, **again) == "forbidden"
    for name in ("invitations.resend", "invitations.withdraw"):
        assert world.ask(name, person=ada, invitation_id=high["id"]) == "forbidden"
    assert accept(world, token_of(high))["role"] == "administrator"


def test_an_operator_finds_a_root_company_its_administrators_and_nothing_else(
    world: World, child: str
) -> None:
    # The operator is in no company here.
    root = world.company("Root", administrator_email=_account(world, "owner@example.org"))
    below = int(child)
    assert roles(world, 1).keys().isdisjoint({int(root)})
    asked: dict[str, Any] = {"email": ANN, "company_id": root}
    assert world.ask("invitations.create", role="basic", **asked) == "forbidden"
    made = world.do("invitations.create", role="administrator", **asked)
    again = world.do("invitations.resend", invitation_id=made["id"])
    assert accept(world, token_of(again))["role"] == "administrator"
    invited.remove(world, 1)
    asked = {"email": ANN, "company_id": str(below), "role": "administrator"}
    assert world.ask("invitations.create", **asked) == "not_found"


def _account(world: World, email: str) -> str:
    invited.person(world, email)
    return email


@pytest.mark.parametrize(
    ("until", "said"),
    [
        ("2027-01-01T00:00:00Z", "over already"),
        ("tomorrow", "an instant"),
        ("2027-02-01T00:00:00", "an instant"),
        ("9999-12-31T23:59:59-23:59", "hundred years"),
        ("0001-01-01T00:00:00+23:59", "over already"),
    ],
)
def test_an_end_lies_ahead(world: World, child: str, until: str, said: str) -> None:
    with pytest.raises(Refused, match=said) as found:
        invite(world, child, until=until)
    assert found.value.field == "until"


@pytest.mark.parametrize(
    "email", ["", "ann", "ann@", "a b@example.org", "a@x\r\nBcc: b@y", "a,b@c"]
)
def test_an_address_is_one(world: World, child: str, email: str) -> None:
    asked: dict[str, Any] = {"email": email, "company_id": child, "role": "basic"}
    assert world.ask("invitations.create", **asked) == "validation"


def test_passwords_and_names_of_new_accounts_are_checked(world: World, child: str) -> None:
    token = token_of(invite(world, child))
    assert accept(world, token, password="short").startswith("validation: password")
    assert accept(world, token, name="a\u202eb").startswith("validation: name")
    assert accept(world, token, password_hash="").startswith("signed_out")
    assert look(world, token) == "ok"
    assert accept(world, token, name=" ")["me"]["name"] == ANN


def test_nobody_sends_without_end(
    world: World, child: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (OPEN_OF_COMPANY_MAX, SENT_OF_PERSON_MAX) == (200, 50)
    monkeypatch.setattr(inviting, "SENT_OF_PERSON_MAX", 4)
    made = invite(world, child)
    again: dict[str, Any] = {"invitation_id": made["id"]}
    for _ in range(3):
        assert world.ask("invitations.resend", **again) == "ok"
    world.now_ms += 1_000
    asked: dict[str, Any] = {"email": "b@example.org", "company_id": child, "role": "basic"}
    assert world.ask("invitations.resend", **again) == "too_many_attempts"
    assert world.ask("invitations.create", **asked) == "too_many_attempts"
    # Withdrawing makes no room, and others are not concerned.
    assert world.ask("invitations.withdraw", **again) == "ok"
    assert world.ask("invitations.create", **asked) == "too_many_attempts"
    ivo = invited.person(world, "ivo@example.org", child, "administrator")
    assert world.ask("invitations.create", person=ivo, **asked) == "ok"
    world.now_ms += HOUR_MS
    monkeypatch.setattr(inviting, "OPEN_OF_COMPANY_MAX", 2)
    assert world.ask("invitations.create", **asked | {"email": "c@example.org"}) == "ok"
    full: dict[str, Any] = asked | {"email": "d@example.org"}
    assert world.ask("invitations.create", **full) == "too_many_attempts"
    assert world.ask("invitations.create", **asked) == "ok"


def test_with_a_mail_server_the_link_is_in_the_mail_alone(world: World, child: str) -> None:
    mails.mailing(world)
    who = world.read(lambda tx: world.principal(tx, 1))
    given: dict[str, Any] = {"email": ANN, "company_id": child, "role": "advanced"}
    ends = instant_text(world.now_ms + DAY_MS)
    made = invited.as_person(world, "invitations.create", who, mails.MAILING, until=ends, **given)
    assert "link" not in made
    (row,) = mails.rows(world)
    assert (row.template, row.recipient, row.person_id) == ("invitation", ANN, None)
    values = mails.values_of(row)
    link = values.pop("link")
    assert link.startswith("https://fleet.example.org/invitation/")
    assert values == {"company": "Child", "role": "advanced", "inviter": values["inviter"]} | {
        "until": ends
    }
    assert look(world, link.rpartition("/")[2]) == "ok"


def test_no_table_holds_a_link_and_the_audit_no_address(world: World, child: str) -> None:
    made = invite(world, child)
    token = token_of(made)
    assert look(world, token) == "ok"
    accept(world, token)
    (row,) = invited.all_rows(world, invitation)
    assert token not in repr(row)
    entries = [one for one in invited.all_rows(world, audit) if "invitations." in one.verb]
    assert [one.verb for one in entries] == [
        "invitations.create",
        "invitations.look",
        "invitations.accept",
    ]
    for entry in entries:
        assert entry.company_id == int(child) and entry.subject == made["id"]
        for secret in (token, ANN, "correct horse", "ccccc"):
            assert secret not in repr(entry)
    kept = {one.audit_id: (one.name, one.value) for one in invited.all_rows(world, audit_personal)}
    assert kept[entries[0].id] == kept[entries[2].id] == ("email", ANN)
    assert entries[2].actor == f"user:{newest_person(world)}"
    assert token not in repr(invited.all_rows(world, mail))


def newest_person(world: World) -> int:
    """The person that was made last."""
    return max(int(one.id) for one in invited.all_rows(world, person))


def test_a_sign_in_gets_a_new_cookie_and_stays_what_it_was(world: World, child: str) -> None:
    ann = invited.person(world, ANN)
    old_csrf = world.write(lambda tx: sign_ins.begin(tx, ann, "o" * 43))
    token = token_of(invite(world, child))
    done = accept(world, token, ann, old_cookie="o" * 43, new_cookie="n" * 43)
    assert done["csrf"] != old_csrf
    (row,) = invited.all_rows(world, sign_in)
    assert (bytes(row.token_hash), row.csrf) == (hash_token("n" * 43), done["csrf"])


def test_what_has_ended_is_forgotten_after_a_month(world: World, child: str) -> None:
    invite(world, child, email="never@example.org")
    accept(world, token_of(invite(world, child)))
    world.now_ms += GOOD_MS + 30 * DAY_MS
    world.write(housekeeping.clean)
    (left,) = invited.all_rows(world, invitation)
    assert left.email == "never@example.org"
    world.now_ms += 1
    world.write(housekeeping.clean)
    assert invited.all_rows(world, invitation) == []


def test_pages_of_a_list_are_newest_first_and_only_of_what_one_may_see(
    world: World, top: str, child: str
) -> None:
    beside = world.company("Beside")
    emails = [f"p{number}@example.org" for number in range(3)]
    for email in emails:
        invite(world, child, email=email)
    invite(world, beside)
    cal = invited.person(world, "cal@example.org", child, "advanced")
    seen: list[str] = []
    cursor = ""
    while True:
        page: Any = world.do("invitations.list", person=cal, limit=2, cursor=cursor)
        seen += [one["email"] for one in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == emails[::-1]
    assert world.ask("invitations.list", person=cal, company=beside) == "not_found"
    assert {one["role"] for one in world.do("invitations.list", company=top)["items"]} == {
        Role.BASIC.value
    }
    assert OPERATIONS["invitations.list"].method == "GET"
