"""Reads and writes gateway.toml: one frozen type per section, and unknown keys are errors."""

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any, get_args

from gateway.atomic_file import write_atomically
from gateway.command.configuration_checks import ConfigurationError, check
from gateway.command.sections import (
    DatabaseSection,
    DataSection,
    DevicesSection,
    GatewayConfiguration,
    HistorySection,
    HttpSection,
    LogSection,
    MailSection,
    MqttSection,
    RelaySection,
    bracketed,
    is_loopback,
    reachable,
)

__all__ = [
    "ConfigurationError",
    "DataSection",
    "DatabaseSection",
    "DevicesSection",
    "GatewayConfiguration",
    "HistorySection",
    "HttpSection",
    "LogSection",
    "MailSection",
    "MqttSection",
    "RelaySection",
    "as_tables",
    "as_toml",
    "bracketed",
    "check",
    "from_tables",
    "is_loopback",
    "load",
    "load_unchecked",
    "reachable",
    "reference_page",
    "resolved",
    "toml_value",
    "write_gateway_toml",
]

FILE_NAME = "gateway.toml"


def load(path: Path) -> GatewayConfiguration:
    """The checked configuration in this file."""
    configuration = load_unchecked(path)
    try:
        check(configuration)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return configuration


def load_unchecked(path: Path) -> GatewayConfiguration:
    """The same before the values are compared with each other, for one who will change some."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from error
    try:
        return _read(tables, path.absolute().parent)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def from_tables(tables: Mapping[str, Any], folder: Path) -> GatewayConfiguration:
    """The checked configuration of these tables; relative data directories are below `folder`."""
    configuration = _read(tables, folder)
    check(configuration)
    return configuration


def _read(tables: Mapping[str, Any], folder: Path) -> GatewayConfiguration:
    sections: dict[str, Any] = {}
    for name, table in tables.items():
        known = GatewayConfiguration.sections.get(name)
        if known is None:
            raise ConfigurationError(f"unknown section [{name}]{_nearest(name, _section_names())}")
        if not isinstance(table, dict):
            raise ConfigurationError(f"{name} is a section, write [{name}]")
        sections[name] = _section(name, known, table)
    return resolved(GatewayConfiguration(**sections), folder)


def _section_names() -> list[str]:
    return list(GatewayConfiguration.sections)


def _nearest(word: str, known: list[str]) -> str:
    # Any distance is allowed: a list of one far guess still helps more than silence.
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.0)
    return f" (nearest known: {near[0]})" if near else ""


def _section(name: str, kind: type, table: Mapping[str, Any]) -> Any:
    known = {entry.name: entry for entry in fields(kind)}
    values = {}
    for key, value in table.items():
        entry = known.get(key)
        if entry is None:
            raise ConfigurationError(f"unknown key {name}.{key}{_nearest(key, list(known))}")
        values[key] = _value(f"{name}.{key}", _kind(entry), value)
    return kind(**values)


def _kind(entry: Field[Any]) -> Any:
    """The type of a key, without the help text beside it."""
    return get_args(entry.type)[0]


def _help(entry: Field[Any]) -> str:
    return str(get_args(entry.type)[1])


def _value(name: str, kind: Any, value: Any) -> Any:
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str):
        return value
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if kind == Path | None and isinstance(value, str):
        return Path(value) if value else None
    listed = kind == tuple[str, ...] and isinstance(value, list)
    if listed and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ConfigurationError(f"{name} must be {TYPE_WORDS[kind]}, not {value!r}")


TYPE_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    str: "text",
    Path: "a path",
    Path | None: "a path or empty",
    tuple[str, ...]: "a list of texts",
}


def resolved(configuration: GatewayConfiguration, folder: Path) -> GatewayConfiguration:
    """The same with absolute paths."""
    directory = (folder / configuration.data.directory).absolute()
    made: dict[str, Any] = {}
    for name, kind in GatewayConfiguration.sections.items():
        section = getattr(configuration, name)
        paths = {
            entry.name: directory / value
            for entry in fields(kind)
            if isinstance(value := getattr(section, entry.name), Path)
        }
        made[name] = replace(section, **paths)
    made["data"] = replace(made["data"], directory=directory)
    return GatewayConfiguration(**made)


def as_tables(configuration: GatewayConfiguration) -> dict[str, dict[str, Any]]:
    """Every effective value, as TOML would hold it."""
    tables: dict[str, dict[str, Any]] = {}
    for name, kind in GatewayConfiguration.sections.items():
        section = getattr(configuration, name)
        tables[name] = {entry.name: _plain(getattr(section, entry.name)) for entry in fields(kind)}
    return tables


def movable(configuration: GatewayConfiguration) -> GatewayConfiguration:
    """The same with paths relative to the data directory, so that it can be moved as a whole."""
    directory = configuration.data.directory
    made: dict[str, Any] = {}
    for name, kind in GatewayConfiguration.sections.items():
        section = getattr(configuration, name)
        paths = {
            entry.name: value.relative_to(directory)
            for entry in fields(kind)
            if isinstance(value := getattr(section, entry.name), Path)
            and value.is_relative_to(directory)
        }
        made[name] = replace(section, **paths)
    return GatewayConfiguration(**made)


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def as_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """TOML text of these tables; JSON's texts, numbers, booleans and lists are TOML too."""
    lines: list[str] = []
    for name, table in tables.items():
        lines += [
            f"[{name}]",
            *(f"{key} = {toml_value(value)}" for key, value in table.items()),
            "",
        ]
    return "\n".join(lines)


def toml_value(value: Any) -> str:
    """A text, number, boolean or list as TOML spells it."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_gateway_toml(configuration: GatewayConfiguration, name: str = FILE_NAME) -> Path:
    """Writes gateway.toml into the data directory, readable by its owner only."""
    header = (
        "# Addresses and ports are written by `fleetgate up`; other keys keep what you set.\n\n"
        if name == FILE_NAME
        else f"# Made of {FILE_NAME} by `fleetgate up` at each start; changes here are lost.\n\n"
    )
    path = configuration.data.directory / name
    text = header + as_toml(as_tables(movable(configuration)))
    write_atomically(path, text.encode())
    return path


def reference_page() -> str:
    """The text of docs/config.md."""
    lines = [
        "# gateway.toml",
        "",
        "Every section may be left out, and so may every key. An unknown key is an error that",
        "names the nearest known one. Secrets never stand in this file, only names of files that",
        "hold them. `fleetgate check-config FILE` prints the effective values. `fleetgate up`",
        "writes this file into its data directory; what you set there by hand is kept, except",
        "addresses and ports, which come from its options.",
        "",
        "This page is made from the program (`python -m gateway.command.configuration`).",
    ]
    for name, kind in GatewayConfiguration.sections.items():
        lines += ["", f"## [{name}]", "", kind.__doc__ or "", ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        for entry in fields(kind):
            default = toml_value(_plain(entry.default))
            words = _help(entry).replace("|", "\\|")
            lines.append(f"| `{entry.name}` | {TYPE_WORDS[_kind(entry)]} | `{default}` | {words} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(reference_page(), end="")
