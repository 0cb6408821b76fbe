"""Prints answers of the API for people: lists as tables, one thing as names and values."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH_ELSEWHERE = 200  # into a file or a pipe nothing is folded
COLUMNS_MAX = 12
LINK = "link"
# What of a long object is worth a column, by noun.
COLUMNS = {
    "devices": "serial name company_id presence.state service.state service.reason "
    "service.days_left presence.last_heard_at",
    "companies": "id name parent_id plan use_parent_credits suspended.reason created_at",
    "ledger": "at kind days serial sentence",
    "members": "id person_id email name role until",
    "tokens": "id name scopes companies created_at expires_at used_at",
    "sessions": "id serial target protocol state person expires_at ended_because bytes_in "
    "bytes_out",
    "audit": "at verb actor owner serial detail.protocol detail.target detail.reason "
    "detail.ended_because subject",
    "transfers": "kind days from_account to_account sentence",
    "left": "company_id days credits",
    "hops": "hop state code at detail advice",
    "invitations": "id email company_id company_name role until state invited_by expires_at",
    "imports": "id company_id file_name state lines checked bad actor at",
    "report": "line serial company_id outcome",
    "kept": "serial because",
    "others": "person protocol since",
}


def print_answer(noun: str, content: Any) -> None:
    """One answer, on standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH_ELSEWHERE)
    if isinstance(content, dict) and isinstance(content.get("items"), list):
        _print_items(console, noun, content["items"])
        if content.get("next_cursor"):
            console.print(
                _cell(f"There is more: --all, or --cursor {content['next_cursor']}"), style="dim"
            )
    else:
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        content = _listed(content)
        beside = _alike(content)
        things = {name: value for name, value in _flat(content).items() if not _in(beside, name)}
        beneath = {name: value for name, value in things.items() if _are_things(value)}
        for name, value in things.items():
            if name not in beneath and name != LINK:
                table.add_row(_cell(name), _cell(value))
        console.print(table)
        if LINK in things:
            # In one piece, however narrow the terminal is: people copy it.
            console.print(_cell(things[LINK]), soft_wrap=True)
        _print_beside(console, beside)
        for name, value in beneath.items():
            last = name.rpartition(".")[2]
            if last != name and last in beneath:
                continue  # a dry run has them at its end, of whatever operation
            console.print()
            console.print(_cell(name), style="dim")
            _print_items(console, last, value)


def _listed(content: Any) -> Any:
    """With objects that describe things of one kind by name, such as settings, as a list."""
    if not isinstance(content, dict):
        return content
    return {name: _rows(name, value) for name, value in content.items()}


def _rows(name: str, value: Any) -> Any:
    things = list(value.values()) if isinstance(value, dict) else []
    kinds = {(*thing,) if isinstance(thing, dict) else () for thing in things}
    if len(things) < 2 or len(kinds) != 1 or "value" not in next(iter(kinds)):
        return value
    return [{name.removesuffix("s"): key, **_folded(thing)} for key, thing in value.items()]


def _folded(thing: dict[str, Any]) -> dict[str, Any]:
    """A thing in which each field fits a cell."""
    return {
        name: _words({part: one for part, one in value.items() if one not in (None, "")})
        if isinstance(value, dict)
        else value
        for name, value in thing.items()
    }


def _alike(content: Any) -> dict[str, dict[str, Any]]:
    """Objects with the same figures: a sum and its parts. Empty unless there are several."""
    found: dict[str, dict[str, Any]] = {}
    if not isinstance(content, dict):
        return found
    for name, value in content.items():
        if not isinstance(value, dict) or not value:
            continue
        figures = all(type(figure) is int for figure in value.values())
        if figures and (not found or [*value] == [*next(iter(found.values()))]):
            found[name] = value
    return found if len(found) > 1 else {}


def _in(beside: dict[str, dict[str, Any]], dotted: str) -> bool:
    return dotted.partition(".")[0] in beside


def _print_beside(console: Console, beside: dict[str, dict[str, Any]]) -> None:
    """A row for each figure, a column for each object."""
    if not beside:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column()
    for name in beside:
        table.add_column(name, justify="right")
    for figure in next(iter(beside.values())):
        row = [figures[figure] for figures in beside.values()]
        if any(row):
            table.add_row(_cell(figure), *map(_cell, row))
    console.print()
    console.print(table)
    console.print("What is not listed is 0.", style="dim")


def _are_things(value: Any) -> bool:
    """Whether a list needs a table of its own."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _print_items(console: Console, noun: str, items: list[dict[str, Any]]) -> None:
    if not items:
        console.print("Nothing to show.", style="dim")
        return
    rows = [_flat(item) for item in items]
    wanted = COLUMNS.get(noun, "").split()
    columns = [name for name in wanted if any(name in row for row in rows)]
    if 2 * len(columns) < len(wanted) or not columns:
        # Other things of the same name, such as the devices of a statement.
        plain = [name for name, value in rows[0].items() if not isinstance(value, list | dict)]
        columns = plain[:COLUMNS_MAX]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        number = all(isinstance(row.get(name), int) for row in rows)
        # Headings are the last word, unless two would be the same.
        last = name.rpartition(".")[2]
        unique = sum(other.rpartition(".")[2] == last for other in columns) == 1
        heading = last if unique and "." not in name else name.replace(".", " ")
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in columns))
    console.print(table)


def _flat(content: Any, before: str = "") -> dict[str, Any]:
    """Objects inside objects by dotted names; lists and empty objects as they are."""
    if not isinstance(content, dict):
        return {before or "answer": content}
    found: dict[str, Any] = {}
    for name, value in content.items():
        dotted = f"{before}.{name}" if before else str(name)
        if isinstance(value, dict) and value:
            found |= _flat(value, dotted)
        else:
            found[dotted] = value
    return found


def _cell(value: Any) -> Text:
    """As plain text: names come from people and devices, and must not steer a terminal."""
    if value is None or value in ([], {}):
        text = "–"
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, list):
        text = ", ".join(_words(item) for item in value)
    else:
        text = str(value)
    return Text("".join(c if c.isprintable() else "�" for c in text))


def _words(item: Any) -> str:
    if isinstance(item, dict):
        return " ".join(f"{name}={value}" for name, value in item.items())
    return str(item)
