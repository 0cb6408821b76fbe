"""The whole API, asked by everybody: what it answers is what its OpenAPI document says.

schemathesis makes the requests, such as fit the document and such as do not. Ids that exist are
put into the document first: otherwise nearly every answer would be that there is no such thing.
"""

import asyncio
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import insert

from gateway.domain.rights import Role, Scope
from gateway.operations.joining import join
from gateway.people import sign_ins
from gateway.people.accounts import make_person, make_token
from gateway.people.tokens import new_api_token, new_sign_in_token
from gateway.storage.address import Address
from gateway.storage.migrate import migrate
from gateway.storage.schema import membership
from gateway.storage.transaction import Transaction
from tests.api_server import ApiServer, api_server
from tests.conftest import SummaryRow
from tests.relay_row import one_relay
from wire.join import JoinRequest, decode_join_string

OPERATOR, SIGNED_OUT, TOKEN = "operator", "signed out", "token to look"
CALLERS = (*(role.value for role in Role), OPERATOR, TOKEN, SIGNED_OUT)
SERIALS = ("0000000001", "0000000002")
UNKNOWN_SERIAL = "0000000009"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES, EXAMPLES_LONG = 1, 40  # of each operation and kind of request
# It answers without an end; its own tests follow it.
ENDLESS = frozenset({"events.follow"})
WAIT_S_MAX = 20.0

Known = dict[str, tuple[str, ...]]
Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """A server with a few companies in it: its document, and how the caller is known to it."""

    url: str
    document: dict[str, Any]
    headers: Headers


def _credentials(tx: Transaction, caller: str, company_id: str) -> Headers:
    """Of somebody with this role in the company; browsers' requests, but for tokens."""
    if caller == SIGNED_OUT:
        return {}
    email = f"asking-{caller.replace(' ', '-')}@example.org"
    person_id = make_person(tx, email, caller, "-", operator=caller == OPERATOR)
    role = {OPERATOR: None, TOKEN: Role.ADMINISTRATOR}.get(caller, caller)
    if role is not None:
        row = {"person_id": person_id, "company_id": int(company_id), "role": Role(role).value}
        tx.run(insert(membership), {**row, "created_at": tx.now_ms})
    if caller == TOKEN:
        token = new_api_token()
        make_token(tx, person_id, caller, token=token, scopes=[Scope.READ], companies=[])
        return {"Authorization": f"Bearer {token}"}
    cookie = new_sign_in_token()
    csrf = sign_ins.begin(tx, person_id, cookie)
    return {"Cookie": f"fleetgate={cookie}", "X-CSRF-Token": csrf}


async def _prepare(server: ApiServer, caller: str) -> Asked:
    await server.store.write(one_relay)
    above = await server.company("Above")
    company = await server.company("In", parent_id=above)
    below = await server.company("Below", parent_id=company)

    async def make(noun: str, **content: Any) -> dict[str, Any]:
        made: dict[str, Any] = await server.done("POST", f"/api/v1/{noun}", content)
        return made

    await make("credits/grants", company_id=above, credits=50)
    moved = await make("credits/moves", source=above, target=company, credits=20)
    for serial in SERIALS:
        await make("devices", serial=serial, company_id=company, activate="later")
    await make(f"devices/{SERIALS[0]}/activate", credits=1)
    told = decode_join_string((await make(f"devices/{SERIALS[0]}/join"))["join"])
    request = JoinRequest(told.code, SERIALS[0], "00:1E:42:00:00:01", "a" * 64, "b" * 64)
    await server.store.write(lambda tx: join(tx, server.site, request, "test"))
    plc: dict[str, Any] = {"name": "plc", "target": "10.0.0.7:502", "protocol": "tcp"}
    saved = await make("targets", serial=SERIALS[0], **plc)
    opened = await make("sessions", serial=SERIALS[0], protocol="http")
    code = await make("credits/codes", company_id=company, credits=1)
    serials = (*SERIALS, UNKNOWN_SERIAL)
    companies = (above, company, below)
    known: Known = dict.fromkeys(("serial", "broken"), serials)
    known |= dict.fromkeys(("company_id", "company", "parent_id", "source", "target"), companies)
    known |= {
        "target_id": (saved["id"],),
        "session_id": (opened["id"],),
        "code_id": (code["id"],),
        "transfer": (moved["transfers"][0]["id"],),
    }
    document = with_known(await server.done("GET", "/api/v1/openapi.json"), known)
    headers = await server.store.write(lambda tx: _credentials(tx, caller, company))
    return Asked(server.url, document, headers)


def with_known(document: dict[str, Any], known: Known) -> dict[str, Any]:
    """The document with these ids in the place of any text, in every other request."""
    changed = deepcopy(document)
    for op in _operations(changed):
        places = [(one["name"], one, "schema") for one in op["parameters"]]
        for body in op.get("requestBody", {}).get("content", {}).values():
            fields = body["schema"]["properties"]
            places += [(name, fields, name) for name in fields]
        for name, where, key in places:
            if name in known and where[key].get("type") == "string":
                where[key] = {"anyOf": [{"enum": list(known[name])}, where[key]]}
    return changed


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def ask_everything(asked: Asked, examples: int) -> tuple[int, list[str]]:
    """Asks each operation in both ways: how many requests that were, and what was wrong."""
    count = 0
    wrong: list[str] = []
    schema = schemathesis.openapi.from_dict(asked.document)
    with requests.Session() as session:
        for found in schema.get_all_operations():
            op = found.ok()  # type: ignore[union-attr]  # whatever it is, it fails the test
            if op.definition.raw["operationId"] in ENDLESS:
                continue
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

                @settings(
                    max_examples=examples,
                    deadline=None,
                    database=None,
                    phases=(Phase.generate,),
                    suppress_health_check=list(HealthCheck),
                )
                @given(op.as_strategy(generation_mode=mode))
                def ask(case: schemathesis.Case[Any]) -> None:
                    nonlocal count
                    count += 1
                    answer = case.call(
                        base_url=asked.url,
                        session=session,
                        headers=dict(asked.headers),
                        timeout=WAIT_S_MAX,
                    )
                    case.validate_response(answer, checks=CHECKS)

                try:
                    ask()
                except FailureGroup as failures:
                    wrong += [f"{op.label}: {one}" for one in failures.exceptions]
    return count, wrong


async def _compared(folder: Path, database: Address, caller: str, examples: int) -> int:
    """How many answers were compared; each that does not fit is told."""
    async with api_server(folder, database) as server:
        asked = await _prepare(server, caller)
        count, wrong = await asyncio.to_thread(ask_everything, asked, examples)
    assert not wrong, "\n".join(wrong)
    return count


@pytest.mark.timeout(120)
@pytest.mark.parametrize("caller", CALLERS)
async def test_answers_are_those_of_the_document(tmp_path: Path, caller: str) -> None:
    migrate(tmp_path / "asked.db")
    assert await _compared(tmp_path, tmp_path / "asked.db", caller, EXAMPLES) > 150


@pytest.mark.long
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("caller", CALLERS)
async def test_many_answers_are_those_of_the_document(
    tmp_path: Path, database: Address, caller: str, summary_row: SummaryRow
) -> None:
    count = await _compared(tmp_path, database, caller, EXAMPLES_LONG)
    engine = "sqlite" if isinstance(database, Path) else "postgresql"
    summary_row("API against its document", count, f"as {caller} on {engine}: all fit")
