"""Spanish of the audit, of advice, of notices and of closed lists: complete, each its own."""

import re
from enum import Enum

import pytest
from babel.messages.pofile import read_po

from gateway.domain import audit_sentences, diagnosis
from gateway.domain.diagnosis import Hop, HopState
from gateway.domain.ledger import Kind
from gateway.domain.notices import Notice
from gateway.domain.notices_spanish import SENTENCES
from gateway.domain.presence import Presence
from gateway.domain.rights import Role
from gateway.domain.service import Reason, State
from gateway.web import spoken as spoken_module
from gateway.web.closed_words import LISTS, word_of
from gateway.web.languages import LOCALE, catalog_of
from gateway.web.spoken import LENGTH_MAX, SAID, spoken
from wire.commands import Outcome, Verb
from wire.endings import Ended

_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
# What stands for a placeholder of each kind, and how Spanish says it.
SAMPLES = {
    "act": ("`plan`", "«Plan»"),
    "actor": ("Ana Ruiz (user:7)", "Ana Ruiz (user:7)"),
    "amount": ("free 2 credits and 5 days", "2 créditos y 5 días gratis"),
    "by": ("paid by Uno (asked Dos, then Uno)", "a cargo de Uno (se preguntó a Dos, luego a Uno)"),
    "ended": ("idle_bytes", "nada pasó por ella"),
    "field": ("company_id", "Empresa"),
    "kind": ("refund", "reembolso"),
    "lines": ("3 lines do", "3 líneas no valen"),
    "n": ("5,000", "5,000"),
    "near": ("; it takes none", "; no admite ninguno"),
    "of": (" of the company itself", " de la propia empresa"),
    "right": ("reach", "abrir sesiones"),
    "role": ("basic", "usuario básico"),
    "said": ("serial: missing", "Número de serie: falta"),
    "type": ("a whole number or null", "un número entero o nada"),
    "what": ("credit code", "Ese código de créditos"),
    "whose": ("One person", "Una persona"),
    "why": ("because its period is over", "porque su período ha terminado"),
}
NAME = ("Grúas & Cía.", "Grúas & Cía.")


def entries(name: str) -> set[str]:
    """The sentences of one file."""
    with (LOCALE / "es" / name).open("rb") as file:
        return {str(one.id) for one in read_po(file, locale="es") if one.id and one.context}


def filled(text: str, language: int) -> str:
    """With a sample for each placeholder."""
    return _PLACEHOLDER.sub(
        lambda one: SAMPLES.get(one[1].rstrip("0123456789"), NAME)[language], text
    )


def test_no_sentence_is_taken_for_another() -> None:
    for one in catalog_of("es"):
        if one.context == SAID:
            english = filled(str(one.id), 0)
            expected = filled(str(one.string), 1)
            assert spoken("es", english) == expected
            assert spoken("es", f"{english}.") == f"{expected}."


def test_few_patterns_are_tried_at_a_sentence() -> None:
    index = spoken_module._patterns("es", SAID)
    for english in (
        "Grúas was given 2 credits and 5 days.",
        "1100000001 was activated for 1 credit, paid by A (asked B, then A), because somebody "
        "asked for it.",
        "Ann (user:7) activated 1100000001.",
    ):
        assert len(index.fitting(english)) < 25, english
    assert len(index.others) < 5


@pytest.mark.parametrize("verb", audit_sentences.VERBS)
def test_every_verb_of_the_audit_has_its_spanish(verb: str) -> None:
    english = audit_sentences.sentence(verb, "Ana Ruiz (user:7)", "0123456789")
    said = spoken("es", english)
    assert said != english
    assert said.startswith("Ana Ruiz (user:7) ") and said.endswith(".")
    assert ("0123456789" in said) == ("0123456789" in english)
    assert spoken("es", audit_sentences.sentence(verb, "gateway", "x")).startswith("la pasarela ")


def test_no_spanish_of_the_audit_or_of_advice_is_left_over() -> None:
    verbs = {
        audit_sentences.sentence(verb, "%(actor)s", "%(subject)s").removesuffix(".")
        for verb in audit_sentences.VERBS
    }
    assert entries("audit.po") == verbs
    advice = {diagnosis.advice(code).removesuffix(".") for code in diagnosis.CODES}
    advice.add(diagnosis.advice("something else").removesuffix("."))
    assert entries("diagnosis.po") == advice
    for one in advice:
        assert spoken("es", f"{one}.") != f"{one}."
    said = f"{diagnosis.advice('relay_away')} Then try again. (relay_away)"
    assert spoken("es", said).startswith("No se oye al relé.")
    assert spoken("es", said).endswith("Después inténtelo de nuevo. (relay_away)")


def test_every_notice_has_its_spanish() -> None:
    assert set(SENTENCES) == set(Notice)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("presence", Presence),
        ("service", State),
        ("reason", Reason),
        ("role", Role),
        ("ended", Ended),
        ("hop", Hop),
        ("hop_state", HopState),
        ("command", Verb),
        ("outcome", Outcome),
    ],
)
def test_every_value_of_a_closed_list_has_a_word(name: str, kind: type[Enum]) -> None:
    assert {str(one.value) for one in kind} <= set(LISTS[name])


def test_every_word_has_its_spanish() -> None:
    wanted = {word for words in LISTS.values() for word in words.values()}
    assert entries("words.po") == wanted
    assert word_of("en", "session", "open") == "open"
    assert word_of("es", "session", "open") == "abierta"
    assert word_of("es", "reason", Reason.NO_CREDIT) == "sin créditos"
    assert word_of("es", "reason", "something new") == "something new"


def test_words_within_refusals_are_complete() -> None:
    for context, kind in (("kind", Kind), ("role", Role), ("ended", Ended)):
        known = {str(one.id) for one in catalog_of("es") if one.context == f"{SAID}:{context}"}
        assert known == {str(one.value) for one in kind}


def test_nothing_strange_goes_without_end() -> None:
    for strange in (
        "x: " * 600,
        "serial: " * 240,
        "a (asked " * 200,
        "because " * 240,
        "; note: " * 240,
        "'a': " * 390,
        "1 credit went over to a, because " * 60,
        f"a was activated for 1 credit, paid by a (asked {'b, then ' * 230}c), because",
    ):
        assert len(strange) <= LENGTH_MAX
        assert spoken("es", strange)
    assert spoken("es", "x" * (LENGTH_MAX + 1)) == "x" * (LENGTH_MAX + 1)
