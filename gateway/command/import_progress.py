"""Shows how far an import of devices is while its answer is waited for."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from gateway.api.catalogue import PREFIX
from gateway.command.api_client import Answer, Server, Unreachable

LOOK_S = 0.25


def shown_while(
    server: Server, company_id: Any, file_name: str, ask: Callable[[], Answer]
) -> Answer:
    """What `ask` answers; meanwhile standard error tells how many lines were checked."""
    done: Future[Answer] = Future()
    over = threading.Event()

    def work() -> None:
        try:
            done.set_result(ask())
        except BaseException as error:  # noqa: BLE001  # raised to whoever waits
            done.set_exception(error)
        over.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    with _display() as show:
        while not over.wait(LOOK_S):
            found = _under_way(server, company_id, file_name)
            if found is not None and found["lines"]:
                show(found["checked"], found["lines"])
    return done.result()


def _under_way(server: Server, company_id: Any, file_name: str) -> dict[str, Any] | None:
    try:
        answer = server.ask(
            "GET", f"{PREFIX}/devices/imports", query={"company": company_id, "limit": 10}
        )
    except Unreachable:
        return None  # the import itself says what is wrong
    items = answer.content.get("items", ()) if isinstance(answer.content, dict) else ()
    mine = (one for one in items if one["state"] == "checking" and one["file_name"] == file_name)
    return next(mine, None)


@contextmanager
def _display() -> Iterator[Callable[[int, int], None]]:
    """A bar at a terminal; elsewhere a line whenever it has gone on."""
    # It takes a while to load, and other commands have no use for it.
    from rich.console import Console
    from rich.progress import Progress

    if not sys.stderr.isatty():
        last = [-1]

        def say(checked: int, lines: int) -> None:
            if checked != last[0]:
                last[0] = checked
                print(f"checked {checked} of {lines} lines", file=sys.stderr, flush=True)

        yield say
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("checking lines", total=None)

        def draw(checked: int, lines: int) -> None:
            progress.update(task, completed=checked, total=lines)

        yield draw
