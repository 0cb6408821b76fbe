"""Notices and requests for credits reach those who may read them, in their language."""

import itertools
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS
from gateway.domain.notices import Notice
from gateway.jobs import notice_mails
from gateway.operations.announcing import note_mail, tell
from gateway.storage.schema import membership, notice_due, person, setting
from tests.contract.gateways import TwoGateways
from tests.contract.mails import MAILING, delivered, mailing, rows
from tests.contract.world import World
from tests.mail_server import Mailboxes, parts_of

pytestmark = pytest.mark.either_engine

BOSS, CLERK, USER = 2, 3, 4
_keys = itertools.count()


def told(world: World, number: str, kind: Notice = Notice.GRACE_BEGAN, **detail: Any) -> None:
    key = f"k{next(_keys)}"
    world.write(lambda tx: tell(tx, int(number), kind, "1100000001", detail, key))


def acme(world: World) -> str:
    """A company with people of three roles."""
    number = mailing(world).company("Acme")
    world.write(lambda tx: tx.run(membership.delete()))  # the operator made it, and reads nothing
    for one, role in ((BOSS, "administrator"), (CLERK, "billing"), (USER, "advanced")):
        world.one_person(one, number, role)
    return number


def below(world: World, number: str) -> str:
    return str(world.do("companies.create", person=BOSS, name="Low", parent_id=number)["id"])


def recipients(boxes: Mailboxes) -> list[str]:
    return sorted(one for one, _ in boxes.arrived)


def waiting(world: World) -> int:
    asked = select(func.count()).select_from(notice_due)
    return int(world.read(lambda tx: tx.scalar(asked)))


def test_administrators_and_billing_are_told_in_one_mail_an_hour(world: World) -> None:
    number = acme(world)
    told(world, number)
    told(world, number, Notice.DEVICE_UNHEARD)
    assert delivered(world).arrived == []  # what happens together is told together
    world.now_ms += MINUTE_MS
    boxes = delivered(world)
    assert recipients(boxes) == ["person2@example.org", "person3@example.org"]
    assert boxes.subjects() == ["2 notices", "2 notices"]
    text, page = parts_of(boxes.arrived[0][1])
    assert "- Acme: Nobody could pay for 1100000001" in text and "silent" in page
    told(world, number)
    world.now_ms += 58 * MINUTE_MS
    assert delivered(world).arrived == []
    world.now_ms += 2 * MINUTE_MS
    boxes = delivered(world)
    assert len(boxes.arrived) == 2 and boxes.subjects()[0] == "Acme: a notice"
    assert waiting(world) == 0


def test_several_companies_of_a_person_share_the_mail(world: World) -> None:
    first = acme(world)
    second = world.company("Beta")
    world.write(
        lambda tx: tx.run(
            insert(membership),
            {"person_id": BOSS, "company_id": int(second), "role": "billing", "created_at": 0},
        )
    )
    told(world, first)
    told(world, second)
    world.now_ms += MINUTE_MS
    mails = dict(delivered(world).arrived)
    text = parts_of(mails["person2@example.org"])[0]
    assert "- Acme:" in text and "- Beta:" in text


def test_who_is_gone_meanwhile_is_told_nothing(world: World) -> None:
    number = acme(world)
    told(world, number)
    world.write(
        lambda tx: tx.run(
            update(membership).where(membership.c.person_id == BOSS).values(until=tx.now_ms + 1)
        )
    )
    world.write(
        lambda tx: tx.run(update(person).where(person.c.id == CLERK).values(erased_at=tx.now_ms))
    )
    world.now_ms += MINUTE_MS
    assert delivered(world).arrived == []
    assert waiting(world) == 0


def test_the_language_is_the_persons_or_the_companys(world: World) -> None:
    number = acme(world)
    low = below(world, number)
    world.write(
        lambda tx: tx.run(
            insert(setting),
            {"company_id": int(number), "key": "language", "value": '"es"', "set_at": 0},
        )
    )
    world.write(lambda tx: tx.run(update(person).where(person.c.id == CLERK).values(language="en")))
    world.write(
        lambda tx: tx.run(
            insert(membership),
            {"person_id": USER, "company_id": int(low), "role": "billing", "created_at": 0},
        )
    )
    told(world, number, Notice.CREDITS_TAKEN_BACK, days=45, reason="sin pagar")
    told(world, low, Notice.LOT_EXPIRES, days=30)
    world.now_ms += MINUTE_MS
    mails = dict(delivered(world).arrived)
    spanish = mails["person2@example.org"]
    assert spanish["Content-Language"] == "es" and spanish["Subject"] == "Acme: un aviso"
    assert "Se retiraron 1 crédito y 15 días: sin pagar" in parts_of(spanish)[0]
    assert mails["person3@example.org"]["Content-Language"] == "en"
    assert mails["person4@example.org"]["Content-Language"] == "es"  # from the company above


def test_a_request_for_credits_goes_out_at_once_and_by_itself(world: World) -> None:
    number = acme(world)
    low = below(world, number)
    world.do("credit-requests.create", person=BOSS, company_id=low, credits=5, note="for June")
    boxes = delivered(world)
    assert recipients(boxes) == ["person2@example.org", "person3@example.org"]
    text = parts_of(boxes.arrived[0][1])[0]
    assert (
        "Low asks for 5 credits; note: for June." in text and "https://fleet.example.org/" in text
    )
    assert delivered(world).arrived == []


def test_a_child_that_asks_again_and_again_fills_one_list(world: World) -> None:
    number = acme(world)
    for _ in range(notice_mails.REQUESTS_PER_HOUR + 5):
        told(world, number, Notice.CREDITS_REQUESTED, days=30, company="Low")
        world.now_ms += MINUTE_MS
        boxes = delivered(world)
        assert len(boxes.arrived) <= 2
    counted = [row.template for row in rows(world) if row.person_id == BOSS]
    assert counted.count("credit_request") == notice_mails.REQUESTS_PER_HOUR
    assert counted.count("notice") == 1


def test_a_long_list_says_how_many_more_there_are(world: World) -> None:
    number = acme(world)
    for _ in range(notice_mails.LINES_MAX + 7):
        told(world, number)
    world.now_ms += MINUTE_MS
    (first, _) = delivered(world).arrived
    text = parts_of(first[1])[0]
    assert text.count("- Acme:") == notice_mails.LINES_MAX and "And 7 more." in text


def test_without_a_mail_server_nothing_waits(world: World) -> None:
    number = acme(world)
    told(world, number)
    assert waiting(world) == 2
    world.write(lambda tx: note_mail(tx, on=False))
    told(world, number)
    assert waiting(world) == 0


def test_two_gateways_queue_it_once(two: TwoGateways) -> None:
    world = two.world
    number = acme(world)
    told(world, number)
    world.now_ms += MINUTE_MS
    people = world.read(notice_mails.people_due)
    assert sorted(people) == [BOSS, CLERK]
    two.at_once([lambda tx: notice_mails.queue_for(tx, people, MAILING)] * 6)
    assert sorted(row.person_id for row in rows(world)) == [BOSS, CLERK]


def test_a_clock_that_went_back_keeps_no_notice(world: World) -> None:
    number = acme(world)
    world.now_ms += 300 * DAY_MS
    told(world, number)
    world.now_ms -= 300 * DAY_MS - HOUR_MS
    assert len(delivered(world).arrived) == 2
