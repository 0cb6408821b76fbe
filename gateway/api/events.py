"""`GET /events`: what happens, as server-sent events for as long as somebody listens.

A stream keeps nothing but its position: it reads on from there when there is news, in one
transaction with who it belongs to and what that person may see at that moment.
"""

import asyncio
import logging

import msgspec
from aiohttp import web

from gateway.api.catalogue import operation_called
from gateway.api.envelope import dress
from gateway.api.execution import answer_operation, identify, query_of, touch
from gateway.api.inputs import read_input
from gateway.api.services import SERVICES, Services, services_of
from gateway.domain.refusals import Code, Refused
from gateway.operations.events import STREAM_TYPE, Event, Events, FollowEvents
from gateway.operations.registry import execute
from gateway.people.authentication import Credential, Means, identity_of
from gateway.storage.hints import hint_on_loop
from gateway.storage.store import StoreError
from gateway.storage.transaction import Signal, Transaction

log = logging.getLogger(__name__)

OPERATION = "events.follow"
LAST_HEARD = "Last-Event-ID"
LOOKED_EVERY_S = 5.0  # a right that was taken away ends the stream, though nothing happens
GONE_EVERY_S = 1.0
ALIVE_EVERY_S = 15.0
STALLED_S_MAX = 20.0  # who reads nothing for so long is cut off, and can read on by its position
BUFFERED_BYTES_MAX = 64 * 1024
RETRY_MS = 2_000
AT_ONCE = 100
_AFTER = "after"


def listen(app: web.Application) -> None:
    """Lets the application's streams hear of news, and end with it."""

    async def begin(_app: web.Application) -> None:
        services = app[SERVICES]
        loop = asyncio.get_running_loop()
        hint_on_loop(services.store, loop, Signal.EVENTS, services.streams.wake)

    async def end(_app: web.Application) -> None:
        app[SERVICES].streams.close()

    app.on_startup.append(begin)
    app.on_shutdown.append(end)


async def follow(request: web.Request) -> web.StreamResponse:
    """A stream; a page for whoever accepts nothing but JSON."""
    op = operation_called(OPERATION)
    accepted = request.headers.get("Accept", "")
    if "application/json" in accepted and STREAM_TYPE not in accepted:
        return await answer_operation(request, op)
    services = services_of(request)
    credential, identity = await identify(request, services)
    if identity.principal.user_id is None:
        raise Refused(Code.SIGNED_OUT, "Sign in, or send `Authorization: Bearer …`.")
    query = query_of(request)
    if LAST_HEARD in request.headers:
        # A browser that comes back says it so, and its address still holds where it began.
        query[_AFTER] = [request.headers[LAST_HEARD]]
    given = read_input(op, {}, query, b"")
    assert isinstance(given, FollowEvents)
    given.limit = AT_ONCE
    with services.streams.place(identity.principal.name):
        stream = _Stream(request, services, credential, given)
        first = await stream.look()
        if credential.means is Means.BEARER:
            # Not of a cookie: a page that is only left open does not keep somebody signed in.
            await touch(services, credential, identity)
        return await stream.run(first)


class _Stream:
    """One listener."""

    def __init__(
        self,
        request: web.Request,
        services: Services,
        credential: Credential,
        given: FollowEvents,
    ) -> None:
        self._request = request
        self._services = services
        self._credential = credential
        self._given = given
        self._news = services.streams.news
        self._said_s = 0.0
        self._response = web.StreamResponse(
            headers={"Content-Type": STREAM_TYPE, "X-Accel-Buffering": "no"}
        )

    async def look(self) -> Events:
        """What there is after the position, for who that is by now. Raises `Refused`."""
        self._news = self._services.streams.news
        async with self._services.streams.looking:
            found = await self._services.store.read(self._read)
        self._given.after = found.position
        return found

    def _read(self, tx: Transaction) -> Events:
        principal = identity_of(tx, self._credential).principal
        op = operation_called(OPERATION)
        events: Events = execute(tx, op, principal, self._services.site, self._given)
        return events

    async def run(self, first: Events) -> web.StreamResponse:
        """Sends events until one side has enough."""
        dress(self._request, self._response, self._services.http)
        await self._response.prepare(self._request)
        transport = self._request.transport
        if transport is not None and isinstance(transport, asyncio.WriteTransport):
            transport.set_write_buffer_limits(high=BUFFERED_BYTES_MAX)
        try:
            # Who has heard nothing yet comes back to where it began; the others have an id.
            begun = "" if first.events else f"id: {first.position}\n"
            await self._write(f"retry: {RETRY_MS}\n{begun}\n")
            await self._send(first)
            while not self._over():
                await self._send(await self.look())
        except Refused as refused:
            await self._end(refused)
        except StoreError:
            log.debug("an event stream ends: the store does not answer")
        except TimeoutError:
            # Nothing is lost: it comes back with the last id that it heard.
            log.info("an event stream is cut off: nobody reads it")
            if transport is not None:
                transport.abort()
        except ConnectionError:
            log.debug("an event stream ends: its reader went away")
        return self._response

    def _over(self) -> bool:
        transport = self._request.transport
        return self._services.streams.closing or transport is None or transport.is_closing()

    async def _send(self, found: Events) -> None:
        """Sends what was found; then waits, unless there is more already."""
        if found.reset:
            await self._write(_block("reset", found.position, {"position": found.position}))
        if found.events:
            await self._write("".join(map(_shown, found.events)))
        if found.more:
            return
        now_s = asyncio.get_running_loop().time()
        if now_s - self._said_s >= ALIVE_EVERY_S:
            # An id without data tells nobody anything; but who comes back says it.
            await self._write(f": alive\nid: {found.position}\n\n")
        for _ in range(round(LOOKED_EVERY_S / GONE_EVERY_S)):
            try:
                async with asyncio.timeout(GONE_EVERY_S):
                    await self._news.wait()
                return
            except TimeoutError:
                # Who goes from page to page gives each one's place back soon.
                if self._over():
                    return

    async def _write(self, text: str) -> None:
        async with asyncio.timeout(STALLED_S_MAX):
            await self._response.write(text.encode())
        self._said_s = asyncio.get_running_loop().time()

    async def _end(self, refused: Refused) -> None:
        """Says why there is nothing to be heard any more."""
        said = {"code": refused.code.value, "detail": refused.detail}
        try:
            await self._write(_block("end", self._given.after, said))
        except (ConnectionError, TimeoutError):
            log.debug("an event stream ends: its reader went away")


def _shown(event: Event) -> str:
    return _block(event.kind, event.id, event)


def _block(kind: str, position: str, data: object) -> str:
    """One server-sent event; JSON has no line ends."""
    return f"id: {position}\nevent: {kind}\ndata: {msgspec.json.encode(data).decode()}\n\n"
