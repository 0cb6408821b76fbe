"""The relay's lease: by it the gateway lets the relay go on, and says what it must end."""

from broker.relay.clock import Clock
from wire.relay_control import LEASE_LOST_S, LEASE_S


class LeaseWatch:
    """How long ago the gateway was heard."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._renewed_s = clock.now_s()
        self._ever = False

    def renew(self) -> None:
        """A lease of this relay's life came."""
        self._renewed_s = self._clock.now_s()
        self._ever = True

    @property
    def age_s(self) -> float:
        """Since the last lease, or since the start."""
        return self._clock.now_s() - self._renewed_s

    @property
    def fresh(self) -> bool:
        """Whether new streams may be opened; not before the first lease."""
        return self._ever and self.age_s <= LEASE_S

    @property
    def lost(self) -> bool:
        """Whether all sessions must end, as nobody could revoke them any more."""
        return self.age_s > LEASE_LOST_S
