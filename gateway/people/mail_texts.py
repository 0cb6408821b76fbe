"""Makes the words of a mail: a subject, a text, and the same as HTML.

A template is a text with its subject in the first line; the HTML is made of its paragraphs, so
that each language is written once. Nothing of the values is taken for HTML, nor for another line.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.domain.instants import instant_text, parse_instant
from gateway.domain.mails import one_line
from gateway.domain.rights import Role

_ROOM = Path(__file__).parent / "mail_templates"
_SUBJECT = "Subject: "
# Lists come as JSON; everything else is one line.
_LISTS = frozenset({"notices", "totals"})
_ADDRESS = re.compile(r"(://|\bwww\.)(?=\S)", re.IGNORECASE)
_NEVER_GIVEN: Mapping[str, Any] = {"inviter": "", "until": "", "attached": False, "totals": []}
ROLES: Mapping[str, Mapping[Role, str]] = {
    "en": {
        Role.ADMINISTRATOR: "administrator",
        Role.ADVANCED: "advanced user",
        Role.BASIC: "basic user",
        Role.READ_ONLY: "read-only user",
        Role.BILLING: "billing",
    },
    "es": {
        Role.ADMINISTRATOR: "administrador",
        Role.ADVANCED: "usuario avanzado",
        Role.BASIC: "usuario básico",
        Role.READ_ONLY: "usuario de solo lectura",
        Role.BILLING: "facturación",
    },
}
FOOTERS: Mapping[str, str] = {
    "en": "This mail was sent by {site} by itself; nobody reads answers to it.",
    "es": "{site} ha enviado este correo por sí solo; nadie lee las respuestas.",
}


class Words(NamedTuple):
    """A mail as people read it."""

    subject: str
    text: str
    html: str


class Block(NamedTuple):
    """A paragraph: plain, a list, or nothing but the link."""

    kind: str
    lines: list[str]

    @property
    def text(self) -> str:
        """As it stands in the text."""
        sign = "- " if self.kind == "list" else ""
        return "\n".join(f"{sign}{line}" for line in self.lines)


def words_of_mail(template: str, language: str, values: Mapping[str, Any], site: str) -> Words:
    """The mail in this language; `site` is the configured public address."""
    given = {**_NEVER_GIVEN, **{key: _cleaned(key, value) for key, value in values.items()}}
    made = _texts(language).get_template(f"{template}.{language}.txt").render(given, site=site)
    head, _, body = made.partition("\n")
    assert head.startswith(_SUBJECT), template
    subject = one_line(head.removeprefix(_SUBJECT))
    links = frozenset({site, str(given.get("link", site))})
    blocks = [_block(part, links) for part in body.split("\n\n") if part.strip()]
    footer = FOOTERS[language].format(site=site)
    page = _pages().get_template("layout.html")
    html = page.render(language=language, subject=subject, blocks=blocks, footer=footer)
    text = "\n\n".join(block.text for block in blocks)
    return Words(subject, f"{text}\n\n-- \n{footer}\n", html)


def _block(part: str, links: frozenset[str]) -> Block:
    lines = [line.strip() for line in part.splitlines() if line.strip()]
    if len(lines) == 1 and lines[0] in links:
        return Block("link", lines)
    if all(line.startswith("- ") for line in lines):
        return Block("list", [line.removeprefix("- ") for line in lines])
    return Block("text", lines)


def _cleaned(key: str, value: Any) -> Any:
    if key == "link":
        return value  # of our own making, whole or useless
    if key in _LISTS:
        items = json.loads(value) if isinstance(value, str) else value
        return [{name: _unlinked(str(text)) for name, text in item.items()} for item in items]
    return _unlinked(value) if isinstance(value, str) else value


def _unlinked(text: str) -> str:
    """One line in which a mail program finds no address to make a link of: a company may be
    called anything, and a mail of the gateway leads only to the gateway."""
    return one_line(_ADDRESS.sub(r"\1 ", text))


def _moment(text: str) -> str:
    """An instant as people read it, in UTC."""
    moment = datetime.fromisoformat(instant_text(parse_instant(text)))
    return f"{moment:%Y-%m-%d %H:%M} UTC"


@cache
def _texts(language: str) -> Environment:
    made = Environment(
        loader=FileSystemLoader(_ROOM),
        autoescape=False,  # plain text; the HTML is made of it, and escapes it
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["instant"] = _moment
    made.filters["role"] = lambda role: ROLES[language][Role(role)]
    return made


@cache
def _pages() -> Environment:
    return Environment(
        loader=FileSystemLoader(_ROOM),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
