"""The listener on which devices join: the CA, joining, its status, and nothing else."""

import asyncio
import hashlib
import logging
import secrets
import ssl
from collections import Counter, OrderedDict, deque

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.api import failures, problems
from gateway.api.callers import address_group
from gateway.api.execution import read_body
from gateway.api.services import Sleep
from gateway.clock import Clock
from gateway.domain.refusals import Code, Refused
from gateway.operations import joining, recovering
from gateway.operations.registry import Site
from gateway.storage.store import Store, StoreBusy, StoreClosed
from gateway.telemetry import Telemetry
from wire.join import CA_PATH, JOIN_PATH, STATUS_PATH, JoinRequest

log = logging.getLogger(__name__)

BODY_BYTES_MAX = 8 * 1024
RECORD_CHARS_MAX = 4_096
# Codes have 128 bits, so this is about load and logs; a whole fleet may stand behind one address,
# and a failure there must not keep the others out. So only failed answers wait.
FAILURES_FREE = 20
WINDOW_MS = 60_000
DELAY_S_MAX = 5.0
WAITING_OF_ONE_ADDRESS_MAX = 50
ADDRESSES_MAX = 5_000
REFUSED = "This join was refused. Ask for a new join string."


class JoinBody(msgspec.Struct):
    """The body of `POST /api/v1/join`; members that are not known are left out."""

    code: str
    serial: str
    mqtt_password: str
    command_key: str
    lan_mac: str = ""


class FailedJoins:
    """Delays the answers to failed joins of an address that has many of them."""

    def __init__(self, clock: Clock, sleep: Sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._failures: OrderedDict[str, deque[int]] = OrderedDict()
        self._waiting: Counter[str] = Counter()

    async def wait(self, address: str) -> None:
        """Called with each failure. Raises `Refused` when very many wait already."""
        now_ms = self._clock.boot_ms()
        failures = self._failures.setdefault(address, deque(maxlen=FAILURES_FREE + 16))
        self._failures.move_to_end(address)
        if len(self._failures) > ADDRESSES_MAX:
            self._failures.popitem(last=False)
        failures.append(now_ms)
        while now_ms - failures[0] > WINDOW_MS:
            failures.popleft()
        over = len(failures) - FAILURES_FREE
        if over <= 0:
            return
        if self._waiting[address] >= WAITING_OF_ONE_ADDRESS_MAX:
            raise Refused(Code.TOO_MANY_ATTEMPTS, "Too many failed joins from this address.")
        self._waiting[address] += 1
        try:
            await self._sleep(min(DELAY_S_MAX, over * 0.5))
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]


class DevicesListener:
    """Its three handlers."""

    def __init__(
        self,
        store: Store,
        site: Site,
        telemetry: Telemetry,
        clock: Clock,
        ca_pem: bytes,
        sleep: Sleep,
    ) -> None:
        self._store = store
        self._site = site
        self._telemetry = telemetry
        self._clock = clock
        self._ca_pem = ca_pem
        self._failed = FailedJoins(clock, sleep)

    async def ca(self, _request: web.Request) -> web.Response:
        """The CA's certificate; the device knows it by its digest."""
        return web.Response(body=self._ca_pem, content_type="application/x-pem-file")

    async def join(self, request: web.Request) -> web.Response:
        """Admits a device, or says the one thing that is said to all others."""
        body = await read_body(request, BODY_BYTES_MAX)
        address = address_group(request.remote or "")
        try:
            found = msgspec.json.decode(body, type=JoinBody)
            asked = JoinRequest(
                found.code, found.serial, found.lan_mac, found.mqtt_password, found.command_key
            )
            answer = await self._store.write(
                lambda tx: joining.join(tx, self._site, asked, address)
            )
        except (Refused, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise await self._refusal(address) from error
        log.info("device joins serial=%s state=%s address=%s", asked.serial, answer.state, address)
        return web.json_response(answer.as_json())

    async def status(self, request: web.Request) -> web.Response:
        """Where a device stands that shows the record of an earlier join; after the restore of an
        older backup this is how it becomes known again."""
        serial = request.query.get("serial", "")
        record = request.query.get("record", "")
        address = address_group(request.remote or "")
        try:
            if len(record) > RECORD_CHARS_MAX:
                raise Refused(Code.FORBIDDEN, REFUSED)
            answer = await self._store.read(
                lambda tx: recovering.status(tx, self._site, serial, record)
            )
            if answer is None:
                answer = await self._store.write(
                    lambda tx: recovering.recover(tx, self._site, serial, record)
                )
                log.info("device recovered serial=%s address=%s", serial, address)
        except Refused as error:
            raise await self._refusal(address) from error
        return web.json_response(answer.as_json())

    async def _refusal(self, address: str) -> Refused:
        try:
            await self._failed.wait(address)
        except Refused as error:
            return error
        log.info("join refused address=%s", address)
        return Refused(Code.FORBIDDEN, REFUSED)

    def envelope(self) -> Middleware:
        """The middleware: every failure is a problem, and nothing is told but its code."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            request_id = secrets.token_urlsafe(9)
            response: web.StreamResponse
            try:
                response = await handler(request)
            except Refused as error:
                response = failures.response(problems.of_refusal(error, request_id))
            except web.HTTPException as error:
                response = failures.response(failures.of_http(error, request_id))
            except (StoreBusy, StoreClosed):
                response = failures.response(
                    problems.problem(Code.UNAVAILABLE, "Try again in a moment.", request_id)
                )
            except Exception as error:  # noqa: BLE001  # the last resort of every request
                log.error("join failed id=%s\n%s", request_id, problems.trace(error))
                self._telemetry.failed(
                    self._clock.wall_ms(), "join", f"{type(error).__name__} id={request_id}"
                )
                response = failures.response(
                    problems.problem(Code.INTERNAL, "Try again later.", request_id)
                )
            response.headers["X-Request-Id"] = request_id
            response.headers["Cache-Control"] = "no-store"
            response.headers["X-Content-Type-Options"] = "nosniff"
            return response

        return middleware


def make_devices_app(
    store: Store,
    site: Site,
    telemetry: Telemetry,
    clock: Clock,
    ca_pem: bytes,
    *,
    sleep: Sleep = asyncio.sleep,
) -> web.Application:
    """The application behind the `[devices]` listener. `ca_pem` must be the CA of the site."""
    assert hashlib.sha256(_der(ca_pem)).hexdigest() == site.ca_digest
    listener = DevicesListener(store, site, telemetry, clock, ca_pem, sleep)
    app = web.Application(middlewares=[listener.envelope()], client_max_size=BODY_BYTES_MAX)
    app.router.add_get(CA_PATH, listener.ca)
    app.router.add_post(JOIN_PATH, listener.join)
    app.router.add_get(STATUS_PATH, listener.status)
    return app


def _der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))
