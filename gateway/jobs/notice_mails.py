"""Mails to people what their companies were told: at most one an hour, with all of that hour.

A request for credits goes out at once and by itself, since somebody waits for the answer.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select

from gateway.domain.instants import HOUR_MS, SECOND_MS
from gateway.domain.notices import Facts, Notice, notice_sentence
from gateway.domain.notices_spanish import spanish_sentence
from gateway.domain.rights import Right, roles_with
from gateway.operations.mailing import WAITING_MAX, language_of, queue_mail, waiting
from gateway.operations.registry import Site
from gateway.people.memberships import in_force
from gateway.storage.schema import company, mail, membership, notice, notice_due, person
from gateway.storage.transaction import AnyRow, Transaction

PEOPLE_AT_ONCE = 20
ROWS_AT_ONCE = 500
LINES_MAX = 50
GATHER_MS = 30 * SECOND_MS  # what happens together is told together
REQUESTS_PER_HOUR = 10  # as mails of their own: a child that asks again and again fills one list
SENTENCES: dict[str, Callable[[Notice, str, Facts], str]] = {
    "en": notice_sentence,
    "es": spanish_sentence,
}
_REQUESTED = Notice.CREDITS_REQUESTED.value


def _of_this_hour(tx: Transaction, template: str, person_id: Any) -> ColumnElement[bool]:
    return and_(
        mail.c.person_id == person_id,
        mail.c.template == template,
        mail.c.created_at > tx.now_ms - HOUR_MS,
        mail.c.created_at <= tx.now_ms,
    )


def _requests_of_this_hour(tx: Transaction, person_id: Any) -> Any:
    return (
        select(func.count())
        .select_from(mail)
        .where(_of_this_hour(tx, "credit_request", person_id))
        .scalar_subquery()
    )


def people_due(tx: Transaction) -> Sequence[int]:
    """Some people to whom a mail may go now; asked often, so it only reads."""
    who = notice_due.c.person_id
    at_once = and_(notice.c.kind == _REQUESTED, _requests_of_this_hour(tx, who) < REQUESTS_PER_HOUR)
    gathered = and_(
        # A clock that ran ahead does not hold a notice back for long.
        or_(notice.c.at <= tx.now_ms - GATHER_MS, notice.c.at > tx.now_ms + HOUR_MS),
        ~exists().where(_of_this_hour(tx, "notice", who)),
    )
    statement = (
        select(who)
        .join(notice, notice.c.id == notice_due.c.notice_id)
        .where(or_(at_once, gathered))
        .distinct()
        .limit(PEOPLE_AT_ONCE)
    )
    return [row.person_id for row in tx.all(statement)]


def queue_for(tx: Transaction, people: Sequence[int], site: Site) -> int:
    """Queues what these people are to be mailed; how many mails."""
    if not tx.alone("notice mails") or waiting(tx) > WAITING_MAX // 2:
        return 0  # people's own mails find room, too
    return sum(_queue_for_one(tx, site, person_id) for person_id in people)


def _queue_for_one(tx: Transaction, site: Site, person_id: int) -> int:
    rows = tx.all(_of_person(tx, person_id))
    _forget(tx, person_id, [row.id for row in rows if not row.reads])
    rows = [row for row in rows if row.reads]
    if not rows:
        return 0
    already = tx.scalar(select(_requests_of_this_hour(tx, person_id)))
    requests = [row for row in rows if row.kind == _REQUESTED]
    single = requests[: max(0, REQUESTS_PER_HOUR - already)]
    for row in single:
        _queue_request(tx, site, person_id, row)
    _forget(tx, person_id, [row.id for row in single])
    rest = [row for row in rows if row not in single]
    ripe = any(not 0 <= tx.now_ms - row.at < GATHER_MS for row in rest)
    if not ripe or tx.scalar(select(mail.c.id).where(_of_this_hour(tx, "notice", person_id))):
        return len(single)
    _queue_list(tx, site, person_id, rest)
    _forget(tx, person_id, [row.id for row in rest])
    return len(single) + 1


def _of_person(tx: Transaction, person_id: int) -> Any:
    """Notices with their companies; `reads`: whether the person still may."""
    reader = and_(
        membership.c.company_id == notice.c.company_id,
        membership.c.person_id == person_id,
        membership.c.role.in_([role.value for role in roles_with(Right.SEE_CREDITS)]),
        in_force(tx.now_ms),
    )
    return (
        select(
            notice,
            company.c.name.label("company"),
            person.c.email,
            and_(membership.c.id.is_not(None), person.c.erased_at.is_(None)).label("reads"),
        )
        .select_from(notice_due)
        .join(notice, notice.c.id == notice_due.c.notice_id)
        .join(company, company.c.id == notice.c.company_id)
        .join(person, person.c.id == notice_due.c.person_id)
        .outerjoin(membership, reader)
        .where(notice_due.c.person_id == person_id)
        .order_by(notice.c.id)
        .limit(ROWS_AT_ONCE)
    )


def _forget(tx: Transaction, person_id: int, notices: Sequence[int]) -> None:
    if notices:
        tx.run(
            delete(notice_due).where(
                notice_due.c.person_id == person_id, notice_due.c.notice_id.in_(notices)
            )
        )


def _sentence(row: AnyRow, language: str) -> str:
    return SENTENCES[language](Notice(row.kind), row.subject, json.loads(row.detail))


def _queue_request(tx: Transaction, site: Site, person_id: int, row: AnyRow) -> None:
    language = language_of(tx, person_id, row.company_id)
    values = {
        "company": row.company,
        "sentence": _sentence(row, language),
        "link": f"{site.public_url}/",
    }
    queue_mail(
        tx,
        site=site,
        template="credit_request",
        recipient=row.email,
        language=language,
        values=values,
        person_id=person_id,
        company_id=row.company_id,
    )


def _queue_list(tx: Transaction, site: Site, person_id: int, rows: Sequence[AnyRow]) -> None:
    language = language_of(tx, person_id, rows[0].company_id)
    lines = [
        {"company": row.company, "sentence": _sentence(row, language)} for row in rows[:LINES_MAX]
    ]
    values = {
        "notices": json.dumps(lines),
        "count": str(len(rows)),
        "link": f"{site.public_url}/",
    }
    queue_mail(
        tx,
        site=site,
        template="notice",
        recipient=rows[0].email,
        language=language,
        values=values,
        person_id=person_id,
        company_id=rows[0].company_id,
    )
