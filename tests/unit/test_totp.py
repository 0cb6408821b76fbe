"""One-time passwords by the vectors of RFC 6238, and recovery codes."""

import base64
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.people import totp
from gateway.people.recovery_codes import COUNT, hash_code, new_codes

SECRET = b"12345678901234567890"
# RFC 6238, appendix B (SHA-1): seconds and the code, of which the last six digits count.
VECTORS = [
    (59, "94287082"),
    (1111111109, "07081804"),
    (1111111111, "14050471"),
    (1234567890, "89005924"),
    (2000000000, "69279037"),
    (20000000000, "65353130"),
]


@pytest.mark.parametrize(("at_s", "code"), VECTORS)
def test_codes_are_those_of_the_standard(at_s: int, code: str) -> None:
    assert totp.step_of(SECRET, code[-6:], at_s * 1000, None) == at_s // 30
    assert totp.step_of(SECRET, f"{(int(code[-6:]) + 1) % 1_000_000:06}", at_s * 1000, None) is None


def test_a_clock_may_be_wrong_by_a_step_and_no_more() -> None:
    at_ms, code = 1234567890_000, "005924"
    for off_s, fits in ((-60, False), (-30, True), (0, True), (30, True), (60, False)):
        assert (totp.step_of(SECRET, code, at_ms + off_s * 1000, None) is not None) is fits


def test_each_step_is_good_once_and_none_before_it() -> None:
    at_ms, code = 1234567890_000, "005924"
    step = totp.step_of(SECRET, code, at_ms, None)
    assert step is not None
    assert totp.step_of(SECRET, code, at_ms, step - 1) == step
    assert totp.step_of(SECRET, code, at_ms, step) is None
    assert totp.step_of(SECRET, code, at_ms, step + 1) is None


@pytest.mark.parametrize(
    "text", ["", "12345", "1234567", "12345a", "１２３４５６", "-12345", "12 345"]
)
def test_what_is_no_code_is_none(text: str) -> None:
    assert not totp.is_code(text)
    assert totp.step_of(SECRET, text, 59_000, None) is None


def test_apps_are_told_what_they_need() -> None:
    secret = totp.new_secret()
    assert len(secret) == totp.SECRET_BYTES and secret != totp.new_secret()
    assert base64.b32decode(totp.text_of(secret)) == secret
    parts = urlsplit(totp.uri_of(secret, "ann+1@example.org"))
    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    asked = parse_qs(parts.query)
    assert asked["secret"] == [totp.text_of(secret)] and asked["issuer"] == [totp.ISSUER]
    assert asked["digits"] == ["6"] and asked["period"] == ["30"]


def test_recovery_codes_are_many_long_and_typed_as_one_likes() -> None:
    codes = new_codes()
    assert len({hash_code(code) for code in codes}) == COUNT == len(codes)
    for code in codes:
        assert len(code.replace("-", "")) == 16 and code == code.lower()
        assert not totp.is_code(code)
        typed = f"  {code.upper().replace('-', ' ')} "
        assert hash_code(typed) == hash_code(code) == hash_code(code.replace("-", ""))
