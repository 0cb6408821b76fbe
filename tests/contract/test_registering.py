"""The table of `docs/ledger.md`: each state is made for real, each operation runs in it."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import select

from gateway.domain.instants import DAY_MS, HOUR_MS, SECOND_MS
from gateway.domain.refusals import STATUS, Code, Refused
from gateway.storage.schema import device
from gateway.storage.transaction import AnyRow, Transaction
from tests.contract.tables import tables
from tests.contract.world import OPERATIONS, World

pytestmark = pytest.mark.either_engine

S = "1100000001"
MINE, OTHER = 2, 3  # people
HALF_DAY_MS = DAY_MS // 2
TABLES = tables("ledger.md")
OPERATION_COLUMNS = 'register true | register "on_contact" | activate | extend | unregister'
STATES = TABLES[f"state | {OPERATION_COLUMNS}"]
PAYERS = TABLES[f"the payer | {OPERATION_COLUMNS.removesuffix(' | unregister')}"]


class Place:
    """Two root companies with an administrator each, who do not see each other."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.mine = world.company("Mine")
        self.other = world.company("Other")
        world.one_person(MINE, self.mine, "administrator")
        world.one_person(OTHER, self.other, "administrator")

    def begin(self, activate: bool | str, *, joined: bool = True, person: int = MINE) -> None:
        company_id = self.mine if person == MINE else self.other
        self.world.do(
            "devices.register", person=person, serial=S, company_id=company_id, activate=activate
        )
        if joined:
            self.world.join_as(S, person)

    def end(self, person: int = MINE) -> None:
        self.world.do("devices.unregister", person=person, serial=S)

    def served(self, credits: int = 1) -> None:
        self.world.grant(self.mine, credits)
        self.begin("on_contact")
        self.world.heartbeat(S)


def unknown(place: Place) -> None:
    pass


def registered(place: Place) -> None:
    place.begin("later")


def never_heard(place: Place) -> None:
    place.world.grant(place.mine, 1)
    place.begin(True)
    place.world.live(HALF_DAY_MS)


def active(place: Place) -> None:
    place.served()
    place.world.live(12 * DAY_MS + 12 * HOUR_MS)


def grace(place: Place) -> None:
    place.served()
    place.world.live(30 * DAY_MS)
    place.world.live(DAY_MS)
    assert place.world.service(S) == ("active", "grace")


def unpaid(place: Place) -> None:
    grace(place)
    place.world.heartbeat(S)
    place.world.live(3 * DAY_MS)
    assert place.world.service(S) == ("unpaid", "no_credit")


def off(place: Place) -> None:
    place.served()
    place.world.do("devices.change", serial=S, auto_extend=False)
    place.world.live(30 * DAY_MS)
    assert place.world.service(S) == ("off", "not_activated")


def dormant(place: Place) -> None:
    place.served()
    place.end()
    place.world.live(DAY_MS)


def dormant_too_long(place: Place) -> None:
    place.served()
    place.end()
    place.world.live(91 * DAY_MS)


def dormant_never_joined(place: Place) -> None:
    place.begin("later", joined=False)
    place.end()


def held_elsewhere(place: Place) -> None:
    place.begin("later", person=OTHER)


def lapsed_elsewhere(place: Place) -> None:
    place.begin("later", person=OTHER, joined=False)
    place.world.live(30 * DAY_MS)


def dormant_elsewhere(place: Place) -> None:
    place.begin("later", person=OTHER)
    place.end(person=OTHER)
    place.world.live(DAY_MS)


MAKING: dict[str, Callable[[Place], None]] = {
    function.__name__.replace("dormant_never", "dormant,_never").replace("_", " "): function
    for function in (
        unknown,
        registered,
        never_heard,
        active,
        grace,
        unpaid,
        off,
        dormant,
        dormant_too_long,
        dormant_never_joined,
        held_elsewhere,
        lapsed_elsewhere,
        dormant_elsewhere,
    )
}
DOING: dict[str, tuple[str, dict[str, Any]]] = {
    "register true": ("devices.register", {"activate": True}),
    'register "on_contact"': ("devices.register", {"activate": "on_contact"}),
    "activate": ("devices.activate", {}),
    "extend": ("devices.extend", {}),
    "unregister": ("devices.unregister", {}),
}


def outcome(place: Place, column: str) -> str:
    """What the table says in its cell."""
    name, given = DOING[column]
    if name == "devices.register":
        given = {**given, "company_id": place.mine}
    world = place.world
    was_known = len(world.read(_tenures))
    try:
        result = world.do(name, person=MINE, serial=S, **given)
    except Refused as refused:
        return f"{STATUS[refused.code][0]} {refused.code.value}"
    status = OPERATIONS[name].status
    if name == "devices.unregister":
        parts = [
            f"{what} {result[f'days_{what}']}"
            for what in ("returned", "forfeited", "used")
            if result[f"days_{what}"]
        ]
        return f"{status} {', '.join(parts) or 'nothing'}"
    state = f"{result['service']['state']}/{result['service']['reason']}"
    if name != "devices.register":
        return f"{status} {state}"
    made = len(world.read(_tenures)) > was_known
    assert (world.login(S) is None) == made  # a new tenure has to join; a woken one need not
    return f"{status} {'new' if made else 'woken'}, {state}"


def _tenures(tx: Transaction) -> Sequence[AnyRow]:
    return tx.all(select(device.c.id).where(device.c.serial == S))


CELLS = [(row["state"], column) for row in STATES for column in DOING]


def test_the_table_is_whole() -> None:
    assert {row["state"] for row in STATES} == set(MAKING)
    named = {row["name"] for row in TABLES["name | how it came to be"]}
    assert named == set(MAKING)
    said = {cell.split(maxsplit=1)[1] for row in STATES + PAYERS for cell in list(row.values())[1:]}
    codes = {code.value for code in Code}
    assert {"serial_unavailable", "already_active", "not_active", "not_found"} <= said & codes


@pytest.mark.parametrize(("state", "column"), CELLS)
def test_each_cell(world: World, state: str, column: str) -> None:
    place = Place(world)
    MAKING[state](place)
    world.grant(place.mine, 2)  # and the job has not come by
    said = next(row[column] for row in STATES if row["state"] == state)
    before = world.read(_tenures)
    assert outcome(place, column) == said
    if said[0] == "4":
        assert world.pools(place.mine) == 60 and world.read(_tenures) == before
    world.jobs()


def short(place: Place) -> None:
    place.world.do("credits.grant", company_id=place.mine, days=29)


def limited(place: Place) -> None:
    world = place.world
    top = world.company("Top")
    world.grant(top, 10)
    world.do("companies.move", company_id=place.mine, parent_id=top, use_parent_credits=True)
    world.set_company(place.mine, parent_limit=0)


def suspended(place: Place) -> None:
    place.world.grant(place.mine, 10)
    place.world.do("companies.suspend", company_id=place.mine, reason="not paid")


STOPPING = {"has 29 days": short, "is above a reached limit": limited, "is suspended": suspended}


@pytest.mark.parametrize("column", list(DOING)[:-1])
@pytest.mark.parametrize("payer", list(STOPPING))
def test_each_cell_when_nobody_pays(world: World, payer: str, column: str) -> None:
    assert {row["the payer"] for row in PAYERS} == set(STOPPING)
    place = Place(world)
    if column == "activate":
        registered(place)
    elif column == "extend":
        active(place)
    STOPPING[payer](place)
    said = next(row[column] for row in PAYERS if row["the payer"] == payer)
    transfers = len(world.ledger())
    assert outcome(place, column) == said
    assert len(world.ledger()) == transfers


def test_a_serial_that_is_taken_says_the_same_whoever_holds_it(world: World) -> None:
    place = Place(world)
    place.begin("later")
    place.world.do(
        "devices.register", person=OTHER, serial="other-1", company_id=place.other, activate="later"
    )
    said = set()
    for serial in (S, "other-1"):
        with pytest.raises(Refused) as refused:
            world.do("devices.register", person=MINE, serial=serial, company_id=place.mine)
        said.add((refused.value.code, refused.value.detail, refused.value.field))
    assert len(said) == 1


def test_waking_works_one_above_and_one_below_and_no_further(world: World) -> None:
    top = world.company("Top")
    middle = world.company("Middle", top)
    low = world.company("Low", middle)
    beside = world.company("Beside", top)
    for begin, end, woken in (
        (middle, top, True),
        (middle, low, True),
        (top, low, False),
        (middle, beside, False),
    ):
        serial = f"wake-{begin}-{end}"
        world.register(serial, begin, activate="later")
        world.join(serial)
        first = world.row(serial).id
        world.do("devices.unregister", serial=serial)
        world.register(serial, end, activate="later")
        assert (world.row(serial).id == first) is woken
        assert (world.login(serial) is not None) is woken


def test_a_stranger_who_takes_a_serial_over_sees_nothing_of_its_history(world: World) -> None:
    place = Place(world)
    place.served()
    place.end()
    world.do("devices.register", person=OTHER, serial=S, company_id=place.other, activate="later")
    assert world.do("devices.heartbeats", person=OTHER, serial=S)["items"] == []
    assert world.do("ledger.list", person=OTHER)["items"] == []
    assert world.login(S) is None
    # And the former owner has no way back but the usual one.
    assert world.ask("devices.show", person=MINE, serial=S) == "not_found"
    world.live(SECOND_MS)
