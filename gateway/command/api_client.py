"""A client of the API for commands: over TLS, or over the unix socket in the data directory."""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from gateway.unix_socket import short_path

ANSWER_BYTES_MAX = 64 * 1024 * 1024
ANSWER_S_MAX = 90.0
TRIES_MAX = 4
PAUSE_S_MAX = 5.0


class Unreachable(Exception):
    """No gateway answers; the text says what to look at."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    content: Any
    replayed: bool


@dataclass(frozen=True, slots=True)
class Server:
    """Where the API is, and who asks."""

    url: str = ""
    token: str = field(default="", repr=False)
    ca: Path | None = None
    admin_socket: Path | None = None

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        content: Mapping[str, Any] | None = None,
        key: str = "",
    ) -> Answer:
        """The answer, after a few tries where the server asks for patience."""
        target = f"{path}?{urlencode(query, doseq=True)}" if query else path
        body = b"" if content is None else json.dumps(content).encode()
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if key:
            headers["Idempotency-Key"] = key
        for attempt in range(TRIES_MAX):
            status, answered, raw = self._exchange(method, target, body, headers)
            # Both are said before anything was done, so asking again is safe.
            if status not in (429, 503) or attempt == TRIES_MAX - 1:
                break
            time.sleep(_pause_s(answered.get("retry-after", "1")))
        is_file = answered.get("content-type", "").startswith("text/csv")
        shown = raw.decode() if is_file else _decoded(raw)
        return Answer(status, shown, answered.get("idempotency-replayed") == "true")

    @contextmanager
    def stream(self, path: str, query: Mapping[str, Any]) -> Iterator["Iterator[str] | Answer"]:
        """The lines of a stream of events, for as long as it lasts; or the refusal."""
        headers = {"Accept": "text/event-stream"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = self._connection()
        try:
            with self._explained():
                target = f"{path}?{urlencode(query, doseq=True)}" if query else path
                connection.request("GET", target, None, headers)
                response = connection.getresponse()
                is_stream = response.getheader("Content-Type", "").startswith("text/event-stream")
                raw = b"" if is_stream else response.read(ANSWER_BYTES_MAX)
            if is_stream:
                yield self._lines(response)
            else:
                yield Answer(response.status, _decoded(raw), replayed=False)
        finally:
            connection.close()

    def _lines(self, response: http.client.HTTPResponse) -> Iterator[str]:
        with self._explained():
            for line in response:
                yield line.decode().rstrip("\n")

    def _exchange(
        self, method: str, target: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        connection = self._connection()
        try:
            with self._explained():
                connection.request(method, target, body or None, dict(headers))
                response = connection.getresponse()
                raw = response.read(ANSWER_BYTES_MAX)
                return response.status, {k.lower(): v for k, v in response.getheaders()}, raw
        finally:
            connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Says of a connection that fails what to look at. Raises `Unreachable`."""
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(
                f"{self.url}: its certificate was not accepted ({error.verify_message}). "
                "Name the CA's file with --ca."
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(self._explanation(error)) from error

    def _connection(self) -> http.client.HTTPConnection:
        if self.admin_socket is not None:
            return _UnixConnection(self.admin_socket)
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unreachable(f"{self.url}: write https://HOST[:PORT]")
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=ANSWER_S_MAX)
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        except (OSError, ssl.SSLError) as error:
            raise Unreachable(f"{self.ca}: not a file of certificates") from error
        return http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=ANSWER_S_MAX, context=context
        )

    def _explanation(self, error: Exception) -> str:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if self.admin_socket is not None:
            return (
                f"No gateway answers at {self.admin_socket} ({reason}). Start it with "
                f"`fleetgate up --data {self.admin_socket.parent}`, name another data directory "
                "with --data, or a server with --url and --token."
            )
        return f"No answer from {self.url} ({reason}). Check the address, and that it runs."


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, however long its path."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_S_MAX)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short_path(self._path) as name:
            self.sock.connect(name)


def _pause_s(text: str) -> float:
    return min(PAUSE_S_MAX, float(text)) if text.isdigit() else 1.0


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else {}
    except ValueError as error:
        raise Unreachable("the answer is not JSON: is this address Fleetgate's?") from error
