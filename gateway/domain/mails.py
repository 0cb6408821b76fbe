"""What mails there are, what each is told, in which languages, and when one is tried again."""

import unicodedata
from collections.abc import Mapping

from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS

LANGUAGES = ("en", "es")
# The values that each template must be given. Times are RFC 3339, lists are JSON.
TEMPLATES: Mapping[str, frozenset[str]] = {
    "invitation": frozenset({"link", "company", "role"}),
    "password_reset": frozenset({"link"}),
    "password_changed": frozenset(),
    "totp_reset_asked": frozenset({"person", "at"}),
    "notice": frozenset({"notices", "count", "link"}),
    "credit_request": frozenset({"company", "sentence", "link"}),
    "statement": frozenset({"company", "company_id", "month", "link"}),
}
KEPT_MS = 30 * DAY_MS
GIVEN_UP_AFTER_MS = 2 * DAY_MS
_DELAYS_MS = (MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS)
VALUE_CHARS_MAX = 300
# Letters that turn the direction of a line or stand nowhere, beside those that join emoji.
_HARMLESS_FORMATS = frozenset("\u200c\u200d")


def mail_language(wanted: str) -> str:
    """The language of this tag if there are mails in it, else an empty text."""
    tag = wanted[:2].lower()
    return tag if tag in LANGUAGES and wanted[2:3] in ("", "-", "_") else ""


def next_try_ms(created_at: int, attempts: int, now_ms: int) -> int | None:
    """When a mail is tried again after so many attempts; None when it is given up."""
    if now_ms - created_at >= GIVEN_UP_AFTER_MS:
        return None
    return now_ms + _DELAYS_MS[min(attempts, len(_DELAYS_MS)) - 1]


def one_line(text: str) -> str:
    """The text of others as it may stand in a mail: one line, read in one direction, not endless.

    A name can so neither add a header nor a paragraph that looks like the gateway's own.
    """
    plain = "".join(
        character
        if character in _HARMLESS_FORMATS or unicodedata.category(character)[0] != "C"
        else " "
        for character in text
    )
    line = " ".join(plain.split())
    return line if len(line) <= VALUE_CHARS_MAX else line[: VALUE_CHARS_MAX - 1] + "…"
