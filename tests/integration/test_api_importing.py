"""Files of devices over HTTP and by command: one answer at the end, and how far it is meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.operations.importing import BODY_BYTES_MAX
from gateway.storage.address import Address
from tests.admin_command import admin
from tests.api_server import ApiServer, api_server

pytestmark = pytest.mark.either_engine

IMPORT = "/api/v1/devices/import"
IMPORTS = "/api/v1/devices/imports"


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


def file_of(count: int) -> str:
    lines = (f"{n:010d},Pump {n}," + "a note that makes the file long " * 4 for n in range(count))
    return "\n".join(["serial,name,notes", *lines])


async def test_a_large_file_has_one_answer_and_tells_how_far_it_is(server: ApiServer) -> None:
    company_id = await server.company()
    given = {"company_id": company_id, "csv": file_of(1_500), "file_name": "spring.csv"}
    asked = asyncio.create_task(server.done("POST", IMPORT, given))
    seen: list[Any] = []
    while not asked.done():
        seen += (await server.done("GET", f"{IMPORTS}?company={company_id}"))["items"]
    made = asked.result()
    assert (made["state"], made["new"], len(made["report"])) == ("done", 1_500, 1_500)
    assert {one["id"] for one in seen} <= {made["id"]}
    under_way = [one for one in seen if one["state"] == "checking" and one["lines"]]
    assert all(one["lines"] == 1_500 and one["done_at"] is None for one in under_way)
    assert under_way, "nobody could see how far it is"
    shown = await server.done("GET", f"{IMPORTS}/{made['id']}")
    assert (shown["state"], shown["checked"]) == ("done", 1_500)


async def test_a_refused_file_names_every_line_and_leaves_a_record(server: ApiServer) -> None:
    company_id = await server.company()
    given = {"company_id": company_id, "csv": "serial\n12\n0000000001\n\n34\n"}
    for path in (f"{IMPORT}?dry_run=true", IMPORT):
        status, found, response = await server.ask("POST", path, given)
        assert (status, found["code"], found["field"]) == (422, "validation", "serial")
        assert response.content_type == "application/problem+json"
        assert [(one["line"], one["serial"]) for one in found["lines"]] == [(2, "12"), (5, "34")]
        assert all(one["code"] == "validation" and one["field"] for one in found["lines"])
    items = (await server.done("GET", IMPORTS))["items"]
    assert [(one["state"], one["bad"]) for one in items] == [("refused", 2)]
    given["csv"] = "sreial\n0000000001\n"
    status, found, _ = await server.ask("POST", IMPORT, given)
    assert (status, found["field"]) == (422, "csv") and "nearest known: serial" in found["detail"]
    assert "lines" not in found
    assert (await server.done("GET", "/api/v1/devices"))["items"] == []


async def test_a_dry_run_says_what_would_be_and_leaves_no_trace(server: ApiServer) -> None:
    company_id = await server.company()
    grant = {"company_id": company_id, "credits": 1}
    await server.done("POST", "/api/v1/credits/grants", grant)
    given = {"company_id": company_id, "csv": "serial\n0000000001\n", "activate": True}
    tried = await server.done("POST", f"{IMPORT}?dry_run=true", given)
    assert tried["would"]["new"] == 1 and tried["left"][0]["days"] == 0
    assert (await server.done("GET", IMPORTS))["items"] == []
    assert (await server.done("GET", "/api/v1/devices"))["items"] == []
    assert (await server.done("POST", IMPORT, given))["days_paid"] == 30


async def test_the_same_key_imports_once(server: ApiServer) -> None:
    company_id = await server.company()
    given = {"company_id": company_id, "csv": file_of(3)}
    key = {"Idempotency-Key": "spring"}
    status, first, _ = await server.ask("POST", IMPORT, given, headers=key)
    assert status == 201
    status, second, response = await server.ask("POST", IMPORT, given, headers=key)
    assert (status, second) == (201, first)
    assert response.headers["Idempotency-Replayed"] == "true"
    assert len((await server.done("GET", IMPORTS))["items"]) == 1
    given["csv"] = file_of(4)
    status, found, _ = await server.ask("POST", IMPORT, given, headers=key)
    assert (status, found["code"]) == (409, "idempotency_conflict")
    (done,) = (await server.done("GET", IMPORTS))["items"]
    assert done["state"] == "done"


async def test_two_at_once_one_wins_and_the_other_says_why(server: ApiServer) -> None:
    company_id = await server.company()
    given = {"company_id": company_id, "csv": file_of(200)}
    told = await asyncio.gather(*(server.ask("POST", IMPORT, given) for _ in range(2)))
    assert sorted(status for status, _, _ in told) == [201, 409]
    refused = next(found for status, found, _ in told if status == 409)
    assert refused["code"] == "serial_unavailable" and len(refused["lines"]) == 200
    assert {one["state"] for one in (await server.done("GET", IMPORTS))["items"]} == {
        "done",
        "refused",
    }


async def test_strangers_and_giants_are_turned_away(server: ApiServer) -> None:
    company_id = await server.company()
    given = {"company_id": company_id, "csv": file_of(1_000)}
    status, found, _ = await server.ask("POST", IMPORT, given, token=None)
    assert (status, found["code"]) == (401, "signed_out")
    for chars, wanted in (
        (BODY_BYTES_MAX + 1, (413, "body_too_large")),
        (5_000_000, (422, "validation")),
    ):
        given["csv"] = "serial\n" + "x" * chars
        status, found, _ = await server.ask("POST", IMPORT, data=json.dumps(given).encode())
        assert (status, found["code"]) == wanted
    for text in ("serial\n0000000001\0\n", "serial,name\n0000000001,\ud800\n"):
        content = json.dumps({"company_id": company_id, "csv": text}).encode()
        status, found, _ = await server.ask("POST", IMPORT, data=content)
        assert (status, found["code"]) == (422, "validation")
    for other in ("999", ""):
        given = {"company_id": other, "csv": file_of(1)}
        status, found, _ = await server.ask("POST", IMPORT, given)
        assert (status, found["code"]) == (404, "not_found")
    assert (await server.done("GET", IMPORTS))["items"] == []


async def test_by_command_a_file_goes_in_comes_out_and_is_undone(
    server: ApiServer, tmp_path: Path
) -> None:
    company_id = await server.company()
    file = tmp_path / "spring.csv"
    file.write_text('serial;name\r\n0000000001;"=cmd()"\r\n0000000002;Pump\r\n', "utf-8-sig")
    words = ("devices", "import", "--company-id", company_id, "--file", str(file))
    code, out, error = await admin(server, *words, "--dry-run", "--json")
    assert code == 0 and json.loads(out)["would"]["new"] == 2, error
    assert "This was a dry run" in error
    code, out, error = await admin(server, *words)
    assert code == 0 and "0000000002" in out and "spring.csv" in out, error
    code, out, error = await admin(server, *words)
    assert code == 1 and out == ""
    assert "line 2 0000000001: The serial is registered already" in error
    assert "line 3 0000000002" in error
    code, out, _ = await admin(server, "devices", "export", "--company", company_id)
    assert code == 0 and "'=cmd()" in out and out.startswith("serial,name,")
    code, out, _ = await admin(server, "imports", "list", "--json")
    done = next(one["id"] for one in json.loads(out)["items"] if one["state"] == "done")
    code, out, error = await admin(server, "imports", "undo", done, "--yes", "--json")
    assert code == 0 and json.loads(out)["undone"] == 2, error
    code, _, error = await admin(server, "imports", "undo", done, "--yes")
    assert code == 1 and "too_late" in error


async def test_a_file_that_is_none_is_wrong_usage(server: ApiServer, tmp_path: Path) -> None:
    company_id = await server.company()
    file = tmp_path / "utf16.csv"
    file.write_text("serial\n0000000001\n", "utf-16")
    words = ("devices", "import", "--company-id", company_id, "--file")
    code, _, error = await admin(server, *words, str(file))
    assert code == 2 and "is not UTF-8" in error
    code, _, error = await admin(server, *words, str(tmp_path / "missing.csv"))
    assert code == 2 and "No such file" in error
    file.write_bytes(b"x" * 5_000_001)
    code, _, error = await admin(server, *words, str(file))
    assert code == 2 and "split it" in error
    code, _, error = await admin(server, *words, "-", typed="serial\n12\n")
    assert code == 2 and "line 2 12: serial: 6 to 32" in error
