"""The modem collector and simulated modems behind a pseudo-terminal."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from agent.collectors import modem
from agent.collectors.choice import collector_of
from agent.collectors.modem import ModemCollector
from agent.configuration import configuration_of
from agent.errors import ConfigurationError
from firmware_sim.profiles import FIRST_SERIAL, PROFILES, RG501Q, Profile
from firmware_sim.surfaces.at_modem import AtModem
from firmware_sim.surfaces.facts import (
    SIM_PIN,
    ModemState,
    expected_modem,
    other_sim,
    state_of,
    without_sim,
)
from firmware_sim.surfaces.pseudo_terminal import serial_port
from firmware_sim.world import World
from wire.fields import Value

# No AT command of these modems tells them.
UNSEEN = frozenset({"sim_slot", "data_connection"})
UNASKED = ('+CREG: 1,"0001","00000001",7', "RING", "+QIND: SMS DONE", '+CMTI: "SM",3')
KINDS = [(p, n) for p in PROFILES for n in range(len(p.modems))]


def modem_of(profile: Profile, number: int = 0) -> ModemState:
    return state_of(World(1, FIRST_SERIAL, profile), 7_260.0).modems[number]


def wanted(state: ModemState) -> dict[str, Value]:
    values = {n: v for n, v in expected_modem(state).items() if n not in UNSEEN}
    return values | {"mobile_received": state.received, "mobile_sent": state.sent}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator["Rig"]:
    with ExitStack() as stack:
        yield Rig(stack, tmp_path)


class Rig:
    """A box with serial ports and nothing else that a collector could read."""

    def __init__(self, stack: ExitStack, root: Path) -> None:
        self._stack = stack
        self.root = root

    def port(self, served: AtModem | None, name: str = "ttyUSB2") -> str:
        """A port of this name; one without a modem takes everything and says nothing."""
        path = self._stack.enter_context(serial_port(served.feed if served else silent))
        (self.root / "dev").mkdir(exist_ok=True)
        link = self.root / "dev" / name
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        return str(link)

    def collector(self, port: str = modem.AUTOMATIC) -> ModemCollector:
        """Closed at the end of the test."""
        made = ModemCollector(port, root=self.root)
        self._stack.callback(made.close)
        return made


def silent(data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(("profile", "number"), KINDS, ids=lambda one: getattr(one, "name", one))
@pytest.mark.parametrize("unasked", [(), UNASKED], ids=["quiet", "talking"])
def test_every_modem_tells_what_it_is(
    rig: Rig, profile: Profile, number: int, unasked: tuple[str, ...]
) -> None:
    state = modem_of(profile, number)
    port = rig.port(AtModem(lambda: state, unasked))
    collector = rig.collector(port)
    for _ in range(2):  # with echo and without
        assert modem_part(collector) == wanted(state)


def modem_part(collector: ModemCollector) -> dict[str, Value]:
    """Without what the file system of the test's machine says."""
    return {n: v for n, v in collector().items() if n not in ("flash_total", "flash_free")}


@pytest.mark.parametrize(
    "changes",
    [
        {"network_type": "LTE", "band": "LTE B3"},
        {"network_type": "3G", "band": "WCDMA 900", "rsrp": None, "rsrq": None, "sinr": None},
        {"network_type": "2G", "band": "GSM 900", "rsrp": None, "rsrq": None, "sinr": None},
        {"network_type": "LTE-CA", "band": "LTE B7"},
        {"model": "EM12", "firmware": "EM12GPAR01A21M4G"},
        {"model": RG501Q[0], "network_type": "5G-NSA", "band": "5G N1"},
        {"model": RG501Q[0], "network_type": "5G-SA", "band": "5G N78"},
    ],
    ids=lambda changes: "-".join(str(value) for value in changes.values()),
)
def test_every_technology_is_understood(rig: Rig, changes: dict[str, Value | None]) -> None:
    state = replace(modem_of(PROFILES[2]), **changes)  # type: ignore[arg-type]  # of any field
    values = wanted(state)
    if state.network_type == "5G-SA":
        values["rssi"] = -113 + 2 * ((state.rssi + 113) // 2) if state.rssi is not None else 0
    assert modem_part(rig.collector(rig.port(AtModem(lambda: state)))) == values


def test_trouble_with_the_sim_is_told(rig: Rig) -> None:
    state = modem_of(PROFILES[1])
    lives = [without_sim(state), without_sim(state, SIM_PIN), other_sim(state), state]
    now = [state]
    collector = rig.collector(rig.port(AtModem(lambda: now[0])))
    for life in lives:
        now[0] = life
        assert modem_part(collector) == wanted(life)


def test_the_port_is_found_among_silent_ones(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modem, "_PROBE_S_MAX", 0.5)
    state = modem_of(PROFILES[0])
    rig.port(None, "ttyUSB0")
    rig.port(AtModem(lambda: state), "ttyUSB2")
    assert modem_part(rig.collector()) == wanted(state)


def test_a_modem_that_comes_late_or_is_changed_is_found(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modem, "ANSWER_S_MAX", 0.5)
    collector = rig.collector()
    assert modem_part(collector) == {}
    for number in (0, 1):
        state = modem_of(PROFILES[number])
        rig.port(AtModem(lambda state=state: state))  # type: ignore[misc]  # bound now
        collector.close()
        assert modem_part(collector)["imei"] == state.imei


def test_a_command_without_an_answer_costs_its_own_fields(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modem, "ANSWER_S_MAX", 0.6)
    state = modem_of(PROFILES[0])
    inner = AtModem(lambda: state)

    def deaf(data: bytes) -> bytes:
        return b'\r\n+COPS: 0,0,"LT' if b"COPS?" in data else inner.feed(data)

    feed = AtModem(lambda: state)
    feed.feed = deaf  # type: ignore[method-assign]  # one command is swallowed
    collector = rig.collector(rig.port(feed))
    first, second = modem_part(collector), modem_part(collector)
    assert "operator" not in first
    assert second == {n: v for n, v in wanted(state).items() if n != "operator"}


def test_traffic_keeps_the_source_that_it_began_with(rig: Rig) -> None:
    state = modem_of(PROFILES[0])
    interfaces = rig.root / "proc/net/dev"
    interfaces.parent.mkdir(parents=True)
    row = "wwan0: 700 9 0 0 0 0 0 0 30 9 0 0 0 0 0 0\n"
    for begins_with_kernel in (True, False):
        collector = rig.collector(rig.port(AtModem(lambda: state)))
        for there in (begins_with_kernel, not begins_with_kernel):
            interfaces.write_text(f"head\nhead\n{row if there else ''}")
            found = collector().get("mobile_received")
            if begins_with_kernel:
                assert found == (700 if there else None)
            else:
                assert found == state.received
        collector.close()


def test_a_dead_modem_leaves_the_devices_own_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modem, "ANSWER_S_MAX", 0.2)
    monkeypatch.setattr(modem, "_PROBE_S_MAX", 0.2)
    for port in ("/dev/null", "/dev/does-not-exist", str(tmp_path)):
        assert ModemCollector(port)()["uptime"]


def test_without_the_library_the_configuration_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wishes = configuration_of({"collector": "modem"})
    assert isinstance(collector_of(wishes), ModemCollector)
    monkeypatch.setitem(__import__("sys").modules, "serial", None)
    with pytest.raises(ConfigurationError, match=r"fleetgate-agent\[modem\]"):
        collector_of(wishes)
