"""Devices that go to another company: whether their history goes with them."""

from collections.abc import Collection, Sequence
from enum import StrEnum


class History(StrEnum):
    """What becomes of a device's history, name, notes and targets when it is moved."""

    KEEP = "keep"  # they go along: the same tenure in another company
    LEAVE = "leave"  # they stay with the former company: a new tenure begins empty


def usual_history(
    former_path: Sequence[int], new_path: Sequence[int], administered: Collection[int]
) -> History:
    """Kept within one subtree of whoever moves the device; a device that is sold leaves its own.

    The paths hold a company and all above it, itself first; `administered` are those of them in
    which the mover is administrator.
    """
    if former_path[0] in new_path or new_path[0] in former_path:
        return History.KEEP
    common = set(former_path) & set(new_path)
    return History.KEEP if common & set(administered) else History.LEAVE
