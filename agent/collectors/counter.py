"""One rising total from a counter that starts again now and then."""

from wire.fields import COUNTER_MAX

U32 = 1 << 32
_SIMS_MAX = 8
# Where a drop can be a wrap or a reset, it is taken for a wrap up to this part of the range: a
# counter of 32 bits that stood above 3.5 GiB. What a day's reset costs is then counted in full.
_WRAP_PART = 8


class Counter:
    """Follows a modem's counter through midnight, reboots, wraps, zeros and changes of the SIM.

    `wraps_at` is what the source counts up to, where it has such a limit. The total begins with
    the first reading, so that it is the source's own number until something happens to that.
    """

    def __init__(self, wraps_at: int | None = None) -> None:
        self._wraps_at = wraps_at
        self._last: dict[int, int] = {}  # each SIM has a counter of its own
        self._life: object = None
        self.total: int | None = None

    def read(self, reading: int | None, *, sim: int = 1, life: object = None) -> int | None:
        """The total after this reading; None for a reading that says nothing.

        `life` is what the source counts within, as far as it is known, such as the day or the
        boot: where it has changed, a smaller reading is no wrap.
        """
        if reading is None or not 0 <= reading <= COUNTER_MAX:
            return None
        wraps = self._wraps_at if life == self._life else None
        self._life = life
        if self.total is None:
            self.total = reading
        elif sim in self._last:
            last = self._last[sim]
            if reading == 0 and last:
                # Modems say zero while they are busy. Whether it was a reset shows at the next
                # reading: it is smaller than the last one that said something, or it is not.
                return self.total
            self.total += _growth(last, reading, wraps)
        # else: what a SIM has carried before it was first seen here is not counted.
        if sim in self._last or len(self._last) < _SIMS_MAX:
            self._last[sim] = reading
        return self.total


def _growth(last: int, reading: int, wraps_at: int | None) -> int:
    if reading >= last:
        return reading - last
    if wraps_at is not None and last < wraps_at:
        wrapped = reading + wraps_at - last
        if wrapped <= wraps_at // _WRAP_PART:
            return wrapped
    # It began anew; what passed between the last reading and then is lost, and is not guessed.
    return reading
