"""Forwards one request to the session's target, and its answer back, as they are."""

import asyncio
from typing import NamedTuple

from aiohttp import ClientError, HttpVersion11, web
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestPayloadError

from broker.relay.errors import StreamRefused
from broker.relay.upstream import IDLE_S, Connection, Upstream
from broker.relay.web_bridge import bridge, close_soon
from broker.relay.web_front import Relayed, VisitorProtocol
from broker.relay.web_headers import (
    BadHead,
    Headers,
    Mapping,
    encode_head,
    request_headers,
    response_headers,
)

# What changes something is never sent twice, so it goes only on a connection that was just used.
FRESH_S = 2.0
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})
_BODILESS = frozenset({204, 304})
_WEATHER = (OSError, ClientError)


class Visit(NamedTuple):
    """Where requests of one session go."""

    upstream: Upstream
    mapping: Mapping


class _Ask(NamedTuple):
    """One request as the target gets it."""

    request: web.BaseRequest
    visit: Visit
    head: bytes
    chunked: bool
    bodiless: bool
    websocket: bool


async def forward(request: web.BaseRequest, visit: Visit, *, websocket: bool) -> web.StreamResponse:
    """The target's answer, sent already. Raises `StreamRefused` while nothing was sent."""
    ask = _ask(request, visit, websocket=websocket)
    repeatable = request.method in _REPEATABLE and ask.bodiless
    idle_s_max = IDLE_S if repeatable else FRESH_S
    connection = await visit.upstream.connect(idle_s_max=0.0 if websocket else idle_s_max)
    try:
        return await _exchange(ask, connection)
    except StreamRefused as error:
        if not (connection.used and repeatable and error.reason == "closed_early"):
            raise
    finally:
        visit.upstream.give_back(connection)
    # The target was giving up the kept connection when the request came: once more.
    connection = await visit.upstream.connect(idle_s_max=0.0)
    try:
        return await _exchange(ask, connection)
    finally:
        visit.upstream.give_back(connection)


def _ask(request: web.BaseRequest, visit: Visit, *, websocket: bool) -> _Ask:
    raw_headers = list(request.raw_headers)
    headers = request_headers(raw_headers, visit.mapping, upgrade=websocket)
    chunked = "chunked" in request.headers.get("Transfer-Encoding", "").lower()
    length = None if chunked else request.headers.get("Content-Length")
    if chunked:
        headers.append((b"Transfer-Encoding", b"chunked"))
    elif length is not None:
        headers.append((b"Content-Length", length.encode("ascii")))
    raw_path = request.raw_path.encode("utf-8", "surrogateescape")
    first_line = request.method.encode("ascii") + b" " + raw_path + b" HTTP/1.1"
    bodiless = not chunked and length in (None, "0")
    return _Ask(request, visit, encode_head(first_line, headers), chunked, bodiless, websocket)


async def _exchange(ask: _Ask, connection: Connection) -> web.StreamResponse:
    outcome: web.StreamResponse | StreamRefused = Relayed(keep_alive=False)
    whole = False
    try:
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(_send_request(ask, connection), name="request")
            try:
                outcome = await _answer(ask, connection)
            except StreamRefused as error:
                outcome = error  # raised below: the group would wrap it
            # Answered before all was sent: the rest is of no use to the target.
            whole = sending.done()
            sending.cancel()
    finally:
        if not whole or isinstance(outcome, StreamRefused):
            connection.abort()
    if isinstance(outcome, StreamRefused):
        raise outcome
    return outcome


async def _send_request(ask: _Ask, connection: Connection) -> None:
    """The head and the body, as fast as the target takes it."""
    request = ask.request
    try:
        connection.expect(request.method)
        connection.write(ask.head)
        if ask.bodiless:
            return
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # it is no answer yet
        while data := await request.content.readany():
            connection.write(b"%x\r\n%b\r\n" % (len(data), data) if ask.chunked else data)
            await connection.drain()
        if ask.chunked:
            connection.write(b"0\r\n\r\n")
    except RequestPayloadError:
        # The visitor's body breaks off or is no HTTP: the target must not take it for whole.
        connection.abort()
    except _WEATHER:
        # The target is gone, or the visitor is: whoever reads the answer is told.
        pass


async def _answer(ask: _Ask, connection: Connection) -> web.StreamResponse:
    message, body = await connection.answer()
    headers = response_headers(message.raw_headers, ask.visit.mapping)
    try:
        if message.code == 101:
            return await _switch(ask, connection, headers)
        _check_not_going_round(ask.request, ask.visit.mapping, message, headers)
        response = _Answer(ask, message, headers)
    except BadHead as error:
        raise StreamRefused("bad_answer") from error
    transport = connection.visitor = ask.request.transport
    try:
        await response.send(body)
    except _WEATHER:
        # Half an answer must look like one: no last chunk, the length not reached.
        connection.abort()
        if transport is not None:
            close_soon(transport)
        return Relayed(keep_alive=False)
    return Relayed(keep_alive=response.keep_alive)


async def _switch(ask: _Ask, connection: Connection, headers: Headers) -> web.StreamResponse:
    front = ask.request.protocol
    if not ask.websocket or not isinstance(front, VisitorProtocol):
        raise StreamRefused("bad_answer")
    headers = [*headers, (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    await ask.request.writer.drain()
    head = encode_head(b"HTTP/1.1 101 Switching Protocols", headers)
    ask.visit.upstream.detach(connection)
    try:
        await bridge(front, head, connection)
    except _WEATHER:
        pass  # one of the two has gone
    finally:
        connection.abort()
    return Relayed(keep_alive=False)


def _check_not_going_round(
    request: web.BaseRequest, mapping: Mapping, message: RawResponseMessage, headers: Headers
) -> None:
    """A target that sends HTTP visitors to HTTPS would be asked the same for ever."""
    if not 300 <= message.code < 400 or mapping.scheme != b"http" or request.method != "GET":
        return
    given = message.headers.get("Location", "")
    own = mapping.own_origin + request.raw_path.encode("utf-8", "surrogateescape")
    mapped = {value for key, value in headers if key.lower() == b"location"}
    if given[:6].lower() == "https:" and mapped == {own}:
        raise StreamRefused("wants_https")


class _Answer:
    """One answer on its way to the visitor: its own head, and a body whose end can be told."""

    def __init__(self, ask: _Ask, message: RawResponseMessage, headers: Headers) -> None:
        request = self._request = ask.request
        self._bodiless = request.method == "HEAD" or message.code in _BODILESS
        lengths = {value for key, value in message.raw_headers if key.lower() == b"content-length"}
        if len(lengths) > 1 and not message.chunked:
            raise StreamRefused("bad_answer")
        length = None if message.chunked or message.code == 204 else next(iter(lengths), None)
        self._left = None if self._bodiless or length is None else int(length)
        if length is not None:
            headers = [*headers, (b"Content-Length", length)]
        new = request.version >= HttpVersion11
        self._chunked = not self._bodiless and length is None and new
        self.keep_alive = request.keep_alive and new and not ask.websocket
        if self._chunked:
            headers = [*headers, (b"Transfer-Encoding", b"chunked")]
        if not self.keep_alive:
            headers = [*headers, (b"Connection", b"close")]
        reason = message.reason.encode("utf-8", "surrogateescape")
        self._head = encode_head(b"HTTP/1.1 %d %b" % (message.code, reason), headers)

    async def send(self, body: StreamReader) -> None:
        """Each piece as it comes. Raises `OSError` or `ClientError` when one side is gone."""
        writer = self._request.writer
        await writer.write(self._head)
        if self._bodiless:
            return
        while data := await body.readany():
            if self._left is not None:
                self._left -= len(data)
            await writer.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        if self._left:
            raise ConnectionResetError("the target sent less than it said")
        if self._chunked:
            await writer.write(b"0\r\n\r\n")
        await writer.drain()
