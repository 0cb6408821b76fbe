"""Standard input and output as one socket: pipes, sockets, terminals and files alike."""

import asyncio
import os
import select
import socket
import stat
from typing import Protocol

WRITE_BYTES_MAX = 256 * 1024  # at once


class User(Protocol):
    """What reads and writes here: `wire.splice.Splice` does."""

    def attach(self, transport: "StandardStreams") -> None: ...
    def get_buffer(self, sizehint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...
    def eof_received(self) -> bool: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


def taken_over() -> tuple[int, int]:
    """The two descriptors, with /dev/null in their old places: nothing else may use them.

    So closing the output really ends it, and no stray word can get into the bytes.
    """
    taken = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return taken


def pollable(descriptor: int) -> bool:
    """Whether the event loop can watch it; a file or /dev/null is always ready instead."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return False
    if not hasattr(select, "epoll"):
        return True
    with select.epoll() as poll:
        try:
            poll.register(descriptor, select.EPOLLIN)
        except PermissionError:
            return False
    return True


class StandardStreams:
    """A transport over two descriptors, which it owns and closes."""

    def __init__(self, user: User, incoming: int, outgoing: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._user = user
        self._in: int | None = incoming
        self._out: int | None = outgoing
        self._in_watched = pollable(incoming)
        self._out_watched = pollable(outgoing)
        self._out_blocking = os.get_blocking(outgoing)
        self._reading = False
        self._waiting = bytearray()
        self._high = 64 * 1024
        self._ending = False  # the output is closed once all is written
        self._closing = False
        self._paused = False
        self._error: Exception | None = None
        self.ended: asyncio.Future[Exception | None] = self._loop.create_future()

    def start(self) -> None:
        """Hands itself to its user, then reads."""
        assert self._out is not None
        if self._out_watched:
            # The description may be shared with a shell or a terminal: put back at the end.
            os.set_blocking(self._out, False)
        self._reading = True
        self._user.attach(self)
        if self._reading:
            self._watch()

    # For the user

    def write(self, data: bytes) -> None:
        """Sends, or keeps until it can."""
        if self._out is None or self._ending:
            return
        if not self._waiting:
            data = data[self._written(data) :]
            if not data or self._out is None:
                return
            self._loop.add_writer(self._out, self._write_ready)
        self._waiting += data
        if len(self._waiting) > self._high and not self._paused:
            self._paused = True
            self._user.pause_writing()

    def write_eof(self) -> None:
        """Closes the output after what was written."""
        self._ending = True
        if not self._waiting:
            self._close_out()

    def can_write_eof(self) -> bool:
        """It can: input and output end each for itself."""
        return True

    def is_closing(self) -> bool:
        """Whether nothing can be read any more, or nothing ever written."""
        return self._closing

    def close(self) -> None:
        """Ends both after what was written."""
        self._closing = True
        self._close_in()
        self.write_eof()
        self._settle()

    def abort(self) -> None:
        """Ends both at once."""
        self._fail(None)

    def pause_reading(self) -> None:
        """Reads no more for now."""
        if self._reading:
            self._reading = False
            if self._in is not None and self._in_watched:
                self._loop.remove_reader(self._in)

    def resume_reading(self) -> None:
        """Reads again."""
        if not self._reading and self._in is not None:
            self._reading = True
            self._watch()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """More than `high` waiting bytes pause the user until a quarter is left."""
        if high is not None:
            self._high = high

    # Inside

    def _watch(self) -> None:
        assert self._in is not None
        if self._in_watched:
            self._loop.add_reader(self._in, self._read_ready)
        else:
            self._loop.call_soon(self._read_ready)

    def _read_ready(self) -> None:
        if self._in is None or not self._reading:
            return
        try:
            # Ready means that this does not block, although the descriptor may.
            size = os.readv(self._in, [self._user.get_buffer(-1)])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(error)
            return
        if size:
            self._user.buffer_updated(size)
            self._read_on()
            return
        self._close_in()
        self._user.eof_received()

    def _read_on(self) -> None:
        if self._reading and not self._in_watched:
            self._loop.call_soon(self._read_ready)

    def _written(self, data: bytes | bytearray) -> int:
        """How many bytes the output took; what takes none at all ends everything."""
        assert self._out is not None
        done = 0
        while done < len(data):
            try:
                done += os.write(self._out, memoryview(data)[done : done + WRITE_BYTES_MAX])
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._fail(error)
                break
        return done

    def _write_ready(self) -> None:
        done = self._written(self._waiting)
        if self._out is None:
            return
        del self._waiting[:done]
        if not self._waiting:
            self._loop.remove_writer(self._out)
            if self._ending:
                self._close_out()
        if self._paused and len(self._waiting) <= self._high // 4:
            self._paused = False
            self._user.resume_writing()

    def _close_in(self) -> None:
        if self._in is not None:
            self.pause_reading()
            os.close(self._in)
            self._in = None

    def _close_out(self) -> None:
        out, self._out = self._out, None
        if out is None:
            return
        if self._out_watched:
            self._loop.remove_writer(out)
            os.set_blocking(out, self._out_blocking)
        if stat.S_ISSOCK(os.fstat(out).st_mode):
            _shut_down(out)
        os.close(out)
        self._settle()

    def _fail(self, error: Exception | None) -> None:
        self._closing = True
        self._error = self._error or error
        self._close_in()
        self._waiting.clear()
        self._close_out()
        self._settle()

    def _settle(self) -> None:
        """Once both are closed, and only once, the user is told."""
        if self._in is None and self._out is None and not self.ended.done():
            self._closing = True
            self.ended.set_result(self._error)
            self._loop.call_soon(self._user.connection_lost, self._error)


def _shut_down(descriptor: int) -> None:
    """A socket may have other holders: its other side learns of the end all the same."""
    with socket.socket(fileno=os.dup(descriptor)) as shared:
        try:
            shared.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has ended already
