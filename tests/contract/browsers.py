"""People at their browsers, without the network."""

from typing import Any

import msgspec
from sqlalchemy import select

from gateway.domain.refusals import Refused
from gateway.domain.rights import Principal
from gateway.operations.registry import Site, execute
from gateway.people import sign_ins
from gateway.people.authentication import Credential, Means, identity_of
from gateway.storage.schema import person
from gateway.storage.transaction import AnyRow
from tests.contract.world import OPERATIONS, SITE, World


def signed_in(world: World, person_id: int, token: str) -> Principal:
    """A browser of the person, as the API would know it."""
    world.write(lambda tx: sign_ins.begin(tx, person_id, token, address="192.0.2.7"))
    return world.read(lambda tx: identity_of(tx, Credential(Means.COOKIE, token)).principal)


def run(world: World, name: str, who: Principal, given: Any, site: Site = SITE) -> Any:
    """What came of it, or the code of the refusal."""
    try:
        op = OPERATIONS[name]
        done = world.write(lambda tx: execute(tx, op, who, site, given), op.tree)
    except Refused as refused:
        return refused.code.value
    return msgspec.to_builtins(done)


def row_of(world: World, person_id: int) -> AnyRow:
    row = world.read(lambda tx: tx.one(select(person).where(person.c.id == person_id)))
    assert row is not None
    return row
