"""One connection to the MQTT server; above this module nobody has heard of the MQTT library."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable
from typing import Any, NamedTuple, Protocol, TypeVar

import aiomqtt
from aiomqtt.exceptions import MqttCodeError, MqttConnectError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.errors import ConnectionFailed, LoginRefused, LoginTakenOver
from agent.state import Login

# Heartbeats keep the way through a NAT open, and every fourth is answered; a ping between them
# would cost as much as a heartbeat does. So pings are for links that say little, and a dead link is
# found by what it does not acknowledge.
KEEPALIVE_S_MIN = 60
KEEPALIVE_S_MAX = 300
_KEEPALIVE_INTERVALS = 5
_UNACKNOWLEDGED_MS_MAX = 90_000
ANSWER_S_MAX = 10.0
INCOMING_MAX = 64  # more than a gateway says at once; what does not fit is said again by receipts
OUTGOING_MAX = 64  # the sender waits for each message, so this is never reached
INCOMING_BYTES_MAX = 16 * 1024 + 512
FAREWELL_S_MAX = 3.0

T = TypeVar("T")

_TAKEN_OVER = 0x8E
# Busy, unavailable and the like are weather; these are a "no" to this login.
_REFUSALS = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x97, 0x98, 0x9F})


class Address(NamedTuple):
    """Where an MQTT server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Incoming(NamedTuple):
    """A message for this device."""

    topic: str
    payload: bytes


class Dial(Protocol):
    """Makes a connection; the simulator's networks fail on purpose. Raises `ConnectionFailed`."""

    async def __call__(
        self,
        address: Address,
        login: Login,
        *,
        tls: ssl.SSLContext | None,
        will: tuple[str, bytes],
        keepalive_s: int,
    ) -> "Connection": ...


class _Client(aiomqtt.Client):
    """aiomqtt's client, but one that can be let go of at any moment.

    aiomqtt connects in a thread and, when that is cancelled or the answer does not come, leaves the
    socket open behind it; a simulated power cut also needs an end without DISCONNECT.
    """

    _guard = threading.Lock()
    _connecting: bool = False
    _abandoned: bool = False

    def _client_connect(self) -> None:
        with self._guard:
            if self._abandoned:
                raise OSError("abandoned")
            self._connecting = True
        try:
            super()._client_connect()
        finally:
            with self._guard:
                self._connecting = False
                if self._is_abandoned():
                    self._loop.call_soon_threadsafe(self._drop)

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:
        """aiomqtt waits by `asyncio.wait_for`; of a cancellation that comes in the same turn of the
        loop as the answer nothing is left by that in Python 3.11, and whoever was told to end
        goes on.
        """
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError("Operation timed out") from None

    def _on_disconnect(
        self,
        client: Any,
        userdata: Any,
        flags: Any,
        reason_code: Any,
        properties: Properties | None = None,
    ) -> None:
        """An end before the answer is an answer too; the library would wait for its time limit."""
        if not self._connected.done():
            self._connected.set_exception(MqttCodeError(reason_code, "Ended before the answer"))
            return
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _is_abandoned(self) -> bool:
        return self._abandoned

    def connect_s_max(self, seconds: float) -> None:
        """For TCP and for TLS; the library's 5 s are short on a bad mobile connection."""
        self._client.connect_timeout = seconds

    def abandon(self) -> None:
        """Closes the socket without a word, once no thread uses it any more."""
        with self._guard:
            self._abandoned = True
            if not self._connecting:
                # After the callbacks by which the thread put the socket into the loop.
                self._loop.call_soon(self._drop)

    def _drop(self) -> None:
        self._client._sock_close()
        for future in (self._connected, self._disconnected):
            if future.done() and not future.cancelled():
                future.exception()  # seen, so that nobody complains that it was not


class Connection:
    """A connection that was accepted."""

    def __init__(self, client: _Client, address: Address) -> None:
        self._client = client
        self.address = address

    async def subscribe(self, *topics: tuple[str, int]) -> None:
        """Raises `ConnectionFailed`, also when the server does not allow one of them."""
        try:
            granted = await self._client.subscribe(list(topics))
        except aiomqtt.MqttError as error:
            raise _failure(error) from error
        for code in granted:
            if (code.value if isinstance(code, ReasonCode) else code) >= 0x80:
                raise LoginRefused(f"subscription not allowed: {code}")

    async def publish(self, topic: str, payload: bytes, *, qos: int) -> None:
        """Returns when the message was written (QoS 0) or acknowledged (QoS 1)."""
        try:
            await self._client.publish(topic, payload, qos)
        except (aiomqtt.MqttError, ValueError) as error:
            raise _failure(error) from error

    async def incoming(self) -> AsyncIterator[Incoming]:
        """Messages until the connection ends, which raises `ConnectionFailed`."""
        try:
            async for message in self._client.messages:
                payload = message.payload
                if isinstance(payload, bytes):
                    yield Incoming(str(message.topic), payload)
        except aiomqtt.MqttError as error:
            raise _failure(error.__cause__ or error) from error
        raise ConnectionFailed("the connection ended")

    async def close(self) -> None:
        """Takes leave, so that the server does not publish the Last Will."""
        try:
            async with asyncio.timeout(FAREWELL_S_MAX):
                await self._client.__aexit__(None, None, None)
        except (aiomqtt.MqttError, TimeoutError, OSError):
            pass  # It ended some other way, and that is just as well.
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Ends the connection without a word, as a power cut does."""
        self._client.abandon()


def keepalive_s(interval_s: int) -> int:
    """Long enough that a receipt comes before a ping is due, short enough for a NAT."""
    return min(KEEPALIVE_S_MAX, max(KEEPALIVE_S_MIN, _KEEPALIVE_INTERVALS * interval_s))


async def connect(
    address: Address,
    login: Login,
    *,
    tls: ssl.SSLContext | None,
    will: tuple[str, bytes],
    keepalive_s: int,
) -> Connection:
    """MQTT 5, clean start, no session afterwards. Raises `ConnectionFailed`."""
    kind = PacketTypes.CONNECT
    properties = Properties(kind)  # type: ignore[no-untyped-call]  # paho has no types here
    properties.SessionExpiryInterval = 0
    properties.MaximumPacketSize = INCOMING_BYTES_MAX
    properties.ReceiveMaximum = INCOMING_MAX
    client = _Client(
        address.host,
        address.port,
        username=login.serial,
        password=login.password,
        identifier=login.serial,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=True,
        properties=properties,
        keepalive=keepalive_s,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS_MAX)],
        timeout=ANSWER_S_MAX,
        tls_context=tls,
        will=aiomqtt.Will(will[0], will[1], qos=1),
        max_queued_incoming_messages=INCOMING_MAX,
        max_queued_outgoing_messages=OUTGOING_MAX,
    )
    client.connect_s_max(ANSWER_S_MAX)
    try:
        await client.__aenter__()
    except aiomqtt.MqttError as error:
        client.abandon()
        raise _failure(error) from error
    except BaseException:
        client.abandon()
        raise
    return Connection(client, address)


def _failure(error: BaseException) -> ConnectionFailed:
    code = error.rc if isinstance(error, MqttCodeError) else None
    value = code.value if isinstance(code, ReasonCode) else code
    if value == _TAKEN_OVER:
        return LoginTakenOver("another client signed in with this serial")
    if isinstance(error, MqttConnectError) and value in _REFUSALS | {4, 5}:
        return LoginRefused(str(error))
    return ConnectionFailed(str(error) or type(error).__name__)
