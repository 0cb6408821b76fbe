"""Filters and orders of the list of devices, counts, maps and search, beside a plain model."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from gateway.domain.instants import DAY_MS
from tests.contract.test_rights_shown import door, let_in
from tests.contract.world import World

A, B, C, D, E = (f"11000000{number:02d}" for number in range(1, 6))
ALL = [A, B, C, D, E]
NAMES = {A: "Kühlhaus Süd", B: "kiosk 12", C: "Zeppelin", D: "", E: "Árbol"}
TOLD: dict[str, dict[str, Any]] = {
    A: {"rsrp": -80, "operator": "Telia", "firmware": "R1", "imei": "860000000000011"},
    B: {"rsrp": -100, "operator": "LMT", "firmware": "R2", "lan_mac": "00:1E:42:AA:BB:02"},
    C: {"rssi": -70, "operator": "Telia", "firmware": "R2", "iccid": "89370000000000000033"},
    E: {"rsrp": -119, "latitude": 480_000_000, "longitude": 90_000_000},
}


class Fleet(NamedTuple):
    """A tree of three companies."""

    world: World
    top: str
    shop: str
    beside: str

    def serials(self, person: int = 1, **given: Any) -> list[str]:
        """What a list with these filters shows."""
        return [
            one["serial"] for one in self.world.do("devices.list", person=person, **given)["items"]
        ]


@pytest.fixture
def fleet(world: World) -> Fleet:
    """Two devices of the company above, two below, one beside; one is heard by nobody."""
    top = world.company("Top")
    made = Fleet(world, top, world.company("Ärzte", top), world.company("Beside"))
    world.grant(top, 10)
    world.grant(made.beside, 1)
    world.set_company(made.shop, use_parent_credits=True)
    holders = {A: top, B: made.shop, C: made.shop, D: top, E: made.beside}
    for serial, holder in holders.items():
        world.do(
            "devices.register",
            serial=serial,
            company_id=holder,
            name=NAMES[serial],
            activate="later" if serial == D else "on_contact",
        )
    world.do("devices.change", serial=A, alias="cold-1", tags=["Süd", "big"], reference="R/77")
    world.do("devices.change", serial=C, mac="001e42000033", tags=["big one"])
    for serial, told in TOLD.items():
        world.join(serial)
        world.up(serial)
        world.heartbeat(serial, values={"uptime": 5, **told})
    world.one_person(2, top, "administrator")
    world.one_person(3, top, "billing")
    return made


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, [A, B, C, D]),
    ({"q": "kuhl"}, [A]),
    ({"q": "COLD-1"}, [A]),
    ({"q": "r/77"}, [A]),
    ({"q": "  süd "}, [A]),
    ({"q": "00-1e-42"}, [B, C]),
    ({"q": "001e.4200"}, [C]),
    ({"q": "42:AA:bb"}, [B]),
    ({"q": ":AA:b"}, [B]),
    ({"q": "b:02"}, [B]),
    ({"q": "860000000000011"}, [A]),
    ({"q": "8937"}, [C]),
    ({"q": "%"}, []),
    ({"q": "nothing"}, []),
    ({"q": "110000000"}, [A, B, C, D]),
    ({"tag": "big"}, [A]),
    ({"tag": "sud"}, [A]),
    ({"tag": "bi"}, []),
    ({"operator": "Telia"}, [A, C]),
    ({"operator": "Telia", "firmware": "R2"}, [C]),
    ({"signal": "excellent"}, [A, C]),
    ({"signal": "average"}, [B]),
    ({"signal": "none"}, [D]),
    ({"state": "unpaid"}, []),
    ({"state": "off"}, [D]),
    ({"reason": "not_activated"}, [D]),
    ({"presence": "never"}, [D]),
    ({"presence": "online", "q": "k"}, [A, B]),
    ({"days_left_max": 29}, []),
    ({"days_left_max": 30}, [A, B, C]),
    ({"heard_before": "2099-01-01T00:00:00Z"}, [A, B, C]),
    ({"heard_before": "2020-01-01T00:00:00Z"}, []),
    ({"alert": True}, []),
    ({"attention": False}, [A, B, C, D]),
]


def test_every_filter_finds_what_it_says(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether what fits is few or many, and whether the caller's devices are."""
    for few in (5_000, 2, 0):
        monkeypatch.setattr("gateway.operations.device_filters.FEW", few)
        for given, wanted in FILTERS:
            assert fleet.serials(2, **given) == wanted, (few, given)
        assert fleet.serials(2, company=fleet.shop) == [B, C]
        assert fleet.serials(2, company=fleet.top, descendants=False) == [A, D]
        assert fleet.serials(2, payer=fleet.top) == [A, B, C]


SORTED: dict[str, Callable[[str], Any]] = {
    "name": {A: 3, B: 2, C: 4, D: 1}.__getitem__,
    "company": {A: 2, B: 1, C: 1, D: 2}.__getitem__,
    "presence": {A: 0, B: 0, C: 0, D: 3}.__getitem__,
    "days_left": {A: 1, B: 1, C: 1, D: 0}.__getitem__,
    "signal": {A: -80, B: -100, C: -80, D: -999}.__getitem__,
    "firmware": {A: "R1", B: "R2", C: "R2", D: ""}.__getitem__,
    "operator": {A: "Telia", B: "LMT", C: "Telia", D: ""}.__getitem__,
    "last_heard": {A: 1, B: 1, C: 1, D: 0}.__getitem__,
}


@pytest.mark.parametrize("falling", [False, True])
def test_every_order_goes_on_where_its_page_ended(fleet: Fleet, falling: bool) -> None:
    for name, key in SORTED.items():
        wanted = sorted([A, B, C, D], key=key, reverse=falling)
        if falling:  # of the same by serial all the same
            groups = itertools.groupby(wanted, key=key)
            wanted = [serial for _, some in groups for serial in sorted(some)]
        sort = f"-{name}" if falling else name
        for limit in (1, 3, 10):
            found, cursor = [], ""
            while True:
                page = fleet.world.do(
                    "devices.list", person=2, sort=sort, limit=limit, cursor=cursor
                )
                found += [one["serial"] for one in page["items"]]
                if page["next_cursor"] is None:
                    break
                cursor = page["next_cursor"]
            assert found == wanted, (sort, limit)
    assert fleet.world.ask("devices.list", sort="name", cursor="wrong") == "validation"
    assert fleet.world.ask("devices.list", heard_before="soon") == "validation"


def test_what_is_hidden_is_neither_found_nor_sorted_by(fleet: Fleet) -> None:
    """Billing people see names and days."""
    for given in (
        {"q": "8600"},
        {"q": "42:AA:BB"},
        {"operator": "Telia"},
        {"firmware": "R1"},
        {"signal": "none"},
        {"presence": "never"},
        {"heard_before": "2099-01-01T00:00:00Z"},
        {"alert": False},
    ):
        assert fleet.serials(3, **given) == [], given
    assert fleet.serials(3, q="kuhl") == [A]
    assert fleet.serials(3, days_left_max=30) == [A, B, C]
    for sort in ("presence", "-last_heard", "signal", "-firmware", "operator"):
        assert fleet.serials(3, sort=sort) == [A, B, C, D]
    counts = fleet.world.do("devices.counts", person=3)
    assert (counts["total"], counts["presence"]) == (4, None)
    facets = fleet.world.do("devices.facets", person=3)
    assert facets["operators"] is None and facets["firmwares"] is None
    assert [one["value"] for one in facets["tags"]] == ["Süd", "big", "big one"]
    assert fleet.world.do("search.find", person=3, q="8600")["items"] == []
    # Who pays further up than the direct parent is not found either.
    assert fleet.world.ask("devices.list", person=2, payer=fleet.beside) == "not_found"


def test_counts_and_facets_are_those_of_the_list(fleet: Fleet) -> None:
    counts = fleet.world.do("devices.counts", person=2)
    assert counts["total"] == 4
    assert counts["presence"] == {"online": 3, "late": 0, "offline": 0, "never": 1}
    assert counts["service"] == {"active": 3, "unpaid": 0, "off": 1}
    assert counts["reasons"]["paid"] == 3 and counts["reasons"]["not_activated"] == 1
    assert counts["attention"] == 0
    assert fleet.world.do("devices.counts", person=2, q="kiosk")["total"] == 1
    fleet.world.do("devices.change", serial=B, auto_extend=False)
    fleet.world.live(24 * DAY_MS)
    counts = fleet.world.do("devices.counts", person=2)
    assert counts["attention"] == len(fleet.serials(2, attention=True)) >= 1
    assert B in fleet.serials(2, attention=True)
    facets = fleet.world.do("devices.facets", person=2)
    assert facets["operators"] == [
        {"value": "LMT", "devices": 1},
        {"value": "Telia", "devices": 2},
    ]
    assert [one["value"] for one in facets["firmwares"]] == ["R1", "R2"]
    assert not facets["more"]


def test_positions_are_of_those_one_may_see(fleet: Fleet) -> None:
    world = fleet.world
    assert world.do("devices.positions", person=2)["items"] == []  # it is beside
    (own,) = world.do("devices.positions")["items"]
    assert (own["serial"], own["lat"], own["lon"]) == (E, 48.0, 9.0)
    world.do("companies.move", company_id=fleet.beside, parent_id=fleet.top)
    assert len(world.do("devices.positions", person=2)["items"]) == 1
    door(world, fleet.beside, "ask")
    assert world.do("devices.positions", person=2)["items"] == []
    assert world.ask("devices.positions", person=2, company=fleet.beside) == "forbidden"
    let_in(world, fleet.beside, DAY_MS)
    assert len(world.do("devices.positions", person=2)["items"]) == 1
    assert world.ask("devices.positions", person=3, company=fleet.top) == "forbidden"


FOUND = [
    # typed, the first found, by what
    (A, A, "serial"),
    ("1100", A, "serial"),
    ("zeppe", C, "name"),
    ("haus s", A, "name"),
    ("sud", A, "tag"),
    ("cold", A, "alias"),
    ("r/77", A, "reference"),
    ("00 1e", None, ""),
    ("001E42000033", C, "mac"),
    ("00:1e:42:aa:bb:02", B, "mac"),
    ("8600000000", A, "imei"),
    ("8937", C, "iccid"),
    ("big", A, "tag"),
    ("arzte", None, "name"),
    ("nobody", None, ""),
]


def test_search_finds_as_one_types(fleet: Fleet) -> None:
    for typed, serial, field in FOUND:
        items = fleet.world.do("search.find", person=2, q=typed)["items"]
        first = items[0] if items else {"serial": None, "matched": ""}
        assert (first["serial"], first["matched"]) == (serial, field), typed
    (company,) = fleet.world.do("search.find", person=2, q="ärz")["items"]
    assert (company["kind"], company["id"]) == ("company", fleet.shop)
    assert company["subtitle"] == "Top › Ärzte"
    # Another's are neither found nor hinted at.
    assert fleet.world.do("search.find", person=2, q=E)["items"] == []
    assert fleet.world.do("search.find", person=2, q="beside")["items"] == []
    assert fleet.world.do("search.find", q=E)["items"][0]["serial"] == E
    assert len(fleet.world.do("search.find", person=2, q="1", limit=2)["items"]) == 2


def test_the_best_is_found_among_more_than_are_looked_at(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is called exactly so, however late in the list it stands, then what begins so."""
    for serial, name in ((A, "the kiosk"), (B, "kiosk 12"), (C, "Kiosk"), (D, "kiosk 1")):
        fleet.world.do("devices.change", serial=serial, name=name)
    fleet.world.do("devices.change", serial=D, reference="1100", tags=["cold"])
    monkeypatch.setattr("gateway.operations.searching._LOOKED_AT", 1)
    for few in (5_000, 2, 0):
        monkeypatch.setattr("gateway.operations.device_filters.FEW", few)
        for person, typed, serial, field in (
            (2, "kiosk", C, "name"),
            (2, "kiosk 1", D, "name"),
            (2, "1100", D, "reference"),
            (2, "110000000", A, "serial"),
            (2, "11", A, "serial"),
            (2, "860000000000011", A, "imei"),
            (3, "kiosk", C, "name"),
        ):
            (hit,) = fleet.world.do("search.find", person=person, q=typed)["items"]
            assert (hit["serial"], hit["matched"]) == (serial, field), (few, person, typed)
        assert fleet.world.do("search.find", person=3, q="8600")["items"] == []


@pytest.mark.parametrize("few", [5_000, 2])
def test_what_changes_is_found_by_its_new_values(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("gateway.operations.device_filters.FEW", few)
    world = fleet.world
    world.do("devices.change", serial=A, name="Elsewhere")
    assert fleet.serials(2, q="kuhl") == [] and fleet.serials(2, q="elsewh") == [A]
    world.heartbeat(A, values={"operator": "Orange", "rsrp": -110})
    assert fleet.serials(2, operator="Orange") == [A] == fleet.serials(2, signal="low")
    assert fleet.serials(2, operator="Telia") == [C]
    world.do("devices.replace", broken=A, serial="1100000099")
    assert fleet.serials(2, q="elsewhere") == ["1100000099"]


ODD = [
    '50% "off"',
    "a_b\\c AND d",
    "names : x OR y",
    "it's * (NEAR)",
    "^-{+",
    "漢字 🛰️ ok",
    "{a} col",
]


def test_the_index_of_texts_takes_what_is_typed_as_it_is(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What means something to a database, too; each part of a name is found, and nothing else."""
    for serial, name in zip((A, B, C, D), ODD, strict=False):
        fleet.world.do("devices.change", serial=serial, name=name)
    fleet.world.do("devices.change", serial=D, tags=ODD)
    parts = {
        name[start : start + length] for name in ODD for start in range(8) for length in (3, 5)
    }
    for typed in sorted({*ODD, *parts, "____", "%%%%", '"""', "AND", "b_c", "names"}):
        monkeypatch.setattr("gateway.operations.device_filters.FEW", 5_000)
        wanted = fleet.serials(2, q=typed)
        assert wanted or typed not in ODD
        monkeypatch.setattr("gateway.operations.device_filters.FEW", 2)
        assert fleet.serials(2, q=typed) == wanted, typed
    for tag in ODD:
        assert fleet.serials(2, tag=tag) == [D], tag
        assert fleet.serials(2, tag=tag, q=tag) == [D], tag
