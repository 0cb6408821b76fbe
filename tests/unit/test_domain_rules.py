"""Registering, rights and names as tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.instants import DAY_MS
from gateway.domain.names import NAME_CHARS_MAX, clean_name, name_key
from gateway.domain.registering import HASH_KEPT_MS, LAPSES_MS, Known, Outcome, registering
from gateway.domain.rights import (
    ANONYMOUS,
    GATEWAY,
    Principal,
    Reach,
    Right,
    Role,
    Scope,
    Token,
    administers_above,
    authorize,
    may_give,
    reach_of,
)

NOW = 1_800_000_000_000
MINE, NEAR, FAR = 1, 2, 9
AROUND = frozenset({MINE, NEAR})


def known(
    company: int, *, registered: bool = True, joined: bool = True, since: int = 0, asleep: int = 0
) -> Known:
    dormant_at = None if registered else NOW - asleep
    return Known(registered, joined, company, NOW - since, dormant_at)


REGISTERING = [
    # what is known                                              by join  outcome
    (None, False, Outcome.NEW),
    (None, True, Outcome.NEW),
    (known(MINE), False, Outcome.UNAVAILABLE),
    (known(MINE), True, Outcome.UNAVAILABLE),
    (known(FAR), False, Outcome.UNAVAILABLE),
    (known(FAR), True, Outcome.UNAVAILABLE),
    (known(FAR, joined=False), False, Outcome.UNAVAILABLE),
    (known(FAR, joined=False), True, Outcome.TAKE_OVER),
    (known(FAR, joined=False, since=LAPSES_MS - 1), False, Outcome.UNAVAILABLE),
    (known(FAR, joined=False, since=LAPSES_MS), False, Outcome.TAKE_OVER),
    (known(FAR, since=LAPSES_MS), False, Outcome.UNAVAILABLE),
    (known(MINE, joined=False, since=LAPSES_MS), False, Outcome.UNAVAILABLE),
    (known(MINE, registered=False), False, Outcome.WAKE),
    (known(NEAR, registered=False), False, Outcome.WAKE),
    (known(FAR, registered=False), False, Outcome.NEW),
    (known(MINE, registered=False, joined=False), False, Outcome.NEW),
    (known(MINE, registered=False, asleep=HASH_KEPT_MS), False, Outcome.WAKE),
    (known(MINE, registered=False, asleep=HASH_KEPT_MS + 1), False, Outcome.NEW),
]


@pytest.mark.parametrize(("found", "by_join", "outcome"), REGISTERING)
def test_registering(found: Known | None, by_join: bool, outcome: Outcome) -> None:
    assert registering(found, MINE, AROUND, NOW, by_join=by_join) is outcome


def test_every_outcome_of_registering_is_in_the_table() -> None:
    assert {outcome for _, _, outcome in REGISTERING} == set(Outcome)
    assert (LAPSES_MS, HASH_KEPT_MS) == (30 * DAY_MS, 90 * DAY_MS)


TOP, MIDDLE, LOW = 1, 2, 3
PATH = (LOW, MIDDLE, TOP)


def user(*, operator: bool = False, **roles: Role) -> Principal:
    numbers = {"top": TOP, "middle": MIDDLE, "low": LOW}
    memberships = {numbers[name]: role for name, role in roles.items()}
    return Principal("user:7", 7, operator, memberships=memberships)


ADMINISTRATOR, BILLING = Role.ADMINISTRATOR, Role.BILLING
RIGHTS = [
    # who, right, in the lowest company, allowed
    (ANONYMOUS, Right.PUBLIC, True),
    (ANONYMOUS, Right.SIGNED_IN, False),
    (ANONYMOUS, Right.SEE_DEVICES, False),
    (GATEWAY, Right.OPERATE, True),
    (user(), Right.SIGNED_IN, True),
    (user(), Right.SEE_COMPANIES, False),
    (user(low=ADMINISTRATOR), Right.MANAGE_DEVICES, True),
    (user(top=ADMINISTRATOR), Right.MANAGE_DEVICES, True),
    (user(low=ADMINISTRATOR), Right.OPERATE, False),
    (user(low=BILLING), Right.SEE_CREDITS, True),
    (user(low=BILLING), Right.SEE_HISTORY, False),
    (user(low=BILLING), Right.MANAGE_DEVICES, False),
    (user(low=BILLING, top=ADMINISTRATOR), Right.UNREGISTER, True),
    (user(operator=True), Right.OPERATE, True),
    (user(operator=True), Right.SEE_DEVICES, False),  # an operator is no member
]


@pytest.mark.parametrize(("who", "right", "allowed"), RIGHTS)
def test_who_may(who: Principal, right: Right, allowed: bool) -> None:
    assert authorize(who, right, PATH) is allowed


@pytest.mark.parametrize("right", [one for one in Right if one is not Right.OPERATE])
def test_a_role_below_gives_nothing_above(right: Right) -> None:
    everybody = right in (Right.PUBLIC, Right.SIGNED_IN, Right.OWN_ACCOUNT)
    assert authorize(user(low=ADMINISTRATOR), right, (TOP,)) is everybody
    assert authorize(user(low=ADMINISTRATOR), right, ()) is everybody


ASKS_AT_MIDDLE = [
    # who, right, allowed while the company in the middle asks people from above to stay out
    (user(top=ADMINISTRATOR), Right.REACH, False),
    (user(top=ADMINISTRATOR), Right.SEE_POSITION, False),
    (user(top=ADMINISTRATOR), Right.SEE_DEVICES, True),
    (user(top=BILLING), Right.MOVE_CREDITS, True),
    (user(middle=ADMINISTRATOR), Right.REACH, True),
    (user(low=Role.BASIC), Right.REACH, True),
    (user(middle=Role.BASIC), Right.REACH, False),
    (user(low=Role.READ_ONLY, top=ADMINISTRATOR), Right.REACH, False),
    (GATEWAY, Right.REACH, True),
]


@pytest.mark.parametrize(("who", "right", "allowed"), ASKS_AT_MIDDLE)
def test_who_may_where_a_company_asks(who: Principal, right: Right, allowed: bool) -> None:
    assert authorize(who, right, PATH, asks=MIDDLE) is allowed


# people.md's table: how far each role carries what.
OWN, BELOW = Reach.OWN, Reach.BELOW
REACHES = [
    # right, administrator, advanced, basic, read-only, billing
    (Right.SEE_DEVICES, BELOW, BELOW, OWN, OWN, BELOW),
    (Right.SEE_HISTORY, BELOW, BELOW, OWN, OWN, None),
    (Right.SEE_POSITION, BELOW, BELOW, OWN, OWN, None),
    (Right.REACH, BELOW, BELOW, OWN, None, None),
    (Right.REACH_ANY, BELOW, BELOW, None, None, None),
    (Right.SHARE, BELOW, BELOW, None, None, None),
    (Right.COMMAND, BELOW, BELOW, None, None, None),
    (Right.MANAGE_DEVICES, BELOW, BELOW, None, None, None),
    (Right.UNREGISTER, BELOW, BELOW, None, None, None),
    (Right.MOVE_DEVICES, BELOW, None, None, None, None),
    (Right.INVITE, BELOW, BELOW, None, None, None),
    (Right.MANAGE_COMPANIES, BELOW, None, None, None, None),
    (Right.MANAGE_ALERTS, BELOW, OWN, None, None, None),
    (Right.SUBSCRIBE, BELOW, OWN, OWN, OWN, None),
    (Right.SEE_ENOUGH, BELOW, BELOW, None, None, BELOW),
    (Right.SEE_CREDITS, BELOW, None, None, None, BELOW),
    (Right.MOVE_CREDITS, BELOW, None, None, None, BELOW),
    (Right.SEE_STATEMENTS, BELOW, None, None, None, BELOW),
    (Right.SEE_AUDIT, BELOW, None, None, None, None),
    (Right.SEE_SESSIONS, BELOW, OWN, None, None, None),
    (Right.SEE_RECORDINGS, BELOW, None, None, None, None),
    (Right.SEE_COMPANIES, BELOW, BELOW, OWN, OWN, BELOW),
]


@pytest.mark.parametrize(("right", "reaches"), [(row[0], row[1:]) for row in REACHES])
def test_how_far_each_role_carries_a_right(right: Right, reaches: tuple[Reach | None, ...]) -> None:
    assert tuple(reach_of(role, right) for role in Role) == reaches


def test_every_right_of_roles_is_in_the_table() -> None:
    nobodys = {Right.PUBLIC, Right.SIGNED_IN, Right.OWN_ACCOUNT, Right.OPERATE}
    assert {row[0] for row in REACHES} == set(Right) - nobodys


GIVING = [
    # who, the role that is given in the lowest company, allowed
    *((user(top=ADMINISTRATOR), role, True) for role in Role),
    (user(top=Role.ADVANCED), Role.ADMINISTRATOR, False),
    (user(top=Role.ADVANCED), Role.BILLING, False),
    (user(top=Role.ADVANCED), Role.ADVANCED, False),
    (user(top=Role.ADVANCED), Role.BASIC, True),
    (user(top=Role.ADVANCED), Role.READ_ONLY, True),
    (user(low=Role.BASIC), Role.READ_ONLY, False),
    (user(low=BILLING), Role.READ_ONLY, False),
    (user(operator=True), Role.READ_ONLY, False),
    (ANONYMOUS, Role.READ_ONLY, False),
]


@pytest.mark.parametrize(("who", "role", "allowed"), GIVING)
def test_nobody_gives_more_than_allowed(who: Principal, role: Role, allowed: bool) -> None:
    assert may_give(who, role, PATH) is allowed


def holder(*scopes: Scope, companies: tuple[int, ...] = ()) -> Principal:
    """An administrator of the company in the middle, and operator, by a token."""
    token = Token("t", frozenset(scopes), frozenset(companies))
    return Principal("user:7", 7, True, memberships={MIDDLE: ADMINISTRATOR}, token=token)


TOKENS = [
    # who, right, in the lowest company, allowed
    (holder(Scope.ALL), Right.MANAGE_DEVICES, True),
    (holder(Scope.ALL), Right.OWN_ACCOUNT, False),
    (holder(Scope.ALL), Right.OPERATE, True),
    (holder(Scope.READ), Right.OPERATE, False),
    (holder(Scope.READ), Right.SEE_DEVICES, True),
    (holder(Scope.READ), Right.MANAGE_DEVICES, False),
    (holder(Scope.READ), Right.SEE_CREDITS, False),
    (holder(Scope.DEVICES), Right.REACH, False),
    (holder(Scope.DEVICES, Scope.REMOTE), Right.REACH, True),
    (holder(), Right.SEE_DEVICES, False),
    (holder(), Right.SIGNED_IN, True),
    (holder(Scope.ALL, companies=(LOW,)), Right.SEE_DEVICES, True),
    (holder(Scope.ALL, companies=(TOP,)), Right.SEE_DEVICES, True),
    (holder(Scope.ALL, companies=(9,)), Right.SEE_DEVICES, False),
    (holder(Scope.PEOPLE), Right.INVITE, True),
]


@pytest.mark.parametrize(("who", "right", "allowed"), TOKENS)
def test_what_a_token_leaves(who: Principal, right: Right, allowed: bool) -> None:
    assert authorize(who, right, PATH) is allowed
    assert who.key_owner != user().key_owner


ABOVE = [
    (user(low=ADMINISTRATOR), LOW, False),
    (user(middle=ADMINISTRATOR), LOW, True),
    (user(top=ADMINISTRATOR), LOW, True),
    (user(top=BILLING), LOW, False),
    (user(operator=True), LOW, False),
    (GATEWAY, LOW, True),
]


@pytest.mark.parametrize(("who", "company", "allowed"), ABOVE)
def test_whoever_pays_decides(who: Principal, company: int, allowed: bool) -> None:
    assert administers_above(who, PATH, company) is allowed


def test_a_root_company_is_decided_about_by_operators() -> None:
    assert administers_above(user(operator=True), (TOP,), TOP)
    assert not administers_above(user(top=ADMINISTRATOR), (TOP,), TOP)


NAMES = [
    ("Ärger  GmbH", "arger gmbh"),
    ("arger gmbh", "arger gmbh"),
    ("Straße", "strasse"),
    ("ＡＢＣ", "abc"),
    ("  x  y ", "x y"),
]


@pytest.mark.parametrize(("name", "key"), NAMES)
def test_names_are_compared_without_accents_case_and_space(name: str, key: str) -> None:
    assert name_key(name) == key


@pytest.mark.parametrize("name", ["", "   ", "a\u0000b", "a\u200bb", "x" * (NAME_CHARS_MAX + 1)])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError):
        clean_name(name)


@given(st.text(max_size=60))
def test_a_clean_name_stays_as_it_is(name: str) -> None:
    try:
        clean = clean_name(name)
    except ValueError:
        return
    assert clean_name(clean) == clean and name_key(clean) == name_key(name)
