"""The reader's time zone: the browser tells it in a cookie, and pages are written in it."""

from functools import cache
from zoneinfo import ZoneInfo, available_timezones

COOKIE = "fleetgate_zone"
UTC = "UTC"
_known = cache(available_timezones)


def zone_of(*wanted: str) -> ZoneInfo:
    """The first of these that is a time zone, else UTC."""
    for name in wanted:
        # A name is a path for `ZoneInfo`: only what is listed is opened.
        if name in _known():
            return ZoneInfo(name)
    return ZoneInfo(UTC)
