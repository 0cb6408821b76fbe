"""Finding devices: narrow rows in which they are looked for, the signal, and quick lists."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from gateway.storage import latest_values
from gateway.storage.search_rows import COLUMNS, RSRP, RSSI, named, told_of

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_AT_ONCE = 2_000


def upgrade() -> None:
    """Applies this revision."""
    op.add_column("device_live", sa.Column("signal", sa.Integer(), nullable=True))
    op.create_table(
        "device_search",
        sa.Column("device_id", _ID, nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("firmware", sa.Text(), nullable=False),
        sa.Column("located", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_device_search_device_id"),
        sa.PrimaryKeyConstraint("device_id", name="pk_device_search"),
    )
    _fill()
    _indexes()


def _fill() -> None:
    """What devices are called, and what they told before this revision."""
    bind = op.get_bind()
    marks = ", ".join(f":{name}" for name in COLUMNS)
    add = sa.text(
        f"INSERT INTO device_search ({', '.join(COLUMNS)}) VALUES ({marks})"  # noqa: S608 - ours
    )
    heard = sa.text("UPDATE device_live SET signal = :signal WHERE device_id = :device_id")
    for rows in _devices():
        found, signals = [], []
        for row in rows:
            values = latest_values.both(bytes(row[-2]), bytes(row[-1]))
            held = (*named(row[:-2])[:3], *told_of(values))
            found.append(dict(zip(COLUMNS, held, strict=True)))
            if RSRP in values:
                signals.append({"signal": values[RSRP][0], "device_id": row[0]})
            elif RSSI in values:
                signals.append({"signal": values[RSSI][0] - 1_010, "device_id": row[0]})
        bind.execute(add, found)
        if signals:
            bind.execute(heard, signals)


def _devices() -> Iterator[Sequence[tuple[Any, ...]]]:
    read = sa.text(
        "SELECT d.id, d.serial, d.name, d.alias, d.reference, d.mac, d.tags, t.latest, l.recent"
        " FROM device AS d JOIN device_live AS l ON l.device_id = d.id"
        " JOIN device_latest AS t ON t.device_id = d.id"
        " WHERE d.id > :after ORDER BY d.id LIMIT :most"
    )
    after = 0
    while rows := op.get_bind().execute(read, {"after": after, "most": _AT_ONCE}).fetchall():
        yield [tuple(row) for row in rows]
        after = rows[-1].id


def _indexes() -> None:
    listed = (
        "serial company_id state reason period_end grace_until auto_extend payer_id registered "
        "ended_at id"
    ).split()
    tagged = "company_id tags registered ended_at".split()
    for name, table, columns, sqlite, postgresql in (
        (
            "ix_device_listed",
            "device",
            listed,
            "registered = 1 AND ended_at IS NULL",
            "registered AND ended_at IS NULL",
        ),
        ("ix_device_tagged", "device", tagged, "tags <> '[]'", ""),
        (
            "ix_device_rotate_secret",
            "device",
            ["rotate_secret"],
            "rotate_secret = 1",
            "rotate_secret",
        ),
        (
            "ix_device_live_two_places",
            "device_live",
            ["two_places_at"],
            "two_places_at IS NOT NULL",
            "",
        ),
        ("ix_device_search_located", "device_search", ["device_id"], "located = 1", "located"),
        ("ix_enrolment_not_joined", "enrolment", ["device_id"], "state <> 'joined'", ""),
    ):
        op.create_index(
            name,
            table,
            columns,
            sqlite_where=sa.text(sqlite),
            postgresql_where=sa.text(postgresql or sqlite),
        )
