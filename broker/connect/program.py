"""What `fleetgate connect` does from its options to its exit code."""

import asyncio
import json
import random
from collections.abc import Callable

from broker.connect import words
from broker.connect.api import Api, ApiError, Server
from broker.connect.arguments import Options
from broker.connect.local_ports import LINK_WAIT_S_MAX, LocalPort, NotYet, read_buffer
from broker.connect.session import Say, Session, open_session
from broker.connect.standard_streams import StandardStreams, taken_over
from wire.frames import LinkError
from wire.splice import Splice
from wire.stream import Stream

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXPLANATIONS_WAITING_MAX = 8
EXPLAINED_EVERY_S = 5.0  # a browser opens many connections, and one line says enough

Show = Callable[[str], None]


class Failed(Exception):
    """It ends here; the text says why, and what to do."""


class StandardSplice(Splice):
    """Standard input and output, joined with a stream."""

    def __init__(self, stream: Stream, buffer: memoryview) -> None:
        super().__init__(stream, buffer)
        self.reason = ""  # why the stream ended before its time

    def stream_ended(self, reason: str) -> None:
        """The stream is gone."""
        self.reason = reason
        super().stream_ended(reason)


class Program:
    """One run. `say` writes to people, `show` what was asked for to standard output."""

    def __init__(self, options: Options, *, say: Say, show: Show, rng: random.Random) -> None:
        self._options = options
        self._say = say
        self._show = show
        self._rng = rng
        self._api = Api(Server(options.url, options.token, options.ca, options.admin_socket))
        self._sessions: list[Session] = []
        self._refused: asyncio.Queue[tuple[Session, str]] = asyncio.Queue(EXPLANATIONS_WAITING_MAX)
        self._buffer = read_buffer()

    async def run(self, stop: asyncio.Event) -> int:
        """Runs until it is done, all sessions are over, or `stop` is set; the exit code."""
        try:
            async with asyncio.TaskGroup() as tasks:
                work = tasks.create_task(self._work(tasks))
                stopped = tasks.create_task(stop.wait())
                await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
                code = work.result() if work.done() else EXIT_DONE
                work.cancel()
                stopped.cancel()
        finally:
            # Not inside the work: ssh ends our input and signals at once, and a signal that comes
            # while sessions are being closed must not leave them open.
            await self._close_sessions()
        return code

    async def _work(self, tasks: asyncio.TaskGroup) -> int:
        keepers: list[asyncio.Task[None]] = []
        try:
            for wanted in self._options.wanted:
                session = await open_session(
                    self._api,
                    wanted,
                    minutes=self._options.minutes,
                    reason=self._options.reason,
                    ca=self._options.ca,
                    at=self._options.relay,
                    say=self._say,
                    rng=self._rng,
                )
                self._sessions.append(session)
                keepers.append(tasks.create_task(session.keep()))
            await self._first_links()
            if self._options.stdio:
                return await self._join_standard_streams(self._sessions[0])
            return await self._serve(tasks, keepers)
        except (ApiError, Failed) as error:
            self._say(str(error))
            return EXIT_FAILED
        finally:
            for keeper in keepers:
                keeper.cancel()

    async def _first_links(self) -> None:
        """A command that cannot work says so at once. Raises `Failed`."""
        async with asyncio.TaskGroup() as waits:
            waiting = [
                waits.create_task(session.linked(LINK_WAIT_S_MAX)) for session in self._sessions
            ]
        for session, link in zip(self._sessions, waiting, strict=True):
            if link.result() is None:
                why = session.over or session.trouble or "no link to the relay"
                raise Failed(f"{session.wanted}: {why}")

    async def _close_sessions(self) -> None:
        async with asyncio.TaskGroup() as closing:
            for session in self._sessions:
                if self._options.keep or session.over is not None:
                    session.hang_up()
                else:
                    closing.create_task(session.close())

    # Local ports

    async def _serve(self, tasks: asyncio.TaskGroup, keepers: list[asyncio.Task[None]]) -> int:
        ports: list[LocalPort] = []
        explaining = tasks.create_task(self._explain())
        try:
            places = []
            for session in self._sessions:
                port = LocalPort(session, tasks, self._buffer, self._noter(session))
                ports.append(port)
                places.append(await self._listen(port))
            self._announce(places)
            ends = [
                tasks.create_task(self._over(port, keeper))
                for port, keeper in zip(ports, keepers, strict=True)
            ]
            await asyncio.wait(ends)
            return EXIT_FAILED
        finally:
            explaining.cancel()
            for port in ports:
                port.close()

    async def _listen(self, port: LocalPort) -> tuple[str, int]:
        address, number = self._options.local_address, port.session.wanted.local_port
        try:
            return await port.listen(address, number)
        except OSError as error:
            raise Failed(
                f"{port.session.wanted}: cannot listen on {address} port {number}: "
                f"{words.of_os_error(error)}. "
                "Take another with --local-port or --local."
            ) from error

    async def _over(self, port: LocalPort, keeper: asyncio.Task[None]) -> None:
        await asyncio.wait((keeper,))
        port.close()
        if port.session.over is not None:
            self._say(f"{port.session.wanted}: the session is over: {port.session.over}")

    def _announce(self, places: list[tuple[str, int]]) -> None:
        if self._options.as_json:
            rows = [
                {
                    "address": address,
                    "port": port,
                    "serial": session.wanted.serial,
                    "target": session.target,
                    "protocol": session.protocol,
                    "session": session.id,
                    "expires_at": session.expires_at,
                }
                for session, (address, port) in zip(self._sessions, places, strict=True)
            ]
            self._show(json.dumps({"ports": rows}))
            return
        table = [("local port", "leads to", "try")]
        for session, (address, port) in zip(self._sessions, places, strict=True):
            shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            leads = f"{session.wanted.serial} {session.target}"
            table.append((shown, leads, _hint(session.protocol, address, port, shown)))
        widths = [max(len(row[column]) for row in table) for column in range(2)]
        for first, second, third in table:
            self._show(f"{first:<{widths[0]}}  {second:<{widths[1]}}  {third}".rstrip())
        self._say(f"until {self._sessions[0].expires_at}; Ctrl-C ends it")

    def _noter(self, session: Session) -> Callable[[str], None]:
        def note(reason: str) -> None:
            try:
                self._refused.put_nowait((session, reason))
            except asyncio.QueueFull:
                pass  # enough is being said

        return note

    async def _explain(self) -> None:
        """Tells the person why connections fail; the same reason not again and again."""
        loop = asyncio.get_running_loop()
        said: dict[tuple[str, str], float] = {}
        while True:
            session, reason = await self._refused.get()
            if session.over is not None or session.link is None:
                continue  # the session says it itself
            last_s = said.get((session.id, reason))
            if last_s is not None and loop.time() - last_s < EXPLAINED_EVERY_S:
                continue
            self._say(await session.explanation(reason))
            said[session.id, reason] = loop.time()

    # Standard input and output

    async def _join_standard_streams(self, session: Session) -> int:
        link = session.link
        if link is None:
            raise Failed(f"{session.wanted}: {session.over or 'the link to the relay is lost'}")
        try:
            stream = link.open(NotYet())
        except LinkError as error:
            raise Failed(f"{session.wanted}: {error}") from error
        splice = StandardSplice(stream, self._buffer)
        stream.user = splice
        streams = StandardStreams(splice, *taken_over())
        streams.start()
        try:
            failure = await asyncio.shield(streams.ended)
        finally:
            streams.abort()
        if splice.reason:
            if splice.reason == "session_over" or splice.reason in words.ENDS:
                why = words.of_end(splice.reason)
                raise Failed(f"{session.wanted}: the session is over: {why}")
            raise Failed(await session.explanation(splice.reason))
        if failure is not None and not isinstance(failure, BrokenPipeError):
            raise Failed(f"standard input or output: {failure.__class__.__name__}: {failure}")
        return EXIT_DONE if failure is None else EXIT_FAILED


def _hint(protocol: str, address: str, port: int, shown: str) -> str:
    """A line to copy."""
    if protocol in ("http", "https"):
        return f"{protocol}://{shown}/"
    if protocol == "ssh":
        return f"ssh -p {port} root@{address}"
    if protocol == "telnet":
        return f"telnet {address} {port}"
    if protocol in ("vnc", "rdp"):
        return f"{protocol} to {shown}"
    return ""
