"""Keys of SSH servers behind devices: which one somebody accepted for a target."""

import base64
import binascii
import hashlib
from typing import Annotated

import msgspec
from sqlalchemy import ColumnElement, and_, delete, insert, select

from gateway.domain.instants import instant_text
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.registry import Call, operation
from gateway.operations.session_access import require_still
from gateway.operations.session_views import find_session
from gateway.operations.sessions import OneSession
from gateway.storage.schema import known_host
from gateway.storage.transaction import AnyRow

KEY_CHARS_MAX = 4_000  # RSA of 16,384 bits needs 2,800
_LENGTH_BYTES = 4
_ERRORS = (Code.SESSION_OVER, Code.COMPANY_SUSPENDED, Code.SERVICE_UNPAID)
_WRONG = "key: an SSH public key such as `ssh-ed25519 AAAA…`"


class HostKey(msgspec.Struct):
    """The key that was accepted for a session's target, as in an OpenSSH public key file.

    Empty where nobody accepted one yet. `fingerprint` is its SHA-256, as `ssh-keygen -l` says it.
    """

    key: str
    fingerprint: str
    accepted_at: str | None


class TrustHostKey(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The key that the session's target shows: `ssh-ed25519 AAAA…`."""

    session_id: str
    key: Annotated[str, msgspec.Meta(min_length=1, max_length=KEY_CHARS_MAX)]


@operation(
    "host-keys.show",
    "GET",
    "/sessions/{session_id}/host-key",
    right=Right.REACH,
    result=HostKey,
    errors=_ERRORS,
)
def show_host_key(call: Call, given: OneSession) -> HostKey:
    """Shows the SSH host key that was accepted for a session's target."""
    session = find_session(call, given.session_id, own=True)
    require_still(call, session)
    row = _known(call, session)
    if row is None:
        return HostKey("", "", None)
    return HostKey(row.key, row.fingerprint, instant_text(row.at))


@operation(
    "host-keys.trust",
    "PUT",
    "/sessions/{session_id}/host-key",
    right=Right.REACH,
    result=HostKey,
    errors=_ERRORS,
)
def trust_host_key(call: Call, given: TrustHostKey) -> HostKey:
    """Accepts the SSH host key of a session's target; another one than before needs more right.

    Whoever reaches a router accepts its first key. That a key changed may mean that somebody stands
    in between, so only who may reach any target accepts another one.
    """
    session = find_session(call, given.session_id, own=True)
    # The device may belong to somebody else by now, whose terminals ask for this very key.
    require_still(call, session)
    fingerprint = fingerprint_of(given.key)
    before = _known(call, session)
    if before is not None and before.key != given.key:
        call.require(Right.REACH_ANY, session.company_id, see=Right.SEE_DEVICES, what="device")
    call.tx.run(delete(known_host).where(_of(session)))
    values = {
        "device_id": session.device_id,
        "target": session.target,
        "key": given.key,
        "fingerprint": fingerprint,
        "person_id": call.principal.user_id,
        "at": call.tx.now_ms,
    }
    call.tx.run(insert(known_host), values)
    call.about(
        company_id=session.company_id,
        device_id=session.device_id,
        serial=session.serial,
        subject=session.target,
        fingerprint=fingerprint,
    )
    return HostKey(given.key, fingerprint, instant_text(call.tx.now_ms))


def _of(session: AnyRow) -> ColumnElement[bool]:
    return and_(known_host.c.device_id == session.device_id, known_host.c.target == session.target)


def _known(call: Call, session: AnyRow) -> AnyRow | None:
    return call.tx.one(select(known_host).where(_of(session)))


def fingerprint_of(key: str) -> str:
    """`SHA256:…` of a public key (RFC 4253, 6.6) as OpenSSH writes both. Raises `Refused`."""
    kind, _, text = key.partition(" ")
    try:
        blob = base64.b64decode(text, validate=True)
        named = kind.encode("ascii")
    except (binascii.Error, ValueError) as error:
        raise Refused(Code.VALIDATION, _WRONG, field="key") from error
    # A key says itself of which kind it is, first of all.
    if not named or not blob.startswith(len(named).to_bytes(_LENGTH_BYTES) + named):
        raise Refused(Code.VALIDATION, _WRONG, field="key")
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"
