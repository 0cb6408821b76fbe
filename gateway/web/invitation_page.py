"""The page behind the link of an invitation: it works without a script, in two languages."""

from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote

from aiohttp import web

from gateway.api.accepting import take_part
from gateway.api.callers import credential_of, set_cookie
from gateway.api.services import services_of
from gateway.domain.names import NAME_CHARS_MAX
from gateway.domain.refusals import STATUS, Code, Refused
from gateway.domain.rights import Role
from gateway.operations.accepting import AcceptInvitation, LookedAt, find
from gateway.operations.inviting import PATH
from gateway.operations.people import Me, show_person
from gateway.operations.registry import Call
from gateway.people.authentication import Identity, identity_of
from gateway.people.mail_texts import ROLES
from gateway.people.passwords import PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN
from gateway.people.tokens import TOKEN_CHARS_MAX
from gateway.storage.transaction import Transaction
from gateway.web.addresses import START
from gateway.web.languages import browser_language, gettext_noop
from gateway.web.pages import read_form
from gateway.web.password_page import UNFIT_PASSWORD
from gateway.web.rendering import render

# The address is the secret: nothing that is loaded or opened from the page learns more than our
# origin, which forms must still show (with `no-referrer` browsers would call it `null`).
_HEADERS = {"Referrer-Policy": "strict-origin", "Cache-Control": "no-store"}
_UNPROVEN = STATUS[Code.SIGNED_OUT][0]
# What is wrong with what was typed; everything else is told in other ways.
_WRONG = {
    (Code.CREDENTIALS_WRONG, None): gettext_noop("The password is wrong."),
    (Code.SIGNED_OUT, None): gettext_noop("Type the password."),
    (Code.VALIDATION, "password"): UNFIT_PASSWORD,
    (Code.VALIDATION, "name"): gettext_noop(
        "The name is too long, or holds a character that cannot be shown."
    ),
}


class Seen(NamedTuple):
    """What a page shows: an invitation, if it is good, and who looks at it."""

    shown: LookedAt | None
    invited: int | None
    identity: Identity
    me: Me | None


def add_routes(app: web.Application) -> None:
    """One page. HEAD of programs that look at links first tells nothing."""
    app.router.add_get(f"{PATH}/{{token}}", _look, allow_head=False)
    app.router.add_post(f"{PATH}/{{token}}", _accept)


async def _look(request: web.Request) -> web.Response:
    """Only looks: mail programs open links before their people do."""
    return _page(request, await _see(request))


async def _accept(request: web.Request) -> web.Response:
    form = await read_form(request)
    password, name = form.get("password", ""), form.get("name", "")
    seen = await _see(request)
    if seen.shown is None:
        return _page(request, seen)
    try:
        if len(password) > PASSWORD_CHARS_MAX:
            raise Refused(Code.VALIDATION, "password: too long", field="password")
        if len(name) > NAME_CHARS_MAX:
            raise Refused(Code.VALIDATION, "name: too long", field="name")
        given = AcceptInvitation(token=request.match_info["token"], password=password, name=name)
        joined = await take_part(request, given, form.get("csrf", ""))
    except Refused as error:
        return _refused(request, await _see(request), error, name[:NAME_CHARS_MAX])
    response = web.Response(status=303, headers={"Location": START, **_HEADERS})
    if joined.cookie:
        set_cookie(request, response, services_of(request).http, joined.cookie)
    return response


def _refused(request: web.Request, seen: Seen, error: Refused, name: str) -> web.Response:
    """The page again, with what was wrong. Raises what no page has words for."""
    status = STATUS[error.code][0]
    if seen.shown is None:
        return _page(request, seen)
    if error.code is Code.NAME_TAKEN:
        return _page(request, seen, state="member", status=status)
    if error.code is Code.OTHER_ACCOUNT:
        return _page(request, seen, status=status)
    wrong = _WRONG.get((error.code, error.field))
    if wrong is None and status == _UNPROVEN and _state(seen) == "known":
        # The password was right, and is not all that this account asks for.
        return _page(request, seen, state="second_factor", status=status)
    if wrong is None:
        raise error
    return _page(request, seen, wrong=wrong, name=name, status=status)


async def _see(request: web.Request) -> Seen:
    services = services_of(request)
    credential = credential_of(request, services.http)
    token = request.match_info["token"]

    def look(tx: Transaction) -> Seen:
        identity = identity_of(tx, credential)
        user_id = identity.principal.user_id
        me = None
        if user_id is not None:
            me = show_person(Call(tx, identity.principal, services.site), user_id)
        try:
            if len(token) > TOKEN_CHARS_MAX:
                return Seen(None, None, identity, me)
            found = find(tx, token)
        except Refused:
            return Seen(None, None, identity, me)
        return Seen(found.shown, found.person_id, identity, me)

    return await services.store.read(look)


def _state(seen: Seen) -> str:
    if seen.shown is None:
        return "over"
    if seen.me is not None:
        return "signed_in" if seen.me.id == str(seen.invited) else "other"
    return "new" if seen.invited is None else "known"


def _page(
    request: web.Request,
    seen: Seen,
    *,
    state: str = "",
    wrong: str = "",
    name: str = "",
    status: int = 200,
) -> web.Response:
    state = state or _state(seen)
    asked = request.query.get("lang", "")
    language = browser_language(request)
    plain = f"{PATH}/{quote(request.match_info['token'], safe='')}"
    values: dict[str, Any] = {
        "language": language,
        "state": state,
        "shown": seen.shown,
        "role": "" if seen.shown is None else ROLES[language][Role(seen.shown.role)],
        "me": seen.me,
        "csrf": seen.identity.csrf,
        "wrong": wrong,
        "name": name,
        "name_most": NAME_CHARS_MAX,
        "least": PASSWORD_CHARS_MIN,
        "most": PASSWORD_CHARS_MAX,
        "plain_address": plain,
        "address": f"{plain}?lang={language}" if asked else plain,
    }
    if state == "over":
        status = HTTPStatus.NOT_FOUND
    elif state == "other":
        status = HTTPStatus.CONFLICT
    text = render("invitation.html", **values)
    return web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS)
