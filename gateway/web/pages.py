"""The pages: signing in, the status of the system, reading about the API."""

from urllib.parse import parse_qs, quote

from aiohttp import web

from gateway.api import failures, openapi, problems, signing_in
from gateway.api.callers import came_by_admin_socket, drop_cookie, set_cookie
from gateway.api.catalogue import PREFIX
from gateway.api.envelope import CONTENT_POLICY, FORM_ACTION
from gateway.api.execution import identify, read_body
from gateway.api.reference import type_text
from gateway.api.services import services_of
from gateway.domain.refusals import STATUS, Code, Refused
from gateway.domain.rights import Right, authorize
from gateway.operations.code_proof import CODE_CHARS_MAX, code_wrong
from gateway.operations.people import WRONG, SignIn
from gateway.people.accounts import EMAIL_CHARS_MAX
from gateway.people.passwords import PASSWORD_CHARS_MAX
from gateway.web import (
    account_page,
    assets,
    audit_page,
    choosing,
    companies_page,
    company_acts,
    company_settings_page,
    credit_acts,
    credits_page,
    device_acts,
    device_page,
    doing,
    fleet_acts,
    fleet_page,
    import_page,
    ledger_page,
    map_page,
    search_page,
    sessions_page,
    terminal_page,
    users_page,
)
from gateway.web.addresses import START, local_address
from gateway.web.enter import following_form_targets
from gateway.web.languages import browser_language
from gateway.web.reading import show
from gateway.web.rendering import render
from gateway.web.spoken import refusal_text, title_of

FORM_BYTES_MAX = 8 * 1024
FORM_FIELDS_MAX = 10
# The pages of those who are signed in, each with routes of its own.
ROOMS = (
    assets,
    choosing,
    doing,
    fleet_page,
    fleet_acts,
    search_page,
    map_page,
    import_page,
    device_acts,
    device_page,
    company_acts,
    companies_page,
    company_settings_page,
    users_page,
    credit_acts,
    credits_page,
    ledger_page,
    sessions_page,
    terminal_page,
    audit_page,
    account_page,
)


def wants_page(request: web.Request) -> bool:
    """Whether a browser asks, rather than a program."""
    return "text/html" in request.headers.get("Accept", "") and not came_by_admin_socket(request)


def failure(request: web.Request, found: problems.Problem) -> web.Response:
    """A problem for whoever asked: JSON, or a page."""
    answer = failures.response(found)
    if request.path.startswith(PREFIX) or not wants_page(request):
        return answer
    language = browser_language(request)
    values = {
        "problem": found,
        "title": title_of(language, Code(found.code)),
        "detail": refusal_text(language, found.detail),
    }
    page = _page(render("problem.html", language=language, **values), status=found.status)
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
    for room in ROOMS:
        room.add_routes(app)


def _page(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html")


async def _start(request: web.Request) -> web.Response:
    _, identity = await identify(request, services_of(request))
    raise web.HTTPSeeOther(START if identity.principal.user_id is not None else "/login")


# Signing in


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
    page = _page(render("login.html", language=browser_language(request), **values), status)
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


async def status(request: web.Request) -> web.StreamResponse:
    """The installation, for operators; everybody else has devices to look at."""
    services = services_of(request)
    _, identity = await identify(request, services)
    if identity.principal.user_id is None:
        raise web.HTTPSeeOther(f"/login?next={quote(request.path_qs)}")
    if not authorize(identity.principal, Right.OPERATE):
        raise web.HTTPSeeOther(START)
    found = await services.facts.status()
    return await show(request, "status.html", lambda _look: {"room": "status", "status": found})


# The API's reading page


async def _docs(request: web.Request) -> web.Response:
    document = openapi.document(services_of(request).site.version)
    language = browser_language(request)
    codes = [(code.value, STATUS[code][0], title_of(language, code)) for code in Code]
    page = render(
        "docs.html", language=language, document=document, codes=codes, type_text=type_text
    )
    return _page(page)
