"""Commands: whose they are, how old they may be, and that each is carried out once."""

from collections.abc import Mapping

import hypothesis.strategies as st
from hypothesis import given

from agent.commands import ANSWERS_MAX, CommandDesk, CommandRefused, SeenWindow
from wire.commands import SEEN_WINDOW, Command, Outcome, encode_command

KEY, SERIAL, NONCE = bytes(32), "1100000001", "ab" * 16
NOW_MS = 1_800_000_000_000


class Desk(CommandDesk):
    """A desk that notes what it carried out."""

    def __init__(self) -> None:
        self.done: list[Mapping[str, object]] = []
        super().__init__(KEY, SERIAL, {"ping": self._ping, "no": self._no, "disk": self._disk})
        self.connected(NONCE)

    def _ping(self, args: Mapping[str, object]) -> Mapping[str, object]:
        self.done.append(args)
        return {"count": len(self.done)}

    def _no(self, args: Mapping[str, object]) -> Mapping[str, object]:
        raise CommandRefused("never")

    def _disk(self, args: Mapping[str, object]) -> Mapping[str, object]:
        raise OSError(28, "No space left on device")


def sent(
    n: int = 1,
    *,
    id_: str | None = None,
    verb: str = "ping",
    time_ms: int = NOW_MS,
    ttl_s: int = 60,
    key: bytes = KEY,
    serial: str = SERIAL,
    nonce: str = NONCE,
) -> bytes:
    command = Command(n, id_ or f"id-{n}", verb, {"n": n}, time_ms, ttl_s)
    return encode_command(command, key=key, serial=serial, nonce=nonce)


def test_only_commands_of_this_connection_for_this_device_are_heard() -> None:
    desk = Desk()
    forged = [
        sent(key=b"x" * 32),
        sent(serial="1100000002"),
        sent(nonce="cd" * 16),
        sent()[:-1] + b" ",
        sent()[32:],
        b"",
        b"\xff" * 40,
    ]
    assert [desk.take(payload) for payload in forged] == [None] * len(forged)
    assert desk.ignored == len(forged)
    answer = desk.take(sent())
    assert answer is not None and answer.outcome is Outcome.DONE
    desk.connected("ef" * 16)
    assert desk.take(sent(2)) is None  # it was meant for the connection before
    assert len(desk.done) == 1


def test_before_the_first_connection_nothing_is_heard() -> None:
    assert CommandDesk(KEY, SERIAL, {}).take(sent()) is None


OUTCOMES = [
    # verb      outcome           result
    ("ping", Outcome.DONE, {"count": 1}),
    ("no", Outcome.REFUSED, {"error": "never"}),
    ("disk", Outcome.FAILED, {"error": "No space left on device"}),
    ("explode", Outcome.REFUSED, {"error": "unknown_verb"}),
]


def test_each_outcome_is_said() -> None:
    for verb, outcome, result in OUTCOMES:
        answer = Desk().take(sent(verb=verb))
        assert answer is not None
        assert (answer.outcome, answer.result) == (outcome, result), verb


AGES = [
    # server time heard   time of the command   ttl   outcome
    (0, NOW_MS, 1, Outcome.DONE),  # nothing heard yet: the command's own time is believed
    (NOW_MS, NOW_MS - 60_000, 60, Outcome.DONE),
    (NOW_MS, NOW_MS - 60_001, 60, Outcome.REFUSED),
    (NOW_MS, NOW_MS + 3_600_000, 1, Outcome.DONE),
]


def test_age_is_judged_by_the_servers_time_alone() -> None:
    for heard_ms, time_ms, ttl_s, outcome in AGES:
        desk = Desk()
        desk.heard_server_time(heard_ms)
        answer = desk.take(sent(time_ms=time_ms, ttl_s=ttl_s))
        assert answer is not None and answer.outcome is outcome, (heard_ms, time_ms)
    desk = Desk()
    desk.take(sent(1, time_ms=NOW_MS))
    answer = desk.take(sent(2, time_ms=NOW_MS - 61_000))
    assert answer is not None and answer.result == {"error": "expired"}


def test_the_same_command_again_gets_the_same_answer_and_is_not_done_again() -> None:
    desk = Desk()
    first = desk.take(sent(1))
    assert desk.take(sent(1)) == first
    assert desk.take(sent(2, id_="id-1")) == first  # repeated under a new counter
    desk.connected(NONCE)
    assert desk.take(sent(1)) == first  # repeated on a new connection
    assert len(desk.done) == 1


def test_a_counter_that_was_used_is_not_heard_under_another_id() -> None:
    desk = Desk()
    desk.take(sent(1))
    assert desk.take(sent(1, id_="another")) is None
    assert len(desk.done) == 1


def test_no_more_answers_are_kept_than_the_limit() -> None:
    desk = Desk()
    for n in range(1, ANSWERS_MAX + 2):
        desk.take(sent(n))
    desk.connected(NONCE)
    desk.take(sent(1))  # forgotten, so it is done again: the window of the connection guards it
    desk.take(sent(2, id_=f"id-{ANSWERS_MAX + 1}"))
    assert len(desk.done) == ANSWERS_MAX + 2


@given(st.lists(st.integers(1, 200), max_size=80))
def test_the_window_takes_each_counter_once_in_any_order(counters: list[int]) -> None:
    window, seen, highest = SeenWindow(), set[int](), 0
    for n in counters:
        expected = n not in seen and n > highest - SEEN_WINDOW
        assert window.take(n) == expected
        if expected:
            seen.add(n)
            highest = max(highest, n)


def test_a_far_jump_of_the_counter_costs_nothing() -> None:
    window = SeenWindow()
    assert window.take(1)
    assert window.take(2**53 - 1)
    assert not window.take(1)
