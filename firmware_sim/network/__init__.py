"""A bad network between two programs: latency, jitter, little bandwidth, slices, cuts, silence."""

from firmware_sim.network.faults import Faults
from firmware_sim.network.proxy import FaultProxy

__all__ = ["FaultProxy", "Faults"]
