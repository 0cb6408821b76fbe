"""Every operation that writes leaves its entry, without a secret, personal values aside."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select

from gateway.domain.audit_sentences import has_words
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Principal, Role
from gateway.operations import audit_writing
from gateway.operations.audit_writing import (
    LIKE_A_SECRET,
    NOT_SECRETS,
    OWN_VERBS,
    SECRETS,
    Personal,
    is_secret,
    record,
)
from gateway.operations.failed_attempts import SECRET_WRONG, SIGN_IN_FAILED, Failure, Failures
from gateway.operations.failed_attempts import write as write_failures
from gateway.operations.registry import execute, operations
from gateway.storage.schema import audit, audit_personal
from gateway.storage.transaction import AnyRow, Transaction
from tests.contract.rights_cases import CASES, filled
from tests.contract.rights_world import RightsWorld, Undone
from tests.contract.test_second_factor import Phone
from tests.contract.world import OPERATIONS, SITE, World

# They need more than their case gives; tests of their own look at their entries.
TESTED_ELSEWHERE = frozenset(
    {
        "devices.release",
        "devices.undo-replace",
        "invitations.accept",
        "invitations.look",
        "me.change-password",
        "me.confirm-totp",
        "me.erase",
        "me.recovery-codes",
        "me.remove-totp",
        "me.set-up-totp",
        "members.create",
        "password-resets.use",
        "people.sign_in",
        "sessions.ticket",
        "sign-ins.end",
        "tokens.delete",
        "users.reset-totp",
    }
)
# An entry for each device or company that it was done to, and for sessions that end by it.
MORE_THAN_ONE = frozenset({"device.moved", "device.replaced", "session.ended"})
# Written later, by a job.
LATER = frozenset({"password-resets.create"})


def entries(world: World) -> list[AnyRow]:
    return list(world.read(lambda tx: tx.all(select(audit).order_by(audit.c.id))))


def personal(world: World) -> dict[tuple[int, str], str]:
    rows = world.read(lambda tx: tx.all(select(audit_personal)))
    return {(row.audit_id, row.name): row.value for row in rows}


def everywhere(made: RightsWorld, tx: Transaction) -> Principal:
    """The operator, who is an administrator of each company besides."""
    roles = {int(number): Role.ADMINISTRATOR for number in made.numbers.values()}
    return replace(made.world.principal(tx, 1), memberships=roles)


def left_by(made: RightsWorld, name: str) -> list[AnyRow] | Refused:
    """What the operation wrote for somebody who may do everything; nothing of it is kept."""
    op = OPERATIONS[name]
    given = msgspec.convert(filled(CASES[name], made.facts), op.input)
    found: list[list[AnyRow] | Refused] = []

    def work(tx: Transaction) -> None:
        found.clear()
        before = tx.scalar(select(func.max(audit.c.id)))
        try:
            execute(tx, op, everywhere(made, tx), SITE, given)
        except Refused as refused:
            found.append(refused)
            raise Undone from refused
        tx.write_at_end()
        found.append(list(tx.all(select(audit).where(audit.c.id > before).order_by(audit.c.id))))
        raise Undone

    with pytest.raises(Undone):
        made.world.write(work, op.tree)
    return found[0]


def test_every_operation_that_writes_leaves_its_entry(world: World) -> None:
    made = RightsWorld(world)
    wrong, looked_at = [], 0
    for op in operations():
        if not op.writes or op.name in LATER:
            continue
        left = left_by(made, op.name)
        if isinstance(left, Refused):
            if op.name not in TESTED_ELSEWHERE:
                wrong.append(f"{op.name}: refused, {left}")
            continue
        looked_at += 1
        verb = OWN_VERBS.get(op.name, op.name)
        own = [row for row in left if row.verb == verb]
        one = len(own) == 1 or (verb in MORE_THAN_ONE and own)
        others = {row.verb for row in left} - {verb}
        if not one or others - MORE_THAN_ONE or {row.actor for row in left} != {"user:1"}:
            wrong.append(f"{op.name}: {[(row.verb, row.actor) for row in left]}")
        if "company_id" in op.input.__struct_fields__ and own and own[0].company_id is None:
            wrong.append(f"{op.name}: of no company")
    assert not wrong, "\n".join(wrong)
    assert looked_at > 40


def test_the_second_factor_is_on_record_and_its_secrets_are_not(world: World) -> None:
    phone = Phone(world)
    codes = phone.ready()
    world.do("users.reset-totp", user_id=str(phone.person_id))
    by, subject = f"user:{phone.person_id}", str(phone.person_id)
    rows = [row for row in entries(world) if "totp" in row.verb]
    assert [(row.verb, row.actor, row.subject) for row in rows] == [
        ("me.set-up-totp", by, subject),
        ("me.confirm-totp", by, subject),
        ("users.reset-totp", "user:1", subject),
    ]
    written = json.dumps([list(row) for row in rows])
    assert not [code for code in codes if code in written]


def test_what_changes_nothing_leaves_none(world: World) -> None:
    company = world.company("Acme")
    before = len(entries(world))
    assert world.ask("credits.move", source=company, target="77", credits=1) == "not_found"
    world.dry_run("credits.grant", company_id=company, credits=1)
    world.do("companies.show", company_id=company)
    assert len(entries(world)) == before


def test_an_operation_without_its_entry_is_not_carried_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise Refused(Code.UNAVAILABLE, "no place for it")

    monkeypatch.setattr(audit_writing, "record", full)
    with pytest.raises(Refused):
        world.company("Acme")
    assert world.do("companies.list")["items"] == []


def test_every_verb_has_words_for_people() -> None:
    verbs = {OWN_VERBS.get(op.name, op.name) for op in operations() if op.writes}
    assert [verb for verb in sorted(verbs) if not has_words(verb)] == []


# Secrets and personal values


def fields_of(kind: type[msgspec.Struct]) -> set[str]:
    return set(kind.__struct_fields__)


def test_every_field_that_is_named_like_a_secret_is_one_or_is_known_not_to_be() -> None:
    """Who adds such a field decides which of both it is."""
    asked = {name for op in operations() if op.writes for name in fields_of(op.input)}
    alike = {name for name in asked if LIKE_A_SECRET.search(name)}
    assert alike - SECRETS - NOT_SECRETS == set()
    assert {"password", "code", "csv", "token"} <= alike & SECRETS
    assert is_secret("new_api_token") and is_secret("recovery_codes") and not is_secret("name")


def test_no_secret_and_no_address_is_in_an_entry(world: World) -> None:
    company = world.company("Acme")
    invited: dict[str, Any] = {"company_id": company, "email": "Ann@example.org", "role": "basic"}
    world.do("invitations.create", **invited)
    world.grant(company, 2)
    code = world.do("credit-codes.create", company_id=company, credits=1)["code"]
    world.do("credit-codes.redeem", company_id=company, code=code)
    rows = entries(world)
    written = json.dumps([list(row) for row in rows])
    for hidden in (code, "Ann@example.org", "ann@example.org"):
        assert hidden not in written
    [asked] = [row for row in rows if row.verb == "invitations.create"]
    assert personal(world)[asked.id, "email"].lower() == "ann@example.org"
    shown = world.do("audit.list", verb="invitations.create")["items"][0]
    assert shown["personal"]["email"].lower() == "ann@example.org"
    erase = "DELETE FROM audit_personal"
    world.write(lambda tx: tx.change(erase, ()))
    shown = world.do("audit.list", verb="invitations.create")["items"][0]
    assert shown["personal"] == {"email": "erased"}
    world.seal()
    world.check()  # and the chain is whole


def test_personal_values_that_are_no_text_are_kept_as_far_as_they_are(world: World) -> None:
    values = [Personal("user_agent", "a\udcff\x00b" + "x" * 500), Personal("address", "")]

    def write(tx: Transaction) -> None:
        record(
            tx,
            "people.sign_in",
            actor="user:1",
            owner_id=None,
            company_id=None,
            device_id=None,
            serial=None,
            subject="1",
            detail={"text": "\udcff\x00"},
            personal=values,
        )

    world.write(write)
    shown = world.do("audit.list")["items"][0]
    assert shown["personal"]["user_agent"].startswith("a?\ufffdb")
    assert len(shown["personal"]["user_agent"]) == audit_writing.TEXT_CHARS_MAX
    world.seal()


# Failures


def test_failures_are_in_the_audit_at_once_and_then_summed_up(world: World) -> None:
    world.write(lambda tx: tx.change("UPDATE person SET email_key = 'o@x.org' WHERE id = 1", ()))
    failures = Failures()
    known = Failure(SIGN_IN_FAILED, "anonymous", "192.0.2.1", "o@x.org")
    unknown = Failure(SIGN_IN_FAILED, "anonymous", "192.0.2.1", "no-such@x.org")
    guess = Failure(SECRET_WRONG, "user:1", "192.0.2.1", operation="credit-codes.redeem")

    def due(now_s: float, **how: bool) -> int:
        found = failures.due(now_s, **how)
        world.write(lambda tx: write_failures(tx, found))
        failures.written(found, now_s)
        return len(found)

    for one in (known, unknown, guess):
        failures.note(one)
    assert due(100.0) == 3 and due(101.0) == 0
    for _ in range(9):
        failures.note(known)
    assert due(159.0) == 0 and due(161.0) == 1
    failures.note(guess)
    assert due(162.0, all_of_them=True) == 1
    rows = [row for row in entries(world) if row.verb in (SIGN_IN_FAILED, SECRET_WRONG)]
    told = [(row.verb, row.subject, msgspec.json.decode(row.detail)) for row in rows]
    tried = {"operation": "credit-codes.redeem", "times": 1}
    assert sorted(told[:3], key=repr) == sorted(
        [
            (SIGN_IN_FAILED, "1", {"times": 1}),
            (SIGN_IN_FAILED, "", {"times": 1}),
            (SECRET_WRONG, "1", tried),
        ],
        key=repr,
    )
    assert told[3:] == [(SIGN_IN_FAILED, "1", {"times": 9}), (SECRET_WRONG, "1", tried)]
    assert set(personal(world).values()) == {"192.0.2.1"}
    assert "no-such" not in json.dumps([list(row) for row in entries(world)])


def test_a_storm_of_failures_fills_neither_the_memory_nor_the_database() -> None:
    failures = Failures()
    for number in range(5_000):
        failures.note(Failure(SIGN_IN_FAILED, "anonymous", f"address {number}", f"{number}@x.org"))
    found = failures.due(1.0)
    assert len(found) == 1_001 and sum(found.values()) == 5_000
