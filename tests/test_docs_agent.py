"""`docs/agent.md` and the sources in `docs/wire.md` against the agent."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agent.collectors.choice import COLLECTORS
from agent.collectors.linux import LinuxCollector
from agent.collectors.modem import ModemCollector
from agent.collectors.rutos_local import RutosLocalCollector
from agent.configuration import KEYS
from firmware_sim.profiles import FIRST_SERIAL, PROFILES
from firmware_sim.surfaces.at_modem import AtModem
from firmware_sim.surfaces.facts import RouterState, state_of
from firmware_sim.surfaces.programs import write_programs, write_root
from firmware_sim.surfaces.pseudo_terminal import serial_port
from firmware_sim.world import World
from tests.contract.tables import tables
from wire.fields import BY_NAME, Value

SOURCES = tables("wire.md")["field | linux | rutos_local | modem"]
# What the agent says of itself, and what the kernel of a made-up root cannot say.
NOT_READ = frozenset({"agent_version", "supply_voltage"})
NOT_IN_A_TEST = frozenset({"wan_address"})


def test_every_key_is_explained() -> None:
    said = [tuple(row.values()) for row in tables("agent.md")["key | type | meaning"]]
    assert said == [(key, kind.__name__, text) for key, (kind, text) in KEYS.items()]


def test_every_collector_is_explained() -> None:
    said = [row["collector"] for row in tables("agent.md")["collector | reads | for"]]
    assert sorted(said) == sorted(COLLECTORS)


def test_every_field_has_its_sources() -> None:
    said = [row["field"] for row in SOURCES if row["field"] != "…_2"]
    assert set(said) == {n for n in BY_NAME if n not in NOT_READ and not n.endswith("_2")}
    assert len(said) == len(set(said))


def linux(root: Path, state: RouterState) -> Mapping[str, Value]:
    return LinuxCollector(root)()


def rutos_local(root: Path, state: RouterState) -> Mapping[str, Value]:
    return RutosLocalCollector(root)()


def modem(root: Path, state: RouterState) -> Mapping[str, Value]:
    with serial_port(AtModem(lambda: state.modems[0]).feed) as port:
        collector = ModemCollector(port, root=root)
        try:
            return collector()
        finally:
            collector.close()


@pytest.mark.parametrize("read", [linux, rutos_local, modem], ids=lambda read: read.__name__)
def test_each_collector_reads_what_its_column_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Path, RouterState], Mapping[str, Value]],
) -> None:
    profile = next(p for p in PROFILES if len(p.modems) == 2)
    state = state_of(World(1, FIRST_SERIAL, profile), 60.0)
    write_programs(tmp_path / "programs", state)
    write_root(tmp_path / "root", state, mnf=True)
    monkeypatch.setenv("PATH", f"{tmp_path}/programs:/usr/bin:/bin")
    found = set(read(tmp_path / "root", state)) | NOT_IN_A_TEST
    column = {row["field"] for row in SOURCES if row[read.__name__]}
    if "…_2" in column:
        column = column - {"…_2"} | {name for name in BY_NAME if name.endswith("_2")}
    assert found == column
