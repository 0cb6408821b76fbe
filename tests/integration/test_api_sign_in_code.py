"""Signing in with a second factor over HTTP: in one request, or on the page in two steps."""

import base64
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from gateway.api.signing_in import CODES_WRONG_MAX, PROOF_GOOD_MS
from gateway.people.totp import STEP_S
from gateway.storage.address import Address
from gateway.web.texts import ENGLISH
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server

LOGIN = "/api/v1/login"
RIGHT = {"email": EMAIL, "password": PASSWORD}
NEW = "another horse battery"
STEP_MS = STEP_S * 1000

pytestmark = pytest.mark.either_engine


class Phone:
    """The operator's account with a second factor, and the app that shows its codes."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.recovery: list[str] = []

    async def set_up(self) -> None:
        headers = await self.signed_in()
        post = self.server.done
        made = await post("POST", "/api/v1/me/totp", {"password": PASSWORD}, **headers)
        self._app = TOTP(base64.b32decode(made["secret"]), 6, SHA1(), STEP_S)  # RFC 6238
        done = await post("POST", "/api/v1/me/totp/confirm", {"code": self.code()}, **headers)
        self.recovery = done["recovery_codes"]
        self.server.client.cookie_jar.clear()
        self.server.clock.moved_ms += STEP_MS

    async def signed_in(self, **more: str) -> dict[str, Any]:
        """What requests take after signing in."""
        self.server.client.cookie_jar.clear()
        found = await self.server.done("POST", LOGIN, RIGHT | more, token=None)
        return {"token": None, "headers": {"X-CSRF-Token": found["csrf"]}}

    def code(self) -> str:
        """What the app shows now."""
        return self._app.generate(self.server.clock.wall_ms() / 1000).decode()

    def wrong(self) -> str:
        """A code that is none of these minutes."""
        now_s = self.server.clock.wall_ms() / 1000
        near = {self._app.generate(now_s + step * STEP_S) for step in range(-3, 4)}
        return next(code for n in range(10) if (code := f"{n:06d}").encode() not in near)

    async def ask(self, **more: str) -> str:
        """How the API answers."""
        status, found, _ = await self.server.ask("POST", LOGIN, RIGHT | more, token=None)
        return "ok" if status == 200 else str(found["code"])


@pytest.fixture
async def phone(tmp_path: Path, database: Address) -> AsyncIterator[Phone]:
    async with api_server(tmp_path, database) as running:
        made = Phone(running)
        await made.set_up()
        yield made


class Shown:
    """What the sign-in page answered to a form."""

    def __init__(self, response: aiohttp.ClientResponse, text: str) -> None:
        self.status, self.signed_in = response.status, "Set-Cookie" in response.headers
        proof = re.search(r'name="proof" value="([^"]+)"', text)
        self.proof = unescape(proof[1]) if proof else ""
        wrong = re.search(r'class="wrong" role="alert">([^<]+)<', text)
        self.wrong = unescape(wrong[1]) if wrong else ""


async def send(phone: Phone, **form: str) -> Shown:
    phone.server.client.cookie_jar.clear()
    async with phone.server.client.post(
        f"{phone.server.url}/login",
        data={"email": EMAIL} | form,
        headers={"Accept": "text/html"},
        allow_redirects=False,
    ) as response:
        return Shown(response, await response.text())


async def test_a_password_alone_asks_for_the_code_and_codes_are_good_once(phone: Phone) -> None:
    assert await phone.ask() == "code_needed"
    assert await phone.ask(password="wrong one", code=phone.code()) == "credentials_wrong"
    assert await phone.ask(code=phone.wrong()) == "credentials_wrong"
    code = phone.code()
    assert await phone.ask(code=f" {code[:3]} {code[3:]} ") == "ok"
    assert await phone.ask(code=code) == "credentials_wrong"
    assert [await phone.ask(code=phone.recovery[0]) for _ in range(2)] == [
        "ok",
        "credentials_wrong",
    ]
    phone.server.clock.moved_ms += STEP_MS
    assert await phone.ask(code=phone.code()) == "ok"


async def test_a_right_password_without_a_code_is_no_failure_and_a_wrong_code_is(
    phone: Phone,
) -> None:
    assert [await phone.ask() for _ in range(9)] == ["code_needed"] * 9
    assert phone.server.slept_s == []
    for _ in range(6):
        assert await phone.ask(code=phone.wrong()) == "credentials_wrong"
    # Nor does it forgive the failures before it.
    assert await phone.ask() == "code_needed"
    assert phone.server.slept_s == [1.0, 2.0]
    assert await phone.ask(code=phone.code()) == "ok"
    assert await phone.ask() == "code_needed"
    assert phone.server.slept_s == [1.0, 2.0, 2.0]


async def test_codes_are_tried_a_few_times_only_and_there_is_a_way_on(phone: Phone) -> None:
    found = {await phone.ask(code=phone.wrong()) for _ in range(CODES_WRONG_MAX)}
    assert found == {"credentials_wrong"}
    assert await phone.ask(code=phone.code()) == "too_many_attempts"
    shown = await send(phone, password=PASSWORD, code=phone.code())
    assert (shown.status, shown.wrong) == (429, ENGLISH["code_too_often"])
    # Whoever does not know the password takes nothing away from whoever does.
    assert await phone.ask(password="wrong one", code=phone.wrong()) == "credentials_wrong"
    headers = await phone.signed_in(code=phone.recovery[0])
    # That was the account's own person: all attempts are left again.
    assert await phone.ask(code=phone.wrong()) == "credentials_wrong"
    for _ in range(CODES_WRONG_MAX - 1):
        await phone.ask(code=phone.wrong())
    assert await phone.ask(code=phone.code()) == "too_many_attempts"
    changed = {"old_password": PASSWORD, "new_password": NEW}
    await phone.server.done("POST", "/api/v1/me/password", changed, **headers)
    assert await phone.ask(password=NEW, code=phone.code()) == "ok"


async def test_after_a_quarter_of_an_hour_codes_are_taken_again(phone: Phone) -> None:
    for _ in range(CODES_WRONG_MAX):
        await phone.ask(code=phone.wrong())
    assert await phone.ask(code=phone.code()) == "too_many_attempts"
    phone.server.clock.moved_ms += 15 * 60_000 + 1_000
    assert await phone.ask(code=phone.code()) == "ok"


async def test_the_page_asks_in_two_steps_and_never_shows_the_password(phone: Phone) -> None:
    first = await send(phone, password=PASSWORD)
    assert (first.status, first.wrong, first.signed_in) == (200, "", False) and first.proof
    assert PASSWORD not in base64.urlsafe_b64decode(first.proof).decode(errors="replace")
    missing = await send(phone, proof=first.proof)
    assert missing.wrong == ENGLISH["code_missing"] and missing.proof
    wrong = await send(phone, proof=first.proof, code=phone.wrong())
    assert (wrong.status, wrong.wrong) == (401, ENGLISH["code_wrong"])
    assert wrong.proof == first.proof
    long = await send(phone, proof=first.proof, code="9" * 41)
    assert long.wrong == ENGLISH["code_wrong"]
    done = await send(phone, proof=first.proof, code=phone.code())
    assert (done.status, done.signed_in) == (303, True)
    # It stands for the password; a code is needed once more.
    again = await send(phone, proof=first.proof, code=phone.code())
    assert again.wrong == ENGLISH["code_wrong"] and not again.signed_in


async def test_a_proof_is_over_after_ten_minutes(phone: Phone) -> None:
    proof = (await send(phone, password=PASSWORD)).proof
    phone.server.clock.moved_ms += PROOF_GOOD_MS + 5_000
    late = await send(phone, proof=proof, code=phone.code())
    assert (late.status, late.wrong, late.proof) == (401, ENGLISH["code_too_late"], "")
    assert not late.signed_in


@pytest.mark.parametrize("proof", ["x", "A" * 400, "B" * 5_000, "é", "\x00", "=" * 8])
async def test_a_proof_that_is_none_is_worth_nothing(phone: Phone, proof: str) -> None:
    shown = await send(phone, proof=proof, code=phone.code())
    assert (shown.status, shown.signed_in) == (401, False)
    # Without a factor there is no way past the password either.
    other = await send(phone, email="nobody@example.org", proof=proof, code="123456")
    assert (other.status, other.wrong) == (401, shown.wrong)


async def test_a_proof_is_of_one_account_and_one_password(phone: Phone) -> None:
    proof = (await send(phone, password=PASSWORD)).proof
    company = await phone.server.company()
    content = {"email": "ann@example.org", "company_id": company, "role": "basic"}
    made = await phone.server.done("POST", "/api/v1/invitations", content)
    token = made["link"].rpartition("/")[2]
    accepting = {"token": token, "password": NEW, "name": "Ann"}
    await phone.server.done("POST", "/api/v1/invitations/accept", accepting, token=None)
    stolen = await send(phone, email="ann@example.org", proof=proof, code=phone.code())
    assert (stolen.status, stolen.signed_in) == (401, False)
    headers = await phone.signed_in(code=phone.recovery[0])
    changed = {"old_password": PASSWORD, "new_password": NEW}
    await phone.server.done("POST", "/api/v1/me/password", changed, **headers)
    old = await send(phone, proof=proof, code=phone.code())
    assert (old.wrong, old.signed_in) == (ENGLISH["code_too_late"], False)
