"""Search: a device or a company by anything it is called, as a page and as one types."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.domain.search_text import QUERY_CHARS_MAX
from gateway.web.languages import gettext_noop as _
from gateway.web.reading import Look, show

FOUND_MAX = 20
FOUND_WHILE_TYPING_MAX = 10
# By what a thing was found; its serial and its name stand there anyway.
MATCHED: Mapping[str, str] = {
    "serial": _("Serial"),
    "name": _("Name"),
    "alias": _("Alias"),
    "reference": _("Reference"),
    "mac": _("MAC address"),
    "imei": "IMEI",
    "iccid": "ICCID",
    "tag": _("Tag"),
}


def add_routes(app: web.Application) -> None:
    """The page works without a script; the piece stands below the field as one types."""
    app.router.add_get("/search", _page)
    app.router.add_get("/search/found", _piece)


async def _page(request: web.Request) -> web.StreamResponse:
    return await show(
        request, "search.html", lambda look: {"room": "search", **_found(look, request, FOUND_MAX)}
    )


async def _piece(request: web.Request) -> web.StreamResponse:
    return await show(
        request, "search_found.html", lambda look: _found(look, request, FOUND_WHILE_TYPING_MAX)
    )


def _found(look: Look, request: web.Request, limit: int) -> dict[str, Any]:
    typed = request.query.get("q", "").strip()[:QUERY_CHARS_MAX]
    hits = look.ask("search.find", q=typed, limit=limit).items if typed else []
    return {
        "typed": typed,
        "groups": [
            ("devices", [one for one in hits if one.kind == "device"]),
            ("companies", [one for one in hits if one.kind == "company"]),
        ],
        "count": len(hits),
        "full": len(hits) == limit,
        "matched": MATCHED,
    }
