"""The relay's link to the gateway, by MQTT: leases come in, states go out."""

import asyncio
import logging
import re
import secrets
import ssl
from pathlib import Path
from typing import NamedTuple

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from broker.relay.lease import LeaseWatch
from broker.relay.mqtt_client import Client
from broker.relay.reports import Reports
from broker.relay.sessions import Sessions
from wire.heartbeat import WireError
from wire.relay_control import LEASE_EVERY_S, LEASE_S, Lease, decode_lease
from wire.topics import relay_command, relay_event

log = logging.getLogger(__name__)

STATE_EVERY_S = LEASE_EVERY_S
PAUSE_S = 0.1  # the first that happens is said at once, what follows it together
MORE_S = 0.4  # when it does not fit into one message
ANSWER_S_MAX = 10.0
PARTING_S_MAX = 1.0  # whoever stops the relay waits for this
KEEPALIVE_S = 15
WAIT_S_FIRST = 0.2
WAIT_S_MAX = 5.0
INCOMING_MAX = 64
_WORD = re.compile(r"[a-z_]{1,64}")


class MqttServers(NamedTuple):
    """Where the relay signs in, as `@` and its id: at the first that answers."""

    addresses: tuple[tuple[str, int], ...]
    ca_file: Path
    password_file: Path


class ControlError(Exception):
    """The MQTT server did not let the relay do what it must."""


class Control:
    """Connects for ever; what it hears is applied at once."""

    def __init__(
        self,
        servers: MqttServers,
        *,
        relay: str,
        epoch: str,
        sessions: Sessions,
        lease: LeaseWatch,
    ) -> None:
        self._servers = servers
        self._turn = 0  # which of them is tried now
        self.leased = False  # by a gateway behind it
        self.left = asyncio.Event()  # taken out of service, and the last session is over
        self._relay = relay
        self._epoch = epoch
        self._sessions = sessions
        self._lease = lease
        self._reports = Reports(sessions, epoch)
        self._stirred = asyncio.Event()
        self.connected = False

    @property
    def applied(self) -> int:
        """The number of the newest revocation."""
        return self._reports.applied

    def stir(self) -> None:
        """Something happened that the gateway should hear now."""
        self._stirred.set()

    async def run(self) -> None:
        """Until cancelled."""
        wait_s = WAIT_S_FIRST
        dice = secrets.SystemRandom()
        me = asyncio.current_task()
        assert me is not None
        async with asyncio.TaskGroup() as group:
            while True:
                # A task of its own: Python 3.11's TaskGroup may leave its owner marked as
                # cancelled, and the mark is looked at below.
                connected = await group.create_task(self._attempt(), name="control link")
                if me.cancelling():
                    # Parting failed as well; an error takes the cancellation's place then.
                    raise asyncio.CancelledError
                if connected:
                    wait_s = WAIT_S_FIRST
                # After one that served, the own one again: others have relays of their own.
                self._turn = 0 if self.leased else self._turn + 1
                await asyncio.sleep(dice.uniform(0, wait_s))  # relays come back one after another
                wait_s = min(2 * wait_s, WAIT_S_MAX)

    async def _attempt(self) -> bool:
        """Connects and stays connected as long as it can; whether it ever was."""
        try:
            await self._session()
        except* (aiomqtt.MqttError, ControlError, OSError, ValueError) as errors:
            log.warning("no control link error=%s", errors.exceptions[0])
        connected, self.connected = self.connected, False
        return connected

    async def _session(self) -> None:
        self.leased = False
        addresses = self._servers.addresses
        host, port = addresses[self._turn % len(addresses)]
        async with self._client(host, port) as client:
            for code in await client.subscribe(relay_command(self._relay), qos=0):
                if (code.value if isinstance(code, ReasonCode) else code) >= 0x80:
                    raise ControlError(f"subscription not allowed: {code}")
            self.connected = True
            log.info("control link up server=%s:%s", host, port)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._listen(client))
                    group.create_task(self._report(client))
                    if len(addresses) > 1:
                        group.create_task(self._insist_on_leases())
            finally:
                client.timeout = PARTING_S_MAX

    def _client(self, host: str, port: int) -> Client:
        login = f"@{self._relay}"
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.load_verify_locations(cafile=self._servers.ca_file)
        return Client(
            host,
            port,
            username=login,
            password=self._servers.password_file.read_text(encoding="utf-8").strip(),
            identifier=login,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            keepalive=KEEPALIVE_S,
            timeout=ANSWER_S_MAX,
            tls_context=tls,
            max_queued_incoming_messages=INCOMING_MAX,
        )

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            try:
                lease = decode_lease(message.payload)
            except (WireError, ValueError, RecursionError) as error:
                log.warning("lease not readable error=%s", error)
                continue
            self.take(lease)
        raise ControlError("the connection ended")

    async def _insist_on_leases(self) -> None:
        """An MQTT server whose gateways are away is left for one that has some."""
        while True:
            await asyncio.sleep(LEASE_S)
            if self._lease.age_s > LEASE_S:
                raise ControlError("no gateway answers here")

    async def _report(self, client: aiomqtt.Client) -> None:
        while True:
            self._stirred.clear()
            await client.publish(relay_event(self._relay), self._reports.make(), qos=1)
            await asyncio.sleep(PAUSE_S)
            try:
                async with asyncio.timeout(MORE_S if self._reports.more else STATE_EVERY_S):
                    await self._stirred.wait()
            except TimeoutError:
                pass  # time for the next one

    def take(self, lease: Lease) -> None:
        """Applies a lease; one that was meant for an earlier life of this relay is ignored."""
        if lease.epoch != self._epoch:
            log.info("lease of another epoch ignored")
            return
        reports, before = self._reports, self._reports.applied
        for number, session, reason in sorted(lease.revoked):
            # One below the newest is applied too: ending is final, and twice is not too often.
            if not self._sessions.over(session):
                log.info("session revoked session=%s reason=%s", session, reason)
                self._sessions.revoke(session, reason if _WORD.fullmatch(reason) else "over")
            reports.applied = max(reports.applied, number)
        if not lease.revoked:
            # None is left to say: the others are older than this relay, or than a day.
            reports.applied = max(reports.applied, lease.newest)
        self._sessions.taken(lease.taken)
        # Codes go to pages and links, which know words only.
        notes = (note for note in lease.notes if _WORD.fullmatch(note.hop + note.code))
        self._sessions.take_notes(tuple(notes))
        self._lease.renew()
        self.leased = True
        if reports.applied != before:
            self.stir()
        if lease.leave and self._sessions.settled:
            self.left.set()
