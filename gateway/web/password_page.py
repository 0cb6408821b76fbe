"""The pages for a forgotten password: they work without a script, in two languages."""

from typing import Any
from urllib.parse import quote

from aiohttp import web

from gateway.api.accounts import ask_for_reset, use_link
from gateway.api.services import services_of
from gateway.domain.refusals import STATUS, Code, Refused
from gateway.operations.password_resets import PATH, AskReset, UseReset, find
from gateway.people.accounts import EMAIL_CHARS_MAX
from gateway.people.passwords import PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN
from gateway.people.tokens import TOKEN_CHARS_MAX
from gateway.web.languages import browser_language, gettext_noop
from gateway.web.pages import read_form
from gateway.web.rendering import render

# The address may be the secret: nothing that is loaded or opened from the page learns more than
# our origin, which forms must still show (with `no-referrer` browsers would call it `null`).
_HEADERS = {"Referrer-Policy": "strict-origin", "Cache-Control": "no-store"}
UNFIT_EMAIL = gettext_noop("This is not an e-mail address.")
UNFIT_PASSWORD = gettext_noop("A password has %(least)s to %(most)s characters.")
_OVER = STATUS[Code.LINK_OVER][0]
_UNFIT = STATUS[Code.VALIDATION][0]


def add_routes(app: web.Application) -> None:
    """Two pages. HEAD of programs that look at links first tells nothing."""
    app.router.add_get(PATH, _ask)
    app.router.add_post(PATH, _ask_sent)
    app.router.add_get(f"{PATH}/{{token}}", _look, allow_head=False)
    app.router.add_post(f"{PATH}/{{token}}", _chosen)


async def _ask(request: web.Request) -> web.Response:
    return _page(request, "ask" if services_of(request).site.mail else "no_mail")


async def _ask_sent(request: web.Request) -> web.Response:
    """The same page for every address."""
    email = (await read_form(request)).get("email", "")[: EMAIL_CHARS_MAX + 1]
    try:
        answer = await ask_for_reset(request, AskReset(email=email))
    except Refused as error:
        if error.code is not Code.VALIDATION:
            raise
        return _page(request, "ask", UNFIT_EMAIL, email, status=_UNFIT)
    return _page(request, "sent" if answer.mail else "no_mail")


async def _look(request: web.Request) -> web.Response:
    """Only looks: mail programs open links before their people do."""
    token = request.match_info["token"]
    try:
        _require_short(token)
        await services_of(request).store.read(lambda tx: find(tx, token))
    except Refused:
        return _page(request, "over", status=_OVER)
    return _page(request, "choose")


async def _chosen(request: web.Request) -> web.Response:
    password = (await read_form(request)).get("password", "")
    token = request.match_info["token"]
    try:
        _require_short(token)
        await use_link(request, UseReset(token=token, password=password))
    except Refused as error:
        if error.code is Code.LINK_OVER:
            return _page(request, "over", status=_OVER)
        if error.code is Code.VALIDATION:
            return _page(request, "choose", UNFIT_PASSWORD, status=_UNFIT)
        raise
    return _page(request, "done")


def _require_short(token: str) -> None:
    if len(token) > TOKEN_CHARS_MAX:
        raise Refused(Code.LINK_OVER, "no link ends like this")


def _page(
    request: web.Request, state: str, wrong: str = "", email: str = "", *, status: int = 200
) -> web.Response:
    asked = request.query.get("lang", "")
    language = browser_language(request)
    token = request.match_info.get("token")
    plain = PATH if token is None else f"{PATH}/{quote(token, safe='')}"
    kept = f"?lang={language}" if asked else ""
    values: dict[str, Any] = {
        "language": language,
        "state": state,
        "wrong": wrong,
        "email": email,
        "email_most": EMAIL_CHARS_MAX,
        "least": PASSWORD_CHARS_MIN,
        "most": PASSWORD_CHARS_MAX,
        "address": plain + kept,
        "ask_address": PATH + kept,
        "plain_address": plain,
    }
    text = render("password_reset.html", **values)
    return web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS)
