"""Credits: what a company has, who pays, how long it lasts, and what became of it."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from gateway.domain.notices import Notice
from gateway.domain.refusals import Code, Refused
from gateway.web.ledger_page import company_of, lines_of
from gateway.web.reading import Look, show
from gateway.web.writing import seconds_between

LINES = 20
COMPANIES_AT_ONCE = 50
CODES_AT_ONCE = 100
WAITING_MAX = 50
NOTICES_LOOKED_AT = 30
BANNERS_MAX = 3
BANNER_S = 14 * 86_400
SOON_DAYS = 30
PLOT_HEIGHT = 100
STATES = ("open", "redeemed", "expired", "deleted")
# Not that credits run dry or expire: the forecast on the same page says that as it is now.
_BANNERS = frozenset(
    {
        Notice.PARENT_LIMIT_USED.value,
        Notice.GRACE_BEGAN.value,
        Notice.CREDITS_MOVED_UP.value,
        Notice.CREDITS_TAKEN_BACK.value,
    }
)


def add_routes(app: web.Application) -> None:
    """The desk of a company's credits, its codes, and what it pays for a credit."""
    app.router.add_get("/credits", _credits)
    app.router.add_get("/credits/codes", _codes)
    app.router.add_get("/companies/{company_id:[0-9]+}/prices", _prices)


async def _credits(request: web.Request) -> web.StreamResponse:
    cursor, part = request.query.get("cursor", ""), request.query.get("q", "").strip()[:100]

    def work(look: Look) -> dict[str, Any]:
        company_id = company_of(look, request)
        if not company_id and not part and not cursor:
            found = look.companies().companies
            company_id = str(found[0].id) if len(found) == 1 else ""
        if company_id:
            return {"room": "credits", "table": None, **_desk(look, company_id)}
        if not look.may("see_enough"):
            raise Refused(Code.FORBIDDEN, "This needs the right see_enough in a company.")
        return {"room": "credits", "q": part, **_table(look, part, cursor)}

    return await show(request, "credits.html", work)


def _table(look: Look, part: str, cursor: str) -> dict[str, Any]:
    """A row for each company whose credits, or until when they last, the reader may see."""
    found = look.ask("companies.list", limit=COMPANIES_AT_ONCE, q=part, cursor=cursor)
    rows = []
    for company in found.items:
        forecast = look.ask_or_none("companies.forecast", company_id=company.id)
        if forecast is not None:
            rows.append({"company": company, "forecast": forecast})
    kept = {"q": part} if part else {}
    more = urlencode({**kept, "cursor": found.next_cursor}) if found.next_cursor else ""
    return {"table": rows, "more": more}


def _desk(look: Look, company_id: str) -> dict[str, Any]:
    """Everything about one company's credits that the reader may see."""
    forecast = look.ask("companies.forecast", company_id=company_id)
    credits = look.ask_or_none("companies.credits", company_id=company_id)
    told = _told(look, company_id)
    rows = look.ask_or_none("ledger.list", company=company_id, limit=LINES)
    return {
        "company": look.ask("companies.show", company_id=company_id),
        "several": len(look.ask("companies.list", limit=2).items) > 1,
        "credits": credits,
        "forecast": forecast,
        "plot": plot_of(forecast.balances),
        "today": _today(forecast),
        "dry_soon": _is_soon(look, forecast),
        "banners": _banners(look, told),
        "told": told[:10],
        "requests": look.ask_or_none(
            "credit-requests.list", company=company_id, state="open", limit=WAITING_MAX
        ),
        "codes": _open_codes(look, company_id),
        "prices": look.ask_or_none("companies.prices", company_id=company_id),
        "lines": None if rows is None else lines_of(rows.items, company_id),
    }


def _open_codes(look: Look, company_id: str) -> Any:
    if not look.may("move_credits", company_id):
        return None
    return look.ask("credit-codes.list", company=company_id, state="open", limit=WAITING_MAX)


def _today(forecast: Any) -> date | None:
    """The day on which the forecast begins, in UTC as the ledger reckons."""
    if not forecast.ahead:
        return None
    first = forecast.ahead[0]
    return date.fromisoformat(first.until) - timedelta(days=first.in_days - 1)


def _is_soon(look: Look, forecast: Any) -> bool:
    if not forecast.lasts_until or forecast.covered_by:
        return False
    left = date.fromisoformat(forecast.lasts_until) - date.fromisoformat(look.now[:10])
    return left.days <= SOON_DAYS


def plot_of(balances: Sequence[int]) -> str:
    """The path of an area: a step for each day, as high as what can be spent then."""
    most = max(balances, default=0)
    if not most:
        return ""
    steps = "".join(
        f"V{PLOT_HEIGHT - PLOT_HEIGHT * days / most:.1f}H{number}"
        for number, days in enumerate(balances, 1)
    )
    return f"M0 {PLOT_HEIGHT}{steps}V{PLOT_HEIGHT}Z"


def _told(look: Look, company_id: str) -> Sequence[Any]:
    found = look.ask_or_none("notices.list", company_id=company_id, limit=NOTICES_LOOKED_AT)
    return found.items if found is not None else ()


def _banners(look: Look, told: Sequence[Any]) -> list[Any]:
    fresh = (one for one in told if seconds_between(one.at, look.now) < BANNER_S)
    return [one for one in fresh if one.kind in _BANNERS][:BANNERS_MAX]


async def _codes(request: web.Request) -> web.StreamResponse:
    state = request.query.get("state", "")

    def work(look: Look) -> dict[str, Any]:
        if not look.may("move_credits"):
            raise Refused(Code.FORBIDDEN, "This needs the right move_credits in the company.")
        company_id = company_of(look, request)
        given = {"company": company_id, "state": state if state in STATES else ""}
        cursor = request.query.get("cursor", "")
        found = look.ask("credit-codes.list", **given, cursor=cursor, limit=CODES_AT_ONCE)
        kept = {name: value for name, value in given.items() if value}
        return {
            "room": "credits",
            "of_company": company_id,
            "codes": found,
            "state": state,
            "states": STATES,
            "older": urlencode({**kept, "cursor": found.next_cursor}) if found.next_cursor else "",
        }

    return await show(request, "credit_codes.html", work)


async def _prices(request: web.Request) -> web.StreamResponse:
    company_id = request.match_info["company_id"]

    def work(look: Look) -> dict[str, Any]:
        company = look.ask("companies.show", company_id=company_id)
        prices = look.ask("companies.prices", company_id=company_id)
        sells = company.parent_id is not None and look.may("see_statements", company.parent_id)
        return {"room": "credits", "company": company, "prices": prices, "sells": sells}

    return await show(request, "credit_prices.html", work)
