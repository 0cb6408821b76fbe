"""A gateway of a world whose clocks can go wrong one by one."""

from gateway.clock import Clock
from gateway.clock_guard import ClockGuard
from gateway.domain.instants import MINUTE_MS
from gateway.jobs import housekeeping
from gateway.operations.clock_state import known
from gateway.storage.locks import Tree
from gateway.storage.store import Store
from tests.contract.world import World
from tests.databases import store_of


class FaultyClock(Clock):
    """The world's wall clock, and a boot-time clock that no step moves."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.stepped_ms = 0

    def unmoved(self) -> tuple[int, int]:
        return self._world.now_ms, self._world.now_ms - self.stepped_ms


class HostToldGuard(ClockGuard):
    """Hears of a database host whose clock is the world's, unless it is wrong."""

    def __init__(self, clock: FaultyClock, world: World) -> None:
        super().__init__(clock)
        self._world = world
        self.host_wrong_ms = 0

    def heard_host(self, asked_ms: int, host_ms: int) -> None:
        super().heard_host(asked_ms, self._world.now_ms + self.host_wrong_ms)


class Watched:
    """A gateway that is started anew in a world, with its clocks and its guard."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = FaultyClock(world)
        self.guard = HostToldGuard(self.clock, world)
        self._unsaid_ms = 0  # lived through without saying so
        world.store.close()
        world.store = self._store()
        self.begin()

    def _store(self) -> Store:
        return store_of(self.world.address, lambda: self.world.now_ms, self.guard)

    def restart(self) -> None:
        """The process ends and begins; what it knew of its clocks is gone."""
        self.clock = FaultyClock(self.world)
        self.guard = HostToldGuard(self.clock, self.world)
        self.world.store.close()
        self.world.store = self._store()
        self.begin()

    def begin(self) -> None:
        """As the gateway does at its start."""
        self.world.write(housekeeping.begin, tree=Tree.ALONE)
        self.look()

    def look(self) -> None:
        """As the job does each second."""
        self.guard.learn(*self.world.read(known))
        self.guard.trust()

    def step(self, ms: int) -> None:
        """The wall clock is set, while the server runs."""
        self.world.now_ms += ms
        self.clock.stepped_ms += ms

    def live(self, ms: int) -> None:
        """Time passes while the server works; jobs come by at the end of it."""
        self.world.now_ms += ms
        self._unsaid_ms += ms
        lived_ms = self._unsaid_ms
        if self.world.write(lambda tx: housekeeping.mark_alive(tx, lived_ms)):
            self._unsaid_ms = 0
        self.world.jobs()
        self.look()

    def agree(self) -> None:
        """A minute in which nothing is wrong."""
        self.look()
        self.live(MINUTE_MS)
