"""Notices: told once, listed for the company's own people and those above, and for nobody else."""

import re
from functools import partial
from typing import Any

from gateway.domain.notices import Notice, notice_sentence
from gateway.operations.announcing import tell
from gateway.storage.transaction import Transaction
from tests.contract.world import World

BOSS, CHILD, STRANGER = 2, 3, 4


def told(world: World, company: str, key: str, kind: Notice, **detail: Any) -> bool:
    def write(tx: Transaction) -> bool:
        return tell(tx, int(company), kind, "1234567890", detail, key)

    return world.write(write)


def test_what_is_told_twice_is_told_once(world: World) -> None:
    acme, other = world.company("Acme"), world.company("Other")
    assert told(world, acme, "k1", Notice.GRACE_BEGAN)
    assert not told(world, acme, "k1", Notice.GRACE_BEGAN)
    assert told(world, acme, "k2", Notice.DEVICE_UNHEARD)
    assert world.do("notices.list", company_id=other)["items"] == []
    kinds = [one["kind"] for one in world.do("notices.list", company_id=acme)["items"]]
    assert kinds == ["device_unheard", "grace_began"]


def test_two_that_tell_at_once_tell_it_once(world: World) -> None:
    acme = int(world.company("Acme"))

    def write(n: int, tx: Transaction) -> bool:
        return tell(tx, acme, Notice.CREDITS_RUN_DRY, "x", {"n": n}, "same")

    assert sorted(world.together([partial(write, n) for n in range(4)])) == [False] * 3 + [True]


def test_pages_go_from_the_newest_to_the_oldest(world: World) -> None:
    acme = world.company("Acme")
    for n in range(5):
        told(world, acme, f"k{n}", Notice.LOT_EXPIRES, days=30 + n)
    seen: list[int] = []
    cursor = ""
    while True:
        page = world.do("notices.list", company_id=acme, limit=2, cursor=cursor)
        seen += [one["detail"]["days"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [34, 33, 32, 31, 30]


def test_whose_they_are_and_who_is_above_read_them(world: World) -> None:
    top = world.company("Top")
    low = world.company("Low", top)
    world.one_person(BOSS, top, "billing")
    world.one_person(CHILD, low, "administrator")
    world.one_person(STRANGER, world.company("Other"), "administrator")
    told(world, top, "top", Notice.CREDITS_RUN_DRY, days_left=3)
    told(world, low, "low", Notice.CREDITS_RUN_DRY, days_left=7)
    for person, company, answer in (
        (BOSS, top, "ok"),
        (BOSS, low, "ok"),
        (CHILD, low, "ok"),
        (CHILD, top, "not_found"),
        (STRANGER, low, "not_found"),
        (STRANGER, "999999", "not_found"),
    ):
        assert world.ask("notices.list", person=person, company_id=company) == answer


def test_each_kind_says_a_sentence_whatever_is_known() -> None:
    for kind in Notice:
        for facts in ({}, {"days": 45, "days_left": 3, "on": "2027-01-31", "note": "see you"}):
            text = notice_sentence(kind, "1234567890", facts)
            assert re.fullmatch(r"\S.*[^.\s]\.", text) and "None" not in text, kind
