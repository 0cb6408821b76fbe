"""What is said to devices: rows written in the transaction that decided it."""

import json
import uuid
from collections.abc import Mapping

from sqlalchemy import insert

from gateway.domain.happenings import Happening
from gateway.domain.instants import SECOND_MS
from gateway.operations.happening import happened
from gateway.storage.schema import outbox
from gateway.storage.transaction import Signal, Transaction
from wire.commands import TTL_S_MAX, Verb

COMMAND_TTL_S = 60
_OF_SESSIONS = frozenset({Verb.OPEN.value, Verb.CLOSE.value})


def put(
    tx: Transaction,
    *,
    device_id: int,
    serial: str,
    node: str,
    verb: Verb,
    args: Mapping[str, object],
    actor: str,
    ttl_s: int = COMMAND_TTL_S,
) -> str:
    """Queues a command; returns its id. It is sent once this transaction is committed."""
    assert 0 < ttl_s <= TTL_S_MAX
    id_ = uuid.uuid4().hex
    tx.run(
        insert(outbox),
        {
            "id": id_,
            "node": node,
            "device_id": device_id,
            "serial": serial,
            "verb": verb.value,
            "args": json.dumps(dict(args)),
            "actor": actor,
            "created_at": tx.now_ms,
            "expires_at": tx.now_ms + ttl_s * SECOND_MS,
        },
    )
    tx.signals.add(Signal.OUTBOX)
    return id_


def command_ended(
    tx: Transaction, company_id: int, serial: str, id_: str, verb: str, outcome: str
) -> None:
    """Tells those who watch what became of a command that somebody sent."""
    if verb in _OF_SESSIONS:
        return  # that is told as the session's beginning and end
    detail = {"verb": verb, "outcome": outcome}
    happened(tx, Happening.COMMAND_ENDED, company_id, serial=serial, subject=id_, detail=detail)
