"""The local collector on simulated routers: every model, every form, and programs that fail."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.collectors import questions
from agent.collectors.choice import collector_of
from agent.collectors.linux import LinuxCollector
from agent.collectors.questions import Questions, ask
from agent.collectors.rutos_local import RutosLocalCollector
from agent.configuration import configuration_of
from firmware_sim.profiles import FIRST_SERIAL, PROFILES, Profile
from firmware_sim.surfaces.facts import (
    SIM_PIN,
    RouterState,
    expected,
    other_sim,
    state_of,
    without_sim,
)
from firmware_sim.surfaces.programs import write_programs, write_root
from firmware_sim.surfaces.rutos_text import Form, form_of
from firmware_sim.world import World
from wire.fields import BY_NAME, Value, check_value

AT_S = 7_260.0
# What the file system of the test's machine decides, not the files of the made-up root.
NOT_PLANTED = frozenset({"flash_total", "flash_free", "wan_address"})
# The old program has no flag for the area, and tells one number of the signal.
NOT_IN_OLD = frozenset({"tac", "rsrp", "rsrq", "sinr"})


def router(profile: Profile, at_s: float = AT_S) -> RouterState:
    return state_of(World(1, FIRST_SERIAL, profile), at_s)


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a router on this machine: its programs on PATH, its files in a root of its own."""
    monkeypatch.setenv("PATH", f"{tmp_path}/programs:/usr/bin:/bin")

    def planted(state: RouterState, form: Form | None = None, **files: bool) -> Path:
        write_programs(tmp_path / "programs", state, form)
        write_root(tmp_path / "root", state, **files)
        return tmp_path / "root"

    return planted


def seen(values: dict[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if name not in NOT_PLANTED}


def of_form(state: RouterState, form: Form) -> dict[str, Value]:
    wanted = seen(expected(state))
    if form is not Form.UBUS:
        wanted = {name: value for name, value in wanted.items() if not name.endswith("_2")}
    if form is Form.OLD:
        wanted = {name: value for name, value in wanted.items() if name not in NOT_IN_OLD}
    return wanted


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_every_model_tells_what_it_is(plant: Callable[..., Path], profile: Profile) -> None:
    state = router(profile)
    wanted = of_form(state, form_of(state))
    assert seen(dict(RutosLocalCollector(plant(state))())) == wanted


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
@pytest.mark.parametrize("form", list(Form))
def test_every_form_says_the_same(plant: Callable[..., Path], profile: Profile, form: Form) -> None:
    state = router(profile)
    values = seen(dict(RutosLocalCollector(plant(state, form, mnf=True))()))
    assert values == of_form(state, form)


@pytest.mark.parametrize("form", list(Form))
def test_trouble_with_the_sim_is_told(plant: Callable[..., Path], form: Form) -> None:
    state = router(PROFILES[1])
    for modem in (
        without_sim(state.modems[0]),
        without_sim(state.modems[0], SIM_PIN),
        other_sim(state.modems[0]),
    ):
        changed = replace(state, modems=(modem,))
        values = seen(dict(RutosLocalCollector(plant(changed, form))()))
        assert values == of_form(changed, form)


def test_a_modem_that_is_offline_costs_its_own_fields(plant: Callable[..., Path]) -> None:
    state = router(next(p for p in PROFILES if len(p.modems) == 2))
    gone = replace(state, modems=(replace(state.modems[0], offline=True), state.modems[1]))
    values = seen(dict(RutosLocalCollector(plant(gone))()))
    assert values == seen(expected(gone))
    assert "rsrp_2" in values and "rsrp" not in values


def test_without_mobile_interfaces_the_days_counters_make_a_total(
    plant: Callable[..., Path],
) -> None:
    state = router(PROFILES[1])
    modem = state.modems[0]
    # Midnight passes, then the other SIM is used: what it carried before is not ours.
    story = [
        (1, (5_000, 9), 5_000),
        (1, (5_700, 9), 5_700),
        (1, (40, 9), 5_740),
        (2, (40, 9), 5_740),
        (2, (40, 29), 5_760),
    ]
    collector = None
    for slot, received, total in story:
        used = replace(modem, sim_slot=slot, received_today=received, sent_today=received)
        root = plant(replace(state, modems=(used,)), mobile=False)
        collector = collector or RutosLocalCollector(root)
        values = collector()
        assert (values["mobile_received"], values["mobile_sent"]) == (total, total)


def test_a_way_that_knows_the_hardware_alone_is_not_the_last(plant: Callable[..., Path]) -> None:
    state = router(PROFILES[0])
    root = plant(state, Form.INFO)
    path = root.parent / "programs" / "ubus"
    hardware = json.dumps({"model": "EC25", "cache": {"imei": state.modems[0].imei}})
    path.write_text(f"#!/bin/sh\n[ \"$3\" = gsm.modem0 ] && echo '{hardware}'\n", encoding="utf-8")
    values = RutosLocalCollector(root)()
    assert (values["imei"], values["operator"]) == (state.modems[0].imei, state.modems[0].operator)


def test_lines_that_are_left_out_put_no_value_under_another_name(
    plant: Callable[..., Path],
) -> None:
    state = router(PROFILES[0])
    root = plant(state, Form.OLD)
    path = root.parent / "programs" / "gsmctl"
    # The type of the network is not printed at all.
    path.write_text(path.read_text().replace("\nt) printf", "\nt) : printf"))
    values = seen(dict(RutosLocalCollector(root)()))
    assert values == {n: v for n, v in of_form(state, Form.OLD).items() if n != "network_type"}


def test_traffic_keeps_the_source_that_it_began_with(plant: Callable[..., Path]) -> None:
    modem = replace(router(PROFILES[0]).modems[0], received=9_000, received_today=(50,))
    state = replace(router(PROFILES[0]), modems=(modem,))
    for first, told in ((True, [9_000, None, 9_000]), (False, [50, 50, 50])):
        collector = None
        found = []
        for there in (first, not first, first):
            root = plant(state, mobile=there)
            collector = collector or RutosLocalCollector(root)
            found.append(collector().get("mobile_received"))
        assert found == told


HANGS = "sleep 600 & sleep 600"
SAYS_TOO_MUCH = (
    "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"
)
CASES = {
    "missing": None,
    "silent": "exit 1",
    "hangs": HANGS,
    "says too much": SAYS_TOO_MUCH,
    "says nonsense": "printf '\\377\\000{[\"'; echo N/A",
}


@pytest.mark.parametrize("program", ["ubus", "gsmctl", "mnf_info", "uci"])
@pytest.mark.parametrize("case", CASES)
def test_a_program_that_fails_costs_its_own_fields(
    plant: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, program: str, case: str
) -> None:
    monkeypatch.setattr(questions, "ANSWER_S_MAX", 0.3)
    state = router(PROFILES[2])
    root = plant(state)
    path = root.parent / "programs" / program
    path.unlink()
    if (body := CASES[case]) is not None:
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    collector = RutosLocalCollector(root)
    for _ in range(2):
        values = seen(dict(collector()))
    wanted = seen(expected(state))
    # `gsmctl` stands in for `ubus` where that fails, and `mnf_info` does.
    lost = {"ubus": {n for n in wanted if BY_NAME[n].id in range(34, 42) and n != "clients"}}
    assert values == {n: v for n, v in wanted.items() if n not in lost.get(program, set())}


def test_a_hanging_program_is_ended_and_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def hanging(command: object, within_s: float) -> str:
        asked.append(command)
        raise TimeoutError("hangs")

    one = Questions(hanging)
    for _ in range(questions.HUNG_REST + 1):
        one.begin()
        assert one.ask("ubus", "call") == ""
    assert len(asked) == 1
    one.begin()
    one.ask("ubus", "call")
    assert len(asked) == 2
    monkeypatch.setattr(questions, "PASS_S_MAX", 0.0)
    one.begin()
    assert one.ask("gsmctl", "-q") == "" and len(asked) == 2


def test_a_program_that_hangs_at_everything_rests_as_a_whole() -> None:
    asked = []

    def hanging(command: object, within_s: float) -> str:
        asked.append(command)
        raise TimeoutError("hangs")

    one = Questions(hanging)
    for _ in range(questions.HUNG_REST + 1):
        one.begin()
        for number in range(9):
            one.ask("ubus", str(number))
    assert len(asked) == questions.HUNG_MAX
    one.ask("gsmctl")
    assert len(asked) == questions.HUNG_MAX + 1


def test_a_question_without_an_answer_rests_unless_it_once_had_one() -> None:
    answers = iter(["", "", "said", "", "", ""])
    asked = []

    def sometimes(command: object, within_s: float) -> str:
        asked.append(command)
        return next(answers)

    one = Questions(sometimes)
    told = []
    for _ in range(9):
        one.begin()
        told.append(one.ask("ubus", rest=2))
    assert told == ["", "", "", "", "", "", "said", "", ""] and len(asked) == 5


def test_what_a_hanging_program_started_ends_with_it(tmp_path: Path) -> None:
    left = tmp_path / "left"
    with pytest.raises(TimeoutError):
        ask(["/bin/sh", "-c", f"(echo $$; exec sleep 600) & echo $! > {left}; wait"], 0.3)
    number = int(left.read_text())
    # Gone, or dead and not yet buried by init.
    state = Path(f"/proc/{number}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_the_collector_is_chosen_by_what_the_device_is(
    plant: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes = configuration_of({})
    assert isinstance(collector_of(wishes, tmp_path / "elsewhere"), LinuxCollector)
    root = plant(router(PROFILES[0]))
    assert isinstance(collector_of(wishes, root), RutosLocalCollector)
    assert isinstance(collector_of(configuration_of({"collector": "linux"}), root), LinuxCollector)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    plant(router(PROFILES[0]), mnf=True)
    assert isinstance(collector_of(wishes, root), RutosLocalCollector)


def test_sample_shows_what_a_router_says(
    plant: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = router(PROFILES[3])
    plant(state)
    file = tmp_path / "agent.toml"
    file.write_text(f'collector = "auto"\nstate_dir = "{tmp_path}/flash"\n')
    assert main(["sample", "--json", "--config", str(file)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["imei"], said["band"]) == (state.modems[0].imei, state.modems[0].band)
    assert said["model"] == state.product_code


def test_all_values_fit_the_field_table_at_any_time(plant: Callable[..., Path]) -> None:
    world = World(3, FIRST_SERIAL, PROFILES[3])
    collector = None
    for at_s in (0.0, 300.0, 3_600.0, 90_000.0):
        state = state_of(world, at_s)
        root = plant(state)
        collector = collector or RutosLocalCollector(root)
        values = collector()
        assert seen(dict(values)) == seen(expected(state))
        for name, value in values.items():
            assert check_value(BY_NAME[name].id, value), name
