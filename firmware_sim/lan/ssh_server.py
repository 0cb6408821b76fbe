"""A simulated router's SSH server: sign-in, a shell without programs, files in one folder."""

import asyncio
import logging
from contextlib import suppress
from hmac import compare_digest
from pathlib import Path

import asyncssh

from firmware_sim.lan.facts import PASSWORD, SSH_USERS, RouterFacts
from firmware_sim.lan.listening import LOOPBACK, Listening
from firmware_sim.lan.shell import FAILED, OK, Shell

log = logging.getLogger(__name__)

HOST_KEY_FILE = "ssh_host_ed25519_key"
AUTHORIZED_KEYS_FILE = "authorized_keys"  # optional: public keys that sign in without password
FILES_FOLDER = "files"
TEMPORARY_FOLDER = "tmp"  # every router has it, and people are used to put files there
CONNECTIONS_MAX = 256
SIGN_IN_S_MAX = 20.0
FILE_BYTES_MAX = 1024**3
_CLOSE_S_MAX = 2.0
_CTRL_C_CODE = 130


async def listen(folder: Path, facts: RouterFacts) -> Listening:
    """Starts it on a free port; its host key and its files stay in this folder."""
    files = folder / FILES_FOLDER
    (files / TEMPORARY_FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
    key = await asyncio.to_thread(_host_key, folder / HOST_KEY_FILE)
    shell = Shell(facts, files)
    living: set[asyncssh.SSHServerConnection] = set()
    acceptor = await asyncssh.listen(
        LOOPBACK,
        0,
        server_host_keys=[key],
        server_factory=lambda: _Server(folder / AUTHORIZED_KEYS_FILE, living),
        process_factory=lambda process: _serve(shell, process),
        sftp_factory=lambda channel: _Files(channel, files),
        allow_scp=True,
        # Every byte is a character, so that files can pass through `cat` and come out the same.
        encoding="latin-1",
        login_timeout=SIGN_IN_S_MAX,
        agent_forwarding=False,
        x11_forwarding=False,
        config=None,
    )

    async def close() -> None:
        acceptor.close()
        ended = list(living)
        for connection in ended:
            connection.abort()
        try:
            async with asyncio.timeout(_CLOSE_S_MAX):
                for connection in ended:
                    await connection.wait_closed()
                await acceptor.wait_closed()
        except TimeoutError:
            log.warning("SSH connections did not end connections=%d", len(living))

    return Listening(acceptor.get_port(), close)


def _host_key(path: Path) -> asyncssh.SSHKey:
    if path.exists():
        return asyncssh.read_private_key(path)
    key = asyncssh.generate_private_key("ssh-ed25519")
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(key.export_private_key())
    new.replace(path)
    return key


class _Server(asyncssh.SSHServer):
    """Who may sign in; forwarding is refused, as by the base class."""

    def __init__(self, keys: Path, living: set[asyncssh.SSHServerConnection]) -> None:
        self._keys = keys
        self._living = living
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        if len(self._living) >= CONNECTIONS_MAX:
            conn.abort()
            return
        self._connection = conn
        self._living.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._living.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        if self._connection is not None and username in SSH_USERS and self._keys.exists():
            self._connection.set_authorized_keys(str(self._keys))
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return username in SSH_USERS and compare_digest(password.encode(), PASSWORD.encode())


class _Files(asyncssh.SFTPServer):
    """Files of one folder, without links, none larger than the limit."""

    def __init__(self, channel: "asyncssh.SSHServerChannel[bytes]", files: Path) -> None:
        super().__init__(channel, chroot=str(files).encode())

    def write(self, file_obj: object, offset: int, data: bytes) -> "asyncssh.misc.MaybeAwait[int]":
        if offset + len(data) > FILE_BYTES_MAX:
            raise asyncssh.SFTPFailure("no space left on device")
        return super().write(file_obj, offset, data)

    def exit(self) -> None:
        # The library closes without a status, which OpenSSH's `scp` reads as a failure.
        with suppress(OSError):  # the connection is already gone
            self.channel.exit(0)

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPPermissionDenied("no links on this file system")

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPPermissionDenied("no links on this file system")


async def _serve(shell: Shell, process: "asyncssh.SSHServerProcess[str]") -> None:
    try:
        if process.command is not None:
            code = await _one_line(shell, process, process.command)
        else:
            code = await _interactive(shell, process)
        process.exit(code)
    except (ConnectionError, asyncssh.Error):
        pass  # the visitor left


async def _one_line(shell: Shell, process: "asyncssh.SSHServerProcess[str]", line: str) -> int:
    # A terminal has one stream for both.
    complaints = process.stdout if process.term_type is not None else process.stderr
    try:
        return await shell.run(line, process.stdin, process.stdout, complaints)
    except asyncssh.TerminalSizeChanged:
        return FAILED
    except (asyncssh.BreakReceived, asyncssh.SignalReceived):
        return _CTRL_C_CODE


async def _interactive(shell: Shell, process: "asyncssh.SSHServerProcess[str]") -> int:
    """Line after line until `exit` or the end of the input; the code of the last one."""
    terminal = process.term_type is not None
    if terminal:
        process.stdout.write(shell.greeting)
    code = OK
    while True:
        if terminal:
            process.stdout.write(shell.prompt)
        line = await _next_line(process)
        words = line.split()
        if not line or words[:1] == ["exit"]:
            return int(words[1]) & 0xFF if words[1:] and words[1].isdigit() else code
        code = await _one_line(shell, process, line)


async def _next_line(process: "asyncssh.SSHServerProcess[str]") -> str:
    """Empty at the end of the input; a resized terminal or Ctrl-C only begin a new line."""
    while True:
        try:
            return await process.stdin.readline()
        except asyncssh.TerminalSizeChanged:
            continue
        except (asyncssh.BreakReceived, asyncssh.SignalReceived):
            return "\n"
