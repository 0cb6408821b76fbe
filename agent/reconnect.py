"""How long to wait before the next connection, by what became of the last one."""

from random import Random

LOST_S_FIRST = 1.0
LOST_S_MAX = 60.0
REFUSED_S_FIRST = 5.0
REFUSED_S_MAX = 900.0
SPREAD_S_MIN = 5
# A connection that lived this long was a good one: what ends it is a new problem.
SURVIVED_S_MIN = 30.0


class Reconnect:
    """Doubling waits with jitter, one ceiling for a lost network and one for a refusal."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._lost_s = LOST_S_FIRST
        self._refused_s = REFUSED_S_FIRST

    def after_failure_s(self) -> float:
        """Nobody answered."""
        wait_s = self._rng.uniform(0.0, self._lost_s)
        self._lost_s = min(self._lost_s * 2, LOST_S_MAX)
        return wait_s

    def after_refusal_s(self) -> float:
        """The MQTT server said no; it may not have read its new password file yet."""
        # Never at once: what was refused a moment ago is refused now.
        wait_s = self._rng.uniform(self._refused_s / 2, self._refused_s)
        self._refused_s = min(self._refused_s * 2, REFUSED_S_MAX)
        return wait_s

    def after_loss_s(self, survived_s: float, spread_s: int) -> float:
        """A server that had worked is gone: the whole fleet must not come back at once."""
        wait_s = self._rng.uniform(0.0, max(spread_s, SPREAD_S_MIN))
        if survived_s >= SURVIVED_S_MIN:
            self._lost_s = LOST_S_FIRST
            self._refused_s = REFUSED_S_FIRST
            return wait_s
        return wait_s + self.after_failure_s()

    def after_takeover_s(self, survived_s: float) -> float:
        """Another client signed in under our name; two that hurry would throw each other out."""
        if survived_s >= REFUSED_S_MAX:
            self._refused_s = REFUSED_S_FIRST
        return self.after_refusal_s()
