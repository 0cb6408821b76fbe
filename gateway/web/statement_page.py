"""A company's statement as a page that prints."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from aiohttp import web

from gateway.api.catalogue import PREFIX, operation_called
from gateway.api.execution import identify, touch
from gateway.api.services import Services, services_of
from gateway.domain.instants import instant_text
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Principal
from gateway.operations.people import Me, show_person
from gateway.operations.registry import Call, execute
from gateway.storage.transaction import Transaction
from gateway.web.rendering import render
from gateway.web.statement_texts import (
    ALWAYS,
    BALANCE,
    BESIDE,
    LANGUAGES,
    TAKEN,
    language_of,
    words_of,
)

PATH = "/companies/{company_id}/statement"
_OPERATION = "companies.statement"
_FIELDS = frozenset({"from", "to", "group_by"})


def add_routes(app: web.Application) -> None:
    """One page."""
    app.router.add_get(PATH, _page)


async def _page(request: web.Request) -> web.Response:
    services = services_of(request)
    credential, identity = await identify(request, services)
    principal = identity.principal
    if principal.user_id is None:
        raise web.HTTPSeeOther(f"/login?next={quote(request.path_qs, safe='')}")
    await touch(services, credential, identity)
    now = instant_text(services.clock.wall_ms())
    given = {name: text for name, text in request.query.items() if name in _FIELDS and text}
    given.setdefault("from", now[:7])
    given["company_id"] = request.match_info["company_id"]
    me, made = await services.store.read(lambda tx: _made(tx, services, principal, given))
    accepted = request.headers.get("Accept-Language", "")
    language = language_of(request.query.get("lang", ""), accepted)
    text = render(
        "statement.html",
        language=language,
        w=words_of(language),
        me=me,
        csrf=identity.csrf,
        made=made,
        now=now,
        balance=_shown(made, BALANCE),
        beside=_shown(made, BESIDE),
        taken=TAKEN,
        files=_addresses(f"{PREFIX}/companies", made, "format", ("csv", "csv-excel")),
        others=_addresses(
            "/companies", made, "lang", [one for one in LANGUAGES if one != language]
        ),
    )
    return web.Response(text=text, content_type="text/html")


def _made(
    tx: Transaction, services: Services, principal: Principal, given: dict[str, str]
) -> tuple[Me, Any]:
    assert principal.user_id is not None
    op = operation_called(_OPERATION)
    try:
        asked = msgspec.convert(given, op.input)
    except msgspec.ValidationError as error:
        raise Refused(Code.VALIDATION, str(error), field="group_by") from error
    me = show_person(Call(tx, principal, services.site), principal.user_id)
    return me, msgspec.to_builtins(execute(tx, op, principal, services.site, asked))


def _addresses(before: str, made: Any, field: str, values: Sequence[str]) -> dict[str, str]:
    """The same statement as something else, by value of the field."""
    fields = {name: made[name] for name in ("from", "to", "group_by")}
    address = f"{before}/{made['company_id']}/statement"
    return {value: f"{address}?{urlencode({**fields, field: value})}" for value in values}


def _shown(made: Any, names: list[str]) -> list[str]:
    lines = [made, *made["children"]]
    return [name for name in names if name in ALWAYS or any(one["total"][name] for one in lines)]
