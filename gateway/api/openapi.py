"""The OpenAPI 3.1 document, made from the registry."""

from functools import cache
from typing import Any

import msgspec

from gateway.api.catalogue import PREFIX, all_operations
from gateway.api.inputs import DRY_RUN, fields_of
from gateway.api.problems import CONTENT_TYPE as PROBLEM_TYPE
from gateway.api.problems import Problem
from gateway.domain.refusals import STATUS, Code
from gateway.domain.rights import Right
from gateway.operations.dry_run import DryRun
from gateway.operations.registry import Operation

REFERENCE = "#/components/schemas/{name}"
# With these rights nothing is looked up that could be missing, or closed.
NOT_OF_A_COMPANY = frozenset({Right.PUBLIC, Right.SIGNED_IN, Right.OWN_ACCOUNT})
ALWAYS = (Code.VALIDATION, Code.TOO_MANY_ATTEMPTS, Code.INTERNAL, Code.UNAVAILABLE)


@cache
def schemas() -> tuple[dict[str, Any], dict[type[Any], dict[str, Any]]]:
    """The components, and for each struct type the schema that refers to it."""
    ops = all_operations()
    types: list[type[Any]] = list(
        dict.fromkeys([*(op.input for op in ops), *(op.result for op in ops), DryRun, Problem])
    )
    found, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    return components, dict(zip(types, found, strict=True))


def document(version: str) -> dict[str, Any]:
    """The whole document, without what is only taken from addresses."""
    components, _ = schemas()
    inputs = {_component(op.input) for op in all_operations()}
    paths: dict[str, dict[str, Any]] = {}
    for op in all_operations():
        paths.setdefault(PREFIX + op.path, {})[op.method.lower()] = _operation(op)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fleetgate",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Every failure is a problem detail (RFC 9457) with a `code`.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {k: v for k, v in sorted(components.items()) if k not in inputs},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "signIn": {"type": "apiKey", "in": "cookie", "name": "__Host-fleetgate"},
            },
        },
    }


def input_schema(op: Operation) -> dict[str, Any]:
    """The schema of all input fields, wherever they stand."""
    components, _ = schemas()
    schema: dict[str, Any] = components[_component(op.input)]
    return schema


def errors_of(op: Operation) -> tuple[Code, ...]:
    """Every code that the operation may answer with."""
    codes = [*op.errors, *ALWAYS]
    if op.right is not Right.PUBLIC:
        codes += [Code.SIGNED_OUT, Code.FORBIDDEN]
    if op.path_fields or op.right not in NOT_OF_A_COMPANY:
        codes.append(Code.NOT_FOUND)
    if op.right not in NOT_OF_A_COMPANY:
        codes.append(Code.SECOND_FACTOR_NEEDED)
    if op.writes:
        codes.append(Code.BODY_TOO_LARGE)
        if op.right not in NOT_OF_A_COMPANY:
            codes.append(Code.COMPANY_CLOSED)
    if op.moves_credits:
        codes.append(Code.CLOCK_IN_DOUBT)
    if op.method in ("POST", "DELETE"):
        codes.append(Code.IDEMPOTENCY_CONFLICT)
    return tuple(code for code in Code if code in codes)


def _component(kind: type[msgspec.Struct]) -> str:
    _, references = schemas()
    return str(references[kind]["$ref"]).rpartition("/")[2]


# Answered by the HTTP server before it is known what is asked.
_NO_REQUEST = {
    "description": "no HTTP request, or one whose first line or a header exceeds 8 KiB",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}


def _operation(op: Operation) -> dict[str, Any]:
    _, references = schemas()
    schema = input_schema(op)
    answers: dict[str, Any] = {
        str(op.status): {
            "description": (op.result.__doc__ or "").strip().partition("\n")[0],
            "content": {"application/json": {"schema": references[op.result]}},
        }
    }
    if op.file_type:
        answers[str(op.status)]["content"][op.file_type] = {"schema": {"type": "string"}}
    if op.moves_credits:
        _add_dry_run(answers, references[op.result], references[DryRun])
    answers["400"] = _NO_REQUEST
    by_status: dict[int, list[str]] = {}
    for code in errors_of(op):
        by_status.setdefault(STATUS[code][0], []).append(f"`{code.value}`")
    for status, codes in sorted(by_status.items()):
        answers[str(status)] = {
            "description": ", ".join(codes),
            "content": {PROBLEM_TYPE: {"schema": references[Problem]}},
        }
    made: dict[str, Any] = {
        "operationId": op.name,
        "summary": op.summary,
        "tags": [op.name.partition(".")[0]],
        "parameters": _parameters(op, schema),
        "responses": answers,
        "x-right": op.right.value,
        "x-irrevocable": op.irrevocable,
        "security": [] if op.right is Right.PUBLIC else [{"token": []}, {"signIn": []}],
    }
    if op.writes and set(fields_of(op.input)) - set(op.path_fields):
        made["requestBody"] = {
            "required": bool(_required(schema) - set(op.path_fields)),
            "content": {"application/json": {"schema": _body(op, schema)}},
        }
    return made


def _add_dry_run(answers: dict[str, Any], result: dict[str, Any], report: dict[str, Any]) -> None:
    """The other answer, which is 200 even where the real one says that something was made."""
    tried = {"allOf": [report, {"type": "object", "properties": {"would": result}}]}
    described = "with `dry_run=true`: what it would do"
    if "200" in answers:
        schema: dict[str, Any] = {"oneOf": [result, tried]}
        described = f"{answers['200']['description']} Or, {described}."
    else:
        schema, described = tried, f"{described[0].upper()}{described[1:]}."
    answers["200"] = {
        "description": described,
        "content": {"application/json": {"schema": schema}},
    }


def _required(schema: dict[str, Any]) -> set[str]:
    return set(schema.get("required", ()))


def _body(op: Operation, schema: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in schema["properties"].items() if k not in op.path_fields}
    body = {
        "type": "object",
        "description": schema.get("description", ""),
        "properties": kept,
        "additionalProperties": False,
    }
    required = [name for name in kept if name in _required(schema)]
    return body | ({"required": required} if required else {})


def _parameters(op: Operation, schema: dict[str, Any]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for name, kind in schema.get("properties", {}).items():
        if name in op.path_fields:
            made.append({"name": name, "in": "path", "required": True, "schema": kind})
        elif not op.writes:
            needed = name in _required(schema)
            made.append({"name": name, "in": "query", "required": needed, "schema": kind})
    if op.moves_credits:
        made.append(
            {
                "name": DRY_RUN,
                "in": "query",
                "required": False,
                "description": "Say what would happen; nothing is kept. A key means nothing then.",
                "schema": {"type": "boolean", "default": False},
            }
        )
    if op.method in ("POST", "DELETE"):
        made.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The same key and request: the same answer, and one effect.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        )
    return made
