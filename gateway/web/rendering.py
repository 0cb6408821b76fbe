"""Renders templates: everything is escaped, and numbers are written for people."""

import hashlib
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.web.texts import text

_ROOM = Path(__file__).parent
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
KIB = 1024


class Asset(NamedTuple):
    """One static file."""

    body: bytes
    content_type: str
    digest: str


@cache
def assets() -> dict[str, Asset]:
    """All static files by name; few and small, so they stay in memory."""
    found: dict[str, Asset] = {}
    for path in sorted((_ROOM / "static").iterdir()):
        if path.suffix in _TYPES:
            body = path.read_bytes()
            digest = hashlib.sha256(body).hexdigest()[:16]
            found[path.name] = Asset(body, _TYPES[path.suffix], digest)
    return found


def asset_url(name: str) -> str:
    """Its address changes with its content, so a browser may keep it."""
    return f"/static/{name}?v={assets()[name].digest}"


def bytes_text(size: int) -> str:
    """`4.0 KiB`, `12.3 MiB`."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < KIB:
            break
        value, unit = value / KIB, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def duration_text(seconds: float) -> str:
    """`12 s`, `5 min`, `3 h 12 min`, `8 d 4 h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600} h"


def number_text(value: float) -> str:
    """With thin spaces between the thousands."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def milliseconds_text(value: float) -> str:
    """`0.4 ms`, `12 ms`, `3.1 s`."""
    if value >= 1_000:
        return f"{value / 1_000:.1f} s"
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def seconds_between(earlier: str, later: str) -> float:
    """From one RFC 3339 instant to another."""
    return (_instant(later) - _instant(earlier)).total_seconds()


def _instant(at: str) -> datetime:
    return datetime.fromisoformat(at)


def clock_text(at: str) -> str:
    """`2027-01-31 12:00:05`, in UTC."""
    return f"{_instant(at):%Y-%m-%d %H:%M:%S}"


def signal_bars(rsrp: Any) -> int:
    """0 to 4 bars from dBm."""
    if not isinstance(rsrp, int):
        return 0
    return sum(rsrp >= limit for limit in (-115, -105, -95, -85))


@cache
def environment() -> Environment:
    """The templates, with autoescape for all of them."""
    made = Environment(
        loader=FileSystemLoader(_ROOM / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals.update(t=text, asset=asset_url, seconds_between=seconds_between)
    made.filters.update(
        bytes=bytes_text,
        duration=duration_text,
        number=number_text,
        ms=milliseconds_text,
        clock=clock_text,
        bars=signal_bars,
    )
    return made


def render(template: str, **values: Any) -> str:
    """The finished page."""
    return environment().get_template(template).render(**values)
