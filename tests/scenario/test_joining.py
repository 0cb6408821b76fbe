"""Joining from outside: which codes admit whom, what a second claimant gets, what is given away."""

from pathlib import Path
from typing import Any

import pytest

from gateway.mqtt_server.connection import MqttRefused
from tests.scenario.engines import ENGINES_AT_LENGTH
from tests.scenario.handmade import Handmade, Joined
from tests.scenario.http_api import Api
from tests.scenario.installation import DAY_S, Installation, installed
from wire.join import JoinString, decode_join_string, encode_join_string

pytestmark = pytest.mark.parametrize("engine", ENGINES_AT_LENGTH, indirect=True, scope="module")
_serials = iter(range(1_600_000_001, 1_600_100_000))


def made(installation: Installation, serial: str | None = None) -> Handmade:
    return Handmade(installation, serial or str(next(_serials)))


def recoded(join: str, code: str) -> str:
    """The same join string with another code."""
    string: JoinString = decode_join_string(join)._replace(code=code, serial=None)
    return encode_join_string(string)


@pytest.fixture(scope="module")
def refused(installation: Installation, api: Api) -> Joined:
    """The refusal that all others must equal: an unknown code, an unknown serial."""
    join = recoded(api.join_code(api.company("Refusals"), 1), "A" * 22)
    answer = made(installation).ask_to_join(join)
    assert answer.status == 403
    return answer


def insist_refused(answer: Joined, refused: Joined) -> None:
    assert answer.without_ids() == refused.without_ids()


def test_every_failure_gets_the_same_answer(
    installation: Installation, api: Api, refused: Joined
) -> None:
    company, other = api.company("Joins"), api.company("Does not")
    joined = made(installation).join(api.join_code(company, 1, credits=0))
    own = str(next(_serials))
    api.register(own, company, activate="later")
    elsewhere = api.join_code(other, 5, credits=0, register=False)
    only_registered = api.join_code(company, 5, credits=0, register=False)
    for_one = api.done("POST", f"/devices/{own}/join", {})["join"]
    used_up = api.join_code(company, 1, credits=0)
    made(installation).join(used_up)
    wrong = recoded(for_one, "B" * 22)
    table: list[tuple[str, str, str]] = [
        ("wrong code, serial unknown", wrong, str(next(_serials))),
        ("wrong code, serial registered", wrong, own),
        ("wrong code, serial joined", wrong, joined.serial),
        ("other company's code, serial unknown", elsewhere, str(next(_serials))),
        ("other company's code, serial registered", elsewhere, own),
        ("other company's code, serial joined", elsewhere, joined.serial),
        ("code for one serial, another one", for_one, str(next(_serials))),
        ("code for one serial, one that joined", for_one, joined.serial),
        ("code used up, serial unknown", used_up, str(next(_serials))),
        ("code used up, serial registered", used_up, own),
        ("code that registers nothing, serial unknown", only_registered, str(next(_serials))),
        ("not a serial", only_registered, "@gateway-1"),
        ("not a serial either", only_registered, "../../etc"),
    ]
    for what, join, serial in table:
        answer = made(installation, serial).ask_to_join(join)
        assert answer.without_ids() == refused.without_ids(), what
    assert len(installation.tracebacks()) == 0
    assert api.device(own)["joined_at"] is None


def test_malformed_requests_get_the_same_answer(
    installation: Installation, api: Api, refused: Joined
) -> None:
    join = api.join_code(api.company("Malformed"), 5, credits=0)
    for changed in (
        {"mqtt_password": ""},
        {"mqtt_password": "x:y\nroot:z" + "0" * 54},
        {"mqtt_password": "A" * 64},
        {"command_key": "00"},
        {"code": ""},
    ):
        insist_refused(made(installation).ask_to_join(join, **changed), refused)
    assert not api.items("/devices?q=16000")[20:]


def test_joining_again_with_the_same_secret_changes_nothing(
    installation: Installation, api: Api, refused: Joined
) -> None:
    join = api.join_code(api.company("Twice"), 1, credits=0)
    device = made(installation).join(join)
    again = device.ask_to_join(join)
    assert (again.status, again.state) == (200, "joined")
    # The one use is taken: nobody else gets in by it, and not under this serial either.
    insist_refused(made(installation).ask_to_join(join), refused)
    insist_refused(made(installation, device.serial).ask_to_join(join), refused)


async def test_a_second_claimant_waits_until_it_is_released(
    installation: Installation, api: Api
) -> None:
    company = api.company("Claimed")
    api.grant(company, 5)
    join = api.join_code(company, 5)
    first = made(installation).join(join)
    second = made(installation, first.serial)
    async with first.connect() as connection:
        await connection.subscribe(f"fg1/c/{first.serial}/ok")
        await connection.publish(first.hb, first.heartbeat(1), qos=0)
        await connection.until_received()
        answer = second.ask_to_join(join)
        assert (answer.status, answer.state) == (200, "waiting")
        record = answer.json["record"]
        assert second.ask_status(join, record).state == "waiting"
        # It waits: it cannot sign in, and the first one does not notice.
        with pytest.raises(MqttRefused):
            await second.connect().__aenter__()
        await connection.publish(first.hb, first.heartbeat(2), qos=0)
        await connection.until_received(count=2)
        assert api.device(first.serial)["alerts"] == ["waits_for_release"]
        # A claim costs nothing, however often it is made.
        assert api.credits(company)["credits"] == 4
        api.done("POST", f"/devices/{first.serial}/release", {})
        assert api.device(first.serial)["alerts"] == []
        await connection.until_closed(within_s=20)
    second.until_let_in()
    assert second.ask_status(join, record).state == "joined"
    with pytest.raises(MqttRefused):
        await first.connect().__aenter__()
    async with second.connect() as connection:
        await connection.subscribe(f"fg1/c/{second.serial}/ok")
        await connection.publish(second.hb, second.heartbeat(1), qos=0)
        await connection.until_received()
    assert {item["number"] for item in api.heartbeats(first.serial)} == {1, 2}
    assert len(api.heartbeats(first.serial)) == 3
    nothing_waits = api.ask("POST", f"/devices/{first.serial}/release", {})
    assert (nothing_waits.status, nothing_waits.code) == (409, "nothing_waits")


def test_a_record_tells_only_its_own_device(
    installation: Installation, api: Api, refused: Joined
) -> None:
    join = api.join_code(api.company("Records"), 2, credits=0)
    one = made(installation)
    record = one.ask_to_join(join).json["record"]
    other = made(installation).join(join)
    assert one.ask_status(join, record).state == "joined"
    for serial, shown in ((other.serial, record), (one.serial, record[:-4] + "AAAA"), ("x", "")):
        insist_refused(one.ask_status(join, shown, serial), refused)


def test_a_code_spends_only_as_many_credits_as_it_says(
    installation: Installation, api: Api
) -> None:
    company = api.company("Spends")
    api.grant(company, 10)
    join = api.join_code(company, 3, credits=1)
    devices = [made(installation).join(join) for _ in range(3)]
    rows: list[Any] = [api.device(device.serial) for device in devices]
    assert [row["service"]["reason"] for row in rows] == ["not_activated"] * 3
    assert api.credits(company)["credits"] == 10  # the first heartbeat takes it


def test_a_code_is_over_after_seven_days(tmp_path: Path, engine: str) -> None:
    with installed(tmp_path, engine=engine) as installation:
        api = installation.api
        join = api.join_code(api.company("Late"), 3, credits=0)
        unknown = made(installation).ask_to_join(recoded(join, "A" * 22))
        installation.move_clock(7 * DAY_S - 60)
        made(installation).join(join)
        installation.move_clock(61)
        answer = made(installation).ask_to_join(join)
        assert answer.without_ids() == unknown.without_ids()
