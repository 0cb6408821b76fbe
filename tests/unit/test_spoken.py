"""Sentences of the ledger in Spanish: every kind, with whatever names and notes people gave."""

import re

import pytest

from gateway.domain.ledger import CAUSES, Kind, Told, sentence
from gateway.web.spoken import LENGTH_MAX, spoken

_ENGLISH = re.compile(
    r"\b(?:was|were|went|because|paid|asked|credits?|days?|free|note|then|used|into|above)\b"
)


def told(kind: Kind, cause: str, days: int, *, free: bool, note: str, path: list[str]) -> str:
    source, target = "Uno SA", "Dos & Cía."
    payer, serial = path[-1], "0123456789"
    to = None if kind is Kind.CLOSE and free else target
    return sentence(
        Told(kind, days, "Grúas del Sur", serial, payer, path, cause, free, note, source, to)
    )


@pytest.mark.parametrize("kind", list(Kind))
def test_every_sentence_has_its_spanish(kind: Kind) -> None:
    chains = (["Grúas del Sur"], ["A", "B", "a company above"])
    for cause in CAUSES:
        for days in (1, 30, 31, 95, 600):
            for free, note, path in ((False, "", chains[0]), (True, "para Ana; nota", chains[1])):
                english = told(kind, cause, days, free=free, note=note, path=path)
                said = spoken("es", english)
                assert not _ENGLISH.search(said), (english, said)
                assert said.endswith(f"; nota: {note}." if note else ".")
                assert spoken("en", english) == english
    if kind in (Kind.MOVE, Kind.CLOSE):
        assert "Dos & Cía." in spoken(
            "es", told(kind, "operator", 30, free=False, note="", path=chains[0])
        )


def test_names_stay_what_they_are() -> None:
    english = "free 2 credits and 1 day of <b>x</b>\n%(amount)s went to a, then b."
    said = spoken("es", english)
    assert said == "Traspaso de 2 créditos y 1 día gratis de <b>x</b>\n%(amount)s a a, then b."
    asked = (
        "0123456789 was activated for 1 credit, paid by C (asked A, then B, then C), "
        f"{CAUSES['operator']}."
    )
    assert spoken("es", asked) == (
        "0123456789 se activó por 1 crédito, a cargo de C (se preguntó a A, luego a B, luego a C)"
        ", porque alguien lo pidió."
    )
    strange = "Something that nobody has translated " * 3
    assert spoken("es", strange) == strange
    assert len(spoken("es", "x was given " * 1_000)) > LENGTH_MAX
