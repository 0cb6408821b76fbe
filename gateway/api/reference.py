"""docs/api.md, made from the registry: `python -m gateway.api.reference > docs/api.md`."""

import sys
from typing import Any

import msgspec

from gateway.api.catalogue import NOT_COMMANDS, PREFIX, all_operations
from gateway.api.openapi import errors_of, input_schema, schemas
from gateway.domain.refusals import STATUS, Code
from gateway.domain.rights import Right
from gateway.operations.registry import Operation

HEAD = f"""# HTTP API

This page is made from the program (`python -m gateway.api.reference > docs/api.md`). The same as
OpenAPI 3.1: `{PREFIX}/openapi.json`; a page to read it: `/api/docs`. Each operation is also a
command: `fleetgate admin <noun> <verb>`.

- **Who**: `Authorization: Bearer <API token>`, or the cookie of `POST {PREFIX}/login`. With the
  cookie, everything but GET also sends the `csrf` of the sign-in as `X-CSRF-Token`, from a page of
  the same site. Over the unix socket `admin.sock` in the data directory a request without a token
  acts as the first operator: whoever can open the socket owns the data.
- **Input**: JSON of at most 64 KiB; an unknown field is an error that names the nearest known one.
  A GET takes its input from the query. Ids are opaque texts.
- **Lists**: `limit` (at most 500) and `cursor`; the answer is `{{"items": […], "next_cursor": …}}`.
- **Once only**: `Idempotency-Key` (1 to 255 printable characters) on POST and DELETE. The same key
  with the same request gives the same answer and `Idempotency-Replayed: true`; with another
  request `idempotency_conflict`. Refusals are not kept; answers are, for 30 days.
- **Dry run**: `?dry_run=true` where it says so: 200 with `would` (the answer as it would be),
  `transfers`, and what would be `left` in the pools; nothing is kept. Refusals are the same.
- **Fair limits**: each principal has a bucket, told in `RateLimit-Limit`, `RateLimit-Remaining` and
  `RateLimit-Reset` (seconds until it is full). Who asks faster waits, and after that gets
  `too_many_attempts` with `Retry-After`. There is no quota.
- **Every failure** is `application/problem+json` (RFC 9457) with
  `type, title, status, detail, code, field?, request_id`. The id is also in `X-Request-Id` and in
  the server's log. Only what is no HTTP request, or whose first line or a header exceeds 8 KiB,
  gets a 400 in plain text.
- What is missing and what is somebody else's have the same answer: `not_found`.
- **Filters of devices** must all fit. `q` is part of a serial, name, alias, reference, tag, MAC
  address in any usual form, IMEI or ICCID, whatever its case and accents. `signal` goes by RSRP:
  from -85 dBm on `excellent`, from -105 `average`, from -115 `low`, below that or unknown `none`;
  where a modem tells RSSI alone, 10 dB more. `days_left_max`: paid, or served in grace, until
  within so many days. `attention`: an alert, nobody pays, served in grace, or it ends within 7 days
  and is not extended by itself. Whoever sees names and days alone finds nothing by what is hidden,
  and cannot sort by it.

## Addresses outside of {PREFIX}

| address | who | what |
|---|---|---|
| `GET /healthz` | anybody | 200 while the process works |
| `GET /readyz` | anybody | 200 or 503, and a list of checks that says why |
| `GET /status` | operators | one JSON object about the whole system; for browsers a page |
| `GET /metrics` | loopback (not behind a proxy), else operators | the same for Prometheus |
| `/login`, `/logout` | anybody | pages to sign in and out |

On the listener for devices: `GET /ca.pem`, `POST {PREFIX}/join`, `GET {PREFIX}/join/status`.

## Codes

| code | status | meaning |
|---|---|---|
"""


def reference_page() -> str:
    """The whole page."""
    parts = [HEAD]
    parts += [f"| `{code}` | {STATUS[code][0]} | {STATUS[code][1]} |\n" for code in Code]
    noun = ""
    for op in sorted(all_operations(), key=lambda op: (op.name.partition(".")[0], op.path)):
        if op.name.partition(".")[0] != noun:
            noun = op.name.partition(".")[0]
            parts.append(f"\n## {noun}\n")
        parts.append(_section(op))
    return "".join(parts)


def _section(op: Operation) -> str:
    lines = [
        f"\n### {op.method} {PREFIX}{op.path}\n",
        f"{op.summary}.",
        f"Right: {_right(op.right)}. Answer: {op.status} `{_name(op.result)}`. {_command(op)}"
        f"{' Dry run: `?dry_run=true`.' if op.moves_credits else ''}"
        f"{' It cannot be undone.' if op.irrevocable else ''}",
    ]
    schema = input_schema(op)
    fields = schema.get("properties", {})
    if fields:
        lines += ["", "| field | in | type | needed |", "|---|---|---|---|"]
        lines += [
            f"| `{name}` | {_place(op, name)} | {type_text(kind)} | {_needed(name, kind, schema)} |"
            for name, kind in fields.items()
        ]
    codes = ", ".join(f"`{code}`" for code in errors_of(op))
    return "\n".join([*lines, "", f"Codes: {codes}", ""])


def _command(op: Operation) -> str:
    if op.name in NOT_COMMANDS:
        return "No command: `fleetgate admin` shows a token or opens the socket."
    return f"Command: `fleetgate admin {command_name(op)}`."


def command_name(op: Operation) -> str:
    """`devices list`."""
    noun, _, verb = op.name.partition(".")
    return f"{noun} {verb}".replace("_", "-")


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _right(right: Right) -> str:
    return f"`{right.value}`"


def _place(op: Operation, name: str) -> str:
    if name in op.path_fields:
        return "address"
    return "body" if op.writes else "query"


def _needed(name: str, kind: dict[str, Any], schema: dict[str, Any]) -> str:
    if name in schema.get("required", ()):
        return "yes"
    if "default" not in kind:
        return "no"
    return f"no, else `{msgspec.json.encode(kind['default']).decode()}`"


def type_text(kind: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "anyOf" in kind:
        return " or ".join(type_text(part) for part in kind["anyOf"])
    if "enum" in kind:
        return " or ".join(f"`{value}`" for value in kind["enum"])
    if "$ref" in kind:
        name = str(kind["$ref"]).rpartition("/")[2]
        named = schemas()[0].get(name, {})
        return type_text(named) if "enum" in named else name
    word = {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(
        str(kind.get("type")), str(kind.get("type", "anything"))
    )
    if kind.get("type") == "array":
        return f"list of {type_text(kind.get('items', {}))}"
    limits = [
        f"{said} {kind[key]}"
        for key, said in (
            ("minimum", "from"),
            ("maximum", "to"),
            ("minLength", "at least"),
            ("maxLength", "at most"),
        )
        if key in kind
    ]
    return f"{word} ({' '.join(limits)})" if limits else word


if __name__ == "__main__":
    sys.stdout.write(reference_page())
