"""Two decoders, one of them made from the document alone, agree on everything."""

import json
from pathlib import Path
from random import Random
from typing import Any

from tests import link_by_the_page as page
from wire.frames import Frame, FrameReader, Kind, LinkError, count_of, reason_of, window_of
from wire.heartbeat import WireError
from wire.hello import Hello, answered_of, greeting_of, proof

GOLDEN = sorted((Path(__file__).parents[1] / "corpus" / "link").glob("*.bin"))
ROUNDS = 100_000
COUNTS = (Kind.WINDOW, Kind.ACK, Kind.PING, Kind.PONG)
REASONS = (Kind.RESET, Kind.REFUSED, Kind.BYE)


def ours(data: bytes) -> Any:
    try:
        frames = FrameReader().feed(data)
    except LinkError:
        return "wrong"
    return [(Kind(frame.kind).name, frame.stream, _meaning(frame)) for frame in frames]


def _meaning(frame: Frame) -> Any:
    if frame.kind == Kind.OPEN:
        return window_of(frame)
    if frame.kind in COUNTS:
        return count_of(frame)
    return reason_of(frame) if frame.kind in REASONS else frame.payload


def theirs(data: bytes) -> Any:
    found = []
    try:
        while (taken := page.take(data)) is not None:
            found.append(taken[0])
            data = taken[1]
    except page.Wrong:
        return "wrong"
    return found


def ours_first(frame: Frame) -> Any:
    try:
        if frame.kind == Kind.ANSWER:
            answered = answered_of(frame)
            return {
                "word": answered.word.value,
                "reason": answered.reason,
                "received": answered.received,
            }
        return dict(greeting_of(frame)._asdict())
    except WireError:
        return "wrong"


def theirs_first(frame: Frame) -> Any:
    try:
        return page.read_first(Kind(frame.kind).name, frame.payload)
    except page.Wrong:
        return "wrong"


def test_both_read_every_golden_file() -> None:
    assert len(GOLDEN) >= 19
    for path in GOLDEN:
        data = path.read_bytes()
        assert ours(data) == theirs(data) != "wrong", path.name
        (frame,) = FrameReader().feed(data)
        if frame.kind < Kind.OPEN:
            assert ours_first(frame) == theirs_first(frame) != "wrong", path.name
    resume = page.read_first("RESUME", (GOLDEN[0].parent / "resume-forgotten.bin").read_bytes()[8:])
    assert resume["received"] == -1


def random_frame(rng: Random) -> bytes:
    """Mostly what the page allows, often nearly that, sometimes noise."""
    kind = rng.choice((*page.TABLE, rng.randrange(256)))
    _, with_stream, least, most = page.TABLE.get(kind, ("", False, 0, 70))
    length = rng.choice((least, rng.randint(least, min(most, 90)), rng.randint(0, 100)))
    if rng.random() < 0.01:
        length = rng.choice((most, min(most + 1, 65_535), 4_088, 4_089, 65_529))
    stream = rng.choice((0, 1, 77, 2**32 - 1)) if rng.random() < 0.2 else with_stream * 5
    zero = rng.random() < 0.03
    header = bytes((kind, zero)) + length.to_bytes(2, "big") + stream.to_bytes(4, "big")
    payload = rng.choice((rng.randbytes(length), b"reset_by_peer"[:length].ljust(length, b"x")))
    frame = header + payload
    return frame[: rng.randrange(len(frame) + 1)] if rng.random() < 0.1 else frame


def test_both_agree_on_a_hundred_thousand_random_frames() -> None:
    rng = Random(20)
    verdicts = {"wrong": 0, "read": 0, "part": 0}
    for _ in range(ROUNDS):
        data = random_frame(rng)
        said = ours(data)
        assert said == theirs(data), data[:100]
        verdicts["wrong" if said == "wrong" else "read" if said else "part"] += 1
    assert min(verdicts.values()) > ROUNDS / 50, verdicts


def random_hello(rng: Random) -> bytes:
    """A golden one, of which one member or one byte is another."""
    path = rng.choice([one for one in GOLDEN if one.read_bytes()[0] < Kind.OPEN])
    payload = path.read_bytes()[8:]
    if rng.random() < 0.5:
        body = json.loads(payload)
        name = rng.choice((*body, "word", "received", "reason", "more"))
        body[name] = rng.choice(
            (None, True, 1, -1, -2, 0, 1.0, 2**53 - 1, 2**53, "", "x" * 65, "A" * 64, [], "fresh")
        )
        payload = json.dumps(body).encode()
    else:
        position = rng.randrange(len(payload))
        payload = payload[:position] + rng.randbytes(1) + payload[position + 1 :]
    return path.read_bytes()[:2] + len(payload).to_bytes(2, "big") + bytes(4) + payload


def test_both_agree_on_damaged_first_frames() -> None:
    rng = Random(21)
    wrong = 0
    for _ in range(20_000):
        (frame,) = FrameReader().feed(random_hello(rng))
        said = ours_first(frame)
        assert said == theirs_first(frame), frame
        wrong += said == "wrong"
    assert 2_000 < wrong < 19_000


def test_both_make_the_same_proof() -> None:
    rng = Random(22)
    for _ in range(1_000):
        secret, session = rng.randbytes(32), rng.randbytes(16).hex()
        count = rng.choice((-1, 0, rng.randrange(2**53)))
        assert proof(secret, session, 7, count) == page.proof(secret, session, 7, count)
    assert Hello("t", b"")._asdict() == {"ticket": "t", "secret": b""}
