"""Hand-over to a session's own host name: who is signed in here is admitted there."""

import hashlib
import logging
import re
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from aiohttp import web
from sqlalchemy import select

from gateway.api.catalogue import operation_called
from gateway.api.execution import identify, touch
from gateway.api.limits import TooFast
from gateway.api.services import Services, services_of
from gateway.domain.refusals import STATUS, Code, Refused
from gateway.domain.rights import Principal
from gateway.operations.registry import execute
from gateway.people.authentication import Credential, identity_of
from gateway.storage.schema import session
from gateway.storage.transaction import Transaction
from gateway.web.languages import browser_language
from gateway.web.rendering import render
from wire.tickets import is_host_label

log = logging.getLogger(__name__)

PATH = "/enter"
RELAY_PATH = "/.fleetgate/enter"
TICKET_OPERATION = "sessions.ticket"
_STATE = re.compile(r"[A-Za-z0-9_-]{22,64}")
# The address behind this answer holds a ticket, and whoever goes back must get a new one.
_HEADERS = {"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
# What each refusal means to somebody who only opened a page; the others speak for themselves.
_WORDS = {
    Code.NOT_FOUND: "enter_not_yours",
    Code.FORBIDDEN: "enter_right_lost",
    Code.SESSION_OVER: "enter_over",
    Code.SERVICE_UNPAID: "enter_unpaid",
    Code.COMPANY_SUSPENDED: "enter_suspended",
    Code.NOT_JOINED: "enter_not_joined",
    Code.UNAVAILABLE: "enter_relay_away",
    Code.TOO_MANY_ATTEMPTS: "enter_too_often",
    Code.VALIDATION: "enter_damaged",
}


def add_routes(app: web.Application) -> None:
    """One page. HEAD would make a ticket that nobody can redeem."""
    app.router.add_get(PATH, _enter, allow_head=False)


def following_form_targets(following: str, domain: str, port: int, *, tls: bool) -> str:
    """Where the sign-in form may lead beside ourselves, for the content policy of its page.

    Browsers hold every redirect after a form against `form-action`, and the hand-over that
    follows a sign-in ends at a session's own host name.
    """
    if urlsplit(following).path != PATH:
        return ""
    return f"{'https' if tls else 'http'}://*.{domain}:{port}"


async def _enter(request: web.Request) -> web.Response:
    """A GET that makes a ticket, which is safe although other sites can cause it.

    The ticket goes nowhere but into the `Location` of this answer, which only the browser itself
    reads, and it is bound to the hash of a random state that this browser must hold as a cookie of
    the session's host name: the relay compares both. Another browser, or this one sent here with a
    state that was made elsewhere, gains nothing by it. What a foreign page can cause is that a
    person's own browser enters the person's own session, as typing its address would. The cookie
    of the sign-in is `SameSite=Lax`, so that only a navigation of the whole tab brings it along.
    """
    services = services_of(request)
    host, state = request.query.get("host", ""), request.query.get("state", "")
    if not is_host_label(host) or _STATE.fullmatch(state) is None:
        return _page(request, Refused(Code.VALIDATION, "host or state is not of the agreed form"))
    if request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
        return _page(request, Refused(Code.VALIDATION, "only a navigation leads here"))
    credential, identity = await identify(request, services)
    if identity.principal.user_id is None:
        return _to(f"/login?next={quote(request.path_qs, safe='')}")
    await touch(services, credential, identity)
    try:
        await services.hand_overs.take(identity.principal.name)
    except TooFast as error:
        answer = _page(request, Refused(Code.TOO_MANY_ATTEMPTS, "too many tickets within a minute"))
        answer.headers["Retry-After"] = str(error.retry_s)
        return answer
    try:
        address = await services.store.write(
            lambda tx: _ticket(tx, services, credential, host, state)
        )
    except Refused as error:
        log.info("hand-over refused host=%s code=%s", host, error.code.value)
        return _page(request, error)
    return _to(address)


def _ticket(
    tx: Transaction, services: Services, credential: Credential, host: str, state: str
) -> str:
    """The relay's address that takes the ticket. Raises `Refused`."""
    principal = identity_of(tx, credential).principal
    op = operation_called(TICKET_OPERATION)
    given = msgspec.convert(
        {
            "session_id": _own_session(tx, principal, host),
            "way": "web",
            "state": hashlib.sha256(state.encode()).hexdigest(),
        },
        op.input,
    )
    made = msgspec.to_builtins(execute(tx, op, principal, services.site, given))
    query = urlencode({"ticket": made["ticket"], "state": state})
    return f"{str(made['url']).rstrip('/')}{RELAY_PATH}?{query}"


def _own_session(tx: Transaction, principal: Principal, host: str) -> str:
    """Only the session's own person enters; to all others it does not exist."""
    row = tx.one(select(session.c.id, session.c.person_id).where(session.c.host == host))
    if row is None or row.person_id != principal.user_id:
        raise Refused(Code.NOT_FOUND, "no session of yours has this host name")
    return str(row.id)


def _to(address: str) -> web.Response:
    return web.Response(status=303, headers={"Location": address, **_HEADERS})


def _page(request: web.Request, error: Refused) -> web.Response:
    status = STATUS[error.code][0]
    words = _WORDS.get(error.code, "enter_other")
    if error.field == "way":
        words = "enter_not_web"
    text = render(
        "enter.html",
        language=browser_language(request),
        words=words,
        code=error.code.value,
        status=status,
    )
    return web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS)
