"""What the first start makes: one operator with a password and a token, kept in admin.json."""

import secrets
from pathlib import Path

from sqlalchemy import func, select

from gateway.command.data_directory import write_private_json
from gateway.people.accounts import make_operator, make_token
from gateway.people.passwords import hash_password
from gateway.people.tokens import new_api_token
from gateway.storage.locks import Tree
from gateway.storage.schema import person
from gateway.storage.store import Store
from gateway.storage.transaction import Transaction

ADMIN_EMAIL = "admin@fleetgate.localhost"
TOKEN_LIFETIME_MS = 3_650 * 86_400_000  # ten years: it belongs to whoever owns the directory

_PEOPLE = select(func.count()).select_from(person)


async def ensure_operator(store: Store, admin_file: Path) -> None:
    """Makes the first operator, unless somebody has an account already."""
    if await store.read(lambda tx: tx.scalar(_PEOPLE)):
        return
    password, token = secrets.token_urlsafe(15), new_api_token()
    hashed = hash_password(password)

    def make(tx: Transaction) -> None:
        if tx.scalar(_PEOPLE):
            return  # another gateway was faster
        # Written first: an operator whose password nobody knows could not be made again. And only
        # here: the file of a gateway that made nobody would name a password that opens nothing.
        write_private_json(
            admin_file,
            {"admin_email": ADMIN_EMAIL, "admin_password": password, "admin_token": token},
        )
        person_id = make_operator(tx, ADMIN_EMAIL, "Operator", hashed)
        make_token(tx, person_id, "first start", token=token, lifetime_ms=TOKEN_LIFETIME_MS)

    # Alone: one gateway after another, however many start at once.
    await store.write(make, tree=Tree.ALONE)
