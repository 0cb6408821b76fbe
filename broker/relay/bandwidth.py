"""How fast a session may be: its own limit, and that of all sessions of its company here."""

import asyncio

from broker.relay.limits import Limits
from wire.rate import BYTES_A_MBIT, Bucket, Rate
from wire.streams import UNLIMITED, Rates

_Both = tuple[Bucket, Bucket]  # to the device, and from there


class Bandwidth:
    """Of one relay. To be made inside a running loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._companies: dict[str, tuple[_Both, int]] = {}  # and of how many sessions

    @property
    def companies(self) -> int:
        """How many have sessions that are counted together."""
        return len(self._companies)

    def begin(self, company: str) -> Rates:
        """For a session that begins; `end` is called with the company once it is over."""
        if not (self._limits.session_mbit_s or self._limits.company_mbit_s):
            return UNLIMITED
        both = [] if not self._limits.session_mbit_s else [self._new(self._limits.session_mbit_s)]
        if self._limits.company_mbit_s:
            shared, count = self._companies.get(company) or (
                self._new(self._limits.company_mbit_s),
                0,
            )
            self._companies[company] = shared, count + 1
            both.append(shared)
        clock, later = self._loop.time, self._loop.call_later
        to_device, from_device = (
            Rate(tuple(pair[way] for pair in both), clock, later) for way in (0, 1)
        )
        return to_device, from_device

    def end(self, company: str) -> None:
        """A session is over."""
        if company in self._companies:
            shared, count = self._companies.pop(company)
            if count > 1:
                self._companies[company] = shared, count - 1

    def _new(self, mbit_s: int) -> _Both:
        now_s = self._loop.time()
        return Bucket(mbit_s * BYTES_A_MBIT, now_s), Bucket(mbit_s * BYTES_A_MBIT, now_s)
