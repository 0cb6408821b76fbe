"""The peer of ingest: signs in where a gateway would, takes every heartbeat, only counts it."""

import asyncio
import sys
from pathlib import Path

import mqtt5

from gateway.atomic_file import write_atomically
from gateway.command.data_directory import read_mqtt_logins
from gateway.ingest.session import Login, SessionLost, open_session
from wire import topics

LOGIN = "@gateway-1"
CONNECT_ATTEMPTS = 100


async def count(data: Path, result: Path) -> None:
    """Writes the count twice a second until ended."""
    counted = 0

    def deliver(_packet: mqtt5.PublishPacket) -> None:
        nonlocal counted
        counted += 1

    password = read_mqtt_logins(data / "mqtt-logins.json").password(LOGIN)
    login = Login(data / "mosquitto" / "gateway.sock", LOGIN, password)
    for attempt in range(CONNECT_ATTEMPTS):
        try:
            session = await open_session(login, deliver)
            await session.start([topics.shared(topics.heartbeat("+"))])
            break
        except SessionLost:
            if attempt == CONNECT_ATTEMPTS - 1:
                raise
            await asyncio.sleep(0.1)
    while True:
        write_atomically(result, str(counted).encode())
        await asyncio.sleep(0.25)


if __name__ == "__main__":
    asyncio.run(count(Path(sys.argv[1]), Path(sys.argv[2])))
