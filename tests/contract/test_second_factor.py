"""The second factor: set up, used, lost. Each code is good once, and nobody is locked out by it."""

import base64
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from sqlalchemy import func, select

from gateway.domain.instants import DAY_MS, HOUR_MS
from gateway.domain.refusals import Refused
from gateway.domain.rights import ANONYMOUS, Principal
from gateway.operations.people import ProvenSignIn
from gateway.operations.registry import execute
from gateway.operations.second_factor import (
    ConfirmTotp,
    OneUser,
    ProvenRemoval,
    ProvenSetUp,
    RemoveTotp,
    SetUpTotp,
    take_away_due,
)
from gateway.people.recovery_codes import COUNT
from gateway.people.tokens import new_sign_in_token
from gateway.people.totp import STEP_S
from gateway.storage.schema import audit, mail, recovery_code, sign_in
from gateway.storage.transaction import Transaction
from tests.contract.browsers import row_of, run, signed_in
from tests.contract.gateways import TwoGateways
from tests.contract.invited import person
from tests.contract.mails import MAILING
from tests.contract.world import OPERATIONS, SITE, World

pytestmark = pytest.mark.either_engine

ANN = "ann@example.org"
OPERATOR = Principal("user:1", 1, operator=True)
STEP_MS = STEP_S * 1000


class Phone:
    """An app that was shown the QR code of an account, and the browser beside it."""

    def __init__(self, world: World, email: str = ANN, company_id: str = "") -> None:
        self.world, self.email = world, email
        self.person_id = person(world, email, company_id, "basic" if company_id else "")
        self.who = signed_in(world, self.person_id, new_sign_in_token())
        shown = self._run("me.set-up-totp", ProvenSetUp(password="", checked_hash="-"))
        asked = parse_qs(urlsplit(shown["uri"]).query)
        assert asked["secret"] == [shown["secret"]]
        self._totp = TOTP(base64.b32decode(shown["secret"]), 6, SHA1(), STEP_S)  # RFC 6238

    def _run(self, name: str, given: Any) -> Any:
        return run(self.world, name, self.who, given)

    def code(self, steps: int = 0) -> str:
        """What the app shows, so many steps from now."""
        return self._totp.generate(self.world.now_ms / 1000 + steps * STEP_S).decode()

    def confirm(self, code: str = "") -> Any:
        return self._run("me.confirm-totp", ConfirmTotp(code=code or self.code()))

    def ready(self) -> list[str]:
        """In force, and a step later; the recovery codes."""
        codes = self.confirm()["recovery_codes"]
        self.world.now_ms += STEP_MS
        return list(codes)

    def proven(self, code: str = "") -> ProvenSignIn:
        return ProvenSignIn(
            email=self.email,
            password="",
            code=code,
            person_id=self.person_id,
            password_hash="-",
            token=new_sign_in_token(),
        )

    def sign_in(self, code: str = "") -> Any:
        return run(self.world, "people.sign_in", ANONYMOUS, self.proven(code))

    def remove(self, code: str, checked_hash: str = "-") -> Any:
        given = ProvenRemoval(password="", code=code, checked_hash=checked_hash)
        return self._run("me.remove-totp", given)


@pytest.fixture
def phone(world: World) -> Phone:
    return Phone(world)


def count(world: World, table: Any) -> int:
    return int(world.read(lambda tx: tx.scalar(select(func.count()).select_from(table))))


def test_it_is_in_force_once_a_code_was_confirmed(world: World, phone: Phone) -> None:
    assert "csrf" in phone.sign_in()  # not yet
    assert phone.confirm("000000") == "credentials_wrong"
    assert phone.confirm(phone.code(-3)) == "credentials_wrong"
    assert len(phone.confirm()["recovery_codes"]) == COUNT
    assert phone.confirm() == "second_factor_set"
    again = ProvenSetUp(password="", checked_hash="-")
    assert run(world, "me.set-up-totp", phone.who, again) == "second_factor_set"
    assert run(world, "me.show", phone.who, OPERATIONS["me.show"].input())["second_factor"] is True
    # The browser that confirmed it has shown it; all others sign in anew.
    rows = world.read(lambda tx: tx.all(select(sign_in)))
    assert [(row.id, bool(row.second_factor)) for row in rows] == [(phone.who.sign_in, True)]


def test_signing_in_needs_a_code_that_is_good_once(world: World, phone: Phone) -> None:
    phone.ready()
    assert phone.sign_in() == "code_needed" == phone.sign_in("   ")
    for wrong in ("000000", "12345", "abcdef", phone.code(-2), phone.code(2), "x" * 40):
        assert phone.sign_in(wrong) == "credentials_wrong"
    code = phone.code()
    assert phone.sign_in(f" {code[:3]} {code[3:]} ")["me"]["second_factor"] is True
    assert phone.sign_in(code) == "credentials_wrong"
    world.now_ms += STEP_MS
    assert "csrf" in phone.sign_in(phone.code())
    # A code from before the one that was used is over, although a clock may be late.
    assert phone.sign_in(phone.code(-1)) == "credentials_wrong"


def test_each_recovery_code_takes_its_place_once(world: World, phone: Phone) -> None:
    first, second, *_ = phone.ready()
    done = phone.sign_in(first.upper().replace("-", " "))
    assert done["recovery_codes_left"] == COUNT - 1
    assert phone.sign_in(first) == "credentials_wrong"
    assert "recovery_codes_left" not in phone.sign_in(phone.code())
    world.now_ms += STEP_MS
    anew = run(world, "me.recovery-codes", phone.who, ConfirmTotp(code=phone.code()))
    assert phone.sign_in(second) == "credentials_wrong"
    assert phone.sign_in(anew["recovery_codes"][0])["recovery_codes_left"] == COUNT - 1


def test_it_is_removed_by_password_and_code_together(world: World, phone: Phone) -> None:
    phone.ready()
    assert phone.remove(phone.code(), "another hash") == "credentials_wrong"
    plain = RemoveTotp(password="-", code=phone.code())
    assert run(world, "me.remove-totp", phone.who, plain) == "credentials_wrong"
    assert phone.remove("000000") == "credentials_wrong"
    assert row_of(world, phone.person_id).totp_since is not None
    assert phone.remove(phone.code()) == {"second_factor": False, "ends_at": None}
    assert "csrf" in phone.sign_in()
    assert count(world, recovery_code) == 0
    assert phone.remove(phone.code()) == "nothing_waits"
    assert phone.confirm() == "nothing_waits"
    unproven = SetUpTotp(password="-")
    assert run(world, "me.set-up-totp", phone.who, unproven) == "credentials_wrong"


def test_the_secret_is_kept_sealed_and_for_its_person_alone(world: World, phone: Phone) -> None:
    phone.ready()
    other = Phone(world, "bob@example.org")
    other.ready()
    rows = [row_of(world, one.person_id) for one in (phone, other)]
    assert base64.b32decode(b"A" * 32) not in (bytes(row.totp_secret) for row in rows)
    assert other.sign_in(phone.code()) == "credentials_wrong"
    entries = world.read(lambda tx: tx.all(select(audit.c.verb, audit.c.detail)))
    said = " ".join(f"{row.verb} {row.detail}" for row in entries)
    assert "me.confirm-totp" in said and phone.code() not in said and "otpauth" not in said


def test_an_operator_takes_a_lost_one_away_after_a_day(world: World) -> None:
    company_id = world.company("Acme")
    person(world, "boss@example.org", company_id, "administrator")
    phone = Phone(world, company_id=company_id)
    phone.ready()
    given = OneUser(user_id=str(phone.person_id))
    done = run(world, "users.reset-totp", OPERATOR, given, MAILING)
    assert done["second_factor"] is True and done["ends_at"]
    told = {row.recipient for row in world.read(lambda tx: tx.all(select(mail)))}
    # The maker of the company is its other administrator.
    assert told == {ANN, "boss@example.org", "olga@example.org"}
    # Asking again neither begins the day anew nor mails anybody twice.
    mails = count(world, mail)
    world.now_ms += HOUR_MS
    assert run(world, "users.reset-totp", OPERATOR, given, MAILING) == done
    assert count(world, mail) == mails
    world.now_ms += DAY_MS - HOUR_MS - 1
    assert world.write(take_away_due) == 0 and phone.sign_in() == "code_needed"
    world.now_ms += 1
    assert world.write(take_away_due) == 1 and world.write(take_away_due) == 0
    assert "csrf" in phone.sign_in()
    assert count(world, recovery_code) == 0
    assert run(world, "users.reset-totp", OPERATOR, given, MAILING) == "nothing_waits"


@pytest.mark.parametrize("how", ["signs in", "says so"])
def test_its_person_stops_that_with_the_factor_itself(world: World, phone: Phone, how: str) -> None:
    phone.ready()
    given = OneUser(user_id=str(phone.person_id))
    assert run(world, "users.reset-totp", OPERATOR, given)["ends_at"]
    if how == "signs in":
        assert "csrf" in phone.sign_in(phone.code())
    else:
        kept = run(world, "me.keep-totp", phone.who, OPERATIONS["me.keep-totp"].input())
        assert kept == {"second_factor": True, "ends_at": None}
    world.now_ms += 2 * DAY_MS
    assert world.write(take_away_due) == 0
    assert phone.sign_in() == "code_needed"


@pytest.mark.parametrize("user_id", ["999999", "x", "", "-1", "1e3", "9" * 30])
def test_a_reset_of_nobody_is_of_nobody(world: World, user_id: str) -> None:
    given = OneUser(user_id=user_id)
    assert run(world, "users.reset-totp", OPERATOR, given) == "not_found"


def test_of_many_with_one_code_at_once_one_gets_in(two: TwoGateways) -> None:
    world = two.world
    phone = Phone(world)
    recovery = phone.ready()
    op = OPERATIONS["people.sign_in"]

    def signing_in(code: str) -> Any:
        given = phone.proven(code)

        def work(tx: Transaction) -> Any:
            return execute(tx, op, ANONYMOUS, SITE, given)

        return work

    for code in (phone.code(), recovery[0]):
        found = two.at_once([signing_in(code) for _ in range(8)])
        assert all(isinstance(one, Refused) for one in found if isinstance(one, BaseException))
        assert sum(not isinstance(one, BaseException) for one in found) == 1
