"""The link as a whole: byte-exact under any cutting, within its memory, fair, and hard to upset."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.link_pair import Pair, Sink
from wire.budget import SHARE, Budget
from wire.channel import CONTROL_BYTES_MAX, REPLAY_BYTES_FIRST
from wire.frames import Kind, LinkError, count_frame, encode, open_frame, reason_frame, window_frame
from wire.stream import (
    QUEUE_BYTES_MAX,
    WINDOW_BYTES_FIRST,
    WINDOW_BYTES_LEAST,
    WINDOW_BYTES_MAX,
)
from wire.streams import OPENS_OWED_MAX, STREAMS_MAX

MIB = 1 << 20


def pattern(size: int, seed: int = 0) -> bytes:
    return Random(seed).randbytes(size)


def test_data_follows_the_opening_at_once_and_the_answer_comes_after_one_round_trip() -> None:
    pair = Pair(delay_s=0.05)
    pair.world.run(1)
    near = pair.open()
    near.send(b"GET /")
    pair.world.run(0.06)
    far = pair.accepted[0]
    assert bytes(far.got) == b"GET /"
    far.send(pattern(60_000), finish=True)
    pair.world.run(0.05)
    assert bytes(near.got) == pattern(60_000) and near.finished


def test_half_close_goes_both_ways_and_nothing_is_left_behind() -> None:
    pair = Pair()
    near = pair.open()
    near.send(b"question", finish=True)
    pair.world.run(0.2)
    far = pair.accepted[0]
    assert far.finished and not near.got
    far.send(pattern(300_000), finish=True)
    pair.world.run(2)
    assert bytes(near.got) == pattern(300_000) and near.finished
    assert len(pair.near.streams) == len(pair.far.streams) == 0
    assert pair.near_budget.used == pair.far_budget.used == 0
    assert not pair.ends


@pytest.mark.parametrize("way", ["to the device", "from the device"])
def test_one_stream_fills_a_long_path(way: str) -> None:
    """In simulated time: what windows and replay allow at 100 ms, whatever the machine can do."""
    pair = Pair(delay_s=0.05)
    near = pair.open()
    pair.world.run(0.1)
    far = pair.accepted[0]
    source, sink = (near, far) if way == "to the device" else (far, near)
    source.send(bytes(150 * MIB))
    pair.world.run(2.5)
    before = len(sink.got)
    pair.world.run(1.0)
    assert (len(sink.got) - before) * 8 >= 300e6


def test_a_second_transfer_the_other_way_gets_as_much() -> None:
    pair = Pair(delay_s=0.05)
    for turn in range(2):
        near = pair.open()
        pair.world.run(0.2)
        far = pair.accepted[-1]
        source, sink = (far, near) if turn == 0 else (near, far)
        source.send(bytes(100 * MIB), finish=True)
        pair.world.run(2.5)
        before = len(sink.got)
        pair.world.run(0.5)
        assert (len(sink.got) - before) * 8 / 0.5 >= 250e6 or sink.finished
        pair.world.run(10)
        sink.send(b"", finish=True)
        pair.world.run(6)
    assert pair.near_budget.used == pair.far_budget.used == 0


def test_a_transfer_that_is_broken_off_leaves_the_other_way_its_speed_at_once() -> None:
    """What was kept for one direction must not starve the windows of the other."""
    pair = Pair(delay_s=0.05)
    first = pair.open()
    pair.world.run(0.2)
    pair.accepted[0].send(bytes(200 * MIB))
    pair.world.run(3)
    assert first.stream is not None
    first.stream.reset("reset")
    second = pair.open()
    second.send(bytes(200 * MIB))
    pair.world.run(3.5)
    before = len(pair.accepted[1].got)
    pair.world.run(1)
    assert (len(pair.accepted[1].got) - before) * 8 >= 300e6


def test_a_reader_that_never_reads_holds_its_first_window_and_nobody_else_up() -> None:
    pair = Pair(delay_s=0.001)
    stalled = [pair.open(greedy=False) for _ in range(3)]
    pair.world.run(0.1)
    for far in pair.accepted:
        far.send(bytes(10 * MIB))
    pair.world.run(5)
    assert all(len(sink.got) == WINDOW_BYTES_FIRST for sink in stalled)
    for far in pair.accepted:
        assert far.stream is not None and far.stream.queued <= QUEUE_BYTES_MAX
    assert pair.near.held_bytes == 0  # all is acknowledged: it was taken into memory
    near = pair.open()
    near.send(b"ping")
    pair.world.run(0.004)
    pair.accepted[-1].send(b"pong")
    pair.world.run(0.004)
    assert bytes(near.got) == b"pong"


def test_a_reader_that_stops_after_a_fast_transfer_holds_at_most_its_window() -> None:
    pair = Pair(delay_s=0.05)
    near = pair.open()
    pair.world.run(0.2)
    pair.accepted[0].send(bytes(200 * MIB))
    pair.world.run(2)
    near.greedy = False
    pair.world.run(5)
    assert near.stream is not None and near.held <= WINDOW_BYTES_MAX
    assert pair.near_budget.used <= pair.near_budget.limit


def test_windows_are_small_where_the_budget_is_exhausted_and_never_refused() -> None:
    pair = Pair(near_bytes=100_000, far_bytes=100_000, opens_per_s=1_000)
    nears = [pair.open() for _ in range(STREAMS_MAX)]
    pair.world.run(1)
    for number, far in enumerate(pair.accepted):
        far.send(pattern(40_000, number), finish=True)
    pair.world.run(30)
    assert len(pair.accepted) == STREAMS_MAX
    for number, near in enumerate(nears):
        assert bytes(near.got) == pattern(40_000, number) and near.finished
    assert pair.near_budget.used == STREAMS_MAX * WINDOW_BYTES_LEAST


def test_a_keystroke_overtakes_a_download() -> None:
    pair = Pair(delay_s=0.001)
    bulk, shell = pair.open(greedy=False), pair.open()
    pair.world.run(0.1)
    first, second = pair.accepted
    pair.far.pause()  # the connection takes nothing for a moment
    first.send(bytes(60_000))
    second.send(b"x")
    pair.back.recording = True
    pair.far.resume()
    kinds = [(pair.back.carried[0], int.from_bytes(pair.back.carried[4:8], "big"))]
    assert kinds == [(Kind.DATA, 2)]
    pair.world.run(0.1)
    assert bytes(shell.got) == b"x" and len(bulk.got) == 60_000


# Refusals and resets


def test_a_refusal_comes_later_with_its_reason_and_early_data_is_dropped() -> None:
    pair = Pair()
    near = pair.open()
    near.send(pattern(10_000))
    pair.world.run(0.06)
    far = pair.accepted[0]
    assert far.stream is not None
    far.stream.refuse("not_allowed")
    pair.world.run(0.1)
    assert near.ended == "not_allowed"
    assert len(pair.near.streams) == len(pair.far.streams) == 0
    assert not pair.ends


def test_more_than_256_streams_are_refused_as_busy() -> None:
    pair = Pair()
    for _ in range(STREAMS_MAX):
        pair.open()
    with pytest.raises(LinkError, match="too many streams"):
        pair.open()
    pair.world.run(1)
    pair.back.receive = lambda data: None  # `near` knows nothing of this one
    pair.far.receive(open_frame(STREAMS_MAX + 1, 0))
    pair.back.recording = True
    pair.world.run(0.1)
    assert reason_frame(Kind.REFUSED, STREAMS_MAX + 1, "busy") in bytes(pair.back.carried)
    assert not pair.ends


def test_who_opens_too_fast_waits_and_a_flood_ends_the_link() -> None:
    pair = Pair()
    for _ in range(250):
        pair.open()
    pair.world.run(0.06)
    waits = [far.stream.wait_s for far in pair.accepted if far.stream is not None]
    assert waits[100] == 0 and 0 < waits[-1] <= 1.1
    flood = Pair()
    for number in range(1, int(OPENS_OWED_MAX) + 1_000):
        flood.far.receive(open_frame(number, 0) + reason_frame(Kind.RESET, number, "x"))
    assert flood.ends["far"] == "protocol_error: a flood of opened streams"


def test_control_frames_that_are_never_acknowledged_end_the_link() -> None:
    pair = Pair()
    pair.back.receive = lambda data: None
    for number in range(1, STREAMS_MAX + 1):
        pair.far.receive(open_frame(number, 0))
    number = STREAMS_MAX
    while "far" not in pair.ends and number < 20_000:
        number += 1
        pair.far.receive(open_frame(number, 0))
        pair.world.run(0.03)
    assert pair.ends["far"] == "protocol_error: control frames are not acknowledged"
    assert (number - STREAMS_MAX) * 12 <= CONTROL_BYTES_MAX + 4_096


WRONG = {
    "data beyond the window": open_frame(1, 0) + encode(Kind.DATA, 1, bytes(60_000)) * 2,
    "a frame for a stream that was never opened": window_frame(7, 1),
    "opened twice": open_frame(1, 0) + open_frame(1, 0),
    "acknowledged what was never sent": count_frame(Kind.ACK, 10_000),
    "a stream ended twice": open_frame(1, 0) + encode(Kind.FIN, 1) * 2,
    "a second hello": encode(Kind.HELLO, 0, b"{}"),
    "unknown kind": encode(99, 0),
    "wrong length": encode(Kind.FIN, 1, b"x"),
    "a stream where none belongs": encode(Kind.PING, 3, bytes(8)),
    "without bytes": open_frame(1, 0) + encode(Kind.DATA, 1),
    "flood of pings": count_frame(Kind.PING, 1) * 100,
    "refused a stream that it opened itself": open_frame(1, 0)
    + reason_frame(Kind.REFUSED, 1, "no"),
}


@pytest.mark.parametrize("rule", WRONG)
def test_a_side_that_breaks_a_rule_is_told_goodbye(rule: str) -> None:
    pair = Pair(delay_s=0.001, greedy=False)
    pair.back.recording = True
    pair.far.receive(WRONG[rule])
    assert rule in pair.ends["far"]
    assert bytes(pair.back.carried).endswith(reason_frame(Kind.BYE, 0, "protocol_error"))
    assert pair.far_budget.used == 0
    assert all(sink.ended for sink in pair.accepted)


def test_the_accepting_side_may_not_open_streams() -> None:
    pair = Pair()
    pair.near.receive(open_frame(1, 0))
    assert pair.ends["near"] == "protocol_error: this side opens the streams"


# Ends


def test_goodbye_carries_its_reason_to_the_other_side() -> None:
    pair = Pair()
    near = pair.open()
    pair.world.run(0.2)
    pair.near.bye("expired")
    pair.world.run(0.2)
    assert pair.ends == {"near": "expired", "far": "expired"}
    assert near.ended == "expired" and pair.accepted[0].ended == "expired"


def test_a_silent_connection_is_noticed_and_a_quiet_one_is_kept() -> None:
    pair = Pair()
    pair.world.run(120)
    assert not pair.ends
    assert pair.there.bytes < 1_000  # little is spent on a quiet link
    pair.there.receive = lambda data: None
    pair.world.run(60)
    assert pair.ends["near"] == "link_silent"


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_life_of_streams_is_byte_exact_under_any_cutting(seed: int) -> None:
    """A model of what was sent, against what came, with readers that stop and go on."""
    rng = Random(seed)
    pair = Pair(delay_s=rng.choice((0.0, 0.001, 0.05)), rng=rng, opens_per_s=10_000)
    nears: list[Sink] = []
    broken_off: set[int] = set()
    sent: dict[int, tuple[bytes, bytes]] = {}
    for _ in range(rng.randrange(1, 9)):
        near = pair.open(greedy=rng.random() < 0.7)
        nears.append(near)
        pair.world.run(0.2)
        far = pair.accepted[-1]
        far.greedy = rng.random() < 0.7
        assert near.stream is not None
        there = rng.randbytes(rng.choice((0, 1, 5_000, 70_000, 400_000)))
        back = rng.randbytes(rng.choice((0, 1, 5_000, 70_000, 400_000)))
        sent[near.stream.number] = (there, back)
        cut = rng.randrange(len(there) + 1)
        near.send(there[:cut])
        far.send(back, finish=True)
        near.send(there[cut:], finish=True)
        pair.world.run(rng.choice((0.0, 0.01, 0.3)))
        if rng.random() < 0.2:
            near.stream.reset("changed_mind")
            broken_off.add(near.stream.number)
    for _ in range(400):
        for sink in (*nears, *pair.accepted):
            sink.take_all()
        pair.world.run(0.2)
    assert not pair.ends
    for near, far in zip(nears, pair.accepted, strict=True):
        assert near.stream is not None
        there, back = sent[near.stream.number]
        if near.stream.number in broken_off:
            assert there.startswith(bytes(far.got)) and back.startswith(bytes(near.got))
        else:
            assert bytes(far.got) == there and bytes(near.got) == back
            assert near.finished and far.finished
    assert pair.near_budget.used == pair.far_budget.used == 0


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), header=st.booleans(), kind=st.sampled_from(list(Kind)))
def test_whatever_comes_ends_the_link_or_is_understood(
    data: bytes, header: bool, kind: Kind
) -> None:
    pair = Pair(delay_s=0.001)
    pair.open()
    pair.world.run(0.01)
    pair.far.receive(encode(kind, 1, data) if header else data)
    pair.world.run(1)


def test_a_budget_lends_an_eighth_of_what_is_free_and_gets_all_back() -> None:
    above = Budget(8_000)
    budget = Budget(1_000_000, above)
    assert budget.share(10_000) == 8_000 // SHARE
    assert above.used == budget.used == 1_000
    budget.take(20_000)
    assert budget.free() == 0 and budget.share(1) == 0
    budget.give(21_000)
    assert above.used == 0
    assert REPLAY_BYTES_FIRST < WINDOW_BYTES_MAX


def test_a_link_that_is_doubted_shows_that_it_lives_or_is_lost_in_seconds() -> None:
    pair = Pair()
    pair.world.run(30)
    pair.near.probe()
    pair.world.run(10)
    assert not pair.ends
    pair.there.receive = lambda data: None
    pair.near.probe()
    pair.world.run(6)
    assert pair.ends == {"near": "link_silent"}
