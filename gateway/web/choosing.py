"""What a reader chooses for all pages: the language, and the company that lists are about."""

from aiohttp import web

from gateway.api.callers import is_secure
from gateway.api.services import services_of
from gateway.operations.registry import company_number
from gateway.web.addresses import local_address
from gateway.web.languages import COOKIE, LANGUAGES
from gateway.web.reading import ALL_COMPANIES, COMPANY_COOKIE, Look, show

KEPT_S = 31_536_000
OPTIONS_MAX = 50


def add_routes(app: web.Application) -> None:
    """Choices are addresses, so that they work without a script."""
    app.router.add_get("/choose", _choose)
    app.router.add_get("/companies/choose", _menu)
    app.router.add_get("/companies/options", _options)


async def _choose(request: web.Request) -> web.Response:
    """Keeps what was chosen in a cookie; it is no secret and gives no right."""
    following = local_address(request.query.get("next", ""))
    response = web.Response(status=303, headers={"Location": following})
    language = request.query.get("language", "")
    if language in LANGUAGES:
        keep(request, response, COOKIE, language)
    company = request.query.get("company", "")
    if company == ALL_COMPANIES:
        keep(request, response, COMPANY_COOKIE, company)
    elif company:
        keep(request, response, COMPANY_COOKIE, str(company_number(company)))
    return response


def keep(request: web.Request, response: web.Response, name: str, value: str) -> None:
    """Keeps a choice that is no secret and gives no right."""
    secure = is_secure(request, services_of(request).http)
    response.set_cookie(name, value, max_age=KEPT_S, secure=secure, httponly=True, samesite="Lax")


async def _menu(request: web.Request) -> web.StreamResponse:
    """The switcher's companies, found by a part of their name."""
    following = local_address(request.query.get("next", ""))

    def work(look: Look) -> dict[str, object]:
        asked = request.query.get("q", "")[:100]
        found = look.ask("companies.list", q=asked, limit=OPTIONS_MAX)
        return {"found": found, "following": following, "asked": asked}

    return await show(request, "choose_company.html", work)


async def _options(request: web.Request) -> web.StreamResponse:
    """The options of a field that takes a company."""

    def work(look: Look) -> dict[str, object]:
        asked = request.query.get("q", "")[:100]
        return {"found": look.ask("companies.list", q=asked, limit=OPTIONS_MAX)}

    return await show(request, "company_options.html", work)
