"""The desk where tickets are checked: each admits one party once, for a minute."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from broker.relay.clock import Clock
from broker.relay.errors import TicketRefused
from wire.heartbeat import WireError
from wire.tickets import (
    ALGORITHM,
    LEEWAY_S,
    REDEEM_S,
    TICKET_CHARS_MAX,
    Claims,
    Party,
    Way,
    claims_of,
)

USED_MAX = 100_000  # at 1,500 tickets a second; then nobody is admitted until some are forgotten
# No ticket admits anybody for longer than this after its use.
USED_S = REDEEM_S + 1 + 3 * LEEWAY_S
_REQUIRED = ("exp", "iat", "jti", "sid")


class TicketDesk:
    """Verifies tickets with the gateway's public keys and remembers the used ones.

    `check` is asked last, before a ticket counts as used: whether its session may be entered
    (`Sessions.check`); it raises `TicketRefused`. `refused` is told of tickets that the gateway
    did sign, and of no others: session and code.
    """

    def __init__(
        self,
        keys: Mapping[str, Ed25519PublicKey],
        *,
        relay: str,
        epoch: str,
        clock: Clock,
        check: Callable[[Claims], None],
        refused: Callable[[str, str], None] | None = None,
    ) -> None:
        self._keys = dict(keys)
        self._relay = relay
        self._epoch = epoch
        self._clock = clock
        self._check = check
        self._refused = refused
        self._used: set[str] = set()
        self._forget: deque[tuple[int, float, str]] = deque()  # until when (ms and s), jti

    def admit(
        self,
        token: str,
        *,
        party: Party,
        way: Way,
        host: str | None = None,
        state: str | None = None,
    ) -> Claims:
        """The ticket's claims; it is used up now. Raises `TicketRefused`, and then it is not.

        `host` is the session's host label under which the visitor came, `state` the SHA-256 (hex)
        of the browser's state cookie; None where they do not matter.
        """
        claims = self._verified(token)
        try:
            self._judge(claims, party, way, host, state)
        except TicketRefused as error:
            if self._refused is not None and error.code != "busy":
                self._refused(claims.session, error.code)
            raise
        self._used.add(claims.jti)
        # By both clocks: the wall clock may leap forward, and back again when it is corrected.
        until_s = self._clock.now_s() + USED_S
        self._forget.append((claims.expires_ms + 2 * LEEWAY_S * 1000, until_s, claims.jti))
        return claims

    def _verified(self, token: str) -> Claims:
        """What the gateway signed, whatever it says. Raises `TicketRefused`."""
        if not 0 < len(token) <= TICKET_CHARS_MAX or not token.isascii():
            raise TicketRefused("ticket_wrong")
        try:
            key = self._keys.get(_kid(jwt.get_unverified_header(token)))
            if key is None:
                raise TicketRefused("ticket_wrong")
            payload = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                # Instants are compared below, by the relay's own clock.
                options={
                    "require": list(_REQUIRED),
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    "verify_aud": False,
                },
            )
            return claims_of(payload)
        except (jwt.PyJWTError, WireError, ValueError, RecursionError) as error:
            raise TicketRefused("ticket_wrong") from error

    def _judge(
        self, claims: Claims, party: Party, way: Way, host: str | None, state: str | None
    ) -> None:
        wrong = (
            claims.relay != self._relay
            or claims.party is not party
            or claims.way is not way
            or (host is not None and claims.host != host)
            or (state is not None and claims.state != state)
        )
        if wrong:
            raise TicketRefused("ticket_wrong")
        if claims.epoch != self._epoch:
            raise TicketRefused("relay_restarted")
        now_ms = self._clock.wall_ms()
        leeway_ms = LEEWAY_S * 1000
        if claims.expires_ms + leeway_ms <= now_ms:
            raise TicketRefused("ticket_expired")
        # A ticket for longer, or from the future, would outlive the memory of its use.
        if (
            claims.issued_ms > now_ms + leeway_ms
            or claims.expires_ms > claims.issued_ms + (REDEEM_S + 1) * 1000
        ):
            raise TicketRefused("ticket_wrong")
        if claims.jti in self._used:
            raise TicketRefused("ticket_used")
        self._check(claims)
        self._forget_old(now_ms)
        if len(self._used) >= USED_MAX:
            raise TicketRefused("busy")

    def _forget_old(self, now_ms: int) -> None:
        now_s = self._clock.now_s()
        while self._forget and self._forget[0][0] <= now_ms and self._forget[0][1] <= now_s:
            self._used.discard(self._forget.popleft()[2])


def _kid(header: Mapping[str, Any]) -> str:
    kid = header.get("kid")
    if header.get("alg") != ALGORITHM or type(kid) is not str:
        raise TicketRefused("ticket_wrong")
    return kid
