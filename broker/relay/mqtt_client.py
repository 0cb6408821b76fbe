"""aiomqtt's client, but one that can be told to end at any moment."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import aiomqtt

T = TypeVar("T")


class Client(aiomqtt.Client):
    """Waits for answers without losing a cancellation.

    aiomqtt waits by `asyncio.wait_for`. In Python 3.11 that returns the answer, and forgets the
    cancellation, when both come in the same turn of the loop; who reports for ever then goes on,
    and a relay that was told to end never does. Python 3.12 waits as it is done here.
    """

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError("Operation timed out") from None
