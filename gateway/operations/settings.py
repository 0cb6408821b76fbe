"""Settings of companies: what is in force, where it comes from, and changing it."""

import json
from functools import cache
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

import msgspec
from sqlalchemy import delete, insert, update

from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right, Role
from gateway.domain.settings import (
    BUDGET_MB_MAX,
    IDLE_MINUTES_MAX,
    IDLE_MINUTES_MIN,
    INTERVAL_S_MAX,
    KEPT_DAYS_MAX,
    RULES,
    Key,
    Setter,
)
from gateway.operations.audit_writing import PERSONAL
from gateway.operations.companies import (
    COLUMNS,
    Email,
    OneCompany,
    company_row,
    given_values,
    require_above,
)
from gateway.operations.queueing import queue_recheck
from gateway.operations.registry import Call, company_number, operation
from gateway.operations.seeing import Upwards
from gateway.people.accounts import is_email
from gateway.storage.locks import Tree
from gateway.storage.schema import company, setting
from gateway.storage.setting_rows import settings_of

Words = Annotated[str, msgspec.Meta(max_length=200)]
Address = Annotated[str, msgspec.Meta(max_length=500, pattern=r"^(?:https://[^\s]+)?$")]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=INTERVAL_S_MAX)]
Days = Annotated[int, msgspec.Meta(ge=1, le=KEPT_DAYS_MAX)]
DaysOrOff = Annotated[int, msgspec.Meta(ge=0, le=KEPT_DAYS_MAX)]
Megabytes = Annotated[int, msgspec.Meta(ge=0, le=BUDGET_MB_MAX)]
IdleMinutes = Annotated[int, msgspec.Meta(ge=IDLE_MINUTES_MIN, le=IDLE_MINUTES_MAX)]
ZoneName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Brand(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the company is to be named: a name, a logo's https address, where to ask."""

    name: Words = ""
    logo: Address = ""
    support: Words = ""


class Intervals(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How often devices look at themselves, and send; empty: as they have it."""

    sample_s: Seconds | None = None
    send_s: Seconds | None = None


class Retention(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How long things are kept, in days; empty: as the installation has it. `position_days` 0:
    positions are not kept at all."""

    raw_days: Days | None = None
    hourly_days: Days | None = None
    position_days: DaysOrOff | None = None
    sessions_days: Days | None = None
    recordings_days: Days | None = None
    address_days: Days | None = None


class ChangeSettings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the company sets for itself and all below that set nothing; null: as above again.

    An object is set as a whole. `extend_unheard` is changed only from above, `inside` only by the
    company's own administrators; `billing_email` and `extend_unheard` are not inherited.
    """

    company_id: str
    time_zone: ZoneName | msgspec.UnsetType | None = msgspec.UNSET
    language: Literal["en", "es"] | msgspec.UnsetType | None = msgspec.UNSET
    brand: Brand | msgspec.UnsetType | None = msgspec.UNSET
    billing_email: Email | msgspec.UnsetType | None = msgspec.UNSET
    intervals: Intervals | msgspec.UnsetType | None = msgspec.UNSET
    data_budget_mb: Megabytes | msgspec.UnsetType | None = msgspec.UNSET
    extend_unheard: bool | msgspec.UnsetType | None = msgspec.UNSET
    retention: Retention | msgspec.UnsetType | None = msgspec.UNSET
    inside: Literal["open", "ask"] | msgspec.UnsetType | None = msgspec.UNSET
    shares: bool | msgspec.UnsetType | None = msgspec.UNSET
    record_terminals: bool | msgspec.UnsetType | None = msgspec.UNSET
    require_totp: bool | msgspec.UnsetType | None = msgspec.UNSET
    require_reason: bool | msgspec.UnsetType | None = msgspec.UNSET
    idle_minutes: IdleMinutes | msgspec.UnsetType | None = msgspec.UNSET


class InForce(msgspec.Struct):
    """A setting's value. `set_here`: the company set it itself; `inherited`: a company above did,
    whose name `origin` is if it is the direct parent. Neither: it is the usual value."""

    value: Any
    set_here: bool
    inherited: bool
    origin: str | None


class Settings(msgspec.Struct):
    """All settings of a company by name, as they are in force."""

    company_id: str
    settings: dict[str, InForce]


@operation(
    "settings.show",
    "GET",
    "/companies/{company_id}/settings",
    right=Right.MANAGE_COMPANIES,
    result=Settings,
)
def show_settings(call: Call, given: OneCompany) -> Settings:
    """Shows the settings of a company, and which it inherits."""
    number = company_number(given.company_id)
    call.require(
        Right.MANAGE_COMPANIES, number, see=Right.SEE_COMPANIES, what="company", reading=True
    )
    return _shown(call, number)


@operation(
    "settings.change",
    "PATCH",
    "/companies/{company_id}/settings",
    right=Right.MANAGE_COMPANIES,
    result=Settings,
    tree=Tree.ALONE,
)
def change_settings(call: Call, given: ChangeSettings) -> Settings:
    """Changes settings of a company; null takes over what is set above."""
    number = company_number(given.company_id)
    call.require(Right.SEE_COMPANIES, number, see=Right.SEE_COMPANIES, what="company")
    values = {Key(name): value for name, value in given_values(given, "company_id").items()}
    _require_setters(call, number, values)
    _check(values)
    before = _values_here(call, number)
    for key, value in values.items():
        _set(call, number, key, msgspec.to_builtins(value))
    if Key.EXTEND_UNHEARD in values:
        queue_recheck(call.tx, number)
    call.about(
        company_id=number,
        subject=str(number),
        before={
            key.value: _impersonal(before.get(key))
            for key in values
            if key is not Key.BILLING_EMAIL
        },
        reset=sorted(key.value for key, value in values.items() if value is None),
    )
    return _shown(call, number)


def _impersonal(value: Any) -> Any:
    """A value as the audit may keep it for ever: whom to ask is perhaps somebody's address."""
    if isinstance(value, dict):
        return {name: one for name, one in value.items() if name not in PERSONAL}
    return value


def _require_setters(call: Call, number: int, values: dict[Key, Any]) -> None:
    """Refuses who may not change one of these, before anything is changed."""
    from_above = {key for key in values if RULES[key].setter is Setter.ABOVE}
    if values.keys() - from_above or not values:
        call.require(Right.MANAGE_COMPANIES, number, see=Right.SEE_COMPANIES, what="company")
    if from_above:
        require_above(call, number, f"`{min(from_above)}`")
    for key in values:
        own = call.principal.memberships.get(number) is Role.ADMINISTRATOR
        if RULES[key].setter is Setter.OWN and not own:
            raise Refused(
                Code.FORBIDDEN,
                f"`{key}` is changed only by the company's own administrators; ask one of them.",
                field=key,
            )


@cache
def _zones() -> frozenset[str]:
    return frozenset({"UTC", *available_timezones()})


def _check(values: dict[Key, Any]) -> None:
    """What the types of the input do not say. Raises `Refused`."""
    zone = values.get(Key.TIME_ZONE)
    if zone is not None and zone not in _zones():
        raise Refused(
            Code.VALIDATION,
            "time_zone: none that is known; for example Europe/Madrid",
            field="time_zone",
        )
    email = values.get(Key.BILLING_EMAIL)
    if email and not is_email(email):
        raise Refused(Code.VALIDATION, "billing_email: not an address", field="billing_email")


def _set(call: Call, number: int, key: Key, value: Any) -> None:
    """Keeps a value of the company's own, or forgets it."""
    if key in COLUMNS:
        kept = RULES[key].default if value is None else value
        call.tx.run(update(company).where(company.c.id == number).values({COLUMNS[key]: kept}))
        return
    here = (setting.c.company_id == number, setting.c.key == key.value)
    call.tx.run(delete(setting).where(*here))
    if value is not None:
        row = {"company_id": number, "key": key.value, "value": json.dumps(value)}
        call.tx.run(insert(setting), {**row, "set_at": call.tx.now_ms})


def _values_here(call: Call, number: int) -> dict[Key, Any]:
    """What the company itself set."""
    row = company_row(call, number)._mapping
    own = {key: row[column] for key, column in COLUMNS.items()}
    rows = settings_of(call.tx, number)
    return own | {Key(key): one.value for key, one in rows.items() if one.depth == 0}


def _shown(call: Call, number: int) -> Settings:
    rows, row = settings_of(call.tx, number), company_row(call, number)._mapping
    upwards = Upwards(call, number)
    shown: dict[str, InForce] = {}
    for key, rule in RULES.items():
        found = rows.get(key)
        if key in COLUMNS:
            value = row[COLUMNS[key]]
            shown[key] = InForce(value, value != rule.default, False, None)
        elif found is None:
            shown[key] = InForce(rule.default, False, False, None)
        elif found.depth == 0:
            shown[key] = InForce(found.value, True, False, None)
        else:
            shown[key] = InForce(found.value, False, True, upwards.name(found.company_id))
    return Settings(str(number), shown)
