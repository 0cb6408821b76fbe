"""When the MQTT server is told to read its logins again: a pure rule of times."""

from dataclasses import dataclass

# Mosquitto falls silent for 0.3–0.8 s at each reading.
PAUSE_S = 2.0
PAUSE_CROWDED_S = 10.0
CROWDED_CONNECTIONS = 5_000
REMOVAL_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class Pacing:
    """What is asked for and what was done, in seconds of one monotonic clock."""

    asked_at_s: float | None = None
    removal_asked_at_s: float | None = None
    done_at_s: float | None = None

    def ask(self, now_s: float, *, removal: bool) -> "Pacing":
        """The same with one more change; the oldest waiting one counts."""
        return Pacing(
            asked_at_s=now_s if self.asked_at_s is None else self.asked_at_s,
            removal_asked_at_s=(
                now_s if removal and self.removal_asked_at_s is None else self.removal_asked_at_s
            ),
            done_at_s=self.done_at_s,
        )

    def begin(self, now_s: float) -> "Pacing":
        """The same at the moment of reading the table: what is asked later needs another turn."""
        return Pacing(done_at_s=now_s)

    def due_at_s(self, connections: int) -> float | None:
        """When the next turn may begin; None while nothing is asked."""
        if self.asked_at_s is None:
            return None
        if self.done_at_s is None:
            return self.asked_at_s
        pause_s = PAUSE_CROWDED_S if connections > CROWDED_CONNECTIONS else PAUSE_S
        due_s = max(self.asked_at_s, self.done_at_s + pause_s)
        if self.removal_asked_at_s is not None:
            # Half of the limit is kept for writing the file and for the server's own silence.
            removal_s = max(
                self.done_at_s + PAUSE_S, self.removal_asked_at_s + REMOVAL_S_MAX - PAUSE_S
            )
            due_s = min(due_s, removal_s)
        return due_s
