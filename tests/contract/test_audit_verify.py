"""`fleetgate verify` names what was done to the audit behind the program's back."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from gateway.clock import Clock
from gateway.command.verify import main, verify
from gateway.domain.audit_chain import GENESIS, Head, canonical, next_hash
from gateway.domain.instants import MINUTE_MS
from gateway.jobs.sealing import HEAD_FILE, Sealer, head_in
from gateway.storage.address import Address
from gateway.telemetry import Telemetry
from tests.contract.backups import back_up, installed, restored
from tests.contract.lived import folder_of, rows
from tests.contract.test_audit_chain import note
from tests.contract.world import World
from tests.databases import Databases

LINKS = 12


class Left(NamedTuple):
    """A sealed database that nobody uses, its head, and a data directory that has noted it."""

    address: Address
    head: Head
    data: str


@pytest.fixture
def left(databases: Databases, tmp_path: Path) -> Iterator[Left]:
    address = databases.make()
    world = World(address)
    data = folder_of(address, tmp_path / "data")
    try:
        world.write(partial(note, count=LINKS - 1))
        world.company("Acme")
        world.wait(Sealer(world.store, Clock(), Telemetry(0), Path(data) / HEAD_FILE).once())
        world.live(2 * MINUTE_MS)
        head = world.read(head_in)
        assert head is not None and head.position == LINKS
    finally:
        world.close()
    yield Left(address, head, data)
    databases.drop(address)


def tamper(address: Address, *statements: str) -> None:
    """As somebody who owns the database: no trigger hinders it, and all are there afterwards."""
    if isinstance(address, Path):
        connection = sqlite3.connect(address)
        found = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        triggers = connection.execute(found).fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in (*statements, *(sql for _, sql in triggers)):
            connection.execute(statement)
        connection.commit()
        connection.close()
        return
    with psycopg.connect(address) as postgres:
        postgres.execute("SET session_replication_role = replica")
        for statement in statements:
            postgres.execute(statement.replace("X'", "'\\x").encode())


def findings(left: Left, heads: dict[str, Head] | None = None) -> list[str]:
    checks = {check.name: check.findings for check in verify(left.address, heads)}
    found = checks.pop("audit")
    assert not any(checks.values()), checks
    return found


PUT_IN = (
    "INSERT INTO audit (id, at, actor, verb, subject, detail) VALUES (99, 1, 'a', 'b', '', '{}')"
)


def of(position: int) -> str:
    return f"(SELECT audit_id FROM audit_seal WHERE position = {position})"


# What somebody did, and what is said of it; without any head.
TAMPERED = {
    "changed": (
        [f"UPDATE audit SET actor = 'user:2' WHERE id = {of(5)}"],
        ["position 5: the entry 5 was changed"],
    ),
    "instant changed": (
        [f"UPDATE audit SET at = at + 1 WHERE id = {of(1)}"],
        ["position 1: the entry 1 was changed"],
    ),
    "company changed": (
        [f"UPDATE audit SET company_id = 77 WHERE id = {of(LINKS)}"],
        [f"position {LINKS}: the entry {LINKS} was changed"],
    ),
    "digest changed": (
        [f"UPDATE audit SET digests = '{{}}' WHERE id = {of(2)}"],
        ["position 2: the entry 2 was changed", "entry 2: its address was changed or put in"],
    ),
    "address changed": (
        ["UPDATE audit_personal SET value = '192.0.2.77' WHERE audit_id = 1"],
        ["entry 1: its address was changed or put in"],
    ),
    "address put in": (
        ["INSERT INTO audit_personal VALUES (3, 'address', 1, '192.0.2.1', X'00')"],
        ["entry 3: its address was changed or put in"],
    ),
    "removed": (
        [f"DELETE FROM audit WHERE id = {of(5)}"],
        ["position 5: the entry 5 was removed"],
    ),
    "removed with its link": (
        ["DELETE FROM audit WHERE id = 5", "DELETE FROM audit_seal WHERE position = 5"],
        ["position 5 is missing"],
    ),
    "removed, and the rest moved up": (
        [
            "DELETE FROM audit WHERE id = 5",
            "DELETE FROM audit_seal WHERE position = 5",
            "UPDATE audit_seal SET position = position - 101 WHERE position > 5",
            "UPDATE audit_seal SET position = position + 100 WHERE position < 0",
        ],
        ["position 5: the entry 6 was changed, or one was removed or put in before it"],
    ),
    "several removed": (
        ["DELETE FROM audit WHERE id IN (3, 4, 5)", "DELETE FROM audit_seal WHERE position < 6"],
        ["position 1 to 5 is missing", "the entry 1 is not in", "the entry 2 is not in"],
    ),
    "reordered": (
        [
            "UPDATE audit_seal SET audit_id = -4 WHERE position = 4",
            "UPDATE audit_seal SET audit_id = 4 WHERE position = 7",
            "UPDATE audit_seal SET audit_id = 7 WHERE position = 4",
        ],
        ["position 4: the entry 7 was put in another's place", "position 7: the entry 4 was put"],
    ),
    "put in beside the chain": (
        [PUT_IN],
        ["the entry 99 is not in the chain"],
    ),
    "put in between": (
        [
            PUT_IN,
            "UPDATE audit_seal SET position = position + 101 WHERE position > 5",
            "UPDATE audit_seal SET position = position - 100 WHERE position > 100",
            "INSERT INTO audit_seal VALUES (6, 99, X'" + "00" * 32 + "')",
        ],
        ["position 6: the entry 99 was changed", "position 7: the entry 6 was changed, or one"],
    ),
    "a hash changed": (
        ["UPDATE audit_seal SET hash = X'" + "00" * 32 + "' WHERE position = 5"],
        ["position 5: the hash over the entry 5 was changed"],
    ),
    "a link removed": (
        ["DELETE FROM audit_seal WHERE position = 5"],
        ["position 5 is missing", "the entry 5 is not in the chain"],
    ),
    "links at the end removed": (
        ["DELETE FROM audit_seal WHERE position > 10"],
        ["the entry 11 is not in the chain", "the entry 12 is not in the chain"],
    ),
    "a link of nothing": (
        ["INSERT INTO audit_seal VALUES (13, 99, X'" + "00" * 32 + "')"],
        ["position 13: the entry 99 was removed"],
    ),
    "the whole chain removed": (
        ["DELETE FROM audit_seal"],
        ["there is no chain, and 12 entries"],
    ),
}


@pytest.mark.parametrize("done", TAMPERED)
def test_what_was_done_is_named(left: Left, done: str) -> None:
    statements, told = TAMPERED[done]
    assert findings(left) == []
    tamper(left.address, *statements)
    found = findings(left)
    assert len(found) == len(told), found
    for one, begin in zip(found, told, strict=True):
        assert begin in one, found


def made_anew(left: Left) -> None:
    """All hashes from an entry on, as somebody does who knows how; and the entry is another."""
    tamper(left.address, "UPDATE audit SET actor = 'user:2' WHERE id = 5")
    names = "id, at, actor, owner_id, verb, company_id, device_id, serial, subject, detail, digests"
    before, statements = GENESIS, []
    for row in rows(left.address, f"SELECT {names} FROM audit ORDER BY id"):
        before = next_hash(before, canonical(row))
        values = f"SET hash = X'{before.hex()}' WHERE audit_id = {row[0]}"
        statements.append(f"UPDATE audit_seal {values}")
    tamper(left.address, *statements)


def cut_off(left: Left) -> None:
    """The newest entries with their links, values and all: the rest agrees with itself."""
    tables = {"audit": "id", "audit_personal": "audit_id", "audit_seal": "position"}
    tamper(left.address, *(f"DELETE FROM {table} WHERE {key} > 9" for table, key in tables.items()))


def head_anew(left: Left) -> None:
    """Cut off, and others written and sealed in their place by the gateway itself."""
    cut_off(left)
    world = World(left.address)
    world.write(partial(note, count=9))
    world.seal()
    world.close()


def test_a_chain_that_agrees_with_itself_does_not_agree_with_its_head(
    left: Left, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off(left)
    assert findings(left) == []  # nobody can see it without a head
    told = f"the chain ends at position 9, and --head holds {LINKS}"
    assert told in findings(left, {"--head": left.head})[0]
    assert main(["--data", left.data]) == 1  # the head of the data directory is looked at, too
    shown = capsys.readouterr().out
    assert f"ends at position 9, and {left.data}/{HEAD_FILE} holds {LINKS}" in shown


@pytest.mark.parametrize("way", [made_anew, head_anew])
def test_a_chain_that_was_made_anew_is_told_by_its_head(
    left: Left, capsys: pytest.CaptureFixture[str], way: Callable[[Left], None]
) -> None:
    way(left)
    assert findings(left) == []
    (Path(left.data) / HEAD_FILE).rename(Path(left.data) / "away")
    assert main(["--data", left.data, "--json"]) == 0
    assert main(["--data", left.data, "--json", "--head", str(left.head)]) == 1
    checks = json.loads(capsys.readouterr().out.partition("\n}\n")[2])["checks"]
    [audit] = [check for check in checks if check["name"] == "audit"]
    assert f"position {LINKS} is not the one that --head holds" in audit["findings"][0]


def test_a_gateway_keeps_a_head_that_the_chain_does_not_have_and_tells(left: Left) -> None:
    """It is the only witness of what was cut off, although the rest is sealed again."""
    cut_off(left)
    file = Path(left.data) / HEAD_FILE
    world, telemetry = World(left.address), Telemetry(0)
    world.write(partial(note, count=9))
    world.wait(Sealer(world.store, Clock(), telemetry, file).once())
    world.close()
    assert file.read_text().strip() == str(left.head)
    [(_, told)] = telemetry.last_errors
    assert told.startswith("audit_head: the chain does not have 12:")


def test_two_heads_of_one_position_are_both_looked_at(left: Left) -> None:
    other = Head(LINKS, bytes(32))
    assert len(findings(left, {"one": left.head, "other": other})) == 1
    assert len(findings(left, {"one": other, "other": left.head})) == 1


def test_what_is_no_head_is_said_and_not_taken_for_one(
    left: Left, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", left.data, "--head", "17"]) == 1
    assert "--head: not a head of the audit: POSITION:HASH" in capsys.readouterr().err
    (Path(left.data) / HEAD_FILE).write_text("x")
    assert main(["--data", left.data]) == 1
    assert f"{HEAD_FILE}: not a head" in capsys.readouterr().err


def test_entries_of_the_last_minute_need_no_place_yet(databases: Databases) -> None:
    address = databases.make()
    world = World(address)
    try:
        world.write(partial(note, count=3))
        world.seal()
        world.write(note)
        world.live(MINUTE_MS, jobs=False)
        assert [one for check in verify(address) for one in check.findings] == []
        world.live(MINUTE_MS, jobs=False)
        found = [one for check in verify(address) for one in check.findings]
        assert len(found) == 1 and "not in the chain" in found[0]
    finally:
        world.close()
        databases.drop(address)


def test_a_restored_chain_goes_on_and_old_heads_are_explained(
    world: World, tmp_path: Path, new_database: str
) -> None:
    world.write(partial(note, count=3))
    world.seal()
    world.write(note)  # sealed by the restore
    backup = back_up(installed(world.address, tmp_path / "data"))
    before = world.read(head_in)
    world.write(partial(note, count=9))
    world.seal()
    lost = world.read(head_in)
    assert before is not None and lost is not None

    target, address = restored(backup, new_database)
    assert not (target / HEAD_FILE).exists()
    heads = {"before": before}
    assert [one for check in verify(address, heads) for one in check.findings] == []
    unsealed = "SELECT count(*) FROM audit WHERE id NOT IN (SELECT audit_id FROM audit_seal)"
    assert rows(address, unsealed) == [(0,)]
    [found] = [one for check in verify(address, {"--head": lost}) for one in check.findings]
    assert "a backup was restored at" in found and "--head holds" in found
