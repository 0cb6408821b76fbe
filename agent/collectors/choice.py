"""Which collector a configuration asks for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from agent.collectors.linux import LinuxCollector
from agent.collectors.rutos_local import RutosLocalCollector, is_rutos
from wire.fields import Value

DEFAULT_COLLECTOR = "auto"
COLLECTORS = (DEFAULT_COLLECTOR, "rutos_local", "linux", "modem")

Collector = Callable[[], Mapping[str, Value]]


class Wishes(Protocol):
    """The part of the configuration that decides."""

    @property
    def collector(self) -> str:
        """One of `COLLECTORS`."""

    @property
    def modem_port(self) -> str:
        """Path of the serial port, or `auto`."""

    @property
    def modem_baud(self) -> int:
        """Its speed."""


def collector_of(wishes: Wishes, root: Path = Path("/")) -> Collector:
    """Makes it. Raises `ConfigurationError` when a library that it needs is not there."""
    if wishes.collector == "modem":
        # Loaded here alone, so that no other agent needs the library for serial ports.
        from agent.collectors.modem import ModemCollector, check_library

        check_library()
        return ModemCollector(wishes.modem_port, wishes.modem_baud, root=root)
    local = wishes.collector == "rutos_local"
    if local or (wishes.collector == DEFAULT_COLLECTOR and is_rutos(root)):
        return RutosLocalCollector(root)
    return LinuxCollector(root)
