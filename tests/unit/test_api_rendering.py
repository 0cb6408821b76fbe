"""What pages show: texts for people, escaped, and addresses of our own only."""

import re
from pathlib import Path

import gateway.web
from gateway.api.status import PRESENCES, STATES
from gateway.domain.service import Reason, State
from gateway.web.addresses import START, local_address
from gateway.web.assets import assets
from gateway.web.closed_words import LISTS
from gateway.web.rendering import render
from gateway.web.texts import ENGLISH
from gateway.web.writing import (
    bytes_text,
    duration_text,
    milliseconds_text,
    number_text,
    signal_bars,
    with_moments,
)
from gateway.web.zones import zone_of

ROOM = Path(gateway.web.__file__).parent


def test_figures_are_written_for_people() -> None:
    assert [bytes_text(n) for n in (0, 1023, 1024, 5_000_000)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "4.8 MiB",
    ]
    assert [duration_text(n) for n in (-3, 59, 60, 3_600, 3_720, 86_400, 90_000)] == [
        "0 s",
        "59 s",
        "1 min",
        "1 h",
        "1 h 2 min",
        "1 d",
        "1 d 1 h",
    ]
    assert [milliseconds_text(n) for n in (0.44, 12.3, 3_100)] == ["0.4 ms", "12 ms", "3.1 s"]
    assert number_text(1_812_345) == "1\u202f812\u202f345"
    assert [signal_bars(n) for n in (-120, -110, -100, -90, -70, None, "x")] == [
        0,
        1,
        2,
        3,
        4,
        0,
        0,
    ]


def test_every_state_of_a_device_has_its_words() -> None:
    assert {*State, *STATES} <= set(LISTS["service"])
    assert {*PRESENCES} <= set(LISTS["presence"])
    assert {*Reason} <= set(LISTS["reason"])


def test_after_signing_in_one_stays_on_this_site() -> None:
    for text, expected in (
        ("/status", "/status"),
        ("/api/docs?x=1", "/api/docs?x=1"),
        ("//evil.example", START),
        ("https://evil.example/", START),
        ("/\\evil.example", START),
        ("javascript:alert(1)", START),
        ("status", START),
        ("", START),
        ("/a\r\nSet-Cookie: x", START),
    ):
        assert local_address(text) == expected, text


def test_what_people_type_is_escaped() -> None:
    hostile = {"following": '/"><script>', "email": "<b>"}
    page = render("login.html", **hostile, wrong="sign_in_wrong", proof="")
    assert "<script>" not in page.replace("</script>", "") and "<b>" not in page
    assert ENGLISH["sign_in_wrong"] in page


def test_pages_hold_nothing_that_the_content_policy_forbids() -> None:
    for path in (ROOM / "templates").rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*src=)", text)
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text), path.name
        used = set(re.findall(r"\bt\('(\w+)'\)", text))
        assert used <= set(ENGLISH), path.name
    assert {"fleetgate.css", "page.js", "mark.svg"} <= set(assets())
    for path in (ROOM / "static").iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org", "")
        assert "http://" not in text and "https://" not in text, path.name


def test_instants_in_sentences_stand_in_the_readers_zone() -> None:
    said = "The last time was 2026-11-23T17:28:31Z, before 2026-11-24T00:00:00.250Z."
    assert with_moments(said, zone_of("Europe/Madrid"), "es") == (
        "The last time was 23 nov 2026, 18:28:31, before 24 nov 2026, 1:00:00."
    )
    for other in ("2026-11-23", "x2026-11-23T17:28:31Z", "17:28:31"):
        assert with_moments(other, zone_of("Europe/Madrid"), "en") == other
