"""Amounts, ids and texts that do not fit, through every operation that takes one.

The operations and their fields come from the registry, so one that is added later is tried as well.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote, urlencode

import msgspec
import pytest
from sqlalchemy import text

from gateway.api.catalogue import PREFIX, all_operations
from gateway.api.inputs import fields_of
from gateway.domain.instants import instant_text
from gateway.domain.rights import Right
from gateway.operations.documents import CSV_TYPE
from gateway.operations.registry import Operation
from gateway.storage.address import Address
from tests.api_server import ApiServer, api_server

pytestmark = pytest.mark.either_engine

SERIAL = "1100000001"
# What is of one's own account is not for tokens, by which all this is asked.
WRITING = [
    op
    for op in all_operations()
    if op.writes and op.name != "people.sign_out" and op.right is not Right.OWN_ACCOUNT
]
# No whole number at all, whatever its limits.
NO_NUMBERS = ["1", "", "1.0", 1.5, True, False, [1], {"days": 1}, "0x1", " 1"]
HUGE = [2**31 * 10**6, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), -1, 1e30]
UNFIT_TEXTS = {
    "too long": "a" * 10_001,
    "a control character": "Acme\x1b[31m\r\nBcc: x",
    "turned around": "Acme \u202eemca\u2066",
    "a byte of nothing": "Acme\0",
    "half a character": "Acme\ud800",
    "a formula": "=cmd|' /C calc'!A0",
    "nothing": "",
    "a path": "../../companies/1",
}
NOT_STORABLE = ("a byte of nothing", "half a character")
NO_PRICES = ["-1", "-0", "1e3", "NaN", "Infinity", "1,85", "1.23456", "9" * 40, "", 1.85, 1, None]


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


class Place:
    """Two companies, one below the other, with credits and a device, and what requests name."""

    def __init__(self, server: ApiServer, acme: str, below: str, transfer: str) -> None:
        self.server = server
        self.known: dict[str, Any] = {
            "company_id": acme,
            "parent_id": None,
            "from_company_id": below,
            "payer_company_id": acme,
            "source": acme,
            "target": below,
            "to": acme,
            "serial": SERIAL,
            "serials": [SERIAL],
            "action": "extend",
            "transfer": transfer,
            "code": "a" * 32,
            "name": "Any",
            "role": "billing",
            "email": "a@example.org",
            "password": "correct horse battery",
            "reason": "late",
            "currency": "EUR",
            "per_credit": "1.85",
            "from": "2027-01-01",
            "verb": "report_full",
            "csv": "serial\n1100000009\n",
            "way": "web",
        }

    def fitting(self, op: Operation, about: str = "") -> dict[str, Any]:
        """What the operation must be given, as it could be; an amount if it takes one."""
        fields = fields_of(op.input)
        given = {}
        for field in msgspec.structs.fields(op.input):
            name, needed = field.encode_name, field.required
            if needed or (name == "days" and about != "credits"):
                given[name] = self.known.get(name, _any_of(fields[name].type))
        return given

    async def ask(self, op: Operation, given: dict[str, Any]) -> tuple[int, Any]:
        """The answer; what stands in the address is taken from what is given."""
        body = dict(given)
        segments = {name: quote(str(body.pop(name)), safe="") for name in op.path_fields}
        status, found, _ = await self.server.ask(op.method, PREFIX + _path(op, segments), body)
        return status, found

    async def digest(self) -> Any:
        """All that money is: transfers, balances, and what can become one."""
        statement = text(
            "SELECT (SELECT count(*) FROM transfer), (SELECT sum(balance) FROM account),"
            " (SELECT count(*) FROM account), (SELECT count(*) FROM credit_code),"
            " (SELECT count(*) FROM credit_request), (SELECT count(*) FROM price),"
            " (SELECT count(*) FROM company), (SELECT count(*) FROM device)"
        )
        row = await self.server.store.read(lambda tx: tx.one(statement))
        return tuple(row or ())


def _path(op: Operation, segments: dict[str, str]) -> str:
    return op.path.format(**segments)


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    for part in get_args(hint):
        yield from _parts(part)


def _any_of(hint: Any) -> Any:
    kinds = list(_parts(hint))
    for kind, value in ((str, "1"), (bool, True), (int, 1), (list, []), (dict, {})):
        if kind in kinds:
            return value
    return next((kind for kind in kinds if isinstance(kind, str)), "1")


def _is_number(hint: Any) -> bool:
    parts = list(_parts(hint))
    return int in parts and str not in parts and bool not in parts


def _is_text(hint: Any) -> bool:
    parts = list(_parts(hint))
    return str in parts and dict not in parts


def _limits(hint: Any) -> tuple[int | None, int | None]:
    """The least and the greatest that a field of numbers takes."""
    found = [part for kind in _parts(hint) for part in getattr(kind, "__metadata__", ())]
    metas = [part for part in found if isinstance(part, msgspec.Meta)]
    least = [meta.ge for meta in metas if meta.ge is not None]
    greatest = [meta.le for meta in metas if meta.le is not None]
    return (
        int(least[0]) if least else None,
        int(greatest[0]) if greatest else None,
    )


NUMBERS = [
    (op, name, field.type)
    for op in WRITING
    for name, field in fields_of(op.input).items()
    if _is_number(field.type)
]
TEXTS = [
    (op, name)
    for op in WRITING
    for name, field in fields_of(op.input).items()
    if _is_text(field.type) and name != "password"
]


async def begin(server: ApiServer) -> Place:
    acme = await server.company("Acme")
    below = await server.company("Below", parent_id=acme)
    grant = {"company_id": acme, "credits": 3}
    made = await server.done("POST", f"{PREFIX}/credits/grants", grant)
    device = {"serial": SERIAL, "company_id": below, "activate": "later"}
    await server.done("POST", f"{PREFIX}/devices", device)
    return Place(server, acme, below, made["id"])


def test_every_number_has_a_least_and_a_greatest() -> None:
    for op, name, hint in NUMBERS:
        least, greatest = _limits(hint)
        assert least is not None and least >= 0, (op.name, name)
        assert greatest is not None and greatest < 2**31, (op.name, name)


async def test_a_number_that_does_not_fit_is_refused_by_its_name(server: ApiServer) -> None:
    place = await begin(server)
    before = await place.digest()
    assert len(NUMBERS) > 5
    for op, name, hint in NUMBERS:
        least, greatest = _limits(hint)
        assert least is not None and greatest is not None
        unfit = [*NO_NUMBERS, *HUGE, least - 1, greatest + 1]
        if type(None) not in _parts(hint):
            unfit.append(None)
        for value in unfit:
            given = {**place.fitting(op, about=name), name: value}
            status, found = await place.ask(op, given)
            assert (status, found["code"]) == (422, "validation"), (op.name, name, value, found)
            assert found["field"] == name and name in found["detail"], (op.name, value, found)
    assert await place.digest() == before


async def test_both_amounts_none_and_missing_ones_are_refused(server: ApiServer) -> None:
    place = await begin(server)
    before = await place.digest()
    for op in WRITING:
        fields = fields_of(op.input)
        if not {"credits", "days"} <= fields.keys():
            continue
        given = place.fitting(op)
        if op.path.endswith("/requests"):
            given["company_id"] = place.known["from_company_id"]  # a root has nobody to ask
        unfit: list[dict[str, Any]] = [{**given, "credits": 1, "days": 30}]
        if not op.path.endswith("/accept"):  # which takes what was asked for
            unfit.append({k: v for k, v in given.items() if k not in ("credits", "days")})
        for one in unfit:
            status, found = await place.ask(op, one)
            if status == 404 and op.path_fields:
                continue  # what it is about is looked for first
            assert (status, found["code"]) == (422, "validation"), (op.name, one, found)
            assert "credits" in found["detail"] and "days" in found["detail"]
    for op in WRITING:
        for field in msgspec.structs.fields(op.input):
            name = field.encode_name
            if field.required and name not in op.path_fields:
                given = {k: v for k, v in place.fitting(op).items() if k != name}
                status, found = await place.ask(op, given)
                assert (status, found["code"], found["field"]) == (422, "validation", name)
    assert await place.digest() == before


@pytest.mark.parametrize("what", UNFIT_TEXTS)
async def test_texts_that_do_not_fit_are_refused_or_kept_as_they_are(
    server: ApiServer, what: str
) -> None:
    place = await begin(server)
    unfit = UNFIT_TEXTS[what]
    for op, name in TEXTS:
        hint = fields_of(op.input)[name].type
        value: Any = [unfit] if fields_of(op.input)[name].is_list else unfit
        if name in op.path_fields and (what in NOT_STORABLE or not unfit):
            continue  # no address can hold it
        before = await place.digest()
        given = {**place.fitting(op), name: value}
        if op.moves_credits or op.name in ("companies.change", "companies.move"):
            given.pop("days", None)  # nothing is meant to be done
        status, found = await place.ask(op, given)
        assert status < 500, (op.name, name, status, found)
        if status >= 400:
            assert await place.digest() == before, (op.name, name)
            assert "Traceback" not in str(found)
            if status == 422 and found.get("field"):
                assert found["field"] in fields_of(op.input), (op.name, found)
        else:
            assert what not in ("too long", *NOT_STORABLE), (op.name, name)
            kept = found.get("name") if isinstance(found, dict) else None
            if name == "name" and kept and "companies" in op.name:
                assert kept.isprintable(), (op.name, kept)
        assert hint is not None


async def test_names_of_companies_are_cleaned_or_refused(server: ApiServer) -> None:
    place = await begin(server)
    for bad in ("", "   ", "a" * 201, "a\tb\x07", "\u202eevil", "x\u2066y", "a\u2028\x85b\x00"):
        for op in WRITING:
            if op.name in ("companies.create", "companies.change"):
                status, found = await place.ask(op, {**place.fitting(op), "name": bad})
                assert (status, found["field"]) == (422, "name"), (op.name, bad, found)
    made = await server.done("POST", f"{PREFIX}/companies", {"name": "  =cmd()\t and  so on "})
    assert made["name"] == "=cmd() and so on"


async def test_prices_that_are_none_are_refused(server: ApiServer) -> None:
    place = await begin(server)
    place.known["company_id"] = place.known["from_company_id"]  # nobody sells to a root
    priced = [op for op in WRITING if "per_credit" in fields_of(op.input)]
    before = await place.digest()
    for op in priced:
        for value in NO_PRICES:
            status, found = await place.ask(op, {**place.fitting(op), "per_credit": value})
            assert (status, found["field"]) == (422, "per_credit"), (op.name, value, found)
    assert priced and await place.digest() == before


async def test_ids_that_nobody_has_are_all_the_same(server: ApiServer) -> None:
    place = await begin(server)
    before = await place.digest()
    ids = [
        (op, name)
        for op in WRITING
        for name in fields_of(op.input)
        if name.endswith("_id") or name in ("source", "target", "to", "transfer")
    ]
    for op, name in ids:
        for value in ("0", "-1", "999999999", "9" * 18, "9" * 40, "1e3", "١", "x", "1 OR 1=1"):
            given = {**place.fitting(op), name: value}
            status, found = await place.ask(op, given)
            if op.name.startswith("targets.") and name == "target":
                continue
            assert status in (404, 409, 422), (op.name, name, value, status, found)
            assert status != 409 or found["code"] != "internal"
    assert await place.digest() == before


async def test_the_same_company_twice_moves_nothing(server: ApiServer) -> None:
    place = await begin(server)
    acme = place.known["company_id"]
    before = await place.digest()
    tried = 0
    for op in WRITING:
        fields = fields_of(op.input)
        for one, other in (("source", "target"), ("company_id", "parent_id"), ("company_id", "to")):
            if one in fields and other in fields and op.name != "companies.create":
                tried += 1
                given = {**place.fitting(op), one: acme, other: acme}
                status, found = await place.ask(op, given)
                assert status in (409, 422), (op.name, status, found)
                assert found.get("field") in (one, other), (op.name, found)
    assert tried and await place.digest() == before


async def test_formulas_are_neutral_in_every_table(server: ApiServer) -> None:
    place = await begin(server)
    formula = "=cmd|' /C calc'!A0"
    below = place.known["from_company_id"]
    for name in ("name", "reference"):
        changed = {name: formula}
        await server.done("PATCH", f"{PREFIX}/companies/{below}", changed)
        await server.done("PATCH", f"{PREFIX}/devices/{SERIAL}", changed)
    tables = [op for op in all_operations() if op.file_type == CSV_TYPE]
    for op in tables:
        values = dict.fromkeys(op.path_fields, below)
        query = {"format": "csv", "from": _this_month(server)} if op.path_fields else {}
        given = query or {"format": "csv", "company": below}
        path = PREFIX + _path(op, values) + "?" + urlencode(given)
        status, found, _ = await server.ask("GET", path)
        assert status == 200, (op.name, found)
        lines = found.decode().splitlines()
        assert not any(cell.startswith(("=", '"=')) for line in lines for cell in line.split(","))


def _this_month(server: ApiServer) -> str:
    return instant_text(server.clock.wall_ms())[:7]
