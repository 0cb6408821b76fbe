"""What the engines do when the disk is full, without filling one."""

from sqlalchemy import text

from gateway.storage.transaction import Transaction

_REFUSE = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER no_room BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION no_room();
"""


def no_room(tx: Transaction, table: str) -> None:
    """From here on SQLite's file may not grow, and PostgreSQL refuses rows of the table."""
    if tx.connection.dialect.name == "postgresql":
        tx.run(text(_REFUSE.format(table)))
        return
    pages = tx.scalar(text("PRAGMA page_count"))
    tx.scalar(text(f"PRAGMA max_page_count = {pages}"))


def room(tx: Transaction) -> None:
    """There is room again."""
    if tx.connection.dialect.name == "postgresql":
        tx.run(text("DROP FUNCTION no_room CASCADE"))
        return
    tx.scalar(text("PRAGMA max_page_count = 1073741823"))
