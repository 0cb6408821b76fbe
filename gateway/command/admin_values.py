"""What stands after an option of `fleetgate admin`, as the API takes it."""

import getpass
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import typer

from gateway.api.inputs import Field, fields_of, refusal_of
from gateway.api.openapi import schemas
from gateway.api.reference import type_text
from gateway.operations.registry import Operation

SECRET_FIELDS = frozenset({"new_password", "old_password", "password"})
_ASKED = {"password": "Password (empty for somebody who has an account): "}
FILE_FIELDS = frozenset({"csv"})  # given as the file that holds the text
FILE_CHARS_MAX = 5_000_000
NULL = "null"


class Unfit(Exception):
    """An option's value is of no use; the text names the option."""


def option_of(op: Operation, name: str, schema: Mapping[str, Any]) -> Any:
    """What typer is told of a field that is no part of the address."""
    if name in FILE_FIELDS:
        return Annotated[str, typer.Option("--file", metavar="FILE", help="UTF-8; `-`: stdin.")]
    field = fields_of(op.input)[name]
    parts = _kinds(field.type)
    flag = name.replace("_", "-")
    help_ = _help(name, schema)
    if _is_flag(parts):
        if name in nullable_flags(op):
            help_ += f" (`--null {flag}`)"
        return Annotated[bool | None, typer.Option(f"--{flag}/--no-{flag}", help=help_)]
    kind: Any = list[str] | None if field.is_list else str | None
    return Annotated[kind, typer.Option(f"--{flag}", metavar=_metavar(parts), help=help_)]


def nullable_flags(op: Operation) -> tuple[str, ...]:
    """Fields that are true, false, null, or left out: two flags cannot say null."""
    unset = {
        one.encode_name for one in msgspec.structs.fields(op.input) if one.default is msgspec.UNSET
    }
    fields = fields_of(op.input)
    found = {name: _kinds(field.type) for name, field in fields.items() if name in unset}
    return tuple(name for name, kinds in found.items() if _is_flag(kinds) and type(None) in kinds)


def values_of(op: Operation, given: dict[str, Any], nulls: list[str]) -> dict[str, Any]:
    """What was given, as the API's types. Raises `Unfit`."""
    fields = fields_of(op.input)
    needed = {one.encode_name for one in msgspec.structs.fields(op.input) if one.required}
    values: dict[str, Any] = {}
    if "file_name" in fields and given.get("file_name") is None:
        files = [Path(str(given[name])).name for name in FILE_FIELDS & given.keys()]
        given["file_name"] = "".join(files)[-200:]
    for name, text in given.items():
        if name in FILE_FIELDS:
            text = _text_of(str(text))
        if name in SECRET_FIELDS:
            text = _secret(name, text)
            if text is None and name in needed:
                flag = name.replace("_", "-")
                raise Unfit(f"--{flag}: missing; `--{flag} -` reads it from standard input")
        if text is None or (text == [] and fields[name].is_list):
            continue
        values[name] = _value(name, fields[name], text)
    for text in nulls:
        name = text.removeprefix("--").replace("-", "_")
        if name not in nullable_flags(op):
            known = ", ".join(nullable_flags(op)).replace("_", "-")
            raise Unfit(f"--null: one of {known}; others take null as their value")
        if name in values:
            raise Unfit(f"--null: {text} is given a value, too")
        values[name] = None
    return values


def _value(name: str, field: Field, text: Any) -> Any:
    as_it_is = isinstance(text, bool | list) or name in FILE_FIELDS
    value = text if as_it_is else _typed(field.type, text)
    try:
        msgspec.convert(value, field.type, strict=True)
    except msgspec.ValidationError as error:
        raise Unfit(f"--{name.replace('_', '-')}: {_told(error, name, field, value)}") from error
    return value


def _told(error: msgspec.ValidationError, name: str, field: Field, value: Any) -> str:
    """What is wrong; of an object, with which of its parts."""
    detail = refusal_of(error, name).detail.removeprefix(f"{name}: ")
    _, at, part = str(error).rpartition(" - at `$.")
    if isinstance(value, dict):
        return f"{part.removesuffix('`')}: {detail}" if at else detail
    if _is_object(field.type):
        return f"{detail}; write it as JSON, as --help shows"
    return detail


def _typed(hint: Any, text: str) -> Any:
    """A text as a number, a truth or an object where the field takes one."""
    try:
        decoded = json.loads(text)
        if not isinstance(decoded, str):
            msgspec.convert(decoded, hint, strict=True)
            return decoded
    except msgspec.ValidationError:
        # A number out of its range, or a part of an object, is told as such; where texts fit, it
        # is meant as it stands.
        parts = _kinds(hint)
        numeric = int in parts and str not in parts
        return decoded if numeric or (isinstance(decoded, dict) and _is_object(hint)) else text
    except ValueError:
        pass  # not JSON: it is meant as it stands
    return text


def _kinds(hint: Any) -> list[Any]:
    """A type and what it is made of: a limit may stand around any part of it."""
    return [hint, *(kind for part in get_args(hint) for kind in _kinds(part))]


def _is_flag(parts: list[Any]) -> bool:
    return bool in parts and str not in parts


def _is_object(hint: Any) -> bool:
    return any(isinstance(kind, type) and issubclass(kind, msgspec.Struct) for kind in _kinds(hint))


def _metavar(parts: list[Any]) -> str:
    if any(_is_object(part) for part in parts):
        return "JSON"
    return "NUMBER" if int in parts and str not in parts else "TEXT"


def _help(name: str, schema: Mapping[str, Any]) -> str:
    if name in SECRET_FIELDS:
        return "Asked for when left out at a terminal; `-` reads a line of standard input."
    text = " or ".join(_shape(kind) for kind in schema.get("anyOf", [schema]))
    if "default" in schema and schema["default"] not in (None, ""):
        text += f"; else {json.dumps(schema['default'])}"
    return text


def _shape(schema: Mapping[str, Any]) -> str:
    """The type in words; of an object what is in it."""
    component = schemas()[0].get(str(schema.get("$ref", "")).rpartition("/")[2], {})
    if "properties" not in component:
        return type_text(dict(schema))
    inside = (f'"{name}": {type_text(kind)}' for name, kind in component["properties"].items())
    return f"{{{', '.join(inside)}}}"


def _secret(name: str, text: str | None) -> str | None:
    """A secret does not belong on a command line, where every process can read it."""
    if text == "-":
        return sys.stdin.readline().rstrip("\n")
    if text is None and sys.stdin.isatty():
        return getpass.getpass(_ASKED.get(name, f"{name.replace('_', ' ').capitalize()}: ")) or None
    return text


def _text_of(name: str) -> str:
    """The text of a file, or of standard input. Raises `Unfit`."""
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise Unfit(f"--file: {name}: {error.strerror}") from error
    if len(raw) > FILE_CHARS_MAX:
        raise Unfit(f"--file: {name} has more than {FILE_CHARS_MAX:,} bytes; split it")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unfit(f"--file: {name} is not UTF-8; save it as `CSV UTF-8`") from error
