"""Turns the fields of an HTML form into an operation's input: forms know nothing but text.

What the fields of a form stand for follows from the types of the input:

- an empty field is null where the input takes null, else an empty text, else it was left out;
- a list is several fields of one name, or one with commas or lines;
- a check box that is off sends nothing: a hidden `false` stands before it, and the last one counts;
- `brand.name` is the field `name` of the object `brand`;
- a file is the text of its field, unless none was chosen, and `file_name` says how it is called.
"""

import asyncio
import codecs
import re
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, get_args
from urllib.parse import parse_qsl

import msgspec
from aiohttp import BodyPartReader, MultipartReader, StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError

from gateway.api.execution import read_body
from gateway.api.inputs import Field, fields_of, read_input, refusal_of, unknown_field
from gateway.domain.refusals import Code, Refused
from gateway.operations.registry import Operation

FORM_BYTES_MAX = 64 * 1024
FORM_FIELDS_MAX = 1_100  # a thousand devices can be chosen at once
# What a form says beside the input.
OWN_FIELDS = frozenset({"auto", "csrf", "key", "then"})
_BETWEEN = re.compile(r"[,\r\n]+")

Texts = Mapping[str, Sequence[str]]


async def read_fields(
    request: web.Request, bytes_max: int = FORM_BYTES_MAX
) -> dict[str, list[str]]:
    """The fields of a form that was sent, each with all its values. Raises `Refused`."""
    body = await read_body(request, bytes_max)
    if request.content_type == "multipart/form-data":
        return await _parts_of(request, body)
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX, errors="strict"
        )
    except ValueError as error:
        raise Refused(Code.VALIDATION, "The form cannot be read.") from error
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        # Browsers end the lines of a text area as mail does.
        fields.setdefault(name, []).append(value.replace("\r\n", "\n"))
    return fields


async def _parts_of(request: web.Request, body: bytes) -> dict[str, list[str]]:
    """The same of a form with a file (RFC 7578). Raises `Refused`."""
    content = StreamReader(BaseProtocol(asyncio.get_running_loop()), limit=len(body) + 1)
    content.feed_data(body)
    content.feed_eof()
    fields: dict[str, list[str]] = {}
    try:
        reader = MultipartReader(request.headers, content)
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader) or len(fields) > FORM_FIELDS_MAX:
                raise ValueError("parts within parts, or too many of them")
            data, name = bytes(await part.read(decode=True)), part.name or ""
            if part.filename is None:
                fields.setdefault(name, []).append(data.decode().replace("\r\n", "\n"))
            elif part.filename or data:
                fields.setdefault(name, []).append(text_of_file(data))
                fields["file_name"] = [part.filename]
    except (ValueError, RuntimeError, HttpProcessingError) as error:
        raise Refused(Code.VALIDATION, "The form cannot be read.") from error
    return fields


def text_of_file(data: bytes) -> str:
    """A text file as spreadsheets save it: UTF-8, UTF-16 with its mark, or Windows' Latin."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def given_of(op: Operation, texts: Texts) -> msgspec.Struct:
    """The checked input of an operation. Raises `Refused`, naming the field."""
    known = fields_of(op.input)
    given: dict[str, Any] = {}
    for name, values in texts.items():
        if name in OWN_FIELDS and name not in known:
            continue
        outer, _, inner = name.partition(".")
        if outer not in known:
            raise unknown_field(outer, known)
        if inner:
            part = _fields_within(outer, inner, known[outer])
            _put(given.setdefault(outer, {}), inner, part, values)
        else:
            _put(given, name, known[name], values)
    path = {name: str(given.pop(name, "")) for name in op.path_fields}
    return read_input(op, path, {}, msgspec.json.encode(given))


def _fields_within(outer: str, inner: str, field: Field) -> Field:
    for kind in (field.type, *get_args(field.type)):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if inner not in fields_of(kind):
                raise unknown_field(inner, fields_of(kind))
            return fields_of(kind)[inner]
        if kind is dict or (get_args(kind) and kind is field.type and _is_dict(kind)):
            return Field(str, False)
    raise Refused(Code.VALIDATION, f"{outer}: has no fields of its own", field=outer)


def _is_dict(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is dict


def _put(given: dict[str, Any], name: str, field: Field, values: Sequence[str]) -> None:
    """Adds what the field was given; nothing where it was left out."""
    if field.is_list:
        several = values if len(values) > 1 else _BETWEEN.split(values[0])
        given[name] = [one.strip() for one in several if one.strip()]
        return
    text = values[-1]
    if text == "" and _admits(field.type, NoneType):
        given[name] = None
    elif text == "" and not _admits(field.type, str):
        return
    elif text in ("true", "false") and _admits(field.type, bool):
        given[name] = text == "true"
    elif _admits(field.type, str):
        given[name] = text
    else:
        given[name] = _converted(name, field.type, text.strip())


def _converted(name: str, kind: Any, text: str) -> Any:
    try:
        return msgspec.to_builtins(msgspec.convert(text, kind, strict=False))
    except msgspec.ValidationError as error:
        raise refusal_of(error, name) from error


def _admits(hint: Any, kind: type) -> bool:
    """Whether a value of this kind may stand there, limits apart."""
    if hint is kind:
        return True
    return any(_admits(part, kind) for part in get_args(hint) if not isinstance(part, str))
