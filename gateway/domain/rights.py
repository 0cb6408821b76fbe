"""Who may do what: one function, total over principals; what is not allowed is forbidden."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """A user's role in one company."""

    ADMINISTRATOR = "administrator"
    BILLING = "billing"


class Right(StrEnum):
    """What an operation needs."""

    PUBLIC = "public"  # anybody, signed in or not
    SIGNED_IN = "signed_in"
    OPERATE = "operate"  # the installation: grants, root companies, /status
    SEE_COMPANIES = "see_companies"
    SEE_DEVICES = "see_devices"  # names, days and state
    SEE_HISTORY = "see_history"  # values, plots
    SEE_CREDITS = "see_credits"
    MOVE_CREDITS = "move_credits"  # moves, codes, days given, answers to requests
    SEE_STATEMENTS = "see_statements"  # and prices
    MANAGE_DEVICES = "manage_devices"  # register, activate, extend: may spend credits
    UNREGISTER = "unregister"  # and import
    MOVE_DEVICES = "move_devices"  # and forget
    COMMAND = "command"
    REACH = "reach"  # sessions to the router itself and to saved targets
    REACH_ANY = "reach_any"  # and to any other; saving targets
    SEE_SESSIONS = "see_sessions"  # and end those of others; the audit
    MANAGE_COMPANIES = "manage_companies"
    MANAGE_PEOPLE = "manage_people"


# What may still be done in a company that was closed.
READING = frozenset(right for right in Right if right.value.startswith("see_"))
_ADMINISTRATOR = frozenset(Right) - {Right.OPERATE}
_BILLING = frozenset(
    {
        Right.SEE_COMPANIES,
        Right.SEE_DEVICES,
        Right.SEE_CREDITS,
        Right.MOVE_CREDITS,
        Right.SEE_STATEMENTS,
    }
)
_BY_ROLE: Mapping[Role, frozenset[Right]] = {
    Role.ADMINISTRATOR: _ADMINISTRATOR,
    Role.BILLING: _BILLING,
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a user, by sign-in or API token, or the gateway's own work.

    `name` is stable and unique: it owns idempotency keys and stands in the ledger as actor.
    """

    name: str
    user_id: int | None = None
    operator: bool = False
    internal: bool = False
    memberships: Mapping[int, Role] = field(default_factory=dict)


ANONYMOUS = Principal("anonymous")
GATEWAY = Principal("gateway", internal=True)
_OF_USER = "user:"


def name_of_user(user_id: int) -> str:
    """The name of a user's principal."""
    return f"{_OF_USER}{user_id}"


def user_of(name: str) -> int | None:
    """The user whose principal has this name; None if it is nobody's."""
    number = name.removeprefix(_OF_USER)
    return int(number) if number != name and number.isdecimal() else None


def authorize(principal: Principal, right: Right, company_path: Collection[int] = ()) -> bool:
    """Whether the principal has the right in a company.

    `company_path` holds the company and all above it; empty for what belongs to no company.
    """
    if principal.internal or right is Right.PUBLIC:
        return True
    if principal.user_id is None:
        return False
    if right is Right.SIGNED_IN:
        return True
    if right is Right.OPERATE:
        return principal.operator
    return any(
        right in _BY_ROLE[principal.memberships[company]]
        for company in company_path
        if company in principal.memberships
    )


def roles_with(right: Right) -> tuple[Role, ...]:
    """The roles that carry a right: what `authorize` asks of a membership."""
    return tuple(role for role, rights in _BY_ROLE.items() if right in rights)


def administers_above(principal: Principal, company_path: Collection[int], company_id: int) -> bool:
    """Whether the principal is administrator strictly above; of a root company: an operator.

    Whoever pays decides: the flags of a company are changed only from above.
    """
    above = [company for company in company_path if company != company_id]
    if principal.internal or not above:
        return principal.internal or principal.operator
    return any(principal.memberships.get(company) is Role.ADMINISTRATOR for company in above)
