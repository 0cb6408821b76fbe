"""Tickets of every wrong kind at a real relay, presented by devices over TLS."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.relay_rig import KID, Rig, running_relay
from wire.hello import Answered, Word
from wire.relay_control import Revocation
from wire.tickets import Party, Way, payload_of


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_relay(tmp_path) as rig:
        yield rig


async def answer(rig: Rig, ticket: str) -> Answered:
    device = await rig.dial()
    answered = await device.hello(ticket)
    if answered.word is not Word.WELCOME:
        await device.closed()
    device.transport.abort()
    await device.closed()
    return answered


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def by_hand(header: dict[str, object], payload: dict[str, object], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    return ".".join(map(encoded, parts))


def hs256(rig: Rig, ticket: str) -> str:
    """Signed with the public key as if it were a secret; the library would not make it."""
    header = encoded(json.dumps({"alg": "HS256", "kid": KID}).encode())
    text = f"{header}.{ticket.split('.')[1]}"
    return f"{text}.{encoded(hmac.digest(rig.mint.public_pem, text.encode(), hashlib.sha256))}"


def tampered(rig: Rig, ticket: str) -> str:
    header, _, signature = ticket.split(".")
    other = payload_of(rig.mint.session())
    return f"{header}.{encoded(json.dumps(other).encode())}.{signature}"


WRONG: dict[str, Callable[[Rig], str]] = {
    "not a ticket": lambda rig: "nothing",
    "three dots": lambda rig: "..",
    "alg none": lambda rig: by_hand({"alg": "none", "kid": KID}, payload_of(rig.mint.session())),
    "hs256 with the public key": lambda rig: hs256(rig, rig.mint.sign(rig.mint.session())),
    "tampered": lambda rig: tampered(rig, rig.mint.sign(rig.mint.session())),
    "other key": lambda rig: jwt.encode(
        payload_of(rig.mint.session()),
        Ed25519PrivateKey.generate(),
        algorithm="EdDSA",
        headers={"kid": KID},
    ),
    "unknown kid": lambda rig: rig.mint.sign(rig.mint.session(), kid="20260101-bbbbbbbb"),
    "kid no text": lambda rig: jwt.encode(
        payload_of(rig.mint.session()), rig.mint.key, algorithm="EdDSA"
    ),
    "other relay": lambda rig: rig.mint.sign(rig.mint.session(relay="relay-2")),
    "other party": lambda rig: rig.mint.sign(
        rig.mint.session(party=Party.VISITOR, way=Way.CONNECT)
    ),
    "for longer than a minute": lambda rig: rig.mint.sign(
        rig.mint.session(expires_ms=rig.clock.wall_ms() + 3_600_000)
    ),
    "from the future": lambda rig: rig.mint.sign(
        rig.mint.session(
            issued_ms=rig.clock.wall_ms() + 20_000, expires_ms=rig.clock.wall_ms() + 50_000
        )
    ),
}


@pytest.mark.parametrize("kind", WRONG)
async def test_a_wrong_ticket_is_refused_and_makes_no_session(rig: Rig, kind: str) -> None:
    assert await answer(rig, WRONG[kind](rig)) == Answered(Word.REFUSED, reason="ticket_wrong")
    assert not len(rig.relay.sessions)


@pytest.mark.parametrize("claim", ["jti", "sid", "exp", "iat", "epoch", "dev", "until", "idle"])
async def test_each_claim_is_required(rig: Rig, claim: str) -> None:
    payload = payload_of(rig.mint.session())
    del payload[claim]
    ticket = jwt.encode(payload, rig.mint.key, algorithm="EdDSA", headers={"kid": KID})
    assert (await answer(rig, ticket)).reason == "ticket_wrong"


async def test_a_ticket_is_used_once(rig: Rig) -> None:
    ticket = rig.mint.sign(rig.mint.session())
    assert (await answer(rig, ticket)).word is Word.WELCOME
    assert await answer(rig, ticket) == Answered(Word.REFUSED, reason="ticket_used")


async def test_a_refused_ticket_is_not_used_up(rig: Rig) -> None:
    ticket = rig.mint.sign(rig.mint.session())
    rig.clock.moved_s = -30
    assert (await answer(rig, ticket)).reason == "ticket_wrong"
    rig.clock.moved_s = 0
    assert (await answer(rig, ticket)).word is Word.WELCOME


async def test_a_ticket_is_late_after_its_minute_and_five_seconds(rig: Rig) -> None:
    first, second = (rig.mint.sign(rig.mint.session()) for _ in range(2))
    rig.clock.moved_s = 63
    assert (await answer(rig, first)).word is Word.WELCOME
    rig.clock.moved_s = 66
    assert await answer(rig, second) == Answered(Word.REFUSED, reason="ticket_expired")


async def test_a_used_ticket_stays_used_as_long_as_it_could_be_valid(rig: Rig) -> None:
    ticket = rig.mint.sign(rig.mint.session())
    assert (await answer(rig, ticket)).word is Word.WELCOME
    for moved_s in (30, 60, 63):
        rig.clock.moved_s = moved_s
        other = rig.mint.sign(rig.mint.session())  # older ones are forgotten with a new one
        assert (await answer(rig, other)).word is Word.WELCOME
        assert (await answer(rig, ticket)).reason == "ticket_used"


async def test_a_ticket_of_another_life_of_the_relay(rig: Rig) -> None:
    ticket = rig.mint.sign(rig.mint.session(epoch="d" * 32))
    assert await answer(rig, ticket) == Answered(Word.REFUSED, reason="relay_restarted")


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "1100000002"},
        {"company": "2"},
        {"target": "127.0.0.1:81"},
        {"person": "8"},
        {"protocol": "tcp"},
        {"host": "s-" + "a" * 26},
    ],
)
async def test_a_later_ticket_must_be_of_the_same_session(
    rig: Rig, changes: dict[str, str]
) -> None:
    claims = rig.mint.session()
    device = await rig.device(claims)
    ticket = rig.mint.sign(rig.mint.again(claims, **changes))
    assert (await answer(rig, ticket)).reason == "ticket_wrong"
    assert not device.ended.done()
    device.transport.abort()


async def test_a_ticket_to_another_sessions_host_is_refused(rig: Rig) -> None:
    claims = rig.mint.session()
    device = await rig.device(claims)
    other = rig.mint.session(host=claims.host)
    assert (await answer(rig, rig.mint.sign(other))).reason == "ticket_wrong"
    device.transport.abort()


async def test_tickets_to_a_session_that_is_over(rig: Rig) -> None:
    claims = rig.mint.session()
    rig.lease(newest=1, revoked=(Revocation(1, claims.session, "closed"),))
    assert await answer(rig, rig.mint.sign(claims)) == Answered(Word.OVER, reason="closed")
    late = rig.mint.session(until_ms=rig.clock.wall_ms() - 1)
    assert await answer(rig, rig.mint.sign(late)) == Answered(Word.OVER, reason="expired")


async def test_refused_tickets_of_the_gateway_are_reported_and_no_others(rig: Rig) -> None:
    claims = rig.mint.session()
    await answer(rig, rig.mint.sign(claims._replace(epoch="d" * 32)))
    await answer(rig, WRONG["other key"](rig))
    (happening,) = rig.relay.happenings.waiting(10)
    assert happening[1:4] == (claims.session, "ticket_refused", "relay_restarted")


async def test_a_huge_ticket_is_refused(rig: Rig) -> None:
    device = await rig.dial()
    device.transport.write(b"\x01\x00" + (5_000).to_bytes(2, "big") + bytes(4) + b"x" * 5_000)
    await device.closed()
