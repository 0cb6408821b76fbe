"""A link over many connections: not a byte lost, doubled or reordered, wherever one breaks."""

from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.link_pair import Sink
from tests.unit.resumed_pair import ENDLESS, Resumed
from wire.channel import REPLAY_BYTES_MAX
from wire.frames import Kind, count_frame, encode, open_frame, reason_frame
from wire.hello import Answered, Resume, Word, proof
from wire.resuming import Bearer, Keeper
from wire.vigil import NOTICE_S, PATIENCE_S_MAX, Vigil

MIB = 1 << 20
SPEECH = Random(3).randbytes(900)


def conversation(pair: Resumed) -> list[Sink]:
    """Every kind of numbered frame in both directions, in a few round trips."""
    world = pair.world
    while pair.relay.link is None:
        world.run(0.05)
    first, second = pair.open(), pair.open()
    first.send(SPEECH[:300])
    second.send(b"question", finish=True)
    world.run(0.05)
    while len(pair.agent.accepted) < 2:
        world.run(0.05)
    far = pair.agent.accepted
    far[0].send(SPEECH[300:500])
    far[1].send(SPEECH[500:], finish=True)
    third = pair.open()
    third.send(b"?")
    world.run(0.05)
    while len(far) < 3:
        world.run(0.05)
    assert far[2].stream is not None
    far[2].stream.refuse("refused")
    first.send(b"and", finish=True)
    world.run(0.05)
    far[0].send(b"yes", finish=True)
    world.run(20)
    return [first, second, third, *far]


def check(sinks: list[Sink]) -> None:
    first, second, third, *far = sinks
    assert bytes(first.got) == SPEECH[300:500] + b"yes"
    assert first.finished
    assert bytes(second.got) == SPEECH[500:]
    assert second.finished
    assert third.ended == "refused"
    assert bytes(far[0].got) == SPEECH[:300] + b"and"
    assert far[0].finished
    assert bytes(far[1].got) == b"question"
    assert far[1].finished
    assert not first.ended
    assert not second.ended


def test_a_break_at_every_single_byte_of_a_conversation() -> None:
    pair = Resumed()
    check(conversation(pair))
    sizes = pair.connections[0].up.carried, pair.connections[0].down.carried
    assert len(pair.connections) == 1
    assert min(sizes) > 500
    resumed = 0
    for way in (0, 1):
        for offset in range(1, sizes[way] + 1):
            limits = [ENDLESS, ENDLESS]
            limits[way] = offset
            pair = Resumed((limits[0], limits[1]))
            check(conversation(pair))
            assert len(pair.connections) in (2, 3), offset
            resumed += pair.relay.answers[-1].word is Word.RESUMED
    assert resumed > sum(sizes) / 2


def test_two_breaks_the_second_while_the_first_is_mended() -> None:
    """At each byte of the second connection, the hello and what is sent again included."""
    for way in (0, 1):
        for offset in range(1, 400, 3):
            limits = [ENDLESS, ENDLESS]
            limits[way] = offset
            pair = Resumed((600, 700), (limits[0], limits[1]))
            check(conversation(pair))


def test_megabytes_both_ways_through_many_cuts() -> None:
    pair = Resumed(rng=Random(5))
    rng = Random(9)
    pair.world.run(0.1)
    near = pair.open()
    pair.world.run(0.1)
    far = pair.agent.accepted[0]
    there, back = rng.randbytes(3 * MIB), rng.randbytes(3 * MIB)
    near.send(there, finish=True)
    far.send(back, finish=True)
    cuts = 0
    while not (near.finished and far.finished):
        pair.world.run(rng.uniform(0.01, 0.2))
        if cuts < 20:
            cuts += 1
            pair.connections[-1].cut()
            pair.reachable = rng.random() < 0.5
            pair.world.run(rng.uniform(0.1, 1))
            pair.reachable = True
    pair.world.run(20)
    assert bytes(near.got) == back
    assert bytes(far.got) == there
    assert pair.relay.budget.used == pair.agent.budget.used == 0


def test_what_waits_for_a_connection_is_bounded() -> None:
    pair = Resumed()
    pair.world.run(0.1)
    near = pair.open()
    pair.world.run(0.1)
    pair.reachable = False
    pair.connections[-1].cut()
    near.send(bytes(50 * MIB))
    pair.agent.accepted[0].send(bytes(50 * MIB))
    pair.world.run(30)
    assert pair.relay.link is not None
    assert pair.agent.link is not None
    assert pair.relay.link.held_bytes <= REPLAY_BYTES_MAX
    assert pair.agent.link.held_bytes <= REPLAY_BYTES_MAX
    assert near.stream is not None
    assert near.stream.room == 0
    pair.reachable = True
    pair.world.run(30)
    assert len(near.got) == len(pair.agent.accepted[0].got) == 50 * MIB


def test_the_old_connections_late_data_and_late_goodbye_are_ignored() -> None:
    pair = Resumed()
    pair.world.run(0.1)
    near = pair.open()
    pair.world.run(0.1)
    old = pair.connections[0]
    lost = list(old.lost)
    old.black_hole()
    near.send(b"between")
    pair.world.run(2 * NOTICE_S + 1)  # the relay's data is nothing that the agent waits for
    assert len(pair.connections) == 2
    assert pair.relay.answers[-1].word is Word.RESUMED
    for late in (open_frame(9, 65_536), encode(Kind.DATA, 1, b"late"), count_frame(Kind.ACK, 77)):
        old.up.receive(late)
        old.down.receive(late)
    old.up.receive(reason_frame(Kind.BYE, 0, "agent_stopping"))
    old.down.receive(reason_frame(Kind.BYE, 0, "closed"))
    for call in lost:
        call()
    near.send(b" and after", finish=True)
    pair.world.run(1)
    assert bytes(pair.agent.accepted[0].got) == b"between and after"
    assert not pair.relay.ended
    assert not pair.agent.ended
    assert len(pair.connections) == 2


def test_an_answer_lost_after_the_ticket_was_taken_is_resumed() -> None:
    pair = Resumed((ENDLESS, 1))
    pair.world.run(1)
    assert [answer.word for answer in pair.relay.answers] == [Word.WELCOME, Word.RESUMED]
    near = pair.open()
    near.send(b"hello")
    pair.world.run(1)
    assert bytes(pair.agent.accepted[0].got) == b"hello"


def test_a_channel_that_was_forgotten_begins_afresh_and_streams_are_reset() -> None:
    pair = Resumed()
    pair.world.run(0.1)
    near = pair.open()
    near.send(b"before")
    pair.world.run(0.1)
    pair.reachable = False
    pair.connections[-1].cut()
    pair.world.run(1)
    pair.relay.forget()
    far = pair.agent.accepted[0]
    assert (near.ended, far.ended) == ("link_lost", "")
    pair.reachable = True
    pair.world.run(1)
    assert pair.relay.answers[-1] == Answered(Word.FRESH)
    assert [far.ended for far in pair.agent.accepted] == ["link_lost"]
    after = pair.open()
    after.send(b"after")
    pair.world.run(1)
    assert bytes(pair.agent.accepted[1].got) == b"after"


@pytest.mark.parametrize("deaf", ["up", "down", "both"])
def test_a_silent_connection_is_replaced_beside_the_old_one_within_three_seconds(deaf: str) -> None:
    pair = Resumed()
    pair.world.run(20)
    near = pair.open()
    pair.world.run(0.2)
    old = pair.connections[0]
    if deaf != "up":
        old.down.most = old.down.carried
    if deaf != "down":
        old.up.most = old.up.carried
    pair.agent.accepted[0].send(b"are you there", finish=True)
    near.send(b"and you", finish=True)
    before_s = pair.world.now_s
    while not (near.finished and pair.agent.accepted[0].finished):
        pair.world.run(0.1)
        assert pair.world.now_s - before_s < NOTICE_S + 0.5
    assert bytes(near.got) == b"are you there"
    assert len(pair.connections) == 2
    # Mostly the relay has noticed nothing before.
    assert pair.relay.away == (deaf == "down")


@pytest.mark.parametrize("opened", [True, False])
def test_an_idle_connection_is_watched_too(opened: bool) -> None:
    pair = Resumed()
    pair.world.run(0.1)
    if opened:
        pair.open()
    pair.world.run(60)
    pair.connections[0].black_hole()
    before_s = pair.world.now_s
    while len(pair.connections) == 1:
        pair.world.run(0.1)
    assert pair.world.now_s - before_s <= 2 * NOTICE_S + 0.5


def test_a_count_that_cannot_be_true_begins_afresh() -> None:
    pair = Resumed()
    pair.world.run(0.1)
    near = pair.open()
    near.send(b"some bytes")
    pair.world.run(0.1)
    link = pair.agent.link
    assert link is not None
    link.detach = lambda: 3  # type: ignore[method-assign]  # in the middle of a frame
    pair.connections[0].cut()
    pair.world.run(1)
    assert pair.relay.answers[-1].word is Word.FRESH
    assert near.ended


def test_only_rising_generations_by_the_holder_of_the_secret() -> None:
    secret, session = b"1" * 32, "a" * 32
    keeper, bearer = Keeper(secret), Bearer(secret)
    assert not bearer.shown

    def asked(generation: int, by: bytes = secret) -> Resume:
        return Resume(session, generation, 7, proof(by, session, generation, 7))

    assert keeper.fence(asked(4)) is None
    assert keeper.fence(asked(4)) == Answered(Word.REFUSED, reason="generation_old")
    assert keeper.fence(asked(3)) == Answered(Word.REFUSED, reason="generation_old")
    assert keeper.fence(asked(9, b"2" * 32)) == Answered(Word.UNKNOWN)
    assert keeper.fence(asked(5)._replace(received=8)) == Answered(Word.UNKNOWN)
    assert keeper.fence(asked(5)) is None


def test_patience_grows_on_a_slow_path_and_comes_back() -> None:
    vigil = Vigil(0.0)
    vigil.ask(0.0)
    assert not vigil.doubt(NOTICE_S - 0.1)
    assert vigil.doubt(NOTICE_S)
    vigil.heard(6.0)
    assert not vigil.doubted
    vigil.answered(6.0, owes=True)
    assert not vigil.doubt(6.0 + 2 * NOTICE_S)
    for _ in range(100):
        vigil.answered(6.1, owes=True)
    assert vigil.doubt(6.1 + NOTICE_S)
    for _ in range(9):
        vigil.begin(1e9)
        vigil.ask(1e9)
        vigil.doubted = True
    assert not vigil.doubt(1e9 + PATIENCE_S_MAX - 0.1)


class Lives(RuleBasedStateMachine):
    """Any order of traffic, cuts, black holes and mending; the channel is never forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Resumed(rng=Random(1))
        self.pair.world.run(0.1)
        self.near: list[Sink] = []
        self.said: dict[Sink, bytes] = {}

    def far(self, position: int) -> Sink | None:
        accepted = self.pair.agent.accepted
        return accepted[position] if position < len(accepted) else None

    @precondition(lambda self: len(self.near) < 6 and self.pair.relay.link is not None)
    @rule()
    def opens(self) -> None:
        self.near.append(self.pair.open())

    @precondition(lambda self: self.near)
    @rule(data=st.data(), size=st.sampled_from([1, 100, 1_500, 20_000, 200_000]), far=st.booleans())
    def sends(self, data: st.DataObject, size: int, far: bool) -> None:
        position = data.draw(st.integers(0, len(self.near) - 1))
        sink = self.far(position) if far else self.near[position]
        if sink is not None and not sink.closing:
            spoken = Random(size).randbytes(size)
            self.said[sink] = self.said.get(sink, b"") + spoken
            sink.send(spoken)

    @precondition(lambda self: self.near)
    @rule(data=st.data(), far=st.booleans())
    def finishes(self, data: st.DataObject, far: bool) -> None:
        position = data.draw(st.integers(0, len(self.near) - 1))
        sink = self.far(position) if far else self.near[position]
        if sink is not None and not sink.closing:
            sink.send(b"", finish=True)

    @rule(for_s=st.sampled_from([0.001, 0.011, 0.02, 0.03, 0.1, 1.0, 4.0]))
    def time_passes(self, for_s: float) -> None:
        self.pair.world.run(for_s)

    @rule(how=st.sampled_from(["cut", "black_hole", "up", "down"]), more=st.integers(0, 3_000))
    def breaks(self, how: str, more: int) -> None:
        last = self.pair.connections[-1]
        if how == "cut":
            last.cut()
        elif how == "black_hole":
            last.black_hole()
        elif how == "up":
            last.up.most = min(last.up.most, last.up.carried + more)
        else:
            last.down.most = min(last.down.most, last.down.carried + more)

    @rule(reachable=st.booleans())
    def weather(self, reachable: bool) -> None:
        self.pair.reachable = reachable

    @invariant()
    def what_came_is_a_beginning_of_what_was_said(self) -> None:
        for position, near in enumerate(self.near):
            far = self.far(position)
            if far is not None:
                assert self.said.get(near, b"").startswith(bytes(far.got))
                assert self.said.get(far, b"").startswith(bytes(near.got))

    def teardown(self) -> None:
        self.pair.reachable = True
        self.pair.world.run(120)
        assert not self.pair.relay.ended
        assert not self.pair.agent.ended
        assert len(self.pair.agent.accepted) == len(self.near)
        for near, far in zip(self.near, self.pair.agent.accepted, strict=True):
            assert bytes(far.got) == self.said.get(near, b"")
            assert bytes(near.got) == self.said.get(far, b"")
            assert (far.finished, near.finished) == (near.closing, far.closing)


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
