"""The gateway's MQTT connection for ingest: mqtt5's codec under a small asyncio protocol."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mqtt5

from gateway.unix_socket import short_path

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 20
ANSWER_S_MAX = 10.0
RECEIVE_MAX = 1_000  # unacknowledged QoS 1 messages that the server may have under way
INFLIGHT_MAX = 200  # our own QoS 1 messages under way
PENDING_BYTES_MAX = 1024 * 1024
TICK_S = 0.5
STOOD_STILL_S_MAX = 3.0


def _boot_s() -> float:
    """A clock that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SessionLost(Exception):
    """The connection ended; it will be made again."""


@dataclass(frozen=True, slots=True)
class Login:
    """How a gateway signs in at its MQTT server's unix socket."""

    socket: Path
    name: str
    password: str


class Session(asyncio.Protocol):
    """One connection. Messages are handed to `deliver` as they come; the caller acknowledges."""

    def __init__(self, login: Login, deliver: Callable[[mqtt5.PublishPacket], None]) -> None:
        self._login = login
        self._deliver = deliver
        self._transport: asyncio.Transport | None = None
        self._pending = bytearray()
        self._packet_id = 0
        self._acks: dict[int, asyncio.Future[mqtt5.PubAckReasonCode]] = {}
        loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[None] = loop.create_future()
        self._subscribed: asyncio.Future[list[mqtt5.SubAckReasonCode]] = loop.create_future()
        self._unsubscribed: asyncio.Future[None] = loop.create_future()
        self._lost: asyncio.Future[None] = loop.create_future()
        self._heard_at_s = loop.time()
        self._reading = True
        self._ticked_at_s = _boot_s()
        self._ticker: asyncio.TimerHandle | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ticked_at_s = _boot_s()
        self._tick()
        self._write(
            mqtt5.ConnectPacket(
                self._login.name,
                username=self._login.name,
                password=self._login.password.encode(),
                clean_start=True,
                keep_alive=KEEP_ALIVE_S,
                receive_max=RECEIVE_MAX,
            )
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        self._fail(str(exc) if exc else "closed by the server")

    def data_received(self, data: bytes) -> None:
        if self._stood_still():
            return
        self._heard_at_s = asyncio.get_running_loop().time()
        if self._pending:
            self._pending += data
            data = bytes(self._pending)
            self._pending.clear()
        view = memoryview(data)
        position = 0
        while position < len(data):
            try:
                packet, used = mqtt5.read(view[position:])
            except IndexError:
                self._pending += view[position:]
                break
            except ValueError as error:
                self._fail(f"unreadable packet: {error}")
                return
            position += used
            self._packet(packet)
        if len(self._pending) > PENDING_BYTES_MAX:
            self._fail("a packet larger than any that is allowed")

    def _stood_still(self) -> bool:
        """Whether this process or its machine was stopped; that ends the session.

        What waited for it meanwhile would be dated as if it had just arrived. It is let go, and
        the devices send it again with its age.
        """
        if _boot_s() - self._ticked_at_s <= STOOD_STILL_S_MAX:
            return False
        self._fail("this process stood still")
        return True

    def _tick(self) -> None:
        # Which comes first after a standstill, the timer or what waited, is not ours to choose.
        if self._stood_still():
            return
        self._ticked_at_s = _boot_s()
        self._ticker = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    # Our side

    def pause(self) -> None:
        """Stops reading: more waits here than should."""
        if self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads again."""
        if self._transport is not None and not self._transport.is_closing():
            self._reading = True
            self._heard_at_s = asyncio.get_running_loop().time()
            self._transport.resume_reading()

    def send(self, messages: list[tuple[str, bytes]]) -> None:
        """Publishes at QoS 0, all in one write."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(
                b"".join(mqtt5.PublishPacket(topic, payload).write() for topic, payload in messages)
            )

    async def publish(self, topic: str, payload: bytes) -> mqtt5.PubAckReasonCode:
        """Publishes at QoS 1; the server's reason code. Raises `SessionLost`."""
        if self._lost.done() or len(self._acks) >= INFLIGHT_MAX:
            raise SessionLost("not connected, or too many messages under way")
        packet_id = self._next_id()
        done: asyncio.Future[mqtt5.PubAckReasonCode] = asyncio.get_running_loop().create_future()
        self._acks[packet_id] = done
        try:
            self._write(
                mqtt5.PublishPacket(
                    topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id
                )
            )
            async with asyncio.timeout(ANSWER_S_MAX):
                return await done
        except TimeoutError as error:
            raise SessionLost("no answer to a message") from error
        finally:
            self._acks.pop(packet_id, None)

    def _next_id(self) -> int:
        self._packet_id = self._packet_id % 65_535 + 1
        return self._packet_id

    def acknowledge(self, packet_id: int) -> None:
        """A QoS 1 message is committed."""
        self._write(mqtt5.PubAckPacket(packet_id))

    async def start(self, filters: list[str]) -> None:
        """Waits until signed in and subscribed. Raises `SessionLost`."""
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                await self._accepted
                # Whatever QoS a device publishes at: the server disconnects who answers a message
                # of QoS 2 as this session answers those of QoS 1.
                qos = mqtt5.QoS.AT_LEAST_ONCE
                wanted = [mqtt5.TopicFilter(text, max_qos=qos) for text in filters]
                self._write(mqtt5.SubscribePacket(1, wanted))
                codes = await self._subscribed
        except TimeoutError as error:
            raise SessionLost("the MQTT server does not answer") from error
        refused = [text for text, code in zip(filters, codes, strict=True) if int(code) >= 128]
        if refused:
            raise SessionLost(f"subscriptions refused: {', '.join(refused)}")

    async def stop(self, filters: list[str]) -> None:
        """Takes no more of these; returns when all that came has come. Raises `SessionLost`."""
        self._write(mqtt5.UnsubscribePacket(self._next_id(), filters))
        await self._unsubscribed

    async def until_lost(self) -> None:
        """Keeps the connection alive; raises `SessionLost` when it ends."""
        loop = asyncio.get_running_loop()
        while True:
            done, _ = await asyncio.wait({self._lost}, timeout=KEEP_ALIVE_S / 2)
            if done:
                await self._lost
            if self._reading and loop.time() - self._heard_at_s > 2 * KEEP_ALIVE_S:
                self._fail("the MQTT server fell silent")
                await self._lost
            self._write(mqtt5.PingReqPacket())

    def close(self) -> None:
        """Ends the connection cleanly."""
        self._write(mqtt5.DisconnectPacket())
        if self._transport is not None:
            self._transport.close()
        self._fail("closed")

    def _write(self, packet: mqtt5.Packet) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(packet.write())

    def _packet(self, packet: mqtt5.Packet) -> None:
        kind = type(packet)
        if kind is mqtt5.PublishPacket:
            self._deliver(packet)  # type: ignore[arg-type]  # its type was compared above
        elif isinstance(packet, mqtt5.PubAckPacket):
            done = self._acks.get(packet.packet_id)
            if done is not None and not done.done():
                done.set_result(packet.reason_code)
        elif isinstance(packet, mqtt5.ConnAckPacket):
            if packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
                self._fail(f"refused: {packet.reason_code.name}")
            elif not self._accepted.done():
                self._accepted.set_result(None)
        elif isinstance(packet, mqtt5.SubAckPacket):
            if not self._subscribed.done():
                self._subscribed.set_result(packet.reason_codes)
        elif isinstance(packet, mqtt5.UnsubAckPacket):
            if not self._unsubscribed.done():
                self._unsubscribed.set_result(None)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            self._fail(f"disconnected: {packet.reason_code.name}")

    def _fail(self, reason: str) -> None:
        waiters: list[asyncio.Future[Any]] = [self._accepted, self._subscribed, self._lost]
        for waiter in (*waiters, self._unsubscribed, *self._acks.values()):
            if not waiter.done():
                waiter.set_exception(SessionLost(reason))
                # Whoever does not wait any more is not to be told.
                waiter.exception()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()


async def open_session(login: Login, deliver: Callable[[mqtt5.PublishPacket], None]) -> Session:
    """Connects to the MQTT server's unix socket. Raises `SessionLost`."""
    loop = asyncio.get_running_loop()
    try:
        with short_path(login.socket) as path:
            _, session = await loop.create_unix_connection(lambda: Session(login, deliver), path)
    except (OSError, socket.gaierror) as error:
        raise SessionLost(os.strerror(error.errno) if error.errno else str(error)) from error
    return session
