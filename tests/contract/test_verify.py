"""`fleetgate verify` finds what is planted, says so, and changes nothing."""

import json
import sqlite3
from pathlib import Path

import pytest

from gateway.command.verify import main, verify
from gateway.domain.instants import DAY_MS
from gateway.domain.ledger import transfer_id
from tests.contract.world import World

S = "1100000001"
DROP = "DROP TRIGGER transfer_no_update; "

PLANTED = [
    # what somebody did to the file                                                    found by
    ("UPDATE alembic_version SET version_num = '9999'", {"schema"}),
    ("DROP TRIGGER transfer_no_delete", {"triggers"}),
    (DROP, {"triggers"}),
    (
        DROP + "CREATE TRIGGER transfer_no_update BEFORE UPDATE ON transfer WHEN 0 BEGIN "
        "SELECT RAISE(ABORT, 'never'); END",
        {"triggers"},
    ),
    ("DROP TRIGGER audit_no_update", {"triggers"}),
    (
        "DROP TRIGGER audit_no_delete; CREATE TRIGGER audit_no_delete BEFORE DELETE ON transfer "
        "BEGIN SELECT RAISE(ABORT, 'never'); END",
        {"triggers"},
    ),
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
    ("UPDATE account SET balance = balance + 1 WHERE kind = 'pool'", {"balances"}),
    ("UPDATE account SET balance = 29 WHERE balance = 30", {"balances", "prepaid"}),
    ("DELETE FROM account WHERE kind = 'consumed'", {"balances", "ways", "links"}),
    ("UPDATE device SET period_end = period_end + 86400000", {"prepaid"}),
    ("UPDATE device SET period_end = period_end + 1", {"prepaid"}),
    ("UPDATE device SET period_start = NULL, period_end = NULL", {"prepaid", "service"}),
    ("UPDATE device SET state = 'unpaid'", {"service"}),
    ("UPDATE device SET state = 'active', reason = 'grace'", {"service"}),
    ("UPDATE device SET registered = 0", {"service"}),
    ("UPDATE taken_from_above SET days = days - 30", {"limits"}),
    ("DELETE FROM taken_from_above", {"limits"}),
    ("DELETE FROM company_path WHERE depth = 1", {"tree"}),
    ("UPDATE company_path SET depth = 7 WHERE depth = 1", {"tree"}),
    ("INSERT INTO company_path VALUES (2, 1, 1)", {"tree"}),
    ("UPDATE company SET parent_id = 2 WHERE id = 1", {"tree"}),
    ("UPDATE monitored_day SET day = day - 1", {"days"}),
    ("UPDATE monitored_day SET company_id = 77", {"days"}),
    ("UPDATE monitored_day SET device_id = 77", {"days"}),
    ("UPDATE device SET company_id = 77", {"links"}),
]


@pytest.fixture
def lived(world: World) -> World:
    """Two companies; a device in its second period, paid from above."""
    top = world.company("Top")
    low = world.company("Low", top, use_parent_credits=True)
    world.grant(top, 5)
    world.register(S, low)
    world.heartbeat(S)
    world.live(30 * DAY_MS)
    world.heartbeat(S)
    return world


@pytest.mark.parametrize(("script", "found_by"), PLANTED)
def test_what_is_planted_is_found(
    lived: World, tmp_path: Path, script: str, found_by: set[str]
) -> None:
    copy = tmp_path / "planted.db"
    source, target = sqlite3.connect(lived.path), sqlite3.connect(copy)
    try:
        source.backup(target)
        target.executescript(script)
    finally:
        source.close()
        target.close()
    assert {check.name for check in verify(copy) if check.findings} == found_by


def test_every_check_finds_something_planted(lived: World) -> None:
    names = {check.name for check in verify(lived.path)}
    assert names == set().union(*(found for _, found in PLANTED))


def test_every_check_looked_at_something(lived: World) -> None:
    assert all(check.checked > 0 for check in verify(lived.path))


def test_the_command_says_it_to_people_and_to_scripts(
    lived: World, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(lived.path.parent)
    assert main(["--data", folder]) == 0
    shown = capsys.readouterr().out
    assert "The ledger agrees with itself." in shown and "balances" in shown
    assert main(["--data", folder, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True and {check["name"] for check in told["checks"]} >= {"days", "tree"}


def test_a_difference_is_exit_code_1_and_names_the_account(
    lived: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    source, target = sqlite3.connect(lived.path), sqlite3.connect(folder / "fleetgate.db")
    source.backup(target)
    target.execute("UPDATE account SET balance = 31 WHERE kind = 'prepaid'")
    target.commit()
    source.close()
    target.close()
    assert main(["--data", str(folder)]) == 1
    shown = capsys.readouterr().out
    assert "prepaid:1: balance 31, sum of its transfers 30" in shown
    assert main(["--data", str(folder), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_what_cannot_be_read_is_exit_code_1_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path)]) == 1
    assert "no such file" in capsys.readouterr().err
    (tmp_path / "fleetgate.db").write_bytes(b"not a database" * 100)
    assert main(["--data", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_the_database_refuses_to_change_a_transfer(lived: World) -> None:
    connection = sqlite3.connect(lived.path, isolation_level=None)
    try:
        for statement in ("UPDATE transfer SET days = 1", "DELETE FROM transfer"):
            with pytest.raises(sqlite3.IntegrityError, match="never changed"):
                connection.execute(statement)
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("UPDATE account SET balance = -1 WHERE kind = 'pool'")
        first = connection.execute("SELECT id, operation_id FROM transfer LIMIT 1").fetchone()
        assert first[0] == transfer_id(first[1], 0)
    finally:
        connection.close()


def test_it_only_reads_and_waits_for_nobody(lived: World) -> None:
    def changing(tx: object) -> list[str]:
        # Asked inside of a writing transaction that has changed something.
        return [check.name for check in verify(lived.path) if check.findings]

    lived.register("1100000009", "2", activate="later")
    assert lived.write(changing) == []
