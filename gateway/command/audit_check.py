"""The check of the audit: its entries against their chain, and the chain against its head."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection

from gateway.domain.audit_chain import (
    COLUMNS,
    GENESIS,
    UNSEALED_MS_MAX,
    Head,
    canonical,
    digest_of,
    misplaced,
    next_hash,
)
from gateway.domain.instants import instant_text

COMPARED_MAX = 50  # links that do not fit, which are tried in each other's places
_COLUMNS = ", ".join(f"a.{name}" for name in COLUMNS)
_LINKS = f"""
SELECT s.position, s.audit_id, s.hash, {_COLUMNS}
FROM audit_seal AS s LEFT JOIN audit AS a ON a.id = s.audit_id ORDER BY s.position
"""  # noqa: S608 - names of ours
_LOOSE = """
SELECT a.id, a.at FROM audit AS a
WHERE NOT EXISTS (SELECT 1 FROM audit_seal AS s WHERE s.audit_id = a.id) ORDER BY a.id
"""
_ALIVE = "SELECT value FROM installation WHERE key = 'alive_at'"
_NEWEST = "SELECT max(at) FROM audit"
_PERSONAL = """
SELECT p.audit_id, p.name, p.value, p.salt, a.digests
FROM audit_personal AS p LEFT JOIN audit AS a ON a.id = p.audit_id ORDER BY p.audit_id
"""
_RESTORED = """
SELECT s.position, a.at FROM audit AS a JOIN audit_seal AS s ON s.audit_id = a.id
WHERE a.verb = 'installation.restored' ORDER BY s.position
"""


class _Link(NamedTuple):
    position: int
    audit_id: int
    before: bytes
    entry: bytes
    stored: bytes


class _Chain:
    """The links in their order; what is wrong with one is said once the next one is known."""

    def __init__(self) -> None:
        self.last = 0
        self.hashes: dict[int, bytes] = {}  # of the positions that somebody noted
        self.noted: frozenset[int] = frozenset()
        self._before: bytes | None = GENESIS  # None: unknown, since a link is missing
        self._doubted: _Link | None = None
        self._wrong: list[_Link] = []

    def take(self, position: int, audit_id: int, stored: bytes, row: tuple[Any, ...]) -> str | None:
        """The next link and its entry, if that is there; what can be said of it at once."""
        if position in self.noted:
            self.hashes[position] = stored
        before, first = self._before, self.last + 1
        self.last, self._before = position, stored
        if position != first:
            missing = str(first) if position == first + 1 else f"{first} to {position - 1}"
            self._settle()
            return f"position {missing} is missing: links were removed there"
        if row[0] is None:
            self._settle()
            return f"position {position}: the entry {audit_id} was removed"
        if before is None:
            return None
        entry = canonical(row)
        if next_hash(before, entry) == stored:
            self._settle()
            return None
        doubted, self._doubted = self._doubted, None
        if doubted is not None:
            if next_hash(next_hash(doubted.before, doubted.entry), entry) == stored:
                return _hash_changed(doubted)
            self._wrong.append(doubted)
        self._doubted = _Link(position, audit_id, before, entry, stored)
        return None

    def _settle(self) -> None:
        """The link after the doubted one does not say that only its hash was changed."""
        if self._doubted is not None:
            self._wrong.append(self._doubted)
            self._doubted = None

    def wrong(self) -> Iterator[str]:
        """Says of links that do not fit whether their entries only changed places."""
        self._settle()
        some = {one.position: (one.before, one.entry, one.stored) for one in self._wrong}
        places = misplaced(dict(list(some.items())[:COMPARED_MAX]))
        for one in self._wrong:
            if one.position in places:
                yield (
                    f"position {one.position}: the entry {one.audit_id} was put in another's "
                    f"place; what belongs here lies at position {places[one.position]}"
                )
            else:
                yield (
                    f"position {one.position}: the entry {one.audit_id} was changed, or one was "
                    "removed or put in before it"
                )


def chain_findings(connection: Connection, heads: Mapping[str, Head]) -> Iterator[str | None]:
    """One for each link and entry; `heads`: by where each was noted."""
    chain = _Chain()
    chain.noted = frozenset(head.position for head in heads.values())
    for position, audit_id, stored, *row in connection.exec_driver_sql(_LINKS):
        yield chain.take(position, audit_id, bytes(stored), tuple(row))
    yield from chain.wrong()
    for where, head in heads.items():
        yield _against(connection, where, head, chain)
    yield from _loose(connection, chained=chain.last > 0)


def _hash_changed(link: _Link) -> str:
    return f"position {link.position}: the hash over the entry {link.audit_id} was changed"


def _against(connection: Connection, where: str, head: Head, chain: _Chain) -> str | None:
    """The chain against a head that was noted somewhere."""
    if head.position > chain.last:
        return (
            f"the chain ends at position {chain.last}, and {where} holds {head.position}: the "
            f"entries after {chain.last} were cut off, or the database is older than that"
            f"{_explained(connection)}"
        )
    if head.position not in chain.hashes:
        return f"position {head.position}, which {where} holds, is missing"
    if chain.hashes[head.position] == head.hash:
        return None
    return (
        f"position {head.position} is not the one that {where} holds: the chain was made anew"
        f"{_explained(connection)}"
    )


def _explained(connection: Connection) -> str:
    """After `fleetgate restore` heads of the time after the backup are of a chain that is lost."""
    rows = connection.exec_driver_sql(_RESTORED).fetchall()
    if not rows:
        return "; if you put an older database in place yourself, move audit_head away"
    position, at = rows[-1]
    return (
        f" (a backup was restored at {instant_text(at)}, position {position}: heads that were "
        "noted between that backup and then are of what was lost)"
    )


def _loose(connection: Connection, *, chained: bool) -> Iterator[str | None]:
    """Entries without a place: there are only new ones, each for a moment."""
    now = _first(connection, _ALIVE)
    now_ms = int(now) if now is not None else (_first(connection, _NEWEST) or 0)
    found = 0
    for audit_id, at in connection.exec_driver_sql(_LOOSE):
        if now_ms - at <= UNSEALED_MS_MAX:
            yield None
        elif chained:
            yield f"the entry {audit_id} is not in the chain: put in, or its link was removed"
        else:
            found += 1
    if found:
        yield (
            f"there is no chain, and {found} entries: it was removed, or no gateway has run since "
            "the update that brought it; then start one and ask again"
        )


def _first(connection: Connection, statement: str) -> Any:
    row = connection.exec_driver_sql(statement).first()
    return None if row is None else row[0]


def personal_findings(connection: Connection) -> Iterator[str | None]:
    """One for each personal value that is kept; erased ones are not."""
    for audit_id, name, value, salt, digests in connection.exec_driver_sql(_PERSONAL):
        told = {} if digests is None else msgspec.json.decode(digests, type=dict[str, str])
        if told.get(name) == digest_of(bytes(salt), value):
            yield None
        else:
            yield f"entry {audit_id}: its {name} was changed or put in"
