"""Values of a router that does not exist, from whoever made it up."""

from collections.abc import Callable, Mapping

from wire.fields import Value


class SimCollector:
    """Hands on what the given callable says."""

    def __init__(self, read: Callable[[], Mapping[str, Value]]) -> None:
        self._read = read

    def __call__(self) -> Mapping[str, Value]:
        return self._read()
