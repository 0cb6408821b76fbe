"""`python -m bench.pulling HOST PORT STREAMS`: pulls all that they give, until it is ended."""

import selectors
import socket
import sys
from contextlib import ExitStack

from bench.server_behind import SOURCE
from bench.tunnel_load import stream

_SPARE = bytearray(256 * 1024)


def main(host: str, port: int, streams: int) -> None:
    """Raises `ConnectionError` when a stream ends."""
    with ExitStack() as open_streams, selectors.DefaultSelector() as selector:
        for _ in range(streams):
            side = open_streams.enter_context(stream(host, port))
            side.sendall(SOURCE)
            selector.register(side, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                if not key.fileobj.recv_into(_SPARE):
                    raise ConnectionError("the tunnel ended a stream")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
