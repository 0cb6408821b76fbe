"""Doing the same to many devices at once: all of it or nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from gateway.domain.names import name_key
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.audit_writing import record
from gateway.operations.carrying import lots_of
from gateway.operations.devices import TAGS_MAX
from gateway.operations.held import Held, held_among, save_all
from gateway.operations.moving import about_serial, named_devices
from gateway.operations.registration_end import book_end, take_login
from gateway.operations.registry import Call, operation
from gateway.operations.service import CREDITS_MAX, begin_service, extend_service
from gateway.operations.session_ends import end_sessions_of
from gateway.operations.session_locks import lock_sessions_of
from gateway.operations.standing import bring_up_to_date, serve_again, stop_service
from gateway.storage.search_rows import note_names
from gateway.storage.transaction import AnyRow
from wire.endings import Ended

ACTED_ON_AT_ONCE_MAX = 1_000
# Why days are booked; each device's booking is an operation of its own.
CAUSE = "asked_for_many"
Action = Literal[
    "activate",
    "extend",
    "auto-extend-on",
    "auto-extend-off",
    "add-tag",
    "remove-tag",
    "switch-on",
    "switch-off",
    "unregister",
]
# The audit says it of each device as if it had been asked for alone.
_VERBS: Mapping[str, str] = {
    "activate": "devices.activate",
    "extend": "devices.extend",
    "switch-on": "devices.switch-on",
    "switch-off": "devices.switch-off",
    "unregister": "devices.unregister",
}
_decode_tags = msgspec.json.Decoder(list[str]).decode


class ActOnDevices(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which devices, and what is done to each of them.

    `credits`: for each device, of `activate` and `extend`; `tag`: of `add-tag` and `remove-tag`.
    """

    serials: Annotated[list[str], msgspec.Meta(min_length=1, max_length=ACTED_ON_AT_ONCE_MAX)]
    action: Action
    credits: Annotated[int, msgspec.Meta(ge=1, le=CREDITS_MAX)] = 1
    tag: Annotated[str, msgspec.Meta(max_length=40)] = ""


class Acted(msgspec.Struct):
    """The devices that are otherwise now, those that were so before left out.

    Of those that were unregistered, the days that were forfeited and given back.
    """

    action: str
    devices: int
    serials: list[str]
    days_forfeited: int = 0
    days_returned: int = 0


@operation(
    "devices.act-many",
    "POST",
    "/devices/act",
    right=Right.MANAGE_DEVICES,
    result=Acted,
    errors=(
        Code.ALREADY_ACTIVE,
        Code.NOT_ACTIVE,
        Code.PAYMENT_TOO_SHORT,
        Code.COMPANY_SUSPENDED,
        Code.CREDITS_INSUFFICIENT,
        Code.PARENT_LIMIT_REACHED,
        Code.COMPANY_CLOSED,
    ),
    moves_credits=True,
    irrevocable=True,
)
def act_on_devices(call: Call, given: ActOnDevices) -> Acted:
    """Does the same to many devices; to all of them, or to none.

    `unregister` needs the right to it in each device's company.
    """
    _check(given)
    unregisters = given.action == "unregister"
    right = Right.UNREGISTER if unregisters else Right.MANAGE_DEVICES
    found = named_devices(call, sorted(set(given.serials)), right)
    acted = Acted(given.action, 0, [])
    if unregisters:
        changed = _unregister(call, found, acted)
    elif given.action in ("add-tag", "remove-tag"):
        changed = _tag(call, found, given)
    else:
        changed = _serve(call, found, given)
    for row, detail in changed:
        _record(call, row, given.action, detail)
    acted.serials = [row.serial for row, _ in changed]
    acted.devices = len(acted.serials)
    return acted


Changed = Sequence[tuple[AnyRow, Mapping[str, object]]]  # and what the audit says of each


def _check(given: ActOnDevices) -> None:
    if given.action in ("add-tag", "remove-tag") and not given.tag.strip():
        raise Refused(Code.VALIDATION, "tag: say which one", field="tag")


def _record(call: Call, row: AnyRow, action: str, detail: Mapping[str, object]) -> None:
    record(
        call.tx,
        _VERBS.get(action, "devices.change"),
        actor=call.principal.name,
        owner_id=None,
        company_id=row.company_id,
        device_id=row.id,
        serial=row.serial,
        subject=row.serial,
        detail=detail,
    )


# Service


def _serve(call: Call, found: Sequence[AnyRow], given: ActOnDevices) -> Changed:
    """What may be paid for is locked for all of them, and written for all of them."""
    tx, treasury = call.tx, call.treasury
    held = [held_among(row) for row in found]
    treasury.prepare_many(held)
    treasury.gather()
    act = _acts(call, given.credits)[given.action]
    changed: list[Held] = []
    for one in held:
        try:
            if act(one):
                changed.append(one)
        except Refused as refused:
            raise about_serial(one.serial, refused) from None
    save_all(tx, changed)
    treasury.write()
    ids = {one.id for one in changed}
    detail: dict[str, object] = {}
    if given.action in ("activate", "extend"):
        detail["credits"] = given.credits
    elif given.action in ("auto-extend-on", "auto-extend-off"):
        detail["auto_extend"] = given.action == "auto-extend-on"
    return [(row, detail) for row in found if row.id in ids]


def _acts(call: Call, credits: int) -> Mapping[str, Callable[[Held], bool]]:
    """For each action what does it to one device, and says whether anything was to be done."""

    def pays(how: Callable[..., None]) -> Callable[[Held], bool]:
        def act(held: Held) -> bool:
            how(call, held, credits, cause=CAUSE)
            return True

        return act

    def switches(*, off: bool) -> Callable[[Held], bool]:
        def act(held: Held) -> bool:
            if held.switched_off == off:
                return False
            (stop_service if off else serve_again)(call.tx, call.treasury, held)
            return True

        return act

    def wants(*, on: bool) -> Callable[[Held], bool]:
        def act(held: Held) -> bool:
            if held.auto_extend == on:
                return False
            held.auto_extend = on
            bring_up_to_date(call.tx, call.treasury, held, contact=False, forced=True)
            return True

        return act

    return {
        "activate": pays(begin_service),
        "extend": pays(extend_service),
        "switch-on": switches(off=False),
        "switch-off": switches(off=True),
        "auto-extend-on": wants(on=True),
        "auto-extend-off": wants(on=False),
    }


# Tags


def _tag(call: Call, found: Sequence[AnyRow], given: ActOnDevices) -> Changed:
    """Puts a tag on devices, or takes it away; whatever its case, as it is looked for."""
    tag = given.tag.strip()
    key = name_key(tag)
    changed = []
    for row in found:
        tags = _decode_tags(row.tags)
        others = [one for one in tags if name_key(one) != key]
        has_it = len(others) < len(tags)
        if has_it == (given.action == "add-tag"):
            continue
        wanted = others if has_it else sorted({*others, tag})
        if len(wanted) > TAGS_MAX:
            full = Refused(Code.VALIDATION, f"tag: a device has at most {TAGS_MAX}", field="tag")
            raise about_serial(row.serial, full)
        changed.append((row, {"tags": wanted}))
    rows = [(msgspec.json.encode(made["tags"]).decode(), row.id) for row, made in changed]
    if rows:
        call.tx.change_rows("device", ("tags", "id"), rows)
        note_names(call.tx, [row.id for row, _ in changed])
    return changed


# The end of registrations


def _unregister(call: Call, found: Sequence[AnyRow], acted: Acted) -> Changed:
    """Ends sessions, then books what is left, then takes the logins, in the order of locks."""
    lock_sessions_of(call.tx, [row.id for row in found])
    for row in found:
        end_sessions_of(call.tx, row.id, Ended.UNREGISTERED, call.principal.name)
    lots = {lot.account_id for row in found for lot in lots_of(call, row)}
    call.treasury.prepare((), {row.id for row in found}, lots)
    for row in found:
        ended = book_end(call, row, cause="unregistered")
        acted.days_forfeited += ended.days_forfeited
        acted.days_returned += ended.days_returned
    for row in found:
        take_login(call, row)
    return [(row, {}) for row in found]
