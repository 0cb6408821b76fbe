"""The device program as one object: samples, sends, listens, and survives what the network does."""

import asyncio
import logging
import secrets
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from random import Random

from agent.build import VERSION
from agent.clock import Clock
from agent.commands import CommandDesk, CommandRefused, Verbs
from agent.connection import Address, Connection, Dial, connect, keepalive_s
from agent.errors import ConnectionFailed, LoginRefused, LoginTakenOver, first_failure
from agent.heartbeat import Heartbeats
from agent.intervals import Intervals, is_interval
from agent.journal import Journal
from agent.links.allow import DEFAULT_ALLOW, parse_allow
from agent.links.resolver import Resolve
from agent.links.sessions import Sessions
from agent.links.target import DialTarget
from agent.reconnect import Reconnect
from agent.sampler import Collector, Sampler
from agent.spool import SPOOL_LIMIT, Spool
from agent.state import Login, load_intervals, save_intervals
from agent.status import Status
from agent.waiting import until_set
from wire import topics
from wire.commands import encode_answer
from wire.heartbeat import WireError, decode_receipt
from wire.presence import NONCE_BYTES, Up, encode_up
from wire.session_commands import report_answer
from wire.streams import OPENS_PER_S

log = logging.getLogger(__name__)

SNAPSHOT_S = 300.0
STOP_S_MAX = 5.0
_ANSWERS_WAITING_MAX = 64
_STOPPED_ROUND_S = 0.0
_REFUSALS_BEFORE_ASKING = 3

# Shows the record of the enrolment to the gateway: after the restore of an older backup it finds
# this device again by it. The answer is where the MQTT server is now, if one came.
AskGateway = Callable[[], Awaitable[list[Address] | None]]


class Agent:
    """One device. Everything it needs is handed in, so that hundreds can live in one process.

    `tls` is asked before each connection, so that the dates of certificates can be checked as soon
    as the clock is right; it may give the same context to many agents. None means plain TCP, for
    tests on loopback. `allow`, `dial_target`, `resolve` and `relay_tls` (else `tls`) are for the
    targets and links of sessions. A collector that may take its time is asked `sample_in_thread`.
    Raises `ConfigurationError` for a wrong entry of `allow`.
    """

    connected = False
    _server: str | None = None  # while signed in
    _refusals = 0
    _nonce = ""
    _up_wanted = False

    def __init__(
        self,
        *,
        login: Login,
        addresses: list[Address],
        tls: Callable[[], ssl.SSLContext] | None,
        state_dir: Path,
        spool_dir: Path,
        clock: Clock,
        rng: Random,
        collector: Collector,
        intervals: Intervals | None = None,
        spool_limit: int = SPOOL_LIMIT,
        spread_s: int = 0,
        journal: Journal | None = None,
        status: Status | None = None,
        dial: Dial = connect,
        ask_gateway: AskGateway | None = None,
        allow: Sequence[object] = DEFAULT_ALLOW,
        dial_target: DialTarget | None = None,
        resolve: Resolve | None = None,
        relay_tls: Callable[[], ssl.SSLContext] | None = None,
        opens_per_s: float = OPENS_PER_S,
        sample_in_thread: bool = False,
    ) -> None:
        assert addresses
        listed = parse_allow(allow)  # before anything is opened
        self.serial = login.serial
        self.spool = Spool(spool_dir, state_dir, limit=spool_limit)
        # The gateway's word outlives a restart and goes before the configuration file.
        self.heartbeats = Heartbeats(
            self.spool,
            boot_id=clock.boot_id,
            rng=rng,
            intervals=load_intervals(state_dir) or intervals or Intervals(),
        )
        self.heartbeats.spread_s = spread_s
        self._login = login
        self._addresses = addresses
        self._tls = tls
        self._state_dir = state_dir
        self._clock = clock
        self._journal = journal
        self._status = status
        self._dial = dial
        self._ask_gateway = ask_gateway
        self._reconnect = Reconnect(rng)
        changed = self._sessions_changed
        self.sessions = Sessions(
            listed, clock, rng, relay_tls or tls, changed, dial_target, resolve, opens_per_s
        )
        self._desk = CommandDesk(login.command_key, login.serial, self._verbs())
        self._answers: deque[bytes] = deque(maxlen=_ANSWERS_WAITING_MAX)
        self._started_ms = clock.boot_ms()
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()  # the sender has something to look at
        made, woken = self._tell_made, self._wake.set
        self._sampler = Sampler(
            collector, self.spool, self.heartbeats, clock, made, woken, in_thread=sample_in_thread
        )

    # Life

    async def run(self) -> None:
        """Works until `stop`; cancelled instead, it ends like a device that loses its power."""
        log.info("agent started serial=%s run=%s", self.serial, self.heartbeats.run)
        if self._journal is not None:
            self._tell_last_made(self._journal)
        try:
            async with asyncio.TaskGroup() as tasks:
                self.sessions.begin(tasks)
                linked = tasks.create_task(self._stay_connected(), name=f"connection {self.serial}")
                others = [
                    tasks.create_task(self._sampler.run(), name=f"sample {self.serial}"),
                    tasks.create_task(self._snapshot_forever(), name=f"snapshot {self.serial}"),
                ]
                await self._stopping.wait()
                self.sessions.end_all("agent_stopping")
                # A connection says goodbye; an attempt to make one is not worth waiting for.
                if self.connected:
                    await asyncio.wait([linked], timeout=STOP_S_MAX)
                for task in (linked, *others):
                    task.cancel()
            self._snapshot()
        finally:
            self.connected = False
            self.spool.close()

    def stop(self) -> None:
        """Says goodbye to the server, saves the spool, and lets `run` return."""
        self._stopping.set()
        self._wake.set()

    async def _snapshot_forever(self) -> None:
        while True:
            await asyncio.sleep(SNAPSHOT_S)
            self._snapshot()

    def _snapshot(self) -> None:
        try:
            self.spool.snapshot()
        except OSError as error:
            log.warning("no snapshot on flash error=%s", error)

    def _tell_made(self, number: int, wall_ms: int) -> None:
        if self._journal is not None:
            self._journal.made(self.serial, self.heartbeats.run, number, wall_ms)

    def _tell_last_made(self, journal: Journal) -> None:
        """A killed process may have died between the spool and the journal, at its last sample."""
        for run in self.spool.runs():
            number = self.spool.highest(run)
            stored = self.spool.read(run, number)
            if stored is not None:
                offset_ms = self.spool.boot_of(run).offset_ms or 0
                journal.made(self.serial, run, number, stored.boot_ms + offset_ms)

    # Connections

    async def _stay_connected(self) -> None:
        while not self._stopping.is_set():
            wait_s = await self._one_round()
            if not self._stopping.is_set():
                log.info("waiting before the next connection wait_s=%.1f", wait_s)
                await until_set(self._stopping, wait_s)

    async def _one_round(self) -> float:
        """Tries every host once, or lives with the first that answers; how long to wait then."""
        refused = False
        for position, address in enumerate(list(self._addresses)):
            if self._stopping.is_set():
                return _STOPPED_ROUND_S
            try:
                connection = await self._connect(address)
            except ConnectionFailed as error:
                refused = refused or isinstance(error, LoginRefused)
                log.warning("no connection server=%s error=%s", address, error)
                continue
            # The one that works is tried first the next time.
            self._addresses.insert(0, self._addresses.pop(position))
            return await self._live_with(connection)
        if not refused:
            return self._reconnect.after_failure_s()
        self._refusals += 1
        if self._ask_gateway is not None and self._refusals >= _REFUSALS_BEFORE_ASKING:
            self._addresses = await self._ask_gateway() or self._addresses
        return self._reconnect.after_refusal_s()

    async def _connect(self, address: Address) -> Connection:
        """Signs in and subscribes; the Last Will speaks of the connection that is being made."""
        self._nonce = secrets.token_hex(NONCE_BYTES)
        self.heartbeats.next_connection()
        will = (topics.presence(self.serial), self._up(up=False))
        tls = self._tls() if self._tls is not None else None
        connection = await self._dial(
            address,
            self._login,
            tls=tls,
            will=will,
            keepalive_s=keepalive_s(self.heartbeats.intervals.in_force_s),
        )
        try:
            await connection.subscribe(
                (topics.receipt(self.serial), 0), (topics.command(self.serial), 1)
            )
        except BaseException:
            connection.abandon()
            raise
        return connection

    async def _live_with(self, connection: Connection) -> float:
        began_ms = self._clock.boot_ms()
        self._sampler.sample_unless_fresh()
        self.heartbeats.connected(began_ms)
        self._refusals = 0
        self._desk.connected(self._nonce)
        self._answers.clear()
        self._up_wanted = True
        self.connected = True
        log.info(
            "connected server=%s connection=%d", connection.address, self.heartbeats.connection
        )
        self._note_status(str(connection.address))
        error: ConnectionFailed | None = None
        goodbye = False
        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(self._read(connection), name=f"read {self.serial}")
                await self._send(connection)
                goodbye = True
                reader.cancel()
        except ExceptionGroup as group:
            lost, bugs = group.split(ConnectionFailed)
            if bugs is not None:
                raise bugs from None
            error = first_failure(lost)
        finally:
            self.connected = False
            self.heartbeats.disconnected()
            if goodbye:
                await connection.close()
            else:
                connection.abandon()
            self._note_status(None)
        survived_s = (self._clock.boot_ms() - began_ms) / 1_000
        if goodbye:
            log.info("connection closed survived_s=%.0f", survived_s)
            return _STOPPED_ROUND_S
        log.warning("connection lost survived_s=%.0f error=%s", survived_s, error)
        if isinstance(error, LoginTakenOver):
            return self._reconnect.after_takeover_s(survived_s)
        return self._reconnect.after_loss_s(survived_s, self.heartbeats.spread_s)

    def _up(self, *, up: bool) -> bytes:
        return encode_up(Up(self.heartbeats.run, self.heartbeats.connection, up, self._nonce))

    async def _send(self, connection: Connection) -> None:
        """The only one that publishes, so that nothing overtakes anything."""
        presence, answers = topics.presence(self.serial), topics.answer(self.serial)
        while True:
            self._wake.clear()
            if self._up_wanted:
                self._up_wanted = False
                await connection.publish(presence, self._up(up=True), qos=1)
            while self._answers:
                await connection.publish(answers, self._answers.popleft(), qos=1)
            while (report := self.sessions.next_report()) is not None:
                await connection.publish(answers, encode_answer(report_answer(report)), qos=1)
                self.sessions.told(report)
            payload = self.heartbeats.take(self._clock.boot_ms())
            if payload is not None:
                await connection.publish(topics.heartbeat(self.serial), payload, qos=0)
                continue
            if self._stopping.is_set():
                await connection.publish(presence, self._up(up=False), qos=1)
                return
            wait_s = (self.heartbeats.due_ms() - self._clock.boot_ms()) / 1_000
            await until_set(self._wake, min(max(wait_s, 0.0), SNAPSHOT_S))

    async def _read(self, connection: Connection) -> None:
        receipts, commands = topics.receipt(self.serial), topics.command(self.serial)
        async for topic, payload in connection.incoming():
            if topic == receipts:
                self._take_receipt(payload)
                self._note_status(self._server)
            elif topic == commands:
                answer = self._desk.take(payload)
                if answer is not None:
                    self._answers.append(encode_answer(answer))
            self._wake.set()

    def _take_receipt(self, payload: bytes) -> None:
        try:
            receipt = decode_receipt(payload)
        except WireError as error:
            log.warning("receipt ignored error=%s", error)
            return
        self._desk.heard_server_time(receipt.server_time_ms)
        received = self.heartbeats.receipt(receipt, self._clock.boot_ms())
        self._up_wanted = self._up_wanted or received.send_up
        if self._journal is not None and received.settled:
            at_ms = self._clock.wall_ms()
            self._journal.receipted(self.serial, received.run, received.settled, at_ms)

    def _note_status(self, server: str | None) -> None:
        self._server = server
        if self._status is not None:
            self._status.note(server, self.heartbeats, self.spool, self.sessions.lines())

    def _sessions_changed(self) -> None:
        self._wake.set()
        self._note_status(self._server)

    # Commands

    def _verbs(self) -> Verbs:
        return {
            "refresh": self._refresh,
            "set_intervals": self._set_intervals,
            "ping": self._ping,
            "open": self.sessions.open,
            "close": self.sessions.close,
        }

    def _refresh(self, args: Mapping[str, object]) -> Mapping[str, object]:
        return {"run": self.heartbeats.run, "number": self._sampler.sample()}

    def _set_intervals(self, args: Mapping[str, object]) -> Mapping[str, object]:
        before = self.heartbeats.intervals
        sampling_s = args.get("sampling_s", before.sampling_s)
        sending_s = args.get("sending_s", before.sending_s)
        if not is_interval(sampling_s) or not is_interval(sending_s):
            raise CommandRefused("interval_out_of_bounds")
        assert isinstance(sampling_s, int)
        assert isinstance(sending_s, int)
        intervals = Intervals(sampling_s, sending_s)
        save_intervals(self._state_dir, intervals)
        self.heartbeats.intervals = intervals
        # The gateway learns the new interval, by which it judges silence, without delay.
        self._sampler.sample()
        return intervals._asdict()

    def _ping(self, args: Mapping[str, object]) -> Mapping[str, object]:
        up_s = (self._clock.boot_ms() - self._started_ms) // 1_000
        return {"agent": VERSION, "run": self.heartbeats.run, "uptime_s": up_s}
