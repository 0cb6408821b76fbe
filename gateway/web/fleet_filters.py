"""How the fleet's list is narrowed, sorted and shown: all of it stands in the page's address."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import urlencode

from gateway.web.languages import gettext_noop as _
from gateway.web.reading import Look

FLEET = "/devices"
ROWS_AT_ONCE = 50
ROWS_MAX = 500  # of one page; further ones begin with a cursor
VALUE_CHARS_MAX = 200
DAYS_LEFT_MAX = 36_500
YES = "true"

# Every filter of the list that a form sets, and what a chip calls it.
LABELS: Mapping[str, str] = {
    "q": _("Text"),
    "presence": _("Presence"),
    "state": _("Service"),
    "reason": _("Because"),
    "tag": _("Tag"),
    "operator": _("Operator"),
    "firmware": _("Firmware"),
    "signal": _("Signal"),
    "payer": _("Paid by"),
    "days_left_max": _("Days left, at most"),
    "attention": _("Needs attention"),
    "alert": _("Has an alert"),
}
SIGNALS: Mapping[str, str] = {
    "excellent": _("excellent"),
    "average": _("average"),
    "low": _("low"),
    "none": _("none or unknown"),
}
_YES_ONLY = frozenset({"attention", "alert"})
_CLOSED: Mapping[str, frozenset[str]] = {
    "presence": frozenset({"online", "late", "offline", "never"}),
    "state": frozenset({"active", "unpaid", "off"}),
    "signal": frozenset(SIGNALS),
}
SORTS = frozenset(
    f"{sign}{key}"
    for sign in ("", "-")
    for key in (
        "serial name company presence last_heard days_left signal firmware operator".split()
    )
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: what it is called, and by what it is sorted."""

    key: str
    title: str
    sort: str = ""
    usual: bool = True
    number: bool = False


# The serial stands before all of them, and cannot be left out.
COLUMNS: tuple[Column, ...] = (
    Column("name", _("Name"), "name"),
    Column("company", _("Company"), "company"),
    Column("presence", _("Presence"), "presence"),
    Column("heard", _("Last heard"), "last_heard"),
    Column("service", _("Service")),
    Column("days", _("Days left"), "days_left", number=True),
    Column("payer", _("Paid by"), usual=False),
    Column("signal", _("Signal"), "signal"),
    Column("operator", _("Operator"), "operator"),
    Column("firmware", _("Firmware"), "firmware", usual=False),
    Column("tags", _("Tags")),
)
USUAL = tuple(one.key for one in COLUMNS if one.usual)


def columns_of(keys: Iterable[str]) -> tuple[Column, ...]:
    """The columns that were chosen, in their order; the usual ones where none was."""
    chosen = {one.key for one in COLUMNS} & set(keys) or set(USUAL)
    return tuple(one for one in COLUMNS if one.key in chosen)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address of the page asks for."""

    filters: Mapping[str, str]
    sort: str = "serial"
    company: str = ""  # where the address names one, whatever the switcher says
    shown: int = ROWS_AT_ONCE
    cursor: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """From an address; what no list knows is left out."""
        filters = {}
        for name in LABELS:
            value = query.get(name, "").strip()[:VALUE_CHARS_MAX]
            if value and _is_known(name, value):
                filters[name] = value
        sort = query.get("sort", "")
        text = query.get("shown", "")
        wanted = int(text) if text.isascii() and text.isdecimal() and len(text) < 5 else 0
        return cls(
            filters,
            sort if sort in SORTS else "serial",
            query.get("company", "")[:20],
            min(max(wanted, ROWS_AT_ONCE), ROWS_MAX),
            query.get("cursor", "")[:1_000],
        )

    def given(self, *without: str) -> dict[str, Any]:
        """The filters as operations take them."""
        return {name: value for name, value in self.filters.items() if name not in without}

    def parameters(self) -> dict[str, str]:
        """Of an address that asks for the same devices in the same order, from the first on."""
        found = dict(self.filters)
        if self.sort != "serial":
            found["sort"] = self.sort
        if self.company:
            found["company"] = self.company
        return found

    def address(self, **changed: str | int) -> str:
        """The page with something changed; what is empty is left out."""
        parameters = {**self.parameters(), **{name: str(one) for name, one in changed.items()}}
        kept = {name: one for name, one in parameters.items() if one}
        return f"{FLEET}?{urlencode(kept)}" if kept else FLEET

    def instead(self, *without: str, **filters: str) -> str:
        """The page with these filters set and others taken away."""
        kept = {name: one for name, one in self.filters.items() if name not in without}
        return replace(self, filters={**kept, **filters}).address()

    def sorted_by(self, key: str) -> str:
        """The page sorted by a column, or the other way round where it is already."""
        return self.address(sort=f"-{key}" if self.sort == key else key)

    def aria_sort(self, key: str) -> str:
        """What a heading says to screen readers."""
        if self.sort.removeprefix("-") != key:
            return "none"
        return "descending" if self.sort.startswith("-") else "ascending"


def _is_known(name: str, value: str) -> bool:
    if name in _CLOSED:
        return value in _CLOSED[name]
    if name in _YES_ONLY:
        return value == YES
    if name == "days_left_max":
        return value.isascii() and value.isdecimal() and int(value[:6]) <= DAYS_LEFT_MAX
    return name != "payer" or (value.isascii() and value.isdecimal())


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is set: what it says, and where it leads when it is taken away."""

    name: str
    value: str
    href: str
    theirs: bool  # a text of people or devices


_WORDS: Mapping[str, str] = {"presence": "presence", "state": "service", "reason": "reason"}


def chips(look: Look, asked: Asked, word: Any) -> list[Chip]:
    """All filters that are set, in the reader's words."""
    found = []
    for name, value in asked.filters.items():
        shown, theirs = value, True
        if name in _WORDS:
            shown, theirs = word(_WORDS[name], value), name == "reason"
        elif name == "signal":
            shown, theirs = look.gettext(SIGNALS[value]), False
        elif name in _YES_ONLY:
            shown, theirs = "", False
        elif name == "payer":
            shown = look.name_of_company(value) or value
        found.append(Chip(look.gettext(LABELS[name]), shown, asked.instead(name), theirs))
    return found
