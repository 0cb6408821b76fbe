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
from gateway.domain.instants import SECOND_MS
from gateway.ingest.session import Session, SessionLost
from gateway.join.sealing import SealBroken, unseal
from gateway.operations.telling import open_order
from gateway.operations.ticket_making import TicketSigner
from gateway.storage.schema import device_live, enrolment, outbox
from gateway.storage.store import Lane, Store, StoreBusy
from gateway.storage.transaction import AnyRow, Transaction
from gateway.telemetry import Telemetry
from wire import topics
from wire.commands import TTL_S_MAX, Command, Outcome, Verb, encode_command
from wire.session_commands import open_args

log = logging.getLogger(__name__)

LOOK_S = 2.0  # a signal is only a hint
LOOK_AGAIN_S = 0.1  # somebody had the device, for as long as a transaction takes
CLAIMED_AT_ONCE = 100


class Claimed(NamedTuple):
    """A command on its way; `payload` None when it is not sent, and `why`."""

    id: str
    serial: str
    payload: bytes | None
    why: str = ""


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
    # Where the device is now, which may not be where it was when the row was written.
    .where(device_live.c.node == bindparam("of_node"), outbox.c.sent_at.is_(None))
    .order_by(outbox.c.created_at)
    .limit(CLAIMED_AT_ONCE)
)
_DUE_OF = _DUE.where(outbox.c.device_id.in_(bindparam("devices", expanding=True)))
_DEVICES = (
    select(outbox.c.device_id)
    .join(device_live, device_live.c.device_id == outbox.c.device_id)
    .where(device_live.c.node == bindparam("of_node"), outbox.c.sent_at.is_(None))
    .order_by(outbox.c.created_at)
    .limit(CLAIMED_AT_ONCE)
)
_END = (
    update(outbox)
    .where(outbox.c.id == bindparam("command"), outbox.c.answered_at.is_(None))
    .values(answered_at=bindparam("at"), outcome=bindparam("how"), answer=bindparam("text"))
)


def claim(tx: Transaction, node: str, master_key: bytes, tickets: TicketSigner) -> list[Claimed]:
    """Marks due commands as sent and makes their payloads; those of nobody end at once.

    Those to devices that somebody else changes now, or tells something, are left.
    """
    claimed: list[Claimed] = []
    counters: dict[int, int] = {}
    # Two gateways may look at once: the second finds what the first has left.
    devices = tx.claim_devices(_DEVICES, {"of_node": node})
    for row in tx.all(_DUE_OF, {"of_node": node, "devices": devices}):
        n = counters.get(row.device_id, row.command_n) + 1
        made = _made(tx, row, n, master_key, tickets)
        if made.payload is not None:
            counters[row.device_id] = n
        tx.run(update(outbox).where(outbox.c.id == row.id).values(sent_at=tx.now_ms))
        claimed.append(made)
    for device_id, n in sorted(counters.items()):
        tx.run(update(device_live).where(device_live.c.device_id == device_id).values(command_n=n))
    return claimed


def _made(
    tx: Transaction, row: AnyRow, n: int, master_key: bytes, tickets: TicketSigner
) -> Claimed:
    """The command as it goes out, bound to the device's present connection."""
    now_ms = tx.now_ms
    if row.expires_at <= now_ms:
        return Claimed(row.id, row.serial, None, "expired")
    if row.nonce is None or row.command_key is None:
        return Claimed(row.id, row.serial, None, "signed_out")
    try:
        key = unseal(master_key, row.command_key, bound_to=row.serial)
    except SealBroken:
        log.error("command key not readable serial=%s", row.serial)
        return Claimed(row.id, row.serial, None, "command_key_unreadable")
    args = json.loads(row.args)
    if row.verb == Verb.OPEN:
        made = open_order(tx, args["session"], tickets)
        if isinstance(made, str):
            return Claimed(row.id, row.serial, None, made)
        args = open_args(made)
    # After a step of the clock more may seem to be left than a device accepts.
    ttl_s = min(TTL_S_MAX, max(1, (row.expires_at - now_ms) // SECOND_MS))
    command = Command(n, row.id, row.verb, args, now_ms, ttl_s)
    payload = encode_command(command, key=key, serial=row.serial, nonce=row.nonce)
    return Claimed(row.id, row.serial, payload)


def end(tx: Transaction, ids: list[str], error: str) -> None:
    """The outcome of these commands will never be known.

    One that somebody else holds now is being answered, or its time is over.
    """
    left = tx.claim(select(outbox.c.id).where(outbox.c.id.in_(ids)))
    text = json.dumps({"error": error})
    for id_ in left:
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
        tickets: TicketSigner,
        session: Callable[[], Session | None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._node = node
        self._master_key = master_key
        self._tickets = tickets
        self._session = session
        self._hint = asyncio.Event()

    def hint(self) -> None:
        """Something may stand in the outbox."""
        self._hint.set()

    async def run(self) -> None:
        """Looks at each hint, and every two seconds."""
        look_s = LOOK_S
        while True:
            try:
                async with asyncio.timeout(look_s):
                    await self._hint.wait()
            except TimeoutError:
                pass  # a hint can be lost; the table cannot
            self._hint.clear()
            look_s = LOOK_S
            session = self._session()
            try:
                if session is not None and not await self._send_all(session):
                    look_s = LOOK_AGAIN_S
            except StoreBusy as error:
                # The table cannot be lost: what is unsent goes next time, and of what was sent
                # the outcome is unknown at the end of its time.
                log.warning("outbox put off error=%s", error)

    async def _send_all(self, session: Session) -> bool:
        """Whether nothing is left that could be sent in a moment."""
        while await self._store.read(lambda tx: tx.one(_DUE, {"of_node": self._node})):
            claimed = await self._store.write(
                lambda tx: claim(tx, self._node, self._master_key, self._tickets), lane=Lane.JOBS
            )
            if not claimed:
                return False
            await self._send(session, claimed)
        return True

    async def _send(self, session: Session, claimed: list[Claimed]) -> None:
        ended: dict[str, list[str]] = {}
        for command in claimed:
            why = command.why
            if command.payload is not None:
                why = await self._publish(session, command.serial, command.payload)
            if why:
                ended.setdefault(why, []).append(command.id)
        for why, ids in ended.items():
            await self._store.write(partial(end, ids=ids, error=why))

    async def _publish(self, session: Session, serial: str, payload: bytes) -> str:
        """Why its outcome will not be known, if so."""
        try:
            code = await session.publish(topics.command(serial), payload)
        except SessionLost:
            return "connection_lost"
        self._telemetry.commands_sent += 1
        return "signed_out" if code == mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS else ""
