"""Seals the audit: committed entries get their places in the one chain, a second after.

Entries are written without a place, so that nobody who does something waits for anybody else who
does. On PostgreSQL their numbers are given before they are committed: a smaller number may appear
after a larger one was sealed. It then comes later in the chain, which is in the order in which
entries were seen. To find such ones it looks back from `floor`: each number below was given before
the newest entry of a look that left nothing out, and that look is longer ago than any transaction
lasts. At a start, and each hour, it looks from the first entry on, so that nothing is ever skipped.
"""

import asyncio
import logging
from collections import deque
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select

from gateway.atomic_file import write_atomically
from gateway.clock import Clock
from gateway.domain.audit_chain import COLUMNS, GENESIS, Head, canonical, head_of, next_hash
from gateway.storage.locks import Tree
from gateway.storage.schema import audit_seal
from gateway.storage.store import Lane, Store
from gateway.storage.transaction import Transaction
from gateway.telemetry import Telemetry

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 500  # heartbeats do not wait longer than some 20 ms for a job
ROUNDS_MAX = 2_000  # a million entries: of the time before there was a chain
SETTLED_S = 600.0  # no transaction lasts so long
FULL_LOOK_S = 3_600.0
HEAD_S = 60.0
HEAD_FILE = "audit_head"
_NAMES = ", ".join(COLUMNS)
_UNSEALED = f"""
SELECT {_NAMES} FROM audit AS a
WHERE a.id > ? AND NOT EXISTS (SELECT 1 FROM audit_seal AS s WHERE s.audit_id = a.id)
ORDER BY a.id LIMIT ?
"""  # noqa: S608 - names of ours
_NEWEST = (
    select(audit_seal.c.position, audit_seal.c.hash).order_by(audit_seal.c.position.desc()).limit(1)
)
_HIGHEST = "SELECT max(audit_id) FROM audit_seal"
_AT = "SELECT hash FROM audit_seal WHERE position = ?"


class Looked(NamedTuple):
    """Whether an entry has no place yet, and the highest number of those that have one."""

    waiting: bool
    highest: int


class Sealed(NamedTuple):
    """How many entries were sealed, and the highest number among them."""

    entries: int
    highest: int


def look(tx: Transaction, floor: int) -> Looked:
    """Looks for entries above this number that have no place; each second, so it only reads."""
    waiting = bool(tx.fetch(_UNSEALED, (floor, 1)))
    return Looked(waiting, tx.fetch(_HIGHEST)[0][0] or 0)


def seal(tx: Transaction, floor: int = 0) -> Sealed:
    """Gives the next entries their places; none while another gateway does so."""
    if not tx.alone("audit seal"):
        return Sealed(0, 0)
    rows = tx.fetch(_UNSEALED, (floor, ROWS_AT_ONCE))
    if not rows:
        return Sealed(0, 0)
    head = head_in(tx) or Head(0, GENESIS)
    made = []
    for row in rows:
        head = Head(head.position + 1, next_hash(head.hash, canonical(tuple(row))))
        made.append((head.position, row[0], head.hash))
    tx.add_rows("audit_seal", ("position", "audit_id", "hash"), made)
    return Sealed(len(rows), rows[-1][0])


def seal_all(tx: Transaction) -> int:
    """The same in one transaction to the end, where nobody else is at work; how many there were."""
    count = 0
    while done := seal(tx).entries:
        count += done
    return count


def head_in(tx: Transaction) -> Head | None:
    """The newest link of the chain."""
    row = tx.one(_NEWEST)
    return None if row is None else Head(row.position, bytes(row.hash))


def holds(tx: Transaction, head: Head) -> bool:
    """Whether the chain still has this link."""
    found = tx.fetch(_AT, (head.position,))
    return bool(found) and bytes(found[0][0]) == head.hash


class Sealer:
    """The sealing of one gateway; the others may be at it at the same time."""

    def __init__(
        self, store: Store, clock: Clock, telemetry: Telemetry, head_file: Path | None
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._head_file = head_file
        self._full_s: float | None = None  # when last looked at everything
        self._head_s: float | None = None
        self._seen: deque[tuple[float, int]] = deque()  # when, and what was the highest number
        self._floor = 0

    async def once(self) -> None:
        """Seals all there is, and notes the head once a minute."""
        now_s = asyncio.get_running_loop().time()
        while self._seen and now_s - self._seen[0][0] >= SETTLED_S:
            self._floor = max(self._floor, self._seen.popleft()[1])
        full = self._full_s is None or now_s - self._full_s >= FULL_LOOK_S
        highest = await self._seal_from(0 if full else self._floor)
        if highest is not None:
            if full:
                self._full_s = now_s
            if highest > (self._seen[-1][1] if self._seen else self._floor):
                self._seen.append((now_s, highest))
        if self._head_s is None or now_s - self._head_s >= HEAD_S:
            self._head_s = now_s
            await self._note_head()

    async def _seal_from(self, floor: int) -> int | None:
        """Up to which number there is nothing left, but for what is not committed yet.

        None while another gateway is at it, or there is too much at once.
        """
        for _ in range(ROUNDS_MAX):
            looked = await self._store.read(partial(look, floor=floor))
            if not looked.waiting:
                return looked.highest
            sealing = partial(seal, floor=floor)
            done = await self._store.write(sealing, lane=Lane.JOBS, tree=Tree.UNTOUCHED)
            if done.entries < ROWS_AT_ONCE:
                return done.highest or None
        return None

    async def _note_head(self) -> None:
        """Into the log and a file, so that a chain that was cut or made anew does not agree."""
        head = await self._store.read(head_in)
        noted = None if self._head_file is None else _noted(self._head_file)
        if noted is not None and not await self._store.read(partial(holds, head=noted)):
            # Not written over: it is the only witness.
            log.error("the audit's chain does not have the head noted before head=%s", noted)
            self._telemetry.failed(
                self._clock.wall_ms(),
                "audit_head",
                f"the chain does not have {noted}, which {HEAD_FILE} holds: see fleetgate verify",
            )
            return
        if head is None or head == noted:
            return
        log.info("audit head=%s", head)
        if self._head_file is not None:
            content = f"{head}\n".encode()
            await asyncio.to_thread(write_atomically, self._head_file, content)


def _noted(path: Path) -> Head | None:
    """The head in the file, if it holds one. A file that holds something else is a head of
    nothing: no chain has it, so it is not written over, either."""
    try:
        return head_of(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return Head(0, b"")
