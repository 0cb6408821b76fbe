"""`fleetgate verify` finds what is planted, says so, and changes nothing."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gateway.command.verify import main, verify
from gateway.domain.instants import DAY_MS
from gateway.domain.ledger import transfer_id
from gateway.storage.address import Address
from tests.contract.lived import change, folder_of, live_through, rows
from tests.contract.world import World
from tests.databases import Databases

SERIAL = "1100000001"
DROP = "DROP TRIGGER transfer_no_update{on_transfer}; "

PLANTED = [
    # what somebody did to the database                                                found by
    ("UPDATE alembic_version SET version_num = '9999'", {"schema"}),
    ("DROP TRIGGER transfer_no_delete{on_transfer}", {"triggers"}),
    (DROP, {"triggers"}),
    ("DROP TRIGGER audit_no_update{on_audit}", {"triggers"}),
    (DROP + "UPDATE transfer SET id = 'x' WHERE seq = 1", {"triggers", "ids"}),
    (DROP + "UPDATE transfer SET operation_id = 'x' WHERE seq = 1", {"triggers", "ids"}),
    (DROP + "UPDATE transfer SET kind = 'grant' WHERE kind = 'serve'", {"triggers", "ways"}),
    (
        DROP + "UPDATE transfer SET days = days + 1 WHERE kind = 'serve'",
        {"triggers", "balances", "overdrawn"},
    ),
    (
        DROP + "UPDATE transfer SET payer_path = '' WHERE kind = 'activate'",
        {"triggers", "paths", "limits"},
    ),
    (DROP + "UPDATE transfer SET company_path = '99'", {"triggers", "paths"}),
    (
        DROP + "UPDATE transfer SET reverses = id WHERE kind = 'activate'",
        {"triggers", "reversals"},
    ),
    (
        DROP + "UPDATE transfer SET kind = 'day' WHERE kind = 'serve'",
        {"triggers", "ways", "paths", "charges"},
    ),
    ("UPDATE account SET balance = balance + 1 WHERE kind = 'pool'", {"balances"}),
    ("UPDATE account SET balance = 29 WHERE balance = 30", {"balances", "prepaid"}),
    ("DELETE FROM account WHERE kind = 'consumed'", {"balances", "ways", "links"}),
    ("UPDATE device SET period_end = period_end + 86400000", {"prepaid"}),
    ("UPDATE device SET period_end = period_end + 1", {"prepaid"}),
    ("UPDATE device SET period_start = NULL, period_end = NULL", {"prepaid", "service"}),
    ("UPDATE device SET state = 'unpaid'", {"service"}),
    ("UPDATE device SET state = 'active', reason = 'grace'", {"service"}),
    ("UPDATE device SET registered = false", {"service"}),
    ("UPDATE taken_from_above SET days = days - 30", {"limits"}),
    ("DELETE FROM taken_from_above", {"limits"}),
    ("DELETE FROM company_path WHERE depth = 1", {"tree"}),
    ("UPDATE company_path SET depth = 7 WHERE depth = 1", {"tree"}),
    ("INSERT INTO company_path VALUES (2, 1, 1)", {"tree"}),
    ("UPDATE company SET parent_id = 2 WHERE id = 1", {"tree"}),
    ("UPDATE company SET closed_at = 1", {"closed"}),
    ("UPDATE monitored_day SET day = day - 1", {"days"}),
    ("UPDATE monitored_day SET company_id = 77", {"days"}),
    ("UPDATE monitored_day SET device_id = 77", {"days"}),
    ("UPDATE device SET company_id = 77", {"links"}),
    (
        "DROP TRIGGER audit_no_update{on_audit}; UPDATE audit SET actor = 'x' WHERE id = 2",
        {"triggers", "audit"},
    ),
]
PLANTED_IN = {
    "sqlite": [
        DROP + "CREATE TRIGGER transfer_no_update BEFORE UPDATE ON transfer WHEN 0 BEGIN "
        "SELECT RAISE(ABORT, 'never'); END",
        "DROP TRIGGER audit_no_delete; CREATE TRIGGER audit_no_delete BEFORE DELETE ON transfer "
        "BEGIN SELECT RAISE(ABORT, 'never'); END",
    ],
    "postgresql": [
        "DROP TRIGGER audit_no_truncate ON audit",
        "ALTER TABLE audit DISABLE TRIGGER audit_no_delete",
        "ALTER TABLE audit ENABLE REPLICA TRIGGER audit_no_delete",
        DROP + "CREATE TRIGGER transfer_no_update BEFORE UPDATE ON transfer FOR EACH ROW "
        "WHEN (false) EXECUTE FUNCTION transfer_unchanged()",
        DROP + "CREATE TRIGGER transfer_no_update BEFORE UPDATE OF note ON transfer FOR EACH ROW "
        "EXECUTE FUNCTION transfer_unchanged()",
        DROP + "CREATE TRIGGER transfer_no_update AFTER INSERT ON transfer FOR EACH ROW "
        "EXECUTE FUNCTION transfer_unchanged()",
        "CREATE OR REPLACE FUNCTION audit_unchanged() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RETURN NEW; END $$",
    ],
}


@pytest.fixture
def lived(world: World) -> World:
    live_through(world)
    return world


@pytest.fixture
def left(databases: Databases) -> Iterator[Address]:
    """A database in which all that happened, and that nobody uses any more."""
    address = databases.make()
    world = World(address)
    try:
        live_through(world)
    finally:
        world.close()
    yield address
    databases.drop(address)


def plant(address: Address, script: str) -> None:
    """Does what no gateway would: links and triggers do not hinder it."""
    if isinstance(address, Path):
        connection = sqlite3.connect(address)
        connection.executescript(script.format(on_transfer="", on_audit=""))
        connection.close()
        return
    with psycopg.connect(address) as postgres:
        postgres.execute("SET session_replication_role = replica")
        postgres.execute(script.format(on_transfer=" ON transfer", on_audit=" ON audit").encode())


@pytest.mark.parametrize(("script", "found_by"), PLANTED)
def test_what_is_planted_is_found(left: Address, script: str, found_by: set[str]) -> None:
    plant(left, script)
    assert {check.name for check in verify(left) if check.findings} == found_by


@pytest.mark.parametrize(
    ("script", "found_by"),
    [
        ("DELETE FROM monitored_day WHERE day % 2 = 0", {"charges"}),
        ("UPDATE monitored_day SET transfer_id = 'x' WHERE day % 2 = 0", {"days", "charges"}),
        ("UPDATE monitored_day SET transfer_id = NULL WHERE day % 2 = 0", {"days", "charges"}),
    ],
)
def test_days_that_were_taken_and_not_counted_are_found(
    databases: Databases, script: str, found_by: set[str]
) -> None:
    address = databases.make()
    world = World(address)
    world.do("credits.grant", company_id=world.company("Acme", plan="daily"), days=9)
    world.register(SERIAL, "1")
    world.join(SERIAL)
    for _ in range(2):
        world.heartbeat(SERIAL)
        world.live(DAY_MS)
    world.check()
    world.close()
    plant(address, script)
    assert {check.name for check in verify(address) if check.findings} == found_by
    databases.drop(address)


@pytest.mark.parametrize("which", range(max(map(len, PLANTED_IN.values()))))
def test_a_trigger_that_only_looks_right_is_found(
    left: Address, databases: Databases, which: int
) -> None:
    scripts = PLANTED_IN[databases.engine]
    if which < len(scripts):
        plant(left, scripts[which])
        assert {check.name for check in verify(left) if check.findings} == {"triggers"}


def test_every_check_finds_something_planted(lived: World) -> None:
    names = {check.name for check in verify(lived.address)}
    assert names == set().union(*(found for _, found in PLANTED))


def test_every_check_looked_at_something(lived: World) -> None:
    assert all(check.checked > 0 for check in verify(lived.address))


def test_the_command_says_it_to_people_and_to_scripts(
    lived: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(lived.address, tmp_path / "data")
    assert main(["--data", folder]) == 0
    shown = capsys.readouterr().out
    assert "The ledger agrees with itself." in shown and "balances" in shown
    assert main(["--data", folder, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True and {check["name"] for check in told["checks"]} >= {"days", "tree"}
    lines = rows(lived.address, _TRANSFER_LINES)
    assert told["transfers"] == len(lines) > 3
    assert told["ledger_digest"] == hashlib.sha256(digested(lines)).hexdigest()


_TRANSFER_LINES = (
    "SELECT seq, id, operation_id, kind, from_account, to_account, days, free, company_id, "
    "company_path, device_id, serial, payer_company_id, payer_path, actor, cause, note, at, "
    "lot_account, reverses "
    "FROM transfer"
)


def digested(lines: list[tuple[Any, ...]]) -> bytes:
    """The bytes of the ledger's digest, as the documentation describes them."""
    made = b""
    for line in sorted(lines, key=lambda line: line[1].encode()):
        values = [*line[:7], bool(line[7]), *line[8:]]
        made += json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    return made


def test_a_difference_is_exit_code_1_and_names_the_account(
    left: Address, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(left, "UPDATE account SET balance = 31 WHERE kind = 'prepaid'")
    folder = folder_of(left, tmp_path / "broken")
    assert main(["--data", folder]) == 1
    shown = capsys.readouterr().out
    assert "prepaid:1: balance 31, sum of its transfers 30" in shown
    assert main(["--data", folder, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_what_cannot_be_read_is_exit_code_1_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path)]) == 1
    assert "no such file" in capsys.readouterr().err
    (tmp_path / "fleetgate.db").write_bytes(b"not a database" * 100)
    assert main(["--data", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
    (tmp_path / "gateway.toml").write_text(
        '[database]\nurl = "postgresql://nobody:secret@127.0.0.1:1/none"\n'
    )
    assert main(["--data", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "127.0.0.1" in said and "secret" not in said


def test_the_database_refuses_to_change_a_transfer(left: Address) -> None:
    for statement in ("UPDATE transfer SET days = 1", "DELETE FROM transfer"):
        with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError), match="never changed"):
            change(left, statement)
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        change(left, "UPDATE account SET balance = -1 WHERE kind = 'pool'")
    first = rows(left, "SELECT id, operation_id FROM transfer WHERE seq = 1")[0]
    assert first[0] == transfer_id(first[1], 0)


def test_it_only_reads_and_waits_for_nobody(lived: World) -> None:
    def changing(tx: object) -> list[str]:
        # Asked inside of a writing transaction that has changed something.
        return [check.name for check in verify(lived.address) if check.findings]

    lived.register("1100000009", "2", activate="later")
    assert lived.write(changing) == []
