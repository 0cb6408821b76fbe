"""How long an agent waits, by what happened."""

from random import Random

from agent.connection import keepalive_s
from agent.reconnect import Reconnect


class Widest(Random):
    """Always the longest wait that could be drawn."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_a_lost_network_is_tried_after_one_second_up_to_sixty() -> None:
    waits = Reconnect(Widest())
    assert [waits.after_failure_s() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_refusal_is_never_final_and_waits_from_five_seconds_to_fifteen_minutes() -> None:
    waits = Reconnect(Widest())
    drawn = [waits.after_refusal_s() for _ in range(10)]
    assert drawn == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]


def test_jitter_is_full_for_a_lost_network_and_half_for_a_refusal() -> None:
    for seed in range(50):
        waits = Reconnect(Random(seed))
        assert all(0 <= waits.after_failure_s() <= 60 for _ in range(9))
        assert 2.5 <= waits.after_refusal_s() <= 5
    lows = [Reconnect(Random(seed)).after_failure_s() for seed in range(200)]
    assert min(lows) < 0.05 and max(lows) > 0.95


SPREADS = [(0, 5), (5, 5), (200, 200)]


def test_after_a_server_that_had_worked_the_fleet_is_spread() -> None:
    for spread_s, widest in SPREADS:
        assert Reconnect(Widest()).after_loss_s(3_600, spread_s) == widest


def test_a_long_life_starts_the_waits_again_and_a_short_one_does_not() -> None:
    waits = Reconnect(Widest())
    for _ in range(4):
        waits.after_failure_s()
    assert waits.after_loss_s(1, 5) == 5 + 16
    assert waits.after_loss_s(1, 5) == 5 + 32
    assert waits.after_loss_s(31, 5) == 5
    assert waits.after_failure_s() == 1


def test_two_clients_of_one_name_do_not_hurry() -> None:
    waits = Reconnect(Widest())
    assert [waits.after_takeover_s(40) for _ in range(3)] == [5, 10, 20]
    assert waits.after_takeover_s(10_000) == 5


def test_pings_are_rarer_than_receipts() -> None:
    assert [keepalive_s(interval_s) for interval_s in (1, 10, 60, 86_400)] == [60, 60, 300, 300]
