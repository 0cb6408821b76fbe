"""Compares this gateway's clocks with each other and with the database host's, all the time."""

import threading
from typing import NamedTuple

from gateway.clock import Clock
from gateway.domain.clock_trust import (
    APART_MS_MAX,
    TRUSTED,
    Caution,
    Doubt,
    Trust,
    apart,
    judged,
    words,
)

STEPPED = "the server's clock was changed while it ran,"
AWAY = "the database host's clock differs from this gateway's"


class Told(NamedTuple):
    """For people: what is wrong or waited for, and since when."""

    doubt: str
    doubt_since_ms: int
    caution: str
    caution_since_ms: int


BELIEVED = Told("", 0, "", 0)


class ClockGuard:
    """Asked at the begin of every transaction, on any thread: a step between two is not missed.

    A clock that a test moves by its offset moves everything together and is no fault, so the
    machine's own clocks are compared.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        wall_ms, boot_ms = clock.unmoved()
        self._between_ms = wall_ms - boot_ms  # what is taken for right
        self._host_between_ms = 0
        self._host_apart_ms = 0
        self._doubt: Doubt | None = None
        self._caution: Caution | None = None
        self._trust = TRUSTED
        self._changing = threading.Lock()

    def asked(self) -> int:
        """To be taken before the database host is asked for its time."""
        return self._clock.unmoved()[0]

    def heard_host(self, asked_ms: int, host_ms: int) -> None:
        """The host's clock as it was at some time since the question."""
        answered_ms = self._clock.unmoved()[0]
        usual_ms = self._host_between_ms
        self._host_apart_ms = apart(host_ms - answered_ms - usual_ms, host_ms - asked_ms - usual_ms)

    def trust(self) -> Trust:
        """What a transaction that begins now has to know."""
        wall_ms, boot_ms = self._clock.unmoved()
        stepped_ms = wall_ms - boot_ms - self._between_ms
        calm = -APART_MS_MAX <= stepped_ms <= APART_MS_MAX
        if self._doubt is None and calm and abs(self._host_apart_ms) <= APART_MS_MAX:
            return self._trust
        with self._changing:
            what = words(STEPPED, stepped_ms) or words(AWAY, self._host_apart_ms)
            self._doubt = judged(self._doubt, what, boot_ms)
            return self._put()

    def learn(self, accepted: int, caution: Caution | None) -> None:
        """What the database says: how often people accepted the clock, and what is waited for."""
        with self._changing:
            if accepted > self._trust.accepted and self._doubt is not None:
                # From now on what is so counts as right.
                wall_ms, boot_ms = self._clock.unmoved()
                self._between_ms = wall_ms - boot_ms
                self._host_between_ms += self._host_apart_ms
                self._host_apart_ms = 0
                self._doubt = None
            self._caution = caution
            self._put(accepted)

    def told(self) -> Told:
        """What is wrong now, in words."""
        doubt, caution = self._doubt, self._caution
        return Told(
            doubt.what if doubt else "",
            # By the clock as it was before it was changed.
            doubt.since_ms + self._between_ms + self._clock.offset_ms() if doubt else 0,
            caution.why if caution else "",
            caution.since_ms if caution else 0,
        )

    def _put(self, accepted: int | None = None) -> Trust:
        number = self._trust.accepted if accepted is None else accepted
        doubt = self._doubt.what if self._doubt else ""
        self._trust = Trust(doubt, number, self._caution.seq if self._caution else None)
        return self._trust
