"""What a company's administrators are to be told, and in which words."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from gateway.domain.ledger import credits_text


class Notice(StrEnum):
    """What has happened, or will."""

    CREDITS_MOVED_UP = "credits_moved_up"
    CREDITS_TAKEN_BACK = "credits_taken_back"
    CREDITS_REQUESTED = "credits_requested"
    REQUEST_ANSWERED = "request_answered"
    PARENT_LIMIT_USED = "parent_limit_used"
    CREDITS_RUN_DRY = "credits_run_dry"
    LOT_EXPIRES = "lot_expires"
    GRACE_BEGAN = "grace_began"
    DEVICE_UNHEARD = "device_unheard"
    DEVICE_UNREGISTERED = "device_unregistered"
    DEVICE_MOVED = "device_moved"
    DEVICE_REPLACED = "device_replaced"
    SERIAL_TAKEN_OVER = "serial_taken_over"
    COMPANY_SUSPENDED = "company_suspended"
    COMPANY_CLOSED = "company_closed"
    SUPPORT_ACCESS = "support_access"


Facts = Mapping[str, Any]


def notice_sentence(kind: Notice, subject: str, facts: Facts) -> str:
    """Says it for people; what is not known is left out, so that old notices stay readable."""
    text = _SENTENCES[kind](subject, facts)
    note = str(facts.get("note", ""))
    return f"{text}; note: {note}." if note else f"{text}."


def _amount(facts: Facts) -> str:
    days = facts.get("days")
    return credits_text(days) if isinstance(days, int) else "Credits"


def _by(facts: Facts) -> str:
    return f" by {facts['by']}" if facts.get("by") else ""


def _because(facts: Facts) -> str:
    return f": {facts['reason']}" if facts.get("reason") else ""


def _in_days(facts: Facts) -> str:
    left = facts.get("days_left")
    if not isinstance(left, int):
        return ""
    return " within a day" if left <= 1 else f" within {left} days"


def _moved_up(_: str, facts: Facts) -> str:
    where = "put into a credit code" if facts.get("into") == "code" else "moved"
    return f"{_amount(facts)} were {where} {'by' if 'code' in where else 'to'} the company above"


def _taken_back(_: str, facts: Facts) -> str:
    whose = f" from {facts['serial']}" if facts.get("serial") else ""
    return f"{_amount(facts)} were taken back{whose}{_because(facts)}"


def _requested(subject: str, facts: Facts) -> str:
    return f"{facts.get('company', subject)} asks for {_amount(facts)}"


def _answered(_: str, facts: Facts) -> str:
    return f"The request for {_amount(facts)} was {facts.get('state', 'answered')}"


def _limit_used(subject: str, facts: Facts) -> str:
    percent = facts.get("percent")
    part = f"{percent} % of the" if isinstance(percent, int) else "The"
    limit = facts.get("limit")
    of = f" of {limit} credits" if isinstance(limit, int) else ""
    who = facts.get("company", subject)
    return f"{part} monthly limit of credits from above{of} is used up by {who}"


def _run_dry(_: str, facts: Facts) -> str:
    on = f", on {facts['on']}" if facts.get("on") else ""
    return f"At the present rate the credits run dry{_in_days(facts)}{on}"


def _lot_expires(_: str, facts: Facts) -> str:
    on = f": the last valid day is {facts['on']}" if facts.get("on") else ""
    return f"{_amount(facts)} expire unused{_in_days(facts)}{on}"


def _grace(subject: str, facts: Facts) -> str:
    until = f" until {facts['until']}" if facts.get("until") else " for a while"
    return f"Nobody could pay for {subject}; it is served{until}, then it stops"


def _unheard(subject: str, _: Facts) -> str:
    return f"{subject} was silent in its last period, so no credit was taken and it is off"


def _unregistered(subject: str, facts: Facts) -> str:
    days = facts.get("forfeited")
    lost = f"; {credits_text(days)} were forfeited" if isinstance(days, int) and days else ""
    return f"{subject} was unregistered{_by(facts)}{lost}"


def _device_moved(subject: str, facts: Facts) -> str:
    target = f" to {facts['company']}" if facts.get("company") else " to another company"
    return f"{subject} went{target}"


def _replaced(subject: str, facts: Facts) -> str:
    by = facts.get("serial")
    return f"{subject} was replaced by {by}" if by else f"{subject} was replaced"


def _taken_over(subject: str, _: Facts) -> str:
    return f"The registration of {subject} ended: the device joined another company"


def _suspended(_: str, facts: Facts) -> str:
    return f"The company was suspended{_because(facts)}"


def _closed(subject: str, facts: Facts) -> str:
    return f"The company {facts.get('company', subject)} was closed{_by(facts)}"


def _support(subject: str, facts: Facts) -> str:
    until = f" until {facts['until']}" if facts.get("until") else " for a while"
    who = facts.get("company", subject)
    return f"People from above may look inside the company {who}{until}{_because(facts)}"


_SENTENCES: Mapping[Notice, Callable[[str, Facts], str]] = {
    Notice.CREDITS_MOVED_UP: _moved_up,
    Notice.CREDITS_TAKEN_BACK: _taken_back,
    Notice.CREDITS_REQUESTED: _requested,
    Notice.REQUEST_ANSWERED: _answered,
    Notice.PARENT_LIMIT_USED: _limit_used,
    Notice.CREDITS_RUN_DRY: _run_dry,
    Notice.LOT_EXPIRES: _lot_expires,
    Notice.GRACE_BEGAN: _grace,
    Notice.DEVICE_UNHEARD: _unheard,
    Notice.DEVICE_UNREGISTERED: _unregistered,
    Notice.DEVICE_MOVED: _device_moved,
    Notice.DEVICE_REPLACED: _replaced,
    Notice.SERIAL_TAKEN_OVER: _taken_over,
    Notice.COMPANY_SUSPENDED: _suspended,
    Notice.COMPANY_CLOSED: _closed,
    Notice.SUPPORT_ACCESS: _support,
}
