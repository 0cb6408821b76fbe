"""Whether the other side of a link is still there: what is owed by it, since when; without a clock.

A path that is slow must not be taken for one that is dead. So patience grows with how long answers
took, and doubles with each connection that was given up for nothing.
"""

NOTICE_S = 3.0  # something is owed and nothing was heard for so long: the connection is doubted
PATIENCE_S_MAX = 15.0
_CALMER = 0.9  # of what a slow answer has added, each answer leaves so much


class Vigil:
    """Of one connection after the other. Instants are arguments, of any monotonic clock."""

    def __init__(self, now_s: float) -> None:
        self.heard_s = now_s
        self.asked_s: float | None = None  # since when an answer is owed to us
        self.patience_s = NOTICE_S
        self.doubted = False  # until something is heard

    def begin(self, now_s: float) -> None:
        """A connection, on which nothing is owed yet."""
        if self.doubted:
            self.patience_s = min(2 * self.patience_s, PATIENCE_S_MAX)
        self.heard_s, self.asked_s, self.doubted = now_s, None, False

    def heard(self, now_s: float) -> None:
        """Bytes came, whatever they say."""
        self.heard_s = now_s
        self.doubted = False

    def ask(self, now_s: float) -> bool:
        """Something was sent that will be answered; whether nothing was owed before."""
        if self.asked_s is not None:
            return False
        self.asked_s = now_s
        return True

    def answered(self, now_s: float, *, owes: bool) -> None:
        """An answer came; whether another one is owed still."""
        if self.asked_s is not None:
            calmer_s = max(NOTICE_S, _CALMER * self.patience_s)
            self.patience_s = min(max(calmer_s, 2 * (now_s - self.asked_s)), PATIENCE_S_MAX)
        self.asked_s = now_s if owes else None

    def silent_s(self, now_s: float) -> float:
        """For how long it has kept us waiting; 0 when it owes nothing."""
        if self.asked_s is None:
            return 0.0
        return now_s - max(self.heard_s, self.asked_s)

    def doubt(self, now_s: float) -> bool:
        """Whether it has been silent for too long to be trusted."""
        self.doubted = self.silent_s(now_s) >= self.patience_s
        return self.doubted
