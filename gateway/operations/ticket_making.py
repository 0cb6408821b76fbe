"""Makes tickets: claims from a session's row, signed with the gateway's key."""

import secrets

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.domain.instants import SECOND_MS
from gateway.storage.transaction import AnyRow
from wire.tickets import ALGORITHM, REDEEM_S, Claims, Party, Way, payload_of

ID_BYTES = 16


class TicketSigner:
    """Holds the private key; relays know its public half by `kid`."""

    __slots__ = ("_key", "kid")

    def __init__(self, kid: str, key: Ed25519PrivateKey) -> None:
        self.kid = kid
        self._key = key

    def __repr__(self) -> str:
        return f"TicketSigner({self.kid!r})"

    def sign(self, claims: Claims) -> str:
        """The ticket as it is handed out."""
        return jwt.encode(
            payload_of(claims), self._key, algorithm=ALGORITHM, headers={"kid": self.kid}
        )


def claims_for(
    session: AnyRow, party: Party, way: Way, *, epoch: str, now_ms: int, state: str = ""
) -> Claims:
    """What a ticket to this session says; `session` is a row of the table `session`."""
    return Claims(
        jti=secrets.token_hex(ID_BYTES),
        session=session.id,
        party=party,
        way=way,
        relay=session.relay_id,
        epoch=epoch,
        device=session.serial,
        company=str(session.company_id),
        target=session.target,
        protocol=session.protocol,
        person=str(session.person_id),
        host=session.host,
        until_ms=session.expires_at,
        idle_streams_s=session.idle_streams_s,
        idle_bytes_s=session.idle_bytes_s,
        state=state,
        issued_ms=now_ms,
        expires_ms=min(now_ms + REDEEM_S * SECOND_MS, session.expires_at),
    )
