"""Who may do what: one function, total over principals; what is not allowed is forbidden."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """A user's role in one company."""

    ADMINISTRATOR = "administrator"
    ADVANCED = "advanced"
    BASIC = "basic"
    READ_ONLY = "read_only"
    BILLING = "billing"


class Right(StrEnum):
    """What an operation needs."""

    PUBLIC = "public"  # anybody, signed in or not
    SIGNED_IN = "signed_in"
    OWN_ACCOUNT = "own_account"  # one's password, second factor, tokens: never by a token
    OPERATE = "operate"  # the installation: grants, root companies, /status
    SEE_COMPANIES = "see_companies"
    SEE_DEVICES = "see_devices"  # names, days and state
    SEE_HISTORY = "see_history"  # values, plots
    SEE_POSITION = "see_position"
    SEE_ENOUGH = "see_enough"  # until when the credits last, and nothing more
    SEE_CREDITS = "see_credits"
    MOVE_CREDITS = "move_credits"  # moves, codes, days given, answers to requests
    SEE_STATEMENTS = "see_statements"  # and prices
    MANAGE_DEVICES = "manage_devices"  # register, activate, extend: may spend credits
    UNREGISTER = "unregister"  # and import
    MOVE_DEVICES = "move_devices"  # and forget
    COMMAND = "command"
    REACH = "reach"  # sessions to the router itself and to saved targets
    REACH_ANY = "reach_any"  # and to any other; saving targets
    SHARE = "share"  # a guest's way into a session
    SEE_SESSIONS = "see_sessions"  # and end those of others
    SEE_RECORDINGS = "see_recordings"
    SEE_AUDIT = "see_audit"
    MANAGE_COMPANIES = "manage_companies"  # and settings, suspension
    INVITE = "invite"  # and remove people, up to what `may_give` says
    MANAGE_ALERTS = "manage_alerts"
    SUBSCRIBE = "subscribe"  # to alerts, for oneself


class Reach(StrEnum):
    """How far a role carries a right."""

    OWN = "own"  # in the company itself
    BELOW = "below"  # and in all companies below


# What may still be done in a company that was closed.
READING = frozenset(right for right in Right if right.value.startswith("see_"))
# What belongs to nobody's company.
_ANYWHERE = frozenset({Right.PUBLIC, Right.SIGNED_IN, Right.OWN_ACCOUNT, Right.OPERATE})
# Where a company asks people from above to stay out, these need a support access.
INSIDE = frozenset(
    {
        Right.REACH,
        Right.REACH_ANY,
        Right.SHARE,
        Right.SEE_SESSIONS,
        Right.SEE_RECORDINGS,
        Right.SEE_POSITION,
    }
)


def _reaching(reach: Reach, *rights: Right) -> dict[Right, Reach]:
    return dict.fromkeys(rights, reach)


_RIGHTS: Mapping[Role, Mapping[Right, Reach]] = {
    Role.ADMINISTRATOR: _reaching(
        Reach.BELOW, *(right for right in Right if right not in _ANYWHERE)
    ),
    Role.ADVANCED: {
        **_reaching(
            Reach.BELOW,
            Right.SEE_COMPANIES,
            Right.SEE_DEVICES,
            Right.SEE_HISTORY,
            Right.SEE_POSITION,
            Right.SEE_ENOUGH,
            Right.MANAGE_DEVICES,
            Right.UNREGISTER,
            Right.COMMAND,
            Right.REACH,
            Right.REACH_ANY,
            Right.SHARE,
            Right.INVITE,
        ),
        **_reaching(Reach.OWN, Right.SEE_SESSIONS, Right.MANAGE_ALERTS, Right.SUBSCRIBE),
    },
    Role.BASIC: _reaching(
        Reach.OWN,
        Right.SEE_COMPANIES,
        Right.SEE_DEVICES,
        Right.SEE_HISTORY,
        Right.SEE_POSITION,
        Right.REACH,
        Right.SUBSCRIBE,
    ),
    Role.READ_ONLY: _reaching(
        Reach.OWN,
        Right.SEE_COMPANIES,
        Right.SEE_DEVICES,
        Right.SEE_HISTORY,
        Right.SEE_POSITION,
        Right.SUBSCRIBE,
    ),
    Role.BILLING: _reaching(
        Reach.BELOW,
        Right.SEE_COMPANIES,
        Right.SEE_DEVICES,
        Right.SEE_ENOUGH,
        Right.SEE_CREDITS,
        Right.MOVE_CREDITS,
        Right.SEE_STATEMENTS,
    ),
}
_GIVEN_BY: Mapping[Role, frozenset[Role]] = {
    Role.ADMINISTRATOR: frozenset(Role),
    Role.ADVANCED: frozenset({Role.BASIC, Role.READ_ONLY}),
}


class Scope(StrEnum):
    """What an API token is for: its rights are its person's, and of these only its scopes'."""

    ALL = "all"
    READ = "read"  # everything that only looks, but credits
    DEVICES = "devices"  # register, activate, move, import, commands
    REMOTE = "remote"  # sessions and targets
    CREDITS = "credits"  # see and move credits, statements
    COMPANIES = "companies"  # make and change companies
    PEOPLE = "people"  # invite and remove; never credentials
    OPERATE = "operate"


_SEE_CREDITS = frozenset({Right.SEE_ENOUGH, Right.SEE_CREDITS, Right.SEE_STATEMENTS})
_READ = frozenset({*READING, Right.SIGNED_IN}) - _SEE_CREDITS
_SCOPES: Mapping[Scope, frozenset[Right]] = {
    Scope.ALL: frozenset(Right) - {Right.OWN_ACCOUNT},
    Scope.READ: _READ,
    Scope.DEVICES: frozenset(
        {
            Right.SEE_COMPANIES,
            Right.SEE_DEVICES,
            Right.SEE_HISTORY,
            Right.MANAGE_DEVICES,
            Right.UNREGISTER,
            Right.MOVE_DEVICES,
            Right.COMMAND,
        }
    ),
    Scope.REMOTE: frozenset(
        {
            Right.SEE_COMPANIES,
            Right.SEE_DEVICES,
            Right.REACH,
            Right.REACH_ANY,
            Right.SHARE,
            Right.SEE_SESSIONS,
        }
    ),
    Scope.CREDITS: frozenset({Right.SEE_COMPANIES, Right.MOVE_CREDITS, *_SEE_CREDITS}),
    Scope.COMPANIES: frozenset({Right.SEE_COMPANIES, Right.MANAGE_COMPANIES}),
    Scope.PEOPLE: frozenset({Right.SEE_COMPANIES, Right.INVITE}),
    Scope.OPERATE: frozenset({Right.OPERATE}),
}


@dataclass(frozen=True, slots=True)
class Token:
    """What an API token leaves of its person's rights."""

    id: str
    scopes: frozenset[Scope]
    companies: frozenset[int] = frozenset()  # each with all below; empty: any

    def carries(self, right: Right, path: Collection[int]) -> bool:
        """Whether the token is for this right, in a company of this path."""
        if right is Right.PUBLIC or right is Right.SIGNED_IN:
            return True
        if not any(right in _SCOPES[scope] for scope in self.scopes):
            return False
        return not self.companies or right is Right.OPERATE or not self.companies.isdisjoint(path)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a user, by sign-in or API token, or the gateway's own work.

    `name` is stable and unique: it stands in the ledger as actor.
    """

    name: str
    user_id: int | None = None
    operator: bool = False
    internal: bool = False
    memberships: Mapping[int, Role] = field(default_factory=dict)
    token: Token | None = None
    sign_in: str = ""  # the public id of the sign-in by which a browser came
    # One of the person's companies demands a second factor, and there is none: until then there
    # are no roles either.
    second_factor_needed: bool = False

    @property
    def key_owner(self) -> str:
        """Whose idempotency keys these are: a token must not get what its person was answered."""
        return self.name if self.token is None else f"{self.name}/token:{self.token.id}"


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


def authorize(
    principal: Principal,
    right: Right,
    path: Sequence[int] = (),
    *,
    asks: int | None = None,
) -> bool:
    """Whether the principal has the right in a company.

    `path` holds the company itself, then all above it; empty for what belongs to no company.
    `asks` is the company of the path that asks people from above to stay out, if one does and no
    support access is in force: what is inside needs a role in it or below it.
    """
    if principal.internal or right is Right.PUBLIC:
        return True
    if principal.user_id is None:
        return False
    if principal.token is not None and not principal.token.carries(right, path):
        return False
    if right is Right.SIGNED_IN or right is Right.OWN_ACCOUNT:
        return True
    if right is Right.OPERATE:
        return principal.operator
    within = path
    if asks is not None and right in INSIDE:
        within = path[: path.index(asks) + 1]
    return any(
        _carries(principal.memberships.get(company), right, own=place == 0)
        for place, company in enumerate(within)
    )


def _carries(role: Role | None, right: Right, *, own: bool) -> bool:
    if role is None:
        return False
    reach = _RIGHTS[role].get(right)
    return reach is Reach.BELOW or (own and reach is Reach.OWN)


def reach_of(role: Role, right: Right) -> Reach | None:
    """How far the role carries the right; None: not at all."""
    return _RIGHTS[role].get(right)


def roles_with(right: Right, reach: Reach | None = None) -> tuple[Role, ...]:
    """The roles that carry a right, or only those that carry it so far."""
    return tuple(
        role
        for role, rights in _RIGHTS.items()
        if right in rights and (reach is None or rights[right] is reach)
    )


def may_give(principal: Principal, role: Role, path: Sequence[int]) -> bool:
    """Whether the principal may give or take this role in a company: at most what it may itself."""
    if principal.internal:
        return True
    if principal.token is not None and not principal.token.carries(Right.INVITE, path):
        return False
    return any(
        role in _GIVEN_BY.get(own, frozenset())
        for company in path
        if (own := principal.memberships.get(company)) is not None
    )


def administers_above(principal: Principal, path: Collection[int], company_id: int) -> bool:
    """Whether the principal is administrator strictly above; of a root company: an operator.

    Whoever pays decides: the flags of a company are changed only from above.
    """
    above = [company for company in path if company != company_id]
    if principal.internal or not above:
        return principal.internal or authorize(principal, Right.OPERATE)
    if principal.token is not None and not principal.token.carries(Right.MANAGE_COMPANIES, above):
        return False
    return any(principal.memberships.get(company) is Role.ADMINISTRATOR for company in above)
