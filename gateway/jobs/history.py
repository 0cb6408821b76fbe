"""Rolls history up: samples to hours, hours to days, and again what late samples change.

Reading and reckoning is done beside the writer, in steps of some devices; a step is kept in one
short transaction that moves a mark, and only while the mark is where it was. So any gateway may do
it, one that is killed loses a step, and heartbeats wait for the writing of some hundred rows.
"""

from collections.abc import Iterable
from functools import partial
from itertools import groupby
from typing import NamedTuple

from sqlalchemy import select

from gateway.domain.history import (
    HOURS_A_DAY,
    NOTHING,
    Bucket,
    Level,
    RolledUp,
    hours_over,
    merged,
    roll_hours,
    roll_up,
)
from gateway.domain.instants import DAY_MS, HOUR_MS
from gateway.storage import history_rows
from gateway.storage.history_rows import DEVICES_AT_ONCE, Progress
from gateway.storage.locks import Tree
from gateway.storage.rolled_up import unpacked
from gateway.storage.schema import device_live
from gateway.storage.store import Lane, Store
from gateway.storage.transaction import Transaction

SAMPLES_AT_ONCE = 5_000
HOURS_AT_ONCE = 24  # of each device, while there is much to catch up with
DAY_DEVICES_AT_ONCE = 100
LATE_AT_ONCE = 10
LATE_READ_AT_ONCE = 200
FOLLOWERS_MAX = 48
OLDEST_DAYS = 400  # what is older when roll-ups are made for the first time is left out
_JOB = "history"

_LATE = "SELECT id, device_id, hour FROM late_hour WHERE hour < ? ORDER BY id LIMIT ?"
_FORGET_LATE = "DELETE FROM late_hour WHERE id = ?"
_FORGET_SAMPLES = "DELETE FROM heartbeat WHERE device_id = ? AND at >= ? AND at < ?"
_NEXT_HOUR = (
    "SELECT hour, fields FROM history_hour WHERE device_id = ? AND hour > ? ORDER BY hour LIMIT 1"
)


class Step(NamedTuple):
    """What was reckoned, and from where to where its keeping moves the mark."""

    level: Level
    before: Progress | None
    after: Progress
    rows: list[tuple[int, int, bytes]]
    samples: int


async def roll_up_all(store: Store, rounds_max: int) -> int:
    """Rolls up all that is due, hours first; from how many samples."""
    samples = 0
    for plan in (plan_hours, plan_days):
        for _ in range(rounds_max):
            step = await store.read(plan)
            if step is None:
                break
            keeping = partial(keep, step=step)
            if not await store.write(keeping, lane=Lane.JOBS, tree=Tree.UNTOUCHED):
                return samples  # another gateway is at it
            samples += step.samples
    for _ in range(rounds_max):
        if not await store.read(anything_late):
            break
        if not await store.write(settle_late, lane=Lane.JOBS, tree=Tree.UNTOUCHED):
            break
    return samples


def plan_hours(tx: Transaction) -> Step | None:
    """The next step of rolling samples up to hours, if there is one. Only reads."""
    name = history_rows.rolled_up_name(Level.HOUR)
    over = hours_over(tx.now_ms)
    before = history_rows.progress(tx, name)
    if before is None:
        begin = max(history_rows.first_hour(tx, over), over - OLDEST_DAYS * HOURS_A_DAY)
        return Step(Level.HOUR, None, Progress(begin, begin), [], 0)
    now = _opened(before, over, HOURS_AT_ONCE)
    if now is None:
        return None
    devices = history_rows.heard_since(tx, now.device_id, now.begin * HOUR_MS, DEVICES_AT_ONCE)
    if not devices:
        return Step(Level.HOUR, before, Progress(now.end, now.end), [], 0)
    from_ms, to_ms = now.begin * HOUR_MS, now.end * HOUR_MS
    found = history_rows.samples_of_many(tx, devices, from_ms, to_ms, SAMPLES_AT_ONCE + 1)
    if len(found) > SAMPLES_AT_ONCE:
        # The last device's samples may not all be there; alone, it is read whole.
        first, last = found[0][0], found[-1][0]
        if first == last:
            samples = history_rows.samples_of(tx, first, from_ms, to_ms)
            found, last = [(first, sample) for sample in samples], first + 1
        else:
            found = [one for one in found if one[0] != last]
        devices = [device_id for device_id in devices if device_id < last]
    carried = history_rows.rolled_up_before(tx, devices, now.begin)
    rows: list[tuple[int, int, bytes]] = []
    for device_id, group in groupby(found, lambda one: one[0]):
        hours = roll_hours(carried.get(device_id, NOTHING), (sample for _, sample in group))
        rows += history_rows.packed_rows(device_id, hours)
    return Step(Level.HOUR, before, now._replace(device_id=devices[-1]), rows, len(found))


def _opened(before: Progress, over: int, at_once: int) -> Progress | None:
    """The stretch that is under way, or the next one; none while it is not over."""
    if before.begin < before.end:
        return before
    end = min(before.end + at_once, over)
    return Progress(before.end, end) if end > before.end else None


def plan_days(tx: Transaction) -> Step | None:
    """The next step of rolling hours up to days, if there is one. Only reads."""
    hours = history_rows.progress(tx, history_rows.rolled_up_name(Level.HOUR))
    if hours is None:
        return None
    before = history_rows.progress(tx, history_rows.rolled_up_name(Level.DAY))
    if before is None:
        # The first hours may lie in the middle of a day.
        begin = hours.begin // HOURS_A_DAY
        begin = min(begin, _first_day(tx, begin))
        return Step(Level.DAY, None, Progress(begin, begin), [], 0)
    now = _opened(before, hours.begin // HOURS_A_DAY, 1)
    if now is None:
        return None
    devices = history_rows.heard_since(tx, now.device_id, now.begin * DAY_MS, DAY_DEVICES_AT_ONCE)
    if not devices:
        return Step(Level.DAY, before, Progress(now.end, now.end), [], 0)
    rows: list[tuple[int, int, bytes]] = []
    for device_id in devices:
        day = _day(tx, device_id, now.begin)
        rows += history_rows.packed_rows(device_id, day)
    return Step(Level.DAY, before, now._replace(device_id=devices[-1]), rows, 0)


def _first_day(tx: Transaction, otherwise: int) -> int:
    ((first,),) = tx.fetch("SELECT min(hour) FROM history_hour")
    return otherwise if first is None else first // HOURS_A_DAY


def _day(tx: Transaction, device_id: int, day: int) -> list[Bucket]:
    """One day of one device, if there are hours in it."""
    begin = day * HOURS_A_DAY
    hours = history_rows.rolled_up(tx, Level.HOUR, device_id, begin, begin + HOURS_A_DAY)
    return [(day, merged(rolled for _, rolled in hours))] if hours else []


def keep(tx: Transaction, step: Step) -> bool:
    """Keeps what was reckoned; false when another gateway came first."""
    name = history_rows.rolled_up_name(step.level)
    if not tx.alone(_JOB) or not history_rows.go_on(tx, name, step.before, step.after):
        return False
    history_rows.keep(tx, step.level, step.rows)
    return True


def rolled_up_to(tx: Transaction) -> int:
    """Up to which instant hours are rolled up; 0 before the first one is."""
    return _hours_done(tx) * HOUR_MS


# Late samples


def _hours_done(tx: Transaction) -> int:
    hours = history_rows.progress(tx, history_rows.rolled_up_name(Level.HOUR))
    return 0 if hours is None else hours.begin


def anything_late(tx: Transaction) -> bool:
    """Whether `settle_late` would find an hour: asked each minute, so it only reads."""
    return bool(tx.fetch(_LATE, (_hours_done(tx), 1)))


def settle_late(tx: Transaction) -> int:
    """Rolls some hours up again of which samples came late; how many."""
    if not tx.alone(_JOB):
        return 0
    found = tx.fetch(_LATE, (_hours_done(tx), LATE_READ_AT_ONCE))
    wanted = sorted({(device_id, hour) for _, device_id, hour in found})[:LATE_AT_ONCE]
    # First, since another gateway may just have reckoned with what is changed here.
    for level in (Level.HOUR, Level.DAY):
        name = history_rows.rolled_up_name(level)
        mark = history_rows.progress(tx, name)
        if mark is not None and not history_rows.go_on(tx, name, mark, mark):
            return 0
    # A sample that comes meanwhile must not be taken for one that was counted.
    ids = {device_id for device_id, _ in wanted}
    mine = tx.claim_devices(select(device_live.c.device_id).where(device_live.c.device_id.in_(ids)))
    wanted = [one for one in wanted if one[0] in set(mine)]
    for device_id, some in groupby(wanted, lambda one: one[0]):
        again(tx, device_id, [hour for _, hour in some])
    done = set(wanted)
    seen = [(id_,) for id_, device_id, hour in found if (device_id, hour) in done]
    if seen:
        tx.change_many(_FORGET_LATE, seen)
    return len(wanted)


def again(tx: Transaction, device_id: int, hours: Iterable[int]) -> None:
    """Rolls these hours of a device up again, those that go on from them, and their days."""
    changed: set[int] = set()
    for hour in hours:
        begin_ms = hour * HOUR_MS
        samples = history_rows.samples_of(tx, device_id, begin_ms, begin_ms + HOUR_MS)
        if not samples:
            continue
        carried = history_rows.rolled_up_before(tx, [device_id], hour)
        rolled = roll_up(carried.get(device_id, NOTHING), samples)
        former = history_rows.rolled_up(tx, Level.HOUR, device_id, hour, hour + 1)
        if former and former[0][1].samples > rolled.samples:
            # Its other samples were deleted: these are added to what is known of them, and go too,
            # so that none is counted twice.
            rolled = merged([rolled, former[0][1]])
            tx.change(_FORGET_SAMPLES, (device_id, begin_ms, begin_ms + HOUR_MS))
        history_rows.keep(tx, Level.HOUR, history_rows.packed_rows(device_id, [(hour, rolled)]))
        changed |= {hour, *_followers(tx, device_id, hour, rolled)}
    _days_again(tx, device_id, changed)


def _followers(tx: Transaction, device_id: int, hour: int, rolled: RolledUp) -> list[int]:
    """The next hours, as long as they come out otherwise: counters grow from where they stood."""
    changed: list[int] = []
    for _ in range(FOLLOWERS_MAX):
        found = tx.fetch(_NEXT_HOUR, (device_id, hour))
        if not found:
            break
        hour, former = found[0][0], unpacked(found[0][1])
        samples = history_rows.samples_of(tx, device_id, hour * HOUR_MS, (hour + 1) * HOUR_MS)
        if len(samples) < former.samples:
            break  # deleted
        rolled = roll_up(rolled, samples)
        if rolled == former:
            break
        rows = history_rows.packed_rows(device_id, [(hour, rolled)])
        history_rows.keep(tx, Level.HOUR, rows)
        changed.append(hour)
    return changed


def _days_again(tx: Transaction, device_id: int, hours: Iterable[int]) -> None:
    mark = history_rows.progress(tx, history_rows.rolled_up_name(Level.DAY))
    if mark is None:
        return
    for day in sorted({hour // HOURS_A_DAY for hour in hours}):
        # Also of a day that is under way: the step that has it may have been kept already.
        if day < mark.end:
            rows = history_rows.packed_rows(device_id, _day(tx, device_id, day))
            history_rows.keep(tx, Level.DAY, rows)
