"""Cookies, paths, hosts and languages as the relay's door reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.relay import web_cookies
from broker.relay.web_headers import (
    BadHead,
    Mapping,
    encode_head,
    request_headers,
    response_headers,
)
from broker.relay.web_isolation import host_of, is_ours
from broker.relay.web_pages import language_of
from wire.targets import parse_target

OURS = [b"fleetgate-relay", b"fleetgate-state", b"__Host-fleetgate-relay"]
PAIRS = st.one_of(
    st.builds(
        lambda name, value: name + b"=" + value, st.sampled_from(OURS), st.binary(max_size=5)
    ),
    st.binary(max_size=12),
)
MAPPING = Mapping(b"http", parse_target("[fd00::1]:8080"), b"http://s-x.localhost:1")


@given(st.lists(PAIRS, max_size=6))
def test_no_reading_of_what_is_left_finds_our_cookies(parts: list[bytes]) -> None:
    left = web_cookies.cut(b";".join(parts))
    for name in OURS:
        assert web_cookies.values([(b"Cookie", left)], name) == []


@given(st.lists(st.binary(max_size=12), max_size=6))
def test_the_cookies_of_others_stay_in_their_order(parts: list[bytes]) -> None:
    whole = b"; ".join(parts)
    if not any(name in whole for name in (b"fleetgate-relay", b"fleetgate-state")):
        assert web_cookies.cut(whole) == whole


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_heads_are_never_split(name: bytes, value: bytes) -> None:
    try:
        head = encode_head(b"GET / HTTP/1.1", [(name, value)])
    except BadHead:
        assert b"\r" in name + value or b"\n" in name + value or b"\0" in name + value
    else:
        assert head.count(b"\r\n") == 3


def test_ipv6_targets() -> None:
    assert MAPPING.target_host == b"[fd00::1]:8080"
    assert MAPPING.to_visitor(b"http://[fd00::1]:8080/a") == b"http://s-x.localhost:1/a"
    assert MAPPING.to_visitor(b"http://[fd00::2]:8080/a") == b"http://[fd00::2]:8080/a"
    assert MAPPING.to_target(b"http://s-x.localhost:1") == b"http://[fd00::1]:8080"
    assert MAPPING.to_target(b"http://s-x.localhost:12/") == b"http://s-x.localhost:12/"


def test_connection_cannot_name_away_what_frames_a_message() -> None:
    given = [(b"Connection", b"host, content-length, cookie"), (b"Host", b"x"), (b"A", b"1")]
    assert request_headers(given, MAPPING, upgrade=False) == [
        (b"Host", b"[fd00::1]:8080"),
        (b"A", b"1"),
    ]
    assert (
        response_headers([(b"connection", b"set-cookie"), (b"Set-Cookie", b"a=1")], MAPPING) == []
    )


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", 0),
        ("es", 1),
        ("es-MX,es;q=0.9,en;q=0.8", 1),
        ("en-GB,en;q=0.9,es;q=0.8", 0),
        ("fr,es;q=0.5", 1),
        ("es;q=0,en;q=0.1", 0),
        ("q=1;;es;q=x" * 1000, 0),
    ],
)
def test_languages(accepted: str, language: int) -> None:
    assert language_of(accepted) == language


@given(st.text(max_size=60))
def test_any_path_is_judged(path: str) -> None:
    assert is_ours("/" + path) in (True, False)
    assert is_ours("/.fleetgate/" + path)


def test_one_host_only() -> None:
    label = "s-" + "a" * 26
    good = (b"Host", f"{label}.relay.example:443".encode())
    assert host_of([good], "relay.example") == (label, good[1])
    assert host_of([good, good], "relay.example") is None
    assert host_of([good], "relay.exampl") is None
    assert host_of([good], "example") is None
    assert host_of([], "relay.example") is None
