"""Reads the sources and collects every sentence with which something is refused or found wanting.

A sentence is an argument of `Refused` or of a check of health, or of a function that hands its own
parameter on to one, or of an error whose text becomes one. What differs in it is written `{}`; the
name of a field before it is left away, because pages show the field's label instead.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
# Where the sentence stands among the arguments of what is made of it.
MAKERS = {
    "Refused": 1,
    "BadLine": 3,
    "Check": 2,
    "_Wrong": 1,
    "clock_refused": 0,
    "problem": 1,
}
# Errors and answers whose text is put behind the name of a field, or into a sentence.
ERRORS_OF = (
    "gateway/domain/names.py",
    "gateway/domain/statements.py",
    "wire/targets.py",
)
ANSWERS_OF = {
    "gateway/domain/importing.py": {"_explained"},
}
# Functions that put something else than a sentence of their own into a refusal: what is refused
# inside, a sentence of `ERRORS_OF` or `ANSWERS_OF`, advice, or what the library of inputs says.
CARRIERS = frozenset(
    {
        "gateway/api/inputs.py:refusal_of",
        "gateway/api/signing_in.py:__init__",
        "gateway/domain/importing.py:_add",
        "gateway/domain/importing.py:read_sheet",
        "gateway/operations/accepting.py:_checked_name",
        "gateway/operations/accepting.py:_made_account",
        "gateway/operations/targets.py:read_target",
        "gateway/operations/statements.py:show_statement",
        "gateway/operations/import_lines.py:bad_line",
        "gateway/operations/importing.py:_refused_meanwhile",
        "gateway/web/statement_page.py:_made",
    }
)
NOT_HTTP = ("gateway/ingest/", "gateway/mqtt_server/", "gateway/command/", "gateway/jobs/")
_FIELD = re.compile(r"(?:[a-z_]+|\{\}): (?=\S)")
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Sentence(NamedTuple):
    """A sentence as sources say it, and where."""

    template: str
    place: str


class Found(NamedTuple):
    """All sentences, and the places that nobody can read them from."""

    sentences: tuple[Sentence, ...]
    unread: tuple[str, ...]


class Module(NamedTuple):
    """A parsed file."""

    path: str
    tree: ast.Module
    constants: dict[str, ast.expr]
    imports: dict[str, str]


@cache
def modules() -> dict[str, Module]:
    """All files of the product that can refuse a request."""
    paths = [*sorted((ROOT / "gateway").rglob("*.py")), ROOT / "wire" / "targets.py"]
    named = {path.relative_to(ROOT).as_posix(): path for path in paths}
    return {
        name: _module(name, ast.parse(path.read_text(encoding="utf-8")))
        for name, path in named.items()
        if not name.startswith(NOT_HTTP)
    }


def _module(path: str, tree: ast.Module) -> Module:
    constants: dict[str, ast.expr] = {}
    imports: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            constants[node.target.id] = node.value
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                imports[name.asname or name.name] = node.module.replace(".", "/") + ".py"
    return Module(path, tree, constants, imports)


@cache
def found() -> Found:
    """Every sentence of every refusal."""
    reader = _Reader()
    for module in modules().values():
        reader.read(module)
    return Found(tuple(reader.sentences), tuple(reader.unread))


@cache
def nouns() -> set[str]:
    """What `There is no such …` is said of."""
    named = set()
    for module in modules().values():
        for _, node in _with_function(module.tree):
            if not isinstance(node, ast.Call):
                continue
            given = [keyword.value for keyword in node.keywords if keyword.arg == "what"]
            if _name_of(node) == "not_found":
                given += node.args[:1]
            elif _name_of(node) == "row_number":
                given += node.args[1:2]
            named |= {str(one.value) for one in given if isinstance(one, ast.Constant)}
    said = [one.template for one in found().sentences]
    literal = [re.fullmatch(r"There is no such ([a-z ]+), or .*", one) for one in said]
    return named | {one[1] for one in literal if one is not None}


def template_of(text: str) -> str:
    """As catalogs have it: without the name of a field, without the dot at the end."""
    return (
        _FIELD.sub("", text, count=1).removesuffix(".")
        if _FIELD.match(text)
        else (text.removesuffix("."))
    )


class _Reader:
    """Follows what becomes of the arguments."""

    def __init__(self) -> None:
        self.sentences: list[Sentence] = []
        self.unread: list[str] = []
        self._makers_read: set[tuple[str, str, str]] = set()
        self._taken: set[ast.expr] = set()

    def read(self, module: Module) -> None:
        """Collects the sentences of a file."""
        for function, node in _with_function(module.tree):
            if isinstance(node, ast.Call):
                place = MAKERS.get(_name_of(node))
                if place is None and _is_super_of_refused(node, module):
                    place = 1
                if place is not None and len(node.args) > place:
                    self._take(module, function, node.args[place])
            elif isinstance(node, ast.Raise) and module.path in ERRORS_OF:
                if isinstance(node.exc, ast.Call) and node.exc.args:
                    self._take(module, function, node.exc.args[0], carried=True)
            elif isinstance(node, ast.Return) and function is not None and node.value is not None:
                self._take_answer(module, function, node.value)

    def _take_answer(self, module: Module, function: Function, said: ast.expr) -> None:
        if function.name in ANSWERS_OF.get(module.path, ()):
            self._take(module, function, said, carried=True)

    def _take(
        self, module: Module, function: Function | None, said: ast.expr, *, carried: bool = False
    ) -> None:
        place = f"{module.path}:{said.lineno}"
        if said in self._taken:
            return
        self._taken.add(said)
        if isinstance(said, ast.Constant):
            if isinstance(said.value, str):
                self._keep(said.value, place)
        elif isinstance(said, ast.JoinedStr):
            if not self._keep(_template(said), place):
                self._follow_last(module, function, said, carried=carried)
        elif isinstance(said, ast.IfExp):
            self._take(module, function, said.body, carried=carried)
            self._take(module, function, said.orelse, carried=carried)
        elif isinstance(said, ast.BoolOp):
            self._take(module, function, said.values[-1], carried=carried)
        elif isinstance(said, ast.Name):
            self._follow(module, function, said, carried=carried)
        elif isinstance(table := _table_of(said, module), ast.Dict):
            for value in table.values:
                self._take(module, None, value)
        elif isinstance(said, ast.Call) and isinstance(table := _looked_into(said), ast.Dict):
            for value in [*table.values, *said.args[1:]]:
                self._take(module, function, value)
        elif isinstance(said, ast.Call) and (answers := list(_answers(said, module))):
            for home, made, value in answers:
                self._take(home, made, value)
        else:
            self._carry(module, function, said, carried=carried)

    def _keep(self, text: str, place: str) -> bool:
        template = template_of(text)
        if not template.replace("{}", "").strip(" :."):
            return False
        self.sentences.append(Sentence(template, place))
        return True

    def _follow_last(
        self, module: Module, function: Function | None, said: ast.JoinedStr, *, carried: bool
    ) -> None:
        """`field: {detail}`: what stands behind the field."""
        last = said.values[-1]
        if isinstance(last, ast.FormattedValue):
            self._take(module, function, last.value, carried=carried)

    def _follow(
        self, module: Module, function: Function | None, said: ast.Name, *, carried: bool
    ) -> None:
        """A name: a parameter, something set before, or a constant."""
        if function is not None:
            names = [arg.arg for arg in function.args.args]
            if said.id in names:
                self._read_callers(module, function, said.id, names)
                return
            values = list(_set_in(function, said.id))
            if values:
                for value in values:
                    self._take(module, function, value, carried=carried)
                return
        home = module
        if said.id in module.imports and module.imports[said.id] in modules():
            home = modules()[module.imports[said.id]]
        if said.id in home.constants:
            self._take(home, None, home.constants[said.id])
        else:
            self._carry(module, function, said, carried=carried)

    def _read_callers(
        self, module: Module, function: Function, parameter: str, names: list[str]
    ) -> None:
        """The function makes refusals: its callers say the sentence."""
        key = (module.path, function.name, parameter)
        if key in self._makers_read:
            return
        self._makers_read.add(key)
        place = names.index(parameter)
        for caller in modules().values():
            if caller is not module and caller.imports.get(function.name) != module.path:
                continue
            for within, node in _with_function(caller.tree):
                if isinstance(node, ast.Call) and _name_of(node) == function.name:
                    for said in _argument(node, place, parameter):
                        self._take(caller, within, said)

    def _carry(
        self, module: Module, function: Function | None, said: ast.expr, *, carried: bool
    ) -> None:
        name = f"{module.path}:{function.name if function else ''}"
        if isinstance(said, ast.Constant) or carried or name in CARRIERS:
            return
        if isinstance(said, ast.Name) and said.id in ("doubt", "error", "wrong"):
            return  # of the clock, `ERRORS_OF` and `ANSWERS_OF`
        if isinstance(said, ast.Attribute) and said.attr == "detail":
            return  # a refusal inside another
        self.unread.append(f"{module.path}:{said.lineno}: {ast.unparse(said)} in {name}")


def _table_of(said: ast.expr, module: Module) -> ast.expr | None:
    """The constant that a subscript looks into."""
    if isinstance(said, ast.Subscript) and isinstance(said.value, ast.Name):
        return module.constants.get(said.value.id)
    return None


def _looked_into(call: ast.Call) -> ast.expr | None:
    """The table of `{404: "…"}.get(status, "…")`."""
    return call.func.value if isinstance(call.func, ast.Attribute) else None


def _answers(call: ast.Call, module: Module) -> Iterator[tuple[Module, Function, ast.expr]]:
    """What the function that is called here returns, if it is one of ours."""
    name = _name_of(call)
    home = modules().get(module.imports.get(name, module.path), module)
    for node in home.tree.body:
        if isinstance(node, Function) and node.name == name:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield home, node, inner.value


def _argument(call: ast.Call, place: int, parameter: str) -> Iterator[ast.expr]:
    if len(call.args) > place:
        yield call.args[place]
    for keyword in call.keywords:
        if keyword.arg == parameter:
            yield keyword.value


def _set_in(function: Function, name: str) -> Iterator[ast.expr]:
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == name:
                    yield node.value


def _template(said: ast.JoinedStr) -> str:
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else "{}" for part in said.values
    )


def _name_of(call: ast.Call) -> str:
    if isinstance(call.func, ast.Name):
        return call.func.id
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _is_super_of_refused(call: ast.Call, module: Module) -> bool:
    """`super().__init__(code, detail)` in a kind of `Refused`."""
    if ast.unparse(call.func) != "super().__init__" or len(call.args) < 2:
        return False
    return "Refused" in module.imports


def _with_function(
    tree: ast.AST, within: Function | None = None
) -> Iterator[tuple[Function | None, ast.AST]]:
    for node in ast.iter_child_nodes(tree):
        inner = node if isinstance(node, Function) else within
        yield inner, node
        yield from _with_function(node, inner)
