"""Deletes history that has served its time, and nothing that was not rolled up before.

Old samples go device by device, whole hours at a time: so an hour's samples are either all there
or all gone. On PostgreSQL most lie in partitions by day, which are dropped whole.
"""

from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import and_, delete, exists, or_, select

from gateway.domain.history import HOURS_A_DAY, Level, hour_of
from gateway.domain.instants import DAY_MS, HOUR_MS
from gateway.storage import history_rows, partitions
from gateway.storage.history_rows import MARKS, Progress
from gateway.storage.locks import Tree
from gateway.storage.schema import device, device_live, run
from gateway.storage.store import Lane, Store
from gateway.storage.transaction import Transaction

PRESENCE_KEPT_MS = 400 * DAY_MS
# The row of a run is how a sample that is sent again is known; a device that was away keeps its
# samples for weeks.
RUNS_KEPT_MS = 90 * DAY_MS
ROWS_AT_ONCE = 1_000  # heartbeats do not wait longer than some 20 ms for a job
DEVICES_AT_ONCE = 100
# Rows lie in the order in which they came, so what is deleted at once should be of one time: a
# day of each device in turn would write every page again for each device that has a row in it.
RAW_HOURS_AT_ONCE = 6
RUNS_A_ROUND = 10_000
_JOB = "retention"


class KeptDays(NamedTuple):
    """How many days each level is kept."""

    raw: int = 14
    hourly: int = 400
    daily: int = 1_830


class _Rows(NamedTuple):
    """Where a level's rows lie: table, column of time, and how much of it makes a whole."""

    table: str
    column: str
    whole: int


_ROWS = {
    Level.RAW: _Rows("heartbeat", "at", HOUR_MS),
    Level.HOUR: _Rows("history_hour", "hour", 1),
    Level.DAY: _Rows("history_day", "day", 1),
}
_NEXT_DEVICES = "SELECT id FROM device WHERE id > ? ORDER BY id LIMIT ?"
_OLD_IN_TABLE = """
SELECT device_id, {column} FROM {table} WHERE device_id IN ({marks}) AND {column} < ?
ORDER BY device_id, {column} LIMIT ?
"""
_OLD = {
    level: _OLD_IN_TABLE.format(table=rows.table, column=rows.column, marks=MARKS)
    for level, rows in _ROWS.items()
}
_DELETE_IN_TABLE = "DELETE FROM {table} WHERE device_id = ? AND {column} < ?"
_DELETE = {
    level: _DELETE_IN_TABLE.format(table=rows.table, column=rows.column)
    for level, rows in _ROWS.items()
}
_LATE = """
SELECT DISTINCT device_id FROM late_hour WHERE device_id IN ({}) AND hour < ?
""".replace("{}", MARKS)
_OLD_PRESENCE = (
    "DELETE FROM presence_change WHERE at < ?"
    " AND id IN (SELECT id FROM presence_change ORDER BY id LIMIT ?)"
)


async def delete_all(store: Store, days: KeptDays, rounds_max: int) -> None:
    """Makes partitions that will be needed, and deletes all that is too old."""
    for day in await store.read(partial(partitions_wanted, days=days)):
        made = partial(make_partition, day=day)
        await store.write(made, lane=Lane.JOBS, tree=Tree.UNTOUCHED)
    for day in await store.read(partial(partitions_over, days=days)):
        dropped = partial(drop_partition, day=day)
        await store.write(dropped, lane=Lane.JOBS, tree=Tree.UNTOUCHED)
    left = await store.read(partial(partitions_over, days=days))
    for level in Level:
        if left and level is Level.RAW:
            continue  # it will go whole, which is so much less to do
        step = partial(delete_some, level=level, days=days)
        for _ in range(rounds_max):
            if not await store.read(partial(anything_old, level=level, days=days)):
                break
            if not await store.write(step, lane=Lane.JOBS, tree=Tree.UNTOUCHED):
                break
    for _ in range(rounds_max):
        if not await store.write(delete_presence, lane=Lane.JOBS, tree=Tree.UNTOUCHED):
            break
    ids = await store.read(old_runs)
    for start in range(0, len(ids), ROWS_AT_ONCE):
        some = partial(delete_runs, ids=ids[start : start + ROWS_AT_ONCE])
        await store.write(some, lane=Lane.JOBS, tree=Tree.UNTOUCHED)


def _cut(tx: Transaction, level: Level, days: KeptDays) -> int:
    """Before which hour (samples and hours) or day (days) rows of a level may be deleted."""
    if level is Level.DAY:
        return tx.today - days.daily
    # Never what was not rolled up yet.
    coarser = Level.HOUR if level is Level.RAW else Level.DAY
    done = history_rows.progress(tx, history_rows.rolled_up_name(coarser))
    if done is None:
        return 0
    if level is Level.RAW:
        cut = hour_of(tx.now_ms) - days.raw * HOURS_A_DAY
        # Partitions are of whole days.
        cut -= cut % HOURS_A_DAY if partitions.partitioned(tx) else 0
        return min(cut, done.begin)
    return min(tx.today - days.hourly, done.begin) * HOURS_A_DAY


# Partitions


def partitions_wanted(tx: Transaction, days: KeptDays) -> list[int]:
    """Days that need a partition."""
    return partitions.wanted(tx, days.raw) if partitions.partitioned(tx) else []


def make_partition(tx: Transaction, day: int) -> None:
    """Makes one, unless another gateway does."""
    if tx.alone(_JOB) and day not in partitions.present(tx):
        partitions.make(tx, day)


def partitions_over(tx: Transaction, days: KeptDays) -> list[int]:
    """Days whose partition is too old, the oldest first."""
    if not partitions.partitioned(tx):
        return []
    cut = _cut(tx, Level.RAW, days)
    return sorted(day for day in partitions.present(tx) if (day + 1) * HOURS_A_DAY <= cut)


def drop_partition(tx: Transaction, day: int) -> None:
    """Drops one, unless another gateway does, or late samples of it wait to be rolled up."""
    if tx.alone(_JOB) and day in partitions.present(tx):
        # First, so that nobody draws a plot of samples that are about to go.
        _note_cut(tx, (day + 1) * HOURS_A_DAY)
        partitions.drop(tx, day)


def _note_cut(tx: Transaction, cut: int) -> None:
    name = history_rows.deleted_name(Level.RAW)
    before = history_rows.progress(tx, name)
    if before is None or before.end < cut:
        begin = cut if before is None else before.begin
        history_rows.go_on(tx, name, before, Progress(begin, cut))


# Rows


def _under_way(tx: Transaction, level: Level, days: KeptDays) -> Progress | None:
    """Up to where old rows are being deleted, or are to be; none while there is nothing to do."""
    before = history_rows.progress(tx, history_rows.deleted_name(level))
    if before is not None and before.begin < before.end:
        return before
    cut = _cut(tx, level, days)
    if level is not Level.RAW or partitions.partitioned(tx):
        done = 0 if before is None else before.end
        return Progress(done, cut) if cut > done else None
    done = history_rows.first_hour(tx, cut) if before is None else before.end
    return Progress(done, min(cut, done + RAW_HOURS_AT_ONCE)) if cut > done else None


def anything_old(tx: Transaction, level: Level, days: KeptDays) -> bool:
    """Whether `delete_some` has something to do; only reads."""
    return _under_way(tx, level, days) is not None


def delete_some(tx: Transaction, level: Level, days: KeptDays) -> bool:
    """Deletes old rows of the next devices; false when another gateway does so."""
    name = history_rows.deleted_name(level)
    now = _under_way(tx, level, days)
    if now is None or not tx.alone(_JOB):
        return False
    before = history_rows.progress(tx, name)
    ids = [row[0] for row in tx.fetch(_NEXT_DEVICES, (now.device_id, DEVICES_AT_ONCE))]
    if not ids:
        return history_rows.go_on(tx, name, before, Progress(now.end, now.end))
    cut = now.end * HOUR_MS if level is Level.RAW else now.end
    values = (*history_rows.padded(ids), cut, ROWS_AT_ONCE + 1)
    old = [(row[0], row[1]) for row in tx.fetch(_OLD[level], values)]
    upto, last = _whole(old, cut, _ROWS[level].whole)
    if upto and level is Level.RAW:
        free = _free(tx, list(upto), now.end)
        upto = {device_id: until for device_id, until in upto.items() if device_id in free}
    if upto:
        tx.change_many(_DELETE[level], list(upto.items()))
    # One that is not through is next again; one that is held or waits has its turn tomorrow.
    at = ids[-1] if last is None else last - (last in upto)
    return history_rows.go_on(tx, name, before, now._replace(device_id=at))


def _whole(old: list[tuple[int, int]], cut: int, whole: int) -> tuple[dict[int, int], int | None]:
    """Before when each device's rows go, and which device is not through with that."""
    upto = {device_id: cut for device_id, _ in old}
    if len(old) <= ROWS_AT_ONCE:
        return upto, None
    last, at = old[-1]
    first = next(instant for device_id, instant in old if device_id == last)
    # Whole hours; where one has more samples than go at once, that one.
    upto[last] = max(at // whole, first // whole + 1) * whole
    return upto, last


def _free(tx: Transaction, ids: list[int], hour: int) -> set[int]:
    """Those of which nothing waits to be rolled up, and nothing can come now.

    The others keep their old samples until the next day's round.
    """
    mine = tx.claim_devices(select(device_live.c.device_id).where(device_live.c.device_id.in_(ids)))
    late = tx.fetch(_LATE, (*history_rows.padded(ids), hour))
    return set(mine) - {row[0] for row in late}


def delete_presence(tx: Transaction) -> int:
    """Deletes some changes of presence that are too old; how many."""
    return tx.change(_OLD_PRESENCE, (tx.now_ms - PRESENCE_KEPT_MS, ROWS_AT_ONCE))


def _run_is_over(tx: Transaction) -> Any:
    """Long superseded, its samples deleted, and of no device the current one."""
    samples = history_rows.progress(tx, history_rows.deleted_name(Level.RAW))
    gone_ms = 0 if samples is None else samples.begin * HOUR_MS
    before_ms = tx.now_ms - RUNS_KEPT_MS
    return and_(
        run.c.superseded_at < before_ms,
        or_(run.c.last_at.is_(None), run.c.last_at < min(before_ms, gone_ms)),
        ~exists().where(
            device_live.c.device_id == run.c.device_id, device_live.c.run_id == run.c.id
        ),
    )


def old_runs(tx: Transaction) -> list[int]:
    """Runs that nobody asks for any more."""
    found = select(run.c.id).where(_run_is_over(tx)).order_by(run.c.id).limit(RUNS_A_ROUND)
    return [row.id for row in tx.all(found)]


def delete_runs(tx: Transaction, ids: list[int]) -> int:
    """Deletes these, but for those whose devices are being written to; how many."""
    owners = select(device.c.id).join(run, run.c.device_id == device.c.id).where(run.c.id.in_(ids))
    mine = tx.claim_devices(owners)
    return tx.run(delete(run).where(run.c.id.in_(ids), run.c.device_id.in_(mine), _run_is_over(tx)))
