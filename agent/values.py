"""What a collector has read, as far as the field table knows it."""

from collections.abc import Mapping

from agent.build import VERSION
from wire.fields import BY_NAME, Value, check_value

_VERSION_FIELD = BY_NAME["agent_version"].id


def checked_values(named: Mapping[str, Value]) -> dict[int, Value]:
    """Values under their field numbers; what does not fit the field table is left out."""
    values: dict[int, Value] = {_VERSION_FIELD: VERSION}
    for name, value in named.items():
        field = BY_NAME.get(name)
        if field is not None and check_value(field.id, value):
            values[field.id] = value
    return values
