"""What people type to find a device, and the texts in which it is looked for.

A text begins with a line break and has a line for each thing; `name_key` leaves neither line breaks
nor tabs in a line, so what is looked for is never found across two, and a line that begins with a
tab is a tag.
"""

import re
from collections.abc import Iterable, Sequence
from enum import Enum

from gateway.domain.names import name_key

QUERY_CHARS_MAX = 200
_TAG = "\t"


class Place(Enum):
    """Where in a line what is looked for stands."""

    WITHIN = "{}"
    BEGIN = "\n{}"
    ALL_OF_IT = "\n{}\n"


_MAC_TYPED = re.compile(r"[:.-]?[0-9a-f]{1,4}(?:[:.-][0-9a-f]{1,4})+[:.-]?")


def names_text(
    serial: str,
    name: str,
    alias: str | None,
    reference: str,
    mac: str | None,
    tags: Iterable[str],
) -> str:
    """What people know a device by, the serial first."""
    lines = [name_key(one) for one in (serial, name, alias or "", reference)]
    lines += _mac_lines(mac or "")
    lines += [_TAG + name_key(tag) for tag in tags]
    return _text(lines)


def told_text(imei: str, iccid: str, lan_mac: str) -> str:
    """What the device itself says it is known by."""
    lines = [name_key(imei), name_key(iccid), *_mac_lines(lan_mac)]
    return _text(lines)


def _text(lines: Iterable[str]) -> str:
    text = "".join(f"{line}\n" for line in lines if line)
    return text and f"\n{text}"


def tag_line(tag: str) -> str:
    """What the text of a device with this tag holds."""
    return f"\n{_TAG}{name_key(tag)}\n"


def looked_for(typed: str) -> str:
    """The form in which it stands in the texts; nothing for nothing.

    A part of a MAC address is one in any usual form: `001e.4200`, `00-1E-42`, `:42:00`.
    """
    key = name_key(typed)
    if _MAC_TYPED.fullmatch(key) is None:
        return key
    digits = re.sub("[:.-]", "", key)
    parts = re.split("[:.-]", key.strip(":.-"))
    if any(len(part) not in (2, 4) for part in parts[:-1]):
        return key  # a number with dots or dashes in it
    return _with_colons(digits)


def matched(typed: str, values: Sequence[tuple[str, str]]) -> tuple[str, int]:
    """The first of the fields that holds it best, and how well: 0 all of it, 1 its begin, 2 within.

    `values` are `(field, value)`.
    """
    key = looked_for(typed)
    best = "", 3
    for field, value in values:
        lines = _mac_lines(value) if field == "mac" else [name_key(value)]
        for line in lines:
            place = line.find(key) if line else -1
            if place < 0:
                continue
            found = (field, 0) if line == key else (field, 1 if place == 0 else 2)
            best = min(best, found, key=lambda one: one[1])
    return best


def _mac_lines(mac: str) -> list[str]:
    """With colons and without; nothing unless it is one."""
    digits = re.sub("[:.-]", "", mac.lower())
    return [_with_colons(digits), digits] if digits else []


def _with_colons(digits: str) -> str:
    return ":".join(digits[place : place + 2] for place in range(0, len(digits), 2))
