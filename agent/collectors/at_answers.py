"""Decodes the answers of Quectel modems to AT commands."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence

from agent.collectors.at_dialogue import Answer
from agent.collectors.reading import (
    Values,
    band,
    cell_id,
    digits,
    known,
    network_type,
    number,
    registration,
    signal,
    sim_state,
    tac,
    text,
    whole,
)

# `+CME ERROR` of 3GPP TS 27.007 in answer to `AT+CPIN?`; modems say the number, or the words.
_SIM_ERRORS = {
    "10": "Not inserted",
    "11": "PIN required",
    "12": "PUK required",
    "13": "Failure",
    "14": "Busy",
    "15": "Failure",
}
_SENSOR_MAX_C = 150  # of a sensor that is not there modems say 255 or -273
_LTE_VALUES = {  # the place of tac, rsrp, rsrq, rssi and sinr behind "LTE"
    "tac": 10,
    "rsrp": 11,
    "rsrq": 12,
    "rssi": 13,
    "sinr": 14,
}
_LTE_SHORT = 16  # values of the form that EC25 has, from "LTE" on
_SA_VALUES = {"rsrp": 10, "rsrq": 11, "sinr": 12}  # behind "NR5G-SA"
_LTE_BAND, _LTE_CELL, _NR_BAND, _SA_TAC = 7, 4, 8, 6
_LINES_MAX = 64
_LINE_CHARS_MAX = 1_024


def _rows(lines: Iterable[str]) -> Iterable[Sequence[str]]:
    """The values behind the colon of each line, without their quotation marks."""
    for line in list(lines)[:_LINES_MAX]:
        values = line[:_LINE_CHARS_MAX].partition(":")[2].strip()
        try:
            yield [value.strip() for value in next(csv.reader([values], skipinitialspace=True))]
        except (csv.Error, StopIteration):
            continue


def _at(row: Sequence[str], place: int) -> str | None:
    return row[place] if place < len(row) else None


def model(answer: Answer) -> str | None:
    """`ATI`: maker, model, revision."""
    return text("model", answer.lines[1]) if len(answer.lines) > 1 else None


def csq(answer: Answer) -> Values:
    """`AT+CSQ`: -113 dBm + 2 n, 99 for unknown; 100 to 191 are another scale."""
    for row in _rows(answer.lines):
        steps = number(_at(row, 0))
        if steps is not None and 0 <= steps <= 31:
            return signal({"rssi": -113 + 2 * steps})
    return {}


def qcsq(answer: Answer) -> Values:
    """`AT+QCSQ`: technology, then RSSI, RSRP, SINR in fifths from -20 dB, RSRQ."""
    for row in _rows(answer.lines):
        if not row or network_type(row[0]) is None:
            continue
        values = known({"network_type": network_type(row[0])})
        if row[0].upper().startswith(("LTE", "CAT", "EMTC")):
            steps = number(_at(row, 3))
            named: dict[str, object] = {
                "rssi": _at(row, 1),
                "rsrp": _at(row, 2),
                "rsrq": _at(row, 4),
                "sinr": None if steps is None else steps / 5 - 20,
            }
            return values | signal(named)
        if not row[0].upper().startswith("NR"):
            return values | signal({"rssi": _at(row, 1)})
    return {}


def cops(answer: Answer) -> Values:
    """`AT+COPS?`: mode, format, name, technology."""
    for row in _rows(answer.lines):
        return known(
            {"operator": text("operator", _at(row, 2)), "network_type": network_type(_at(row, 3))}
        )
    return {}


def creg(answer: Answer) -> Values:
    """`AT+CREG?`; the same line said unasked has no mode in front, and counts less."""
    asked: Values = {}
    unasked: Values = {}
    for row in _rows(answer.lines):
        with_mode = len(row) > 1 and len(row[1]) == 1 and row[1].isdecimal()
        places = row[1:] if with_mode else row
        found = known(
            {
                "registration": registration(_at(places, 0)),
                "tac": tac(_at(places, 1), hexadecimal=True),
                "cell_id": cell_id(_at(places, 2), hexadecimal=True),
            }
        )
        asked, unasked = (found, unasked) if with_mode else (asked, found)
    return asked or unasked


def cpin(answer: Answer) -> Values:
    """`AT+CPIN?`: a refusal says what is the matter with the SIM."""
    if answer.error:
        named = _SIM_ERRORS.get(answer.error.strip()) or sim_state(answer.error)
        return known({"sim_state": named})
    for line in answer.lines:
        return known({"sim_state": sim_state(line.partition(":")[2])})
    return {}


def cgsn(answer: Answer) -> Values:
    """`AT+CGSN`: the IMEI on a line of its own."""
    found = (digits("imei", line) for line in answer.lines)
    return known({"imei": next((imei for imei in found if imei), None)})


def qccid(answer: Answer) -> Values:
    """`AT+QCCID`: the ICCID."""
    for row in _rows(answer.lines):
        return known({"iccid": digits("iccid", _at(row, 0))})
    return {}


def qnwinfo(answer: Answer) -> Values:
    """`AT+QNWINFO`: technology, operator, band, channel; two lines where 4G carries 5G."""
    values: Values = {}
    for row in _rows(answer.lines):
        found = known({"network_type": network_type(_at(row, 0)), "band": band(_at(row, 2))})
        if "network_type" in found:
            values |= found  # the last line is that of the newest technology
    return values


def qtemp(answer: Answer) -> Values:
    """`AT+QTEMP`: numbers on one line, or a name and a number for each sensor; the hottest."""
    readings = []
    for row in _rows(answer.lines):
        named = len(row) == 2 and number(row[0]) is None
        for value in row[1:] if named else row:
            celsius = number(value)
            if celsius is not None and -_SENSOR_MAX_C < celsius < _SENSOR_MAX_C:
                readings.append(celsius)
    return known({"modem_temperature": round(max(readings) * 10)}) if readings else {}


def qeng(answer: Answer) -> Values:
    """`AT+QENG="servingcell"`: LTE in 18 or 20 values, 5G over 4G in a line for each, 5G alone."""
    values: Values = {}
    for row in _rows(answer.lines):
        if "LTE" in row[:3]:
            values |= _lte(row[row.index("LTE") :])
        elif "NR5G-SA" in row[:3]:
            values |= _sa(row[row.index("NR5G-SA") :])
        elif row and row[0].startswith("NR5G-NSA"):
            values |= known({"network_type": "5G-NSA", "band": _nr_band(_at(row, _NR_BAND))})
    return values


def _lte(row: Sequence[str]) -> Values:
    named = {name: _at(row, place) for name, place in _LTE_VALUES.items()}
    if len(row) > _LTE_SHORT:
        del named["sinr"]  # the longer form has steps here whose size depends on the model
    return signal(named) | known(
        {
            "network_type": "LTE",
            "band": band(f"LTE B{_at(row, _LTE_BAND)}"),
            "cell_id": cell_id(_at(row, _LTE_CELL), hexadecimal=True),
            "tac": tac(named["tac"], hexadecimal=True),
        }
    )


def _sa(row: Sequence[str]) -> Values:
    return signal({name: _at(row, place) for name, place in _SA_VALUES.items()}) | known(
        {
            "network_type": "5G-SA",
            "band": _nr_band(_at(row, _NR_BAND)),
            "cell_id": cell_id(_at(row, _LTE_CELL), hexadecimal=True),
            "tac": tac(_at(row, _SA_TAC), hexadecimal=True),
        }
    )


def _nr_band(said: str | None) -> str | None:
    return None if said is None or not said.isdecimal() else band(f"N{said}")


def qcainfo(answer: Answer) -> Values:
    """`AT+QCAINFO`: more than one LTE carrier is LTE-CA."""
    carriers = [row for row in _rows(answer.lines) if row and row[0].lower() == "scc"]
    lte = any("LTE" in (_at(row, 3) or "").upper() for row in carriers)
    return known({"network_type": "LTE-CA" if lte else None})


def qgdcnt(answer: Answer) -> tuple[int | None, int | None]:
    """`AT+QGDCNT?`: bytes sent, then received, since the modem started."""
    for row in _rows(answer.lines):
        return whole("mobile_received", _at(row, 1)), whole("mobile_sent", _at(row, 0))
    return None, None


# In the order of asking; what a later answer says of a field goes before an earlier one.
DECODERS: Mapping[str, Callable[[Answer], Values]] = {
    "AT+CPIN?": cpin,
    "AT+CGSN": cgsn,
    "AT+QCCID": qccid,
    "AT+CREG?": creg,
    "AT+COPS?": cops,
    "AT+CSQ": csq,
    'AT+QENG="servingcell"': qeng,
    "AT+QCSQ": qcsq,
    "AT+QNWINFO": qnwinfo,
    "AT+QCAINFO": qcainfo,
    "AT+QTEMP": qtemp,
}
TRAFFIC = "AT+QGDCNT?"


def values_of(answers: Iterable[Answer]) -> Values:
    """All that these answers say of the modem."""
    said: dict[str, Values] = {}
    for answer in answers:
        decode = DECODERS.get(answer.command)
        if decode is not None and (answer.ok or decode is cpin):
            said[answer.command] = decode(answer)
    values: Values = {}
    for command in DECODERS:
        found = said.get(command, {})
        kind = values.get("network_type")
        values |= found
        # 5G over 4G shows itself in the serving cells; others tell of one of the two.
        if kind == "5G-NSA":
            values["network_type"] = kind
    nsa = said.get('AT+QENG="servingcell"', {})
    if values.get("network_type") == "5G-NSA" and str(nsa.get("band", "")).startswith("5G"):
        values["band"] = nsa["band"]
    return values
