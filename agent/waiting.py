"""Waits with a limit."""

import asyncio


async def until_set(event: asyncio.Event, limit_s: float) -> bool:
    """Until the event, or so many seconds; whether it came."""
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
