"""What a device is told about sessions, and what it says of their links."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from wire.commands import Answer, Outcome
from wire.heartbeat import WireError, checked_integer
from wire.targets import Target, parse_target
from wire.tickets import SESSION_S_MAX, TICKET_CHARS_MAX, is_session_id

RELAY_HOSTS_MAX = 3
ERROR_CHARS_MAX = 200
_REPORT = "session:"


class Open(NamedTuple):
    """The arguments of the command `open`: dial this relay and wait for streams to the target."""

    session: str
    epoch: str
    ticket: str
    hosts: tuple[str, ...]
    port: int
    target: Target
    left_s: int  # the session ends by itself after so many seconds


class LinkState(StrEnum):
    """What the agent says of a session's link."""

    UP = "up"
    LOST = "lost"  # it will dial again
    FAILED = "failed"  # it could not dial; it will try again
    UNKNOWN = "unknown"  # the relay does not know the session: a new ticket is needed
    OVER = "over"  # the relay ended the session


class Report(NamedTuple):
    """A report on one session's link; `error` is for people, empty where all is well."""

    session: str
    link: LinkState
    error: str


def open_args(order: Open) -> dict[str, object]:
    """The command's `args`."""
    return {
        "session": order.session,
        "epoch": order.epoch,
        "ticket": order.ticket,
        "hosts": list(order.hosts),
        "port": order.port,
        "target": str(order.target),
        "left_s": order.left_s,
    }


def open_of(args: Mapping[str, object]) -> Open:
    """Reads the arguments. Raises `WireError`."""
    session, epoch, ticket = args.get("session"), args.get("epoch"), args.get("ticket")
    if not is_session_id(session):
        raise WireError("open: session")
    if type(epoch) is not str or not 0 < len(epoch) <= 64:
        raise WireError("open: epoch")
    if type(ticket) is not str or not 0 < len(ticket) <= TICKET_CHARS_MAX:
        raise WireError("open: ticket")
    hosts, target = args.get("hosts"), args.get("target")
    if (
        not isinstance(hosts, list)
        or not 1 <= len(hosts) <= RELAY_HOSTS_MAX
        or not all(type(host) is str and 0 < len(host) <= 253 for host in hosts)
    ):
        raise WireError("open: hosts")
    if type(target) is not str:
        raise WireError("open: target")
    return Open(
        str(session),
        epoch,
        ticket,
        tuple(hosts),
        checked_integer(args.get("port"), 1, 65_535, "port"),
        parse_target(target),
        checked_integer(args.get("left_s"), 1, SESSION_S_MAX, "left_s"),
    )


def session_of(args: Mapping[str, object]) -> str:
    """The one argument of the command `close`. Raises `WireError`."""
    session = args.get("session")
    if not is_session_id(session):
        raise WireError("close: session")
    return str(session)


def report_answer(report: Report) -> Answer:
    """A report travels like an answer, under an id that no command has."""
    good = report.link is LinkState.UP
    result = {"link": report.link.value, "error": report.error[:ERROR_CHARS_MAX]}
    return Answer(_REPORT + report.session, Outcome.DONE if good else Outcome.FAILED, result)


def report_of(answer: Answer) -> Report | None:
    """The report in this answer, if it is one. Raises `WireError` for a damaged one."""
    if not answer.id.startswith(_REPORT):
        return None
    session = answer.id.removeprefix(_REPORT)
    error = answer.result.get("error", "")
    if not is_session_id(session) or type(error) is not str:
        raise WireError("report: session or error")
    try:
        link = LinkState(str(answer.result.get("link")))
    except ValueError as wrong:
        raise WireError("report: link") from wrong
    return Report(session, link, error[:ERROR_CHARS_MAX])
