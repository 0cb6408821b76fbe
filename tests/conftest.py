"""What tests get: a real Mosquitto and PostgreSQL, a watch on tasks left behind, table rows."""

import asyncio
import gc
import inspect
import itertools
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.mosquitto import MosquittoError, MosquittoServer, chosen_way, new_server
from tests.postgres import PostgresCluster, PostgresError, chosen_postgres

MosquittoFactory = Callable[..., MosquittoServer]
SummaryRow = Callable[..., None]

SUMMARY_ROWS = pytest.StashKey[list[tuple[str, ...]]]()
LEFT_BEHIND_S_MAX = 1.0
UNIT_TESTS = Path(__file__).parent / "unit"
TICK_S = 0.05
BLOCKED_S_MAX = 1.0
DATABASE_NUMBERS = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    # Ignored, as by a shell for what it starts in the background, it would be so in every program
    # that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[SUMMARY_ROWS] = []


def pytest_report_header() -> list[str]:
    lines = []
    try:
        lines.append(f"mosquitto: {chosen_way()[1]}")
    except MosquittoError as error:
        lines.append(f"mosquitto: {error}")
    try:
        lines.append(f"postgresql: {chosen_postgres()[1]}")
    except PostgresError as error:
        lines.append(f"postgresql: {error}")
    return lines


@pytest.fixture
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoFactory]:
    """Makes servers that are gone after the test: `server = mosquitto(tls=False)`, then `.start()`.

    Each has a directory of its own unless one is given: `mosquitto(directory)`.
    """
    made: list[MosquittoServer] = []

    def make(directory: Path | None = None, *, tls: bool = False) -> MosquittoServer:
        try:
            server = new_server(directory or tmp_path_factory.mktemp("mosquitto"), tls=tls)
        except MosquittoError as error:
            # A missing server is a failure and never a skip: most promises rest on it.
            pytest.fail(str(error), pytrace=False)
        made.append(server)
        return server

    yield make
    for server in made:
        server.close()


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresCluster]:
    """One for each test process, quick and not durable; who stops it starts it again."""
    try:
        cluster = PostgresCluster()
    except PostgresError as error:
        # As with Mosquitto: a missing server is a failure and never a skip.
        pytest.fail(str(error), pytrace=False)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def postgres_database(postgres_cluster: PostgresCluster) -> Iterator[str]:
    """The address of an empty database that is gone after the test."""
    name = f"test_{next(DATABASE_NUMBERS)}"
    postgres_cluster.create(name)
    yield postgres_cluster.url(name)
    postgres_cluster.drop(name)


@pytest.fixture
def summary_row(request: pytest.FixtureRequest) -> SummaryRow:
    """Adds to the table at the end: `summary_row("kill rounds", 30, "lost 0, doubled 0")`."""
    rows = request.config.stash[SUMMARY_ROWS]

    def add(what: object, amount: object, outcome: object = "") -> None:
        rows.append((str(what), str(amount), str(outcome)))

    return add


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash[SUMMARY_ROWS]
    if not rows:
        return
    table = [("proof", "amount", "outcome"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    terminalreporter.section("proofs")
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line("  ".join(cells).rstrip())


def pytest_collection_finish() -> None:
    # What is imported and collected stays to the end; without it, looking for garbage is quick.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_log_left_behind() -> Iterator[None]:
    """A program that a test ran in this process set its log up, to a stream that is closed by now:
    what others log would stand on their standard error as a failure."""
    yield
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if type(handler) is logging.StreamHandler:  # pytest's own are of other kinds
            root.removeHandler(handler)


@pytest.fixture
async def no_task_left_behind() -> AsyncIterator[None]:
    """Fails a test that leaves a task running: every task has an owner that waits for it."""
    yield
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if not others:
        return
    # What was cancelled in the last breath may end first.
    _, left = await asyncio.wait(others, timeout=LEFT_BEHIND_S_MAX)
    if left:
        names = ", ".join(sorted(task.get_name() for task in left))
        pytest.fail(f"left behind: {names}", pytrace=False)


def waited_for_a_processor_s() -> float:
    """How long this thread was ready to run and could not: that is not the test's doing."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


@pytest.fixture
async def loop_never_blocked() -> AsyncIterator[None]:
    """Fails a unit test in which the event loop stood still, by a blocking call or by long work."""
    loop = asyncio.get_running_loop()
    longest_s = 0.0
    handle: asyncio.Handle

    def tick(last_s: float, last_waited_s: float) -> None:
        nonlocal longest_s, handle
        now_s, waited_s = loop.time(), waited_for_a_processor_s()
        longest_s = max(longest_s, now_s - last_s - (waited_s - last_waited_s))
        handle = loop.call_later(TICK_S, tick, now_s, waited_s)

    handle = loop.call_soon(tick, loop.time(), waited_for_a_processor_s())
    yield
    handle.cancel()
    if longest_s > BLOCKED_S_MAX:
        pytest.fail(f"the event loop stood still for {longest_s:.2f} s", pytrace=False)


# Files that start servers first: beside them, those that calculate fill the end evenly. One process
# does a whole file, so the longest of these comes first.
_ROOMS = ("scenario", "integration", "browser")
_LONGEST = "test_machine.py"


def _room(item: pytest.Item) -> tuple[int, bool]:
    room = item.path.parent.name
    number = _ROOMS.index(room) if room in _ROOMS else len(_ROOMS)
    return number, item.path.name != _LONGEST


def _runs_on_postgresql(item: pytest.Item) -> bool:
    called = getattr(item, "callspec", None)
    return called is not None and "postgresql" in called.params.values()


# First: what is long is left out by its mark.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the watches around every asynchronous test, outside its other fixtures."""
    for item in items:
        if item.get_closest_marker("either_engine") and _runs_on_postgresql(item):
            item.add_marker(pytest.mark.long)
    items.sort(key=_room)
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(
            inspect.unwrap(item.obj)
        ):
            item.fixturenames.insert(0, "no_task_left_behind")
            # Other tests may wait for programs in plain calls, between two questions to them.
            if item.path.is_relative_to(UNIT_TESTS):
                item.fixturenames.insert(0, "loop_never_blocked")
