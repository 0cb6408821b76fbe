"""How often the agent samples and sends; both can be changed by the gateway and are kept."""

from typing import NamedTuple

from wire.heartbeat import INTERVAL_S_MAX

INTERVAL_S_MIN = 1
SAMPLING_S = 60
SENDING_S = 60


class Intervals(NamedTuple):
    """Seconds between samples, and between live messages."""

    sampling_s: int = SAMPLING_S
    sending_s: int = SENDING_S

    @property
    def in_force_s(self) -> int:
        """How often a message can be expected: one without a new sample is never sent."""
        return max(self.sampling_s, self.sending_s)


def is_interval(value: object) -> bool:
    """Whether the value is a number of seconds that the agent accepts."""
    return type(value) is int and INTERVAL_S_MIN <= value <= INTERVAL_S_MAX
