"""Asks the gateway's API over its unix socket: a few requests, so no HTTP library is loaded."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.unix_socket import short_path

ANSWER_BYTES_MAX = 4 * 1024 * 1024
ANSWER_S_MAX = 10.0


class ApiUnreachable(Exception):
    """Nobody answers on the socket, or not with HTTP."""


class ApiRefused(Exception):
    """The API answered with an error."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ApiUnreachable("the gateway's answer is not JSON") from error


@dataclass(frozen=True, slots=True)
class LocalApi:
    """The API behind a unix socket, as the bearer of a token (none: as nobody)."""

    socket: Path
    token: str = ""

    async def get(self, path: str) -> Answer:
        return await self._ask("GET", path, b"", "")

    async def post(self, path: str, content: dict[str, object], *, key: str) -> Any:
        """The created object; a repeated `key` does nothing twice. Errors raise with their text."""
        answer = await self._ask("POST", path, json.dumps(content).encode(), key)
        if answer.status >= 300:
            raise ApiRefused(f"POST {path}: {answer.status} {answer.body[:500].decode()}")
        return answer.json()

    async def _ask(self, method: str, path: str, body: bytes, key: str) -> Answer:
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: localhost",
            "Accept: application/json",
            "Connection: close",
        ]
        if self.token:
            lines.append(f"Authorization: Bearer {self.token}")
        if key:
            lines.append(f"Idempotency-Key: {key}")
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                return _parse(await self._exchange(head + body))
        except TimeoutError as error:
            raise ApiUnreachable(f"no answer in {ANSWER_S_MAX} s") from error
        except OSError as error:
            raise ApiUnreachable(error.strerror or str(error)) from error

    async def _exchange(self, request: bytes) -> bytes:
        with short_path(self.socket) as path:
            reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(request)
            await writer.drain()
            received = bytearray()
            while data := await reader.read(65_536):
                received += data
                if len(received) > ANSWER_BYTES_MAX:
                    raise ApiUnreachable("the gateway's answer is too long")
            return bytes(received)
        finally:
            writer.close()


def _parse(received: bytes) -> Answer:
    head, separator, body = received.partition(b"\r\n\r\n")
    status_line, _, header_text = head.decode("latin-1").partition("\r\n")
    words = status_line.split(" ", 2)
    if not separator or len(words) < 2 or not words[1].isdigit():
        raise ApiUnreachable("the answer is not HTTP")
    if "transfer-encoding: chunked" in header_text.lower():
        body = _unchunked(body)
    return Answer(int(words[1]), body)


def _unchunked(body: bytes) -> bytes:
    whole = bytearray()
    while body:
        size_text, _, rest = body.partition(b"\r\n")
        try:
            size = int(size_text.split(b";")[0], 16)
        except ValueError as error:
            raise ApiUnreachable("the answer is cut") from error
        whole += rest[:size]
        body = rest[size + 2 :]
        if size == 0:
            break
    return bytes(whole)
