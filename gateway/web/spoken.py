"""What operations say in English, in the reader's language.

A sentence is found by its pattern: an entry of the context `said`, without the dot at its end,
whose placeholders are what differs. The name of a placeholder says what may stand there, and
whether that is said in the language as well: an amount, a reason, a right, another sentence.
Sentences may end with a note, which stays as it was written. What no pattern fits stays English.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import NamedTuple

from gateway.domain.refusals import STATUS, Code
from gateway.web.field_labels import field_label, is_field
from gateway.web.languages import DEFAULT, catalog_of, words_of

SAID = "said"
LENGTH_MAX = 2_000
DEPTH_MAX = 30  # of sentences within sentences, and of companies that were asked to pay
KEPT_MAX = 2_000
_TYPES = r"(?:a whole number|a number|text|true or false|a list|an object|null)"
# What stands for these is said in the language too, by entries of the context `said:<name>`.
# Digits behind the name tell several of one kind apart.
SHAPES: Mapping[str, str] = {
    "amount": r"(?:free )?(?:\d+ credits?(?: and \d+ days?)?|\d+ days?)",
    "plain": r"\d+ credits?|\d+ days?",
    "rest": r"\d+ days?",
    "by": r"paid by .+?(?: \(asked .+?\))?",
    "chain": ".+?",
    "why": "because .+?",
    "n": r"-?\d[\d,.]*",
    "actor": r"[\w:.@-]+|.+? \([\w:.@-]+\)",  # `user:7`, `Ann (user:7)`
    "act": r"\w+|`\w+`",
    "ended": r"\w+",
    "field": r"\w+",
    "kind": r"\w+",
    "lines": r"\d+ lines? do(?:es)?",
    "near": r"(?:; .+?)?",
    "of": "(?: of .+?)?",
    "right": r"\w+",
    "role": r"\w+",
    "type": rf"{_TYPES}(?: or {_TYPES})*",
    "what": r"[a-z -]+",
    "whose": r"The device|One person",
}
_NAME = f"{SAID}:name"
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
_NOTE = re.compile(r"(.+?); note: (.*)\.", re.DOTALL)
_WORD = re.compile(r"\w+")
_QUOTED = re.compile(r"`([a-z_]+)`")
_FIELD = re.compile(r"([a-z_]+(?:\.[a-z_]+)?): (.+)", re.DOTALL)


class _Pattern(NamedTuple):
    english: str
    says: str
    place: int  # the more of it is no placeholder, the surer it is, and the earlier it is tried


class _Index(NamedTuple):
    """Patterns by the rarest word of each, so that few of them are tried at a sentence."""

    by_word: Mapping[str, tuple[_Pattern, ...]]
    others: tuple[_Pattern, ...]

    def fitting(self, text: str) -> list[_Pattern]:
        """Those that may fit, the surest first."""
        found = list(self.others)
        for word in {*_WORD.findall(text)}:
            found += self.by_word.get(word, ())
        return sorted(found, key=lambda one: one.place)


def spoken(language: str, text: str) -> str:
    """The sentence in the language; one that is not known stays as it is."""
    if not text or language == DEFAULT or len(text) > LENGTH_MAX:
        return text
    return _spoken(language, text, DEPTH_MAX)


def refusal_text(language: str, detail: str) -> str:
    """Why something was refused; labels of fields stand for their names."""
    if language != DEFAULT:
        return spoken(language, detail)
    return _QUOTED.sub(_quoted_label, _labelled(language, detail))


def _quoted_label(found: re.Match[str]) -> str:
    name = found[1]
    return f"“{field_label(DEFAULT, name)}”" if is_field(name) else found[0]


def title_of(language: str, code: Code) -> str:
    """The title of a refusal."""
    return spoken(language, STATUS[code][1])


def _spoken(language: str, text: str, depth: int) -> str:
    whole = text.removesuffix(".")
    said = _exact(language, SAID, whole)
    if said is not None:
        return said + text[len(whole) :]
    exact = words_of(language).gettext(text)
    if exact != text:
        return exact
    noted = _NOTE.fullmatch(text)
    if noted is not None:
        said, note = _said(language, SAID, noted[1], depth), words_of(language).gettext("note")
        return text if said is None else f"{said}; {note}: {noted[2]}."
    said = _said(language, SAID, whole, depth)
    return _labelled(language, text, depth) if said is None else said + text[len(whole) :]


def _labelled(language: str, text: str, depth: int = DEPTH_MAX) -> str:
    """`field: what is wrong with it`, with the field's label if it is one; else the text."""
    found = _FIELD.fullmatch(text)
    if found is None or not depth:
        return text
    name, rest = found.groups()
    said = rest if language == DEFAULT else _spoken(language, rest, depth - 1)
    if is_field(name):
        return f"{field_label(language, name)}: {said}"
    return text if said == rest else f"{name}: {said}"


def _exact(language: str, context: str, text: str) -> str | None:
    said = words_of(language).pgettext(context, text)
    return None if said == text else said


@lru_cache(maxsize=KEPT_MAX)
def _said(language: str, context: str, text: str, depth: int) -> str | None:
    exact = _exact(language, context, text)
    if exact is not None or not depth:
        return exact
    for pattern in _patterns(language, context).fitting(text):
        match = _compiled(pattern.english).fullmatch(text)
        if match is not None:
            return _filled(language, pattern.says, match.groupdict(), depth - 1)
    return None


def _filled(language: str, says: str, found: Mapping[str, str], depth: int) -> str:
    return _PLACEHOLDER.sub(lambda one: _part(language, one[1], found[one[1]], depth), says)


def _part(language: str, name: str, text: str, depth: int) -> str:
    kind = name.rstrip("0123456789")
    if kind == SAID:
        return _spoken(language, text, depth)
    if kind == "field":
        return field_label(language, text)
    context = f"{SAID}:{kind}" if kind in SHAPES else _NAME
    return _said(language, context, text, depth) or text


@cache
def _patterns(language: str, context: str) -> _Index:
    """The entries of a context that have placeholders, to be found by their words."""
    entries = {
        str(message.id): str(message.string)
        for message in catalog_of(language)
        if message.context == context and message.string and "%(" in message.id
    }
    surest = sorted(entries, key=lambda english: -len(_PLACEHOLDER.sub("", english)))
    often: dict[str, int] = {}
    for english in surest:
        for word in _words(english):
            often[word] = often.get(word, 0) + 1
    by_word: dict[str, list[_Pattern]] = {}
    others = []
    for place, english in enumerate(surest):
        pattern = _Pattern(english, entries[english], place)
        rarest = min(_words(english), key=lambda word: often[word], default=None)
        if rarest is None:
            others.append(pattern)
        else:
            by_word.setdefault(rarest, []).append(pattern)
    return _Index({word: tuple(some) for word, some in by_word.items()}, tuple(others))


def _words(english: str) -> Iterable[str]:
    """The words that every sentence of the pattern has: none that touches a placeholder."""
    return set(_WORD.findall(re.sub(r"\w*%\(\w+\)s\w*", " ", english)))


@cache
def _compiled(english: str) -> re.Pattern[str]:
    return re.compile("".join(_pieces(english)), re.DOTALL)


def _pieces(english: str) -> Iterator[str]:
    for number, piece in enumerate(_PLACEHOLDER.split(english)):
        if number % 2:
            yield f"(?P<{piece}>{SHAPES.get(piece.rstrip('0123456789'), '.+?')})"
        else:
            yield re.escape(piece)
