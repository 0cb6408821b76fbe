"""People: who has which role in which company, invitations, and for operators all accounts."""

from typing import Any

from aiohttp import web

from gateway.operations.registry import not_found
from gateway.web.closed_words import INVITATION
from gateway.web.reading import Look, show

SHOWN_AT_ONCE = 50


def add_routes(app: web.Application) -> None:
    """The people of the chosen company; one of them; the accounts of the installation."""
    app.router.add_get("/users", _users)
    app.router.add_get("/users/all", _accounts)
    app.router.add_get("/users/all/{user_id:[0-9]+}", _account_of)


async def _users(request: web.Request) -> web.StreamResponse:
    asked = request.query.get("q", "").strip()[:200]
    state = request.query.get("state", "")
    cursor = request.query.get("cursor", "")
    older = request.query.get("older", "")

    def work(look: Look) -> dict[str, Any]:
        chosen = look.reader.company_id
        invitations = None
        if look.may("invite", chosen or None):
            found = look.ask(
                "members.find", company=chosen, q=asked, cursor=cursor, limit=SHOWN_AT_ONCE
            )
            invitations = look.ask(
                "invitations.list",
                company=chosen,
                state=state if state in INVITATION else "",
                cursor=older,
                limit=SHOWN_AT_ONCE,
            )
        elif chosen:
            # An operator finds a company its people.
            found = look.ask("members.list", company_id=chosen, cursor=cursor, limit=SHOWN_AT_ONCE)
        else:
            found = None
        return {
            "room": "users",
            "found": found,
            "asked": asked,
            "state": state,
            "states": INVITATION,
            "invitations": invitations,
            "events": look.events(chosen),
        }

    return await show(request, "users.html", work)


async def _accounts(request: web.Request) -> web.StreamResponse:
    email = request.query.get("email", "").strip()[:254]
    cursor = request.query.get("cursor", "")

    def work(look: Look) -> dict[str, Any]:
        found = look.ask("users.list", email=email, cursor=cursor, limit=SHOWN_AT_ONCE)
        return {"room": "users", "found": found, "email": email}

    return await show(request, "accounts.html", work)


async def _account_of(request: web.Request) -> web.StreamResponse:
    number = int(request.match_info["user_id"][:18])

    def work(look: Look) -> dict[str, Any]:
        found = look.ask("users.list", cursor=str(number - 1) if number > 1 else "", limit=1)
        if not found.items or found.items[0].id != str(number):
            raise not_found("user")
        return {"room": "users", "user": found.items[0]}

    return await show(request, "account_of.html", work)
