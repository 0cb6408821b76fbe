"""One device of the swarm: a connection that writes prepared heartbeats and counts receipts."""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable

import mqtt5

from firmware_sim.world import World
from wire import topics
from wire.fields import BY_NAME, encode_fields
from wire.heartbeat import WireError, decode_receipt, new_run
from wire.presence import NONCE_BYTES, Up, encode_up

KEEPALIVE_S = 60
INTERVAL_S = 60
# What changes in every sample of a moving LTE router, and so stands in every delta.
_MOVING = ("uptime", "rsrp", "sinr", "mobile_received", "mobile_sent")
_UPTIME, _RSRP, _SINR, _RECEIVED, _SENT = (BY_NAME[name].id for name in _MOVING)
_MOVING_IDS = frozenset((_UPTIME, _RSRP, _SINR, _RECEIVED, _SENT))
_DELTA = f"[{_UPTIME},%d,{_RSRP},%d,{_SINR},%d,{_RECEIVED},%d,{_SENT},%d]"
_RSRP_WALK = (-91, -93, -92, -95, -97, -94, -96, -99, -98, -95, -92, -90)
_SINR_WALK = (9, 8, 11, 10, 7, 6, 8, 12, 13)


class SwarmRefused(Exception):
    """The MQTT server did not accept this device."""


class SwarmDevice(asyncio.Protocol):
    """Numbers its samples properly, follows receipts with `base`, and sends each sample once."""

    __slots__ = (
        "_base",
        "_buffer",
        "_full",
        "_full_wanted",
        "_head",
        "_nonce",
        "_on_settled",
        "_password",
        "_ready",
        "_topic",
        "_transport",
        "_waiting",
        "ended",
        "number",
        "run",
        "serial",
    )

    def __init__(
        self,
        world: World,
        password: str,
        on_settled: Callable[["SwarmDevice", list[tuple[int, float]]], None],
    ) -> None:
        self.serial = world.serial
        self.run = new_run()
        self.number = 0
        self.ended = False
        self._password = password
        self._on_settled = on_settled
        self._nonce = secrets.token_hex(NONCE_BYTES)
        topic = topics.heartbeat(self.serial).encode()
        self._topic = len(topic).to_bytes(2, "big") + topic + b"\x00"  # no properties
        self._head = f'["{self.run}",0,1,'
        values = {BY_NAME[name].id: value for name, value in world.read(0.0).items()}
        still = {field: value for field, value in values.items() if field not in _MOVING_IDS}
        self._full = json.dumps(encode_fields(still), separators=(",", ":"), ensure_ascii=False)
        self._full_wanted = True
        self._base = 0
        self._waiting: deque[tuple[int, float]] = deque()  # numbers without receipt, and when sent
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # Heartbeats

    def send(self, now_s: float, *, ask: bool) -> int:
        """One live message with the next sample; the bytes of its MQTT packet."""
        assert self._transport is not None
        number = self.number = self.number + 1
        full = self._full_wanted or not 0 < self._base < number
        moving = _DELTA % (
            number * INTERVAL_S,
            _RSRP_WALK[number % len(_RSRP_WALK)],
            _SINR_WALK[number % len(_SINR_WALK)],
            number * 7_919,
            number * 1_013,
        )
        if full:
            moving = f"{self._full[:-1]},{moving[1:]}"
            self._full_wanted = False
        waiting = self._waiting
        waiting.append((number, now_s))
        text = (
            f"{self._head}{0 if full else self._base},{waiting[0][0]},{INTERVAL_S},"
            f"{int(ask or number == 1)},0,0,[[{number},0,{moving}]]]"
        )
        packet = _publish(self._topic, text.encode())
        self._transport.write(packet)
        return len(packet)

    @property
    def unreceipted(self) -> int:
        """How many samples wait for their receipt."""
        return len(self._waiting)

    def _take_receipt(self, payload: bytes) -> None:
        receipt = decode_receipt(payload)
        if receipt.run != self.run:
            return
        highest = max((last for _, last in receipt.ranges), default=receipt.upto)
        self._base = max(self._base, min(highest, self.number))
        self._full_wanted = self._full_wanted or receipt.full
        if receipt.send_up:
            self._send_up()
        settled: list[tuple[int, float]] = []
        waiting = self._waiting
        while waiting and waiting[0][0] <= receipt.upto:
            settled.append(waiting.popleft())
        if receipt.ranges and waiting:
            kept: deque[tuple[int, float]] = deque()
            for entry in waiting:
                covered = any(first <= entry[0] <= last for first, last in receipt.ranges)
                (settled if covered else kept).append(entry)
            self._waiting = kept
        if settled:
            self._on_settled(self, settled)

    # The connection

    async def wait_ready(self) -> None:
        """Until the server has granted the subscription. Raises `SwarmRefused`."""
        await self._ready

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Signs in."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        will = mqtt5.Will(
            topics.presence(self.serial),
            payload=encode_up(Up(self.run, 1, False, self._nonce)),
            qos=mqtt5.QoS.AT_LEAST_ONCE,
        )
        packet = mqtt5.ConnectPacket(
            self.serial,
            username=self.serial,
            password=self._password.encode(),
            clean_start=True,
            keep_alive=KEEPALIVE_S,
            will=will,
        )
        transport.write(packet.write())

    def data_received(self, data: bytes) -> None:
        """Takes whole packets out of the stream."""
        data = self._buffer + data if self._buffer else data
        view, at = memoryview(data), 0
        try:
            while at < len(data):
                packet, size = mqtt5.read(view[at:])
                at += size
                self._take(packet)
        except IndexError:
            pass  # The rest of the packet comes later.
        except (ValueError, WireError) as error:
            self._fail(SwarmRefused(str(error)))
        self._buffer = data[at:]

    def _take(self, packet: mqtt5.Packet) -> None:
        assert self._transport is not None
        if isinstance(packet, mqtt5.PublishPacket):
            self._take_receipt(packet.payload)
        elif isinstance(packet, mqtt5.ConnAckPacket):
            if packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
                self._fail(SwarmRefused(packet.reason_code.name))
                return
            wanted = mqtt5.TopicFilter(topics.receipt(self.serial), max_qos=mqtt5.QoS.AT_MOST_ONCE)
            self._transport.write(mqtt5.SubscribePacket(1, [wanted]).write())
        elif isinstance(packet, mqtt5.SubAckPacket):
            self._send_up()
            if not self._ready.done():
                self._ready.set_result(None)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            self._fail(SwarmRefused(packet.reason_code.name))

    def _send_up(self) -> None:
        assert self._transport is not None
        packet = mqtt5.PublishPacket(
            topics.presence(self.serial),
            encode_up(Up(self.run, 1, True, self._nonce)),
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            packet_id=2,
        )
        self._transport.write(packet.write())

    def ping(self) -> None:
        """Keeps a connection that has nothing to send."""
        if self._transport is not None:
            self._transport.write(mqtt5.PingReqPacket().write())

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever is still unreceipted stays so: the swarm does not send twice."""
        self._fail(SwarmRefused(f"connection lost: {exc}"))

    def _fail(self, error: SwarmRefused) -> None:
        self.ended = True
        if not self._ready.done():
            self._ready.set_exception(error)
        if self._transport is not None:
            self._transport.close()

    def close(self) -> None:
        """Takes leave."""
        if self._transport is not None and not self.ended:
            self._transport.write(mqtt5.DisconnectPacket().write())
            self._transport.close()
        self.ended = True


def _publish(head: bytes, payload: bytes) -> bytes:
    """A PUBLISH packet of QoS 0; the topic is encoded once per device."""
    size = len(head) + len(payload)
    if size < 0x80:
        return b"\x30%c%b%b" % (size, head, payload)
    return b"\x30%c%c%b%b" % (size & 0x7F | 0x80, size >> 7, head, payload)
