"""What lists show agrees with `authorize`, company by company, in trees drawn by chance."""

import json
import random

import pytest
from sqlalchemy import insert, select

from gateway.domain.rights import INSIDE, Principal, Right, Role, Scope, Token
from gateway.operations.registry import Call
from gateway.storage.schema import company, setting, support_access
from gateway.storage.transaction import Transaction
from tests.contract.world import SITE, World

COMPANIES = 24
CALLERS = 40
RIGHTS = (Right.SEE_DEVICES, Right.SEE_SESSIONS, Right.SEE_POSITION, Right.INVITE)


def tree(world: World, rng: random.Random) -> list[int]:
    """Companies of which each lies below an earlier one, or is a root."""
    ids: list[str] = []
    for number in range(COMPANIES):
        parent = rng.choice([None, *ids, *ids, *ids]) if ids else None
        ids.append(world.company(f"C{number}", parent))
    return [int(id_) for id_ in ids]


def doors(tx: Transaction, ids: list[int], rng: random.Random) -> None:
    """Some companies shut their door, some open it, some let support in, or did."""
    for id_ in ids:
        if rng.random() < 0.4:
            value = json.dumps(rng.choice(["ask", "ask", "open"]))
            row = {"company_id": id_, "key": "inside", "value": value, "set_at": tx.now_ms}
            tx.run(insert(setting), row)
        if rng.random() < 0.2:
            tx.run(
                insert(support_access),
                {
                    "company_id": id_,
                    "granted_by": "user:1",
                    "reason": "",
                    "granted_at": tx.now_ms,
                    "until": tx.now_ms + rng.choice([-1, 1_000]),
                    "ended_at": rng.choice([None, None, tx.now_ms]),
                },
            )


def caller(ids: list[int], rng: random.Random) -> Principal:
    """Somebody with a few roles, perhaps with a token for some companies."""
    memberships = {rng.choice(ids): rng.choice(list(Role)) for _ in range(rng.randint(1, 4))}
    token = None
    if rng.random() < 0.4:
        scopes = frozenset({rng.choice([Scope.ALL, Scope.READ, Scope.REMOTE])})
        token = Token("t", scopes, frozenset(rng.sample(ids, rng.randint(0, 3))))
    return Principal("user:7", 7, memberships=memberships, token=token)


@pytest.mark.parametrize("seed", [2, 3, 5])
def test_lists_show_what_authorize_allows(world: World, seed: int) -> None:
    rng = random.Random(seed)
    ids = tree(world, rng)
    world.write(lambda tx: doors(tx, ids, rng))
    shown_to_some = hidden_by_doors = 0

    def compare(tx: Transaction) -> None:
        nonlocal shown_to_some, hidden_by_doors
        for right in RIGHTS:
            call = Call(tx, caller(ids, rng), SITE)
            allowed = {id_ for id_ in ids if call.allows(right, id_)}
            visible = call.visible(right)
            listed = tx.all(select(company.c.id).where(visible.has(company.c.id)))
            assert {row.id for row in listed} == allowed, (call.principal, right)
            paths = {id_: call.treasury.path(id_) for id_ in ids}
            assert {id_ for id_ in ids if visible.covers(paths[id_])} == allowed
            for one in allowed:
                below = call.visible_of(str(one), right, see=right)
                found = tx.all(select(company.c.id).where(below.has(company.c.id)))
                assert {row.id for row in found} == {id_ for id_ in allowed if one in paths[id_]}
            shown_to_some += bool(allowed)
            hidden_by_doors += right in INSIDE and bool(visible.doors.shut)

    for _ in range(CALLERS):
        world.read(compare)
    assert shown_to_some > CALLERS // 2 and hidden_by_doors > 3
