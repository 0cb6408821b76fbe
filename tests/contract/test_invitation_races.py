"""Invitations that several people use, take back or send at once: each is good once."""

from collections import Counter
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from gateway.domain.refusals import Refused
from gateway.storage.schema import invitation, membership, person
from tests.contract import invited
from tests.contract.gateways import TwoGateways
from tests.contract.invited import ANN, accepting, invite, token_of
from tests.contract.world import World

ROUNDS = 4


def told(outcomes: list[Any]) -> Counter[str]:
    """How often which outcome."""
    found: Counter[str] = Counter()
    for one in outcomes:
        if isinstance(one, Refused):
            found[one.code.value] += 1
        elif isinstance(one, BaseException):
            raise one
        else:
            found["ok"] += 1
    return found


def child_of(world: World) -> str:
    return world.company("Child", world.company("Top"))


def test_of_many_who_accept_at_once_one_does(two: TwoGateways) -> None:
    world = two.world
    child = child_of(world)
    for number in range(ROUNDS):
        token = token_of(invite(world, child, email=f"new{number}@example.org"))
        works = [accepting(world, token, new_cookie=f"{number}{one}" * 20) for one in range(8)]
        found = told(two.at_once(works))
        # Who came a moment later finds the account, or the invitation used.
        assert found["ok"] == 1 and set(found) <= {"ok", "invitation_over", "signed_out"}
    people = [one.email for one in invited.all_rows(world, person)]
    assert sum(email.startswith("new") for email in people) == ROUNDS
    for number in range(ROUNDS):
        email = f"known{number}@example.org"
        ann = invited.person(world, email)
        token = token_of(invite(world, child, email=email))
        found = told(two.at_once([accepting(world, token, ann) for _ in range(8)]))
        assert found == {"ok": 1, "invitation_over": 7}
        assert invited.roles(world, ann) == {int(child): "basic"}


def test_two_invitations_of_somebody_new_make_one_account(two: TwoGateways) -> None:
    world = two.world
    first, second = child_of(world), world.company("Second")
    for number in range(ROUNDS):
        email = f"new{number}@example.org"
        tokens = [token_of(invite(world, one, email=email)) for one in (first, second)]
        works = [
            accepting(world, token, new_cookie=f"{number}{place}" * 20)
            for place, token in enumerate(tokens)
        ]
        assert told(two.at_once(works)) == {"ok": 1, "signed_out": 1}


@pytest.mark.parametrize("verb", ["withdraw", "resend"])
def test_accepting_and_taking_the_link_back_at_once_has_one_winner(
    two: TwoGateways, verb: str
) -> None:
    world = two.world
    child = child_of(world)
    for number in range(ROUNDS):
        email = f"known{number}@example.org"
        ann = invited.person(world, email)
        made = invite(world, child, email=email)
        works = [
            accepting(world, token_of(made), ann),
            world.work(f"invitations.{verb}", invitation_id=made["id"]),
        ]
        accepted, taken_back = two.at_once(works)
        assert told([accepted, taken_back]) == {"ok": 1, "invitation_over": 1}
        (row,) = [one for one in invited.all_rows(world, invitation) if one.email == email]
        won = isinstance(taken_back, Refused)
        assert won == (row.ended_because == "accepted") == (invited.roles(world, ann) != {})


def test_inviting_one_address_at_once_makes_one_invitation(two: TwoGateways) -> None:
    world = two.world
    child = child_of(world)
    given: dict[str, Any] = {"email": ANN, "company_id": child, "role": "basic"}
    works = [world.work("invitations.create", **given) for _ in range(8)]
    assert told(two.at_once(works)) == {"ok": 8}
    (row,) = invited.all_rows(world, invitation)
    assert row.sends == 8
    again = [{"invitation_id": str(row.id)}] * 8
    assert Counter(two.ask_at_once("invitations.resend", again)) == {"ok": 8}
    (row,) = invited.all_rows(world, invitation)
    assert row.sends == 16
    assert len(invited.all_rows(world, membership)) == 1


def test_a_membership_that_is_made_meanwhile_is_the_only_one(two: TwoGateways) -> None:
    world = two.world
    child = child_of(world)
    for number in range(ROUNDS):
        email = f"known{number}@example.org"
        ann = invited.person(world, email)
        token = token_of(invite(world, child, email=email))
        works = [accepting(world, token, ann), invited.add_role(ann, child, "advanced")]
        accepted, added = two.at_once(works)
        # One of them came first; the other found the membership there.
        if isinstance(accepted, Refused):
            assert accepted.code.value == "name_taken" and added is None
        else:
            assert isinstance(added, IntegrityError)
        assert set(invited.roles(world, ann)) == {int(child)}
