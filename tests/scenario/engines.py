"""On which database engine scenarios are played.

`FLEETGATE_TEST_ENGINE` plays all of them on that one. Without it the races are played on both,
others that concern the engine on the second one by `make test-long`, and all the rest on SQLite.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.postgres import PostgresCluster

ENGINE_VARIABLE = "FLEETGATE_TEST_ENGINE"
DATABASE_NAME = "fleetgate"


def engines() -> tuple[str, ...]:
    """The engine of this run first; a wrong name fails here, since it would prove nothing."""
    known = ("sqlite", "postgresql")
    named = os.environ.get(ENGINE_VARIABLE)
    assert named is None or named in known, f"{ENGINE_VARIABLE} is none of {known}: {named}"
    return known if named is None else (named,)


ENGINES = engines()
# For what takes long: the second engine's turn is one of the long proofs.
ENGINES_AT_LENGTH = (
    ENGINES[0],
    *(pytest.param(engine, marks=pytest.mark.long) for engine in ENGINES[1:]),
)


@contextmanager
def running_cluster() -> Iterator[PostgresCluster]:
    """A server of its own that keeps what was committed, with an empty database."""
    with closing(PostgresCluster(durable=True)) as cluster:
        cluster.start()
        cluster.create(DATABASE_NAME)
        yield cluster


@contextmanager
def database_on(engine: str) -> Iterator[str]:
    """The address of a new database; empty is SQLite, in the data directory."""
    if engine == "sqlite":
        yield ""
        return
    with running_cluster() as cluster:
        yield cluster.url(DATABASE_NAME)
