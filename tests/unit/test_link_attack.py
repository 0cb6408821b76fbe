"""Attacks on one side of a link: who asks and never reads, who ends and never takes, who fails."""

from random import Random

import pytest

from tests.unit.link_pair import Pair, Sink
from wire.budget import Budget
from wire.frames import Frame, FrameReader, Kind, count_frame, encode, open_frame, reason_frame
from wire.heartbeat import WireError
from wire.hello import greeting_of
from wire.link import PONGS_WAITING_MAX
from wire.stream import WINDOW_BYTES_LEAST
from wire.streams import STREAMS_MAX

SEEDS = 40

# Who asks and never reads


def test_pings_are_not_answered_into_a_full_transport() -> None:
    pair = Pair()
    pair.world.run(1)
    pair.far.pause()
    before = pair.back.bytes
    for number in range(PONGS_WAITING_MAX):
        pair.far.receive(count_frame(Kind.PING, number))
        pair.world.run(0.01)
    assert pair.back.bytes == before and not pair.ends
    pair.far.receive(count_frame(Kind.PING, 1) * 2)
    assert pair.ends["far"] == "protocol_error: a flood of pings"


def test_acknowledgements_wait_for_the_transport_and_the_newest_says_all() -> None:
    pair = Pair()
    pair.world.run(1)
    near = pair.open()
    pair.world.run(1)
    pair.far.pause()
    before = pair.back.bytes
    for _ in range(50):  # what is refused still counts in the channel
        pair.far.receive(encode(Kind.RESET, 1) * 8_192)
        pair.world.run(0.1)
    assert pair.back.bytes - before < 100
    pair.back.receive = lambda data: None
    pair.back.recording = True
    pair.far.resume()
    frames = FrameReader().feed(bytes(pair.back.carried))
    assert sum(frame.kind == Kind.ACK for frame in frames) == 1
    assert near.stream is not None


# Who ends and never takes


def test_what_an_ended_stream_left_with_its_reader_goes_on_counting() -> None:
    pair = Pair(greedy=False, far_bytes=1 << 20)
    held = 0
    for _ in range(100):
        near = pair.open()
        pair.world.run(0.2)
        near.send(bytes(WINDOW_BYTES_LEAST), finish=True)
        pair.accepted[-1].send(b"", finish=True)
        pair.world.run(0.3)
        held += pair.accepted[-1].held
        assert near.stream is not None and near.stream.ended
        assert held <= pair.far_budget.used
    assert len(pair.far.streams) == 0
    # The least that each is promised goes on, but nothing beyond what is free.
    assert held <= (1 << 20) + 100 * WINDOW_BYTES_LEAST
    for sink in pair.accepted[::2]:
        sink.take_all()
    for sink in pair.accepted[1::2]:
        assert sink.stream is not None
        sink.stream.reset("gone")  # its socket is no more
    assert pair.far_budget.used == 0


def test_an_ended_stream_is_told_as_released_once_and_only_when_it_is_taken() -> None:
    pair = Pair(greedy=False)
    near = pair.open()
    pair.world.run(0.2)
    far = pair.accepted[0]
    told: list[int] = []
    assert far.stream is not None
    far.stream.released = lambda: told.append(1)
    near.send(b"x" * 1_000, finish=True)
    far.send(b"", finish=True)
    pair.world.run(0.3)
    assert far.stream.ended and not told
    far.stream.took(999)
    assert not told
    far.stream.took(1)
    far.stream.discard()
    far.stream.took(5)  # a socket that is late with its word
    assert told == [1] and pair.far_budget.used == 0


# Who fails


class Faulty(Sink):
    """A user with a mistake in it."""

    def stream_ended(self, reason: str) -> None:
        raise ValueError("a mistake")


def test_a_user_that_fails_at_the_end_takes_nobody_along() -> None:
    pair = Pair()
    sinks = [pair.open(), Faulty(), pair.open()]
    sinks[1].stream = pair.near.open(sinks[1])
    last = pair.open()
    pair.world.run(0.3)
    with pytest.raises(ExceptionGroup) as caught:
        pair.near.bye("expired")
    assert len(caught.value.exceptions) == 1
    assert sinks[0].ended == sinks[2].ended == last.ended == "expired"
    assert pair.ends["near"] == "expired" and pair.near_budget.used == 0


class NoRoom(Sink):
    def stream_room(self) -> None:
        raise ValueError("a mistake")


def test_a_link_that_fails_while_sending_ends_before_it_loses_a_byte() -> None:
    pair = Pair()
    sink = NoRoom()
    sink.stream = pair.near.open(sink)
    pair.world.run(0.3)
    sent = bytes(range(256)) * 1_024
    sink.send(sent)
    with pytest.raises(ValueError, match="a mistake"):
        pair.world.run(1)
    assert pair.ends["near"] == "link_failed"
    assert sent.startswith(bytes(pair.accepted[0].got))


# Hellos


def test_a_secret_is_as_long_as_it_says() -> None:
    for secret in (" " * 64, "ab " * 21 + "a", "ab" * 31 + "  ", "0x" * 32):
        body = b'{"v":1,"ticket":"t","secret":"' + secret.encode() + b'"}'
        with pytest.raises(WireError):
            greeting_of(Frame(Kind.HELLO, 0, body))


def test_a_hello_of_brackets_is_refused() -> None:
    for body in (b"[" * 4_000, b'{"v":' * 700, b"9" * 4_000, b"\xff" * 100, b'"\\ud800"'):
        with pytest.raises(WireError):
            greeting_of(Frame(Kind.HELLO, 0, body))


# Whatever comes, in any order


def test_random_lives_of_two_links() -> None:
    for seed in range(SEEDS):
        _live(Random(seed))


def _live(rng: Random) -> None:
    pair = Pair(
        delay_s=rng.choice((0.0, 0.001, 0.05)),
        rng=rng,
        opens_per_s=10_000,
        greedy=rng.random() < 0.5,
    )
    nears: list[Sink] = []
    sent: dict[tuple[str, int], bytearray] = {}
    for _ in range(rng.randrange(20, 120)):
        _step(rng, pair, nears, sent)
        pair.world.run(rng.choice((0.0, 0.0, 0.001, 0.02, 0.3)))
        if pair.ends:
            break
    pair.near.resume()
    pair.far.resume()
    for side, sinks in (("near", pair.accepted), ("far", nears)):
        for sink in sinks:
            assert sink.stream is not None
            whole = sent.get((side, sink.stream.number), b"")
            assert bytes(whole).startswith(bytes(sink.got)), sink.stream.number
    assert set(pair.ends.values()) <= {"done"}, pair.ends
    for link, reason in ((pair.near, "done"), (pair.far, "done")):
        link.bye(reason)
    for sink in (*nears, *pair.accepted):
        assert sink.stream is not None
        sink.stream.reset("gone")
    assert pair.near_budget.used == pair.far_budget.used == 0


def _step(
    rng: Random, pair: Pair, nears: list[Sink], sent: dict[tuple[str, int], bytearray]
) -> None:
    link = rng.choice((pair.near, pair.far))
    sinks = nears if link is pair.near else pair.accepted
    what = rng.choice("open open send send send finish reset take pause resume end".split())
    if what == "open":
        if len(pair.near.streams) < STREAMS_MAX:
            nears.append(pair.open(greedy=rng.random() < 0.5))
    elif what == "pause":
        link.pause()
    elif what == "resume":
        link.resume()
    elif what == "end":
        if rng.random() < 0.05:
            link.bye("done")
    elif sinks:
        sink = rng.choice(sinks)
        assert sink.stream is not None
        if what == "send" and not sink.stream.ended:
            data = rng.randbytes(rng.choice((1, 100, 20_000, 100_000)))
            key = ("near" if link is pair.near else "far", sink.stream.number)
            if not sink.closing:
                sent.setdefault(key, bytearray()).extend(data)
                sink.send(data)
        elif what == "finish":
            sink.send(b"", finish=True)
        elif what == "reset":
            sink.stream.reset("changed_mind")
        elif what == "take":
            sink.take_all()


def test_random_frames_never_do_more_than_end_the_link() -> None:
    for seed in range(SEEDS):
        _bombard(Random(seed))


def _bombard(rng: Random) -> None:
    pair = Pair(rng=rng, greedy=rng.random() < 0.5, far_bytes=1 << 20, near_bytes=1 << 20)
    pair.there.receive = pair.back.receive = lambda data: None
    sinks = [pair.open() for _ in range(5)]
    pair.world.run(0.1)
    for link, name in ((pair.near, "near"), (pair.far, "far")):
        for _ in range(rng.randrange(1, 400)):
            link.receive(_frame(rng))
            if rng.random() < 0.3:
                pair.world.run(rng.choice((0.0, 0.03)))
            if rng.random() < 0.05:
                (link.pause if rng.random() < 0.5 else link.resume)()
            if name in pair.ends:
                break
        link.bye("done")
    for sink in (*sinks, *pair.accepted):
        assert sink.stream is not None
        sink.stream.reset("gone")
    assert pair.near_budget.used == pair.far_budget.used == 0


def _frame(rng: Random) -> bytes:
    stream = rng.choice((1, 1, 2, 3, 5, rng.randrange(1, 400)))
    kind = rng.choice(list(Kind))
    if kind == Kind.OPEN:
        return open_frame(rng.randrange(1, 400), rng.choice((0, 1, 65_536, 2**32 - 1)))
    if kind in (Kind.ACK, Kind.PING, Kind.PONG):
        return count_frame(kind, rng.choice((0, 1, 12, 24, rng.randrange(2**64))))
    if kind == Kind.WINDOW:
        return encode(kind, stream, rng.choice((0, 1, 70_000, 2**64 - 1)).to_bytes(8, "big"))
    if kind in (Kind.RESET, Kind.REFUSED):
        return reason_frame(kind, stream, rng.choice(("", "refused", "\x00é\n", "x" * 64))[:32])
    if kind == Kind.DATA:
        return encode(kind, stream, rng.randbytes(rng.choice((1, 10, 5_000))))
    if kind == Kind.FIN:
        return encode(kind, stream)
    return b"" if rng.random() < 0.95 else rng.randbytes(rng.randrange(60))


def test_a_budget_of_nothing_still_promises_the_least() -> None:
    budget = Budget(0, Budget(0))
    assert budget.share(10**9) == 0
    budget.take(16_384)
    assert budget.free() == 0
    budget.give(16_384)
