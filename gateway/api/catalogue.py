"""Every operation there is, and where it is reached."""

from functools import cache

from gateway.operations import all as every_module
from gateway.operations.registry import Operation, operations

PREFIX = "/api/v1"
# Signing in by cookie is for browsers, and so is what the bearer of a link does with it.
NOT_COMMANDS = frozenset(
    {
        "events.follow",  # a command of its own, which goes on
        "invitations.accept",
        "invitations.look",
        "password-resets.use",
        "people.sign_in",
        "people.sign_out",
    }
)


@cache
def all_operations() -> tuple[Operation, ...]:
    """In the order of their addresses, so that what is made from them does not jump about."""
    assert every_module.MODULES
    return tuple(sorted(operations(), key=lambda op: (op.path, op.method)))


def operation_called(name: str) -> Operation:
    """The operation of this name; it must exist."""
    return next(op for op in all_operations() if op.name == name)
