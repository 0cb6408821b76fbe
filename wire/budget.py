"""Memory that a session, and a whole relay, may promise to others."""

# Beside these, each link may keep 1 MiB of sent frames: 16 and 8 MiB a session in all.
SESSION_BYTES = 15 * 1024 * 1024
AGENT_SESSION_BYTES = 7 * 1024 * 1024
RELAY_BYTES = 1024 * 1024 * 1024
SHARE = 8  # at most one eighth of what is free is taken at a time


class Budget:
    """Bytes promised, below a limit and below that of the budget above."""

    def __init__(self, limit: int, above: "Budget | None" = None) -> None:
        self.limit = limit
        self.used = 0
        self._above = above

    def free(self) -> int:
        """What may still be promised; never below 0."""
        free = max(0, self.limit - self.used)
        return free if self._above is None else min(free, self._above.free())

    def share(self, wanted: int) -> int:
        """Takes what is wanted, at most an eighth of what is free; how much that was."""
        taken = min(max(0, wanted), self.free() // SHARE)
        self.take(taken)
        return taken

    def take(self, size: int) -> None:
        """Takes without a question: the least that everybody is promised."""
        self.used += size
        if self._above is not None:
            self._above.take(size)

    def give(self, size: int) -> None:
        """Gives back what was taken."""
        assert 0 <= size <= self.used, (size, self.used)
        self.used -= size
        if self._above is not None:
            self._above.give(size)
