"""The terminal's page, and the WebSocket behind it."""

import asyncio
import hmac
import logging
import ssl
from typing import Any

import asyncssh
import msgspec
from aiohttp import WSCloseCode, web

from gateway.api.callers import check_same_origin
from gateway.api.catalogue import operation_called
from gateway.api.execution import identify, touch
from gateway.api.services import Services, services_of
from gateway.domain.refusals import Code, Refused
from gateway.join.ca import KeyFiles
from gateway.operations.host_keys import fingerprint_of
from gateway.operations.registry import execute
from gateway.operations.session_views import Session
from gateway.people.authentication import Credential, Identity, Means, identity_of
from gateway.storage.store import StoreError
from gateway.storage.transaction import Transaction
from gateway.terminal.places import Places
from gateway.terminal.shell import CLOSE_S_MAX, GONE, Begin, Over, Shell, answer_of
from gateway.terminal.tunnel import TunnelFailed, tunnel
from gateway.web.reading import Look, show
from gateway.web.sessions_page import SESSION_ID

log = logging.getLogger(__name__)

MESSAGE_BYTES_MAX = 64 * 1024
ALIVE_EVERY_S = 20.0
LOOKED_EVERY_S = 5.0
BEGIN_S_MAX = 5.0
CLOSING = "gateway_stops"
PLACES = web.AppKey("places", Places)


class Accept(msgspec.Struct, kw_only=True):
    """Whether the person accepts the host key."""

    yes: bool = False


def add_routes(app: web.Application) -> None:
    """A page of one session, and what it speaks to."""
    places = app[PLACES] = Places()

    async def close(_app: web.Application) -> None:
        places.closing.set()

    app.on_shutdown.append(close)
    asyncssh.set_log_level(logging.WARNING)  # what a router does wrong is said on the page
    app.router.add_get(f"/sessions/{{session_id:{SESSION_ID}}}/terminal", _page)
    app.router.add_get(f"/sessions/{{session_id:{SESSION_ID}}}/terminal/socket", _socket)


async def _page(request: web.Request) -> web.StreamResponse:
    session_id = request.match_info["session_id"]

    def work(look: Look) -> dict[str, Any]:
        session = look.ask("sessions.show", session_id=session_id)
        _require_own(session, look.reader.me.id)
        server = look.services.site.public_url
        return {"room": "sessions", "session": session, "server": server}

    return await show(request, "terminal.html", work)


def _require_own(session: Session, person_id: str) -> None:
    if session.protocol != "ssh" or session.person_id != person_id:
        raise Refused(Code.NOT_FOUND, "There is no such session, or it is not yours to see.")


async def _socket(request: web.Request) -> web.StreamResponse:
    """One terminal. A page of another site could open one as well: it is refused."""
    services = services_of(request)
    if request.headers.get("Origin") is None:
        raise Refused(Code.FORBIDDEN, "A browser says which page opens a terminal.")
    check_same_origin(request, services.http)
    credential, identity = await identify(request, services)
    principal = identity.principal
    if principal.user_id is None or credential.means is not Means.COOKIE:
        raise Refused(Code.SIGNED_OUT, "Sign in again.")
    asking = _Asking(request, services, credential)
    _require_own(await asking.read("sessions.show"), str(principal.user_id))
    browser = web.WebSocketResponse(
        timeout=CLOSE_S_MAX,
        heartbeat=ALIVE_EVERY_S,
        compress=False,
        max_msg_size=MESSAGE_BYTES_MAX,
    )
    await browser.prepare(request)
    try:
        with request.app[PLACES].place(principal.name):
            why = await _Terminal(asking, browser, request.app[PLACES]).serve()
    except Refused as refused:
        why = refused.code.value
    await _end(request, browser, why)
    return browser


async def _end(request: web.Request, browser: web.WebSocketResponse, why: str) -> None:
    """Says why it is over, to whoever still reads."""
    code = WSCloseCode.GOING_AWAY if why == CLOSING else WSCloseCode.OK
    try:
        async with asyncio.timeout(CLOSE_S_MAX):
            if why != GONE and not browser.closed:
                await browser.send_json({"say": "over", "why": why})
                await browser.close(code=code)
                return
    except (TimeoutError, ConnectionError):
        log.debug("nobody hears that a terminal is over")
    if request.transport is not None:
        # What waits for a browser that reads nothing would wait with the socket for ever.
        request.transport.abort()


class _Asking:
    """Operations for the person of one terminal, each with the rights of that moment."""

    def __init__(self, request: web.Request, services: Services, credential: Credential) -> None:
        self._session_id = request.match_info["session_id"]
        self._services = services
        self._credential = credential

    async def prove(self, csrf: str) -> None:
        """A page of ours shows its token as a form does. Raises `Refused`."""
        identity = await self._services.store.read(self._identity)
        expected = identity.csrf or ""
        shown = csrf.encode(errors="surrogatepass")
        if not expected or not hmac.compare_digest(shown, expected.encode()):
            raise Refused(Code.FORBIDDEN, "This page is not good any more; load it again.")

    async def read(self, name: str) -> Any:
        """What a reading operation answers. Raises `Refused`."""
        return await self._services.store.read(lambda tx: self._run(tx, name, {}))

    async def write(self, name: str, **given: Any) -> Any:
        """What an operation that changes something answers. Raises `Refused`."""
        tree = operation_called(name).tree
        return await self._services.store.write(lambda tx: self._run(tx, name, given), tree=tree)

    async def why_not(self) -> tuple[str, Identity]:
        """A word for why its person may not be here any more; empty while all is well."""
        return await self._services.store.read(self._why_not)

    async def used(self, identity: Identity) -> None:
        """Somebody is at work here, and stays signed in."""
        await touch(self._services, self._credential, identity)

    def trusting(self) -> ssl.SSLContext:
        """For relays: what the system trusts, and the installation's own CA where it is here."""
        context = ssl.create_default_context()
        own = KeyFiles(self._services.configuration.data.keys).ca_certificate
        if own.is_file():
            context.load_verify_locations(cafile=own)
        return context

    def _identity(self, tx: Transaction) -> Identity:
        return identity_of(tx, self._credential)

    def _why_not(self, tx: Transaction) -> tuple[str, Identity]:
        identity = self._identity(tx)
        if identity.principal.user_id is None:
            return "signed_out", identity
        try:
            shown = self._run(tx, "sessions.show", {})
            if shown.ended_at:
                return str(shown.ended_because or "over"), identity
            # Own sessions are shown whatever the role; this one asks as a ticket does.
            self._run(tx, "host-keys.show", {})
        except Refused as refused:
            lost = refused.code in (Code.FORBIDDEN, Code.NOT_FOUND)
            return "right_lost" if lost else refused.code.value, identity
        return "", identity

    def _run(self, tx: Transaction, name: str, given: dict[str, Any]) -> Any:
        op = operation_called(name)
        values = {"session_id": self._session_id, **given}
        principal = self._identity(tx).principal
        return execute(tx, op, principal, self._services.site, msgspec.convert(values, op.input))


class _Terminal:
    """One terminal, from the first message to the word that says why it ended."""

    def __init__(self, asking: _Asking, browser: web.WebSocketResponse, places: Places) -> None:
        self._asking = asking
        self._browser = browser
        self._places = places
        self._typed = False

    async def serve(self) -> str:
        """Runs the terminal to its end, and says why it ended; nothing of it is left then."""
        why = "failed"
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self._closing(), name="terminal-closing"),
                    tasks.create_task(self._watch(), name="terminal-watch"),
                    tasks.create_task(self._work(tasks), name="terminal"),
                ]
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                why = next(one for one in running if one in done).result()
                for one in running:
                    one.cancel()
        except* Exception as errors:  # the upgrade is answered, so no problem page fits
            log.exception("a terminal failed", exc_info=errors)
        return why

    async def _closing(self) -> str:
        await self._places.closing.wait()
        return CLOSING

    async def _watch(self) -> str:
        while True:
            await asyncio.sleep(LOOKED_EVERY_S)
            try:
                why, identity = await self._asking.why_not()
                if why:
                    return why
                # A page that is only left open does not keep somebody signed in.
                typed, self._typed = self._typed, False
                if typed:
                    await self._asking.used(identity)
            except StoreError:
                continue  # the relay's lease ends it where nobody can look

    def _note_typed(self) -> None:
        self._typed = True

    async def _work(self, tasks: asyncio.TaskGroup) -> str:
        try:
            begin = await answer_of(self._browser, Begin, BEGIN_S_MAX)
            await self._asking.prove(begin.csrf)
            context = await asyncio.to_thread(self._asking.trusting)
            ticket = await self._asking.write("sessions.ticket", way="connect")
            async with tunnel(ticket, context, tasks) as opened:
                shell = Shell(self._browser, opened, begin, self._note_typed)
                await shell.say("connecting")
                key = await shell.host_key()
                await self._accepted(shell, key)
                await shell.run(key, tasks)
        except (Over, TunnelFailed) as over:
            return str(over)
        except Refused as error:
            return error.code.value
        except StoreError:
            return Code.UNAVAILABLE.value
        raise AssertionError("a shell says why it is over")

    async def _accepted(self, shell: Shell, key: str) -> None:
        """Asks the person about a key that is new. Raises `Over` and `Refused`."""
        known = await self._asking.read("host-keys.show")
        if known.key == key:
            return
        fingerprint = fingerprint_of(key)
        await shell.say("host_key", fingerprint=fingerprint, before=known.fingerprint)
        answer = await shell.asked(Accept)
        if not answer.yes:
            raise Over("host_key_refused")
        await self._asking.write("host-keys.trust", key=key)
