"""What takes long and needs no writer is done before an operation's transaction begins."""

from typing import Any

import msgspec

from gateway.api import accounts
from gateway.api.execution import Asked, Prepare
from gateway.api.services import Services
from gateway.domain.rights import Principal
from gateway.operations.memberships import CreateMember, HashedMember
from gateway.people.passwords import why_not_a_password


async def _hashed_member(services: Services, _principal: Principal, asked: Asked) -> Any:
    """A new person's password is hashed before the transaction, since it takes so long."""
    given = asked.given
    assert isinstance(given, CreateMember)
    if not given.password or why_not_a_password(given.password) is not None:
        return given
    hashed = await services.desk.hash(given.password)
    return HashedMember(**msgspec.structs.asdict(given), password_hash=hashed)


PREPARED: dict[str, Prepare] = {
    "me.change-password": accounts.prove_change,
    "me.erase": accounts.prove_erasure,
    "me.remove-totp": accounts.prove_removal,
    "me.set-up-totp": accounts.prove_set_up,
    "members.create": _hashed_member,
    "password-resets.use": accounts.hash_reset,
}
