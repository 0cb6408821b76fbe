"""Presence: when a silent device becomes late and offline, on its MQTT node's clock."""

from enum import StrEnum
from typing import NamedTuple

PROBE_INTERVAL_MS = 5_000
PROBE_GAP_MS_MAX = 3 * PROBE_INTERVAL_MS  # a longer gap between probes was deafness
RETURN_MS_MAX = 60_000  # an agent that lost its server looks for it at least so often
LEAVE_MS = 30_000  # after a Last Will: time to come back before anybody is told


class Presence(StrEnum):
    """What is known of a device's connection."""

    ONLINE = "online"
    LATE = "late"
    OFFLINE = "offline"
    NEVER = "never"


class Deadlines(NamedTuple):
    """Instants on the node's clock."""

    late_at: int
    offline_at: int


def deadlines(node_clock_ms: int, interval_s: int) -> Deadlines:
    """After a heartbeat: late at 1.5 intervals + 15 s, offline at 3 intervals + 30 s."""
    return Deadlines(
        node_clock_ms + 1_500 * interval_s + 15_000, node_clock_ms + 3_000 * interval_s + 30_000
    )


def after_leaving(node_clock_ms: int, current: Deadlines) -> Deadlines:
    """After a `0` that counts: offline in 30 s at the latest."""
    offline_at = min(current.offline_at, node_clock_ms + LEAVE_MS)
    return Deadlines(min(current.late_at, offline_at), offline_at)


def presence(current: Deadlines, node_clock_ms: int) -> Presence:
    """Where a device that was heard stands on its node's clock."""
    if node_clock_ms >= current.offline_at:
        return Presence.OFFLINE
    return Presence.LATE if node_clock_ms >= current.late_at else Presence.ONLINE


class NodeClock(NamedTuple):
    """A node's clock as all its gateways share it; `probe_at` and `still_until` are instants."""

    clock_ms: int
    probe_at: int | None  # when a probe came back last, to whichever gateway
    still_until: int  # the clock stands until then


def after_probe(before: NodeClock, now_ms: int) -> NodeClock:
    """A probe came back to a gateway at this instant.

    The clock counts only time between probes that came back, so that an MQTT server, or gateways,
    that were down make no device late. After a deafness it waits as well until devices had the
    time to come back.
    """
    if before.probe_at is None:
        return NodeClock(before.clock_ms, now_ms, now_ms)
    gap_ms = now_ms - before.probe_at
    # An instant too far away was written before the time was set back.
    still_until = min(before.still_until, now_ms + RETURN_MS_MAX)
    if gap_ms > PROBE_GAP_MS_MAX:
        return NodeClock(before.clock_ms, now_ms, max(still_until, now_ms + standstill_ms(gap_ms)))
    runs_ms = max(0, gap_ms) if now_ms >= still_until else 0
    return NodeClock(before.clock_ms + runs_ms, now_ms, still_until)


def standstill_ms(gap_ms: int) -> int:
    """After a deafness: how long the clock still waits, so that devices can come back first.

    Their waits between attempts have grown with the gap, up to a minute.
    """
    return min(gap_ms, RETURN_MS_MAX) if gap_ms > PROBE_GAP_MS_MAX else 0
