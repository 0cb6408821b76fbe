"""`python -m bench.relay_alone FOLDER`: a relay without a gateway, whose leases it renews itself.

It prints one line of JSON: its port, its CA, and the key with which tickets to it are made.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.relay.relay import Relay
from broker.relay.tls_memory import lend_one_read_buffer
from broker.relay.web_door import web_factory
from gateway.join.ca import prepare_keys
from tests.relay_rig import EPOCH, Mint, MovedClock, make_configuration
from wire.relay_control import LEASE_EVERY_S, Lease


async def run(folder: Path) -> None:
    """Until the process is ended."""
    clock = MovedClock()
    mint = Mint(clock)
    keys = prepare_keys(folder / "keys", [], datetime.now(UTC))
    configuration = make_configuration(folder, mint, keys)
    relay = Relay(configuration, epoch=EPOCH, clock=clock, web=web_factory)
    listeners = relay.bind()
    key = mint.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    port = listeners[0].getsockname()[1]
    said = {"port": port, "ca": str(keys.ca_certificate), "key": key.decode()}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    async with asyncio.TaskGroup() as group:
        group.create_task(relay.run(listeners))
        while True:
            relay.control.take(Lease(EPOCH, 0, relay.happenings.newest))
            await asyncio.sleep(LEASE_EVERY_S)


if __name__ == "__main__":
    lend_one_read_buffer()  # as the relay's own program does
    asyncio.run(run(Path(sys.argv[1])))
