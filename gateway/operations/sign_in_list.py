"""Where one is signed in, and how to end that."""

import msgspec
from sqlalchemy import delete, select

from gateway.domain.instants import instant_text
from gateway.domain.rights import Right
from gateway.operations.accounts import person_of
from gateway.operations.people import Nothing
from gateway.operations.registry import Call, not_found, operation
from gateway.people import sign_ins
from gateway.people.demands import demands_on
from gateway.storage.schema import sign_in


class SignInShown(msgspec.Struct):
    """A browser that is signed in. `address`: of IPv6 the network; `this_one`: it asks now."""

    id: str
    created_at: str
    used_at: str
    expires_at: str
    address: str
    user_agent: str
    second_factor: bool
    this_one: bool


class SignInsShown(msgspec.Struct):
    """All sign-ins of an account, the one used last first."""

    items: list[SignInShown]


class OneSignIn(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Names a sign-in by its id."""

    sign_in_id: str


class EndSignIns(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """All others; with `all` the one that asks, too."""

    all: bool = False


class SignInsEnded(msgspec.Struct):
    """How many sign-ins ended."""

    ended: int


@operation("sign-ins.list", "GET", "/me/sign-ins", right=Right.OWN_ACCOUNT, result=SignInsShown)
def list_sign_ins(call: Call, _given: Nothing) -> SignInsShown:
    """Lists where one is signed in now."""
    person_id = person_of(call)
    idle_ms = demands_on(call.tx, person_id).idle_ms
    rows = call.tx.all(
        select(sign_in)
        .where(sign_in.c.person_id == person_id, sign_ins.good(call.tx.now_ms, idle_ms))
        .order_by(sign_in.c.used_at.desc(), sign_in.c.id)
    )
    return SignInsShown(
        [
            SignInShown(
                row.id,
                instant_text(row.created_at),
                instant_text(row.used_at),
                instant_text(row.expires_at),
                row.address,
                row.user_agent,
                bool(row.second_factor),
                row.id == call.principal.sign_in,
            )
            for row in rows
        ]
    )


@operation(
    "sign-ins.end",
    "DELETE",
    "/me/sign-ins/{sign_in_id}",
    right=Right.OWN_ACCOUNT,
    result=SignInsEnded,
)
def end_sign_in(call: Call, given: OneSignIn) -> SignInsEnded:
    """Ends one of one's own sign-ins."""
    own = (sign_in.c.id == given.sign_in_id, sign_in.c.person_id == person_of(call))
    if call.tx.run(delete(sign_in).where(*own)) == 0:
        raise not_found("sign-in")
    return SignInsEnded(1)


@operation(
    "sign-ins.end-all", "DELETE", "/me/sign-ins", right=Right.OWN_ACCOUNT, result=SignInsEnded
)
def end_sign_ins(call: Call, given: EndSignIns) -> SignInsEnded:
    """Signs one out everywhere else, or everywhere."""
    person_id = person_of(call)
    call.tx.lock_person(person_id)
    ended = sign_ins.end_all(call.tx, person_id, but="" if given.all else call.principal.sign_in)
    call.about(subject=str(person_id), ended=ended)
    return SignInsEnded(ended)
