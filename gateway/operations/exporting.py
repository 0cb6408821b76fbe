"""Devices as a table for other programs; what is exported can be imported again."""

from typing import Annotated

import msgspec

from gateway.domain.importing import COLUMNS, LINES_MAX, ONLY_EXPORTED, tags_cell
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.csv_text import Cell
from gateway.operations.device_filters import DeviceFilters, Reach, choose
from gateway.operations.device_list import found_ids, rows_of
from gateway.operations.devices import Shown
from gateway.operations.documents import CSV_TYPE, Document, TableFormat, table_document
from gateway.operations.import_lines import parts
from gateway.operations.registry import Call, operation
from gateway.storage.transaction import AnyRow

HEADER = (*COLUMNS, *ONLY_EXPORTED)


class ExportedDevice(msgspec.Struct):
    """A device as a row of the table; `company` is its company's id."""

    serial: str
    name: str
    alias: str | None
    mac: str | None
    company: str
    tags: list[str]
    notes: str
    reference: str
    auto_extend: bool
    activate: str
    service: str
    reason: str
    paid_until: str | None
    days_left: int
    payer: str | None
    presence: str
    last_heard_at: str | None
    registered_at: str


class ExportedDevices(msgspec.Struct):
    """Devices by serial; `next_cursor` says where to go on."""

    items: list[ExportedDevice]
    next_cursor: str | None


class ExportDevices(DeviceFilters, kw_only=True):
    """Which devices, as `devices.list` takes it, and how they are written.

    `format`: `csv`, `csv-excel` (semicolons, with a byte order mark) or `json`.

    A file holds at most as many devices as an import takes; with `limit`, parts of the whole are
    asked for one after the other, `cursor` being the last serial of the part before.
    """

    format: TableFormat = "csv"
    limit: Annotated[int, msgspec.Meta(ge=1, le=LINES_MAX)] | None = None
    cursor: str = ""


@operation(
    "devices.export",
    "GET",
    "/devices/export",
    right=Right.SEE_DEVICES,
    result=ExportedDevices,
    file_type=CSV_TYPE,
)
def export_devices(call: Call, given: ExportDevices) -> ExportedDevices | Document:
    """Exports devices as CSV or JSON, with the columns that an import reads."""
    limit = given.limit or LINES_MAX
    found = _found(call, given, limit + 1)
    more = len(found) > limit
    if more and given.limit is None and given.format != "json":
        raise Refused(
            Code.VALIDATION,
            f"company: more than {LINES_MAX:,} devices; name a company below, or ask for parts "
            "with `limit` and `cursor`",
            field="company",
        )
    shown = Shown(call)
    items = [_exported(shown, row) for row in found[:limit]]
    if given.format == "json":
        return ExportedDevices(items, items[-1].serial if more else None)
    return table_document("devices", given.format, HEADER, (_cells(one) for one in items))


def _found(call: Call, given: ExportDevices, limit: int) -> list[AnyRow]:
    reach = Reach(call, given.company, descendants=given.descendants)
    chosen = choose(call, given, reach)
    ids, _ = found_ids(call, chosen, reach, "serial", given.cursor, limit)
    return [row for part in parts(ids) for row in rows_of(call, part)]


def _exported(shown: Shown, row: AnyRow) -> ExportedDevice:
    one = shown.device(row)
    return ExportedDevice(
        one.serial,
        one.name,
        one.alias,
        one.mac,
        one.company_id,
        one.tags,
        one.notes,
        one.reference,
        one.auto_extend,
        "later" if row.start == "later" else "on_contact",
        one.service.state,
        one.service.reason,
        one.service.paid_until,
        one.service.days_left,
        one.service.payer_company_id,
        one.presence.state,
        one.presence.last_heard_at,
        one.registered_at,
    )


def _cells(one: ExportedDevice) -> list[Cell]:
    cells = msgspec.structs.asdict(one)
    cells["tags"] = tags_cell(one.tags)
    return [cells[name] for name in HEADER]
