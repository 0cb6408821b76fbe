"""Ingest on a real store: receipts, runs, states, days, presence, and what is malformed."""

import pytest
from sqlalchemy import func, select

from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS, instant_text
from gateway.ingest.batch import BATCH_MESSAGES_MAX
from gateway.storage.schema import heartbeat, monitored_day, outbox, quarantine, run
from tests.contract.world import Router, World
from wire.commands import Answer, Outcome
from wire.heartbeat import MESSAGE_BYTES_MAX, Origin, Receipt

S = "1100000001"
T = "1100000002"
EARLIEST_TEXT = "2020-01-01T00:00:00.000Z"


@pytest.fixture
def served(world: World) -> str:
    """A device whose credit is spent by its first heartbeat."""
    acme = world.company("Acme")
    world.grant(acme, 5)
    world.register(S, acme)
    world.heartbeat(S)
    return S


def stored(world: World, serial: str = S) -> list[tuple[str, int]]:
    """`(run, number)` of everything kept, in order."""
    statement = (
        select(run.c.run, heartbeat.c.number)
        .join(run, run.c.id == heartbeat.c.run_id)
        .where(heartbeat.c.device_id == world.row(serial).id)
        .order_by(heartbeat.c.id)
    )
    return [(row.run, row.number) for row in world.read(lambda tx: tx.all(statement))]


def asked(router: Router) -> Receipt:
    """The newest receipt."""
    return router.receipts[-1]


def numbers(world: World, serial: str = S) -> list[int]:
    return [number for _, number in stored(world, serial)]


def latest(world: World, serial: str = S) -> dict[str, object]:
    return {name: shown["value"] for name, shown in world.device(serial)["latest"].items()}


def days(world: World) -> int:
    return int(world.read(lambda tx: tx.scalar(select(func.count()).select_from(monitored_day))))


def test_a_batch_run_again_changes_nothing(world: World, served: str) -> None:
    router = world.router(S)
    payload = router.message(3)
    assert world.deliver((S, "hb", payload)).stored == 3
    before = (numbers(world), world.kinds(S), days(world), world.device(S))
    again = world.deliver((S, "hb", payload))
    assert (again.stored, again.repeated) == (0, 3)
    after = (numbers(world), world.kinds(S), days(world), world.device(S))
    assert after[:3] == before[:3] == ([1, 2, 3, 4], [("activate", 30)], 1)
    assert after[3]["counters"]["repeats"] == 3
    assert router.receipts[-1].upto == 4


def test_lost_doubled_and_reordered_messages_leave_each_sample_once(
    world: World, served: str
) -> None:
    router = world.router(S)
    sent = [router.message(2, low=1) for _ in range(8)]
    for index in (3, 1, 7, 1, 0, 5, 3):
        world.deliver((S, "hb", sent[index]))
    receipt = router.receipts[-1]
    assert receipt.upto == 5 and receipt.ranges == ((8, 9), (12, 13), (16, 17))
    for payload in sent:
        world.deliver((S, "hb", payload))
    assert sorted(numbers(world)) == list(range(1, 18))
    assert router.receipts[-1].upto == 17 and router.receipts[-1].ranges == ()


def test_a_receipt_comes_at_every_fourth_number_and_when_asked(world: World, served: str) -> None:
    router = world.router(S)
    got = []
    for _ in range(8):
        got.append(len(world.heartbeat(S, ask=False).receipts))
    assert got == [0, 0, 1, 0, 0, 0, 1, 0]
    assert router.number == 9


def test_a_delta_on_an_unknown_base_asks_for_a_full_sample(world: World, served: str) -> None:
    router = world.router(S)
    world.heartbeat(S, values={"uptime": 2, "rssi": -70})
    assert not asked(router).full
    router.number = 5
    world.heartbeat(S, base=4, low=1, values={"uptime": 6})
    assert asked(router).full and latest(world)["uptime"] == 6
    # Every receipt says so, until a full one is stored.
    world.heartbeat(S, base=6, low=1, values={"uptime": 7})
    assert asked(router).full
    world.heartbeat(S, base=0, low=1, values={"uptime": 8, "rssi": -60})
    assert not asked(router).full
    assert latest(world) == {"uptime": 8, "rssi": -60}


def test_a_full_sample_that_is_older_than_the_state_is_not_enough(
    world: World, served: str
) -> None:
    router = world.router(S)
    router.number = 9
    world.heartbeat(S, base=8, low=1)
    assert asked(router).full
    # Samples 5 to 12 in one message: only the first, number 5, is full, and it is too old.
    world.heartbeat(S, 8, number=5, base=0, low=1)
    assert asked(router).full


def test_an_old_sample_fills_history_and_never_the_state(world: World, served: str) -> None:
    router = world.router(S)
    late = router.message(1, values={"rssi": -90})
    world.heartbeat(S, low=1, values={"rssi": -50})
    world.deliver((S, "hb", late))
    assert latest(world)["rssi"] == -50 and sorted(numbers(world)) == [1, 2, 3]


def test_a_superseded_run_is_history_only(world: World, served: str) -> None:
    router = world.router(S)
    old_run = router.run
    backlog = router.message(2, low=1, values={"rssi": -99})
    straggler = router.message(1, low=1, values={"rssi": -98})
    router.restart(world.new_run())
    world.heartbeat(S, values={"rssi": -40})
    world.deliver((S, "hb", straggler))
    assert latest(world)["rssi"] == -40
    # The agent itself sends what it still has of its earlier life.
    router.number = 0
    world.heartbeat(S, 2, run=old_run, number=2, base=0, low=1, values={"rssi": -97})
    assert latest(world)["rssi"] == -40
    assert world.deliver((S, "hb", backlog)).repeated == 2
    assert (old_run, 4) in stored(world) and world.device(S)["alerts"] == []


def test_one_credential_in_two_places_is_said_after_more_than_three_changes_an_hour(
    world: World, served: str
) -> None:
    router = world.router(S)
    for change in range(1, 5):
        router.restart(world.new_run())
        world.heartbeat(S)
        alerts = ["credential_in_two_places"] if change > 3 else []
        assert world.device(S)["alerts"] == alerts, change


def test_three_restarts_an_hour_are_no_alarm(world: World, served: str) -> None:
    for _ in range(9):
        world.now_ms += 21 * MINUTE_MS
        world.router(S).restart(world.new_run())
        world.heartbeat(S)
    assert world.device(S)["alerts"] == []


def test_an_unserved_device_is_receipted_and_only_last_heard_is_kept(world: World) -> None:
    acme = world.company("Acme")
    world.register(S, acme, activate="later")
    outcome = world.heartbeat(S, 4, values={"rssi": -50})
    assert (outcome.stored, outcome.unserved, len(outcome.receipts)) == (0, 1, 1)
    assert world.router(S).receipts[-1].upto == 4
    shown = world.device(S)
    assert shown["latest"] == {} and numbers(world) == [] and days(world) == 0
    assert shown["presence"] == {"state": "online", "last_heard_at": instant_text(world.now_ms)}
    statement = select(outbox.c.verb, outbox.c.args)
    told = [(row.verb, row.args) for row in world.read(lambda tx: tx.all(statement))]
    assert told in ([], [("set_intervals", '{"sending_s": 900}')])
    # Once it is served its state is asked for in full.
    world.grant(acme, 1)
    world.do("devices.activate", serial=S)
    world.heartbeat(S, 4, base=4)
    assert asked(world.router(S)).full and numbers(world) == [5, 6, 7, 8]


def test_a_day_before_the_period_is_not_counted(world: World) -> None:
    """Of a transaction that began before midnight and waited for one that began after it."""
    acme = world.company("Acme")
    world.grant(acme, 1)
    world.now_ms += DAY_MS + 5
    world.register(S, acme, True)
    world.now_ms -= 10
    assert world.heartbeat(S).stored == 1 and days(world) == 0
    world.now_ms += 10
    assert world.heartbeat(S).stored == 1 and days(world) == 1


def test_a_day_is_counted_once_by_the_server_and_only_while_paid(world: World, served: str) -> None:
    world.heartbeat(S, age_ms=40 * DAY_MS)  # a backlog fills history, not days
    assert days(world) == 1
    world.now_ms += DAY_MS - 1
    world.heartbeat(S)
    assert days(world) == 1
    world.now_ms += 1
    world.heartbeat(S)
    world.heartbeat(S)
    assert days(world) == 2
    world.live(40 * DAY_MS)
    world.do("devices.change", serial=S, auto_extend=False)
    world.live(30 * DAY_MS)
    assert world.service(S)[0] == "off"
    before = days(world)
    world.heartbeat(S)
    assert days(world) == before


TIMES = [
    # age or boot-time clock      origin                  at, as an offset from arrival   from
    (90_000, None, -90_000, "server"),
    (5_000, Origin(1_799_000_000_000), -971_205_000, "device"),
    (5_000, Origin(None), 0, "interpolated"),
    (5_000, Origin(9 * 10**15), 0, "interpolated"),
]


@pytest.mark.parametrize(("clock_ms", "origin", "ago_ms", "known"), TIMES)
def test_times_of_samples(
    world: World, served: str, clock_ms: int, origin: Origin | None, ago_ms: int, known: str
) -> None:
    old_run = world.new_run() if origin is not None else None
    world.now_ms += 10_000
    world.heartbeat(S, age_ms=clock_ms, origin=origin, run=old_run, base=0)
    newest = world.do("devices.heartbeats", serial=S, limit=10)["items"]
    found = next(one for one in newest if one["number"] == world.router(S).number)
    assert found["time_from"] == known
    at = instant_text(world.now_ms + ago_ms)
    assert found["at"] == at if known != "interpolated" else found["at"] <= at


def test_an_age_before_any_agent_existed_breaks_no_page(world: World, served: str) -> None:
    world.heartbeat(S, age_ms=2**53 - 1)
    world.heartbeat(S, 2, age_ms=2**53 - 1, origin=Origin(None), run=world.new_run(), base=0)
    shown = world.do("devices.heartbeats", serial=S)["items"]
    assert shown[-1]["at"] >= EARLIEST_TEXT
    assert world.device(S)["latest"]["uptime"]["at"] >= EARLIEST_TEXT
    assert len(world.do("devices.list")["items"]) == 1


BAD = [
    ("hb", b""),
    ("hb", b"{"),
    ("hb", b"\xff\xfe"),
    ("hb", b"[NaN]"),
    ("hb", b"[" * 20_000),
    ("hb", b"[" * 5_000 + b"]" * 5_000),
    ("hb", b"[]"),
    ("hb", b'["run00000001",0,1,0,1,60,0,0,0,[]]'),
    ("hb", b'["run00000001",0,1,0,1,60,0,0,0,[[1,1e999,[]]]]'),
    ("hb", b" " * (MESSAGE_BYTES_MAX + 1)),
    ("up", b"null"),
    ("up", b'{"run":"run00000001","c":0,"up":1,"nonce":"' + b"0" * 32 + b'"}'),
    ("ans", b'{"id":1}'),
    ("ans", b'{"id":"x","outcome":"unknown","result":{}}'),
    ("ans", b'{"id":"x","outcome":"done","result":{"a":"\\ud800"}}'),
    ("ans", b'{"id":"x","outcome":"done","result":{"a":' + b"9" * 400 + b"}}"),
    ("ans", b'{"id":"x","outcome":"done","result":{"a":' + b"[" * 900 + b"]" * 900 + b"}}"),
]


def test_what_is_malformed_is_quarantined_and_costs_the_others_nothing(
    world: World, served: str
) -> None:
    acme = world.device(S)["company_id"]
    world.register(T, acme)
    bad = [(T, leaf, payload) for leaf, payload in BAD]
    outcome = world.deliver((S, "hb", world.router(S).message()), *bad)
    counted = world.device(T)["counters"]["malformed"]
    # What is merely deep, or a huge number, can be kept: an answer is stored as text.
    assert outcome.stored == 1 and outcome.malformed == counted == len(BAD) - 2
    assert world.device(T)["presence"]["state"] == "never"
    kept = world.read(lambda tx: tx.all(select(quarantine)))
    assert len(kept) == counted
    assert all(row.topic.startswith(f"fg1/d/{T}/") and row.reason for row in kept)
    assert max(len(row.payload) for row in kept) <= MESSAGE_BYTES_MAX


def test_unknown_and_unregistered_serials_change_nothing(world: World, served: str) -> None:
    world.do("devices.unregister", serial=S)
    before = world.row(S)
    outcome = world.deliver(
        (S, "hb", world.router(S).message()), ("no-such-one", "hb", world.router(T).message())
    )
    assert (outcome.unknown, outcome.stored, outcome.receipts) == (2, 0, [])
    assert world.row(S) == before


def test_fields_that_do_not_fit_cost_themselves_alone(world: World, served: str) -> None:
    world.heartbeat(S, values={"rssi": -50, "operator": "LMT"})
    payload = world.router(S).message(values={"rssi": 5, "operator": "x" * 65, "uptime": 7})
    assert world.deliver((S, "hb", payload)).ignored_fields == 2
    assert latest(world) == {"rssi": -50, "operator": "LMT", "uptime": 7}


def test_a_33rd_range_closes_the_oldest_gap_as_lost(world: World, served: str) -> None:
    for number in range(3, 3 + 2 * 33, 2):
        world.heartbeat(S, number=number, low=1)
    receipt = world.router(S).receipts[-1]
    assert (receipt.upto, len(receipt.ranges)) == (3, 32)
    assert world.device(S)["counters"]["lost"] == 1
    world.heartbeat(S, number=2, low=1)
    assert 2 not in numbers(world)


def test_gaps_below_low_are_lost_and_counted(world: World, served: str) -> None:
    world.heartbeat(S, number=11, low=11)
    assert world.router(S).receipts[-1].upto == 11
    assert world.device(S)["counters"]["lost"] == 9


def test_a_last_will_counts_for_the_newest_connection_only(world: World, served: str) -> None:
    router = world.router(S)
    router.connection = 2
    world.up(S)
    due = world.row(S).offline_at
    world.up(S, up=False, connection=1)
    assert world.row(S).offline_at == due
    world.up(S, up=False)
    assert world.row(S).offline_at == world.now_ms + 30_000
    world.up(S)
    assert world.row(S).offline_at == due


def test_a_heartbeat_of_a_new_connection_asks_for_its_nonce(world: World, served: str) -> None:
    router = world.router(S)
    world.up(S)
    world.heartbeat(S)
    assert not asked(router).send_up
    router.connection = 2
    world.heartbeat(S)
    assert asked(router).send_up
    world.up(S)
    world.heartbeat(S)
    assert not asked(router).send_up


def test_an_answer_reaches_only_the_command_of_its_own_device(world: World, served: str) -> None:
    acme = world.device(S)["company_id"]
    world.register(T, acme)
    world.now_ms += HOUR_MS
    world.up(S)
    world.register("1100000003", acme, activate="later")
    asked = world.read(lambda tx: tx.all(select(outbox.c.id, outbox.c.device_id)))
    for row in asked:
        world.answer(T, Answer(row.id, Outcome.DONE, {}))
    left = world.read(lambda tx: tx.all(select(outbox.c.answered_at)))
    assert all(row.answered_at is None for row in left)


def test_a_whole_batch_of_many_devices(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, BATCH_MESSAGES_MAX)
    serials = [f"batch-{number:04}" for number in range(BATCH_MESSAGES_MAX)]
    world.together([world.work("devices.register", serial=one, company_id=acme) for one in serials])
    outcome = world.deliver(*[(one, "hb", world.router(one).message()) for one in serials])
    assert outcome.stored == len(outcome.receipts) == BATCH_MESSAGES_MAX
    assert world.pools(acme) == 0 and days(world) == BATCH_MESSAGES_MAX
