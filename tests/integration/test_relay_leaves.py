"""A relay that was taken out of service ends by itself, and not before its last session."""

import asyncio
from pathlib import Path

from tests.conftest import MosquittoFactory
from tests.integration.test_relay_process import a_world
from tests.relay_rig import LIMIT_S, fact
from wire.relay_control import Revocation


async def test_a_relay_that_is_to_leave_does_so_after_its_last_session(
    tmp_path: Path, mosquitto: MosquittoFactory
) -> None:
    async with a_world(tmp_path, mosquitto) as world:
        gateway = world.gateway
        running = await world.start()
        claims = world.mint.session()
        device = await world.device(running, claims)
        await gateway.lease("f" * 32, leave=True)  # of another life
        await gateway.lease(world.mint.epoch, leave=True)
        await gateway.state(2)
        # It knows of a session that the gateway does not know of any more.
        assert running.process.returncode is None and not device.ended.done()
        row = Revocation(1, claims.session, "closed")
        await gateway.lease(world.mint.epoch, newest=1, revoked=(row,), leave=True)
        assert await device.end() == "closed"
        # What was counted last is not stored yet, and would be gone with the relay.
        await fact(lambda: any(one.what == "ended" for one in gateway.states[-1].happened))
        await gateway.lease(world.mint.epoch, newest=1, leave=True)
        await gateway.state(2)
        assert running.process.returncode is None
        taken = gateway.states[-1].happened[-1].number
        await gateway.lease(world.mint.epoch, newest=1, taken=taken, leave=True)
        async with asyncio.timeout(LIMIT_S):
            assert await running.process.wait() == 0
        await fact(lambda: any("the last session is over" in line for line in running.lines))
        assert not [line for line in running.lines if "Traceback" in line]
