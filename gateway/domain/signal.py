"""How well a router's modem hears, as one number that can be sorted and told in four words."""

from enum import StrEnum

# RSRP is what LTE and 5G modems tell; older ones tell RSSI alone, which is some 10 dB more.
RSSI_ABOVE_RSRP_DB = 10
# RSSI stands so far below, so that an RSRP is never replaced by it.
RSSI_APART = 1_000
RSSI_BELOW = -500
_DBM_MIN = 400


class Signal(StrEnum):
    """From this RSRP on, in dBm: excellent -85, average -105, low -115; none: less, or unknown."""

    EXCELLENT = "excellent"
    AVERAGE = "average"
    LOW = "low"
    NONE = "none"


FROM_DBM = {Signal.EXCELLENT: -85, Signal.AVERAGE: -105, Signal.LOW: -115}


def heard_signal(before: int | None, rsrp: int | None, rssi: int | None) -> int | None:
    """What is kept of a device's signal, after a sample told one of the two, both or neither."""
    if rsrp is not None:
        return rsrp
    if rssi is not None and (before is None or before < RSSI_BELOW):
        return rssi - RSSI_ABOVE_RSRP_DB - RSSI_APART
    return before


def limits(signal: Signal) -> tuple[tuple[int, int], tuple[int, int]]:
    """The stretches of what is kept, `from` and `below`, that mean this; unknown is none, too."""
    low = FROM_DBM.get(signal, -_DBM_MIN)
    high = min((dbm for dbm in FROM_DBM.values() if dbm > low), default=1)
    return (low, high), (low - RSSI_APART, high - RSSI_APART)
