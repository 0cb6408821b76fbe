"""What a ledger amounts to, as one number that does not depend on the engine."""

import hashlib
import json
from typing import NamedTuple

from sqlalchemy import Connection

_COLUMNS = (
    "seq, id, operation_id, kind, from_account, to_account, days, free, company_id, company_path, "
    "device_id, serial, payer_company_id, payer_path, actor, cause, note, at, "
    "lot_account, reverses"
)
_TRANSFERS = "SELECT {} FROM transfer ORDER BY id{}"
_FREE = _COLUMNS.split(", ").index("free")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class LedgerDigest(NamedTuple):
    """Two ledgers with the same one hold the same transfers."""

    transfers: int
    digest: str  # hexadecimal


def ledger_digest(connection: Connection) -> LedgerDigest:
    """SHA-256 over all transfers in the order of their ids.

    Each transfer is one line: a JSON array of its columns in the order of `_COLUMNS`, without
    white space, in UTF-8, of which only quotation marks, backslashes and control characters are
    escaped; `free` is true or false, what is empty is null; a line feed ends it. Ids are compared
    byte by byte.
    """
    # The order of texts belongs to a PostgreSQL database; SQLite compares bytes by itself.
    collation = ' COLLATE "C"' if connection.dialect.name == "postgresql" else ""
    made, transfers = hashlib.sha256(), 0
    for row in connection.exec_driver_sql(_TRANSFERS.format(_COLUMNS, collation)):
        values = list(row)
        values[_FREE] = bool(values[_FREE])
        made.update(_encode(values).encode() + b"\n")
        transfers += 1
    return LedgerDigest(transfers, made.hexdigest())
