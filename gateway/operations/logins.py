"""MQTT logins: the table is the truth; each change has a version that nodes report back."""

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.storage.schema import mqtt_login
from gateway.storage.transaction import Signal, Transaction


def set_login(tx: Transaction, login: str, password_hash: str | None) -> int:
    """Sets or (None) removes a login; returns the version at which it is so."""
    before = tx.scalar(select(mqtt_login.c.hash).where(mqtt_login.c.login == login))
    version = int(tx.scalar(select(func.max(mqtt_login.c.version))) or 0) + 1
    dialect = sqlite if tx.connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(mqtt_login)
    tx.run(
        statement.on_conflict_do_update(
            index_elements=["login"],
            set_={"hash": statement.excluded.hash, "version": statement.excluded.version},
        ),
        {"login": login, "hash": password_hash, "version": version},
    )
    tx.signals.add(Signal.LOGINS)
    if password_hash is None or before is not None:
        # A password that was good until now ends, be there another or not: that is urgent.
        tx.signals.add(Signal.LOGIN_REMOVED)
    return version
