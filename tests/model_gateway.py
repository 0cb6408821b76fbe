"""A gateway as small as it can be, for tests of the device side: rows, a state, receipts."""

import json

from wire.fields import Value
from wire.heartbeat import Message, Receipt, Refused, encode_receipt, parse_message
from wire.ranges import NOTHING, Settled, add, bounded, close_below

SERVER_TIME_MS = 1_800_000_000_000


class ModelGateway:
    """Stores what it is told and says so, by sections 2 and 3 of the heartbeat rules."""

    def __init__(self, *, every: int = 4) -> None:
        self.every = every
        self.rows: dict[str, Settled] = {}
        self.stored: dict[tuple[str, int], dict[int, Value]] = {}
        self.clocks: dict[tuple[str, int], tuple[Message, int]] = {}
        self.repeats = 0
        self.lost = 0
        self.dropped = 0
        self.current: str | None = None
        self.superseded: set[str] = set()
        self.state: dict[int, Value] = {}
        self.state_seq = 0
        self.need_full = False
        self.poisoned: set[int] = set()
        self.refused: set[int] = set()

    def take(self, payload: bytes) -> tuple[Message, bytes | None]:
        """One message in, the receipt that it earns out. Raises `WireError`."""
        assert len(payload) <= 16_000
        message = parse_message(json.loads(payload))
        if any(sample.number in self.poisoned for sample in message.samples):
            return message, None
        self._supersede(message.current_run)
        row = self.rows.get(message.run, NOTHING)
        if message.base and message.base not in row:
            self.need_full = True
        refused = []
        for sample in message.samples:
            if sample.number in self.refused:
                refused.append(Refused(sample.number, sample.number, "bad"))
                continue
            if sample.number in row:
                self.repeats += 1
            else:
                key = (message.run, sample.number)
                assert key not in self.stored
                self.stored[key] = sample.values
                self.clocks[key] = (message, sample.clock_ms)
                row = add(row, sample.number)
            self._apply(message, sample.number, sample.values)
        row, lost = close_below(row, message.low)
        row, more = bounded(row)
        self.lost += lost + more
        self.rows[message.run] = row
        self.dropped = max(self.dropped, message.dropped)
        asked = message.ask or any(s.number % self.every == 0 for s in message.samples)
        return message, self._receipt(message.run, row, tuple(refused)) if asked else None

    def _receipt(self, run: str, row: Settled, refused: tuple[Refused, ...]) -> bytes:
        return encode_receipt(
            Receipt(
                run,
                row.upto,
                row.ranges,
                SERVER_TIME_MS,
                self.every,
                full=self.need_full,
                spread_s=5,
                refused=refused,
            )
        )

    def _supersede(self, run: str) -> None:
        if run == self.current or run in self.superseded:
            return
        if self.current is not None:
            self.superseded.add(self.current)
        self.current, self.state_seq = run, 0

    def _apply(self, message: Message, number: int, values: dict[int, Value]) -> None:
        if message.run != self.current or number <= self.state_seq:
            return
        first = message.samples[0].number == number
        if first and message.base == 0:
            self.need_full = False
        self.state.update(values)
        self.state_seq = number
