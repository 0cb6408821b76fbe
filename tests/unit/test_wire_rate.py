"""Bandwidth limits: never more than rate, time and burst allow; typing stays quick."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.link_pair import Pair, World
from wire.frames import PAYLOAD_BYTES_MAX
from wire.rate import (
    BURST_BYTES_LEAST,
    BURST_S,
    BYTES_A_MBIT,
    WAIT_S_LEAST,
    Bucket,
    Rate,
)
from wire.stream import WINDOW_BYTES_FIRST

MIB = 1 << 20
RATE = 2 * BYTES_A_MBIT  # bytes a second


def rate_of(world: World, *bytes_per_s: float) -> Rate:
    buckets = tuple(Bucket(one, world.now_s) for one in bytes_per_s)
    return Rate(buckets, world.clock, world.later)


@given(
    st.lists(st.integers(1, 100_000), min_size=1, max_size=60),
    st.integers(1_000, 1_000_000),
    st.integers(1_000, 1_000_000),
)
def test_whoever_waits_is_served_in_turn_and_never_faster_than_allowed(
    sizes: list[int], one_per_s: int, other_per_s: int
) -> None:
    world = World()
    rate, served = rate_of(world, one_per_s, other_per_s), list[int]()

    def ask(number: int) -> Callable[[], None]:
        def again() -> None:
            if rate.take(sizes[number], again):
                served.append(number)
                went = sum(sizes[one] for one in served[:-1])
                for per_s in (one_per_s, other_per_s):
                    assert went <= per_s * (world.now_s + 1e-6) + max(BURST_BYTES_LEAST, per_s / 4)

        return again

    for number in range(len(sizes)):
        ask(number)()
    slowest = min(one_per_s, other_per_s)
    world.run(sum(sizes) / slowest + (WAIT_S_LEAST + 1e-6) * len(sizes))
    assert served == list(range(len(sizes)))


def test_what_did_not_go_is_given_back_and_a_burst_is_no_more_than_a_burst() -> None:
    world = World()
    rate, found = rate_of(world, 1_000), list[bool]()
    rate.charge(BURST_BYTES_LEAST + 1_000)
    rate.charge(-500)
    for wait_s in (0.4, 0.11, 1e6):
        world.run(wait_s)
        found.append(rate.free)
    rate.charge(BURST_BYTES_LEAST)
    assert [*found, rate.free] == [False, True, True, False]


@pytest.mark.parametrize("way", ["to the device", "from the device"])
@pytest.mark.parametrize("streams", [1, 20])
@pytest.mark.parametrize("delay_s", [0.001, 0.05])
def test_a_limited_link_carries_what_it_may_and_loses_nothing(
    way: str, streams: int, delay_s: float
) -> None:
    pair = Pair(delay_s=delay_s)
    to_there, from_there = (rate_of(pair.world, RATE) for _ in range(2))
    pair.near.streams.to_there, pair.near.streams.from_there = to_there, from_there
    near = [pair.open() for _ in range(streams)]
    pair.world.run(1)
    far = pair.accepted
    sources, sinks = (near, far) if way == "to the device" else (far, near)
    data = Random(0).randbytes(MIB // streams)
    for source in sources:
        source.send(data, finish=True)
    began_s = pair.world.now_s
    # What was let through before it was counted: the first windows, and a frame.
    ahead = RATE / 4 + BURST_BYTES_LEAST + PAYLOAD_BYTES_MAX
    ahead += streams * WINDOW_BYTES_FIRST if way == "from the device" else 0
    while not all(sink.finished for sink in sinks):
        pair.world.run(0.1)
        carried = sum(len(sink.got) for sink in sinks)
        assert carried <= RATE * (pair.world.now_s - began_s) + ahead
        assert pair.world.now_s - began_s < 2 * MIB / RATE + 2
    assert all(bytes(sink.got) == data for sink in sinks)
    assert pair.world.now_s - began_s >= (MIB - ahead) / RATE


@pytest.mark.parametrize("way", ["to the device", "from the device"])
def test_who_types_beside_a_limited_download_is_not_held_up(way: str) -> None:
    pair = Pair(delay_s=0.01)
    pair.near.streams.to_there = rate_of(pair.world, RATE)
    pair.near.streams.from_there = rate_of(pair.world, RATE)
    bulk, shell = pair.open(), pair.open()
    pair.world.run(1)
    (bulk if way == "to the device" else pair.accepted[0]).send(bytes(20 * MIB))
    pair.world.run(5)
    for number in range(100):
        shell.send(b"x")
        pair.world.run(0.012)
        assert len(pair.accepted[1].got) == number + 1
        pair.accepted[1].send(b"y")
        pair.world.run(0.012)
        assert len(shell.got) == number + 1


def test_what_was_let_through_and_never_came_is_counted_no_more() -> None:
    pair = Pair(delay_s=0.01)
    rate = pair.near.streams.from_there = rate_of(pair.world, RATE)
    for _ in range(30):
        near = pair.open()
        pair.world.run(0.1)
        pair.accepted[-1].send(bytes(60_000))  # brings a new window, of which nothing comes
        pair.world.run(0.5)
        assert near.stream is not None
        near.stream.reset("reset")
        pair.world.run(0.1)
    assert rate.free


def test_links_that_share_a_bucket_take_turns() -> None:
    world = World()
    shared = Bucket(100 * BYTES_A_MBIT, 0)
    rates = [Rate((shared,), world.clock, world.later) for _ in range(2)]
    went = [0, 0]

    def asker(whose: int) -> Callable[[], None]:
        def again() -> None:
            if rates[whose].take(48_000, again):
                went[whose] += 48_000
                world.later(0.001, again)  # it has arrived, and more is wanted

        return again

    for whose, count in ((0, 50), (1, 1)):
        for _ in range(count):
            asker(whose)()
    world.run(10)
    # The one is not held up by the fifty: it has what a stream can carry that waits 1 ms each time.
    assert went[1] >= 0.25 * sum(went)
    assert sum(went) <= shared.bytes_per_s * (10 + BURST_S) + 48_000


def test_who_is_held_up_by_a_limit_of_its_own_holds_up_nobody_else() -> None:
    world = World()
    shared = Bucket(10 * BYTES_A_MBIT, 0)
    slow = Rate((Bucket(1_000, 0), shared), world.clock, world.later)
    quick = Rate((shared,), world.clock, world.later)
    slow.charge(10 * BURST_BYTES_LEAST)
    went = 0

    def again() -> None:
        nonlocal went
        if quick.take(10_000, again):
            went += 10_000
            world.later(0.001, again)

    slow.when_free(lambda: None)
    again()
    world.run(5)
    assert went >= 0.5 * 5 * shared.bytes_per_s


def test_who_types_goes_before_a_long_frame_that_was_lined_up_as_a_short_one() -> None:
    pair = Pair(delay_s=0.01)
    rate = pair.near.streams.to_there = rate_of(pair.world, RATE)
    grown, shell = pair.open(), pair.open()
    pair.world.run(1)
    rate.charge(10 * MIB)
    for sink, size in ((grown, 10), (shell, 1), (grown, 60_000)):
        sink.send(bytes(size))
    pair.world.run(0.1)
    assert len(pair.accepted[1].got) == 1
    assert len(pair.accepted[0].got) < 60_010
