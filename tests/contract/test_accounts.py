"""One's own account: its password, its sign-ins, and what is asked for when the first is lost."""

import json
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select, update

from gateway.domain.instants import HOUR_MS, MINUTE_MS
from gateway.domain.refusals import Refused
from gateway.domain.rights import ANONYMOUS, Principal, name_of_user
from gateway.jobs import housekeeping, reset_mails
from gateway.operations.accounts import ProvenPassword
from gateway.operations.password_resets import (
    GOOD_MS,
    LINKS_MAX,
    PATH,
    WAITING_MAX,
    HashedReset,
    LocalAsk,
)
from gateway.operations.registry import Site, execute
from gateway.people import sign_ins
from gateway.people.authentication import Credential, Means, identity_of
from gateway.people.sign_ins import IDLE_MS, cleaned_agent
from gateway.storage.schema import (
    audit,
    audit_personal,
    mail,
    password_reset,
    password_reset_asked,
    person,
    sign_in,
)
from gateway.storage.transaction import Transaction
from tests.contract.browsers import row_of, run, signed_in
from tests.contract.invited import as_person
from tests.contract.invited import person as make
from tests.contract.mails import MAILING, rows, sender, values_of, with_server
from tests.contract.world import OPERATIONS, SITE, World
from tests.mail_server import Mailboxes

pytestmark = pytest.mark.either_engine

ANN = "ann@example.org"
NEW = "another horse battery"


def proven(checked: str = "-") -> ProvenPassword:
    return ProvenPassword(
        old_password="", new_password=NEW, checked_hash=checked, new_hash="new hash"
    )


def ids_of(world: World, person_id: int) -> set[str]:
    statement = select(sign_in.c.id).where(sign_in.c.person_id == person_id)
    return {row.id for row in world.read(lambda tx: tx.all(statement))}


# The password


def test_a_new_password_ends_all_other_sign_ins_and_no_one_elses(world: World) -> None:
    ann, joe = make(world, ANN), make(world, "joe@example.org")
    here = signed_in(world, ann, "here")
    signed_in(world, ann, "there")
    others = signed_in(world, joe, "joe's")
    done = run(world, "me.change-password", here, proven(), MAILING)
    assert done == {"sign_ins_ended": 1}
    assert ids_of(world, ann) == {here.sign_in} and ids_of(world, joe) == {others.sign_in}
    assert row_of(world, ann).password_hash == "new hash"
    assert row_of(world, joe).password_hash == "-"
    (told,) = rows(world)
    assert (told.template, told.recipient) == ("password_changed", ANN)


def test_a_password_changes_only_from_the_one_that_was_checked(world: World) -> None:
    ann = make(world, ANN)
    here = signed_in(world, ann, "here")
    # Changed by somebody quicker, or never checked.
    assert run(world, "me.change-password", here, proven("former")) == "credentials_wrong"
    given = {"old_password": "-", "new_password": NEW}
    with pytest.raises(Refused) as refused:
        as_person(world, "me.change-password", here, SITE, **given)
    assert refused.value.code.value == "credentials_wrong"
    assert refused.value.field == "old_password"
    short = msgspec.structs.replace(proven(), new_password="short")
    assert run(world, "me.change-password", here, short) == "validation"
    assert row_of(world, ann).password_hash == "-"


def test_of_two_changes_at_once_one_is_refused(world: World) -> None:
    ann = make(world, ANN)
    here = signed_in(world, ann, "here")
    op = OPERATIONS["me.change-password"]
    works = [lambda tx: execute(tx, op, here, SITE, proven()) for _ in range(6)]
    found = world.together(works)
    refused = [one for one in found if isinstance(one, Refused)]
    assert len(refused) == 5 and {one.code.value for one in refused} == {"credentials_wrong"}


# A lost password


def ask(world: World, email: str, site: Site = MAILING) -> Any:
    given = msgspec.convert({"email": email}, OPERATIONS["password-resets.create"].input)
    return run(world, "password-resets.create", ANONYMOUS, given, site)


def queue(world: World) -> int:
    return world.write(lambda tx: reset_mails.queue_some(tx, MAILING))


def links(world: World) -> list[str]:
    """The tokens of all links that were queued."""
    beginning = f"{MAILING.public_url}{PATH}/"
    found = [values_of(row)["link"] for row in rows(world) if row.template == "password_reset"]
    assert all(one.startswith(beginning) for one in found)
    return [one.removeprefix(beginning) for one in found]


def use(world: World, token: str) -> Any:
    given = HashedReset(token=token, password=NEW, password_hash="by link")
    return run(world, "password-resets.use", ANONYMOUS, given, MAILING)


def test_a_link_sets_a_password_once_and_signs_nobody_in(world: World) -> None:
    ann = make(world, ANN)
    signed_in(world, ann, "here")
    assert ask(world, f" {ANN.upper()} ") == {"mail": True}
    assert queue(world) == 1 and not queue(world)
    (token,) = links(world)
    assert use(world, token) == {"sign_ins_ended": 1}
    assert row_of(world, ann).password_hash == "by link" and not ids_of(world, ann)
    assert use(world, token) == "link_over"
    assert [row.template for row in rows(world)] == ["password_reset", "password_changed"]


def test_a_link_is_good_for_half_an_hour(world: World) -> None:
    make(world, ANN)
    for late_ms, wanted in ((0, "link_over"), (1, {"sign_ins_ended": 0})):
        ask(world, ANN)
        queue(world)
        world.now_ms += GOOD_MS - late_ms
        assert use(world, links(world)[-1]) == wanted
    assert GOOD_MS == 30 * MINUTE_MS


def test_a_newer_link_or_another_password_ends_a_link(world: World) -> None:
    ann = make(world, ANN)
    for _ in range(2):
        ask(world, ANN)
        queue(world)
    old, newest = links(world)
    assert use(world, old) == "link_over"
    run(world, "me.change-password", signed_in(world, ann, "here"), proven())
    assert use(world, newest) == "link_over"
    assert row_of(world, ann).password_hash == "new hash"


def test_an_account_is_sent_three_links_an_hour_and_the_newest_stays_good(world: World) -> None:
    make(world, ANN)
    for _ in range(LINKS_MAX + 4):
        assert ask(world, ANN) == {"mail": True}
        queue(world)
    assert len(links(world)) == LINKS_MAX == 3
    assert use(world, links(world)[-1]) == {"sign_ins_ended": 0}
    world.now_ms += HOUR_MS
    ask(world, ANN)
    queue(world)
    assert len(links(world)) == LINKS_MAX + 1


def test_who_asks_often_at_once_is_sent_one_link(world: World) -> None:
    make(world, ANN)
    for _ in range(5):
        ask(world, ANN)
    queue(world)
    assert len(links(world)) == 1


def test_addresses_without_account_are_asked_for_by_the_same_statements(
    world: World, statements: list[str]
) -> None:
    make(world, ANN)
    seen = []
    for email in (ANN, "nobody@example.org"):
        statements.clear()
        answer = ask(world, email)
        seen.append((answer, list(statements)))
    assert seen[0] == seen[1] and seen[0][1]
    assert queue(world) == 2
    assert [row.recipient for row in rows(world)] == [ANN]
    assert not world.read(lambda tx: tx.all(select(password_reset_asked)))
    # Of strangers' addresses nothing is kept.
    kept = world.read(lambda tx: tx.all(select(audit_personal.c.value)))
    assert "nobody@example.org" not in {row.value for row in kept}


def test_without_a_mail_server_nobody_is_shown_a_link_but_the_owner(world: World) -> None:
    ann = make(world, ANN)
    assert ask(world, ANN, SITE) == {"mail": False}
    owner = Principal(name_of_user(1), 1, operator=True)
    own = row_of(world, 1).email
    assert run(world, "password-resets.create", owner, LocalAsk(email=ANN)) == {"mail": False}
    given = msgspec.convert({"email": own}, OPERATIONS["password-resets.create"].input)
    assert run(world, "password-resets.create", owner, given) == {"mail": False}
    found = run(world, "password-resets.create", owner, LocalAsk(email=own))
    token = found["link"].removeprefix(f"{SITE.public_url}{PATH}/")
    assert use(world, token) == {"sign_ins_ended": 0}
    assert row_of(world, 1).password_hash == "by link" and row_of(world, ann).password_hash == "-"


def test_a_link_used_many_times_at_once_works_once(world: World) -> None:
    make(world, ANN)
    ask(world, ANN)
    queue(world)
    (token,) = links(world)
    given = HashedReset(token=token, password=NEW, password_hash="by link")
    op = OPERATIONS["password-resets.use"]
    found = world.together([lambda tx: execute(tx, op, ANONYMOUS, MAILING, given)] * 6)
    assert sum(isinstance(one, Refused) for one in found) == 5, found
    assert {one.code.value for one in found if isinstance(one, Refused)} == {"link_over"}


def test_two_gateways_answer_each_request_once(world: World) -> None:
    make(world, ANN)
    make(world, "joe@example.org")
    for email in (ANN, "joe@example.org"):
        ask(world, email)
    world.together([lambda tx: reset_mails.queue_some(tx, MAILING)] * 4)
    queue(world)
    assert sorted(row.recipient for row in rows(world)) == [ANN, "joe@example.org"]


def test_no_link_stands_anywhere_but_sealed_in_its_mail(world: World) -> None:
    ann = make(world, ANN)
    ask(world, ANN)
    queue(world)
    (token,) = links(world)
    use(world, token)

    def everything(tx: Transaction) -> str:
        tables = (audit, audit_personal, password_reset, mail, person)
        return repr([[tuple(row) for row in tx.all(select(table))] for table in tables])

    text = world.read(everything)
    assert token not in text and NEW not in text
    verbs = world.read(lambda tx: tx.all(select(audit.c.verb, audit.c.actor, audit.c.subject)))
    assert ("password-reset.mailed", "gateway", str(ann)) in [tuple(row) for row in verbs]
    assert ("password-resets.use", name_of_user(ann), str(ann)) in [tuple(row) for row in verbs]


def test_what_was_asked_for_is_forgotten_in_time_and_limited(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.operations.password_resets.WAITING_MAX", 3)
    assert WAITING_MAX == 10_000
    make(world, ANN)
    for number in range(5):
        assert ask(world, f"n{number}@example.org") == {"mail": True}
    count = select(func.count()).select_from(password_reset_asked)
    assert world.read(lambda tx: tx.scalar(count)) == 3
    queue(world)
    ask(world, ANN)
    queue(world)
    ask(world, ANN)
    world.now_ms += 24 * HOUR_MS + 1
    while world.write(housekeeping.clean):
        pass
    for table in (password_reset, password_reset_asked):
        left = partial(Transaction.scalar, statement=select(func.count()).select_from(table))
        assert world.read(left) == 0


def test_an_erased_person_is_sent_nothing(world: World) -> None:
    ann = make(world, ANN)
    ask(world, ANN)
    queue(world)
    (token,) = links(world)
    gone = update(person).where(person.c.id == ann).values(erased_at=1)
    world.write(lambda tx: tx.run(gone))
    assert use(world, token) == "link_over"
    ask(world, ANN)
    queue(world)
    assert len(links(world)) == 1


# Sign-ins


def listed(world: World, who: Principal) -> Sequence[Any]:
    done = run(world, "sign-ins.list", who, OPERATIONS["sign-ins.list"].input())
    return list(done["items"])


def test_sign_ins_are_listed_with_where_from_and_which_is_this_one(world: World) -> None:
    ann, joe = make(world, ANN), make(world, "joe@example.org")
    there = signed_in(world, ann, "there")
    world.now_ms += MINUTE_MS
    here = signed_in(world, ann, "here")
    signed_in(world, joe, "joe's")
    found = listed(world, here)
    assert [(one["id"], one["this_one"]) for one in found] == [
        (here.sign_in, True),
        (there.sign_in, False),
    ]
    assert found[0]["address"] == "192.0.2.7"
    assert not {"token", "token_hash", "csrf"} & set(found[0])
    assert "here" not in json.dumps(found)
    # What has come to its end is none of them.
    world.now_ms += IDLE_MS - MINUTE_MS
    assert [one["id"] for one in listed(world, here)] == [here.sign_in]


def test_one_sign_in_or_all_others_or_all_are_ended(world: World) -> None:
    ann, joe = make(world, ANN), make(world, "joe@example.org")
    here, there, third = (signed_in(world, ann, one) for one in ("a", "b", "c"))
    strange = signed_in(world, joe, "joe's")
    one = OPERATIONS["sign-ins.end"].input
    all_of = OPERATIONS["sign-ins.end-all"].input
    assert run(world, "sign-ins.end", here, one(sign_in_id=there.sign_in)) == {"ended": 1}
    assert ids_of(world, ann) == {here.sign_in, third.sign_in}
    # Another's is like none; so is one that ended.
    for other in (strange.sign_in, there.sign_in, "f" * 16, ""):
        assert run(world, "sign-ins.end", here, one(sign_in_id=other)) == "not_found"
    assert run(world, "sign-ins.end-all", here, all_of()) == {"ended": 1}
    assert ids_of(world, ann) == {here.sign_in}
    assert run(world, "sign-ins.end-all", here, all_of(all=True)) == {"ended": 1}
    assert not ids_of(world, ann) and ids_of(world, joe) == {strange.sign_in}
    nobody = world.read(lambda tx: identity_of(tx, Credential(Means.COOKIE, "a")).principal)
    assert nobody == ANONYMOUS


def test_what_a_browser_says_of_itself_is_kept_on_one_line() -> None:
    assert cleaned_agent("Moz\nilla\x1b[2J\u202e/5.0\udcff  x") == "Moz illa [2J /5.0 x"
    assert len(cleaned_agent("x" * 5_000)) == sign_ins.USER_AGENT_CHARS_MAX == 200


# Who one is


def test_name_and_language_are_ones_own_to_change(world: World) -> None:
    ann = make(world, ANN)
    who = signed_in(world, ann, "here")
    change = OPERATIONS["me.change"].input
    changed = run(world, "me.change", who, change(name="  Ann   Lee ", language="es"))
    assert (changed["name"], changed["language"]) == ("Ann Lee", "es")
    assert changed["second_factor"] is False
    assert run(world, "me.change", who, change(language=""))["language"] == ""
    for unfit in (change(), change(name=" "), change(name="a\u202eb")):
        assert run(world, "me.change", who, unfit) == "validation"
    assert row_of(world, ann).name == "Ann Lee"


def test_a_link_comes_by_mail_in_the_persons_language(world: World) -> None:
    ann = make(world, ANN)
    world.write(lambda tx: tx.run(update(person).where(person.c.id == ann).values(language="es")))
    for email in (ANN, "nobody@example.org"):
        ask(world, email)

    async def work(boxes: Mailboxes) -> None:
        one = sender(world, boxes.settings())
        await one.queue_resets()
        await one.send_due()

    ((recipient, message),) = with_server(world, work).arrived
    body = message.get_body(("plain",))
    assert recipient == ANN and body is not None
    text = body.get_content()
    found = re.search(rf"{re.escape(MAILING.public_url + PATH)}/([\w-]+)", text)
    assert found and "contrase\u00f1a" in text
    assert use(world, found[1]) == {"sign_ins_ended": 0}
