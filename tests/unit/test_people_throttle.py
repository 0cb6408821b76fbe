"""Guessing is slowed down; nobody is ever locked out."""

import pytest

from gateway.people import throttle as module
from gateway.people.throttle import Throttle, TooManyWait


class Fake:
    """A throttle with a clock moved by hand."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.throttle = Throttle(lambda: self.now_ms)

    def attempt(self, account: str, address: str, *, right: bool = False) -> float:
        with self.throttle.attempt(account, address) as attempt:
            attempt.succeeded = right
        return attempt.delay_s


def test_the_delay_of_an_account_grows_after_five_failures_up_to_a_minute() -> None:
    fake = Fake()
    delays = [fake.attempt("joe", f"10.0.0.{n}") for n in range(14)]
    assert delays == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_delay_of_an_address_grows_after_twenty_failures() -> None:
    fake = Fake()
    delays = [fake.attempt(f"user{n}", "10.0.0.1") for n in range(23)]
    assert delays == [0] * 20 + [1, 2, 4]
    # Another address asks at once.
    assert fake.attempt("user100", "10.0.0.2") == 0


def test_after_fifteen_minutes_all_is_forgotten() -> None:
    fake = Fake()
    for _ in range(9):
        fake.attempt("joe", "10.0.0.1")
    assert fake.attempt("joe", "10.0.0.1") == 16
    fake.now_ms += module.WINDOW_MS + 1
    assert fake.attempt("joe", "10.0.0.1") == 0


def test_the_owner_who_gets_in_ends_what_strangers_did_to_the_account() -> None:
    fake = Fake()
    for n in range(8):
        fake.attempt("joe", f"10.0.0.{n}")
    assert fake.attempt("joe", "10.9.9.9", right=True) == 8
    assert fake.attempt("joe", "10.9.9.9", right=True) == 0


def test_a_stranger_with_an_own_account_does_not_clear_his_address() -> None:
    fake = Fake()
    for n in range(20):
        fake.attempt(f"user{n}", "10.0.0.1")
    assert fake.attempt("own", "10.0.0.1", right=True) == 1
    assert fake.attempt("user30", "10.0.0.1") == 1


def test_many_at_once_do_not_all_go_free() -> None:
    fake = Fake()
    entered = [fake.throttle.attempt("joe", f"10.0.0.{n}") for n in range(8)]
    delays = [one.__enter__().delay_s for one in entered]
    assert delays == [0, 0, 0, 0, 0, 1, 2, 4]
    for one in entered:
        one.__exit__(None, None, None)


def test_one_address_has_a_few_waiting_and_others_are_not_concerned() -> None:
    fake = Fake()
    entered = [
        fake.throttle.attempt(f"user{n}", "10.0.0.1")
        for n in range(module.WAITING_OF_ONE_ADDRESS_MAX)
    ]
    for one in entered:
        one.__enter__()
    with pytest.raises(TooManyWait), fake.throttle.attempt("x", "10.0.0.1"):
        pass
    assert fake.attempt("y", "10.0.0.2") == 0
    for one in entered:
        one.__exit__(None, None, None)
    assert fake.attempt("z", "10.0.0.1") == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_MAX", 100)
    fake = Fake()
    for n in range(500):
        fake.attempt(f"user{n}", f"10.0.{n // 250}.{n % 250}")
    assert len(fake.throttle._failures) <= 101
    assert not fake.throttle._waiting


def test_ten_thousand_failures_from_fifty_addresses_keep_nobody_out() -> None:
    """The victim, from a new address, waits a minute at most; and so does an unknown account."""
    fake, delays = Fake(), {}
    for account in ("victim", "nobody"):
        for number in range(10_000):
            fake.now_ms += 1
            fake.attempt(account, f"10.0.0.{number % 50}")
        delays[account] = fake.attempt(account, "198.51.100.9")
    assert delays["victim"] == delays["nobody"] == module.DELAY_S_MAX == 60
    # The owner gets in, which ends it; strangers begin anew.
    assert fake.attempt("victim", "198.51.100.9", right=True) == 60
    assert fake.attempt("victim", "198.51.100.9", right=True) == 0


def test_all_that_wait_from_fifty_addresses_leave_room_for_another() -> None:
    fake = Fake()
    waiting = []
    for number in range(10_000):
        attempt = fake.throttle.attempt("victim", f"10.0.0.{number % 50}")
        try:
            attempt.__enter__()
        except TooManyWait:
            continue
        waiting.append(attempt)
    assert len(waiting) == 50 * module.WAITING_OF_ONE_ADDRESS_MAX
    assert fake.attempt("victim", "198.51.100.9", right=True) == 60
    for attempt in waiting:
        attempt.__exit__(None, None, None)


def test_what_does_not_count_is_forgotten_and_forgives_nothing() -> None:
    fake = Fake()
    for _ in range(6):
        fake.attempt("joe", "10.0.0.1")
    for _ in range(3):
        with fake.throttle.attempt("joe", "10.0.0.1") as attempt:
            assert attempt.delay_s == 2
            attempt.counts = False
    assert fake.attempt("joe", "10.0.0.1") == 2
    assert fake.attempt("joe", "10.0.0.1") == 4
