"""Reads the sources and keeps the limits that make them readable."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROGRAMS = ("wire", "agent", "broker", "gateway", "firmware_sim", "bench")
COLUMNS_MAX = 100
FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 400
VAGUE_NAMES = frozenset({"manager", "managers", "helper", "helpers", "util", "utils", "common"})

# What others wrote, recorded bytes, and revisions of the schema: records that nobody edits later.
NOT_SOURCES = frozenset({"node_modules", "corpus", "versions"})

Check = Callable[[str, str, ast.Module], Iterator[tuple[int, str]]]


def is_composition_root(name: str) -> bool:
    """Where the real clock, real randomness and standard output are taken in hand."""
    return name.startswith("gateway/command/") or name.endswith("/__main__.py")


def long_lines(name: str, text: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS_MAX:
            yield number, f"{len(line)} columns, limit {COLUMNS_MAX}"
    if len(lines) > FILE_LINES_MAX:
        yield len(lines), f"file of {len(lines)} lines, limit {FILE_LINES_MAX}"


def long_functions(name: str, text: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield node.lineno, f"{node.name} has {lines} lines, limit {FUNCTION_LINES_MAX}"


def missing_docstrings(name: str, text: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    said = ast.get_docstring(tree)
    if said is None:
        yield 1, "no module docstring"
    elif not said.split("\n\n")[0].rstrip().endswith((".", ":")):
        yield 1, "the module docstring does not open with a sentence"


def vague_modules(name: str, text: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for part in Path(name).with_suffix("").parts:
        if VAGUE_NAMES & set(part.split("_")):
            yield 1, f"a module called {part} does not say what it does"


def careless_handlers(name: str, text: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node.lineno, "bare except"


def comments(name: str, text: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Promises for later, and silenced findings without a reason on the same line."""
    silencer = re.compile(r"#\s*(?:noqa(?::\s*[A-Z0-9, ]+)?|type:\s*ignore(?:\[[^]]*\])?)")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if re.search(r"\b(FIXME|TODO|XXX)\b", token.string):
            yield token.start[0], "a promise for later: do it, or write an issue"
        silenced = silencer.search(token.string)
        if silenced:
            reason = silencer.sub("", token.string)
            if len(re.findall(r"[A-Za-z]{2,}", reason)) < 2:
                yield token.start[0], "a silenced finding without a reason"


def stray_prints(name: str, text: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    if is_composition_root(name):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield node.lineno, "print outside the command modules"


def task_groups(tree: ast.Module) -> frozenset[str]:
    """Names that a source binds to a TaskGroup, or declares to be one."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.withitem) and node.optional_vars is not None:
            value, target = ast.unparse(node.context_expr), node.optional_vars
        elif isinstance(node, ast.AnnAssign):
            value, target = ast.unparse(node.annotation), node.target
        elif isinstance(node, ast.arg) and node.annotation is not None:
            value, target = ast.unparse(node.annotation), ast.Name(node.arg)
        elif isinstance(node, ast.Assign):
            value, target = ast.unparse(node.value), node.targets[0]
        else:
            continue
        # An attribute that is assigned a task group handed in is one too: `self._tasks = tasks`.
        if re.search(r"\bTaskGroup\b", value) or value in names:
            names.add(ast.unparse(target).rpartition(".")[2])
    return frozenset(names)


def ownerless_tasks(name: str, text: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    groups = task_groups(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        receiver, _, method = ast.unparse(node.func).rpartition(".")
        if method == "ensure_future":
            yield node.lineno, "ensure_future makes a task that nobody owns"
        if method == "create_task" and receiver.rpartition(".")[2] not in groups:
            yield node.lineno, f"create_task on {receiver or 'nothing'}, which is no TaskGroup"


def hidden_inputs(name: str, text: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The wall clock and the shared dice are handed in, not reached for."""
    if is_composition_root(name) or name.startswith("firmware_sim/"):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            taken = (node.value.id, node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module in {"time", "random"}:
            for alias in node.names:
                if is_hidden(node.module, alias.name):
                    yield node.lineno, f"{node.module}.{alias.name} outside a composition root"
            continue
        else:
            continue
        if is_hidden(*taken):
            yield node.lineno, f"{'.'.join(taken)} outside a composition root"


def is_hidden(module: str, name: str) -> bool:
    if module == "time":
        return name in {"time", "time_ns"}
    return module == "random" and name not in {"Random", "SystemRandom"}


EVERYWHERE: tuple[Check, ...] = (
    long_lines,
    long_functions,
    missing_docstrings,
    vague_modules,
    careless_handlers,
    comments,
)
PROGRAMS_ONLY: tuple[Check, ...] = (stray_prints, ownerless_tasks, hidden_inputs)


def findings(name: str, text: str, checks: tuple[Check, ...]) -> list[str]:
    tree = ast.parse(text)
    return [f"{name}:{line}: {what}" for check in checks for line, what in check(name, text, tree)]


def sources(folder: str) -> list[Path]:
    return [
        path
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not NOT_SOURCES & set(path.relative_to(ROOT).parts)
    ]


def findings_in(folder: str, checks: tuple[Check, ...]) -> list[str]:
    paths = sources(folder)
    # A check that read nothing has found nothing, and must not pass for it.
    assert paths, f"no sources in {folder}"
    return [
        finding
        for path in paths
        for finding in findings(
            path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"), checks
        )
    ]


def test_programs_keep_the_limits() -> None:
    found = [one for folder in PROGRAMS for one in findings_in(folder, EVERYWHERE + PROGRAMS_ONLY)]
    assert not found, "\n" + "\n".join(found)


def test_tests_keep_the_limits() -> None:
    found = findings_in("tests", EVERYWHERE)
    assert not found, "\n" + "\n".join(found)


DOC = '"""One sentence."""\n'
TASK_GROUP = """
async def f():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(g())
"""
PLANTED = [
    # check            name                     source                                    found
    (long_lines, "wire/a.py", DOC + "x = '" + "y" * 96 + "'", 1),
    (long_lines, "wire/a.py", DOC + "x = 1\n" * FILE_LINES_MAX, 1),
    (long_lines, "wire/a.py", DOC + "x = 1\n" * (FILE_LINES_MAX - 1), 0),
    (long_functions, "wire/a.py", DOC + "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX, 1),
    (long_functions, "wire/a.py", DOC + "def f():\n" + "    x = 1\n" * 59, 0),
    (missing_docstrings, "wire/a.py", "x = 1", 1),
    (missing_docstrings, "wire/a.py", '"""not a sentence"""', 1),
    (missing_docstrings, "wire/a.py", DOC, 0),
    (vague_modules, "gateway/device_utils.py", DOC, 1),
    (vague_modules, "gateway/devices.py", DOC, 0),
    (careless_handlers, "wire/a.py", "try:\n    pass\nexcept:\n    pass", 1),
    (careless_handlers, "wire/a.py", "try:\n    pass\nexcept OSError:\n    pass", 0),
    (comments, "wire/a.py", "x = 1  # noqa" + ": S101", 1),
    (comments, "wire/a.py", "x = 1  # noqa" + ": S101  the peer made this hash", 0),
    (comments, "wire/a.py", "x = 1  # type" + ": ignore[arg-type]", 1),
    (comments, "wire/a.py", "x = 1  # type" + ": ignore[arg-type]  # stub is too narrow", 0),
    (comments, "wire/a.py", "x = 1  # FIX" + "ME later", 1),
    (comments, "wire/a.py", "x = '# TO" + "DO in a text is no comment'", 0),
    (stray_prints, "gateway/ingest/a.py", "print('x')", 1),
    (stray_prints, "gateway/command/admin.py", "print('x')", 0),
    (stray_prints, "agent/__main__.py", "print('x')", 0),
    (ownerless_tasks, "agent/a.py", "asyncio.create_task(f())", 1),
    (ownerless_tasks, "agent/a.py", "loop.create_task(f())", 1),
    (ownerless_tasks, "agent/a.py", "asyncio.ensure_future(f())", 1),
    (ownerless_tasks, "agent/a.py", "def f(g: asyncio.TaskGroup):\n    g.create_task(f())", 0),
    (ownerless_tasks, "agent/a.py", TASK_GROUP, 0),
    (hidden_inputs, "agent/a.py", "now = time.time()", 1),
    (hidden_inputs, "agent/a.py", "def f(clock=time.time): ...", 1),
    (hidden_inputs, "agent/a.py", "from time import time_ns", 1),
    (hidden_inputs, "agent/a.py", "random.random()", 1),
    (hidden_inputs, "agent/a.py", "random.Random(7).random()", 0),
    (hidden_inputs, "agent/a.py", "time.monotonic()", 0),
    (hidden_inputs, "agent/__main__.py", "time.time()", 0),
    (hidden_inputs, "firmware_sim/world.py", "random.random()", 0),
]


def test_each_check_finds_what_is_planted_and_nothing_else() -> None:
    for check, name, source, expected in PLANTED:
        found = findings(name, source, (check,))
        assert len(found) == expected, (check.__name__, source, found)
    checked = {check for check, _, _, expected in PLANTED if expected}
    assert checked == set(EVERYWHERE + PROGRAMS_ONLY)
