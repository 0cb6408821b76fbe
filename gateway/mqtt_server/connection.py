"""One plain MQTT 5 connection, for the probe and for tests: no reconnecting, no queues."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import mqtt5

from gateway.unix_socket import short_path

ANSWER_S_MAX = 5.0
READ_BYTES_MAX = 65_536
PENDING_BYTES_MAX = 1024 * 1024
RECEIVED_MAX = 10_000

_Packet = TypeVar("_Packet", bound=object)


class MqttError(Exception):
    """
    MqttError
    ├── MqttUnreachable   the network; try again later
    ├── MqttRefused       the server said no to this login
    └── MqttClosed        the server ended the connection
    """


class MqttUnreachable(MqttError):
    """No MQTT server answers there."""


class MqttClosed(MqttError):
    """The server ended the connection."""


class MqttRefused(MqttError):
    """The server answered CONNECT with a refusal."""

    def __init__(self, reason: mqtt5.ConnAckReasonCode) -> None:
        super().__init__(f"refused reason={reason.name}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class UnixListener:
    """The MQTT server's unix socket."""

    path: Path


@dataclass(frozen=True, slots=True)
class TlsListener:
    """The MQTT server's listener for devices."""

    host: str
    port: int
    ca_file: Path


Listener = UnixListener | TlsListener


@dataclass(slots=True)
class Connection:
    """An open, accepted connection. What arrives unasked is kept in `received`."""

    accepted: mqtt5.ConnAckPacket
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    _pending: bytearray
    received: list[mqtt5.PublishPacket] = field(default_factory=list)
    _packet_id: int = 0

    async def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False
    ) -> mqtt5.PubAckReasonCode | None:
        """The server's reason code for QoS 1, None for QoS 0."""
        packet_id = self._next_id() if qos else None
        packet = mqtt5.PublishPacket(
            topic, payload, qos=mqtt5.QoS(qos), retain=retain, packet_id=packet_id
        )
        self._writer.write(packet.write())
        try:
            await self._writer.drain()
        except OSError as error:
            raise MqttClosed(str(error)) from error
        if not qos:
            return None
        return (await self._answer(mqtt5.PubAckPacket)).reason_code

    async def subscribe(self, *patterns: str) -> list[mqtt5.SubAckReasonCode]:
        """The server's reason code for each pattern."""
        filters = [mqtt5.TopicFilter(pattern) for pattern in patterns]
        self._writer.write(mqtt5.SubscribePacket(self._next_id(), filters).write())
        return (await self._answer(mqtt5.SubAckPacket)).reason_codes

    async def ping(self) -> None:
        """Returns when everything that the server had sent before has been received."""
        self._writer.write(mqtt5.PingReqPacket().write())
        await self._answer(mqtt5.PingRespPacket)

    async def until_received(self, *, count: int = 1, within_s: float = ANSWER_S_MAX) -> None:
        async with asyncio.timeout(within_s):
            while len(self.received) < count:
                self._keep(await self._packet())

    async def until_closed(self, *, within_s: float = ANSWER_S_MAX) -> None:
        """Returns when the server has ended this connection."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    self._keep(await self._packet())
        except MqttClosed:
            return

    async def _answer(self, kind: type[_Packet]) -> _Packet:
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                while True:
                    packet = await self._packet()
                    if isinstance(packet, kind):
                        return packet
                    self._keep(packet)
        except TimeoutError as error:
            raise MqttUnreachable(f"no {kind.__name__} in {ANSWER_S_MAX} s") from error

    def _keep(self, packet: object) -> None:
        if isinstance(packet, mqtt5.DisconnectPacket):
            raise MqttClosed(f"disconnected reason={packet.reason_code.name}")
        if isinstance(packet, mqtt5.PublishPacket):
            if len(self.received) >= RECEIVED_MAX:
                raise MqttClosed("more messages than this connection takes")
            self.received.append(packet)
            if packet.qos and packet.packet_id is not None:
                self._writer.write(mqtt5.PubAckPacket(packet.packet_id).write())

    async def _packet(self) -> mqtt5.Packet:
        return await _read_packet(self._reader, self._pending)

    def _next_id(self) -> int:
        self._packet_id = self._packet_id % 65_535 + 1
        return self._packet_id


async def _read_packet(reader: asyncio.StreamReader, pending: bytearray) -> mqtt5.Packet:
    while True:
        try:
            packet, used = mqtt5.read(memoryview(bytes(pending)))
        except IndexError:
            # The codec's word for an unfinished packet.
            if len(pending) > PENDING_BYTES_MAX:
                raise MqttClosed("the server sent an endless packet") from None
        except ValueError as error:
            raise MqttClosed(f"the server sent something else than MQTT 5: {error}") from error
        else:
            del pending[:used]
            return packet
        try:
            data = await reader.read(READ_BYTES_MAX)
        except OSError as error:
            raise MqttClosed(str(error)) from error
        if not data:
            raise MqttClosed("closed by the server")
        pending += data


@asynccontextmanager
async def connected(listener: Listener, packet: mqtt5.ConnectPacket) -> AsyncIterator[Connection]:
    """An accepted connection, closed without DISCONNECT at the end (so that a Will is sent)."""
    reader, writer = await _open(listener)
    try:
        yield await _introduce(reader, writer, packet)
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except (OSError, ssl.SSLError):
            pass  # the server went first


async def _introduce(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, packet: mqtt5.ConnectPacket
) -> Connection:
    pending = bytearray()
    try:
        writer.write(packet.write())
        async with asyncio.timeout(ANSWER_S_MAX):
            answer = await _read_packet(reader, pending)
    except TimeoutError as error:
        raise MqttUnreachable(f"no answer to CONNECT in {ANSWER_S_MAX} s") from error
    if not isinstance(answer, mqtt5.ConnAckPacket):
        raise MqttClosed("the server answered CONNECT with something else")
    if answer.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
        raise MqttRefused(answer.reason_code)
    return Connection(answer, reader, writer, pending)


async def _open(listener: Listener) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            if isinstance(listener, UnixListener):
                with short_path(listener.path) as path:
                    return await asyncio.open_unix_connection(path)
            context = ssl.create_default_context(cafile=str(listener.ca_file))
            return await asyncio.open_connection(listener.host, listener.port, ssl=context)
    except TimeoutError as error:
        raise MqttUnreachable(f"no connection in {ANSWER_S_MAX} s") from error
    except OSError as error:  # includes ssl.SSLError
        raise MqttUnreachable(str(error)) from error
