"""Targets: any spelling is understood by the gateway, one only is taken by an agent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.heartbeat import WireError
from wire.targets import parse_target, spelled_target

CANONICAL = ["127.0.0.1:80", "[::1]:443", "[fd00::7]:1", "plc.lan:65535", "a-b_c:22"]
# What is asked for, and what an agent is told; it refuses these.
OTHERWISE_SPELT = {
    "0x7f.1:80": "0x7f.1:80",
    "127.1:80": "127.1:80",
    "0:80": "0:80",
    "2130706433:80": "2130706433:80",
    "127.000.0.1:80": "127.000.0.1:80",
    "1.2.3.4.5:80": "1.2.3.4.5:80",
    "[1:2]:80": "[1:2]:80",
}
# These are put right on the way.
PUT_RIGHT = {
    "[::ffff:127.0.0.1]:80": "[::ffff:7f00:1]:80",
    "[0:0:0:0:0:0:0:1]:80": "[::1]:80",
    "[FD00::7]:80": "[fd00::7]:80",
    "PLC.Lan:80": "plc.lan:80",
}
MALFORMED = [
    "",
    "80",
    "host",
    "host:",
    ":80",
    "host:0",
    "host:65536",
    "host:080",
    "host:+80",
    "host:８０",
    "::1:80",
    "[127.0.0.1]:80",
    "[fe80::1%lo]:80",
    "user@host:80",
    "-host:80",
    "a..b:80",
    "a b:80",
    "host:80\r\nx",
    f"{'a' * 254}:80",
]


@pytest.mark.parametrize("text", CANONICAL)
def test_the_canonical_form_is_understood_by_both(text: str) -> None:
    assert str(parse_target(text)) == str(spelled_target(text)) == text


@pytest.mark.parametrize("text", OTHERWISE_SPELT)
def test_other_spellings_reach_the_agent_and_no_further(text: str) -> None:
    assert str(spelled_target(text)) == OTHERWISE_SPELT[text]
    with pytest.raises(WireError, match="canonical"):
        parse_target(OTHERWISE_SPELT[text])


@pytest.mark.parametrize("text", PUT_RIGHT)
def test_what_is_an_address_is_put_right_on_the_way(text: str) -> None:
    assert str(parse_target(str(spelled_target(text)))) == PUT_RIGHT[text]
    with pytest.raises(WireError, match="canonical"):
        parse_target(text)


@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_no_target_is_refused_by_both(text: str) -> None:
    for read in (spelled_target, parse_target):
        with pytest.raises(WireError, match="target: "):
            read(text)


@given(st.text(max_size=40) | st.from_regex(r"[0-9a-fx.:\[\]]{1,20}:[0-9]{1,5}", fullmatch=True))
def test_whatever_is_read_says_the_same_again(text: str) -> None:
    try:
        target = spelled_target(text)
    except WireError:
        return
    assert spelled_target(str(target)) == target
