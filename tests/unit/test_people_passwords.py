"""Passwords, tokens and addresses of accounts."""

import asyncio

import pytest

from gateway.people import passwords
from gateway.people.accounts import email_key, is_email
from gateway.people.authentication import Credential, Means
from gateway.people.passwords import PasswordDesk, hash_password, verify_password
from gateway.people.tokens import hash_token, new_api_token, new_sign_in_token


def test_a_hash_says_how_it_was_made_and_fits_only_its_password() -> None:
    hashed = hash_password("pässword 1")
    assert hashed.startswith("$argon2id$v=19$m=32768,t=3,p=1$")
    assert verify_password("pässword 1", hashed)
    assert not verify_password("password 1", hashed)
    assert hash_password("pässword 1") != hashed


async def test_an_unknown_account_costs_a_check_as_well_and_always_fails() -> None:
    desk = PasswordDesk()
    hashed = await desk.hash("right one")
    assert await desk.check("right one", hashed)
    assert not await desk.check("wrong one", hashed)
    # Even the password of the hash that stands in for the missing one.
    assert not await desk.check("nobody's password", None)


async def test_only_a_few_checks_hold_their_memory_at_once() -> None:
    desk = PasswordDesk()
    inside, most = 0, 0

    async def one() -> None:
        nonlocal inside, most
        async with desk._room:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(one())
    assert most == passwords.CHECKS_AT_ONCE_MAX


async def test_an_account_without_a_password_costs_a_check_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[str] = []

    def note(_password: str, hash_text: str) -> bool:
        checked.append(hash_text)
        return True

    monkeypatch.setattr(passwords, "verify_password", note)
    desk = PasswordDesk()
    for text in (None, "", "-", "erased"):
        assert not await desk.check("any", text)
    assert len(checked) == 4 and all(text.startswith("$argon2id$") for text in checked)


async def test_a_crowd_from_one_address_waits_behind_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    monkeypatch.setattr(passwords, "verify_password", lambda password, _text: bool(password))
    desk = PasswordDesk()
    hashed = await desk.hash("any")

    async def one(whose: str) -> None:
        assert await desk.check("any", hashed, whose=whose)
        done.append(whose)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(50):
            for crowd in ("192.0.2.1", "192.0.2.2"):
                tasks.create_task(one(crowd))
        tasks.create_task(one("198.51.100.9"))
    # Behind one of each crowd, and whoever was in the room already.
    assert len(done) == 101 and done.index("198.51.100.9") <= 2 + passwords.CHECKS_AT_ONCE_MAX
    assert not desk._queues


def test_tokens_are_long_and_stored_hashed() -> None:
    token = new_api_token()
    assert token.startswith("fgt_") and len(token) == 4 + 43
    assert len({new_api_token() for _ in range(50)} | {new_sign_in_token()}) == 51
    assert len(hash_token(token)) == 32 and token.encode() not in hash_token(token)


def test_a_credential_does_not_show_its_token() -> None:
    assert "secret" not in repr(Credential(Means.BEARER, "secret"))


def test_addresses_are_one_whatever_their_case() -> None:
    assert email_key(" Joe@Example.ORG ") == email_key("joe@example.org")
    for address, good in (
        ("joe@example.org", True),
        ("joe@localhost", True),
        ("joe", False),
        ("@example.org", False),
        ("joe@", False),
        ("joe@a@b", False),
        ("joe doe@example.org", False),
        ("joe@exam\nple.org", False),
        ("j" * 250 + "@example.org", False),
    ):
        assert is_email(address) is good, address
