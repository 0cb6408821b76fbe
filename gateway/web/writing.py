"""How pages write values: times in the reader's zone, numbers and days in the reader's way."""

import re
import unicodedata
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import segno
from babel.dates import format_date, format_datetime
from babel.numbers import format_decimal
from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from gateway.domain.ledger import DAYS_PER_CREDIT
from gateway.domain.notices import Notice, notice_sentence
from gateway.domain.notices_spanish import spanish_sentence

KIB = 1024
NONE = "–"
THEIRS_CHARS_MAX = 300
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_INSTANT = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_JOINERS = "\u200c\u200d\N{SOFT HYPHEN}"


def instant_of(at: str) -> datetime:
    """An RFC 3339 instant."""
    return datetime.fromisoformat(at)


def seconds_between(earlier: str, later: str) -> float:
    """From one RFC 3339 instant to another."""
    return (instant_of(later) - instant_of(earlier)).total_seconds()


def bytes_text(size: float) -> str:
    """`4.0 KiB`, `12.3 MiB`."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < KIB:
            break
        value, unit = value / KIB, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def duration_text(seconds: float) -> str:
    """`12 s`, `5 min`, `3 h 12 min`, `8 d 4 h`; `1 h` where nothing is over."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min"
    if whole < 86_400:
        hours, minutes = whole // 3_600, whole % 3_600 // 60
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = whole // 86_400, whole % 86_400 // 3_600
    return f"{days} d {hours} h" if hours else f"{days} d"


def milliseconds_text(value: float) -> str:
    """`0.4 ms`, `12 ms`, `3.1 s`."""
    if value >= 1_000:
        return f"{value / 1_000:.1f} s"
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def number_text(value: float) -> str:
    """With thin spaces between the thousands, which every language reads."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def clock_text(at: str) -> str:
    """`2027-01-31 12:00:05`, in UTC."""
    return f"{instant_of(at):%Y-%m-%d %H:%M:%S}"


def signal_bars(rsrp: Any) -> int:
    """0 to 4 bars from dBm."""
    if not isinstance(rsrp, int):
        return 0
    return sum(rsrp >= limit for limit in (-115, -105, -95, -85))


def theirs(text: Any, most: int = THEIRS_CHARS_MAX) -> Markup:
    """A text of a device's or a person's own: isolated, so that it cannot turn what stands beside
    it around; what steers printers and bidirectional text is shown by its number; cut at `most`.
    """
    whole = str(text)
    cut = whole[:most]
    # Joiners stay: emoji and some scripts are made with them.
    shown = "".join(
        f"⟨{ord(one):04X}⟩"
        if unicodedata.category(one) in _UNSHOWN and one not in _JOINERS
        else one
        for one in cut
    )
    ending = "…" if len(whole) > most else ""
    return Markup("<bdi>{}{}</bdi>").format(shown, ending)


def _locale(language: str) -> str:
    """Whose habits dates and numbers follow: English is that of readers in Europe."""
    return "en_GB" if language == "en" else language


def moment_text(at: str, zone: ZoneInfo, language: str) -> str:
    """`31 Jan 2027, 13:00:05`, in this zone and language."""
    return str(format_datetime(instant_of(at), "medium", zone, locale=_locale(language)))


def with_moments(text: str, zone: ZoneInfo, language: str) -> str:
    """A sentence whose instants stand in this zone and language."""
    return _INSTANT.sub(lambda found: moment_text(found[0], zone, language), text)


@pass_context
def local_text(context: Context, at: str | None) -> str:
    """`31 Jan 2027, 13:00:05`, in the reader's zone and language."""
    return moment_text(at, context["zone"], context["language"]) if at else NONE


@pass_context
def day_text(context: Context, at: str | date | None) -> str:
    """The day of an instant in the reader's zone; a date stays as it is."""
    if not at:
        return NONE
    if isinstance(at, str):
        at = date.fromisoformat(at) if len(at) == 10 else instant_of(at).astimezone(context["zone"])
    return str(format_date(at, "medium", locale=_locale(context["language"])))


@pass_context
def ago_text(context: Context, at: str | None) -> Markup:
    """`<time>` with how long ago that was; its title says when exactly."""
    if not at:
        return Markup(escape(NONE))
    passed = seconds_between(at, context["now"])
    words = context.call(context["gettext"], "%(time)s ago", time=duration_text(passed))
    title = local_text(context, at)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(at, title, words)


@pass_context
def ahead_text(context: Context, at: str | None) -> Markup:
    """`<time>` with how long it is until then."""
    if not at:
        return Markup(escape(NONE))
    left = duration_text(seconds_between(context["now"], at))
    words = context.call(context["gettext"], "in %(time)s", time=left)
    title = local_text(context, at)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(at, title, words)


@pass_context
def credits_text(context: Context, days: int | None) -> str:
    """`4 credits 10 days`, from days."""
    if days is None:
        return NONE
    sign, whole = ("−" if days < 0 else ""), abs(days)
    credits, rest = divmod(whole, DAYS_PER_CREDIT)
    parts = []
    if credits or not rest:
        shown = format_decimal(credits, locale=_locale(context["language"]))
        parts.append(_counted(context, "%(shown)s credit", "%(shown)s credits", credits, shown))
    if rest:
        parts.append(_counted(context, "%(shown)s day", "%(shown)s days", rest, str(rest)))
    return sign + " ".join(parts)


def _counted(context: Context, one: str, many: str, count: int, shown: str) -> str:
    return str(context.call(context["ngettext"], one, many, count, shown=shown))


@pass_context
def notice_text(context: Context, told: Any) -> str:
    """What a company's people were told, in the reader's language and time zone."""
    facts = dict(told.detail)
    for name, written in (("until", local_text), ("on", day_text)):
        if name in facts:
            facts[name] = written(context, facts[name])
    say = spanish_sentence if context["language"] == "es" else notice_sentence
    return say(Notice(told.kind), told.subject, facts)


def qr_code(text: str) -> Markup:
    """An inline drawing of a QR code (ISO/IEC 18004), dark on light in every colour scheme."""
    drawn = segno.make(text, error="m", micro=False)
    image = drawn.svg_inline(border=3, dark="#000", light="#fff", omitsize=True, svgclass="qr")
    return Markup(image)  # made of squares alone: nothing of the text is in it


FILTERS = {
    "ago": ago_text,
    "ahead": ahead_text,
    "bars": signal_bars,
    "bytes": bytes_text,
    "clock": clock_text,
    "credits": credits_text,
    "day": day_text,
    "duration": duration_text,
    "local": local_text,
    "ms": milliseconds_text,
    "notice": notice_text,
    "number": number_text,
    "qr": qr_code,
    "theirs": theirs,
}
