"""Reading requests: what fits becomes an input, what does not names its field."""

from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import parse_qs

import msgspec
import pytest

from gateway.api.inputs import read_input
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.registry import Operation


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Given(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    serial: str
    credits: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    activate: bool | str = "later"
    tags: list[str] = []
    colour: Colour = Colour.RED
    note: str | msgspec.UnsetType | None = msgspec.UNSET
    args: dict[str, Any] = {}


def nothing(_call: Any, _given: Any) -> None:
    return None


def made(method: Any) -> Operation:
    return Operation(
        "x.y", "X", method, "/x/{serial}", Right.PUBLIC, nothing, Given, Given, 200, ()
    )


POST, GET = made("POST"), made("GET")


def read(body: bytes, query: str = "", op: Operation = POST) -> Any:
    asked = parse_qs(query)
    return read_input(op, {"serial": "0123456789"}, asked, body)


def test_body_path_and_query_make_one_input() -> None:
    given = read(b'{"credits": 3, "activate": true, "tags": ["a"], "note": null}')
    assert (given.serial, given.credits, given.activate) == ("0123456789", 3, True)
    assert given.tags == ["a"] and given.note is None
    assert read(b"").note is msgspec.UNSET
    asked = read(b"", "credits=7&tags=a&tags=b&colour=blue&note=x", GET)
    assert (asked.credits, asked.tags, asked.colour) == (7, ["a", "b"], Colour.BLUE)
    assert read(b"{}", "credits=7").credits == 7


REFUSED = [
    # body                              query           field        in the detail
    (b'{"creditz": 3}', "", "creditz", "nearest known: credits"),
    (b'{"credits": "3"}', "", "credits", "a whole number"),
    (b'{"credits": 3.5}', "", "credits", "a whole number"),
    (b'{"credits": true}', "", "credits", "true or false"),
    (b'{"credits": 0}', "", "credits", ">= 1"),
    (b'{"tags": [1]}', "", "tags", "text"),
    (b'{"colour": "green"}', "", "colour", "one of red, blue"),
    (b'{"serial": "9"}', "", "serial", "twice"),
    (b'{"credits": 1}', "credits=2", "credits", "twice"),
    (b"", "credits=1&credits=2", "credits", "twice"),
    (b"", "limt=2", "limt", "nearest"),
    (b"[]", "", None, "not an object"),
    (b"3", "", None, "not an object"),
    (b"{", "", None, "not JSON"),
    (b'{"credits": NaN}', "", None, "not JSON"),
    (b'{"credits": 1e999}', "", None, "not JSON"),
    (b'{"note": "\xff"}', "", None, "not JSON"),
    (b'{"note": "\\ud800"}', "", None, "not JSON"),
    (b'{"note": "a\\u0000b"}', "", "note", "cannot be stored"),
    (b'{"note": "a\\u001b[31mb"}', "", "note", "control character"),
    (b'{"note": "a\\u009bb"}', "", "note", "control character"),
    (b'{"tags": ["a\\u0007b"]}', "", "tags", "control character"),
    (b'{"credits": 9007199254740993}', "", "credits", "too large"),
    (b'{"credits": ' + b"9" * 4000 + b"}", "", None, ""),
    (b'{"args":' * 30 + b"1" + b"}" * 30, "", "args", "deep"),
    (b'{"args":' + b"[" * 60_000, "", None, ""),
    (b'{"a\\nb": 1}', "", "'a\\nb'", "unknown field"),
]


@pytest.mark.parametrize(("body", "query", "field", "said"), REFUSED)
def test_what_does_not_fit_is_refused_by_name(
    body: bytes, query: str, field: str | None, said: str
) -> None:
    with pytest.raises(Refused) as caught:
        read(body, query)
    assert caught.value.code is Code.VALIDATION
    assert said in caught.value.detail
    if said:
        assert caught.value.field == field
    assert len(caught.value.detail) < 300


def test_a_get_has_no_body() -> None:
    with pytest.raises(Refused, match="not from a body"):
        read(b'{"credits": 1}', "", GET)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(Refused) as caught:
        read_input(POST, {}, {}, b"{}")
    assert (caught.value.field, caught.value.detail) == ("serial", "serial: missing")
