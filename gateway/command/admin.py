"""`fleetgate admin`: a command for each operation of the registry."""

import csv
import inspect
import io
import json
import keyword
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.api.catalogue import NOT_COMMANDS, PREFIX, all_operations
from gateway.api.inputs import DRY_RUN
from gateway.api.openapi import input_schema
from gateway.api.reference import command_name
from gateway.command.admin_values import SECRET_FIELDS, Unfit, nullable_flags, option_of, values_of
from gateway.command.api_client import Answer, Server, Unreachable
from gateway.domain.refusals import Code
from gateway.operations.registry import Operation

EXIT_FAILED = 1
EXIT_USAGE = 2
PAGES_MAX = 10_000
SOCKET_NAME = "admin.sock"

application = typer.Typer(
    help=(
        "Run any operation of the API. Without --url it talks to the gateway of the data "
        "directory, over the unix socket that only its owner can open, as the first operator. "
        "Exit codes: 0 done, 1 refused or failed, 2 wrong usage."
    ),
    epilog=(
        "For example:  fleetgate admin companies create --name Acme   then   "
        "fleetgate admin credits grant --company-id 1 --credits 100   then   "
        "fleetgate admin devices list --json"
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)

NEXT = {
    Code.SIGNED_OUT: "Give a valid token with --token or FLEETGATE_TOKEN.",
    Code.FORBIDDEN: "Ask an administrator of the company, or an operator.",
    Code.NOT_FOUND: "See what there is: `fleetgate admin companies list`, `… devices list`, "
    "`… sessions list`.",
    Code.CREDITS_INSUFFICIENT: "Move some to the company that pays: `fleetgate admin credits move "
    "…`; or ask the one above: `… credit-requests create …`; an operator makes new ones: "
    "`… credits grant …`.",
    Code.INVITATION_OVER: "See what became of it: `fleetgate admin invitations list`; then invite "
    "once more: `… invitations create …`.",
    Code.IDEMPOTENCY_CONFLICT: "Take another --idempotency-key for another request.",
    Code.SERVICE_UNPAID: "Activate or extend it: `fleetgate admin devices activate SERIAL …`.",
    Code.NOT_JOINED: "Get its join string: `fleetgate admin devices join SERIAL`.",
    Code.TOO_MANY_SESSIONS: "See which: `fleetgate admin sessions list --serial SERIAL`.",
    Code.COMPANY_SUSPENDED: "See why: `fleetgate admin companies show ID`.",
    Code.CLOCK_IN_DOUBT: "See `fleetgate admin status`, and put the server's clock right, or, if "
    "it is right: `fleetgate admin clock accept`.",
    Code.UNAVAILABLE: "Try again in a moment.",
    Code.INTERNAL: "The gateway's log names it by the request id.",
}

DATA_OPTION = Annotated[
    Path, typer.Option("--data", metavar="DIR", help="Data directory, when no --url is given.")
]
URL_OPTION = Annotated[
    str, typer.Option("--url", metavar="URL", envvar="FLEETGATE_URL", help="Server to talk to.")
]
TOKEN_OPTION = Annotated[
    str, typer.Option("--token", metavar="TOKEN", envvar="FLEETGATE_TOKEN", help="API token.")
]
CA_OPTION = Annotated[
    Path | None,
    typer.Option("--ca", metavar="FILE", envvar="FLEETGATE_CA", help="CA that signed the server."),
]
JSON_OPTION = Annotated[bool, typer.Option("--json", help="Print the API's JSON, for scripts.")]
KEY_OPTION = Annotated[
    str,
    typer.Option(
        "--idempotency-key", metavar="KEY", help="Asking again with it changes nothing twice."
    ),
]
DRY_RUN_OPTION = Annotated[
    bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")
]
YES_OPTION = Annotated[bool, typer.Option("--yes", help="Do what cannot be undone, unasked.")]
NULL_OPTION = Annotated[
    list[str] | None,
    typer.Option("--null", metavar="NAME", help="Null for this one; may be given more than once."),
]
ALL_OPTION = Annotated[bool, typer.Option("--all", help="Every page, not only the first.")]


def chosen_server(data: Path, url: str, token: str, ca: Path | None) -> Server:
    """The server that options and environment name."""
    if url:
        return Server(url=url.rstrip("/"), token=token, ca=ca)
    return Server(token=token, admin_socket=data.absolute() / SOCKET_NAME)


@application.command("status")
def show_status(
    data: DATA_OPTION = Path("data"),
    url: URL_OPTION = "",
    token: TOKEN_OPTION = "",
    ca: CA_OPTION = None,
    as_json: JSON_OPTION = False,
) -> None:
    """Show whether the system works."""
    answer = _asked(chosen_server(data, url, token, ca), "GET", "/status")
    _show("status", answer.content, as_json=as_json)


def _command(op: Operation) -> Callable[..., None]:
    """The function that typer turns into a command: its signature is made of the input."""

    def run(**parameters: Any) -> None:
        given = {name.removesuffix("_"): value for name, value in parameters.items()}
        server = chosen_server(*(given.pop(name) for name in ("data", "url", "token", "ca")))
        as_json, every = given.pop("as_json"), given.pop("every", False)
        key = given.pop("idempotency_key", "")
        tried = {DRY_RUN: "true"} if given.pop(DRY_RUN, False) else None
        if not given.pop("yes", True) and not tried:
            _make_sure(op)
        nulls = given.pop("nulls", None) or []
        try:
            values = values_of(op, given, nulls)
        except Unfit as error:
            raise _usage(str(error)) from error
        path = PREFIX + op.path.format(
            **{name: _segment(values.pop(name)) for name in op.path_fields}
        )
        if op.name == "devices.import":
            answer = _imported(server, path, tried, values, key)
        elif op.writes:
            answer = _asked(server, op.method, path, query=tried, content=values, key=key)
        elif every:
            answer = _every_page(server, path, values)
        else:
            answer = _asked(server, op.method, path, query=_query(values))
        noun, _, verb = op.name.partition(".")
        # An export is for programs, and a table leaves things out.
        _show(noun, answer.content, as_json=as_json or verb == "export")
        if tried:
            typer.echo("This was a dry run; nothing was changed.", err=True)
        if answer.replayed:
            typer.echo("This was done before with the same key; nothing changed.", err=True)

    run.__signature__ = _signature(op)  # type: ignore[attr-defined]  # read by typer
    run.__annotations__ = {
        name: parameter.annotation for name, parameter in inspect.signature(run).parameters.items()
    }
    run.__doc__ = f"{op.summary}.\n\n{inspect.getdoc(op.input) or ''}"
    return run


def _signature(op: Operation) -> inspect.Signature:
    schema = input_schema(op)
    required = set(schema.get("required", ()))
    made = [
        _parameter(name, Annotated[str, typer.Argument(metavar=name.upper(), show_default=False)])
        for name in op.path_fields
    ]
    for name, kind in schema.get("properties", {}).items():
        if name in op.path_fields:
            continue
        # Secrets are asked for.
        needed = name in required and name not in SECRET_FIELDS
        default = inspect.Parameter.empty if needed else None
        made.append(_parameter(name, option_of(op, name, kind), default))
    fixed: list[tuple[str, Any, Any]] = [
        ("data", DATA_OPTION, Path("data")),
        ("url", URL_OPTION, ""),
        ("token", TOKEN_OPTION, ""),
        ("ca", CA_OPTION, None),
        ("as_json", JSON_OPTION, False),
    ]
    if op.method in ("POST", "DELETE"):
        fixed.append(("idempotency_key", KEY_OPTION, ""))
    if op.moves_credits:
        fixed.append((DRY_RUN, DRY_RUN_OPTION, False))
    if nullable_flags(op):
        fixed.append(("nulls", NULL_OPTION, None))
    if op.irrevocable:
        fixed.append(("yes", YES_OPTION, False))
    if "cursor" in schema.get("properties", {}):
        fixed.append(("every", ALL_OPTION, False))
    return inspect.Signature([*made, *(_parameter(*one) for one in fixed)])


def _make_sure(op: Operation) -> None:
    """Asks whoever sits at a terminal; a script has to say so itself."""
    if not sys.stdin.isatty():
        first = "see with --dry-run what it would do, then " if op.moves_credits else ""
        raise _usage(f"this cannot be undone: {first}give --yes")
    if not typer.confirm(f"{op.summary}. This cannot be undone. Do it?", err=True):
        raise failed("nothing was done")


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> Any:
    # A field may be called `from`, which no parameter can.
    name += "_" * keyword.iskeyword(name)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
    )


def _imported(
    server: Server, path: str, tried: dict[str, str] | None, values: dict[str, Any], key: str
) -> Answer:
    """The answer to an import; how far it is stands on standard error meanwhile."""
    from gateway.command.import_progress import shown_while

    return shown_while(
        server,
        values["company_id"],
        values["file_name"],
        lambda: _asked(server, "POST", path, query=tried, content=values, key=key),
    )


def _segment(value: Any) -> str:
    return quote(str(value), safe="")


def _query(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in values.items()
    }


def _every_page(server: Server, path: str, values: dict[str, Any]) -> Answer:
    """All items, page after page; of a file, all its rows below one head."""
    asked = {"limit": 500, **_query(values)}
    items: list[Any] = []
    text = ""
    for _ in range(PAGES_MAX):
        content = _asked(server, "GET", path, query=asked).content
        if isinstance(content, str):
            rows = content.partition("\r\n")[2]
            text += rows if text else content
            if not rows:
                break
            asked["cursor"] = _last_key(rows, ";" if values.get("format") == "csv-excel" else ",")
        else:
            items += content["items"]
            if not content["next_cursor"]:
                break
            asked["cursor"] = content["next_cursor"]
    return Answer(200, text or {"items": items, "next_cursor": None}, False)


def _last_key(rows: str, delimiter: str) -> str:
    """What stands first in the last row; cells may hold line ends."""
    *_, last = csv.reader(io.StringIO(rows, newline=""), delimiter=delimiter)
    return last[0]


def _asked(server: Server, method: str, path: str, **more: Any) -> Answer:
    """The answer; a refusal ends the command with its words and what to do next."""
    try:
        answer = server.ask(method, path, **more)
    except Unreachable as error:
        raise failed(str(error)) from error
    return answered(answer)


def answered(answer: Answer) -> Answer:
    """The answer, unless it is a refusal, which ends the command."""
    if answer.status < 300:
        return answer
    problem = answer.content if isinstance(answer.content, dict) else {}
    code = problem.get("code", "")
    text = f"{problem.get('detail', f'the server answered {answer.status}')} ({code})"
    for line in problem.get("lines", ()):
        text += f"\nline {line['line']} {line['serial']}: {line['detail']} ({line['code']})"
    if code in NEXT:
        text += f"\n{NEXT[Code(code)]}"
    if code == Code.INTERNAL:
        text += f" Request {problem.get('request_id')}."
    raise _usage(text) if code == Code.VALIDATION else failed(text)


def _show(noun: str, content: Any, *, as_json: bool) -> None:
    if isinstance(content, str):  # a file, as it is
        sys.stdout.buffer.write(content.encode())
        return
    if as_json:
        typer.echo(json.dumps(content, indent=1, ensure_ascii=False))
        return
    # Tables take a while to load, and scripts have no use for them.
    from gateway.command.tables import print_answer

    print_answer(noun, content)


def failed(text: str, code: int = EXIT_FAILED) -> typer.Exit:
    """Says on standard error why the command ends."""
    # A cell of a file or a name may stand in it, and must not steer a terminal.
    shown = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
    typer.echo(f"fleetgate: {shown}", err=True)
    return typer.Exit(code)


def _usage(text: str) -> typer.Exit:
    return failed(text, EXIT_USAGE)


def _add_commands() -> None:
    nouns: dict[str, typer.Typer] = {}
    for op in all_operations():
        if op.name in NOT_COMMANDS:
            continue
        noun, verb = command_name(op).split(" ")
        group = nouns.get(noun)
        if group is None:
            group = nouns[noun] = typer.Typer(
                no_args_is_help=True, rich_markup_mode=None, help=f"Operations on {noun}."
            )
        group.command(verb)(_command(op))
    for noun, group in sorted(nouns.items()):
        application.add_typer(group, name=noun)


_add_commands()
