"""Turns a request into an operation's input, or says which field does not fit."""

import difflib
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache, reduce
from operator import or_
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from gateway.domain.refusals import Code, Refused
from gateway.operations.registry import Operation

BODY_BYTES_MAX = 64 * 1024
DEPTH_MAX = 16
DRY_RUN = "dry_run"
# Larger whole numbers do not survive a browser's JSON, and none is needed.
NUMBER_MAX = 2**53 - 1
_AT = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<field>\w+)?.*`$", re.DOTALL)
_NAMED = re.compile(r"field `(\w+)`")
_PREFIXED = re.compile(r"^(\w+): ")
_KINDS = re.compile(r"`([\w | ]+)`")
# They steer terminals and printers. Line ends and tabs stay: notes have several lines.
_STEERING = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# A file tells by itself which of its lines holds one; nobody is shown a secret.
_NOT_SHOWN = frozenset({"csv", "new_password", "old_password", "password"})
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


class Field(NamedTuple):
    """One field of an input."""

    type: Any
    is_list: bool


@cache
def fields_of(kind: type[msgspec.Struct]) -> Mapping[str, Field]:
    """The fields of an input, with their limits."""
    hints = get_type_hints(kind, include_extras=True)
    # The outside may say `from`, which no attribute can be called.
    names = zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True)
    kinds = {outside: _without_unset(hints[inside]) for outside, inside in names}
    return {name: Field(hint, _is_list(hint)) for name, hint in kinds.items()}


def _without_unset(hint: Any) -> Any:
    """Outside of a struct a field cannot be left out, so that part of its type goes."""
    parts = [part for part in get_args(hint) if part is not msgspec.UnsetType]
    if msgspec.UnsetType not in get_args(hint) or get_origin(hint) not in (Union, UnionType):
        return hint
    return reduce(or_, parts)


def _is_list(hint: Any) -> bool:
    return get_origin(hint) in (list, tuple) or any(
        get_origin(part) in (list, tuple) for part in get_args(hint)
    )


def read_input(
    op: Operation, path: Mapping[str, str], query: Mapping[str, Sequence[str]], body: bytes
) -> msgspec.Struct:
    """The checked input. Parts of the address count like fields. Raises `Refused`."""
    given = _body_fields(body) if body.strip() else {}
    if given and not op.writes:
        raise _wrong("a GET takes its input from the address, not from a body")
    fields = fields_of(op.input)
    for name in {*given, *query}:
        if name not in fields:
            if name == DRY_RUN and op.moves_credits:
                raise _wrong(f"{DRY_RUN}: belongs into the address: ?{DRY_RUN}=true", DRY_RUN)
            raise unknown_field(name, fields)
        if name in path or (name in given and name in query):
            raise _wrong(f"{name}: given twice, and once is enough", name)
    for name, text in path.items():
        given[name] = _converted(name, fields[name].type, text)
    for name, texts in query.items():
        if not fields[name].is_list and len(texts) > 1:
            raise _wrong(f"{name}: given twice, and once is enough", name)
        value: Any = list(texts) if fields[name].is_list else texts[0]
        given[name] = _converted(name, fields[name].type, value)
    _check_values(given, DEPTH_MAX)
    try:
        return msgspec.convert(given, op.input, strict=True)
    except msgspec.ValidationError as error:
        refused = refusal_of(error)
        field = fields.get(refused.field or "")
        choices = [] if field is None else _choices(field.type)
        if choices and "enum value" in refused.detail:
            refused.detail = f"{refused.field}: one of {', '.join(choices)}"
        raise refused from error


def take_dry_run(op: Operation, query: dict[str, list[str]]) -> bool:
    """Whether the operation is only to be tried out; taken from the query. Raises `Refused`."""
    if not op.moves_credits or DRY_RUN not in query:
        return False  # where it means nothing it is an unknown field as any other
    texts = query.pop(DRY_RUN)
    if len(texts) > 1:
        raise _wrong(f"{DRY_RUN}: given twice, and once is enough", DRY_RUN)
    return bool(_converted(DRY_RUN, bool, texts[0]))


def _choices(hint: Any) -> list[str]:
    kinds = [hint, *get_args(hint)]
    enums = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)]
    return [str(member.value) for kind in enums for member in kind]


def unknown_field(name: str, known: Mapping[str, Any]) -> Refused:
    """Names the field and the nearest known one."""
    shown = name[:100] if name.isprintable() else repr(name[:100])
    near = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.0)
    hint = f"; nearest known: {near[0]}" if near else "; it takes none"
    return _wrong(f"{shown}: unknown field{hint}", shown)


def refusal_of(error: msgspec.ValidationError, field: str | None = None) -> Refused:
    """A validation error with the name of the outermost field that is wrong."""
    text = str(error)
    at = _AT.match(text)
    if at:
        text = at["what"]
        field = field or at["field"]
    named = _NAMED.search(text) or _PREFIXED.match(text)
    if named and not (at and field):
        field = field or named[1]
    if text.startswith("Object missing required field"):
        text = "missing"
    text = _KINDS.sub(_in_words, text)
    text = text[:1].lower() + text[1:]
    if field and not text.startswith(f"{field}:"):
        text = f"{field}: {text}"
    return _wrong(text, field)


def _in_words(kinds: re.Match[str]) -> str:
    """Python's names of kinds, such as `int | null`, as people call them."""
    names = kinds[1].split(" | ")
    if not _WORDS.keys() >= set(names):
        return kinds[0]
    return " or ".join(_WORDS[name] for name in names)


def _body_fields(body: bytes) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _wrong("the body is not JSON") from error
    except RecursionError as error:
        raise _wrong("the body is nested too deeply") from error
    if not isinstance(given, dict):
        raise _wrong("the body is not an object")
    return given


def _converted(name: str, kind: Any, value: Any) -> Any:
    try:
        return msgspec.to_builtins(msgspec.convert(value, kind, strict=False))
    except msgspec.ValidationError as error:
        raise refusal_of(error, name) from error


def _check_values(value: Any, depth: int, field: str | None = None) -> None:
    """What no field takes: numbers and texts that a database or a browser would mangle."""
    if depth == 0:
        raise _wrong("nested too deeply", field)
    if isinstance(value, dict):
        for key, item in value.items():
            _check_values(item, depth - 1, field or str(key))
            _check_values(key, depth - 1, field)
    elif isinstance(value, list):
        for item in value:
            _check_values(item, depth - 1, field)
    elif isinstance(value, int):
        if not -NUMBER_MAX <= value <= NUMBER_MAX:
            raise _wrong(f"{field}: the number is too large", field)
    elif isinstance(value, str):
        if "\0" in value or not _is_unicode(value):
            raise _wrong(f"{field}: the text holds a character that cannot be stored", field)
        if field not in _NOT_SHOWN and _STEERING.search(value):
            raise _wrong(f"{field}: the text holds a control character; take it out", field)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong(detail: str, field: str | None = None) -> Refused:
    return Refused(Code.VALIDATION, detail, field=field)
