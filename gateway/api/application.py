"""The application for people: a route for each operation, pages, health, metrics."""

import asyncio

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.api import accepting, accounts, events, metrics, openapi, signing_in
from gateway.api.callers import LOCAL, client_address
from gateway.api.catalogue import PREFIX, all_operations
from gateway.api.envelope import envelope
from gateway.api.execution import answer_operation, identify
from gateway.api.health import Health
from gateway.api.idempotency import Answers
from gateway.api.importing import import_devices
from gateway.api.inputs import BODY_BYTES_MAX
from gateway.api.limits import HAND_OVERS, Limits
from gateway.api.own_host import own_host
from gateway.api.preparations import PREPARED
from gateway.api.services import SERVICES, Services, Sleep, services_of
from gateway.api.status import StatusFacts
from gateway.clock import Clock
from gateway.command.sections import GatewayConfiguration, is_loopback
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right, authorize
from gateway.operations.failed_attempts import Failures
from gateway.operations.registry import Operation, Site
from gateway.people.throttle import Throttle
from gateway.storage.store import Store
from gateway.telemetry import Telemetry
from gateway.web import enter, invitation_page, pages, password_page, statement_page


def make_app(
    store: Store,
    site: Site,
    telemetry: Telemetry,
    clock: Clock,
    configuration: GatewayConfiguration,
    *,
    sleep: Sleep = asyncio.sleep,
) -> web.Application:
    """The application; `serving.serve_people` lets it listen. `sleep` slows down guessing."""
    health = Health(store, telemetry, clock)
    app = web.Application(
        middlewares=[envelope(pages.failure), own_host(pages.failure)],
        # Bodies are read and limited by hand; this is the belt.
        client_max_size=BODY_BYTES_MAX,
    )
    app[SERVICES] = Services(
        store=store,
        site=site,
        telemetry=telemetry,
        clock=clock,
        configuration=configuration,
        answers=Answers(site.master_key),
        limits=Limits(_loop_time),
        hand_overs=Limits(_loop_time, allowance=HAND_OVERS),
        throttle=Throttle(clock.boot_ms),
        guesses=Throttle(clock.boot_ms),
        resets=Throttle(clock.boot_ms),
        failures=Failures(),
        health=health,
        facts=StatusFacts(store, site, telemetry, clock, health, configuration.mqtt.gateway),
        sleep=sleep,
    )
    for op in all_operations():
        app.router.add_route(op.method, PREFIX + op.path, _handler(op))
    document = msgspec.json.encode(openapi.document(site.version))

    async def openapi_json(_request: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    app.router.add_get(f"{PREFIX}/openapi.json", openapi_json)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/status", _status)
    events.listen(app)
    pages.add_routes(app)
    enter.add_routes(app)
    statement_page.add_routes(app)
    invitation_page.add_routes(app)
    password_page.add_routes(app)
    return app


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


# What sets or drops cookies, or tells how far it is; it goes through the registry like everything
# else.
OWN_HANDLERS: dict[str, Handler] = {
    "devices.import": import_devices,
    "events.follow": events.follow,
    "invitations.accept": accepting.accept,
    "password-resets.create": accounts.ask,
    "people.sign_in": signing_in.sign_in,
    "people.sign_out": signing_in.sign_out,
}


def _handler(op: Operation) -> Handler:
    own = OWN_HANDLERS.get(op.name)
    if own is not None:
        return own
    prepare = PREPARED.get(op.name)

    async def handler(request: web.Request) -> web.StreamResponse:
        return await answer_operation(request, op, prepare)

    return handler


async def _healthz(_request: web.Request) -> web.Response:
    """The loop is alive, which this answer proves."""
    return web.json_response({"ok": True})


async def _readyz(request: web.Request) -> web.Response:
    readiness = await services_of(request).health.readiness()
    return web.Response(
        body=msgspec.json.encode(readiness),
        status=200 if readiness.ready else 503,
        content_type="application/json",
    )


async def _metrics(request: web.Request) -> web.Response:
    services = services_of(request)
    address = client_address(request, services.http)
    # Behind a proxy every stranger comes from loopback.
    if services.http.behind_proxy or not (address == LOCAL or is_loopback(address)):
        await _require_operator(request)
    body = metrics.render(await services.facts.status())
    return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})


async def _status(request: web.Request) -> web.StreamResponse:
    """JSON for programs, a page for browsers."""
    if pages.wants_page(request):
        return await pages.status(request)
    await _require_operator(request)
    status = await services_of(request).facts.status()
    return web.Response(body=msgspec.json.encode(status), content_type="application/json")


async def _require_operator(request: web.Request) -> None:
    _, identity = await identify(request, services_of(request))
    if identity.principal.user_id is None:
        raise Refused(Code.SIGNED_OUT, "Sign in, or send `Authorization: Bearer …`.")
    if not authorize(identity.principal, Right.OPERATE):
        raise Refused(Code.FORBIDDEN, "Only operators see this.")
