"""Every operation that may move credits, tried out after some life: nothing of it is kept."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.operations.registry import operations
from tests.contract.test_dry_run import everything
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

TOP, CHILD = "1", "2"
ACTIVE, LATER, SECOND, BROKEN, NEW = (f"000000000{n}" for n in range(1, 6))


def lived(world: World) -> None:
    """Two companies, devices in several states, a credit code, a request, a replaced device."""
    assert world.company("Top") == TOP
    assert world.company("Child", TOP, use_parent_credits=True) == CHILD
    world.grant(TOP, 20)
    world.grant(CHILD, 2, free=True)
    for serial, activate in ((ACTIVE, True), (LATER, "later"), (SECOND, True), (BROKEN, True)):
        world.register(serial, CHILD, activate)
    for serial in (ACTIVE, SECOND, BROKEN):
        world.join(serial)
        world.heartbeat(serial)


def code(world: World) -> dict[str, Any]:
    made: dict[str, Any] = world.do("credit-codes.create", company_id=TOP, credits=1)
    return made


def requested(world: World) -> str:
    return str(world.do("credit-requests.create", company_id=CHILD, credits=1, note="please")["id"])


def imported(world: World) -> str:
    csv = f"serial\n{NEW}\n"
    made = world.do("devices.import", company_id=CHILD, csv=csv, activate=True)
    return str(made["id"])


def replaced(world: World) -> str:
    world.do("devices.replace", broken=BROKEN, serial=NEW)
    return NEW


def switched_off(world: World) -> str:
    return str(world.do("devices.switch-off", serial=ACTIVE)["serial"])


CASES: dict[str, Callable[[World], dict[str, Any]]] = {
    "companies.close": lambda world: {"company_id": CHILD, "devices": "move", "to": TOP},
    "credit-codes.create": lambda world: {"company_id": TOP, "credits": 1},
    "credit-codes.redeem": lambda world: {"code": code(world)["code"], "company_id": CHILD},
    "credit-codes.delete": lambda world: {"code_id": code(world)["id"]},
    "credits.give": lambda world: {"serial": LATER, "days": 3},
    "credits.grant": lambda world: {"company_id": TOP, "days": 1},
    "credits.move": lambda world: {"source": TOP, "target": CHILD, "days": 45},
    "credit-requests.accept": lambda world: {"request_id": requested(world)},
    "credits.reverse": lambda world: {
        "transfer": world.do("credits.grant", company_id=TOP, credits=1)["id"]
    },
    "devices.register": lambda world: {"serial": NEW, "company_id": CHILD, "activate": True},
    "devices.import": lambda world: {
        "company_id": CHILD,
        "csv": f"serial\n{NEW}\n",
        "activate": True,
    },
    "imports.undo": lambda world: {"import_id": imported(world)},
    "devices.move": lambda world: {"serial": ACTIVE, "company_id": TOP},
    "devices.move-many": lambda world: {"company_id": TOP, "serials": [ACTIVE, SECOND]},
    "devices.replace": lambda world: {"broken": BROKEN, "serial": NEW},
    "devices.undo-replace": lambda world: {"serial": replaced(world)},
    "devices.unregister": lambda world: {"serial": ACTIVE},
    "devices.forget": lambda world: {"serial": ACTIVE},
    "devices.change": lambda world: {"serial": ACTIVE, "auto_extend": False},
    "devices.act-many": lambda world: {"serials": [ACTIVE, SECOND], "action": "unregister"},
    "devices.activate": lambda world: {"serial": LATER, "credits": 2},
    "devices.extend": lambda world: {"serial": ACTIVE},
    "devices.switch-off": lambda world: {"serial": ACTIVE},
    "devices.switch-on": lambda world: {"serial": switched_off(world)},
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_kept_and_then_it_is_done_as_told(world: World, name: str) -> None:
    lived(world)
    given = CASES[name](world)
    before = everything(world)
    told = world.dry_run(name, **given)
    assert everything(world) == before
    done = world.do(name, **given)
    assert set(done) == set(told["would"])
    rows = world.ledger()
    added = rows[: len(rows) - len(before["transfer"])]
    assert [(row["kind"], row["days"]) for row in reversed(added)] == [
        (row["kind"], row["days"]) for row in told["transfers"]
    ]
    for one in told["left"]:
        assert world.do("companies.credits", company_id=one["company_id"])["days"] == one["days"]


def test_every_operation_that_moves_credits_is_among_them() -> None:
    marked = {op.name for op in operations() if op.moves_credits}
    assert marked == set(CASES), "give each a case above"
