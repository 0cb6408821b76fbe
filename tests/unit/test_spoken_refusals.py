"""Every sentence with which something is refused has its Spanish, and no Spanish is left over."""

import re
from http import HTTPStatus

import msgspec
import pytest
from babel.messages.pofile import read_po

from gateway.api.catalogue import all_operations, operation_called
from gateway.api.inputs import fields_of, read_input, refusal_of, unknown_field
from gateway.api.status import TO_DO
from gateway.clock_guard import AWAY, STEPPED
from gateway.domain.clock_trust import why_wary, words
from gateway.domain.importing import LinesRefused, read_sheet
from gateway.domain.instants import DAY_MS
from gateway.domain.refusals import STATUS, Code, Refused
from gateway.domain.rights import Right
from gateway.operations.clock_state import clock_refused
from gateway.operations.registry import Operation
from gateway.web.field_labels import LABELS, field_label
from gateway.web.languages import LOCALE, words_of
from gateway.web.spoken import SHAPES, refusal_text, spoken, title_of
from tests.refusal_sources import found, nouns

_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
# What operations do not say themselves: the libraries of inputs and of HTTP do.
_OF_LIBRARY = re.compile(r"expected |invalid enum |object contains |number out of ")
_PHRASES = {status.phrase for status in HTTPStatus}
# Not of an input: taken from the address, or a column of a file.
_BESIDE = frozenset({"company", "dry_run"})
_ENGLISH = re.compile(
    r"\b(the|is|are|was|were|expected|got|text|number|list|missing|one|line|most|of|column)\b"
)


def entries(name: str, context: str) -> dict[str, str]:
    """The entries of one file in a context."""
    with (LOCALE / "es" / name).open("rb") as file:
        catalog = read_po(file, locale="es")
    return {str(one.id): str(one.string) for one in catalog if one.id and one.context == context}


def bare(english: str) -> str:
    """The entry as the sources' templates are written."""
    return _PLACEHOLDER.sub("{}", english)


def test_no_refusal_hides_its_sentence() -> None:
    assert found().unread == ()
    assert len(found().sentences) > 200


def test_every_refusal_has_its_spanish() -> None:
    known = {bare(one) for one in entries("refusals.po", "said")}
    missing = [
        f"{one.place}: no Spanish in locale/es/refusals.po: {one.template!r}"
        for one in found().sentences
        if one.template not in known and spoken("es", one.template) == one.template
    ]
    assert not missing, "\n".join(missing)


def test_no_spanish_is_left_over() -> None:
    said = {one.template for one in found().sentences}
    said |= {title for _, title in STATUS.values()}
    for one in entries("refusals.po", "said"):
        if bare(one) in said or _OF_LIBRARY.match(one) or not re.search("[a-z]", bare(one)):
            continue
        if one in _PHRASES:
            continue
        pattern = "".join(
            re.escape(part) if number % 2 == 0 else r"\w+"
            for number, part in enumerate(_PLACEHOLDER.split(one))
        )
        assert any(re.fullmatch(pattern, sentence) for sentence in said), one


def test_every_entry_uses_what_it_was_given() -> None:
    for path in sorted((LOCALE / "es").glob("*.po")):
        for context in ("said", *(f"said:{shape}" for shape in (*SHAPES, "name"))):
            for english, spanish in entries(path.name, context).items():
                given = sorted(_PLACEHOLDER.findall(english))
                assert sorted(_PLACEHOLDER.findall(spanish)) == given, (path.name, english)
                assert len(set(given)) == len(given), (path.name, english)


@pytest.mark.parametrize("code", list(Code))
def test_every_title_has_its_spanish(code: Code) -> None:
    assert title_of("es", code) != title_of("en", code) == STATUS[code][1]


def test_rights_and_things_are_said_in_spanish() -> None:
    assert set(entries("refusals.po", "said:right")) == {right.value for right in Right}
    things = entries("refusals.po", "said:what")
    assert set(things) == nouns()
    for thing, spanish in things.items():
        assert spoken("es", f"There is no such {thing}, or it is not yours to see.") == (
            f"{spanish} no existe, o usted no tiene acceso."
        )
    assert spoken("es", "This needs the right move_credits in the company.") == (
        "Para esto hace falta en la empresa el permiso de mover créditos."
    )


def test_why_the_clock_is_in_doubt() -> None:
    for what in (
        why_wary(0, 40 * DAY_MS, None),
        why_wary(90 * DAY_MS, 0, None),
        words(STEPPED, 86_400_000),
        words(AWAY, -86_400_000),
    ):
        english = clock_refused(what).detail
        said = spoken("es", english)
        assert what not in said, said
        assert said.startswith("Los cobros están detenidos: ")
        assert said[len("Los cobros están detenidos: ") :].startswith(spoken("es", what))
    assert spoken("es", TO_DO) != TO_DO
    assert len(entries("clock.po", "said")) == 5


@pytest.mark.parametrize("op", all_operations(), ids=lambda op: op.name)
def test_what_the_library_of_inputs_says(op: Operation) -> None:
    fields = fields_of(op.input)
    for name, field in fields.items():
        for value in (None, True, -(2**60), 1.5, "", "\0" * 9_000, [1] * 2_000, {"x": 1}):
            try:
                msgspec.convert(value, field.type)
            except msgspec.ValidationError as error:
                detail = refusal_of(error, name).detail
                if "enum value" in detail:
                    detail = f"{name}: one of a, b"  # as `read_input` says it
                said = refusal_text("es", detail)
                label = field_label("es", name)
                assert said.startswith(f"{label}: "), (detail, said)
                rest = re.sub("patrón .*", "", said.removeprefix(label))
                assert not _ENGLISH.search(rest), (detail, said)


def test_what_is_missing_is_named() -> None:
    op = operation_called("credits.move")
    with pytest.raises(Refused) as refused:
        read_input(op, {}, {}, b"{}")
    assert refusal_text("es", refused.value.detail) == "Origen: falta"


BAD_FILES = (
    "",
    "serial\n",
    "serials\n1",
    "serial,serial\n1,2",
    "name\nx",
    ",serial\n,1100000001",
    ",".join(["serial"] * 40) + "\n1",
    'serial,name\n1100000001,"x',
    'serial,name\n1100000001,"x"y',
    "serial\n1",
    "serial\n1100000001,2",
    "serial\nserial\n1100000001",
    "serial\n1100000001\n1100000001",
    f"serial,name\n1100000001,{'x' * 9_000}",
    f"serial,notes\n1100000001,{'x' * 9_000}",
    f"serial,tags\n1100000001,{'x' * 900}",
    "serial,tags\n1100000001,[1]",
    "serial,name\n1100000001,\x07",
    "serial,auto_extend\n1100000001,perhaps",
    "serial,activate\n1100000001,perhaps",
)


@pytest.mark.parametrize("text", BAD_FILES)
def test_what_is_wrong_with_a_file(text: str) -> None:
    try:
        bad = read_sheet(text).bad
        details = [one.detail for one in bad] + [LinesRefused(bad, 9).detail]
    except Refused as refused:
        details = [refused.detail]
    for detail in details:
        said = refusal_text("es", detail)
        assert not _ENGLISH.search(said.partition("todas:")[0].partition("columnas:")[0]), said
        assert said != detail


def test_every_field_has_a_label() -> None:
    named = {name for op in all_operations() for name in fields_of(op.input)}
    inner = {
        name
        for op in all_operations()
        for field in fields_of(op.input).values()
        for kind in _structs(field.type)
        for name in fields_of(kind)
    }
    assert named | inner <= set(LABELS), named | inner - set(LABELS)
    assert set(LABELS) <= named | inner | _BESIDE, set(LABELS) - named - inner
    assert set(entries("fields.po", "field")) == set(LABELS.values())
    assert field_label("en", "company_id") == "Company"
    assert field_label("es", "company_id") == "Empresa"
    assert field_label("es", "brand.name") == "Marca, Nombre"
    assert field_label("es", "no_such") == "no_such"


def _structs(hint: object) -> list[type[msgspec.Struct]]:
    parts = [hint, *getattr(hint, "__args__", ())]
    return [one for one in parts if isinstance(one, type) and issubclass(one, msgspec.Struct)]


def test_fields_are_called_by_their_labels() -> None:
    detail = "company_id: a root company has nobody above it to ask"
    assert refusal_text("en", detail) == "Company: a root company has nobody above it to ask"
    assert refusal_text("es", detail) == (
        "Empresa: una empresa raíz no tiene a nadie por encima a quien pedir"
    )
    assert refusal_text("es", "serial: strange") == "Número de serie: strange"
    assert refusal_text("en", "nothing: of ours") == "nothing: of ours"
    above = "is changed by an administrator above the company; of a root company by an operator."
    spanish = (
        "lo decide un administrador de una empresa superior; en una empresa raíz, un operador."
    )
    assert refusal_text("es", f"Moving {above}") == f"El traslado: {spanish}"
    assert refusal_text("es", f"`grace_days` {above}") == f"«Días de gracia»: {spanish}"
    assert refusal_text("en", f"`grace_days` {above}") == f"“Days of grace” {above}"
    near = unknown_field("nam", LABELS).detail
    assert refusal_text("es", near) == "nam: campo desconocido; el más parecido: name"
    lines = "2 lines do not fit, of 9; nothing was registered. Line 3: serial: missing"
    assert spoken("es", lines) == (
        "2 líneas no valen, de 9; no se registró nada. Línea 3: Número de serie: falta"
    )
    many = "'1100000009': There is no such device, or it is not yours to see."
    assert refusal_text("es", f"serials: {many}") == (
        "Números de serie: '1100000009': Ese dispositivo no existe, o usted no tiene acceso."
    )
    assert words_of("es").gettext("note") == "nota"
