"""The check of the audit: its entries against their chain, and the chain against its head."""

from collections.abc import Iterator
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


def chain_findings(connection: Connection, heads: dict[str, Head]) -> Iterator[str | None]:
    """One for each link and entry; `heads`: by where each was noted."""
    wrong: list[_Link] = []
    noted = {head.position: (where, head) for where, head in heads.items()}
    expected, before = 1, GENESIS
    for position, audit_id, stored, *row in connection.exec_driver_sql(_LINKS):
        stored = bytes(stored)
        if position != expected:
            missing = str(expected) if position == expected + 1 else f"{expected} to {position - 1}"
            yield f"position {missing} is missing: entries were removed there"
        entry = canonical(tuple(row))
        if row[0] is None:
            yield f"position {position}: the entry {audit_id} was removed"
        elif next_hash(before, entry) != stored:
            wrong.append(_Link(position, audit_id, before, entry, stored))
        else:
            yield None
        if position in noted:
            where, head = noted.pop(position)
            yield None if head.hash == stored else _other_chain(connection, where, head)
        expected, before = position + 1, stored
    yield from _of_wrong(wrong)
    for where, head in noted.values():
        yield _cut(connection, where, head, expected - 1)
    yield from _loose(connection, sealed=expected > 1 or bool(heads))


def _of_wrong(wrong: list[_Link]) -> Iterator[str]:
    """Says of links that do not fit whether they only changed places."""
    some = {one.position: (one.before, one.entry, one.stored) for one in wrong[:COMPARED_MAX]}
    places = misplaced(some)
    for one in wrong:
        if one.position in places:
            yield (
                f"position {one.position}: the entry {one.audit_id} was put in another's place; "
                f"what belongs here lies at position {places[one.position]}"
            )
        else:
            yield (
                f"position {one.position}: the entry {one.audit_id} was changed, or one before it "
                "was removed or put in"
            )


def _other_chain(connection: Connection, where: str, head: Head) -> str:
    return (
        f"position {head.position} is not the one that {where} holds: the chain was made anew"
        f"{_explained(connection)}"
    )


def _cut(connection: Connection, where: str, head: Head, last: int) -> str:
    return (
        f"the chain ends at position {last}, and {where} holds {head.position}: the entries after "
        f"{last} were cut off, or the database is older than that{_explained(connection)}"
    )


def _explained(connection: Connection) -> str:
    """After `fleetgate restore` heads of the time after the backup are of a chain that is lost."""
    rows = connection.exec_driver_sql(_RESTORED).fetchall()
    if not rows:
        return ""
    position, at = rows[-1]
    return (
        f" (a backup was restored at {instant_text(at)}, position {position}: heads that were "
        "noted between that backup and then are of what was lost)"
    )


def _loose(connection: Connection, *, sealed: bool) -> Iterator[str | None]:
    """Entries without a place; before there was a chain, none has one."""
    now = _first(connection, _ALIVE)
    now_ms = int(now) if now is not None else (_first(connection, _NEWEST) or 0)
    for audit_id, at in connection.exec_driver_sql(_LOOSE):
        fresh = now_ms - at <= UNSEALED_MS_MAX
        yield None if fresh or not sealed else f"the entry {audit_id} is not in the chain"


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
