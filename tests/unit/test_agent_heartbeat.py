"""The heartbeat machine: deltas, live messages, the backlog, what receipts do."""

from pathlib import Path

from agent.heartbeat import STRIKES_MAX
from agent.intervals import Intervals
from tests.agent_device import Device
from tests.model_gateway import ModelGateway
from wire.heartbeat import Message, Receipt, Refused, decode_receipt


def messages(payloads: list[bytes]) -> list[Message]:
    gateway = ModelGateway()
    return [gateway.take(payload)[0] for payload in payloads]


def receipt(run: str, upto: int, **more: object) -> Receipt:
    return Receipt(run, upto, (), 1_800_000_000_000, 4, **more)  # type: ignore[arg-type]  # by name


def test_the_first_message_is_full_and_asks_and_the_next_is_a_delta(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.sample({1: 5, 10: -90, 13: "A"})
    device.connect()
    (first,) = messages(device.take())
    assert (first.base, first.ask, first.low, first.connection) == (0, True, 1, 1)
    assert first.samples[0].values == {1: 5, 10: -90, 13: "A"}
    device.machine.receipt(receipt(device.machine.run, 1), device.now_ms)
    device.now_ms += 60_000
    device.sample({1: 6, 10: -90, 13: "A"})
    (second,) = messages(device.take())
    assert (second.base, second.ask, second.low) == (1, False, 2)
    assert second.samples[0].values == {1: 6}


def test_a_field_that_changed_back_since_base_is_sent(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.sample({10: -90})
    device.connect()
    device.take()
    device.machine.receipt(receipt(device.machine.run, 1), device.now_ms)
    sent = []
    for value in (-91, -90, -90):
        device.now_ms += 60_000
        device.sample({10: value})
        sent += messages(device.take())
    assert [message.samples[0].values for message in sent] == [{10: -91}, {10: -90}, {10: -90}]
    assert {message.base for message in sent} == {1}


def test_full_in_a_receipt_makes_the_next_message_full(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.sample({1: 1, 10: -90})
    device.connect()
    device.take()
    device.machine.receipt(receipt(device.machine.run, 1, full=True), device.now_ms)
    device.now_ms += 60_000
    device.sample({1: 2, 10: -90})
    (message,) = messages(device.take())
    assert message.base == 0
    assert message.samples[0].values == {1: 2, 10: -90}


def test_true_and_one_are_different_values(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.sample({12: 1, 40: True})
    device.connect()
    device.take()
    device.machine.receipt(receipt(device.machine.run, 1), device.now_ms)
    device.now_ms += 60_000
    device.sample({12: 1, 40: False})
    (message,) = messages(device.take())
    assert message.samples[0].values == {40: False}


def test_samples_between_two_sendings_go_in_one_message(tmp_path: Path) -> None:
    device = Device(tmp_path, intervals=Intervals(10, 60))
    device.sample({1: 0, 10: -90})
    device.connect()
    device.take()
    device.machine.receipt(receipt(device.machine.run, 1), device.now_ms)
    for second in range(10, 70, 10):
        assert device.take() == []
        device.now_ms += 10_000
        device.sample({1: second, 10: -90})
    (message,) = messages(device.take())
    assert [s.number for s in message.samples] == [2, 3, 4, 5, 6, 7]
    assert [s.clock_ms for s in message.samples] == [50_000, 40_000, 30_000, 20_000, 10_000, 0]
    assert [s.values for s in message.samples] == [{1: s} for s in range(10, 70, 10)]
    assert message.interval_s == 60


def test_a_message_without_receipt_for_too_long_asks(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.sample({1: 0})
    device.connect()
    device.take()
    device.machine.receipt(receipt(device.machine.run, 1), device.now_ms)
    asked = []
    for minute in range(12):
        device.now_ms += 60_000
        device.sample({1: minute + 1})
        asked += [message.ask for message in messages(device.take())]
    # every 4, interval 60 s: the oldest, sample 2, is older than 480 s from the tenth on.
    assert asked == [False] * 9 + [True] * 3


def test_the_backlog_waits_for_a_receipt_and_goes_one_by_one(tmp_path: Path) -> None:
    device = Device(tmp_path)
    gateway = ModelGateway()
    for number in range(450):
        device.now_ms += 60_000
        device.sample({1: number, 13: "x" * 60})
    device.connect()
    (live,) = device.take()
    device.now_ms += 1_000
    assert device.take() == []  # nobody has answered yet
    payloads = [live]
    for _ in range(4):
        _, answer = gateway.take(payloads[-1])
        assert answer is not None
        device.machine.receipt(decode_receipt(answer), device.now_ms)
        payloads += device.take()
    assert len(device.spool) == 0
    sizes = [len(message.samples) for message in messages(payloads)]
    assert sum(sizes) == 450 and sizes[0] == 1 and max(sizes) <= 200
    assert all(message.ask for message in messages(payloads))


def test_a_backlog_message_is_resent_between_one_second_and_one_hour(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.sample({1: 1})
    device.kill()
    device.sample({1: 2})
    device.connect()
    device.take()
    device.machine.receipt(receipt(device.machine.run, 1), device.now_ms)
    assert len(device.take()) == 1
    waits = []
    for _ in range(40):
        before_ms = device.now_ms
        device.now_ms = device.machine.due_ms()
        assert len(device.take()) == 1
        waits.append((device.now_ms - before_ms) / 1_000)
    assert all(1 <= wait <= 30 * 2**i for i, wait in enumerate(waits))
    assert 600 < max(waits) <= 3_600


def test_a_sample_that_is_never_receipted_costs_itself_alone(tmp_path: Path) -> None:
    device = Device(tmp_path)
    gateway = ModelGateway(every=1)
    for number in range(60):
        device.now_ms += 1_000
        device.sample({1: number})
    gateway.poisoned = {17}
    device.connect()
    for step in range(3_000):
        for payload in device.take():
            _, answer = gateway.take(payload)
            if answer is not None:
                device.machine.receipt(decode_receipt(answer), device.now_ms)
        if not len(device.spool):
            break
        device.now_ms += 60_000
        device.sample({1: step})
    assert [n for run, n in gateway.stored if run == device.machine.run and n <= 60] != []
    missing = set(range(1, 61)) - {n for _, n in gateway.stored}
    assert 17 in missing
    assert device.spool.refused == device.spool.dropped == len(missing) <= 2
    assert STRIKES_MAX == 8


def test_refused_ranges_are_dropped_and_counted(tmp_path: Path) -> None:
    device = Device(tmp_path)
    gateway = ModelGateway(every=1)
    gateway.refused = {1}
    device.sample({1: 1})
    device.connect()
    (payload,) = device.take()
    _, answer = gateway.take(payload)
    assert answer is not None
    received = device.machine.receipt(decode_receipt(answer), device.now_ms)
    assert received.settled == []
    assert (device.spool.refused, device.spool.dropped, len(device.spool)) == (1, 1, 0)


def test_what_a_receipt_refuses_is_not_settled_by_it_however_far_it_reaches(tmp_path: Path) -> None:
    """The gateway gives numbers up by counting them as settled, and says so once."""
    device = Device(tmp_path)
    for value in (1, 2, 3):
        device.sample({1: value})
    device.connect()
    device.take()
    refused = (Refused(2, 2, "too_many_gaps"),)
    received = device.machine.receipt(
        receipt(device.machine.run, 3, refused=refused), device.now_ms
    )
    assert received.settled == [1, 3]
    assert (device.spool.refused, len(device.spool)) == (1, 0)


def test_a_receipt_for_samples_that_do_not_exist_changes_nothing(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.sample({1: 1})
    device.connect()
    device.take()
    received = device.machine.receipt(receipt(device.machine.run, 7), device.now_ms)
    assert received.settled == [] and len(device.spool) == 1 and device.machine.base == 0
    assert device.machine.receipts_ignored == 1


def test_each_attempt_to_connect_has_its_own_number(tmp_path: Path) -> None:
    device = Device(tmp_path)
    assert [device.machine.next_connection() for _ in range(3)] == [1, 2, 3]
