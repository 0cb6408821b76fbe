"""The decoders of AT, `ubus` and `gsmctl`: recorded forms, and whatever else may come."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.collectors import at_answers, gsmctl, ubus
from agent.collectors.at_dialogue import LINE_BYTES_MAX, LINES_MAX, Answer, Dialogue
from firmware_sim.profiles import FIRST_SERIAL, PROFILES
from firmware_sim.surfaces.at_modem import AtModem
from firmware_sim.surfaces.facts import ModemState, expected_modem, state_of
from firmware_sim.surfaces.rutos_text import Form, gsmctl_lines, modem_info
from firmware_sim.world import World
from tests.conftest import SummaryRow
from wire.fields import BY_NAME, check_value

BATCH, MINUTE_S = 1_000, 60.0
COMMANDS = (*at_answers.DECODERS, at_answers.TRAFFIC, "AT+CIMI", "ATI")
MODEMS: list[ModemState] = [
    modem
    for profile in PROFILES
    for modem in state_of(World(1, FIRST_SERIAL, profile), 60.0).modems
]


def answer(command: str, *lines: str) -> Answer:
    return Answer(command, lines, True)


QENG = 'AT+QENG="servingcell"'
SERVING = '+QENG: "servingcell","NOCONN"'
LTE = '"LTE","FDD",246,02,17D5C01,277,1300,3,5,5,1A2B,-98,-11,-71,12'
RECORDED: list[tuple[Answer, dict[str, object]]] = [
    (answer("AT+CSQ", "+CSQ: 23,99"), {"rssi": -67}),
    (answer("AT+CSQ", "+CSQ: 99,99"), {}),
    (answer("AT+CPIN?", "+CPIN: SIM PIN"), {"sim_state": "PIN required"}),
    (Answer("AT+CPIN?", (), False, "10"), {"sim_state": "Not inserted"}),
    (Answer("AT+CPIN?", (), False, "SIM not inserted"), {"sim_state": "Not inserted"}),
    (
        answer("AT+CREG?", '+CREG: 2,1,"1A2B","17D5C01",7'),
        {"registration": "Registered, home", "tac": "6699", "cell_id": "24992769"},
    ),
    (answer("AT+CREG?", "+CREG: 0,5"), {"registration": "Registered, roaming"}),
    (answer("AT+CREG?", "+CREG: 2"), {"registration": "Searching"}),
    (
        answer("AT+COPS?", '+COPS: 0,0,"LT BITE, ""GSM""",7'),
        {"operator": 'LT BITE, "GSM"', "network_type": "LTE"},
    ),
    (answer("AT+QCCID", "+QCCID: 8937002000000000003F"), {"iccid": "8937002000000000003"}),
    (
        answer("AT+QNWINFO", '+QNWINFO: "FDD LTE","24602","LTE BAND 3",1300'),
        {"network_type": "LTE", "band": "LTE B3"},
    ),
    (answer("AT+QNWINFO", '+QNWINFO: "No Service"'), {}),
    (
        answer("AT+QCSQ", '+QCSQ: "LTE",-71,-98,160,-11'),
        {"network_type": "LTE", "rssi": -71, "rsrp": -98, "sinr": 12, "rsrq": -11},
    ),
    (answer("AT+QTEMP", "+QTEMP: 31,33,30"), {"modem_temperature": 330}),
    (
        answer("AT+QTEMP", '+QTEMP: "mdm_case_therm","47"', '+QTEMP: "pa","-273"'),
        {"modem_temperature": 470},
    ),
    *(
        (
            answer(QENG, *lines),
            {
                "network_type": kind,
                "band": band,
                "cell_id": "24992769",
                "tac": "6699",
                "rsrp": -98,
                "rsrq": -11,
                "rssi": -71,
            }
            | sinr,
        )
        for lines, kind, band, sinr in (
            ((f"{SERVING},{LTE},20",), "LTE", "LTE B3", {"sinr": 12}),
            ((f"{SERVING},{LTE},9,160,-",), "LTE", "LTE B3", {}),
            (
                (
                    SERVING,
                    f"+QENG: {LTE},9,160,-",
                    '+QENG: "NR5G-NSA",246,02,500,-95,14,-11,640000,78,12,1',
                ),
                "5G-NSA",
                "5G N78",
                {},
            ),
        )
    ),
    (
        answer(
            QENG, f'{SERVING},"NR5G-SA","TDD",246,02,FAD5383F2,310,64,634080,78,12,-88,-10,23,1,-'
        ),
        {
            "network_type": "5G-SA",
            "band": "5G N78",
            "cell_id": str(0xFAD5383F2),
            "tac": "100",
            "rsrp": -88,
            "rsrq": -10,
            "sinr": 23,
        },
    ),
    (answer("AT+CGSN", "860000000000017"), {"imei": "860000000000017"}),
]


def test_what_modems_were_recorded_to_say() -> None:
    for said, expected in RECORDED:
        assert at_answers.DECODERS[said.command](said) == expected, said
    counted = answer("AT+QGDCNT?", "+QGDCNT: 1658175,45844315")
    assert at_answers.qgdcnt(counted) == (45844315, 1658175)
    assert at_answers.model(answer("ATI", "Quectel", "EC25", "Revision: EC25EFA")) == "EC25"


def test_what_gsmctl_was_recorded_to_print() -> None:
    signal = {"rssi": -71, "rsrp": -98, "sinr": 12, "rsrq": -11}
    assert gsmctl.decode_signal("RSSI: -71\nRSRP: -98\nSINR: 12\nRSRQ: -11") == signal
    assert gsmctl.decode_signal("-71") == {"rssi": -71}
    assert gsmctl.decode_signal("N/A") == {}
    assert gsmctl.split_flags("a\nb", "otg") is None
    assert gsmctl.split_flags("a\nb", "ot") == {"o": "a", "t": "b"}


def feed(dialogue: Dialogue, data: bytes, step: int) -> Answer | None:
    for at in range(0, len(data), step):
        if (found := dialogue.feed(data[at : at + step])) is not None:
            return found
    return None


@pytest.mark.parametrize("step", [1, 2, 7, 1_000])
@pytest.mark.parametrize("echo", [b"", b"AT+CSQ\r"])
def test_a_dialogue_is_read_in_any_pieces(step: int, echo: bytes) -> None:
    said = echo + b"\r\nRING\r\n\r\n+QIND: x\r\n\r\n+CSQ: 23,99\r\n\r\nOK\r\n"
    dialogue = Dialogue()
    assert dialogue.begin("AT+CSQ") == b"AT+CSQ\r"
    assert feed(dialogue, said, step) == Answer("AT+CSQ", ("+CSQ: 23,99",), True)
    dialogue.begin("AT+CPIN?")
    refused = feed(dialogue, b"\r\n+CME ERROR: 10\r\n", step)
    assert refused == Answer("AT+CPIN?", (), False, "10")
    dialogue.begin("AT+CPIN?")
    assert feed(dialogue, b"\r\n+CPIN: REA", step) is None  # cut off
    dialogue.begin("AT+CGSN")
    assert feed(dialogue, b"\r\nERROR\r\n", step) == Answer("AT+CGSN", (), False)


def test_long_answers_are_cut_and_cost_no_memory() -> None:
    dialogue = Dialogue()
    dialogue.begin("AT+CGSN")
    assert dialogue.feed(b"x" * 1_000_000) is None
    assert len(dialogue._pending) <= LINE_BYTES_MAX
    assert dialogue.feed(b"\r\n" + b"7\r\n" * 10_000) is None
    found = dialogue.feed(b"OK\r\n")
    assert found is not None and found.lines == ("7",) * LINES_MAX


# Hostile

DAMAGE = st.lists(
    st.tuples(st.integers(0, 4_000), st.sampled_from((0, 1, 5, 60)), st.binary(max_size=30)),
    max_size=6,
)
HOSTILE_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def damaged(said: bytes, damage: list[tuple[int, int, bytes]]) -> bytes:
    """Parts are taken out and others put in."""
    for at, length, more in damage:
        place = at % (len(said) + 1)
        said = said[:place] + more + said[place + length :]
    return said


def fits(values: dict[str, Any]) -> None:
    for name, value in values.items():
        assert check_value(BY_NAME[name].id, value), (name, value)


def at_hostile(modem: ModemState, damage: list[tuple[int, int, bytes]]) -> None:
    served, dialogue, answers = AtModem(lambda: modem), Dialogue(), []
    for command in COMMANDS:
        said = served.feed(dialogue.begin(command))
        found = dialogue.feed(damaged(said, damage))
        if found is not None:
            answers.append(found)
            at_answers.model(found)
    for found in answers:
        for decode in at_answers.DECODERS.values():  # late answers go to the wrong one too
            fits(decode(found))
        at_answers.qgdcnt(found)
    fits(at_answers.values_of(answers))


def ubus_hostile(
    modem: ModemState, damage: list[tuple[int, int, bytes]], put: dict[str, Any]
) -> None:
    info = modem_info(modem)
    kept = info | {"cache": info["cache"] | put}
    for said in (
        damaged(json.dumps(info).encode(), damage).decode("utf-8", "replace"),
        json.dumps(kept),
        json.dumps(put),
        json.dumps({"mnfinfo": put, "cache": put} | put),
    ):
        found = ubus.decode(said)
        for decode in (ubus.modem, ubus.identity, ubus.gps, ubus.pin_state):
            fits(decode(found))
        fits(ubus.digital_input(found))
        fits(ubus.analog_input(found))
        ubus.usage(found)
        ubus.usb_path(found)


def gsmctl_hostile(modem: ModemState, damage: list[tuple[int, int, bytes]]) -> None:
    for form in Form:
        lines = gsmctl_lines(modem, form)
        whole = "\n".join(lines[flag] for flag in gsmctl.FLAGS)
        for said in (lines["q"], whole):
            text = damaged(said.encode(), damage).decode("utf-8", "replace")
            fits(gsmctl.decode_signal(text))
            fits(gsmctl.decode_flags(gsmctl.split_flags(text) or dict.fromkeys("otgCT", text)))


KEYS = st.sampled_from(
    [*modem_info(MODEMS[0])["cache"], *"value latitude longitude tx rx name state cache".split()]
)
PUT = st.dictionaries(KEYS, HOSTILE_JSON, max_size=6)
HOSTILE: dict[str, tuple[Callable[..., None], tuple[st.SearchStrategy[Any], ...]]] = {
    "AT": (at_hostile, (st.sampled_from(MODEMS), DAMAGE)),
    "ubus": (ubus_hostile, (st.sampled_from(MODEMS), DAMAGE, PUT)),
    "gsmctl": (gsmctl_hostile, (st.sampled_from(MODEMS), DAMAGE)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_cost_their_own_fields(name: str) -> None:
    run, strategies = HOSTILE[name]
    settings(max_examples=60, deadline=None)(given(*strategies)(run))()


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_for_a_minute(name: str, summary_row: SummaryRow) -> None:
    run, strategies = HOSTILE[name]
    tried = 0

    @settings(max_examples=BATCH, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.tuples(*strategies))
    def batch(drawn: tuple[Any, ...]) -> None:
        nonlocal tried
        tried += 1
        run(*drawn)

    until_s = time.monotonic() + MINUTE_S
    while time.monotonic() < until_s:
        batch()
    assert tried >= BATCH
    summary_row(f"damaged answers: {name}", f"{tried} in a minute", "no error, all values fit")


def test_nothing_is_lost_without_damage() -> None:
    for modem in MODEMS:
        at_hostile(modem, [])
        wanted = expected_modem(modem)
        assert ubus.modem(modem_info(modem)) == wanted
