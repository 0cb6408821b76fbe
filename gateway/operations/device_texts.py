"""Which devices are called so: asked of rows one by one, or of the index of their texts."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, FromClause, column, func, literal, literal_column, or_, table

from gateway.domain.search_text import Place, looked_for, tag_line
from gateway.operations.registry import Call
from gateway.storage.schema import device_search

# SQLite's index of trigrams (FTS5); PostgreSQL's is one of the table itself (pg_trgm).
_device_text = table("device_text", column("rowid"), column("device_text"))
_TRIGRAM = 3  # characters; what is shorter is in no index
# No parameters: PostgreSQL takes an index of an expression only for the same constants.
_COLON: ColumnElement[str] = literal_column("':'")
_NOTHING: ColumnElement[str] = literal_column("''")
_ESCAPED = str.maketrans({one: f"\\{one}" for one in "\\%_"})


@dataclass(frozen=True, slots=True)
class Sought:
    """Part of the texts of a device, in the form that `search_text` gives them."""

    text: str
    names_alone: bool = False  # not in what the device tells

    @property
    def of_words(self) -> bool:
        """Whether it stands in words alike: PostgreSQL's trigrams are of words, not of lines."""
        return self.names_alone or not self.text.startswith("\n")

    def held(self, call: Call) -> ColumnElement[bool]:
        """That a row of `device_search` has it."""
        names, told = texts_hold(call, self.text)
        return names if self.names_alone else or_(names, told)


def sought(typed: str, tag: str, place: Place) -> list[Sought]:
    """What was typed, in such a place, and a whole tag; nothing for nothing."""
    texts = [Sought(place.value.format(looked_for(typed)))] if typed else []
    return texts + ([Sought(tag_line(tag), names_alone=True)] if tag else [])


def texts_hold(call: Call, text: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """That what people call a device has it, and that what the device tells has it."""
    # Both are normalised, so nothing but their bytes is to be compared.
    place_of = func.instr if call.tx.connection.dialect.name == "sqlite" else func.strpos
    names, told = device_search.c.names, device_search.c.told
    return place_of(names, text) > 0, place_of(told, text) > 0


def indexed(call: Call, texts: Sequence[Sought]) -> tuple[FromClause, list[ColumnElement[bool]]]:
    """Where rows of `device_search` that have all of these are selected from, and how."""
    on_sqlite = call.tx.connection.dialect.name == "sqlite"
    known = [one for one in texts if _has_trigrams(one, on_sqlite)]
    where = [one.held(call) for one in texts if one not in known]
    if not known:
        return device_search, where
    if on_sqlite:
        same = device_search.c.device_id == _device_text.c.rowid
        match = literal(" AND ".join(map(_fts5, known)))
        where.append(_device_text.c.device_text.op("MATCH", is_comparison=True)(match))
        return _device_text.join(device_search, same), where
    # What has "1e:42" has "1e42", too, but not the other way round.
    where += [one.held(call) for one in known if ":" in one.text]
    return device_search, [*where, *map(_like, known)]


def _has_trigrams(one: Sought, on_sqlite: bool) -> bool:
    if on_sqlite:
        return len(one.text) >= _TRIGRAM
    return one.of_words and len(_without_colons(one.text)) >= _TRIGRAM


def _fts5(one: Sought) -> str:
    """https://www.sqlite.org/fts5.html#full_text_query_syntax."""
    phrase = '"{}"'.format(one.text.replace('"', '""'))
    return f"names : {phrase}" if one.names_alone else phrase


def _like(one: Sought) -> ColumnElement[bool]:
    pattern = f"%{_without_colons(one.text).translate(_ESCAPED)}%"
    names, told = (
        func.replace(text, _COLON, _NOTHING).like(pattern)
        for text in (device_search.c.names, device_search.c.told)
    )
    return names if one.names_alone else or_(names, told)


def _without_colons(text: str) -> str:
    """As PostgreSQL's index has it: a part of a MAC address is one word then, which few have."""
    return text.replace(":", "")
