"""The fleet: whether it is well, what it costs, and every device in a list that stays fresh."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from gateway.web.addresses import local_address
from gateway.web.choosing import keep
from gateway.web.closed_words import word_of
from gateway.web.first_run import Step, steps_of
from gateway.web.fleet_filters import (
    COLUMNS,
    FLEET,
    ROWS_AT_ONCE,
    ROWS_MAX,
    SIGNALS,
    Asked,
    chips,
    columns_of,
)
from gateway.web.reading import Look, show

COLUMNS_COOKIE = "fleetgate_columns"
# How long credits last is reckoned from every device: of many it is asked for by itself.
RECKONED_AT_ONCE_MAX = 5_000
PAYERS_SHOWN_MAX = 3
PRESENCES = ("online", "late", "offline", "never")
STATES = ("active", "unpaid", "off")


def add_routes(app: web.Application) -> None:
    """The first page after signing in, and its pieces."""
    app.router.add_get(FLEET, _fleet)
    app.router.add_get("/fleet/columns", _choose_columns)
    app.router.add_get("/fleet/facets", _facets)
    app.router.add_get("/fleet/lasting", _lasting)


async def _fleet(request: web.Request) -> web.StreamResponse:
    if any(not value for value in request.query.values()):
        # A form sends its empty fields, too.
        kept = [(name, value) for name, value in request.query.items() if value]
        raise web.HTTPSeeOther(f"{FLEET}?{urlencode(kept)}" if kept else FLEET)
    asked = Asked.of(request.query)
    kept_columns = request.cookies.get(COLUMNS_COOKIE, "").split(".")

    def work(look: Look) -> dict[str, Any]:
        company = look.reader.company_id
        counts = look.ask("devices.counts", company=company, **asked.given("presence", "state"))
        steps = () if asked.filters else first_steps(look, counts)
        found = look.ask(
            "devices.list",
            company=company,
            limit=asked.shown,
            sort=asked.sort,
            cursor=asked.cursor,
            **asked.given(),
        )
        look.learn_names(
            [one.company_id for one in found.items]
            + [one.service.payer_company_id for one in found.items]
        )
        # Of a narrowed list nobody knows how large the fleet is.
        few = counts.total <= RECKONED_AT_ONCE_MAX and not asked.filters
        word = partial(word_of, look.reader.language)
        return {
            "room": "devices",
            "asked": asked,
            "chips": chips(look, asked, word),
            "columns": columns_of(kept_columns),
            "all_columns": COLUMNS,
            "counts": counts,
            "events": look.events(company),
            "export": urlencode({**asked.given(), **({"company": company} if company else {})}),
            "found": found,
            "appends": asked.shown + ROWS_AT_ONCE <= ROWS_MAX,
            "lasting": lasting(look) if few else None,
            "matching": matching(asked, counts),
            "more": _more(asked, found.next_cursor),
            "presences": PRESENCES,
            "signals": SIGNALS,
            "states": STATES,
            "steps": steps,
        }

    return await show(request, "fleet.html", work)


def first_steps(look: Look, counts: Any) -> Sequence[Step]:
    """What an empty system says, and one whose first router was not heard yet."""
    heard = counts.total - (counts.presence or {}).get("never", 0)
    return () if heard else steps_of(look)


def _more(asked: Asked, next_cursor: str | None) -> str:
    """Where the rows after these are; a page that is as long as can be is followed by another."""
    if next_cursor is None:
        return ""
    if asked.shown + ROWS_AT_ONCE <= ROWS_MAX:
        return asked.address(shown=asked.shown + ROWS_AT_ONCE, cursor=asked.cursor)
    return asked.address(cursor=next_cursor)


def matching(asked: Asked, counts: Any) -> int | None:
    """How many devices the whole list has, where the counts say it."""
    presence, state = asked.filters.get("presence"), asked.filters.get("state")
    if presence and state:
        return None
    if presence:
        return int((counts.presence or {}).get(presence, 0))
    return int(counts.service[state] if state else counts.total)


def lasting(look: Look) -> list[tuple[str, str, Any]]:
    """Until when the credits last: id, name and forecast of the company that is chosen, else of
    those to which the reader belongs."""
    chosen = [(look.reader.company_id, look.reader.company_name)]
    if not look.reader.company_id:
        chosen = [(one.company_id, one.company_name) for one in look.reader.me.memberships]
    found = []
    for company_id, name in chosen[:PAYERS_SHOWN_MAX]:
        forecast = look.ask_or_none("companies.forecast", company_id=company_id)
        if forecast is not None:
            found.append((company_id, name, forecast))
    return found


async def _lasting(request: web.Request) -> web.StreamResponse:
    """The same as a piece of the page, of a fleet that is large."""
    return await show(request, "fleet_lasting.html", lambda look: {"lasting": lasting(look)})


async def _facets(request: web.Request) -> web.StreamResponse:
    """What tags, operators and firmwares there are, for the fields that narrow the list by them."""

    def work(look: Look) -> dict[str, Any]:
        return {"facets": look.ask("devices.facets", company=look.reader.company_id)}

    return await show(request, "fleet_facets.html", work)


async def _choose_columns(request: web.Request) -> web.Response:
    """Keeps which columns are shown in a cookie, which is no secret."""
    following = local_address(request.query.get("next", FLEET))
    response = web.Response(status=303, headers={"Location": following})
    chosen = columns_of(request.query.getall("column", []))
    keep(request, response, COLUMNS_COOKIE, ".".join(one.key for one in chosen))
    return response
