"""What `ssh -R` does, by asyncssh on both sides: Python beside Python, a process each."""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncssh

from bench.bad_network import bad_network
from bench.peers.started import started
from bench.tunnel_figures import Tunnel

USER = "device"
_HOST_KEY, _USER_KEY = "host_key", "user_key"


@contextmanager
def asyncssh_tunnel(folder: Path, behind_port: int, latency_ms: float) -> Iterator[Tunnel]:
    """The server stands where a relay would, the client where a device would."""
    for name in (_HOST_KEY, _USER_KEY):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(str(folder / name))
        key.write_public_key(str(folder / f"{name}.pub"))
    words = [sys.executable, "-m", __name__, str(folder)]
    with ExitStack() as parts:
        server = parts.enter_context(started([*words, "server"]))
        port = server.ports[0]
        if latency_ms:
            port = parts.enter_context(bad_network(port, latency_ms)).port
        ways = [f"--server-port={port}", f"--behind-port={behind_port}"]
        client = parts.enter_context(started([*words, "client", *ways]))
        yield Tunnel("127.0.0.1", client.ports[0], (server.pid,), (client.pid,))


def version() -> str:
    """As it is shown beside the figures."""
    return f"asyncssh {asyncssh.__version__}"


class _Server(asyncssh.SSHServer):
    """Whoever holds the key may have ports opened here."""

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        return True


async def _serve(folder: Path) -> None:
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=_Server,
        server_host_keys=[str(folder / _HOST_KEY)],
        authorized_client_keys=str(folder / f"{_USER_KEY}.pub"),
    )
    _say(server.get_port())
    await server.wait_closed()


async def _forward(folder: Path, server_port: int, behind_port: int) -> None:
    connection = await asyncssh.connect(
        "127.0.0.1",
        server_port,
        username=USER,
        client_keys=[str(folder / _USER_KEY)],
        known_hosts=([str(folder / f"{_HOST_KEY}.pub")], [], []),
        config=None,
    )
    async with connection:
        listener = await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", behind_port)
        _say(listener.get_port())
        await connection.wait_closed()


def _say(port: int) -> None:
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


def main() -> None:
    """One side, until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("side", choices=("server", "client"))
    parser.add_argument("--server-port", type=int)
    parser.add_argument("--behind-port", type=int)
    options = parser.parse_args()
    if options.side == "server":
        asyncio.run(_serve(options.folder))
    else:
        asyncio.run(_forward(options.folder, options.server_port, options.behind_port))


if __name__ == "__main__":
    main()
