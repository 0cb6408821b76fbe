"""`fleetgate admin events`: says what happens, as it happens, until it is interrupted."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.api.catalogue import PREFIX
from gateway.command.admin import (
    CA_OPTION,
    DATA_OPTION,
    JSON_OPTION,
    TOKEN_OPTION,
    URL_OPTION,
    answered,
    application,
    chosen_server,
    failed,
)
from gateway.command.api_client import Answer, Server, Unreachable
from gateway.domain.happenings import Happening

PATH = f"{PREFIX}/events"
TRIES_MAX = 5  # one after another without hearing anything
PAUSE_S = 1.0
EXIT_INTERRUPTED = 130

COMPANY_OPTION = Annotated[
    str, typer.Option("--company", metavar="ID", help="Only of this one and those below.")
]
SERIAL_OPTION = Annotated[str, typer.Option("--serial", metavar="SERIAL", help="Only of a device.")]
KINDS_OPTION = Annotated[
    list[Happening] | None,
    typer.Option("--kinds", metavar="KIND", help="Only these; may be given more than once."),
]
AFTER_OPTION = Annotated[
    str,
    typer.Option(
        "--after", metavar="ID", help="What came after this event, too; 0: all that is kept."
    ),
]


@dataclass(frozen=True, slots=True)
class Block:
    """One server-sent event as it came."""

    id: str
    kind: str
    data: str


def blocks(lines: Iterator[str]) -> Iterator[Block]:
    """Takes a stream of lines apart; comments are passed over."""
    id_ = kind = data = ""
    for line in lines:
        if not line:
            yield Block(id_, kind, data)
            kind = data = ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            id_ = value
        elif name == "event":
            kind = value
        elif name == "data":
            data = value


@application.command("events")
def follow_events(
    company: COMPANY_OPTION = "",
    serial: SERIAL_OPTION = "",
    kinds: KINDS_OPTION = None,
    after: AFTER_OPTION = "",
    data: DATA_OPTION = Path("data"),
    url: URL_OPTION = "",
    token: TOKEN_OPTION = "",
    ca: CA_OPTION = None,
    as_json: JSON_OPTION = False,
) -> None:
    """Follow what happens in the companies that you may see, until Ctrl-C.

    A line for each event; with --json an object in each line.
    """
    server = chosen_server(data, url, token, ca)
    query: dict[str, Any] = {"company": company, "serial": serial, "after": after}
    query = {name: value for name, value in query.items() if value}
    if kinds:
        query["kinds"] = [kind.value for kind in kinds]
    try:
        _follow(server, query, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read this has enough; Python would say so once more at the exit.
        sys.stderr.close()
        raise typer.Exit(0) from None


def _follow(server: Server, query: dict[str, Any], *, as_json: bool) -> None:
    """Reads on after each end of a stream; a refusal ends it, and so does a server that is gone."""
    tries = 0
    while True:
        try:
            with server.stream(PATH, query) as stream:
                if isinstance(stream, Answer):
                    answered(stream)
                    raise failed("the answer is no stream: is this address Fleetgate's?")
                for block in blocks(stream):
                    tries = 0
                    if block.id:
                        query["after"] = block.id
                    _show(block, as_json=as_json)
        except Unreachable as error:
            tries += 1
            if tries >= TRIES_MAX:
                raise failed(str(error)) from error
        time.sleep(PAUSE_S)


def _show(block: Block, *, as_json: bool) -> None:
    if not block.data:
        return
    content = json.loads(block.data)
    if block.kind == "end":
        raise failed(f"{content['detail']} ({content['code']})")
    if block.kind == "reset":
        typer.echo("Older events are not kept any more; these are the ones from now on.", err=True)
        return
    if as_json:
        print(json.dumps(content, ensure_ascii=False), flush=True)
        return
    facts = " ".join(f"{name}={value}" for name, value in content["detail"].items())
    words = (content["at"], content["kind"], f"company={content['company_id']}", content["subject"])
    print(*words, facts, flush=True)
