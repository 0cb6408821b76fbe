"""Renders templates in the reader's language: everything is escaped."""

import secrets
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.web.assets import asset_url, has_asset
from gateway.web.languages import DEFAULT, LANGUAGES, words_of
from gateway.web.texts import text
from gateway.web.writing import FILTERS, seconds_between
from gateway.web.zones import UTC, zone_of

KEY_BYTES = 16
_ROOM = Path(__file__).parent


def new_key() -> str:
    """What makes sending a form twice do its work once."""
    return secrets.token_urlsafe(KEY_BYTES)


@cache
def environment(language: str = DEFAULT) -> Environment:
    """The templates in a language, with autoescape for all of them."""
    made = Environment(
        loader=FileSystemLoader(_ROOM / "templates"),
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    words = words_of(language)
    made.install_gettext_callables(  # type: ignore[attr-defined]  # the extension adds it
        words.gettext, words.ngettext, newstyle=True, pgettext=words.pgettext
    )
    made.globals.update(
        t=lambda key: words.gettext(text(key)),
        asset=asset_url,
        has_asset=has_asset,
        languages=LANGUAGES,
        new_key=new_key,
        seconds_between=seconds_between,
    )
    made.filters.update(FILTERS)
    return made


def render(template: str, *, language: str = DEFAULT, **values: Any) -> str:
    """The finished page."""
    given = {"zone": zone_of(UTC), **values, "language": language}
    return environment(language).get_template(template).render(**given)


def has_template(name: str) -> bool:
    """Whether there is such a template."""
    return (_ROOM / "templates" / name).is_file()
