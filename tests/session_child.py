"""A process with nothing but the sessions of an agent, whose memory a test looks at from outside.

It is started with the file of the CA, reads one order as JSON, and lives until its input ends.
"""

import asyncio
import json
import sys
from pathlib import Path
from random import Random

from agent.clock import SystemClock
from agent.links.allow import parse_allow
from agent.links.sessions import Sessions
from agent.tls import device_context


async def run(ca_file: Path) -> None:
    context = device_context(ca_file=ca_file, check_dates=True)
    sessions = Sessions(
        allow=parse_allow(["127.0.0.1:1-65535"]),
        clock=SystemClock(),
        rng=Random(1),
        tls=lambda: context,
        changed=lambda: None,
    )
    read = asyncio.get_running_loop().run_in_executor
    async with asyncio.TaskGroup() as tasks:
        sessions.begin(tasks)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while line := await read(None, sys.stdin.readline):
            sessions.open(json.loads(line))
        sessions.end_all("agent_stopping")


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))
