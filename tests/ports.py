"""Ports for servers that are stopped and started again while their clients go on knocking."""

import random
import socket

# Below what outgoing connections get: a client that knocks while the server is down could else be
# given the server's port for its own end, and keep it.
PORTS = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """So many different ones that nobody listens on."""
    found: list[int] = []
    for port in random.sample(PORTS, 100 + count):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports from {PORTS.start} to {PORTS.stop - 1}")


def free_port() -> int:
    """One that nobody listens on."""
    return free_ports(1)[0]
