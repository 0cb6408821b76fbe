"""What routers and modems write, made into values of the field table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors import reading
from wire.fields import BY_NAME, FIELDS, check_value

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def nothing_of(*said: object) -> list[tuple[object, object]]:
    """Cases of which nothing comes."""
    return [(one, None) for one in said]


NUMBERS: list[tuple[object, object]] = [
    (-71, -71),
    ("-71", -71),
    (" -71 dBm ", -71),
    ("11.93", 11.93),
    ("38 °C", 38),
    (9.5, 9.5),
    *nothing_of("N/A", "", None, True, "12abc", "0x12", "٣", "1e5"),
    *nothing_of(10**30, "9" * 30, float("inf"), float("nan"), [1], {}),
]
TEXTS: list[tuple[object, object]] = [
    ("LT BITE GSM", "LT BITE GSM"),
    (24602, "24602"),
    (" a\x00b\n", "a b"),
    ("\ud800x", "x"),
    ("ž" * 40, "ž" * 32),
    *nothing_of("N/A", "n/a", "", " - ", "Timeout.", "ERROR", None, True, 1.5, [], "\x00"),
]
REGISTRATIONS: list[tuple[object, object]] = [
    (0, "Not registered"),
    ("1", "Registered, home"),
    ("Registered, home", "Registered, home"),
    ("registered (home)", "Registered, home"),
    (5, "Registered, roaming"),
    ("Roaming", "Registered, roaming"),
    ("unregistered", "Not registered"),
    ("searching", "Searching"),
    (3, "Denied"),
    (7, "Registered, SMS only"),
    (8, "Emergency only"),
    ("Something new", "Something new"),
    *nothing_of(9, -1, 1.5, "N/A", None, []),
]
NETWORK_TYPES: list[tuple[object, object]] = [
    *((said, "LTE") for said in ("LTE", "4G (LTE)", "FDD LTE", "E-UTRAN", 7, "LTE; VoLTE")),
    *((said, "LTE-CA") for said in ("LTE-CA", "LTE-A", "4G (LTE-A)", "LTE+")),
    *((said, "5G-NSA") for said in ("5G (NSA); VoLTE", "5G-NSA", "NR5G-NSA", "EN-DC", 13)),
    *((said, "5G-SA") for said in ("5G (SA)", "TDD NR5G", "NR5G-SA", 11)),
    *((said, "3G") for said in ("WCDMA", "HSPA+", "3G (UMTS)", "UTRAN", 2, "6")),
    *((said, "2G") for said in ("GSM", "EDGE", "2G (GPRS)", 0)),
    ("CAT-M1", "LTE-M"),
    ("LTE CAT NB1", "NB-IoT"),
    ("5G", "5G"),
    *nothing_of("N/A", "No service", 99, 1.5, None, {}),
]
BANDS: list[tuple[object, object]] = [
    *((said, "LTE B3") for said in ("LTE_B3", "LTE BAND 3", "LTE B3", "B3", "lte b03")),
    *((said, "5G N78") for said in ("5G N78", "NR5G BAND 78", "NR_N78", "n78", "5G-NSA N78")),
    *((said, "WCDMA 900") for said in ("WCDMA 900", "WCDMA_900", "UMTS 900")),
    *((said, "GSM 900") for said in ("GSM 900", "EGSM900", "GSM_900")),
    ("LTE B3 + LTE B7", "LTE B3 + LTE B7"),
    *nothing_of("N/A", "3", 3, None, []),
]
CELLS: list[tuple[object, bool | None, object]] = [
    ("017D5C01", True, "24992769"),
    ('"17D5C01"', True, "24992769"),
    ("17D5C01", None, "24992769"),
    ("24992769", None, "24992769"),
    ("1234567", None, str(0x1234567)),
    ("24992769", False, "24992769"),
    (10000000001, False, "10000000001"),
    ("17D5C01", False, None),
    *((said, True, None) for said in ("0", "FFFFFFFF", "FFFFFFF", "N/A", "", "g")),
    ("9" * 12, False, None),
]
SIMS: list[tuple[object, object]] = [
    *((said, "Ready") for said in ("READY", "OK", "Inserted", 1, "1")),
    *((said, "PIN required") for said in ("SIM PIN", "Required PIN, 3 attempts left", 4)),
    *((said, "PUK required") for said in ("SIM PUK", "Required PUK, 9 attempts left", 5)),
    *((said, "Not inserted") for said in ("Not inserted", "not inserted", 10)),
    *((said, "Failure") for said in ("SIM failure", 13)),
    ("Not ready", "Not ready"),
    ("Busy", "Busy"),
    *nothing_of("N/A", 99, None),
]


def test_numbers_are_read_from_texts() -> None:
    for given_, expected in NUMBERS:
        assert reading.number(given_) == expected, given_


def test_a_number_outside_its_field_is_absent() -> None:
    assert reading.whole("rsrp", "-98") == -98
    assert reading.whole("rsrp", "98") is None
    assert reading.whole("analog_input", "11.93", 1_000) == 11_930
    assert reading.temperature("modem_temperature", "36", tenths=False) == 360
    assert reading.temperature("modem_temperature", 360, tenths=True) == 360
    assert reading.temperature("modem_temperature", "999", tenths=False) is None


def test_texts_are_cleaned_and_cut() -> None:
    for given_, expected in TEXTS:
        assert reading.text("operator", given_) == expected, given_


def test_one_spelling_for_each_thing() -> None:
    for cases, read in (
        (REGISTRATIONS, reading.registration),
        (NETWORK_TYPES, reading.network_type),
        (BANDS, reading.band),
        (SIMS, reading.sim_state),
    ):
        for given_, expected in cases:
            assert read(given_) == expected, (read, given_)


def test_cells_are_decimal() -> None:
    for given_, base, expected in CELLS:
        assert reading.cell_id(given_, hexadecimal=base) == expected, (given_, base)
    assert reading.tac("1A2B", hexadecimal=True) == reading.tac(6699, hexadecimal=False) == "6699"
    assert reading.tac("FFFF", hexadecimal=True) is None


@pytest.mark.parametrize(
    "said", ["001E42000001", "00:1E:42:00:00:01", "00-1e-42-00-00-01", " 001e42000001\n"]
)
def test_addresses_have_one_form(said: str) -> None:
    assert reading.mac(said) == "00:1e:42:00:00:01"
    assert reading.mac("0" * 12) is None and reading.mac(said + "0") is None


def test_identities_are_digits() -> None:
    assert reading.digits("iccid", '"8937002000000000003F"') == "8937002000000000003"
    assert reading.digits("imei", 860000000000017) == "860000000000017"
    assert reading.digits("imei", "N/A") is None and reading.digits("imei", "12") is None


def test_yes_and_no() -> None:
    for said in ("1", 1, True, "on", "High", "closed"):
        assert reading.boolean(said) is True, said
    for said in ("0", 0, False, "off", "low", "open"):
        assert reading.boolean(said) is False, said
    nothing: tuple[object, ...] = ("", "2", 2, None, [])
    assert [reading.boolean(said) for said in nothing] == [None] * len(nothing)


def test_a_position_needs_a_fix() -> None:
    said = {
        "fix_status": "1",
        "latitude": "54.898800",
        "longitude": "23.964900",
        "altitude": "81",
        "speed": "3.5",
        "satellites": "9",
    }
    assert reading.position(said) == {
        "latitude": 548_988_000,
        "longitude": 239_649_000,
        "altitude": 81,
        "speed": 35,
        "satellites": 9,
    }
    for changed in ({"fix_status": "0"}, {"latitude": "N/A"}, {"longitude": "200"}):
        assert reading.position(said | changed) == {"satellites": 9}, changed
    assert reading.position(said | {"latitude": 0, "longitude": "0.000000"}) == {"satellites": 9}
    assert reading.position({}) == reading.position("N/A") == {}


def test_a_second_modem_has_names_of_its_own_and_a_third_has_none() -> None:
    values = reading.known({"rsrp": -98, "operator": None, "rssi": 5, "nonsense": 1})
    assert values == {"rsrp": -98}
    assert reading.of_modem(0, values) == values
    assert reading.of_modem(1, values | {"mobile_sent": 1}) == {"rsrp_2": -98}
    assert reading.of_modem(2, values) == {}


@given(JSON)
def test_nothing_raises_and_what_comes_fits(said: object) -> None:
    found: dict[str, object] = {
        "registration": reading.registration(said),
        "network_type": reading.network_type(said),
        "band": reading.band(said),
        "sim_state": reading.sim_state(said),
        "data_connection": reading.data_connection(said),
        "sim_slot": reading.sim_slot(said),
        "lan_mac": reading.mac(said),
        "digital_input": reading.boolean(said),
        "imei": reading.digits("imei", said),
        **reading.position(said),
        **reading.position(dict.fromkeys(("latitude", "longitude", "altitude", "speed"), said)),
    }
    for base in (True, False, None):
        found |= {f"cell_id {base}": reading.cell_id(said, hexadecimal=base)}
    found |= {f"tac {base}": reading.tac(said, hexadecimal=base) for base in (True, False)}
    for name, value in found.items():
        assert value is None or check_value(BY_NAME[name.partition(" ")[0]].id, value), name
    for field in FIELDS:
        if field.type == "integer":
            number = reading.whole(field.name, said, 10)
            assert number is None or check_value(field.id, number), field.name
        if field.type == "text":
            text = reading.text(field.name, said)
            assert text is None or check_value(field.id, text), field.name
