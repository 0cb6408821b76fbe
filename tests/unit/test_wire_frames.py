"""Frames, hellos and the channel: golden bytes decoded for ever, cuts at every byte, fuzzing."""

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.budget import Budget
from wire.channel import REPLAY_BYTES_FIRST, REPLAY_BYTES_MAX, Channel
from wire.frames import (
    HELLO_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    Frame,
    FrameReader,
    Kind,
    LinkError,
    count_frame,
    count_of,
    encode,
    open_frame,
    reason_frame,
    reason_of,
    window_frame,
    window_of,
)
from wire.heartbeat import WireError
from wire.hello import (
    FORGOTTEN,
    Answered,
    Hello,
    Resume,
    Word,
    answer_bytes,
    answered_of,
    greeting_of,
    hello_bytes,
    proof,
    resume_bytes,
)

GOLDEN = Path(__file__).parents[1] / "corpus" / "link"
SESSION = "00112233445566778899aabbccddeeff"
SECRET = bytes(range(32))
# Every frame that there is, by name: the same bytes for ever, since devices in the field speak it.
FRAMES = {
    "hello": hello_bytes(Hello("header.payload.signature", SECRET)),
    "resume": resume_bytes(SECRET, SESSION, 2, 4711),
    "resume-forgotten": resume_bytes(SECRET, SESSION, 3, FORGOTTEN),
    "answer-welcome": answer_bytes(Answered(Word.WELCOME)),
    "answer-resumed": answer_bytes(Answered(Word.RESUMED, received=4711)),
    "answer-fresh": answer_bytes(Answered(Word.FRESH)),
    "answer-over": answer_bytes(Answered(Word.OVER, reason="expired")),
    "answer-unknown": answer_bytes(Answered(Word.UNKNOWN)),
    "answer-refused": answer_bytes(Answered(Word.REFUSED, reason="ticket_used")),
    "open": open_frame(1, 65_536),
    "data": encode(Kind.DATA, 1, b"GET / HTTP/1.1\r\n\r\n"),
    "window": window_frame(1, 2**40),
    "fin": encode(Kind.FIN, 1),
    "reset": reason_frame(Kind.RESET, 2**32 - 1, "reset"),
    "refused": reason_frame(Kind.REFUSED, 3, "not_allowed"),
    "ack": count_frame(Kind.ACK, 26),
    "ping": count_frame(Kind.PING, 7),
    "pong": count_frame(Kind.PONG, 7),
    "bye": reason_frame(Kind.BYE, 0, "expired"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_golden_bytes_are_written_and_read_as_they_always_were(name: str) -> None:
    golden = (GOLDEN / f"{name}.bin").read_bytes()
    assert FRAMES[name] == golden
    expected = json.loads((GOLDEN / "frames.json").read_text())[name]
    (frame,) = FrameReader().feed(golden)
    assert [Kind(frame.kind).name, frame.stream, frame.payload.hex()] == expected


def test_every_golden_file_has_a_frame() -> None:
    assert {path.stem for path in GOLDEN.glob("*.bin")} == set(FRAMES)


def test_what_the_frames_say_is_read_back() -> None:
    def only(name: str) -> Frame:
        return FrameReader().feed(FRAMES[name])[0]

    assert greeting_of(only("hello")) == Hello("header.payload.signature", SECRET)
    mac = proof(SECRET, SESSION, 2, 4711)
    assert greeting_of(only("resume")) == Resume(SESSION, 2, 4711, mac)
    assert answered_of(only("answer-resumed")) == Answered(Word.RESUMED, 4711)
    assert answered_of(only("answer-over")) == Answered(Word.OVER, 0, "expired")
    assert window_of(only("open")) == 65_536 and count_of(only("window")) == 2**40
    assert reason_of(only("refused")) == "not_allowed"


def test_the_proof_depends_on_everything_it_proves() -> None:
    proofs = {
        proof(SECRET, SESSION, 2, 4711),
        proof(SECRET[::-1], SESSION, 2, 4711),
        proof(SECRET, SESSION[::-1], 2, 4711),
        proof(SECRET, SESSION, 3, 4711),
        proof(SECRET, SESSION, 2, 4712),
        proof(SECRET, SESSION, 24, 711),
    }
    assert len(proofs) == 6


def test_reasons_are_words_whatever_came() -> None:
    frame = Frame(Kind.BYE, 0, b"<b>Robert'); DROP\x00\xff")
    assert set(reason_of(frame)) <= set("abcdefghijklmnopqrstuvwxyz_")
    assert reason_of(Frame(Kind.BYE, 0, b"")) == "unknown"


frames = st.one_of(
    st.binary(min_size=1, max_size=2_000).map(lambda data: encode(Kind.DATA, 5, data)),
    st.sampled_from([FRAMES[name] for name in ("open", "fin", "window", "ack", "ping", "bye")]),
)


@given(sent=st.lists(frames, max_size=12), cuts=st.lists(st.integers(1, 40), min_size=1))
def test_frames_survive_any_cutting(sent: list[bytes], cuts: list[int]) -> None:
    reader, read, rest, turn = FrameReader(), [], b"".join(sent), 0
    while rest:
        size = cuts[turn % len(cuts)]
        turn += 1
        read += reader.feed(rest[:size])
        rest = rest[size:]
    assert [encode(*frame) for frame in read] == sent


@given(st.binary(max_size=200))
def test_bytes_from_nowhere_are_refused_or_wait(data: bytes) -> None:
    for take in (FrameReader().feed, FrameReader().first):
        try:
            take(data)
        except LinkError:
            pass  # the declared way


@given(
    st.sampled_from([name for name in FRAMES if "-" in name or name in ("hello", "resume")]),
    st.data(),
)
def test_a_damaged_hello_is_an_error_or_another_hello(name: str, data: st.DataObject) -> None:
    golden = bytearray(FRAMES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        golden[data.draw(st.integers(0, len(golden) - 1))] = data.draw(st.integers(0, 255))
    try:
        frame = FrameReader().first(bytes(golden))
        if frame is not None:
            (answered_of if "answer" in name else greeting_of)(frame)
    except WireError:
        pass  # the declared way


def test_nobody_says_more_than_4_kib_before_being_known() -> None:
    with pytest.raises(LinkError, match="too long"):
        FrameReader().first(encode(Kind.HELLO, 0, bytes(HELLO_BYTES_MAX)))
    with pytest.raises(LinkError, match="another frame came first"):
        FrameReader().first(FRAMES["data"])


def test_what_follows_the_hello_is_not_lost() -> None:
    reader = FrameReader()
    assert reader.first(FRAMES["answer-welcome"][:10]) is None
    frame = reader.first(FRAMES["answer-welcome"][10:] + FRAMES["open"] + FRAMES["data"][:11])
    assert frame is not None and answered_of(frame).word is Word.WELCOME
    assert [one.kind for one in reader.feed(FRAMES["data"][11:])] == [Kind.OPEN, Kind.DATA]


# The channel


def test_a_channel_cut_at_any_position_goes_on_from_what_was_taken() -> None:
    rng = Random(3)
    sent = [
        encode(Kind.DATA, rng.randrange(1, 5), rng.randbytes(rng.randrange(1, 300)))
        for _ in range(40)
    ]
    recorded = b"".join(sent)
    for cut in range(len(recorded) + 1):
        sender, receiver, reader = Channel(Budget(0)), Channel(Budget(0)), FrameReader()
        for frame in sent:
            sender.send(frame, control=False)
        taken = reader.feed(recorded[:cut])
        for one in taken:
            receiver.take(one.size)
        again = FrameReader().feed(b"".join(sender.resume(receiver.received)))
        assert [encode(*one) for one in (*taken, *again)] == sent


def test_the_replay_grows_with_the_path_and_gives_back() -> None:
    budget = Budget(64 << 20)
    channel = Channel(budget)
    frame = encode(Kind.DATA, 1, bytes(PAYLOAD_BYTES_MAX))
    for _ in range(200):
        while channel.room() >= len(frame):
            channel.send(frame, control=False)
        assert channel.unacknowledged <= REPLAY_BYTES_MAX
        channel.room()
        channel.confirm(channel.acknowledged + len(frame))
    assert channel.unacknowledged > 7 << 20
    channel.confirm(channel.sent)
    channel.rest()
    assert budget.used == 0 and channel.room() == REPLAY_BYTES_FIRST


@pytest.mark.parametrize("count", [1, 5, 27, 10_000])
def test_an_acknowledgement_names_a_whole_frame_that_was_sent(count: int) -> None:
    channel = Channel(Budget(0))
    for _ in range(2):
        channel.send(FRAMES["data"], control=False)
    channel.confirm(len(FRAMES["data"]))
    with pytest.raises(LinkError):
        channel.confirm(count)
