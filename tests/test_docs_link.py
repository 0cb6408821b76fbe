"""`docs/link.md` against the package `wire`: kinds of frames, words of the answer, limits."""

import re

from agent.links.session_link import FORGET_S
from broker.connect.session import FORGET_S as CONNECT_FORGET_S
from broker.relay import detached
from broker.relay.limits import Limits
from broker.relay.session import LINK_WAIT_S
from tests.contract.tables import ROOT, tables
from wire import budget, channel, frames, hello, link, stream, streams, vigil

PAGE = (ROOT / "docs" / "link.md").read_text(encoding="utf-8")
TABLES = tables("link.md")


def test_kinds_are_those_of_the_program() -> None:
    said = [(int(row["kind"]), row["name"]) for row in TABLES["kind | name | stream | payload"]]
    assert said == [(kind.value, kind.name) for kind in frames.Kind]
    rows = TABLES["kind | name | stream | payload"]
    with_stream = [row["name"] for row in rows if row["stream"] == "yes"]
    assert with_stream == [kind.name for kind in frames.Kind if kind in frames.NUMBERED]


def test_words_are_those_of_the_program() -> None:
    said = {row["word"] for row in TABLES["word | means | the dialler then"]}
    assert said == {word.value for word in hello.Word}


def test_figures_are_those_of_the_program() -> None:
    text = re.sub(r"\s+", " ", PAGE.replace("**", ""))
    kib, mib = 1024, 1024 * 1024
    figures = {
        f"at most {frames.PAYLOAD_BYTES_MAX:,} bytes": True,
        "at most 4 KiB, within 10 s": 4 * kib == frames.HELLO_BYTES_MAX,
        "after 64 KiB or 20 ms": (64 * kib, 0.02) == (channel.ACK_BYTES, channel.ACK_S),
        "1 MiB, and up to 8 MiB": (mib, 8 * mib)
        == (channel.REPLAY_BYTES_FIRST, channel.REPLAY_BYTES_MAX),
        "by at most 64 KiB": 64 * kib == channel.CONTROL_BYTES_MAX,
        "-1: the dialling side has nothing left": hello.FORGOTTEN == -1,
        "by a side that can dial again after 3 s": link.QUIET_DIALLING_S == 3,
        "nothing was heard for 3 s": vigil.NOTICE_S == 3,
        "at most 15 s, and back to 3 s": vigil.PATIENCE_S_MAX == 15,
        "keeps a channel for 60 s": detached.DETACHED_S == 60,
        "within a quarter of its memory (256 MiB)": 256 * mib == detached.DETACHED_BYTES,
        "an eighth of its memory free": budget.SHARE == 8,
        "waits for 15 s": LINK_WAIT_S == 15,
        "90 s after the loss": FORGET_S == 90 == CONNECT_FORGET_S,
        "has 32 links already": Limits().links_per_session == 32,
        "every 0.5 s while data flows": link.BUSY_PING_S == 0.5,
        "hears nothing for 15 s": link.SILENCE_S_MAX == 15 == link.QUIET_S,
        "16 KiB before the first WINDOW": 16 * kib == stream.WINDOW_BYTES_LEAST,
        "begins at 64 KiB": 64 * kib == stream.WINDOW_BYTES_FIRST,
        "between 256 KiB and 1 MiB": (256 * kib, mib)
        == (stream.WINDOW_BYTES_PROVED, stream.WINDOW_BYTES_LARGE),
        "At most 256 streams": streams.STREAMS_MAX == 256,
        "beyond 200 at once or 50 a second": (streams.OPENS_BURST, streams.OPENS_PER_S)
        == (200, 50),
        "1,000 ahead": streams.OPENS_OWED_MAX == 1_000,
        "16 MiB at the relay, 8 MiB at the agent": (
            budget.SESSION_BYTES + mib,
            budget.AGENT_SESSION_BYTES + mib,
        )
        == (16 * mib, 8 * mib),
        "of the relay's (1 GiB)": 1024 * mib == budget.RELAY_BYTES,
        "no more than 1,400 bytes": stream.SMALL_BYTES == 1_400,
        "a frame carries at most 16 KiB": 16 * kib == streams.SHARED_FRAME_BYTES,
        "When a quarter of the window": stream.HELD_BACK == 4,
    }
    for words, held in figures.items():
        assert words.lower() in text.lower(), words
        assert held, words
