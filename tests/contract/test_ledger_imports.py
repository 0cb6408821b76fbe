"""The table of `docs/ledger.md` about imports: a serial in each state stands in a file."""

import pytest

from gateway.domain.importing import LinesRefused
from gateway.domain.refusals import STATUS
from tests.contract.tables import tables
from tests.contract.test_registering import MAKING, MINE, Place, S
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

COLUMNS = ("import it", "import it with nobody to pay", "undo the import")
STATES = tables("ledger.md")[" | ".join(("state", *COLUMNS))]
CSV = f"serial,activate\n{S},true\n"


def imported(place: Place) -> tuple[str, str]:
    """What the table says in its cell, and the import's id."""
    try:
        made = place.world.do("devices.import", person=MINE, company_id=place.mine, csv=CSV)
    except LinesRefused as refused:
        (line,) = refused.lines
        return f"{STATUS[refused.code][0]} {line.code.value}", ""
    return f"201 {made['report'][0]['outcome']}", made["id"]


def undone(place: Place, import_id: str) -> str:
    """What the undo did; it leaves no device that is registered."""
    if not import_id:
        return "–"
    done = place.world.do("imports.undo", person=MINE, import_id=import_id)
    assert done["kept"] == []
    assert place.world.do("devices.list", person=MINE)["items"] == []
    return f"200 undone {done['undone']}, returned {done['days_returned']}"


def test_the_table_of_imports_is_whole() -> None:
    assert [row["state"] for row in STATES] == list(MAKING)


@pytest.mark.parametrize("state", MAKING)
def test_each_row_of_the_table_of_imports(world: World, state: str) -> None:
    place = Place(world)
    MAKING[state](place)
    said = next(row for row in STATES if row["state"] == state)
    assert world.pools(place.mine) == 0 or state == "dormant, never joined"
    assert imported(place)[0] == said["import it with nobody to pay"]
    world.grant(place.mine, 2)
    held = world.pools(place.mine)
    found, import_id = imported(place)
    assert found == said["import it"]
    assert world.pools(place.mine) == held - 30 * bool(import_id)
    assert undone(place, import_id) == said["undo the import"]
    assert world.pools(place.mine) == held
    world.check()
