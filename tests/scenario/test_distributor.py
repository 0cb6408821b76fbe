"""A distributor's quarter over four levels: one story, through the API and through the CLI."""

from pathlib import Path
from typing import Any

import pytest

from tests.scenario.distributor import ByApi, ByCommand, Player
from tests.scenario.installation import installed

# What comes to a company's credits, and what goes from them.
CAME = "granted received redeemed codes_returned given_back companies_joined"
WENT = (
    "moved_out taken_back spent_by_itself spent_for_below courtesy codes_made expired "
    "written_off companies_left"
)
WAYS = {"the API": ByApi, "the command line": ByCommand}
DIGESTS: dict[str, Any] = {}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("way", WAYS)
def test_the_quarter_of_a_distributor(tmp_path: Path, way: str) -> None:
    with installed(tmp_path) as installation:
        told = Player(installation, WAYS[way](installation))
        told.play()
        installation.insist_verified()
        assert not installation.tracebacks()
        DIGESTS[way] = told.digest()
        quarter_adds_up(told)
    # Whichever way was taken second: the ledger is the same, row for row.
    assert len({str(digest) for digest in DIGESTS.values()}) == 1
    assert len(DIGESTS[way]) > 30


def quarter_adds_up(told: Player) -> None:
    """A statement for each company of the whole time: the children's add up to the parent's."""
    lines = {
        line["company_id"]: line["total"]
        for name in ("distributor", "reseller", "integrator")
        for line in adding_up(told, name)["children"]
    }
    for name in ("reseller", "integrator", "customer", "shop"):
        company_id = told.kept[name]
        seen, own = lines[company_id], told.statement(company_id)["total"]
        # Who paid above is told as seen from the company that reads.
        for one in (seen, own):
            del one["paid_from_here"], one["spent_by_above"]
        assert seen == own, name
    top = told.statement(told.kept["distributor"])
    assert top["total"]["opening"] == 0
    assert (top["total"]["granted"], top["total"]["expired"]) == (3390, 30)
    assert top["total"]["closing"] == 2070 + 844
    sold = told.statement(told.kept["unrelated"])["total"]
    assert (sold["redeemed"], sold["spent_by_itself"], sold["closing"]) == (90, 60, 30)


def adding_up(told: Player, name: str) -> Any:
    """A company's statement by child, whose lines are the whole."""
    said = told.statement(told.kept[name])
    lines = [said["own"], *said["children"]]
    for side in ("total", "paid", "free"):
        for figure, days in said[side].items():
            assert days == sum(line[side][figure] for line in lines), (name, side, figure)
    for line in (said, *lines):
        total, paid, free = (line[side] for side in ("total", "paid", "free"))
        assert total == {figure: paid[figure] + free[figure] for figure in total}
        came = sum(total[figure] for figure in CAME.split())
        assert total["opening"] + came - sum(total[f] for f in WENT.split()) == total["closing"]
    return said
