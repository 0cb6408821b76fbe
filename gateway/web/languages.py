"""The languages of the pages: gettext catalogs, read from `.po` files when they are first wanted.

English stands in the sources. `locale/<language>/` holds a file for each group of pages; together
they are one catalog, in which a sentence has one translation.
"""

from functools import cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path

from aiohttp import web
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

LANGUAGES = {"en": "English", "es": "Español"}
DEFAULT = "en"
COOKIE = "fleetgate_language"
LOCALE = Path(__file__).parent / "locale"


def gettext_noop(text: str) -> str:
    """Marks a text that is translated where it is shown."""
    return text


def language_of(*wanted: str, accepted: str = "") -> str:
    """The first there is of those wanted, else what the browser accepts, else English."""
    tags = [*wanted, *(part.partition(";")[0].strip() for part in accepted.split(","))]
    for tag in tags:
        language = tag[:2].lower()
        if language in LANGUAGES:
            return language
    return DEFAULT


def browser_language(request: web.Request) -> str:
    """The language for somebody of whom nothing else is known: asked for, chosen, or accepted."""
    return language_of(
        request.query.get("lang", ""),
        request.cookies.get(COOKIE, ""),
        accepted=request.headers.get("Accept-Language", ""),
    )


@cache
def words_of(language: str) -> NullTranslations:
    """What translates into the language. Raises `ValueError` where files contradict each other."""
    if language == DEFAULT:
        return NullTranslations()
    binary = BytesIO()
    write_mo(binary, catalog_of(language))
    binary.seek(0)
    return GNUTranslations(binary)


@cache
def catalog_of(language: str) -> Catalog:
    """All files of a language as one. Raises `ValueError` where they contradict each other."""
    whole = Catalog(locale=language)
    for path in sorted((LOCALE / language).glob("*.po")):
        with path.open("rb") as file:
            part = read_po(file, locale=language)
        for message in part:
            if not message.id:
                continue
            before = whole.get(message.id, message.context)
            if before is not None and before.string != message.string:
                raise ValueError(f"{path.name}: {message.id!r} is translated otherwise elsewhere")
            whole.add(message.id, message.string, context=message.context, flags=message.flags)
    return whole
