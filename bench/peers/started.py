"""A program of a peer, from its start until it has said at which ports it listens."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STOP_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Started:
    """Its ports, in the order in which it said them."""

    ports: tuple[int, ...]
    pid: int


@contextmanager
def started(words: list[str]) -> Iterator[Started]:
    """The program's first line are its ports. Raises `RuntimeError` when it ends without one."""
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        said = process.stdout.readline().decode().split()
        if not said or not all(word.isdigit() for word in said):
            raise RuntimeError(f"{words[0]} did not start: {' '.join(said)}")
        yield Started(tuple(map(int, said)), process.pid)
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)
        process.stdout.close()
