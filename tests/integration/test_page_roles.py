"""A role sees no link and no button beyond its rights, and what lies behind those is refused."""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields

from gateway.api.catalogue import operation_called
from gateway.domain.rights import Right, Role, roles_with
from gateway.storage.address import Address
from gateway.web import company_acts, credit_acts, device_acts, fleet_acts
from gateway.web.acts import Act
from tests.api_server import PASSWORD, ApiServer, api_server
from tests.browser.seeded import seed
from tests.integration.test_page_companies import member
from tests.integration.test_page_credits import Visitor, visiting

pytestmark = [pytest.mark.either_engine, pytest.mark.timeout(180)]

PAGES_MAX = 150
# These change what the reader sees of the others, or are read by a browser alone.
PASSED_OVER = ("/choose", "/companies/choose", "/static/", "/fleet/columns")
# One of several that will do.
ALSO = {"credits.give": "serial", "devices.act-many": "tag", "devices.move-many": "serials"}
ANYBODY = frozenset({Right.SIGNED_IN, Right.OWN_ACCOUNT, Right.PUBLIC})


def links_in(text: str) -> Iterator[str]:
    for href in re.findall(r'<a [^>]*?href="(/[^"#]*)', text):
        address = unescape(href)
        if not address.startswith(PASSED_OVER):
            yield address


def kind_of(address: str) -> str:
    """Pages of one kind differ by numbers and queries; some of each are enough."""
    path, _, query = address.partition("?")
    names = ",".join(sorted(one.partition("=")[0] for one in query.split("&")))
    return re.sub(r"[0-9a-f-]{8,}|\d+", "N", path) + "?" + names


async def crawl(visitor: Visitor) -> tuple[dict[str, str], set[str]]:
    """Pages by address, as far as links lead; operations that they have forms of."""
    waiting, seen = deque(["/devices"]), dict[str, str]()
    looked_at: dict[str, int] = {}
    operations: set[str] = set()
    while waiting and len(seen) < PAGES_MAX:
        address = waiting.popleft()
        if address in seen or looked_at.get(kind_of(address), 0) >= 2:
            continue
        looked_at[kind_of(address)] = looked_at.get(kind_of(address), 0) + 1
        language = "" if address.startswith("/api/v1/") else "en"
        text = await visitor.sees(address, language)  # fails where it is refused
        seen[address] = text
        if not address.startswith("/api/"):
            operations.update(re.findall(r'action="/do/([a-z.-]+)"', text))
            waiting.extend(links_in(text))
    return seen, operations


def all_acts(ids: Mapping[str, Any]) -> Iterator[tuple[str, str, Act]]:
    """Every dialog about what is in the visitor's own company, by its address, with its name."""
    for name, act in company_acts.ACTS.items():
        yield f"/companies/{ids['low']}/{name}", name, act
    for name, act in device_acts.ACTS.items():
        yield f"/devices/{ids['serial']}/{name}", name, act
    for name, act in credit_acts.ACTS.items():
        yield f"/credits/{name}?company_id={ids['low']}", name, act
    for name, act in fleet_acts.ACTS.items():
        yield f"/devices/act?action={name}&serials={ids['serial']}", name, act


def filled_in(name: str, act: Act, ids: Mapping[str, Any]) -> dict[str, str]:
    """The fields that the operation cannot do without."""
    low, serial = ids["low"], ids["serial"]
    known = {
        "action": name,
        "broken": ids["hostile"],
        "code": "AAAA-AAAA-AAAA-AAAA",
        "code_id": ids["code"],
        "company": low,
        "company_id": low,
        "currency": "EUR",
        "days": "1",
        "from": "2020-01-01",
        "minutes": "60",
        "per_credit": "1.85",
        "reason": "Printer",
        "request_id": ids["request"],
        "serial": serial,
        "serials": serial,
        "source": low,
        "tag": "port",
        "target": ids["side"],
        "target_id": ids["target"],
        "transfer": ids["transfer"],
    }
    needed = {
        one.encode_name
        for one in fields(operation_called(act.operation).input)
        if one.required or one.name == ALSO.get(act.operation)
    }
    return {one: known[one] for one in needed}


async def csrf_of(visitor: Visitor) -> str:
    text = await visitor.sees("/account")
    return text.split('name="csrf" value="')[1].split('"')[0]


def may(role: Role, right: Right) -> bool:
    return right in ANYBODY or role in roles_with(right)


async def check(server: ApiServer, ids: Mapping[str, Any], role: Role) -> None:
    """What somebody of the role in the company `low` is shown, and what is refused to them."""
    email = await member(server, ids["low"], role.value)
    async with visiting(server, email, PASSWORD) as visitor:
        seen, operations = await crawl(visitor)
        assert len(seen) > 5 and "/account" in seen, role
        beyond = {name for name in operations if not may(role, operation_called(name).right)}
        assert not beyond, role
        csrf = await csrf_of(visitor)
        refused = 0
        for address, name, act in all_acts(ids):
            if may(role, Right(act.right)):
                continue
            await visitor.sees(address, status=403)
            assert address not in seen
            given = {"csrf": csrf, **filled_in(name, act, ids)}
            following, text = await visitor.posts(act.operation, given)
            assert not following, (role, act.operation)
            assert re.search('data-code="(forbidden|not_found)"', text), (role, name, act, text)
            refused += 1
        assert refused, role


@pytest.mark.parametrize("role", [*Role])
async def test_no_role_sees_what_it_may_not_do(
    tmp_path: Path, database: Address, role: Role
) -> None:
    async with api_server(tmp_path, database) as server:
        await check(server, await seed(server), role)
