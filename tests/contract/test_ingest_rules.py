"""Rules between devices and the gateway that need more than one message to be seen."""

from collections.abc import Callable

import pytest
from sqlalchemy import func, insert, select, update

from gateway.domain.instants import HOUR_MS, MINUTE_MS
from gateway.ingest.sender import Claimed, claim, end
from gateway.jobs import housekeeping, presence
from gateway.operations import outbox as queue
from gateway.operations.joining import join
from gateway.operations.logins import set_login
from gateway.storage.schema import (
    device_live,
    enrolment,
    idempotency,
    join_code,
    outbox,
)
from gateway.storage.transaction import AnyRow, Signal, Transaction
from tests.contract.world import SITE, World
from wire.commands import TTL_S_MAX, Answer, Outcome, Verb, decode_command
from wire.heartbeat import TOO_MANY_GAPS, Refused
from wire.join import JoinAnswer, JoinRequest, decode_join_string

S, T = "1100000001", "1100000002"
KEY = bytes.fromhex("b" * 64)


@pytest.fixture
def served(world: World) -> str:
    acme = world.company("Acme")
    world.grant(acme, 5)
    world.register(S, acme)
    world.join(S)
    world.up(S)
    world.heartbeat(S)
    return S


# Receipts


def test_numbers_that_are_given_up_are_refused_before_they_are_settled(
    world: World, served: str
) -> None:
    """A receipt that only covers them would tell the device that they are committed."""
    for number in range(3, 3 + 2 * 32, 2):
        outcome = world.heartbeat(S, number=number, low=1)
        assert world.router(S).receipts[-1].refused == ()
    outcome = world.heartbeat(S, number=3 + 2 * 32, low=1, ask=False)
    receipt = world.router(S).receipts[-1]
    assert len(outcome.receipts) == 1 and outcome.lost == 1
    assert receipt.refused == (Refused(2, 2, TOO_MANY_GAPS),)
    assert (receipt.upto, len(receipt.ranges)) == (3, 32)


def test_a_run_that_was_over_and_signs_in_again_is_a_second_place(
    world: World, served: str
) -> None:
    """Two copies of a device take the connection from each other, each in a run of its own."""
    router = world.router(S)
    first, second = router.run, world.new_run()
    alerts = []
    for connection in range(2, 5):
        router.run, router.connection = second, connection
        world.up(S)
        router.run, router.connection = first, connection
        world.up(S)
        alerts.append(world.device(S)["alerts"])
    assert alerts == [[], [], ["credential_in_two_places"]]
    assert world.row(S).run == second


def test_a_message_of_an_older_connection_brings_its_samples_and_no_presence(
    world: World, served: str
) -> None:
    router = world.router(S)
    router.interval_s = 900
    overtaken = router.message()
    router.connection = 2
    world.up(S)
    world.up(S, up=False)
    before = world.row(S)
    world.deliver((S, "hb", overtaken))
    after = world.row(S)
    assert after.upto == before.upto + 1
    for name in ("connection", "nonce", "interval_s", "late_at", "offline_at", "presence"):
        assert getattr(after, name) == getattr(before, name), name


def test_another_field_table_asks_every_device_for_a_full_sample(
    world: World, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write(housekeeping.note_field_table)
    world.heartbeat(S)
    world.heartbeat(S)
    world.write(housekeeping.note_field_table)
    world.heartbeat(S)
    assert not world.router(S).receipts[-1].full
    monkeypatch.setattr(housekeeping, "FIELD_TABLE_VERSION", 999)
    world.write(housekeeping.note_field_table)
    world.heartbeat(S)
    assert world.router(S).receipts[-1].full
    world.heartbeat(S)  # it sends a full one
    assert not world.router(S).receipts[-1].full


# Commands


def ping(world: World, serial: str = S) -> str:
    row = world.row(serial)

    def put(tx: Transaction) -> str:
        return queue.put(
            tx,
            device_id=row.id,
            serial=serial,
            node="node-1",
            verb=Verb.PING,
            args={},
            actor="test",
        )

    return world.write(put)


def send(world: World) -> list[Claimed]:
    return world.write(lambda tx: claim(tx, "node-1", SITE.master_key, SITE.tickets))


def command_row(world: World, id_: str) -> AnyRow:
    found = world.read(lambda tx: tx.one(select(outbox).where(outbox.c.id == id_)))
    assert found is not None
    return found


def test_a_command_is_bound_to_the_connection_that_is_known(world: World, served: str) -> None:
    ids = [ping(world), ping(world)]
    claimed = send(world)
    assert [one.id for one in claimed] == ids and send(world) == []
    read = []
    for one in claimed:
        assert one.payload is not None
        read.append(decode_command(one.payload, key=KEY, serial=S, nonce="0" * 32))
    assert [command.n for command in read] == [1, 2]
    assert all(command.time_ms == world.now_ms for command in read)
    # Its next connection is known by a heartbeat alone: nothing can be bound to it yet.
    world.router(S).connection = 2
    world.heartbeat(S)
    ping(world)
    assert [(one.payload, one.why) for one in send(world)] == [(None, "signed_out")]


def test_a_command_whose_time_is_over_is_not_sent(world: World, served: str) -> None:
    ping(world)
    world.now_ms += 2 * MINUTE_MS
    assert [(one.payload, one.why) for one in send(world)] == [(None, "expired")]


def test_a_clock_that_was_set_back_makes_no_command_that_a_device_would_not_read(
    world: World, served: str
) -> None:
    ping(world)
    world.now_ms -= HOUR_MS
    (one,) = send(world)
    assert one.payload is not None
    command = decode_command(one.payload, key=KEY, serial=S, nonce="0" * 32)
    assert command.ttl_s == TTL_S_MAX


def test_the_first_answer_counts_and_a_late_one_is_better_than_none(
    world: World, served: str
) -> None:
    late, twice, unsent = ping(world), ping(world), ping(world)
    world.write(
        lambda tx: tx.run(update(outbox).where(outbox.c.id != unsent).values(sent_at=tx.now_ms))
    )
    world.answer(S, Answer(unsent, Outcome.DONE, {}))
    assert command_row(world, unsent).answered_at is None
    world.answer(S, Answer(twice, Outcome.DONE, {"n": 1}))
    world.answer(S, Answer(twice, Outcome.FAILED, {"n": 2}))
    assert (command_row(world, twice).outcome, command_row(world, twice).answer) == (
        "done",
        '{"n":1}',
    )
    world.write(lambda tx: end(tx, [late, twice], "connection_lost"))
    assert command_row(world, late).outcome == "unknown"
    assert command_row(world, twice).outcome == "done"
    world.answer(S, Answer(late, Outcome.DONE, {}))
    world.answer(S, Answer(late, Outcome.FAILED, {}))
    assert command_row(world, late).outcome == "done"


def test_what_is_never_answered_ends_as_unknown(world: World, served: str) -> None:
    id_ = ping(world)
    assert world.read(housekeeping.unanswered) == []
    world.now_ms += 2 * MINUTE_MS
    ids = world.read(housekeeping.unanswered)
    assert ids == [id_]
    assert world.write(lambda tx: housekeeping.end_commands(tx, ids)) == 1
    assert world.write(lambda tx: housekeeping.end_commands(tx, ids)) == 0
    row = command_row(world, id_)
    assert (row.outcome, row.answer) == ("unknown", '{"error":"no_answer"}')


# Joining


def joining(text: str, serial: str) -> Callable[[Transaction], JoinAnswer]:
    code = decode_join_string(text).code
    request = JoinRequest(code, serial, "00:1E:42:00:00:01", "a" * 64, "b" * 64)
    return lambda tx: join(tx, SITE, request, "test")


def test_a_race_for_the_last_use_of_a_join_code_has_one_winner(world: World) -> None:
    acme = world.company("Acme")
    made = world.do("join-codes.create", company_id=acme, uses=3, register=True, credits=0)
    serials = [f"racing-{number:03}" for number in range(20)]
    results = world.together([joining(made["join"], one) for one in serials])
    joined = [one for one, result in zip(serials, results, strict=True) if hasattr(result, "state")]
    assert len(joined) == 3
    assert world.read(lambda tx: tx.scalar(select(join_code.c.uses_left))) == 0
    in_force = world.read(lambda tx: tx.scalar(select(func.count()).select_from(enrolment)))
    assert in_force == 3 and all(world.login(one) for one in joined)
    # The winners may ask again as often as they like, also when the code is long gone.
    world.write(housekeeping.clean)
    again = world.write(joining(made["join"], joined[0]))
    assert again.state == "joined"


def signals(world: World, login: str, hashed: str | None) -> set[Signal]:
    def change(tx: Transaction) -> set[Signal]:
        set_login(tx, login, hashed)
        return tx.signals

    return world.write(change)


def test_a_password_that_ends_is_urgent_whether_or_not_another_follows(world: World) -> None:
    """As at a release: the device that had the serial before must be thrown out in time."""
    assert signals(world, S, "one") == {Signal.LOGINS}
    assert signals(world, S, "two") == {Signal.LOGINS, Signal.LOGIN_REMOVED}
    assert signals(world, S, None) == {Signal.LOGINS, Signal.LOGIN_REMOVED}
    assert signals(world, S, "three") == {Signal.LOGINS}


# Housekeeping


def test_old_rows_go_in_small_steps_and_nothing_else_with_them(world: World, served: str) -> None:
    old, young = world.now_ms - housekeeping.IDEMPOTENCY_KEPT_MS - 1, world.now_ms

    def fill(tx: Transaction) -> None:
        rows = [(f"key-{n}", "user:1", old) for n in range(2 * housekeeping.ROWS_AT_ONCE)]
        # Another's key may have the same name.
        rows += [("key-0", "user:2", young)]
        for key, principal, at in rows:
            tx.run(
                insert(idempotency),
                {
                    "principal": principal,
                    "key": key,
                    "request_hash": b"",
                    "status": 200,
                    "body": b"",
                    "at": at,
                },
            )

    world.write(fill)
    steps = []
    while deleted := world.write(housekeeping.clean):
        steps.append(deleted)
    assert max(steps) == housekeeping.ROWS_AT_ONCE and len(steps) >= 2
    left = world.read(lambda tx: tx.all(select(idempotency)))
    assert [(row.principal, row.key) for row in left] == [("user:2", "key-0")]


def test_the_sweep_of_a_silent_fleet_goes_in_small_steps(world: World) -> None:
    acme = world.company("Acme")
    serials = [f"silent-{number:03}" for number in range(150)]
    world.together([world.work("devices.register", serial=one, company_id=acme) for one in serials])
    world.deliver(*[(one, "hb", world.router(one).message()) for one in serials])
    clock_ms = world.now_ms + HOUR_MS
    steps = []
    while changed := world.write(lambda tx: presence.sweep(tx, "node-1", clock_ms)):
        steps.append(changed)
    assert sum(steps) == 150 and max(steps) <= 2 * presence.SWEPT_AT_ONCE
    states = world.read(lambda tx: tx.all(select(device_live.c.presence).distinct()))
    assert [row.presence for row in states] == ["offline"]
