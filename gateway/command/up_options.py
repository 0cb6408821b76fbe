"""The command line of `fleetgate up`, as its parts are told."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.command.ports import Asked


class SetUpError(Exception):
    """Something outside must be mended before Fleetgate can start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """The command line of `fleetgate up`."""

    data: Path
    asked: Mapping[str, Asked]
    demo_routers: int = 0
    ready_file: Path | None = None
    gateways: int = 1
    node: str = ""
    relay_id: str = ""
    database: str = ""  # URL, perhaps with a password
    keys: Path | None = None  # copied from the first machine of the installation
