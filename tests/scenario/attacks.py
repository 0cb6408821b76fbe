"""What a joined device might do to an installation: a list of attacks by name."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import mqtt5
import pytest

from gateway.mqtt_server.connection import Connection, MqttClosed, MqttError, MqttRefused
from tests.scenario.handmade import Handmade
from wire import topics
from wire.heartbeat import Receipt, encode_receipt
from wire.presence import Up, encode_up

MANY = 10_000
HUGE = 2**53 - 1
CONNECTION, DROPPED, ORIGIN, SAMPLES = 2, 7, 8, 9  # places in a heartbeat's array
REFUSED = mqtt5.PubAckReasonCode.NOT_AUTHORIZED


@dataclass(frozen=True, slots=True)
class Scene:
    """Who attacks whom; `seen` is the victim's own connection."""

    attacker: Handmade
    victim: Handmade
    seen: Connection
    agent: str  # the serial of a real agent


Attack = Callable[[Scene], Awaitable[None]]


async def refused_publish(attacker: Handmade, topic: str, payload: bytes) -> None:
    """At QoS 1 the server says no; after that, and at QoS 0, it may end the connection."""
    async with attacker.connect() as connection:
        assert await connection.publish(topic, payload, qos=1) == REFUSED, topic
    async with attacker.connect() as connection:
        await connection.publish(topic, payload, qos=0)
        with suppress(MqttClosed):
            await connection.ping()


async def foreign_topics(scene: Scene) -> None:
    """Everything that the victim, its gateway or a relay may publish on, with credible content."""
    victim, run = scene.victim, scene.victim.run
    forged = [
        (topics.heartbeat(victim.serial), victim.heartbeat(99, uptime=66)),
        (topics.presence(victim.serial), encode_up(Up(run, 10**6, False, "0" * 32))),
        (topics.answer(victim.serial), b'{"id":"x","n":1,"outcome":"done","result":{}}'),
        (topics.receipt(victim.serial), b"[]"),
        (topics.command(victim.serial), b"x" * 100),
        (topics.command(scene.attacker.serial), b"x" * 100),
        (topics.heartbeat("@gateway-1"), victim.heartbeat(99)),
        (topics.probe("gateway-1"), b"[1,2,3]"),
        (topics.relay_event("relay-1"), b"{}"),
        (f"fg1/d/{victim.serial}", b"{}"),
        (f"fg1/d/{scene.attacker.serial}/hb/x", b"{}"),
        ("$SYS/broker/log", b"{}"),
    ]
    for topic, payload in forged:
        await refused_publish(scene.attacker, topic, payload)


async def forged_receipts(scene: Scene) -> None:
    """A receipt would make a device throw away what is stored nowhere."""
    everything = Receipt(scene.victim.run, 2**53 - 1, (), 1, 4)
    for serial in (scene.victim.serial, scene.agent, scene.attacker.serial):
        await refused_publish(scene.attacker, topics.receipt(serial), encode_receipt(everything))


async def foreign_will(scene: Scene) -> None:
    """A Will is published by the server, which must ask for the rights of who left it."""
    victim = scene.victim
    wills = [
        (topics.heartbeat(victim.serial), victim.heartbeat(98, uptime=65)),
        (topics.presence(victim.serial), encode_up(Up(victim.run, 10**6, False, "0" * 32))),
        (topics.receipt(victim.serial), b"[]"),
        (topics.command(victim.serial), b"x" * 100),
    ]
    for topic, payload in wills:
        will = mqtt5.Will(topic=topic, payload=payload, qos=mqtt5.QoS.AT_LEAST_ONCE)
        try:
            async with scene.attacker.connect(will=will):
                pass  # left without a word, so the server speaks for it
        except MqttRefused:
            continue


async def foreign_reading(scene: Scene) -> None:
    """Subscriptions to others' messages; also as a further member of the gateways' group."""
    victim, attacker = scene.victim, scene.attacker
    filters = [
        "#",
        "+/#",
        "fg1/#",
        "fg1/d/+/hb",
        "fg1/c/+/ok",
        topics.receipt(victim.serial),
        topics.command(victim.serial),
        topics.probe("gateway-1"),
        "$SYS/#",
        f"$share/x/{topics.receipt(victim.serial)}",
    ]
    stealing = [topics.heartbeat("+"), topics.presence("+"), topics.answer("+"), "#", "fg1/d/#"]
    async with attacker.connect() as connection:
        for filter_ in (*filters, *map(topics.shared, stealing)):
            try:
                await connection.subscribe(filter_)
            except MqttError:
                return
        before = len(scene.seen.received)
        for repeat in range(20):
            # Repeats of stored samples: each must reach the gateway and be answered.
            await scene.seen.publish(victim.hb, victim.heartbeat(1), qos=0)
            await scene.seen.until_received(count=before + repeat + 1)
        await connection.ping()
        assert [packet.topic for packet in connection.received] == []


async def other_names(scene: Scene) -> None:
    """Signing in as a service or with another's client id."""
    attacker = scene.attacker
    for login in ("@gateway-1", "@probe", "@relay-1", scene.victim.serial, scene.agent, ""):
        with pytest.raises(MqttError):
            async with attacker.connect(username=login):
                pass
    for client_id in ("@gateway-1", "@probe", scene.victim.serial, scene.agent):
        async with attacker.connect(client_id=client_id) as connection:
            await connection.ping()
    # Two connections of one login: the later one takes over, and only from itself.
    async with attacker.connect() as first, attacker.connect() as second:
        await first.until_closed()
        await second.ping()


async def thrown_out(attacker: Handmade, payload: bytes, **how: Any) -> None:
    """Publishes on its own topic, and is disconnected for it."""

    async def publish() -> None:
        async with attacker.connect() as connection:
            await connection.publish(attacker.hb, payload, **how)
            await connection.ping()

    with pytest.raises(MqttError):
        await publish()


async def retained(scene: Scene) -> None:
    for qos in (0, 1):
        await thrown_out(scene.attacker, scene.attacker.heartbeat(1), qos=qos, retain=True)


async def huge_payloads(scene: Scene) -> None:
    for size in (16_385, 100_000, 1_000_000, 4_000_000):
        for qos in (0, 1):
            await thrown_out(scene.attacker, b"x" * size, qos=qos)


def damaged() -> list[bytes]:
    """Payloads that are no heartbeat, each for a reason of its own."""
    good = '["AAAAAAAAAAA",0,1,0,1,60,1,0,0,[[1,0,[%s]]]]'
    deep = b"[" * 8_000 + b"]" * 7_000
    many_digits = b"9" * 5_000
    return [
        b"",
        b"\x00" * 100,
        b"\xff\xfe\x00\x01",
        deep,
        b"[" * 15_000,
        b'{"a":' * 3_000,
        b"NaN",
        good.replace("[1,0,[%s]]", "[NaN,0,[]]").encode(),
        good.replace("[1,0,[%s]]", "[1,Infinity,[]]").encode(),
        good.replace("[1,0,[%s]]", "[1,1e999,[]]").encode(),
        good.replace("[1,0,[%s]]", "[1,-1,[]]").encode(),
        good.replace("[1,0,[%s]]", "[0,0,[]]").encode(),
        good.replace("[1,0,[%s]]", "[2,0,[]],[1,0,[]]").encode(),
        good.replace("[1,0,[%s]]", "[1,0,[]],[1,0,[]]").encode(),
        good.replace("[1,0,[%s]]", "[true,0,[]]").encode(),
        good.replace("[[1,0,[%s]]]", "[]").encode(),
        good.replace("0,1,60", "0,1,0").encode(),
        good.replace("0,1,60", "0,1,1e9").encode(),
        good.replace("AAAAAAAAAAA", "AAAAAAAAAA\\ud800").encode(),
        b'["AAAAAAAAAAA",0,' + many_digits + b",0,1,60,1,0,0,[[1,0,[]]]]",
        b"[" + b"-" * 100 + b"]",
        (good % "2,1").encode("utf-16"),
        (good % "2,1").encode()[:-1],
        (good % "2,1").encode() + b"x",
        b'{"run":"AAAAAAAAAAA","run":"BBBBBBBBBBB"}',
        b"x" * 16_001,
    ]


async def damaged_payloads(scene: Scene) -> None:
    """On each of the three topics."""
    attacker = scene.attacker
    async with attacker.connect() as connection:
        for make in (topics.heartbeat, topics.presence, topics.answer):
            for payload in damaged():
                await connection.publish(make(attacker.serial), payload, qos=1)
        await connection.ping()


def strange(attacker: Handmade) -> list[bytes]:
    """Good heartbeats with strange content, which may cost their sender something."""

    def changed(place: int, value: Any) -> bytes:
        message = json.loads(attacker.heartbeat(1))
        message[place] = value
        return json.dumps(message).encode()

    def with_fields(*flat: Any) -> bytes:
        return changed(9, [[1, 0, list(flat)]])

    return [
        with_fields(1, 2**70, 2, -(2**70), 999, 1, 29, "x" * 3_000, 29, "\x00", 29, "\n"),
        with_fields(29, "<script>alert(1)</script>", 29, "'; DROP TABLE device; --"),
        with_fields(29, "\u202e\u200b\uffff", 1, None, 1, [], 1, {}, "1", 1, 1.5, 1, True, 1),
        with_fields(*[1, 1] * 256),
        with_fields(29, "\ud800"),
        with_fields(29, "HOST").replace(b"HOST", b"\xed\xa0\x80"),
        changed(CONNECTION, HUGE),
        changed(DROPPED, HUGE),
        changed(ORIGIN, [HUGE]),
        changed(ORIGIN, [-HUGE]),
        changed(ORIGIN, [None]),
        changed(SAMPLES, [[1, HUGE, [1, 1]]]),
        changed(SAMPLES, [[HUGE, 0, [1, 1]]]),
        changed(SAMPLES, [[number * 3, 0, []] for number in range(1, 201)]),
    ]


async def strange_content(scene: Scene) -> None:
    attacker = scene.attacker
    async with attacker.connect() as connection:
        for payload in strange(attacker):
            await connection.publish(attacker.hb, payload, qos=1)
        await connection.ping()


async def ten_thousand_damaged(scene: Scene) -> None:
    await _flood(scene, lambda number: b"damaged %d" % number)


async def ten_thousand_heartbeats(scene: Scene) -> None:
    attacker = scene.attacker
    await _flood(scene, lambda number: attacker.heartbeat(number, ask=False, uptime=number))


async def ten_thousand_runs(scene: Scene) -> None:
    """Each message is a life of its own, as if a counter were restored again and again."""
    attacker = scene.attacker
    kept = attacker.run

    def message(number: int) -> bytes:
        attacker.run = f"{number:011d}"
        return attacker.heartbeat(1)

    try:
        await _flood(scene, message)
    finally:
        attacker.run = kept


async def _flood(scene: Scene, payload: Callable[[int], bytes]) -> None:
    attacker = scene.attacker
    async with attacker.connect() as connection:
        try:
            for number in range(1, MANY + 1):
                await connection.publish(attacker.hb, payload(number), qos=0)
            await connection.ping()
        except MqttClosed:
            return  # thrown out: that is an answer too


async def half_packets(scene: Scene) -> None:
    """Connections that stop in the middle of a packet, and a few that never begin."""
    attacker = scene.attacker
    async with asyncio.timeout(20):
        for _ in range(20):
            async with attacker.connect() as connection:
                packet = mqtt5.PublishPacket(attacker.hb, attacker.heartbeat(1)).write()
                connection._writer.write(packet[: len(packet) // 2])
                await connection._writer.drain()


ATTACKS: list[Attack] = [
    foreign_topics,
    forged_receipts,
    foreign_will,
    foreign_reading,
    other_names,
    retained,
    huge_payloads,
    damaged_payloads,
    strange_content,
    half_packets,
    ten_thousand_damaged,
    ten_thousand_heartbeats,
    ten_thousand_runs,
]
