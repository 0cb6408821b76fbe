"""MQTT logins: the table is the truth; each change has a version that nodes report back."""

from sqlalchemy import BigInteger, Text, bindparam, cast, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.storage.locks import Level
from gateway.storage.schema import installation, mqtt_login
from gateway.storage.transaction import Signal, Transaction

_KEY = "login_version"
_HASH = select(mqtt_login.c.hash).where(mqtt_login.c.login == bindparam("wanted"))
_NEWEST = select(func.max(mqtt_login.c.version))
_NEXT = (
    update(installation)
    .where(installation.c.key == _KEY)
    .values(value=cast(cast(installation.c.value, BigInteger) + 1, Text))
    .returning(installation.c.value)
)


def set_login(tx: Transaction, login: str, password_hash: str | None) -> int:
    """Sets or (None) removes a login; returns the version at which it is so."""
    tx.locked.reach(Level.LOGINS)
    before = tx.scalar(_HASH, {"wanted": login})
    dialect = sqlite if tx.connection.dialect.name == "sqlite" else postgresql
    version = _next_version(tx)
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


def _next_version(tx: Transaction) -> int:
    """One more than the newest. It is taken from one row, which others wait for until the end of
    this transaction: so whoever sees a version sees all before it."""
    found = tx.scalar(_NEXT)
    if found is None:
        dialect = sqlite if tx.connection.dialect.name == "sqlite" else postgresql
        first = str(int(tx.scalar(_NEWEST) or 0))
        values = {"key": _KEY, "value": first}
        tx.run(dialect.insert(installation).on_conflict_do_nothing(), values)
        found = tx.scalar(_NEXT)
    return int(found)
