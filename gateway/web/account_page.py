"""One's own account: name and language, password, second factor, tokens, sign-ins."""

from typing import Any

from aiohttp import web

from gateway.domain.rights import Scope
from gateway.operations.api_tokens import DAYS_MAX
from gateway.operations.registry import not_found
from gateway.people.passwords import PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN
from gateway.web.languages import gettext_noop as _
from gateway.web.reading import Look, show

SCOPES = {
    Scope.ALL: _("everything that you may"),
    Scope.READ: _("look at everything but credits"),
    Scope.DEVICES: _("register, activate, move and import devices, send commands"),
    Scope.REMOTE: _("open sessions and save targets"),
    Scope.CREDITS: _("see and move credits, read statements"),
    Scope.COMPANIES: _("make and change companies"),
    Scope.PEOPLE: _("invite and remove people"),
    Scope.OPERATE: _("operate the installation"),
}


def add_routes(app: web.Application) -> None:
    """The account, and the second factor by itself: some companies demand it before all else."""
    app.router.add_get("/account", _account)
    app.router.add_get("/account/token", _token)
    app.router.add_get("/account/leave/{membership_id:[0-9]+}", _leave)
    app.router.add_get("/account/delete", _delete)
    app.router.add_get("/account/second-factor", _second_factor)
    app.router.add_get("/account/second-factor/confirm", _confirm)


async def _account(request: web.Request) -> web.StreamResponse:
    def work(look: Look) -> dict[str, Any]:
        tokens = look.ask("tokens.list")
        named = {}
        if look.reader.principal.second_factor_needed:
            named = {"name_of_company": lambda _id: ""}  # nothing is there until it is set up
        else:
            look.learn_names(company for one in tokens.items for company in one.companies)
        return {
            **named,
            "room": "account",
            "least": PASSWORD_CHARS_MIN,
            "most": PASSWORD_CHARS_MAX,
            "tokens": tokens,
            "sign_ins": look.ask("sign-ins.list"),
            "scopes": {scope.value: words for scope, words in SCOPES.items()},
        }

    return await show(request, "account.html", work)


async def _token(request: web.Request) -> web.StreamResponse:
    scopes = {scope.value: words for scope, words in SCOPES.items()}
    values = {"room": "account", "scopes": scopes, "days_most": DAYS_MAX}
    return await show(request, "account_token.html", lambda _look: values)


async def _leave(request: web.Request) -> web.StreamResponse:
    number = request.match_info["membership_id"]

    def work(look: Look) -> dict[str, Any]:
        own = [one for one in look.reader.me.memberships if one.id == number]
        if not own:
            raise not_found("membership")
        return {"room": "account", "membership": own[0]}

    return await show(request, "account_leave.html", work)


async def _delete(request: web.Request) -> web.StreamResponse:
    return await show(request, "account_delete.html", lambda _look: {"room": "account"})


async def _second_factor(request: web.Request) -> web.StreamResponse:
    return await show(request, "second_factor.html", lambda _look: {"room": "account"})


async def _confirm(request: web.Request) -> web.StreamResponse:
    return await show(request, "second_factor_confirm.html", lambda _look: {"room": "account"})
