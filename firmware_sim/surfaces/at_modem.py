"""A Quectel modem that answers AT commands: bytes in, bytes out."""

from collections.abc import Callable

from firmware_sim.surfaces.facts import SIM_OK, SIM_PIN, ModemState

_PENDING_BYTES_MAX = 1_024
_NO_SIM, _WANTS_PIN = "+CME ERROR: 10", "+CME ERROR: 11"
_TECHNOLOGIES = {"LTE": 7, "LTE-CA": 7, "3G": 2, "2G": 0, "5G-NSA": 13, "5G-SA": 11}
_NAMED_SENSORS = ("EM12", "RG5", "RM5")
_LONG_CELL = ("EP06", *_NAMED_SENSORS)


class AtModem:
    """`read` gives the modem of this moment; `unasked` is said before each answer."""

    def __init__(self, read: Callable[[], ModemState], unasked: tuple[str, ...] = ()) -> None:
        self._read = read
        self._unasked = unasked
        self._echo = True
        self._pending = b""

    def feed(self, data: bytes) -> bytes:
        """What it says to these bytes."""
        said = b""
        self._pending += data
        while b"\r" in self._pending:
            line, _, self._pending = self._pending.partition(b"\r")
            command = line.decode("ascii", "replace").strip()
            said += line + b"\r" if self._echo else b""
            said += "".join(f"\r\n{one}\r\n" for one in self._answer(command)).encode()
        self._pending = self._pending[-_PENDING_BYTES_MAX:]
        return said

    def _answer(self, command: str) -> list[str]:
        upper = command.upper()
        if upper in ("ATE0", "ATE1"):
            self._echo = upper == "ATE1"
            return ["OK"]
        if upper == "AT" or upper.startswith(("AT+CMEE=", "AT+CREG=", "AT+COPS=")):
            return ["OK"]
        answer = _ANSWERS.get(upper)
        if answer is None:
            return ["ERROR"]
        lines = answer(self._read())
        refused = lines and (lines[-1] == "ERROR" or "CME ERROR" in lines[-1])
        return [*self._unasked, *lines, *([] if refused else ["OK"])]


def _ati(modem: ModemState) -> list[str]:
    return ["Quectel", modem.model, f"Revision: {modem.firmware}"]


def _cpin(modem: ModemState) -> list[str]:
    if modem.sim_state == SIM_PIN:
        return [_WANTS_PIN]
    return ["+CPIN: READY" if modem.sim_state == SIM_OK else _NO_SIM]


def _csq(modem: ModemState) -> list[str]:
    return [f"+CSQ: {99 if modem.rssi is None else (modem.rssi + 113) // 2},99"]


def _creg(modem: ModemState) -> list[str]:
    if modem.cell is None or modem.tac is None:
        return [f"+CREG: 2,{modem.registration}"]
    act = _TECHNOLOGIES.get(modem.network_type or "", 7)
    return [f'+CREG: 2,{modem.registration},"{modem.tac:X}","{modem.cell:X}",{act}']


def _cops(modem: ModemState) -> list[str]:
    if modem.operator is None:
        return ["+COPS: 0"]
    return [f'+COPS: 0,0,"{modem.operator}",{_TECHNOLOGIES.get(modem.network_type or "", 7)}']


def _qccid(modem: ModemState) -> list[str]:
    return ["ERROR"] if modem.iccid is None else [f"+QCCID: {modem.iccid}"]


def _qnwinfo(modem: ModemState) -> list[str]:
    if modem.network_type is None or modem.band is None:
        return ['+QNWINFO: "No Service"']
    number = modem.operator_number
    band = modem.band.rpartition(" ")[2]
    if modem.network_type in ("2G", "3G"):
        name = "WCDMA" if modem.network_type == "3G" else "GSM"
        return [f'+QNWINFO: "{name}","{number}","{modem.band}",3000']
    if modem.network_type.startswith("LTE"):
        return [f'+QNWINFO: "FDD LTE","{number}","LTE BAND {band[1:]}",1300']
    new = f'+QNWINFO: "TDD NR5G","{number}","NR5G BAND {band[1:]}",640000'
    if modem.network_type == "5G-SA":
        return [new]
    return [f'+QNWINFO: "FDD LTE","{number}","LTE BAND 3",1300', new]


def _qcsq(modem: ModemState) -> list[str]:
    if modem.rssi is None:
        return ['+QCSQ: "NOSERVICE"']
    if modem.rsrp is None or modem.sinr is None:
        name = "WCDMA" if modem.network_type == "3G" else "GSM"
        return [f'+QCSQ: "{name}",{modem.rssi}']
    if modem.network_type == "5G-SA":
        return [f'+QCSQ: "NR5G",{modem.rsrp},{(modem.sinr + 20) * 5},{modem.rsrq}']
    return [f'+QCSQ: "LTE",{modem.rssi},{modem.rsrp},{(modem.sinr + 20) * 5},{modem.rsrq}']


def _qtemp(modem: ModemState) -> list[str]:
    celsius = modem.temperature // 10
    if modem.model.startswith(_NAMED_SENSORS):
        return [
            f'+QTEMP: "mdm_case_therm","{celsius - 2}"',
            f'+QTEMP: "pa_therm","{celsius}"',
            '+QTEMP: "sensor_therm","-273"',
        ]
    return [f"+QTEMP: {celsius},{celsius},{celsius - 1}"]


def _qeng(modem: ModemState) -> list[str]:
    serving = '+QENG: "servingcell"'
    if modem.cell is None or modem.tac is None or modem.network_type is None:
        return [f'{serving},"SEARCH"']
    number = modem.operator_number or ""
    network = f"{number[:3]},{number[3:]}"
    if modem.network_type in ("2G", "3G"):
        name = "WCDMA" if modem.network_type == "3G" else "GSM"
        return [f'{serving},"NOCONN","{name}",{network},{modem.tac:X},{modem.cell:X},3000,12']
    if modem.network_type == "5G-SA":
        band = (modem.band or " N78").rpartition(" ")[2][1:]
        cell = f"{network},{modem.cell:X},500,{modem.tac:X},640000,{band},12"
        signal = f"{modem.rsrp},{modem.rsrq},{modem.sinr}"
        return [f'{serving},"NOCONN","NR5G-SA","TDD",{cell},{signal},1,-']
    nsa = modem.network_type == "5G-NSA"
    band = "3" if nsa else (modem.band or " B3").rpartition(" ")[2][1:]
    cell = f"{network},{modem.cell:X},277,1300,{band},5,5,{modem.tac:X}"
    long = modem.model.startswith(_LONG_CELL)
    quality = ((modem.sinr or 0) + 20) // 2 if long else modem.sinr
    signal = f"{modem.rsrp},{modem.rsrq},{modem.rssi},{quality}"
    tail = "9,160,-" if long else "20"
    if not nsa:
        return [f'{serving},"NOCONN","LTE","FDD",{cell},{signal},{tail}']
    new_band = (modem.band or " N78").rpartition(" ")[2][1:]
    return [
        f'{serving},"NOCONN"',
        f'+QENG: "LTE","FDD",{cell},{signal},{tail}',
        f'+QENG: "NR5G-NSA",{network},500,-95,14,-11,640000,{new_band},12,1',
    ]


def _qcainfo(modem: ModemState) -> list[str]:
    if modem.network_type not in ("LTE", "LTE-CA"):
        return []
    band = (modem.band or " B3").rpartition(" ")[2][1:]
    lines = [f'+QCAINFO: "pcc",1300,100,"LTE BAND {band}",1,277,{modem.rsrp},-9,-71,15']
    if modem.network_type == "LTE-CA":
        lines.append('+QCAINFO: "scc",3050,75,"LTE BAND 7",2,101,-101,-12,-75,8')
    return lines


_ANSWERS: dict[str, Callable[[ModemState], list[str]]] = {
    "ATI": _ati,
    "AT+CPIN?": _cpin,
    "AT+CSQ": _csq,
    "AT+CREG?": _creg,
    "AT+COPS?": _cops,
    "AT+CGSN": lambda modem: [modem.imei],
    "AT+CIMI": lambda modem: ["ERROR"] if modem.imsi is None else [modem.imsi],
    "AT+QCCID": _qccid,
    "AT+QNWINFO": _qnwinfo,
    "AT+QCSQ": _qcsq,
    "AT+QTEMP": _qtemp,
    'AT+QENG="SERVINGCELL"': _qeng,
    "AT+QCAINFO": _qcainfo,
    "AT+QGDCNT?": lambda modem: [f"+QGDCNT: {modem.sent},{modem.received}"],
}
