"""Every text of every page has its Spanish: templates, tables of texts, labels."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jinja2.ext import babel_extract

import gateway.web
from gateway.web import done_texts, statement_texts
from gateway.web.languages import LANGUAGES, LOCALE, catalog_of, words_of
from gateway.web.texts import ENGLISH

ROOM = Path(gateway.web.__file__).parent
_OPTIONS = {"encoding": "utf-8", "newstyle_gettext": "true", "trim_blocks": "true"}
# Their words are asked for in a context of their own.
_IN_CONTEXT = frozenset({"closed_words.py", "done_texts.py", "statement_texts.py"})
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
_MARKS = frozenset({"_", "gettext_noop"})


def of_templates() -> Iterator[tuple[str, str]]:
    """Place and text of what templates say."""
    for path in sorted((ROOM / "templates").rglob("*.html")):
        with path.open("rb") as file:
            found = babel_extract(file, ("_", "gettext", "ngettext"), (), _OPTIONS)
            for line, _, message, _ in found:
                for one in message if isinstance(message, tuple) else (message,):
                    if one:  # else a variable, whose texts stand in a table
                        yield f"{path.relative_to(ROOM)}:{line}", one
                        break


def of_tables() -> Iterator[tuple[str, str]]:
    """Place and text of what modules mark, or ask for."""
    for path in sorted(ROOM.rglob("*.py")):
        if path.name in _IN_CONTEXT:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            asks = isinstance(node.func, ast.Attribute) and node.func.attr == "gettext"
            marks = isinstance(node.func, ast.Name) and node.func.id in _MARKS
            if (asks or marks) and isinstance(node.args[0], ast.Constant):
                yield f"{path.name}:{node.lineno}", str(node.args[0].value)


def missing(found: Iterator[tuple[str, str]]) -> str:
    """What has no Spanish, a line each."""
    known = catalog_of("es")
    lines = []
    for place, text in found:
        message = known.get(text)
        if message is None or not message.string:
            lines.append(f"{place}: no Spanish in locale/es: {text!r}")
    return "\n".join(lines)


@pytest.mark.parametrize("found", [of_templates, of_tables], ids=lambda one: one.__name__)
def test_every_text_has_its_spanish(found: Callable[[], Iterator[tuple[str, str]]]) -> None:
    assert not missing(found())


def test_every_text_of_the_door_has_its_spanish() -> None:
    assert not missing(("texts.py", text) for text in ENGLISH.values())


def test_every_text_in_a_context_has_its_spanish() -> None:
    for context, wanted in (
        (done_texts.CONTEXT, {*done_texts.DONE.values(), done_texts.OTHERWISE}),
        (statement_texts.CONTEXT, set(statement_texts.WORDS.values())),
    ):
        known = {str(one.id) for one in catalog_of("es") if one.context == context}
        assert known == wanted, context


def test_no_translation_is_empty_or_doubtful() -> None:
    for path in sorted((LOCALE / "es").glob("*.po")):
        text = path.read_text(encoding="utf-8")
        assert "#, fuzzy" not in text, path.name
        assert "charset=UTF-8" in text, path.name


def test_placeholders_are_those_of_the_english() -> None:
    for message in catalog_of("es"):
        if not message.id:
            continue
        english = message.id if isinstance(message.id, tuple) else (message.id,)
        spanish = message.string if isinstance(message.string, tuple) else (message.string,)
        given = {name for one in english for name in _PLACEHOLDER.findall(str(one))}
        for one in map(str, spanish):
            assert one.strip(), message.id
            used = set(_PLACEHOLDER.findall(one))
            # The singular may say the number as a word.
            assert used <= given and (len(spanish) > 1 or used == given), (message.id, one)
            assert not re.search(r"%(?!\(\w+\)s)", one) or "%" in english[0], (message.id, one)


def test_each_language_has_its_own_name() -> None:
    assert LANGUAGES == {"en": "English", "es": "Español"}
    assert words_of("es").gettext("Devices") == "Dispositivos"
