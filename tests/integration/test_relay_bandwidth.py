"""Limits of bandwidth at a real relay: of each session, and of a company's sessions together."""

import asyncio
from pathlib import Path

from tests.relay_rig import running_relay
from tests.resuming_rig import Away, away, expected
from wire.frames import PAYLOAD_BYTES_MAX
from wire.rate import BURST_BYTES_LEAST, BURST_S, BYTES_A_MBIT
from wire.stream import WINDOW_BYTES_FIRST

MBIT_S = 8
RATE = MBIT_S * BYTES_A_MBIT
SIZE = 1_500_000
# What may go at once, and what a stream's first window lets through uncounted.
AHEAD = max(BURST_BYTES_LEAST, RATE * BURST_S) + WINDOW_BYTES_FIRST + PAYLOAD_BYTES_MAX
LIMIT_S = 20.0


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def pulls(there: Away) -> None:
    visitor = await there.open()
    await visitor.send(b"get %d\n" % SIZE)
    async with asyncio.timeout(LIMIT_S):
        while len(visitor.got) < SIZE:  # noqa: ASYNC110  looked at while it comes
            await asyncio.sleep(0.01)
    assert bytes(visitor.got) == expected(SIZE)


async def pushes(there: Away) -> None:
    visitor = await there.open()
    await visitor.send(b"put %d\n" % SIZE + expected(SIZE))
    async with asyncio.timeout(LIMIT_S):
        while not visitor.got.endswith(b"\n"):  # noqa: ASYNC110  looked at while it goes
            await asyncio.sleep(0.01)
    assert bytes(visitor.got) == b"%d same\n" % SIZE


async def test_a_session_is_as_fast_as_it_may_be_each_way(tmp_path: Path) -> None:
    async with running_relay(tmp_path, session_mbit_s=MBIT_S) as rig, away(rig) as there:
        began_s = now_s()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pulls(there))
            tasks.create_task(pushes(there))
        assert now_s() - began_s >= (SIZE - AHEAD) / RATE


async def test_sessions_of_a_company_share_its_limit(tmp_path: Path) -> None:
    async with (
        running_relay(tmp_path, company_mbit_s=MBIT_S) as rig,
        away(rig) as first,
        away(rig) as second,
    ):
        assert first.claims.company == second.claims.company
        shared = rig.relay.sessions.bandwidth
        assert shared.companies == 1
        began_s = now_s()
        async with asyncio.TaskGroup() as tasks:
            for there in (first, second):
                tasks.create_task(pulls(there))
        assert now_s() - began_s >= 2 * (SIZE - AHEAD) / RATE
        for there in (first, second):
            rig.relay.sessions.revoke(there.claims.session, "closed")
        assert shared.companies == 0


async def test_without_a_limit_nothing_is_counted(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as rig, away(rig) as there:
        assert there.session.rates == (None, None)
        await pulls(there)
