"""A dry run says what an operation would do, with its refusals, and nothing of it is kept."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from gateway.domain.refusals import Refused
from gateway.operations.dry_run import TriedOut
from gateway.operations.registry import operations
from gateway.storage.schema import device, metadata
from gateway.storage.transaction import Signal, Transaction
from tests.contract.world import OPERATIONS, World

S = "0000000001"


def everything(world: World) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table but what ticks by itself."""

    def read(tx: Transaction) -> dict[str, list[tuple[Any, ...]]]:
        return {
            table.name: sorted((tuple(row) for row in tx.all(select(table))), key=repr)
            for table in metadata.sorted_tables
        }

    return world.read(read)


@pytest.fixture
def chain(world: World) -> dict[str, str]:
    """Three levels; the top pays for all, person 2 administers the middle, person 3 the bottom."""
    top = world.company("Top Secret Ltd")
    middle = world.company("Middle", top, use_parent_credits=True)
    bottom = world.company("Bottom", middle, use_parent_credits=True)
    world.grant(top, 5)
    world.one_person(2, middle, "administrator")
    world.one_person(3, bottom, "administrator")
    return {"top": top, "middle": middle, "bottom": bottom}


def test_what_would_happen_is_what_happens(world: World, chain: dict[str, str]) -> None:
    before = everything(world)
    tried = world.dry_run("devices.register", serial=S, company_id=chain["bottom"], activate=True)
    assert everything(world) == before
    done = world.do("devices.register", serial=S, company_id=chain["bottom"], activate=True)
    assert tried["dry_run"] is True and tried["would"] == done
    (said,), (booked,) = tried["transfers"], world.ledger(serial=S)
    for name in ("id", "operation_id", "from_account", "to_account"):
        assert isinstance(said.pop(name), str) and booked.pop(name)
    assert said == booked
    assert "Top Secret Ltd" in said["sentence"]
    assert tried["transfer_count"] == 1
    assert tried["left"] == [{"company_id": chain["top"], "days": 120, "credits": 4}]


def test_what_is_left_above_is_not_told(world: World, chain: dict[str, str]) -> None:
    given = {"serial": S, "company_id": chain["bottom"], "activate": True}
    tried = world.dry_run("devices.register", person=3, **given)
    assert tried["left"] == [{"company_id": "above", "days": None, "credits": None}]
    assert "Top" not in repr(tried)  # the direct parent may be named, and pays nothing
    (said,) = tried["transfers"]
    assert said["payer_company_id"] is None and said["from_account"] == "above"


def test_refusals_are_the_same(world: World, chain: dict[str, str]) -> None:
    world.register(S, chain["bottom"], "later")
    world.one_person(4, world.company("Elsewhere"), "administrator")
    for name, given, person in (
        ("devices.activate", {"serial": S, "credits": 6}, 1),
        ("devices.activate", {"serial": S}, 4),
        ("devices.extend", {"serial": S}, 1),
        ("devices.unregister", {"serial": "9999999999"}, 1),
        ("credits.grant", {"company_id": chain["top"], "credits": 1}, 2),
        ("devices.register", {"serial": S, "company_id": chain["top"], "activate": True}, 1),
    ):
        with pytest.raises(Refused) as tried:
            world.dry_run(name, person=person, **given)
        with pytest.raises(Refused) as done:
            world.do(name, person=person, **given)
        assert (tried.value.code, tried.value.detail) == (done.value.code, done.value.detail)


def test_the_answer_of_every_operation_without_effect(world: World, chain: dict[str, str]) -> None:
    world.register(S, chain["middle"], True)
    world.heartbeat(S)
    before = everything(world)
    tried = [
        world.dry_run("credits.grant", company_id=chain["bottom"], days=7, note="=cmd()"),
        world.dry_run("devices.extend", serial=S, credits=2),
        world.dry_run("devices.unregister", serial=S),
    ]
    assert everything(world) == before
    grant, extend, unregister = tried
    assert grant["left"] == [{"company_id": chain["bottom"], "days": 7, "credits": 0}]
    assert extend["would"]["service"]["days_left"] == 90
    assert extend["left"][0]["days"] == 60
    assert {row["kind"] for row in unregister["transfers"]} == {"forfeit"}
    assert unregister["left"] == []  # no pool changed


def test_many_at_once_share_a_commit_with_real_ones(world: World, chain: dict[str, str]) -> None:
    world.grant(chain["top"], 5)
    works = [
        (world.trying if number % 2 else world.work)(
            "devices.register", serial=f"{number:010d}", company_id=chain["top"], activate=True
        )
        for number in range(20)
    ]
    results = world.together(works)
    # Those whose turn comes last find no credit left.
    assert all(isinstance(one, TriedOut | Refused) for one in results[1::2])
    assert not any(isinstance(one, BaseException) for one in results[::2])
    assert world.pools(chain["top"]) == 0
    registered = select(func.count()).select_from(device).where(device.c.registered)
    assert world.read(lambda tx: tx.scalar(registered)) == 10


def test_nobody_is_woken(world: World, chain: dict[str, str]) -> None:
    woken: list[str] = []
    for signal in Signal:
        world.store.listen(signal, lambda: woken.append("x"))
    world.dry_run("credits.grant", company_id=chain["top"], credits=1)
    world.dry_run("devices.register", serial=S, company_id=chain["top"], activate=True)
    assert woken == []


def test_whatever_books_is_announced_as_such(world: World, chain: dict[str, str]) -> None:
    """The registry says so itself when an operation books days that is not marked."""
    op = OPERATIONS["credits.grant"]
    OPERATIONS["credits.grant"] = replace(op, moves_credits=False)
    try:
        with pytest.raises(AssertionError, match="moves_credits=True"):
            world.grant(chain["top"], 1)
    finally:
        OPERATIONS["credits.grant"] = op
    assert world.pools(chain["top"]) == 150


def test_only_what_may_move_credits_can_be_tried_out() -> None:
    marked = {op.name for op in operations() if op.moves_credits}
    assert {"credits.grant", "devices.register", "devices.unregister"} <= marked
    assert not {"companies.list", "devices.show", "sessions.open", "clock.accept"} & marked
    assert not any(op.method == "GET" for op in operations() if op.moves_credits)
