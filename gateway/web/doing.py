"""What forms do: any operation, as its registry says it, and trying it out before.

`/do/<operation>` runs it as the API does: the same rights, the same checks, the same transaction.
`/try/<operation>` says what it would cost. Both answer a browser without scripts with a page, and
htmx with the piece of a page that stands below the form.
"""

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import web

from gateway.api.callers import credential_of
from gateway.api.catalogue import all_operations
from gateway.api.execution import Asked, identify, perform
from gateway.api.idempotency import checked_key
from gateway.api.importing import perform_import
from gateway.api.preparations import PREPARED
from gateway.api.services import services_of
from gateway.domain.refusals import STATUS, Code, Refused
from gateway.operations.registry import Operation
from gateway.people.authentication import identity_of
from gateway.storage.transaction import Transaction
from gateway.web.addresses import local_address
from gateway.web.balances import balances, named_balances
from gateway.web.forms import Texts, given_of, read_fields
from gateway.web.reading import Look, reader_of, write
from gateway.web.rendering import has_template

# These set or drop cookies, or answer without an end; they have pages of their own.
NOT_FORMS = frozenset(
    {
        "events.follow",
        "invitations.accept",
        "password-resets.create",
        "password-resets.use",
        "people.sign_in",
        "people.sign_out",
    }
)


def add_routes(app: web.Application) -> None:
    """Two addresses for all operations that change something."""
    app.router.add_post("/do/{operation}", _do)
    app.router.add_post("/try/{operation}", _try)


def is_fragment(request: web.Request) -> bool:
    """Whether htmx asks, which puts the answer into the page that is there."""
    return request.headers.get("HX-Request") == "true"


async def _do(request: web.Request) -> web.Response:
    op = _operation(request)
    texts = await _fields(request, op)
    try:
        result = await _answer(request, op, texts, dry_run=False)
    except Refused as error:
        return await _refused(request, op, texts, error)
    if has_template(f"done/{op.name}.html"):
        values = {"result": result, "op": op, "then": _then(texts, result)}
        return await _piece(request, f"done/{op.name}.html", values, HTTPStatus.OK)
    following = _saying(_then(texts, result), op.name)
    if is_fragment(request):
        return web.Response(status=HTTPStatus.NO_CONTENT, headers={"HX-Redirect": following})
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": following})


async def _try(request: web.Request) -> web.Response:
    op = _operation(request)
    if not op.moves_credits:
        raise web.HTTPNotFound
    texts = await _fields(request, op)
    try:
        report = await _answer(request, op, texts, dry_run=True)
    except Refused as error:
        if "auto" in texts and error.code is Code.VALIDATION:
            return web.Response(content_type="text/html")  # the form is not filled in yet
        return await _refused(request, op, texts, error)
    values = {"report": report, "op": op, "texts": texts, "then": _then(texts, report["would"])}
    return await _piece(request, "tried.html", values, HTTPStatus.OK)


def _operation(request: web.Request) -> Operation:
    name = request.match_info["operation"]
    for op in all_operations():
        if op.name == name and op.writes and name not in NOT_FORMS:
            return op
    raise web.HTTPNotFound


async def _fields(request: web.Request, op: Operation) -> dict[str, list[str]]:
    """What the form says. Raises `Refused`; strangers send no more than usual."""
    if not op.body_bytes_max:
        return await read_fields(request)
    _, identity = await identify(request, services_of(request))
    if identity.principal.user_id is None:
        raise Refused(Code.SIGNED_OUT, "Sign in again.")
    return await read_fields(request, op.body_bytes_max)


async def _answer(request: web.Request, op: Operation, texts: Texts, *, dry_run: bool) -> Any:
    """What the operation answered, as JSON has it. Raises `Refused`."""
    services = services_of(request)
    csrf = _last(texts, "csrf")
    key = checked_key(_last(texts, "key")) if "key" in texts and not dry_run else None
    given: msgspec.Struct | Refused
    try:
        given = given_of(op, texts)
    except Refused as error:
        given = error  # who may not ask at all is told that first
    told = {name: texts[name] for name in sorted(texts) if name not in ("auto", "csrf", "key")}
    body = msgspec.json.encode(told)
    asked = Asked(
        op,
        credential_of(request, services.http),
        given,
        key,
        services.answers.request_hash(op.method, request.path, body) if key else b"",
        dry_run,
        csrf,
    )
    if op.name == "devices.import":
        done = await perform_import(request, services, asked)
    else:
        done = await perform(request, services, asked, PREPARED.get(op.name))
    return msgspec.json.decode(done.answer.body)


def _then(texts: Texts, result: Any) -> str:
    """Where the form goes on; `{id}` in it is what the answer says. An address of ours only."""
    following = _last(texts, "then")
    if isinstance(result, dict):
        for name in ("id", "serial", "company_id"):
            if isinstance(result.get(name), str):
                following = following.replace(f"{{{name}}}", quote(result[name], safe=""))
    return local_address(following)


def _saying(address: str, name: str) -> str:
    """The address with what was done, which stands before the part of the page that it names."""
    page, sharp, part = address.partition("#")
    return f"{page}{'&' if '?' in page else '?'}done={name}{sharp}{part}"


def _last(texts: Texts, name: str) -> str:
    return texts[name][-1] if texts.get(name) else ""


async def _refused(
    request: web.Request, op: Operation, texts: Texts, error: Refused
) -> web.Response:
    """What is wrong, beside the form that stays as it is; of credits, with what is there now."""
    if error.code is Code.SIGNED_OUT:
        raise error
    status = STATUS[error.code][0]
    values = {"refused": error, "op": op, "then": _then(texts, None), "texts": texts}
    return await _piece(request, "refused.html", values, status)


async def _piece(
    request: web.Request, template: str, values: dict[str, Any], status: int
) -> web.Response:
    """A piece of a page for htmx, a page of its own for browsers without scripts."""
    services = services_of(request)
    credential = credential_of(request, services.http)

    def read(tx: Transaction) -> str:
        identity = identity_of(tx, credential)
        if identity.principal.user_id is None:
            raise Refused(Code.SIGNED_OUT, "Sign in again.")
        look = Look(tx, reader_of(tx, request, identity, services), services)
        shown = {
            **values,
            "balances": balances,
            "look": look,
            "named_balances": named_balances,
            "piece": template,
        }
        outer = "piece.html" if is_fragment(request) else "answered.html"
        return write(look, outer, local_address(values["then"]), shown)

    text = await services.store.read(read)
    # Browsers write every answer above 400 to their console, and a refusal is no fault of a page.
    shown = HTTPStatus.OK if is_fragment(request) else status
    return web.Response(text=text, status=shown, content_type="text/html")
