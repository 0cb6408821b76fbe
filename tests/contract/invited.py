"""People who invite and people who are invited, without the network."""

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import delete, insert, select, update

from gateway.domain.refusals import Refused
from gateway.domain.rights import ANONYMOUS, Principal, Role
from gateway.operations.accepting import PreparedAcceptance
from gateway.operations.registry import Site, execute
from gateway.people.accounts import make_person
from gateway.storage.schema import membership
from gateway.storage.transaction import AnyRow, Transaction
from tests.contract.world import OPERATIONS, SITE, World

ANN = "ann@example.org"


def person(world: World, email: str, company_id: str = "", role: str = "", **more: Any) -> int:
    """An account, with a role if one is named; no operator."""

    def make(tx: Transaction) -> int:
        made = make_person(tx, email, email.partition("@")[0].title(), "-")
        if company_id:
            values = {"person_id": made, "company_id": int(company_id), "role": role, **more}
            tx.run(insert(membership), values | {"created_at": tx.now_ms})
        return made

    return world.write(make)


def invite(world: World, company_id: str, role: str = "basic", **more: Any) -> Any:
    given = {"email": ANN, "company_id": company_id, "role": role, **more}
    return world.do("invitations.create", **given)


def token_of(made: Any) -> str:
    beginning = f"{SITE.public_url}/invitation/"
    assert made["link"].startswith(beginning)
    return str(made["link"]).removeprefix(beginning)


def accepting(world: World, token: str, person_id: int | None = None, **more: Any) -> Any:
    """The work of a transaction that accepts, as the API prepares it."""
    if person_id is None:
        more = {"password": "correct horse", "password_hash": "-", "new_cookie": "c" * 43} | more
    given = PreparedAcceptance(token=token, **more)

    def work(tx: Transaction) -> Any:
        who = ANONYMOUS if person_id is None else world.principal(tx, person_id)
        return execute(tx, OPERATIONS["invitations.accept"], who, SITE, given)

    return work


def accept(world: World, token: str, person_id: int | None = None, **more: Any) -> Any:
    """What became of it, or the code of the refusal with its words."""
    try:
        done = world.write(accepting(world, token, person_id, **more))
    except Refused as refused:
        return f"{refused.code.value}: {refused.detail}"
    return msgspec.to_builtins(done)


def look(world: World, token: str) -> str:
    """`ok`, or the code of the refusal with its words."""
    try:
        world.do("invitations.look", token=token)
    except Refused as refused:
        return f"{refused.code.value}: {refused.detail}"
    return "ok"


def roles(world: World, person_id: int) -> dict[int, str]:
    """The person's roles by company, whether in force or not."""
    rows = world.read(
        lambda tx: tx.all(select(membership).where(membership.c.person_id == person_id))
    )
    return {row.company_id: row.role for row in rows}


def change_role(world: World, person_id: int, **values: Any) -> None:
    """Another role or end for all memberships of a person."""
    world.write(
        lambda tx: tx.run(
            update(membership).where(membership.c.person_id == person_id).values(**values)
        )
    )


def add_role(person_id: int, company_id: str, role: str) -> Callable[[Transaction], None]:
    """The work of a transaction that makes a membership past all invitations."""
    values = {"person_id": person_id, "company_id": int(company_id), "role": role}

    def work(tx: Transaction) -> None:
        tx.run(insert(membership), values | {"created_at": tx.now_ms})

    return work


def remove(world: World, person_id: int) -> None:
    world.write(lambda tx: tx.run(delete(membership).where(membership.c.person_id == person_id)))


def as_person(world: World, name: str, who: Principal, site: Site, **given: Any) -> Any:
    """An operation for a caller and a site of the test's own."""
    op = OPERATIONS[name]
    read = msgspec.convert(given, op.input)
    return msgspec.to_builtins(world.write(lambda tx: execute(tx, op, who, site, read)))


def all_rows(world: World, table: Any) -> list[AnyRow]:
    return list(world.read(lambda tx: tx.all(select(table))))


ROLES = tuple(role.value for role in Role)
