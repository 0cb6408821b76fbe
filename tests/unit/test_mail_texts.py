"""The words of mails: every template and every notice in every language, and nothing else in it."""

import json
from pathlib import Path

import pytest

from gateway.domain.instants import DAY_MS, MINUTE_MS
from gateway.domain.mails import (
    GIVEN_UP_AFTER_MS,
    LANGUAGES,
    TEMPLATES,
    mail_language,
    next_try_ms,
    one_line,
)
from gateway.domain.notices import Notice
from gateway.domain.rights import Role
from gateway.jobs.notice_mails import SENTENCES
from gateway.people import mail_texts
from gateway.people.accounts import is_email
from gateway.people.mail_texts import FOOTERS, ROLES, words_of_mail
from gateway.people.smtp import cleaned_reason, with_plain_domain
from gateway.web.statement_texts import LANGUAGES as STATEMENT_LANGUAGES

SITE = "https://fleet.example.org"
GIVEN = {
    "link": f"{SITE}/x",
    "company": "Acme",
    "company_id": "7",
    "role": "basic",
    "person": "ann@example.org",
    "at": "2027-01-15T12:30:00.000Z",
    "notices": json.dumps([{"company": "Acme", "sentence": "It rains."}]),
    "count": "3",
    "sentence": "Low asks for 5 credits.",
    "month": "2027-01",
}
FACTS = [
    {},
    {
        "days": 45,
        "by": "user:1",
        "reason": "because",
        "company": "Acme",
        "percent": 80,
        "limit": 10,
        "on": "2027-02-01",
        "days_left": 1,
        "until": "2027-02-01",
        "serial": "1100000002",
        "forfeited": 3,
        "state": "refused",
        "into": "code",
        "note": "hello",
    },
    {"days": 30, "days_left": 7, "state": "accepted"},
]


def words(template: str, language: str, **more: str) -> mail_texts.Words:
    given = {key: GIVEN[key] for key in TEMPLATES[template]}
    return words_of_mail(template, language, {**given, **more}, SITE)


def test_every_template_is_there_in_every_language_and_no_other() -> None:
    room = Path(mail_texts.__file__).parent / "mail_templates"
    expected = {f"{name}.{language}.txt" for name in TEMPLATES for language in LANGUAGES}
    assert {path.name for path in room.iterdir()} == expected | {"layout.html"}
    assert set(ROLES) == set(FOOTERS) == set(SENTENCES) == set(LANGUAGES)
    assert set(LANGUAGES) <= set(STATEMENT_LANGUAGES)
    assert all(set(ROLES[language]) == set(Role) for language in LANGUAGES)


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_each_has_a_subject_a_text_and_html_of_its_own_language(template: str) -> None:
    made = [words(template, language) for language in LANGUAGES]
    for one, language in zip(made, LANGUAGES, strict=True):
        assert one.subject and "\n" not in one.subject
        assert f'<html lang="{language}">' in one.html
        assert "{" not in one.text and "None" not in one.text
        link = GIVEN["link"] if "link" in TEMPLATES[template] else SITE
        assert f"\n\n{link}\n\n" in one.text and f'href="{link}"' in one.html
        # Every address in it is the configured one.
        assert one.html.count("href=") == 1
    assert len({one.text for one in made}) == len({one.subject for one in made}) == len(LANGUAGES)


def test_what_may_be_given_besides() -> None:
    until = "2027-03-01T00:00:00.000Z"
    for language in LANGUAGES:
        text = words("invitation", language, inviter="Ben", until=until).text
        assert "Ben" in text and "2027-03-01 00:00 UTC" in text


@pytest.mark.parametrize("kind", list(Notice))
def test_every_notice_has_a_sentence_in_every_language(kind: Notice) -> None:
    for facts in FACTS:
        said = [SENTENCES[language](kind, "1100000001", facts) for language in LANGUAGES]
        assert len(set(said)) == len(LANGUAGES)
        for sentence in said:
            assert sentence.endswith(".") and "None" not in sentence and "  " not in sentence
            assert "hello" in sentence or "note" not in facts


ODD = [
    # given                            as it stands in a mail
    ("Acme", "Acme"),
    (" a \t b ", "a b"),
    ("a\r\nBcc: x", "a Bcc: x"),
    ("a\u2028b\u2029c\x85d\x00e\x1bf", "a b c d e f"),
    ("\u202eevil\u2066x\u2069\u200f", "evil x"),
    ("\U0001f469\u200d\U0001f680 España", "\U0001f469\u200d\U0001f680 España"),
    ("x" * 400, "x" * 299 + "…"),
]


@pytest.mark.parametrize(("given", "expected"), ODD)
def test_the_text_of_others_is_one_line(given: str, expected: str) -> None:
    assert one_line(given) == expected


def test_a_value_is_never_taken_for_a_template() -> None:
    made = words("invitation", "en", company="{{ link }}{% raw %}<script>")
    assert "{{ link }}{% raw %}<script>" in made.text
    assert "<script>" not in made.html


LANGUAGE_TAGS = [
    ("en", "en"),
    ("es", "es"),
    ("es-MX", "es"),
    ("ES_mx", "es"),
    ("est", ""),
    ("de", ""),
    ("", ""),
]


def test_a_language_is_known_by_its_tag() -> None:
    for tag, expected in LANGUAGE_TAGS:
        assert mail_language(tag) == expected, tag


def test_tries_end_after_two_days() -> None:
    assert [(next_try_ms(0, n, 0) or 0) // MINUTE_MS for n in range(1, 7)] == [1, 5, 15, 60, 60, 60]
    assert next_try_ms(0, 9, GIVEN_UP_AFTER_MS - 1) is not None
    assert next_try_ms(0, 9, 2 * DAY_MS) is None


def test_what_a_server_says_is_kept_without_names() -> None:
    said = "550 5.1.1 <ann.x+y@example.org>:\r\n unknown; see bob@example.org"
    assert cleaned_reason(said) == "550 5.1.1 <…@example.org>: unknown; see …@example.org"
    assert len(cleaned_reason("x" * 900)) == 300


def test_a_domain_is_spelled_as_dns_does() -> None:
    assert with_plain_domain("a@exämple.org") == "a@xn--exmple-cua.org"
    assert with_plain_domain("ä@example.org") == "ä@example.org"


ADDRESSES = [
    # address                  could be mailed
    ("ann@example.org", True),
    (" ann+x@mail.example.org ", True),
    ("jürgen@exämple.org", True),
    ("admin@localhost", True),
    ("ann", False),
    ("ann@", False),
    ("@example.org", False),
    ("a b@example.org", False),
    ("a@b@example.org", False),
    ("ann@example..org", False),
    ("ann@example.org.", False),
    ("ann@example.org>", False),
    ("ann,eve@example.org", False),
    ("ann@example.org\r\nBcc:", False),
    ('"ann"@example.org', False),
    ("ann@[127.0.0.1]", False),
    ("ann(eve)@example.org", False),
    ("x" * 250 + "@example.org", False),
]


def test_an_address_is_one_address() -> None:
    for address, expected in ADDRESSES:
        assert is_email(address) is expected, address
