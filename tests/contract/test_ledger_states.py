"""The second table of `docs/ledger.md`: what else is done to a device, in each of its states."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.domain.refusals import STATUS, Refused
from tests.contract.tables import tables
from tests.contract.test_registering import MAKING, MINE, Place, S
from tests.contract.world import OPERATIONS, World

pytestmark = pytest.mark.either_engine

NEW, BROKEN = "2200000002", "2200000003"
TABLES = tables("ledger.md")
COLUMNS = (
    "move keep",
    "move leave",
    "replace it",
    "replace another by it",
    "forget",
    "give days",
    "switch off",
    "switch off and on",
)
STATES = TABLES[" | ".join(("state", *COLUMNS))]


def move_keep(place: Place) -> dict[str, Any]:
    return _moved(place, "keep")


def move_leave(place: Place) -> dict[str, Any]:
    return _moved(place, "leave")


def _moved(place: Place, history: str) -> dict[str, Any]:
    below = place.world.company("Below", place.mine)
    return _asked(place, "devices.move", serial=S, company_id=below, history=history)


def replace_it(place: Place) -> dict[str, Any]:
    return _asked(place, "devices.replace", broken=S, serial=NEW)


def replace_another_by_it(place: Place) -> dict[str, Any]:
    place.world.register(BROKEN, place.mine, activate="later")
    return _asked(place, "devices.replace", broken=BROKEN, serial=S)


def forget(place: Place) -> dict[str, Any]:
    return _asked(place, "devices.forget", serial=S)


def give_days(place: Place) -> dict[str, Any]:
    return _asked(place, "credits.give", serial=S, days=5)


def switch_off(place: Place) -> dict[str, Any]:
    return _asked(place, "devices.switch-off", serial=S)


def switch_off_and_on(place: Place) -> dict[str, Any]:
    switch_off(place)
    return _asked(place, "devices.switch-on", serial=S)


def _asked(place: Place, name: str, **given: Any) -> dict[str, Any]:
    answer = place.world.do(name, person=MINE, **given)
    return {"status": OPERATIONS[name].status, **answer}


_EACH = (
    move_keep,
    move_leave,
    replace_it,
    replace_another_by_it,
    forget,
    give_days,
    switch_off,
    switch_off_and_on,
)
DOING: dict[str, Callable[[Place], dict[str, Any]]] = dict(zip(COLUMNS, _EACH, strict=True))


def outcome(place: Place, column: str) -> str:
    """What the table says in its cell."""
    try:
        answer = DOING[column](place)
    except Refused as refused:
        return f"{STATUS[refused.code][0]} {refused.code.value}"
    status = answer["status"]
    if "days_forfeited" in answer:
        parts = [
            f"{what} {answer[f'days_{what}']}"
            for what in ("returned", "forfeited", "used")
            if answer[f"days_{what}"]
        ]
        return f"{status} {', '.join(parts) or 'nothing'}"
    shown = place.world.device(NEW if column == "replace it" else S)["service"]
    left = "" if shown["days_left"] in (None, 0) else f", {shown['days_left']} left"
    return f"{status} {shown['state']}/{shown['reason']}{left}"


CELLS = [(row["state"], column) for row in STATES for column in COLUMNS]


def test_the_second_table_is_whole() -> None:
    assert [row["state"] for row in STATES] == list(MAKING)


@pytest.mark.parametrize(("state", "column"), CELLS)
def test_each_cell_of_the_second_table(world: World, state: str, column: str) -> None:
    place = Place(world)
    MAKING[state](place)
    world.grant(place.mine, 2)  # and the job has not come by
    said = next(row[column] for row in STATES if row["state"] == state)
    held = world.pools(place.mine)
    assert outcome(place, column) == said
    if said[0] == "4":
        assert world.pools(place.mine) == held
    world.jobs()
