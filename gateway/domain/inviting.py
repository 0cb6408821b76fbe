"""Invitations: for how long one is good, who may send it, and until when a role may last."""

from collections.abc import Sequence
from typing import Literal

from gateway.domain.instants import DAY_MS, HOUR_MS, parse_instant
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Principal, Right, Role, authorize, may_give

GOOD_MS = 72 * HOUR_MS
KEPT_MS = 30 * DAY_MS  # after its end: people may see what became of it
OPEN_OF_COMPANY_MAX = 200
SENT_OF_PERSON_MAX = 50  # within SENT_WITHIN_MS: nobody's mailbox is flooded from here
SENT_WITHIN_MS = HOUR_MS
UNTIL_MS_MAX = 100 * 366 * DAY_MS
DAY_CHARS = 10  # 2027-01-31

State = Literal["open", "expired", "accepted", "withdrawn", "closed"]
ENDS: tuple[State, ...] = ("accepted", "withdrawn", "closed")


def may_invite(
    principal: Principal, role: Role, path: Sequence[int], *, asks: int | None = None
) -> bool:
    """Whether the principal may have somebody get this role in a company; `path` as `authorize`.

    Nobody is above a root company, so that an operator finds it an administrator. `asks` is the
    company of the path that asks people from above to stay out, if one does: they could let
    themselves in.
    """
    if asks is not None:
        return may_give(principal, role, path[: path.index(asks) + 1])
    if may_give(principal, role, path):
        return True
    return (
        len(path) == 1 and role is Role.ADMINISTRATOR and authorize(principal, Right.OPERATE, path)
    )


def state_of(ended_because: str | None, expires_at: int, now_ms: int) -> State:
    """What has become of an invitation."""
    for end in ENDS:
        if ended_because == end:
            return end
    return "expired" if expires_at <= now_ms else "open"


def membership_end(text: str | None, now_ms: int) -> int | None:
    """When a role is to end by itself; None: never. Raises `Refused`."""
    if text is None:
        return None
    try:
        # A day alone ends a role as that day begins.
        until = parse_instant(f"{text}T00:00:00Z" if len(text) == DAY_CHARS else text)
    except (ValueError, OverflowError) as error:
        raise _wrong("a day or an instant such as 2027-01-31T12:00:00Z") from error
    if until <= now_ms:
        raise _wrong("this is over already; give an instant to come, or leave it out")
    if until > now_ms + UNTIL_MS_MAX:
        raise _wrong("at most a hundred years from now; leave it out for a role without end")
    return until


def _wrong(detail: str) -> Refused:
    return Refused(Code.VALIDATION, f"until: {detail}", field="until")
