"""The audit for people: who did what, with filters in the address, and as a file."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from gateway.domain.audit_sentences import VERBS
from gateway.domain.refusals import Code, Refused
from gateway.web.reading import Look, show

SHOWN_AT_ONCE = 100
FILTERS = ("serial", "verb", "actor", "subject")


def add_routes(app: web.Application) -> None:
    """One page; files come from the operation itself."""
    app.router.add_get("/audit", _audit)


async def _audit(request: web.Request) -> web.StreamResponse:
    query = {name: request.query.get(name, "").strip() for name in (*FILTERS, "from", "to")}

    def work(look: Look) -> dict[str, Any]:
        given: dict[str, Any] = {name: query[name] for name in FILTERS}
        given["from"] = _instant(look, "from", query["from"])
        given["to"] = _instant(look, "to", query["to"], whole_day=True)
        given["company"] = look.reader.company_id
        cursor = request.query.get("cursor", "")
        found = look.ask("audit.list", **given, limit=SHOWN_AT_ONCE, cursor=cursor)
        asked = {name: value for name, value in given.items() if value}
        kept = {name: value for name, value in query.items() if value}
        return {
            "room": "audit",
            "found": found,
            "query": query,
            "verbs": VERBS,
            "filtered": bool(kept),
            "older": urlencode({**kept, "cursor": found.next_cursor or ""}),
            "export": urlencode(asked),
        }

    return await show(request, "audit.html", work)


def _instant(look: Look, field: str, text: str, *, whole_day: bool = False) -> str:
    """The instant at which a day of the reader's begins, or ends. Raises `Refused`."""
    if not text:
        return ""
    try:
        day = date.fromisoformat(text)
        day += timedelta(days=1 if whole_day else 0)
    except (ValueError, OverflowError) as error:
        detail = f"{field}: a day such as 2027-01-31"
        raise Refused(Code.VALIDATION, detail, field=field) from error
    begins = datetime.combine(day, time(), look.reader.zone)
    return begins.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
