"""A proxy before PostgreSQL that cuts the connection in which a transaction is being committed."""

import socket
import threading
from collections.abc import Callable
from enum import Enum, auto

BYTES = 65_536


class Cut(Enum):
    """When the connection ends."""

    BEFORE = auto()  # the server never hears of the commit
    AFTER = auto()  # the server has committed, and its answer is lost


class CommitCutter:
    """Passes everything on; `arm` makes it cut at the next commits, one connection each."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self._armed: list[Cut] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def arm(self, *cuts: Cut) -> None:
        """Cuts at so many commits, in this order."""
        self._armed.extend(cuts)

    def close(self) -> None:
        """Ends all connections; returns when every thread is gone."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            _end(one)
        for thread in self._threads:
            thread.join(10)
        for one in self._sockets:
            one.close()

    def _start(self, target: Callable[..., None], *values: object) -> None:
        thread = threading.Thread(target=target, args=values, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            server = socket.create_connection(("127.0.0.1", self._server_port))
            self._sockets += [client, server]
            cut = threading.Event()
            self._start(self._to_server, client, server, cut)
            self._start(self._to_client, client, server, cut)

    def _to_server(
        self, client: socket.socket, server: socket.socket, cut: threading.Event
    ) -> None:
        try:
            while data := client.recv(BYTES):
                if b"COMMIT" in data and self._armed:
                    self.cuts += 1
                    if self._armed.pop(0) is Cut.BEFORE:
                        break
                    cut.set()
                server.sendall(data)
        except OSError:
            pass  # the other side has ended
        if not cut.is_set():
            _end(server)
            _end(client)

    def _to_client(
        self, client: socket.socket, server: socket.socket, cut: threading.Event
    ) -> None:
        try:
            while data := server.recv(BYTES):
                if cut.is_set():
                    break  # it has answered: it is committed
                client.sendall(data)
        except OSError:
            pass  # the other side has ended
        _end(client)
        _end(server)


def _end(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended already
