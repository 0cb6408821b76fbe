"""The pages: signing in, the status of the system, reading about the API."""

from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

import msgspec
from aiohttp import web
from sqlalchemy import select

from gateway.api import failures, openapi, problems, signing_in
from gateway.api.callers import came_by_admin_socket, drop_cookie, set_cookie
from gateway.api.catalogue import PREFIX, operation_called
from gateway.api.envelope import CONTENT_POLICY, FORM_ACTION
from gateway.api.execution import identify, read_body, touch
from gateway.api.reference import type_text
from gateway.api.services import services_of
from gateway.domain.instants import instant_text
from gateway.domain.refusals import STATUS, Code, Refused
from gateway.domain.rights import Principal, Right, authorize
from gateway.operations.code_proof import CODE_CHARS_MAX, code_wrong
from gateway.operations.people import WRONG, Me, SignIn, show_person
from gateway.operations.registry import Call, execute
from gateway.people.accounts import EMAIL_CHARS_MAX
from gateway.people.passwords import PASSWORD_CHARS_MAX
from gateway.storage.schema import company
from gateway.storage.transaction import Transaction
from gateway.web.enter import following_form_targets
from gateway.web.rendering import assets, render

FORM_BYTES_MAX = 8 * 1024
FORM_FIELDS_MAX = 10
DEVICES_SHOWN_MAX = 50
KEPT_S = 31_536_000
START = "/status"


def wants_page(request: web.Request) -> bool:
    """Whether a browser asks, rather than a program."""
    return "text/html" in request.headers.get("Accept", "") and not came_by_admin_socket(request)


def failure(request: web.Request, found: problems.Problem) -> web.Response:
    """A problem for whoever asked: JSON, or a page."""
    answer = failures.response(found)
    if request.path.startswith(PREFIX) or not wants_page(request):
        return answer
    page = _page(render("problem.html", problem=found), status=found.status)
    for name in ("Retry-After",):
        if name in answer.headers:
            page.headers[name] = answer.headers[name]
    return page


def add_routes(app: web.Application) -> None:
    """Everything but /status, which serves programs as well."""
    app.router.add_get("/", _start)
    app.router.add_get("/login", _login)
    app.router.add_post("/login", _login_sent)
    app.router.add_post("/logout", _logout_sent)
    app.router.add_get("/api/docs", _docs)
    app.router.add_get("/static/{name}", _asset)


def _page(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html")


async def _start(request: web.Request) -> web.Response:
    _, identity = await identify(request, services_of(request))
    raise web.HTTPSeeOther(START if identity.principal.user_id is not None else "/login")


async def _asset(request: web.Request) -> web.Response:
    found = assets().get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    headers = {"ETag": f'"{found.digest}"'}
    if request.query.get("v") == found.digest:
        headers["Cache-Control"] = f"public, max-age={KEPT_S}, immutable"
    else:
        headers["Cache-Control"] = "no-cache"
    return web.Response(body=found.body, content_type=found.content_type, headers=headers)


# Signing in


def local_address(text: str) -> str:
    """Where to go after signing in: an address of ours, whatever the link said."""
    parts = urlsplit(text)
    if parts.scheme or parts.netloc or not text.startswith("/") or text.startswith("//"):
        return START
    return START if "\\" in text or not text.isprintable() else text


async def _login(request: web.Request) -> web.Response:
    _, identity = await identify(request, services_of(request))
    following = local_address(request.query.get("next", START))
    if identity.principal.user_id is not None:
        raise web.HTTPSeeOther(following)
    return _sign_in_page(request, following)


def _sign_in_page(
    request: web.Request,
    following: str,
    email: str = "",
    wrong: str = "",
    *,
    proof: str = "",
    status: int = 200,
) -> web.Response:
    """Asks for e-mail and password; with the proof of these, for the second factor's code."""
    values = {"following": following, "email": email, "wrong": wrong, "proof": proof}
    page = _page(render("login.html", **values), status)
    relay = services_of(request).configuration.relay
    beside = following_form_targets(following, relay.domain, relay.dial_port, tls=relay.tls)
    if beside:
        policy = CONTENT_POLICY.replace(FORM_ACTION, f"{FORM_ACTION} {beside}")
        page.headers["Content-Security-Policy"] = policy
    return page


async def read_form(request: web.Request) -> dict[str, str]:
    """The fields of a form that was sent. Raises `Refused`."""
    body = await read_body(request, FORM_BYTES_MAX)
    try:
        fields = parse_qs(
            body.decode(), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX, errors="strict"
        )
    except ValueError as error:
        raise Refused(Code.VALIDATION, "The form cannot be read.") from error
    return {name: values[0] for name, values in fields.items()}


async def _login_sent(request: web.Request) -> web.Response:
    form = await read_form(request)
    email, password = form.get("email", ""), form.get("password", "")
    code, proof = form.get("code", "").strip(), form.get("proof", "")
    following = local_address(form.get("next", START))
    try:
        if len(email) > EMAIL_CHARS_MAX or len(password) > PASSWORD_CHARS_MAX:
            raise Refused(Code.CREDENTIALS_WRONG, WRONG)
        if len(code) > CODE_CHARS_MAX:
            raise code_wrong()
        if not email.strip() or not (password or proof):
            raise Refused(Code.VALIDATION, "incomplete")
        given = SignIn(email=email, password=password, code=code)
        entered = await signing_in.enter(request, given, proof)
    except Refused as error:
        return _not_signed_in(request, following, email[:EMAIL_CHARS_MAX], proof, error)
    response = web.Response(status=303, headers={"Location": following})
    set_cookie(request, response, services_of(request).http, entered.token)
    return response


def _not_signed_in(
    request: web.Request, following: str, email: str, proof: str, error: Refused
) -> web.Response:
    """The form again, with what was wrong; or the next one. Raises what is no matter of forms."""
    if isinstance(error, signing_in.CodeNeeded):
        proof, wrong = error.proof, "code_missing" if proof else ""
    elif error.code is Code.CREDENTIALS_WRONG and error.field == "code":
        wrong = "code_wrong"
    elif error.code is Code.TOO_MANY_ATTEMPTS and error.field == "code":
        wrong = "code_too_often"
    elif error.code is Code.CREDENTIALS_WRONG:
        wrong, proof = "code_too_late" if proof else "sign_in_wrong", ""
    elif error.code is Code.VALIDATION:
        wrong = "sign_in_form_incomplete"
    else:
        raise error
    status = 200 if not wrong else STATUS[error.code][0]
    return _sign_in_page(request, following, email, wrong, proof=proof, status=status)


async def _logout_sent(request: web.Request) -> web.Response:
    form = await read_form(request)
    try:
        await signing_in.leave(request, form.get("csrf", ""))
    except Refused as error:
        if error.code is not Code.SIGNED_OUT:
            raise
    response = web.Response(status=303, headers={"Location": "/login"})
    drop_cookie(request, response, services_of(request).http)
    return response


# Status


class Fleet(NamedTuple):
    """The devices on the status page."""

    devices: list[dict[str, Any]]
    companies: dict[str, str]
    more: bool


async def status(request: web.Request) -> web.StreamResponse:
    """The status page; with `part` only what changes, for the page's own script."""
    services = services_of(request)
    credential, identity = await identify(request, services)
    principal = identity.principal
    if principal.user_id is None:
        if "part" in request.query:
            raise Refused(Code.SIGNED_OUT, "Sign in again.")
        raise web.HTTPSeeOther(f"/login?next={quote(request.path_qs)}")
    await touch(services, credential, identity)
    me, fleet = await services.store.read(lambda tx: _seen(tx, request, principal))
    values = {
        "me": me,
        "csrf": identity.csrf,
        "fleet": fleet,
        "now": instant_text(services.clock.wall_ms()),
        "version": services.site.version,
        # Only operators see the installation; everybody sees devices in reach.
        "status": await services.facts.status() if authorize(principal, Right.OPERATE) else None,
    }
    name = "status_part.html" if "part" in request.query else "status.html"
    return _page(render(name, **values))


def _seen(tx: Transaction, request: web.Request, principal: Principal) -> tuple[Me, Fleet]:
    services = services_of(request)
    assert principal.user_id is not None
    me = show_person(Call(tx, principal, services.site), principal.user_id)
    op = operation_called("devices.list")
    given = msgspec.convert({"limit": DEVICES_SHOWN_MAX}, op.input)
    found = msgspec.to_builtins(execute(tx, op, principal, services.site, given))
    numbers = {int(item["company_id"]) for item in found["items"]}
    rows = tx.all(select(company.c.id, company.c.name).where(company.c.id.in_(numbers)))
    names = {str(row.id): row.name for row in rows}
    return me, Fleet(found["items"], names, found["next_cursor"] is not None)


# The API's reading page


async def _docs(request: web.Request) -> web.Response:
    document = openapi.document(services_of(request).site.version)
    codes = [(code.value, *STATUS[code]) for code in Code]
    page = render("docs.html", document=document, codes=codes, type_text=type_text)
    return _page(page)
