"""Which operations stand on pages, as templates, scripts and modules of the pages say it."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import gateway.web
from gateway.api.catalogue import PREFIX, all_operations
from gateway.operations.registry import Operation

ROOM = Path(gateway.web.__file__).parent
_QUOTED = re.compile(r"""["'/]([a-z][a-z-]*\.[a-z][a-z_-]*)["'?]""")
# Doors call the same functions as the API, without the registry's name; these modules are they.
DOORS = frozenset(
    {
        "invitations.accept",
        "invitations.look",
        "me.show",
        "password-resets.create",
        "password-resets.use",
        "people.sign_in",
        "people.sign_out",
    }
)
# What only talks of operations: what to say after one, and which are not sent by forms.
TALKING = frozenset({"done_texts.py", "doing.py"})


def sources() -> Iterator[Path]:
    """All templates, scripts and modules of the pages."""
    for pattern in ("*.py", "templates/**/*.html", "static/*.js"):
        for path in sorted(ROOM.glob(pattern)):
            if path.name not in TALKING:
                yield path


@cache
def _address(op: Operation) -> re.Pattern[str]:
    """Its address in the API, as a template or a script writes it."""
    parts = re.split(r"\{\w+\}", PREFIX + op.path)
    return re.compile(r"[^/\"?`]+".join(map(re.escape, parts)) + r"[\"?`'{]")


def on_pages() -> frozenset[str]:
    """The names of the operations that some page asks or sends."""
    found = set(DOORS)
    known = {op.name: op for op in all_operations()}
    for path in sources():
        text = path.read_text(encoding="utf-8")
        found |= {*_QUOTED.findall(text)} & known.keys()
        found |= {
            name for name, op in known.items() if op.method == "GET" and _address(op).search(text)
        }
    return frozenset(found)
