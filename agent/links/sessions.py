"""The sessions that this device was told to serve: the commands `open` and `close`, reports."""

import asyncio
import logging
import ssl
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from random import Random

from agent.clock import Clock
from agent.commands import CommandRefused
from agent.links.allow import AllowList
from agent.links.resolver import Resolve, SystemResolver
from agent.links.session_link import SessionLink
from agent.links.surroundings import Surroundings
from agent.links.target import DialTarget, dial_target
from wire.heartbeat import WireError
from wire.session_commands import Open, Report, open_of, session_of
from wire.splice import READ_BYTES
from wire.streams import OPENS_PER_S

log = logging.getLogger(__name__)

SESSIONS_MAX = 8
REPORTS_WAITING_MAX = 64
MINUTE_S = 60
MINUTE_MS = MINUTE_S * 1_000


class Sessions:
    """Nothing of it outlives the agent: whoever wants a session tells it again."""

    def __init__(
        self,
        allow: AllowList,
        clock: Clock,
        rng: Random,
        tls: Callable[[], ssl.SSLContext] | None,
        changed: Callable[[], None],
        dial: DialTarget | None = None,
        resolve: Resolve | None = None,
        opens_per_s: float = OPENS_PER_S,
    ) -> None:
        self._allow = allow
        self._clock = clock
        self._rng = rng
        self._tls = tls
        self._changed = changed
        self._dial = dial or dial_target
        self._resolve = resolve or SystemResolver()
        self._opens_per_s = opens_per_s
        self._buffer: memoryview | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._by_id: dict[str, SessionLink] = {}
        # Only the newest of each session is worth telling.
        self._reports: OrderedDict[str, Report] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_id)

    # Life

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """From now on sessions may be opened; their tasks live in this group."""
        self._tasks = tasks

    def end_all(self, reason: str) -> None:
        """Ends them, each with a word to its relay; their tasks end within seconds."""
        self._tasks = None
        for session in self._by_id.values():
            session.end(reason)

    def abandon(self) -> None:
        """The device's network is gone: every link ends without a word."""
        for session in self._by_id.values():
            session.abandon()

    async def _serve(self, session: SessionLink) -> None:
        try:
            await session.run()
        finally:
            if self._by_id.get(session.id) is session:
                del self._by_id[session.id]
            self._changed()

    # Commands

    def open(self, args: Mapping[str, object]) -> Mapping[str, object]:
        """The command `open`. Raises `CommandRefused`."""
        order = self._order_of(args)
        session = self._by_id.get(order.session)
        if session is not None and not session.reason:
            if session.target != order.target:
                raise CommandRefused("other_target")
            return {"link": "up"} if session.tell(order) else {"dialling": True}
        if self._tasks is None or self._tls is None:
            raise CommandRefused("stopping" if self._tls is not None else "no_tls")
        if session is None and len(self._by_id) >= SESSIONS_MAX:
            raise CommandRefused("busy")
        session = SessionLink(order, self._surroundings(self._tls))
        self._by_id[order.session] = session
        self._tasks.create_task(self._serve(session), name=f"session {order.session}")
        log.info("session told session=%s target=%s", order.session, order.target)
        self._changed()
        return {"dialling": True}

    def close(self, args: Mapping[str, object]) -> Mapping[str, object]:
        """The command `close`: done also when there is no such session. Raises `CommandRefused`."""
        try:
            session = self._by_id.get(session_of(args))
        except WireError as error:
            raise CommandRefused("malformed") from error
        if session is not None:
            session.end("closed")
        return {"closed": session is not None}

    def _order_of(self, args: Mapping[str, object]) -> Open:
        try:
            order = open_of(args)
        except WireError as error:
            log.warning("session refused error=%s", error)
            # An address in another spelling than the canonical one is no target of anybody's list.
            target = str(error).startswith("target:")
            raise CommandRefused("not_allowed" if target else "malformed") from error
        address = order.target.address
        if address is not None and not self._allow.allowed(address, order.target.port):
            log.warning("session refused, its target is not allowed target=%s", order.target)
            raise CommandRefused("not_allowed")
        return order

    def _surroundings(self, tls: Callable[[], ssl.SSLContext]) -> Surroundings:
        if self._buffer is None:
            # Lent to all sockets: what is read is taken out of it at once.
            self._buffer = memoryview(bytearray(READ_BYTES))
        return Surroundings(
            self._allow,
            self._dial,
            self._resolve,
            tls,
            self._clock,
            self._rng,
            self._buffer,
            self._opens_per_s,
            self._note,
        )

    # Reports

    def _note(self, report: Report) -> None:
        self._reports[report.session] = report
        self._reports.move_to_end(report.session)
        if len(self._reports) > REPORTS_WAITING_MAX:
            self._reports.popitem(last=False)
        self._changed()

    def next_report(self) -> Report | None:
        """The oldest that waits; it goes on waiting until `told` is called with it."""
        return next(iter(self._reports.values()), None)

    def told(self, report: Report) -> None:
        """It was taken by the MQTT server; a newer one of the same session still waits."""
        if self._reports.get(report.session) is report:
            del self._reports[report.session]

    def lines(self) -> tuple[str, ...]:
        """One for each session, for people."""
        return tuple(_line(session) for session in self._by_id.values())


def _line(session: SessionLink) -> str:
    state = session.state.value if session.state is not None else "dialling"
    streams = len(session.link.streams) if session.link is not None else 0
    # An instant, as what is left would be another line each second. Whole minutes, for people.
    until = datetime.fromtimestamp(-(-session.until_ms // MINUTE_MS) * MINUTE_S, UTC)
    return f"{session.id[:8]} {session.target} {state}, {streams} streams, until {until:%H:%M} UTC"
