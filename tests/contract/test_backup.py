"""A backup of either engine becomes the same installation in either one, but for what is void."""

import gzip
import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.command.database import database_of
from gateway.command.restore import UNFINISHED
from gateway.command.verify import main as verify_main
from gateway.domain.instants import DAY_MS, HOUR_MS
from gateway.domain.refusals import Refused
from gateway.domain.rights import ANONYMOUS
from gateway.join.ticket_keys import read_ticket_keys
from gateway.operations.joining import join
from gateway.operations.password_resets import HashedReset, new_link
from gateway.storage.address import Address
from gateway.storage.schema import metadata
from gateway.storage.whole_tables import all_tables, number_on
from tests.contract.backups import back_up, fail, installed, restored
from tests.contract.browsers import run
from tests.contract.invited import accept, invite, token_of
from tests.contract.lived import S, change, live_through, rows
from tests.contract.tunnel import S as TUNNELLED
from tests.contract.tunnel import Tunnel
from tests.contract.world import BEGIN_MS, SITE, World
from tests.databases import Databases
from wire.join import JoinRequest, decode_join_string

CHANGED = {
    "audit",
    "audit_seal",
    "device_live",
    "event",
    "installation",
    "join_code",
    "outbox",
    "relay",
    "session",
    "sign_in",
}


def content(address: Address) -> dict[str, list[tuple[Any, ...]]]:
    """All rows; truth values as numbers, as one of the engines has them."""
    return {
        table.name: sorted(
            (
                tuple(int(value) if isinstance(value, bool) else value for value in row)
                for row in rows(address, f"SELECT {_names(table.name)} FROM {table.name}")
            ),
            key=repr,
        )
        for table in metadata.sorted_tables
    }


def _names(table: str) -> str:
    return ", ".join(f'"{column.name}"' for column in metadata.tables[table].columns)


def digest_of(data: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert verify_main(["--data", str(data), "--json"]) == 0
    return str(json.loads(capsys.readouterr().out)["ledger_digest"])


def test_everything_comes_back_in_either_engine(
    world: World, data: Path, new_database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = back_up(data)
    assert out.stat().st_mode & 0o777 == 0o600
    target, address = restored(out, new_database)
    before, after = content(world.address), content(address)
    assert {name for name in before if before[name] != after[name]} <= CHANGED
    facts = {*before["installation"]} ^ {*after["installation"]}
    assert {key for key, _ in facts} == {"event_position"}
    assert len(before["heartbeat"]) >= 2 and before["transfer"]
    assert digest_of(target, capsys) == digest_of(data, capsys)
    for name in ("master.key", "ca.pem", "ca.key"):
        assert (target / "keys" / name).read_bytes() == (data / "keys" / name).read_bytes()
    for name in ("mqtt-logins.json", "ports.json"):
        assert (target / name).read_bytes() == (data / name).read_bytes()
    assert "tunnels.example.org" in (target / "gateway.toml").read_text()
    assert not {path.name for path in target.iterdir()} & {"log", UNFINISHED}
    assert all(path.stat().st_mode & 0o077 == 0 for path in target.rglob("*"))


def test_the_restored_installation_works_on(data: Path, new_database: str) -> None:
    _, address = restored(back_up(data), new_database)
    again = World(address)
    try:
        again.now_ms += 31 * DAY_MS
        again.alive(lived_ms=DAY_MS)
        company = again.company("Made after the restore")
        again.grant(company, 3)
        again.register("1100000077", company)
        again.heartbeat("1100000077")
        assert again.service("1100000077") == ("active", "paid")
        again.heartbeat(S)
        again.check()
    finally:
        again.close()


def test_an_engine_that_numbers_rows_goes_on_after_the_last(world: World) -> None:
    """The statement must hold for every table, with rows and without."""
    world.company("One")
    world.write(number_on)
    assert world.company("Two") == "2"


OPEN = (
    "INSERT INTO sign_in (token_hash, id, person_id, csrf, created_at, used_at, expires_at)"
    " VALUES ({bytes}, 'a', 1, 'csrf', 1, 1, 9)",
    "INSERT INTO idempotency VALUES ('user:1', 'key', {bytes}, 200, {bytes}, 1)",
    "UPDATE device_live SET need_full = false",
)


def test_what_is_good_once_or_for_a_while_is_void(
    tunnel: Tunnel, tmp_path: Path, new_database: str, databases: Databases
) -> None:
    world = tunnel.world
    opened = tunnel.open()
    made = world.do("join-codes.create", company_id=tunnel.acme, uses=3, register=True, credits=1)
    world.do("commands.send", serial=TUNNELLED, verb="refresh")
    for statement in OPEN:
        digits = "X'00'" if databases.engine == "sqlite" else "'\\x00'"
        change(world.address, statement.format(bytes=digits))
    data = installed(world.address, tmp_path / "data")
    before = read_ticket_keys(data / "keys" / "tickets")
    target, address = restored(back_up(data), new_database)

    now = World(address)
    try:
        code = decode_join_string(made["join"]).code
        request = JoinRequest(code, "1100000099", "", "c" * 64, "d" * 64)
        with pytest.raises(Refused):
            now.write(lambda tx: join(tx, SITE, request, "test"))
        shown = now.do("sessions.show", session_id=opened["id"])
        assert (shown["state"], shown["ended_because"]) == ("ended", "restored")
    finally:
        now.close()
    [session] = rows(address, "SELECT ended_by, settled FROM session")
    assert (session[0], bool(session[1])) == ("restore", True)
    assert rows(address, "SELECT count(*) FROM revocation WHERE reason = 'restored'") == [(1,)]
    verbs = [verb for verb, *_ in rows(address, "SELECT verb FROM audit ORDER BY id")]
    assert verbs[-2:] == ["session.ended", "installation.restored"]
    unanswered = "SELECT verb FROM outbox WHERE answered_at IS NULL"
    assert rows(address, unanswered) == [("close",)]
    unknown = "SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL AND outcome = 'unknown'"
    assert rows(address, unknown)[0][0] >= 2
    assert rows(address, "SELECT * FROM sign_in") == []
    assert len(rows(address, "SELECT * FROM idempotency")) == 1
    assert all(full for (full,) in rows(address, "SELECT need_full FROM device_live"))
    after = read_ticket_keys(target / "keys" / "tickets")
    assert not {key.kid for key in before} & {key.kid for key in after}


def test_links_and_accesses_that_may_have_ended_since_are_void(
    world: World, tmp_path: Path, new_database: str
) -> None:
    """Somebody withdraws, uses or ends them after the backup, and then it is restored."""
    acme = world.company("Acme")
    world.one_person(2, acme, "administrator")
    made = invite(world, acme)
    link = world.write(lambda tx: new_link(tx, SITE, 2))
    given = {"company_id": acme, "minutes": 60, "reason": "a look"}
    access = world.do("support-access.grant", person=2, **given)
    change(world.address, f"UPDATE person SET totp_reset_at = {BEGIN_MS + HOUR_MS} WHERE id = 2")
    _, address = restored(back_up(installed(world.address, tmp_path / "data")), new_database)

    now = World(address)
    try:
        assert accept(now, token_of(made)).startswith("invitation_over")
        [listed] = now.do("invitations.list", company=acme)["items"]
        assert (listed["id"], listed["state"]) == (made["id"], "expired")
        token = str(link).rpartition("/")[2]
        reset = HashedReset(token=token, password="long enough", password_hash="-")
        assert str(run(now, "password-resets.use", ANONYMOUS, reset)).startswith("link_over")
        [shown] = now.do("support-access.list", person=2, company_id=acme)["items"]
        assert (shown["id"], shown["in_force"], shown["ended_by"]) == (
            access["id"],
            False,
            "restore",
        )
        again = now.do("invitations.resend", invitation_id=made["id"])
        assert accept(now, token_of(again))["company_id"] == acme
    finally:
        now.close()
    assert rows(address, "SELECT totp_reset_at FROM person WHERE id = 2") == [(None,)]


def test_history_is_divided_by_days_as_the_gateway_does_it(
    data: Path,
    tmp_path: Path,
    postgres_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved_s = BEGIN_MS // 1000 + 31 * DAY_MS // 1000 - int(time.time())
    (tmp_path / "clock").write_text(str(moved_s))
    monkeypatch.setenv("FLEETGATE_TEST_CLOCK", str(tmp_path / "clock"))
    restored(back_up(data), postgres_database)
    assert rows(postgres_database, "SELECT count(*) FROM heartbeat_other") == [(0,)]
    assert rows(postgres_database, "SELECT count(*) FROM heartbeat")[0][0] >= 2


def test_a_backup_without_history_says_so(data: Path, new_database: str) -> None:
    _, address = restored(back_up(data, "--without-history"), new_database)
    assert rows(address, "SELECT * FROM heartbeat") == []
    assert rows(address, "SELECT * FROM transfer")


def test_the_password_of_the_database_stays_outside(
    data: Path, databases: Databases, postgres_database: str
) -> None:
    if databases.engine == "postgresql":
        (data / "db-pass").write_text("hidden-word\n")
        path = data / "gateway.toml"
        path.write_text(
            path.read_text().replace("[database]", '[database]\npassword_file = "db-pass"')
        )
    out = back_up(data)
    assert b"hidden-word" not in out.read_bytes()
    with tarfile.open(out) as tar:
        files = [name for name in tar.getnames() if not name.startswith("tables/")]
        assert not [name for name in files if "pass" in name or "tickets" in name]
    secret = postgres_database.replace("postgres@", "postgres:other-word@")
    target, _ = restored(out, secret)
    assert "other-word" not in (target / "gateway.toml").read_text()
    assert database_of(target) == secret
    assert (target / "database-password").stat().st_mode & 0o777 == 0o600


def test_any_tar_program_reads_it(data: Path) -> None:
    out = back_up(data)
    with tarfile.open(out) as tar:
        names = tar.getnames()
        assert names[-1] == "manifest.json"
        manifest = json.load(tar.extractfile("manifest.json") or io.BytesIO())
        assert set(manifest["members"]) == set(names) - {"manifest.json"}
        assert set(manifest["tables"]) == {table.name for table in all_tables()}
        packed = tar.extractfile("tables/transfer.jsonl.gz")
        assert packed is not None
        lines = gzip.decompress(packed.read()).splitlines()
        assert len(lines) == manifest["tables"]["transfer"]["rows"] == manifest["transfers"]


def test_a_ledger_that_was_wrong_already_is_told_and_comes_back(
    databases: Databases, tmp_path: Path, new_database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    address = databases.make()
    world = World(address)
    live_through(world)
    world.close()
    data = installed(address, tmp_path / "data")
    change(address, "DELETE FROM monitored_day")
    change(address, "UPDATE account SET balance = balance + 1 WHERE kind = 'pool'")
    assert fail(capsys, verify_main, "--data", data) == ""
    out = back_up(data)
    assert "balances" in capsys.readouterr().err
    restored(out, new_database)
    assert "balances" in capsys.readouterr().err
    databases.drop(address)
