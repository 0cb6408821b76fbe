"""One shell at the end of a tunnel: its host key, signing in, bytes both ways.

What a browser sends and is sent is told in `docs/terminal.md`. Who signs in types user and password
into the page for this one connection; they are handed to the SSH server and kept nowhere. The
server is somebody's router: whatever it sends, this terminal ends and nothing else.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Annotated, Any, Protocol, TypeVar

import asyncssh
import msgspec
from aiohttp import WSMessage, WSMsgType

from gateway.operations.host_keys import KEY_CHARS_MAX
from gateway.terminal.tunnel import Tunnel, TunnelFailed

log = logging.getLogger(__name__)
T = TypeVar("T")

ANSWER_S_MAX = 300.0  # for a person to read a fingerprint, or to type a password
LOGIN_S_MAX = 30.0
LOGINS_MAX = 3
STALLED_S_MAX = 30.0  # a browser that reads nothing for so long is cut off
CLOSE_S_MAX = 2.0
READ_BYTES = 32 * 1024
WINDOW_BYTES = 256 * 1024  # what a server may send before somebody reads it
SIZE_MAX = 1_000
TERMINAL_TYPE = "xterm-256color"
HOST = "router"  # nothing is looked up: the socket is connected already
RESIZE = "resize"
GONE = "gone"
# How a connection ends when nobody said why: the shell's own end, seen from here.
_UNSAID = ("", "reset")


class Browser(Protocol):
    """The WebSocket of a page: aiohttp's fits."""

    async def receive(self) -> WSMessage: ...
    async def send_str(self, data: str) -> None: ...
    async def send_bytes(self, data: bytes) -> None: ...


class Begin(msgspec.Struct, kw_only=True):
    """The first message, and each further try to sign in."""

    user: Annotated[str, msgspec.Meta(max_length=100)] = ""
    password: Annotated[str, msgspec.Meta(max_length=1_000)] = ""
    columns: int = 80
    rows: int = 24
    csrf: str = ""


class Over(Exception):
    """The shell is over, or never was; the text is a word that the page knows."""


async def answer_of(browser: Browser, kind: type[T], within_s: float) -> T:
    """The next message that is neither typed nor a size. Raises `Over`."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                message = await browser.receive()
                if message.type is WSMsgType.TEXT:
                    given = msgspec.json.decode(message.data)
                    if not (isinstance(given, dict) and given.get("do") == RESIZE):
                        return msgspec.convert(given, kind)
                elif message.type is not WSMsgType.BINARY:
                    raise Over(GONE)
    except TimeoutError as error:
        raise Over("no_answer") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Over("bad_message") from error


class Shell:
    """Drives one shell for one WebSocket; `typed` is called when its person types."""

    def __init__(
        self, browser: Browser, tunnel: Tunnel, begin: Begin, typed: Callable[[], None]
    ) -> None:
        self._browser = browser
        self._tunnel = tunnel
        self._begin = begin
        self._typed = typed

    async def host_key(self) -> str:
        """The key that the server shows, as in an OpenSSH public key file. Raises `Over`."""
        far = await self._connected()
        try:
            async with asyncio.timeout(LOGIN_S_MAX):
                key = await asyncssh.get_server_host_key(host=HOST, sock=far, config=None)
            assert key is not None
            kind, blob, *_comment = key.export_public_key("openssh").decode().split()
        except Exception as error:  # at strange bytes the library fails in many ways
            raise self._failed(error) from error
        finally:
            far.close()
        shown = f"{kind} {blob}"
        if len(shown) > KEY_CHARS_MAX:
            raise Over("no_ssh")
        return shown

    async def run(self, known: str, tasks: asyncio.TaskGroup) -> None:
        """Signs in, then carries bytes until one side ends. Raises `Over`."""
        for attempt in range(1, LOGINS_MAX + 1):
            connection = await self._signed_in(known)
            self._begin.password = ""
            if connection is not None:
                try:
                    await self._carry(connection, tasks)
                finally:
                    await _closed(connection)
                reason = self._tunnel.reason
                raise Over("shell_ended" if reason in _UNSAID else reason)
            await self.say("wrong_password", left=LOGINS_MAX - attempt)
            if attempt < LOGINS_MAX:
                again = await self.asked(Begin)
                self._begin.user, self._begin.password = again.user, again.password
        raise Over("too_many_logins")

    async def say(self, what: str, **more: Any) -> None:
        """Tells the page something. Raises `Over`."""
        await self._send(msgspec.json.encode({"say": what, **more}).decode())

    async def asked(self, kind: type[T]) -> T:
        """What the page answers. Raises `Over`."""
        return await answer_of(self._browser, kind, ANSWER_S_MAX)

    # Inside

    async def _send(self, data: str | bytes) -> None:
        try:
            async with asyncio.timeout(STALLED_S_MAX):
                if isinstance(data, str):
                    await self._browser.send_str(data)
                else:
                    await self._browser.send_bytes(data)
        except (TimeoutError, ConnectionError) as error:
            raise Over(GONE) from error

    async def _connected(self) -> socket.socket:
        try:
            return await self._tunnel.connect()
        except TunnelFailed as error:
            raise Over(str(error)) from error

    async def _signed_in(self, known: str) -> asyncssh.SSHClientConnection | None:
        """The connection; None where user or password is wrong. Raises `Over`."""
        key = asyncssh.import_public_key(known)
        far = await self._connected()
        try:
            async with asyncio.timeout(LOGIN_S_MAX):
                return await asyncssh.connect(
                    host=HOST,
                    sock=far,
                    config=None,
                    known_hosts=([key], [], []),
                    x509_trusted_certs=None,
                    username=self._begin.user,
                    password=self._begin.password,
                    client_keys=None,
                    agent_path=None,
                    preferred_auth="password,keyboard-interactive",
                )
        except asyncssh.PermissionDenied:
            far.close()
            return None
        except asyncssh.HostKeyNotVerifiable as error:
            far.close()
            raise Over("host_key_changed") from error
        except Exception as error:  # as above
            far.close()
            raise self._failed(error) from error
        except BaseException:
            far.close()
            raise

    def _failed(self, error: Exception) -> Over:
        reason = self._tunnel.reason
        if reason not in _UNSAID:
            return Over(reason)
        log.info("a terminal did not reach its target error=%s", type(error).__name__)
        return Over("no_answer" if isinstance(error, TimeoutError) else "no_ssh")

    async def _carry(
        self, connection: asyncssh.SSHClientConnection, tasks: asyncio.TaskGroup
    ) -> None:
        try:
            async with asyncio.timeout(LOGIN_S_MAX):
                process = await connection.create_process(
                    term_type=TERMINAL_TYPE,
                    term_size=(_size(self._begin.columns), _size(self._begin.rows)),
                    encoding=None,
                    stderr=asyncssh.STDOUT,
                    window=WINDOW_BYTES,
                )
        except Exception as error:  # as above
            raise Over("no_shell") from error
        await self.say("open")
        typing = tasks.create_task(self._type(process), name="terminal-type")
        reading = tasks.create_task(self._read(process), name="terminal-read")
        both = (typing, reading)
        try:
            # The browser's end is enough: a server may never confirm that it heard of it.
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            await asyncio.wait(both)
        if reading.cancelled() or reading.result() == GONE:
            raise Over(GONE)

    async def _read(self, process: asyncssh.SSHClientProcess[bytes]) -> str:
        """What the server writes; `gone` where nobody takes it."""
        try:
            # What the browser does not take is not read either: SSH's window closes.
            while data := await process.stdout.read(READ_BYTES):
                await self._send(data)
        except (OSError, asyncssh.Error):
            log.debug("a terminal's connection ended")
        except Over as over:
            return str(over)
        return ""

    async def _type(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        """What the person types, and how large the window is, until the browser is gone."""
        try:
            while True:
                message = await self._browser.receive()
                if message.type is WSMsgType.BINARY:
                    self._typed()
                    process.stdin.write(message.data)
                    await process.stdin.drain()
                elif message.type is WSMsgType.TEXT:
                    _resize(process, message.data)
                else:
                    break
        except (OSError, asyncssh.Error):
            log.debug("a terminal's shell takes nothing any more")
            await asyncio.Event().wait()  # what it still says is read to the end


async def _closed(connection: asyncssh.SSHClientConnection) -> None:
    """Says goodbye to a server, which may never answer."""
    connection.close()
    try:
        async with asyncio.timeout(CLOSE_S_MAX):
            await connection.wait_closed()
    except TimeoutError:
        log.debug("an SSH server does not let go")
    finally:
        connection.abort()


def _resize(process: asyncssh.SSHClientProcess[bytes], text: str) -> None:
    try:
        given = msgspec.json.decode(text, type=Begin)
    except (msgspec.MsgspecError, RecursionError):
        return  # nothing but a size is awaited here
    process.change_terminal_size(_size(given.columns), _size(given.rows))


def _size(cells: int) -> int:
    return max(1, min(SIZE_MAX, cells))
