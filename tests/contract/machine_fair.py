"""What one device may be charged for, kept without looking at how the gateway counts."""

from dataclasses import dataclass, field

from gateway.domain.instants import DAY_MS, HOUR_MS
from gateway.storage.transaction import AnyRow

CREDIT_MS = 30 * DAY_MS


@dataclass
class Touched:
    """Which devices a step concerned, and how."""

    by_contact: set[str] = field(default_factory=set)  # heard
    by_hand: set[str] = field(default_factory=set)  # somebody asked for service
    given: set[str] = field(default_factory=set)  # days of any number: given, or taken back
    carried: set[str] = field(default_factory=set)  # the period came from another tenure

    def clear(self) -> None:
        for one in (self.by_contact, self.by_hand, self.given, self.carried):
            one.clear()


class Fair:
    """The newest tenure of one serial."""

    def __init__(self) -> None:
        self.device_id = 0
        self.registered = False
        self.period: tuple[int, int] | None = None
        self.last: tuple[int, int] | None = None  # the period before
        self.heard_ms: int | None = None
        self.grace_ms = 0  # served in grace and not paid for
        self.grace_until: int | None = None
        self.in_grace = False

    def heard(self, now_ms: int) -> None:
        """A heartbeat came; one that comes while a period runs belongs to it, although the clock
        went back to before its beginning."""
        if self.registered:
            self.heard_ms = now_ms if self.period is None else max(now_ms, self.period[0])

    def served(self, now_ms: int, ms: int) -> None:
        """Time passes: one in grace is served for nothing."""
        if self.in_grace and self.grace_until is not None:
            self.grace_ms += max(0, min(ms, self.grace_until - now_ms))

    def look(self, serial: str, row: AnyRow, now_ms: int, step: Touched, *, sure: bool) -> None:
        """What a step did to the device; `sure`: the clock never went back behind this instant."""
        now = None if row.period_start is None else (row.period_start, row.period_end)
        begun = now is not None and (self.period is None or now[0] != self.period[0])
        if begun and now is not None and serial not in step.carried:
            self._begun(serial, now, now_ms, step, sure=sure)
        if self.period is not None and (now is None or now[0] != self.period[0]):
            self.last = self.period
        self.period = now
        in_grace = row.reason == "grace"
        if in_grace and not self.in_grace and self.grace_ms == 0 and row.grace_from is not None:
            self.grace_ms = max(0, now_ms - row.grace_from)
            if sure and serial not in step.carried:
                assert self.grace_ms <= HOUR_MS and self.last is not None
        self.in_grace, self.grace_until = in_grace, row.grace_until

    def _begun(
        self, serial: str, now: tuple[int, int], clock_ms: int, step: Touched, *, sure: bool
    ) -> None:
        """A period began in this step."""
        start_ms, end_ms = now
        last = self.period or self.last
        whole = (end_ms - start_ms) % (DAY_MS if serial in step.given else CREDIT_MS) == 0
        assert end_ms > start_ms and whole
        if sure:
            assert start_ms <= clock_ms < end_ms
            seamless = last is not None and start_ms == last[1] and clock_ms - start_ms <= HOUR_MS
            # Nothing is charged for but what lies ahead, and what was served in grace.
            assert seamless or clock_ms - start_ms <= self.grace_ms
        assert last is None or start_ms >= last[1] or not sure
        if serial not in step.by_contact | step.by_hand | step.given:
            since = 0 if last is None else last[0]
            assert self.heard_ms is not None and self.heard_ms >= since, "never heard, but charged"
        self.grace_ms = 0
