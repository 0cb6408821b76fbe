"""Facts about the whole installation, by name; every gateway sees them."""

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.storage.schema import installation
from gateway.storage.transaction import Transaction


def put(tx: Transaction, key: str, value: str) -> None:
    """Keeps a fact about the installation."""
    dialect = sqlite if tx.connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(installation)
    tx.run(
        statement.on_conflict_do_update(
            index_elements=["key"], set_={"value": statement.excluded.value}
        ),
        {"key": key, "value": value},
    )


def get(tx: Transaction, key: str) -> str | None:
    """A fact about the installation."""
    found = tx.scalar(select(installation.c.value).where(installation.c.key == key))
    return None if found is None else str(found)
