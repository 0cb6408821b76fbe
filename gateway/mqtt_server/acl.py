"""The access list of the MQTT server: what each login may write and read, in exact levels."""

import re
from collections.abc import Iterable, Sequence

from wire import topics

PROBE_LOGIN = "@probe"
GATEWAY_LOGIN_PREFIX = "@gateway-"
RELAY_LOGIN_PREFIX = "@relay-"

# Mosquitto puts the login here. `+` is one level, and no login can hold a `/`.
_LOGIN = "%u"
_ANY = "+"
_SERVICE_NAME = re.compile(r"@(gateway|relay)-[a-z0-9-]{1,24}")


def render(*, gateways: Sequence[str], relays: Iterable[str] = ()) -> str:
    """The whole file, for the gateways and relays (logins) that use this MQTT server."""
    if not gateways:
        raise ValueError("an access list without a gateway")
    lines = [
        "# Written by the gateway; changes made here are lost.",
        "# Devices: the login is the serial.",
        *(f"pattern write {topic}" for topic in _written_by_device(_LOGIN)),
        *(f"pattern read {topic}" for topic in _read_by_device(_LOGIN)),
        "",
        f"# {PROBE_LOGIN} has no line of its own: it proves that this list is in force.",
    ]
    for login in sorted(set(gateways)):
        lines += ["", *_gateway_block(_checked(login, GATEWAY_LOGIN_PREFIX))]
    for login in sorted(set(relays)):
        lines += ["", *_relay_block(_checked(login, RELAY_LOGIN_PREFIX))]
    return "\n".join(lines) + "\n"


def _written_by_device(login: str) -> tuple[str, ...]:
    return topics.heartbeat(login), topics.presence(login), topics.answer(login)


def _read_by_device(login: str) -> tuple[str, ...]:
    return topics.receipt(login), topics.command(login)


def _gateway_block(login: str) -> list[str]:
    return [
        f"user {login}",
        *(f"topic read {topic}" for topic in _written_by_device(_ANY)),
        *(f"topic write {topic}" for topic in _read_by_device(_ANY)),
        f"topic readwrite {topics.probe(login.removeprefix('@'))}",
        f"topic read {topics.relay_event(_ANY)}",
        f"topic write {topics.relay_command(_ANY)}",
    ]


def _relay_block(login: str) -> list[str]:
    name = login.removeprefix("@")
    return [
        f"user {login}",
        f"topic write {topics.relay_event(name)}",
        f"topic read {topics.relay_command(name)}",
    ]


def _checked(login: str, prefix: str) -> str:
    # A blank or a line end would let a name write lines of this file.
    if not login.startswith(prefix) or not _SERVICE_NAME.fullmatch(login):
        raise ValueError(f"not a service login: {login!r}")
    return login
