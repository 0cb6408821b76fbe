"""A relay, put together: the port, the sessions, the control link."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

from broker.relay.arrivals import Arrivals
from broker.relay.clock import Clock
from broker.relay.configuration import RelayConfiguration, read_ticket_keys
from broker.relay.control import Control, MqttServers
from broker.relay.device_link import READ_BYTES, DeviceLink
from broker.relay.door import BACKLOG, Door, WebFactory, server_context
from broker.relay.happenings import Happenings
from broker.relay.lease import LeaseWatch
from broker.relay.limits import Limits
from broker.relay.sessions import SWEEP_EVERY_S, Sessions
from broker.relay.tickets import TicketDesk

log = logging.getLogger(__name__)

GOODBYE_S_MAX = 1.0  # for what was said last to arrive
GOODBYE_LOOK_S = 0.01

# Makes what serves browsers: called with the relay once, in the loop, before it listens.
WebMaker = Callable[["Relay"], WebFactory]


class Relay:
    """One life of a relay. To be made inside a running loop.

    `sessions`, `desk` and `configuration` are what those need that serve visitors; what they want
    to be done at the end they add to `endings`.
    """

    def __init__(
        self,
        configuration: RelayConfiguration,
        *,
        epoch: str,
        clock: Clock,
        web: WebMaker,
        limits: Limits | None = None,
    ) -> None:
        self.configuration = configuration
        self.epoch = epoch
        self.clock = clock
        self.lease = LeaseWatch(clock)
        self.happenings = Happenings(clock)
        self.limits = limits or Limits(
            opens_per_s=configuration.opens_per_s,
            session_mbit_s=configuration.session_mbit_s,
            company_mbit_s=configuration.company_mbit_s,
        )
        self.sessions = Sessions(
            clock=clock, lease=self.lease, happenings=self.happenings, limits=self.limits
        )
        self.desk = TicketDesk(
            read_ticket_keys(configuration.ticket_keys_file),
            relay=configuration.id,
            epoch=epoch,
            clock=clock,
            check=self.sessions.check,
            refused=self._ticket_refused,
        )
        # Behind a proxy everybody has its address.
        most = Arrivals()
        self.arrivals = Arrivals(per_address=most.most) if configuration.behind_proxy else most
        self.control = Control(
            MqttServers(
                configuration.mqtt_addresses,
                configuration.mqtt_ca_file,
                configuration.mqtt_password_file,
            ),
            relay=configuration.id,
            epoch=epoch,
            sessions=self.sessions,
            lease=self.lease,
        )
        self.happenings.stir = self.control.stir
        self.endings: list[Callable[[], Awaitable[None]]] = []
        self.tasks = asyncio.TaskGroup()  # of those that outlive the connection they began on
        self._web = web

    def bind(self) -> list[socket.socket]:
        """The sockets, listening; who connects now waits for `run`. Raises `OSError`."""
        configuration = self.configuration
        family = socket.AF_INET6 if ":" in configuration.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((configuration.host, configuration.port))
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
        return [listener]

    async def run(self, listeners: Sequence[socket.socket]) -> None:
        """Until cancelled, or taken out of service and without a session.

        Devices are told that the relay stops, so that they look for it soon.
        """
        try:
            async with self.tasks:
                await self._serve(listeners, self._web(self))
        finally:
            for ending in self.endings:
                await ending()

    async def _serve(self, listeners: Sequence[socket.socket], web: WebFactory) -> None:
        configuration = self.configuration
        buffer = memoryview(bytearray(READ_BYTES))
        visitors = None
        if configuration.visitors_certificate_file and configuration.visitors_key_file:
            visitors = server_context(
                configuration.visitors_certificate_file, configuration.visitors_key_file
            )
            visitors.set_alpn_protocols(["http/1.1"])
        door = Door(
            list(listeners),
            link_context=server_context(
                configuration.link_certificate_file, configuration.link_key_file
            ),
            visitors_context=visitors,
            plain=configuration.plain,
            link_factory=lambda address, admitted: DeviceLink(
                self.sessions, self.desk, address, admitted, buffer
            ),
            web_factory=web,
            arrivals=self.arrivals,
        )
        async with asyncio.TaskGroup() as group:
            parts = [
                group.create_task(part) for part in (door.run(), self.control.run(), self._sweep())
            ]
            try:
                await self.control.left.wait()
                log.info("taken out of service, and the last session is over")
            finally:
                # First of all: an MQTT server that hangs must not delay it.
                await self._say_goodbye()
            for part in parts:
                part.cancel()

    async def _say_goodbye(self) -> None:
        self.sessions.stop()
        try:
            async with asyncio.timeout(GOODBYE_S_MAX):
                while self.sessions.connected:  # noqa: ASYNC110  # once in a life, for a moment
                    await asyncio.sleep(GOODBYE_LOOK_S)
        except TimeoutError:
            log.info("devices not parted count=%d", self.sessions.connected)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            self.sessions.sweep()

    def _ticket_refused(self, session: str, code: str) -> None:
        log.info("ticket refused session=%s code=%s", session, code)
        self.happenings.add(session, "ticket_refused", code)
