"""Instants and days: integers in milliseconds and UTC days since 1970."""

from datetime import UTC, date, datetime, timedelta

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
_EPOCH = date(1970, 1, 1)


def day_of(instant_ms: int) -> int:
    """The UTC day of an instant."""
    return instant_ms // DAY_MS


def month_of(instant_ms: int) -> int:
    """The UTC month of an instant, as 202701."""
    moment = datetime.fromtimestamp(instant_ms / 1000, UTC)
    return moment.year * 100 + moment.month


def day_text(day: int) -> str:
    """2027-01-31."""
    return (_EPOCH + timedelta(days=day)).isoformat()


def parse_day(text: str) -> int:
    """The reverse of `day_text`. Raises ValueError."""
    return (date.fromisoformat(text) - _EPOCH).days


def parse_instant(text: str) -> int:
    """An instant in RFC 3339, with its offset from UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no offset from UTC")
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))


def instant_text(instant_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(instant_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{instant_ms % 1000:03d}Z"
