"""Hears what other gateways at the same PostgreSQL say after their transactions."""

import selectors
import socket
import threading
from collections.abc import Callable

import psycopg
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from gateway.storage.postgres_session import PostgresSession
from gateway.storage.transaction import Signal

CHANNEL = "fleetgate"
AGAIN_S = 0.25  # between two attempts to connect


class Notices:
    """One connection that listens, on a thread of its own.

    `call` gets the signals that came, and all of them after a time in which nobody listened;
    `answered` the server's major version whenever a connection was made; `away` why there is none.
    """

    def __init__(
        self,
        engine: Engine,
        own_id: str,
        *,
        call: Callable[[set[Signal]], None],
        answered: Callable[[str], None],
        away: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._own_id = own_id
        self._call = call
        self._answered = answered
        self._away = away
        self._closing = threading.Event()
        # Its other end is closed to wake the thread up.
        self._ours, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._hear, name="notices", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Returns when the connection is closed."""
        self._closing.set()
        self._ours.close()
        self._thread.join()
        self._woken.close()

    def _hear(self) -> None:
        session = PostgresSession(self._engine)
        while not self._closing.is_set():
            try:
                _, raw = session.open()
                self._listen(raw)
            except (psycopg.Error, DBAPIError) as error:
                self._away(str(error).strip())
                session.drop()
                self._closing.wait(AGAIN_S)
        session.drop()

    def _listen(self, raw: psycopg.Connection[tuple[object, ...]]) -> None:
        raw.execute(f"LISTEN {CHANNEL}")
        self._answered(str(raw.info.server_version // 10_000))
        # What was said while nobody listened.
        self._call(set(Signal))
        with selectors.DefaultSelector() as ready:
            ready.register(raw.fileno(), selectors.EVENT_READ)
            ready.register(self._woken, selectors.EVENT_READ)
            while not self._closing.is_set():
                for notice in raw.notifies(timeout=0):
                    self._told(notice.payload)
                ready.select()

    def _told(self, payload: str) -> None:
        name, _, sender = payload.partition(" ")
        if sender != self._own_id:
            self._call({signal for signal in Signal if signal.value == name})
