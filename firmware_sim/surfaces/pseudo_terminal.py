"""Puts a simulated modem behind a pseudo-terminal, so that any program finds a serial port."""

import os
import pty
import select
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_READ_BYTES = 4_096
_END_S_MAX = 5.0


@contextmanager
def serial_port(feed: Callable[[bytes], bytes]) -> Iterator[str]:
    """The path of the port; a thread answers until the end of the block."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    ending, end = os.pipe()
    thread = threading.Thread(target=_serve, args=(ours, ending, feed), name="serial port")
    thread.start()
    try:
        # `theirs` stays open, so that a program that closes the port can open it again.
        yield os.ttyname(theirs)
    finally:
        os.write(end, b"x")
        thread.join(_END_S_MAX)
        for descriptor in (ours, theirs, ending, end):
            os.close(descriptor)


def _serve(port: int, ending: int, feed: Callable[[bytes], bytes]) -> None:
    while True:
        ready, _, _ = select.select([port, ending], [], [])
        if ending in ready:
            return
        said = feed(os.read(port, _READ_BYTES))
        while said:
            _, writable, _ = select.select([ending], [port], [])
            if not writable:
                return
            said = said[os.write(port, said) :]
