"""Sends what stands in the outbox: claimed in one transaction, published after it."""

import asyncio
import json
import logging
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import mqtt5
from sqlalchemy import bindparam, select, update

from gateway.clock import Clock
from gateway.ingest.session import Session, SessionLost
from gateway.join.sealing import SealBroken, unseal
from gateway.storage.schema import device_live, enrolment, outbox
from gateway.storage.store import Lane, Store
from gateway.storage.transaction import Transaction
from gateway.telemetry import Telemetry
from wire import topics
from wire.commands import Command, Outcome, encode_command

log = logging.getLogger(__name__)

LOOK_S = 2.0  # a signal is only a hint
CLAIMED_AT_ONCE = 100


class Claimed(NamedTuple):
    """A command on its way; `payload` None when there is nobody to tell."""

    id: str
    serial: str
    payload: bytes | None


_DUE = (
    select(
        outbox,
        device_live.c.nonce,
        device_live.c.command_n,
        enrolment.c.command_key,
    )
    .join(device_live, device_live.c.device_id == outbox.c.device_id)
    .outerjoin(
        enrolment,
        (enrolment.c.device_id == outbox.c.device_id) & (enrolment.c.state == "joined"),
    )
    .where(outbox.c.node == bindparam("of_node"), outbox.c.sent_at.is_(None))
    .order_by(outbox.c.created_at)
    .limit(CLAIMED_AT_ONCE)
)
_END = (
    update(outbox)
    .where(outbox.c.id == bindparam("command"), outbox.c.answered_at.is_(None))
    .values(answered_at=bindparam("at"), outcome=bindparam("how"), answer=bindparam("text"))
)


def claim(tx: Transaction, node: str, master_key: bytes) -> list[Claimed]:
    """Marks due commands as sent and makes their payloads; those of nobody end at once."""
    claimed: list[Claimed] = []
    counters: dict[int, int] = {}
    for row in tx.all(_DUE, {"of_node": node}):
        payload = None
        if row.nonce is not None and row.command_key is not None and row.expires_at > tx.now_ms:
            n = counters.get(row.device_id, row.command_n) + 1
            counters[row.device_id] = n
            command = Command(
                n,
                row.id,
                row.verb,
                json.loads(row.args),
                tx.now_ms,
                max(1, (row.expires_at - tx.now_ms) // 1000),
            )
            try:
                key = unseal(master_key, row.command_key, bound_to=row.serial)
            except SealBroken:
                log.error("command key not readable serial=%s", row.serial)
            else:
                payload = encode_command(command, key=key, serial=row.serial, nonce=row.nonce)
        tx.run(update(outbox).where(outbox.c.id == row.id).values(sent_at=tx.now_ms))
        claimed.append(Claimed(row.id, row.serial, payload))
    for device_id, n in counters.items():
        tx.run(update(device_live).where(device_live.c.device_id == device_id).values(command_n=n))
    return claimed


def end(tx: Transaction, ids: list[str], error: str) -> None:
    """The outcome of these commands will never be known."""
    text = json.dumps({"error": error})
    for id_ in ids:
        tx.run(_END, {"command": id_, "at": tx.now_ms, "how": Outcome.UNKNOWN.value, "text": text})


class Sender:
    """Publishes for one node while it is connected."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        telemetry: Telemetry,
        node: str,
        master_key: bytes,
        session: Callable[[], Session | None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._node = node
        self._master_key = master_key
        self._session = session
        self._hint = asyncio.Event()

    def hint(self) -> None:
        """Something may stand in the outbox."""
        self._hint.set()

    async def run(self) -> None:
        """Looks at each hint, and every two seconds."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._hint.wait()
            except TimeoutError:
                pass  # a hint can be lost; the table cannot
            self._hint.clear()
            session = self._session()
            if session is not None:
                while await self._send(session):
                    pass

    async def _send(self, session: Session) -> bool:
        """Whether more may wait."""
        if not await self._store.read(lambda tx: tx.one(_DUE, {"of_node": self._node})):
            return False
        claimed = await self._store.write(
            lambda tx: claim(tx, self._node, self._master_key), lane=Lane.JOBS
        )
        signed_out = [command.id for command in claimed if command.payload is None]
        unknown: list[str] = []
        for command in claimed:
            if command.payload is None:
                continue
            try:
                code = await session.publish(topics.command(command.serial), command.payload)
            except SessionLost:
                unknown.append(command.id)
                continue
            self._telemetry.commands_sent += 1
            if code == mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS:
                signed_out.append(command.id)
        if signed_out:
            await self._store.write(partial(end, ids=signed_out, error="signed_out"))
        if unknown:
            await self._store.write(partial(end, ids=unknown, error="connection_lost"))
        return len(claimed) == CLAIMED_AT_ONCE
