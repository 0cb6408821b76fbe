"""The few requests to the HTTP API, on asyncio so that Ctrl-C never waits for a server."""

import asyncio
import http.client
import io
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from broker.connect.words import clean, of_os_error, of_problem

PREFIX = "/api/v1"
ANSWER_BYTES_MAX = 4 * 1024 * 1024
ANSWER_S_MAX = 30.0
TRIES_MAX = 4
PAUSE_S_MAX = 5.0
UNIX_PATH_BYTES_MAX = 107  # the kernel's limit
_READ_BYTES = 64 * 1024


class ApiError(Exception):
    """The request had no effect; the text says what to do."""


class Unreachable(ApiError):
    """No usable answer came."""


class CertificateRefused(ApiError):
    """Somebody answered who cannot show that he is the server."""


class Refused(ApiError):
    """The API said no; or what stands before it did, without a code."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(of_problem(status, problem))
        self.status = status
        self.code = str(problem.get("code", ""))


class Server(NamedTuple):
    """Where the API is, and who asks."""

    url: str = ""
    token: str = ""
    ca: Path | None = None
    admin_socket: Path | None = None

    def __repr__(self) -> str:
        return f"Server({self.url or self.admin_socket!r})"  # never the token


def tls_context(ca: Path | None, *, system_too: bool) -> ssl.SSLContext:
    """Trusts the CA's file if one is given, else (or also) what the system trusts.

    Raises `ApiError`.
    """
    try:
        if ca is None or not system_too:
            return ssl.create_default_context(cafile=None if ca is None else str(ca))
        context = ssl.create_default_context()
        context.load_verify_locations(cafile=str(ca))
    except (OSError, ssl.SSLError) as error:
        raise ApiError(f"{ca}: not a file of certificates") from error
    return context


class Api:
    """Asks, waits, and turns what is not a good answer into one of the errors above."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._context: ssl.SSLContext | None = None

    async def ask(
        self,
        method: str,
        path: str,
        content: Mapping[str, Any] | None = None,
        *,
        key: str = "",
        tries: int = TRIES_MAX,
    ) -> Any:
        """The decoded answer, after a few tries where the server asks for patience.

        Raises `ApiError`.
        """
        body = b"" if content is None else json.dumps(content).encode()
        head = self._head(method, PREFIX + path, len(body), key)
        attempt = 1
        while True:
            status, headers, raw = await self._exchange(head + body)
            # Both are said before anything was done, so asking again is safe.
            if status not in (429, 503) or attempt >= tries:
                break
            attempt += 1
            await asyncio.sleep(_pause_s(headers.get("Retry-After", "1")))
        if 200 <= status < 300:
            return _decoded(raw)
        raise Refused(status, _problem(raw))

    def _head(self, method: str, target: str, size: int, key: str) -> bytes:
        host = urlsplit(self._server.url).netloc.rpartition("@")[2] or "localhost"
        lines = [
            f"{method} {target} HTTP/1.1",
            f"Host: {host}",
            "Accept: application/json",
            "Accept-Encoding: identity",
            "Connection: close",
        ]
        if size or method == "POST":
            lines += ["Content-Type: application/json", f"Content-Length: {size}"]
        if self._server.token:
            lines.append(f"Authorization: Bearer {self._server.token}")
        if key:
            lines.append(f"Idempotency-Key: {key}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace")

    async def _exchange(self, sent: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                reader, writer = await self._opened()
                try:
                    writer.write(sent)
                    return _read(await _whole(reader))
                finally:
                    writer.transport.abort()
        except ssl.SSLCertVerificationError as error:
            raise CertificateRefused(
                f"{self._server.url}: its certificate was not accepted ({error.verify_message}). "
                "Name the CA's file with --ca."
            ) from error
        except (OSError, TimeoutError, http.client.HTTPException) as error:
            raise Unreachable(self._explanation(error)) from error

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._server.admin_socket is not None:
            with _short_path(self._server.admin_socket) as path:
                return await asyncio.open_unix_connection(path)
        parts = urlsplit(self._server.url)
        if parts.scheme == "http":
            return await asyncio.open_connection(parts.hostname, parts.port or 80)
        if self._context is None:
            self._context = tls_context(self._server.ca, system_too=False)
        return await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=self._context)

    def _explanation(self, error: Exception) -> str:
        reason = of_os_error(error) if isinstance(error, OSError) else clean(error)
        if self._server.admin_socket is not None:
            return (
                f"No gateway answers at {self._server.admin_socket} ({reason}). Start it "
                "with `fleetgate up`, or name a server with --url and --token."
            )
        return f"No answer from {self._server.url} ({reason}). Check the address, and that it runs."


@contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """A name of the socket that fits the kernel's limit; valid inside the `with` only."""
    if len(os.fsencode(path)) <= UNIX_PATH_BYTES_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


async def _whole(reader: asyncio.StreamReader) -> bytes:
    """All until the server closes: it was asked to. Raises `HTTPException` beyond the limit."""
    got = bytearray()
    while data := await reader.read(_READ_BYTES):
        got += data
        if len(got) > ANSWER_BYTES_MAX:
            raise http.client.HTTPException("the answer is too long")
    return bytes(got)


class _Received:
    """What was received, as `http.client` wants to read it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        assert mode == "rb"
        return io.BytesIO(self._data)


def _read(data: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body. Raises `HTTPException`."""
    received: Any = _Received(data)  # the library reads from nothing else than `makefile`
    response = http.client.HTTPResponse(received)
    response.begin()
    return response.status, response.headers, response.read()


def _pause_s(text: str) -> float:
    return min(PAUSE_S_MAX, float(text)) if text.isascii() and text.isdigit() else 1.0


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else {}
    except ValueError as error:
        raise Unreachable("the answer is not JSON: is this address Fleetgate's?") from error


def _problem(raw: bytes) -> dict[str, Any]:
    """The problem details; empty where somebody else answered."""
    try:
        problem = json.loads(raw)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}
