"""What the replay of the ledger remembers of a clock that went back."""

from gateway.domain.instants import DAY_MS
from gateway.domain.ledger import transfer_id
from gateway.domain.verification import Moved, Replay

ISSUER, POOL = 1, 9


def grant(number: int, day: int) -> Moved:
    operation = f"00000000-0000-0000-0000-{number:012d}"
    id_ = transfer_id(operation, 0)
    return Moved(id_, operation, "grant", ISSUER, POOL, 1, 1, None, None, "", "1", day * DAY_MS)


def test_days_that_the_clock_came_by_again_are_one_stretch_for_each_step() -> None:
    replay = Replay({ISSUER: "issuer", POOL: "pool"})
    days = [10, 20, 15, 13, *[14] * 500, 19, 20, 21, 21, 20, 30, 28]
    for number, day in enumerate(days):
        replay.take(grant(number, day))
    assert replay.lived_twice == [(13, 20), (20, 21), (28, 30)]
    assert replay.sums == {ISSUER: -len(days), POOL: len(days)} and not replay.ids
