"""Devices as people see them: showing one, changing what it is called."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from sqlalchemy import ColumnElement, Select, bindparam, exists, select, update
from sqlalchemy.exc import IntegrityError

from gateway.domain.instants import DAY_MS, instant_text
from gateway.domain.names import name_key
from gateway.domain.positions import POSITION
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.companies import given_values
from gateway.operations.held import HELD_COLUMNS as STANDING
from gateway.operations.held import Held, held_of, save
from gateway.operations.newest_first import of_companies
from gateway.operations.registry import Call, company_number, operation
from gateway.operations.seeing import Upwards
from gateway.operations.standing import bring_up_to_date
from gateway.operations.visible import Visible
from gateway.storage import latest_values
from gateway.storage.compiled import CompiledSelect
from gateway.storage.constraints import broke
from gateway.storage.schema import (
    device,
    device_latest,
    device_live,
    enrolment,
)
from gateway.storage.search_rows import note_names
from gateway.storage.transaction import AnyRow, Transaction
from wire.fields import BY_ID
from wire.serials import is_serial

_MAC = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){5}")
ALIAS = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
TAGS_MAX = 20
HIDDEN = "hidden"  # the presence of a device whose names and days are all that one sees

Short = Annotated[str, msgspec.Meta(max_length=200)]
Long = Annotated[str, msgspec.Meta(max_length=4_000)]
Tags = Annotated[
    list[Annotated[str, msgspec.Meta(max_length=40)]], msgspec.Meta(max_length=TAGS_MAX)
]


class ServiceShown(msgspec.Struct):
    """Whether a device is served, why, and until when it is paid."""

    state: str
    reason: str
    paid_until: str | None
    days_left: int
    payer_company_id: str | None


class PresenceShown(msgspec.Struct):
    """Whether a device is connected, and when it was last heard; `hidden` from billing users."""

    state: str
    last_heard_at: str | None


class ValueShown(msgspec.Struct):
    """The newest value of a field, and when it was read."""

    value: Any
    at: str


class Counters(msgspec.Struct):
    """What happened to a device's samples; nothing of it is silent."""

    repeats: int
    lost: int
    dropped: int
    ignored_fields: int
    malformed: int


class Device(msgspec.Struct):
    """A router."""

    serial: str
    alias: str | None
    name: str
    company_id: str
    mac: str | None
    tags: list[str]
    notes: str
    reference: str
    auto_extend: bool
    registered_at: str
    joined_at: str | None
    service: ServiceShown
    presence: PresenceShown
    latest: dict[str, ValueShown]
    counters: Counters | None
    alerts: list[str]


class OneDevice(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Names a device."""

    serial: str


class ChangeDevice(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to change."""

    serial: str
    alias: str | msgspec.UnsetType | None = msgspec.UNSET
    name: Short | msgspec.UnsetType = msgspec.UNSET
    mac: str | msgspec.UnsetType | None = msgspec.UNSET
    tags: Tags | msgspec.UnsetType = msgspec.UNSET
    notes: Long | msgspec.UnsetType = msgspec.UNSET
    reference: Short | msgspec.UnsetType = msgspec.UNSET
    auto_extend: bool | msgspec.UnsetType = msgspec.UNSET


def rows() -> Select[Any]:
    """Registered devices with what is known of them now."""
    enrolled = exists().where(enrolment.c.device_id == device.c.id)
    waits = enrolled.where(enrolment.c.state == "waiting").label("waits")
    recovered = enrolled.where(enrolment.c.state == "recovered").label("recovered")
    return (
        select(device, device_live, device_latest.c.latest, waits, recovered)
        .join(device_live, device_live.c.device_id == device.c.id)
        .join(device_latest, device_latest.c.device_id == device.c.id)
        .where(device.c.registered, device.c.ended_at.is_(None))
    )


# Made once: building a statement costs more than running it.
_BY_SERIAL = CompiledSelect(rows().where(device.c.serial == bindparam("wanted")))
_STANDING_SHOWN = ("auto_extend", "state", "reason", "period_end", "grace_until", "payer_id")
_STANDING_OF = (
    select(*STANDING)
    .join(device_live, device_live.c.device_id == device.c.id)
    .where(device.c.id == bindparam("wanted"))
)


def find(call: Call, serial: str, right: Right) -> AnyRow:
    """The registered device, if the caller has the right in its company. Raises `Refused`.

    Operations that write hold its lock from here on.
    """
    row = locked_row(call.tx, _BY_SERIAL, serial) if is_serial(serial) else None
    if row is None:
        # Where its lock is wanted, it was looked for twice.
        looks = 0 if call.tx.writing and is_serial(serial) else 1
        raise call.missing(right, see=Right.SEE_DEVICES, what="device", looks=looks)
    call.require(right, row.company_id, see=Right.SEE_DEVICES, what="device")
    return row


def locked_row(tx: Transaction, statement: CompiledSelect, serial: str) -> AnyRow | None:
    """What the statement finds of the newest tenure of the `wanted` serial, with its lock."""
    wanted = {"wanted": serial}
    while (row := statement.first(tx, wanted, locked=tx.writing)) is None:
        # While its lock was waited for, the serial may have begun a new tenure.
        if not tx.writing or statement.first(tx, wanted) is None:
            break
    return row


class Shown:
    """Turns rows into devices as the caller may see them."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._upwards: dict[int, Upwards] = {}
        self._history = call.visible(Right.SEE_HISTORY)
        self._position: Visible | None = None

    def device(self, row: AnyRow) -> Device:
        """The public form of one row."""
        company_id = row.company_id
        if company_id not in self._upwards:
            self._upwards[company_id] = Upwards(self._call, company_id)
        until = row.period_end if row.period_end is not None else row.grace_until
        if until is None and row.state == "active":
            until = (row.last_day + 1) * DAY_MS  # of the plan `daily`
            until = until if until > self._call.tx.now_ms else None
        left = 0 if row.period_end is None else (row.period_end - self._call.tx.now_ms) // DAY_MS
        path = self._call.treasury.path(company_id)
        seen = self._history.covers(path)
        heard = row.last_heard_at if seen else None
        return Device(
            row.serial,
            row.alias,
            row.name,
            str(company_id),
            row.mac,
            msgspec.json.decode(row.tags, type=list[str]),
            row.notes,
            row.reference,
            row.auto_extend,
            instant_text(row.registered_at),
            None if row.joined_at is None else instant_text(row.joined_at),
            ServiceShown(
                row.state,
                row.reason,
                None if until is None else instant_text(until),
                max(0, left),
                self._upwards[company_id].company_id(row.payer_id),
            ),
            PresenceShown(
                row.presence if seen else HIDDEN, None if heard is None else instant_text(heard)
            ),
            self._latest(row, path) if seen else {},
            Counters(row.repeats, row.lost, row.dropped, row.ignored_fields, row.malformed)
            if seen
            else None,
            _alerts(row) if seen else [],
        )

    def _latest(self, row: AnyRow, path: Sequence[int]) -> dict[str, ValueShown]:
        """The newest values; the position only where the caller may see it."""
        values = {
            BY_ID[id_].name: ValueShown(value, instant_text(at))
            for id_, (value, at) in latest_values.both(row.latest, row.recent).items()
            if id_ in BY_ID
        }
        if POSITION.isdisjoint(values):
            return values
        if self._position is None:
            self._position = self._call.visible(Right.SEE_POSITION)
        if self._position.covers(path):
            return values
        return {name: value for name, value in values.items() if name not in POSITION}


def _alerts(row: AnyRow) -> list[str]:
    """What a person has to look at; one that waits, or was recovered, is let in by `release`."""
    found = {
        "credential_in_two_places": row.two_places_at is not None,
        "waits_for_release": row.waits,
        "recovered": row.recovered,
        "secret_to_rotate": row.rotate_secret,
    }
    return [alert for alert, is_so in found.items() if is_so]


def show(call: Call, serial: str) -> Device:
    """The device as it stands now in this transaction."""
    row = _BY_SERIAL.first(call.tx, {"wanted": serial})
    assert row is not None
    return Shown(call).device(row)


def show_standing(call: Call, row: AnyRow, held: Held) -> Device:
    """The device of a row of `find`, whose standing this transaction has changed since."""
    standing = {name: getattr(held, name) for name in _STANDING_SHOWN}
    return Shown(call).device(row._replace(**standing))


def held_by(call: Call, company: str, *, descendants: bool) -> ColumnElement[bool]:
    """Devices that the caller sees, of all companies or of one. Raises `Refused`."""
    visible = call.visible_of(company, Right.SEE_DEVICES, see=Right.SEE_DEVICES)
    if descendants or not company:
        return of_companies(call, device.c.company_id, visible)
    return device.c.company_id == company_number(company)


@operation("devices.show", "GET", "/devices/{serial}", right=Right.SEE_DEVICES, result=Device)
def show_device(call: Call, given: OneDevice) -> Device:
    """Shows one device with its service, presence and newest values."""
    row = find(call, given.serial, Right.SEE_DEVICES)
    return Shown(call).device(row)


@operation(
    "devices.change",
    "PATCH",
    "/devices/{serial}",
    right=Right.MANAGE_DEVICES,
    result=Device,
    errors=(Code.NAME_TAKEN,),
    moves_credits=True,
)
def change_device(call: Call, given: ChangeDevice) -> Device:
    """Changes what a device is called, its notes, and whether it is extended by itself."""
    row = find(call, given.serial, Right.MANAGE_DEVICES)
    values = described(given_values(given, "serial"))
    if values:
        try:
            call.tx.run(update(device).where(device.c.id == row.id).values(**values))
        except IntegrityError as error:
            if not broke(error, "uq_device_alias"):
                raise
            raise alias_taken() from error
        note_names(call.tx, [row.id])
    if "auto_extend" in values:
        held = held_of(one_standing(call, row.id))
        if bring_up_to_date(call.tx, call.treasury, held, contact=False, forced=True):
            save(call.tx, held)
    return show(call, given.serial)


def one_standing(call: Call, device_id: int) -> AnyRow:
    """What decides about the device's service."""
    row = call.tx.one(_STANDING_OF, {"wanted": device_id})
    assert row is not None
    return row


def alias_taken() -> Refused:
    """Another device of the company is called so."""
    return Refused(Code.NAME_TAKEN, "alias: another device of the company has it", field="alias")


def described(values: dict[str, Any]) -> dict[str, Any]:
    """Checked and in the form that is kept. Raises `Refused`."""
    if values.get("alias") is not None:
        if ALIAS.fullmatch(values["alias"]) is None:
            raise Refused(
                Code.VALIDATION,
                "alias: a letter or digit, then up to 62 of a-z, 0-9, dot, dash, underscore",
                field="alias",
            )
        values["alias_key"] = name_key(values["alias"])
    elif "alias" in values:
        values["alias_key"] = None
    if values.get("mac") is not None:
        values["mac"] = checked_mac(values["mac"])
    if "tags" in values:
        values["tags"] = msgspec.json.encode(sorted(set(values["tags"]))).decode()
    return values


def checked_mac(text: str) -> str:
    """`00:1E:42:00:00:01`, from any usual form. Raises `Refused`."""
    digits = re.sub(r"[:.-]", "", text.upper())
    mac = ":".join(digits[index : index + 2] for index in range(0, len(digits), 2))
    if _MAC.fullmatch(mac) is None:
        raise Refused(Code.VALIDATION, "mac: twelve hexadecimal digits", field="mac")
    return mac
