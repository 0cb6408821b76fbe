"""`fleetgate admin` against the real server: over the socket and over HTTP."""

import asyncio
import contextlib
import csv
import io
import json
import os
import pty
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.storage.address import Address
from tests.admin_command import COMMAND, ROOT, admin
from tests.api_server import PASSWORD, ApiServer, api_server, everything_works

pytestmark = pytest.mark.either_engine


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


async def test_the_owner_of_the_data_directory_does_everything_without_a_token(
    server: ApiServer,
) -> None:
    code, out, error = await admin(server, "companies", "create", "--name", "[red]Acme", "--json")
    assert code == 0, error
    company_id = json.loads(out)["id"]
    grant = ("credits", "grant", "--company-id", company_id, "--credits", "3")
    for _ in range(2):
        code, out, error = await admin(server, *grant, "--idempotency-key", "k1", "--json")
        assert code == 0 and json.loads(out)["days"] == 90, error
    assert "nothing changed" in error
    for serial in ("0000000001", "0000000002", "0000000003"):
        code, out, error = await admin(
            server,
            *("devices", "register", "--serial", serial, "--company-id", company_id),
            *("--activate", "true", "--no-auto-extend", "--tags", "a", "--tags", "b", "--json"),
        )
        made = json.loads(out)
        assert code == 0 and made["service"]["state"] == "active", error
        assert made["tags"] == ["a", "b"] and made["auto_extend"] is False
    code, out, _ = await admin(server, "devices", "list")
    assert code == 0 and out.count("0000000") == 3 and "presence" in out
    code, out, _ = await admin(server, "companies", "list")
    assert "[red]Acme" in out
    code, out, _ = await admin(server, "devices", "list", "--limit", "2")
    assert "--cursor 0000000002" in out
    code, out, _ = await admin(server, "devices", "list", "--limit", "2", "--all", "--json")
    assert len(json.loads(out)["items"]) == 3
    code, out, error = await admin(
        server,
        *("members", "create", company_id, "--email", "a@example.org", "--role", "billing"),
        *("--password", "-"),
        typed=f"{PASSWORD}\n",
    )
    assert code == 0 and "a@example.org" in out, error


async def test_errors_say_what_to_do_next_with_an_exit_code(
    server: ApiServer, tmp_path: Path
) -> None:
    for words, wanted, said in (
        (("companies", "show", "77"), 1, "companies list"),
        (("devices", "list", "--limit", "9999"), 2, "limit: from 1 to 500"),
        (("devices", "list", "--limit", "many"), 2, "whole number"),
        (("credits", "grant", "--credits", "1"), 2, "--company-id"),
        (("credits", "grant", "--company-id", "1", "--credits", "0"), 2, "a whole number >= 1"),
        (("credits", "grant", "--company-id", "1", "--days", "-1"), 2, "a whole number >= 1"),
        (("credits", "grant", "--company-id", "1", "--credits", "1.5"), 2, "or null, got a number"),
        (("credits", "grant", "--company-id", "1", "--credits", str(2**63)), 2, "<= 333333"),
        (("sessions", "open", "--serial", "0000000001", "--minutes", "721"), 2, "<= 720"),
        (("me", "erase", "--yes"), 2, "`--password -` reads it from standard input"),
        (("nothing", "at-all"), 2, "nothing"),
    ):
        code, out, error = await admin(server, *words)
        assert code == wanted and said in error, (words, error)
        assert "Traceback" not in error and out == ""
    code, _, error = await admin(None, "devices", "list", "--data", str(tmp_path / "other"))
    assert code == 1 and "fleetgate up --data" in error
    code, _, error = await admin(None, "me", "show", "--url", "http://127.0.0.1:1")
    assert code == 1 and "No answer" in error


async def test_settings_are_changed_and_left_to_those_above(server: ApiServer) -> None:
    company_id = await server.company("Acme")

    async def change(*words: str) -> Any:
        code, out, error = await admin(server, "settings", "change", company_id, *words, "--json")
        return json.loads(out)["settings"] if code == 0 else (code, error)

    brand = '{"name": "Acme", "logo": "https://acme.example.org/a.png"}'
    changed = await change("--no-shares", "--brand", brand, "--language", "es")
    assert changed["shares"]["value"] is False and changed["brand"]["value"]["name"] == "Acme"
    left = await change("--null", "shares", "--null", "require-totp", "--language", "null")
    assert not any(left[name]["set_here"] for name in ("shares", "require_totp", "language"))
    for words, said in (
        (("--brand", '{"logo": "http://x"}'), "--brand: logo: expected text matching"),
        (("--brand", '{"nam": "x"}'), "--brand: object contains unknown field `nam`"),
        (("--brand", "Acme"), "write it as JSON"),
        (("--idle-minutes", "3"), "--idle-minutes: expected a whole number >= 5"),
        (("--null", "brand"), "--null: one of extend-unheard, shares"),
        (("--null", "shares", "--shares"), "--null: shares is given a value, too"),
    ):
        code, error = await change(*words)
        assert code == 2 and said in error, (words, error)


async def test_exports_are_whole_and_as_programs_read_them(server: ApiServer) -> None:
    for name in ("Acme", 'Zürich;"Süd"', "Other"):
        await server.company(name)
    parts = ("audit", "export", "--all", "--limit", "1")
    _, out, _ = await admin(server, *parts, "--format", "json")
    ids = [one["id"] for one in json.loads(out)["items"]]
    assert len(ids) >= 3
    for kind, mark, delimiter in (("csv", "", ","), ("csv-excel", "\ufeff", ";")):
        code, out, error = await admin(server, *parts, "--format", kind)
        assert code == 0 and out.startswith(f"{mark}id{delimiter}at{delimiter}"), error
        head, *rows = csv.reader(io.StringIO(out), delimiter=delimiter)
        assert [row[0] for row in rows] == ids and {len(row) for row in rows} == {len(head)}
    code, out, error = await admin(server, "me", "export")
    assert code == 0 and json.loads(out)["me"]["operator"] is True, error


async def test_a_server_and_token_may_come_from_the_environment(server: ApiServer) -> None:
    environment = {"FLEETGATE_URL": server.url, "FLEETGATE_TOKEN": server.token}
    code, out, error = await admin(None, "me", "show", "--json", environment=environment)
    assert code == 0 and json.loads(out)["operator"] is True, error
    wrong = environment | {"FLEETGATE_TOKEN": "fgt_wrong"}
    code, _, error = await admin(None, "me", "show", environment=wrong)
    assert code == 1 and "FLEETGATE_TOKEN" in error and "fgt_wrong" not in error


async def test_status_and_help(server: ApiServer) -> None:
    everything_works(server)
    code, out, _ = await admin(server, "status", "--json")
    assert code == 0 and json.loads(out)["ready"] is True
    code, out, _ = await admin(server, "status")
    assert code == 0 and "devices.online" in out
    code, out, _ = await admin(None, "--help")
    assert code == 0 and "Exit codes" in out and "devices" in out
    code, out, _ = await admin(None, "devices", "register", "--help")
    assert code == 0 and "--company-id" in out and "required" in out
    code, out, _ = await admin(None, "members", "create", "--help")
    assert code == 0 and "`administrator` or `advanced`" in out
    code, out, _ = await admin(None, "credits", "grant", "--help")
    assert code == 0 and "--credits NUMBER" in out


async def test_a_cell_of_a_file_does_not_steer_the_terminal(
    server: ApiServer, tmp_path: Path
) -> None:
    file = tmp_path / "hostile.csv"
    file.write_text("serial\n\x1b[31mRED\n")
    company_id = await server.company("Acme")
    code, out, error = await admin(
        server, "devices", "import", "--company-id", company_id, "--file", str(file)
    )
    assert code == 2 and out == "" and "line 2" in error and "RED" in error
    assert "\x1b" not in error


async def test_what_cannot_be_undone_is_asked_about(server: ApiServer) -> None:
    company_id = await server.company("Acme")
    await admin(server, "credits", "grant", "--company-id", company_id, "--credits", "1")
    serial = "0000000001"
    await admin(server, "devices", "register", "--serial", serial, "--company-id", company_id)
    unregister = ("devices", "unregister", serial)

    async def is_there() -> bool:
        status, _, _ = await server.ask("GET", f"/api/v1/devices/{serial}")
        return status == 200

    # A script says so itself; what it would do can be seen first.
    code, _, error = await admin(server, *unregister)
    assert code == 2 and "--yes" in error and "--dry-run" in error
    code, out, _ = await admin(server, *unregister, "--dry-run", "--json")
    assert code == 0 and json.loads(out)["dry_run"] is True
    assert await is_there()
    # At a terminal it asks.
    code, said = await _at_a_terminal(server, *unregister, typed="n")
    assert code == 1 and "cannot be undone" in said and "nothing was done" in said
    assert await is_there()
    code, said = await _at_a_terminal(server, *unregister, typed="y")
    assert code == 0, said
    assert not await is_there()
    # What can be undone is not asked about, and everything else takes no --yes.
    code, _, error = await admin(server, "companies", "suspend", company_id, "--reason", "unpaid")
    assert code == 0, error
    code, _, error = await admin(server, "companies", "close", company_id, "--yes", "--json")
    assert code == 0, error
    code, _, error = await admin(server, "companies", "show", company_id, "--yes")
    assert code == 2 and "No such option" in error


async def _at_a_terminal(server: ApiServer, *words: str, typed: str) -> tuple[int, str]:
    """Exit code, and what the terminal showed."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *(*words, "--data", str(server.admin_socket.parent)),
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "100", "TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, f"{typed}\n".encode())
    shown = await asyncio.to_thread(_all_of, ours)
    os.close(ours)
    return await process.wait(), shown


def _all_of(terminal: int) -> str:
    """What is written to it until nobody has it open any more."""
    said = b""
    with contextlib.suppress(OSError):
        while more := os.read(terminal, 4096):
            said += more
    return said.decode()
