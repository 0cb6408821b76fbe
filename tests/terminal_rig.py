"""Terminals as browsers open them: a gateway, a real relay, a device's link, an SSH server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncssh
from aiohttp import WSMsgType
from sqlalchemy import delete, update

from broker.relay.web_door import web_factory
from gateway.operations.relays import take_state
from gateway.operations.ticket_making import claims_for
from gateway.people.accounts import make_person
from gateway.people.passwords import hash_password
from gateway.storage.address import Address
from gateway.storage.schema import device, membership, relay, session
from gateway.storage.transaction import AnyRow, Transaction
from tests.api_server import EMAIL, PASSWORD, ApiServer, api_server
from tests.relay_rig import EPOCH, KID, RawDevice, Rig, fact, running_relay
from tests.relay_row import RELAY, one_relay
from tests.relay_web_rig import TargetSocket
from wire.relay_control import State
from wire.splice import READ_BYTES
from wire.stream import Stream
from wire.tickets import Party, Way

SERIAL = "1100000001"
USER, SECRET = "root", "the router's own word"
HEARD_S_MAX = 5.0
PIECE = b"y\n" * 8_192
_BUFFER = memoryview(bytearray(READ_BYTES))


class SshServer:
    """A router's; what it saw is kept. `flood` writes for ever, `exit` ends the shell."""

    def __init__(self) -> None:
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.sizes: list[tuple[int, int]] = []
        self.types: list[str] = []
        self.heard = bytearray()
        self.flooded = 0
        self.shells = 0
        self.port = 0
        self._acceptor: asyncssh.SSHAcceptor

    async def listen(self) -> None:
        """On a port of its own choice; again with the key that it has by then."""
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[self.key],
            server_factory=_Door,
            process_factory=self._serve,
            encoding=None,
            line_editor=False,
            config=None,
        )
        self.port = self._acceptor.get_port()

    async def close(self) -> None:
        self._acceptor.close()
        await self._acceptor.wait_closed()

    async def _serve(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        self.shells += 1
        self.types.append(process.term_type or "")
        self.sizes.append(process.term_size[:2])
        process.stdout.write(b"ready\r\n")
        try:
            while True:
                try:
                    line = await process.stdin.readline()
                except asyncssh.TerminalSizeChanged as changed:
                    self.sizes.append((changed.width, changed.height))
                    continue
                self.heard += line
                if line == b"flood\n":
                    await self._flood(process)
                if line in (b"", b"exit\n"):
                    process.exit(0)
                    return
                process.stdout.write(b"said " + line)
        except (OSError, asyncssh.Error):
            pass  # the visitor left
        finally:
            self.shells -= 1

    async def _flood(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        while True:
            process.stdout.write(PIECE)
            await process.stdout.drain()
            self.flooded += len(PIECE)
            await asyncio.sleep(0)


class _Door(asyncssh.SSHServer):
    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, SECRET)


class Tab:
    """A browser's tab with a terminal; what came is kept."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, csrf: str) -> None:
        self.socket = socket
        self.csrf = csrf
        self.output = bytearray()

    async def send(self, what: Any) -> None:
        await self.socket.send_str(json.dumps(what))

    async def begin(self, password: str = SECRET, **more: Any) -> None:
        """As the page does."""
        given = {"user": USER, "password": password, "columns": 90, "rows": 30, "csrf": self.csrf}
        await self.send({"do": "begin", **given, **more})

    async def hear(self, what: str) -> dict[str, Any]:
        """The next message of this kind; nothing else may be said before."""
        while True:
            message = await self.socket.receive(timeout=HEARD_S_MAX)
            if message.type is WSMsgType.BINARY:
                self.output += message.data
                continue
            assert message.type is WSMsgType.TEXT, (what, message)
            said: dict[str, Any] = json.loads(message.data)
            if said["say"] != "connecting":
                assert said["say"] == what, said
                return said

    async def over(self) -> str:
        """Why it ended; then the socket is closed as it should be."""
        why = str((await self.hear("over"))["why"])
        message = await self.socket.receive(timeout=HEARD_S_MAX)
        assert message.type is WSMsgType.CLOSE, message
        return why

    async def accept(self, *, yes: bool = True) -> dict[str, Any]:
        """Answers for a host key."""
        asked = await self.hear("host_key")
        await self.send({"do": "trust", "yes": yes})
        return asked

    async def open(self) -> None:
        """To a shell, whose host key may be new."""
        await self.begin()
        await self.accept()
        await self.hear("open")

    async def see(self, text: bytes) -> None:
        """Reads until the router wrote it."""
        while text not in self.output:
            message = await self.socket.receive(timeout=HEARD_S_MAX)
            assert message.type is WSMsgType.BINARY, message
            self.output += message.data


class Terminals:
    """The whole; the operator is signed in, and has a session to the SSH server."""

    def __init__(self, server: ApiServer, rig: Rig, ssh: SshServer, tasks: asyncio.TaskGroup):
        self.server = server
        self.rig = rig
        self.ssh = ssh
        self.session_id = ""
        self.company_id = ""
        self.csrf = ""
        self.looks = 0  # after the rights of whoever has a terminal
        self.link: RawDevice
        self._tasks = tasks

    async def prepare(self) -> None:
        server = self.server
        self.company_id = await server.company()
        credits = {"company_id": self.company_id, "credits": 2}
        await server.done("POST", "/api/v1/credits/grants", credits)
        made = {"serial": SERIAL, "company_id": self.company_id, "activate": True}
        await server.done("POST", "/api/v1/devices", made)
        # The relay takes this gateway's tickets.
        server.site.tickets._key, server.site.tickets.kid = self.rig.mint.key, KID
        await server.store.write(self._join)
        self.csrf = await self.sign_in(server.client, EMAIL)
        self.session_id = await self.session()
        await self.connect_device(self.session_id)

    def _join(self, tx: Transaction) -> None:
        one_relay(tx, public_port=self.rig.port)
        take_state(tx, RELAY, State(EPOCH, 0, 0, 0, 0))
        tx.run(update(device).values(joined_at=tx.now_ms))

    async def sign_in(self, client: aiohttp.ClientSession, email: str) -> str:
        """The token that pages show."""
        given = {"email": email, "password": PASSWORD}
        async with client.post(
            f"{self.server.url}/api/v1/login", json=given, headers={"Origin": self.server.url}
        ) as answer:
            return str((await answer.json())["csrf"])

    async def session(self, **given: Any) -> str:
        """A new one, of the operator."""
        wanted = {"serial": SERIAL, "protocol": "ssh", **given}
        return str((await self.server.done("POST", "/api/v1/sessions", wanted))["id"])

    async def session_of(self, client: aiohttp.ClientSession, csrf: str) -> str:
        """A new one, of who is signed in there."""
        async with client.post(
            f"{self.server.url}/api/v1/sessions",
            json={"serial": SERIAL, "protocol": "ssh"},
            headers={"Origin": self.server.url, "X-CSRF-Token": csrf},
        ) as answer:
            made = await answer.json()
            assert answer.status == 201, made
            return str(made["id"])

    async def relay_at(self, port: int, **values: Any) -> None:
        """Where terminals look for the relay from now on."""

        def move(tx: Transaction) -> None:
            tx.lock_relay(RELAY)
            tx.run(update(relay).values(public_port=port, **values))

        await self.server.store.write(move)

    async def looked(self, times: int) -> None:
        """The one terminal was looked after so often from now on."""
        until = self.looks + times
        await fact(lambda: self.looks > until)

    async def right_lost(self, person_id: int) -> None:
        """All roles of a person."""
        gone = delete(membership).where(membership.c.person_id == person_id)
        await self.server.store.write(lambda tx: tx.run(gone))

    async def connect_device(self, session_id: str) -> None:
        """The device's link of a session."""

        def look(tx: Transaction) -> AnyRow:
            row = tx.one(session.select().where(session.c.id == session_id))
            assert row is not None
            return row

        row = await self.server.store.read(look)
        now_ms = self.rig.mint.clock.wall_ms()
        claims = claims_for(row, Party.DEVICE, Way.LINK, epoch=EPOCH, now_ms=now_ms)
        self.link = await self.rig.device(claims, on_open=self._opened)

    def _opened(self, stream: Stream) -> None:
        target = TargetSocket(stream, _BUFFER)
        stream.user = target
        self._tasks.create_task(self._dial(target, stream))

    async def _dial(self, target: TargetSocket, stream: Stream) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: target, "127.0.0.1", self.ssh.port
            )
        except OSError:
            stream.refuse("refused")

    def address(self, session_id: str = "") -> str:
        return f"{self.server.url}/sessions/{session_id or self.session_id}/terminal/socket"

    @asynccontextmanager
    async def tab(
        self,
        session_id: str = "",
        *,
        client: aiohttp.ClientSession | None = None,
        csrf: str = "",
        **options: Any,
    ) -> AsyncIterator[Tab]:
        """A tab of the operator, or of somebody else."""
        options = {"origin": self.server.url, **options}
        async with (client or self.server.client).ws_connect(
            self.address(session_id), **options
        ) as socket:
            yield Tab(socket, csrf or self.csrf)

    async def person(self, email: str, role: str) -> int:
        """Somebody of the company."""
        hashed = await asyncio.to_thread(hash_password, PASSWORD)

        def make(tx: Transaction) -> int:
            made = make_person(tx, email, email.partition("@")[0], hashed)
            values = {"person_id": made, "company_id": int(self.company_id), "role": role}
            tx.run(membership.insert(), {**values, "created_at": tx.now_ms})
            return made

        return await self.server.store.write(make)


@asynccontextmanager
async def terminals(
    folder: Path, database: Address, **relay_options: Any
) -> AsyncIterator[Terminals]:
    """Everything at work; nothing of it is left afterwards."""
    ssh = SshServer()
    await ssh.listen()
    (folder / "relay").mkdir()
    try:
        async with (
            running_relay(folder / "relay", web=web_factory, **relay_options) as rig,
            asyncio.TaskGroup() as tasks,
        ):
            async with api_server(folder, database) as server:
                made = Terminals(server, rig, ssh, tasks)
                await made.prepare()
                yield made
            made.link.transport.abort()
    finally:
        await ssh.close()
