"""The simulated world: one seed, one story, in values that fit the field table."""

from itertools import islice

from firmware_sim.profiles import FIRST_SERIAL, PROFILES, mac_of, serial_text, with_luhn
from firmware_sim.surfaces.facts import expected, state_of
from firmware_sim.world import EventKind, World
from wire.fields import BY_NAME, check_value
from wire.serials import is_serial

TIMES_S = (0.0, 3.0, 60.0, 61.0, 3_600.0, 90_000.0)


def test_one_seed_makes_one_story() -> None:
    one, again, other = World(7, FIRST_SERIAL), World(7, FIRST_SERIAL), World(8, FIRST_SERIAL)
    told = [world.read(at_s) for world in (one, again) for at_s in TIMES_S]
    assert told[: len(TIMES_S)] == told[len(TIMES_S) :]
    assert list(islice(one.story(), 50)) == list(islice(again.story(), 50))
    assert list(islice(one.story(), 50)) != list(islice(other.story(), 50))


def test_every_value_fits_the_field_table() -> None:
    for number in range(FIRST_SERIAL, FIRST_SERIAL + 60):
        world = World(3, number)
        for at_s in TIMES_S:
            for name, value in world.read(at_s).items():
                assert check_value(BY_NAME[name].id, value), (name, value)


def test_all_models_occur_and_say_who_they_are() -> None:
    worlds = [World(1, FIRST_SERIAL + offset) for offset in range(100)]
    assert {world.profile.name for world in worlds} == {profile.name for profile in PROFILES}
    assert len({world.mac for world in worlds}) == len({world.serial for world in worlds}) == 100
    assert all(is_serial(world.serial) and len(world.serial) == 10 for world in worlds)


def test_counters_rise_and_start_again_at_a_reboot() -> None:
    world = World(1, FIRST_SERIAL)
    before = world.read(7_200.0)
    later = world.read(10_800.0)
    for name in ("uptime", "mobile_received", "mobile_sent", "received", "sent"):
        assert later[name] > before[name], name  # type: ignore[operator]  # integers, all of them
    world.reboot(10_860.0)
    assert world.read(10_862.0)["uptime"] == 2
    assert world.read(10_862.0)["mobile_received"] == 0


def test_both_mishaps_occur_in_order() -> None:
    events = list(islice(World(1, FIRST_SERIAL).story(), 200))
    assert {event.kind for event in events} == set(EventKind)
    assert [event.at_s for event in events] == sorted(event.at_s for event in events)
    assert all(event.for_s > 0 for event in events)


def test_an_agent_inside_reports_what_the_router_shows_outside() -> None:
    for profile in PROFILES:
        world = World(1, FIRST_SERIAL, profile)
        for at_s in TIMES_S:
            read = world.read(at_s)
            shown = expected(state_of(world, at_s))
            # No collector has a source for it.
            assert {n: v for n, v in read.items() if n != "supply_voltage"} == shown, profile.name


def test_what_stands_for_a_router_fits_its_technology() -> None:
    for profile in PROFILES:
        world = World(2, FIRST_SERIAL, profile)
        for at_s in range(0, 2_000_000, 20_000):
            modem = state_of(world, float(at_s)).modems[0]
            assert modem.network_type is not None and modem.band is not None
            old = modem.network_type in ("2G", "3G")
            assert old == (modem.rsrp is None)
            family = {"5": "5G", "L": "LTE", "3": "WCDMA", "2": "GSM"}[modem.network_type[0]]
            assert modem.band.startswith(family)


def test_identities_have_the_shapes_of_real_ones() -> None:
    assert serial_text(1) == "0000000001"
    assert mac_of(FIRST_SERIAL).startswith("00:1E:42:")
    assert with_luhn("7992739871") == "79927398713"
