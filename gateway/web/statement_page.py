"""A company's statement as a page that prints."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from gateway.api.catalogue import PREFIX
from gateway.domain.refusals import Code, Refused
from gateway.web.reading import Look, show
from gateway.web.statement_texts import (
    ALWAYS,
    BALANCE,
    BESIDE,
    LANGUAGES,
    TAKEN,
    words_of,
)

PATH = "/companies/{company_id}/statement"
_FIELDS = ("from", "to", "group_by")
_GROUPS = ("device", "child")


def add_routes(app: web.Application) -> None:
    """One page."""
    app.router.add_get(PATH, _page)


async def _page(request: web.Request) -> web.StreamResponse:
    given = {name: request.query[name] for name in _FIELDS if request.query.get(name)}
    given["company_id"] = request.match_info["company_id"]

    def work(look: Look) -> dict[str, Any]:
        if given.get("group_by", _GROUPS[0]) not in _GROUPS:
            raise Refused(Code.VALIDATION, "group_by: device or child", field="group_by")
        asked = {"from": look.now[:7], **given}
        made = msgspec.to_builtins(look.ask("companies.statement", **asked))
        language = look.reader.language
        others = [one for one in LANGUAGES if one != language]
        return {
            "room": "credits",
            "w": words_of(language),
            "made": made,
            "balance": _shown(made, BALANCE),
            "beside": _shown(made, BESIDE),
            "taken": TAKEN,
            "files": _addresses(f"{PREFIX}/companies", made, "format", ("csv", "csv-excel")),
            "others": _addresses("/companies", made, "lang", others),
        }

    return await show(request, "statement.html", work)


def _addresses(before: str, made: Any, field: str, values: Sequence[str]) -> dict[str, str]:
    """The same statement as something else, by value of the field."""
    fields = {name: made[name] for name in _FIELDS}
    address = f"{before}/{made['company_id']}/statement"
    return {value: f"{address}?{urlencode({**fields, field: value})}" for value in values}


def _shown(made: Any, names: list[str]) -> list[str]:
    lines = [made, *made["children"]]
    return [name for name in names if name in ALWAYS or any(one["total"][name] for one in lines)]
