"""Companies: the tree, its flags, suspension."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.domain.instants import instant_text
from gateway.domain.names import clean_name, name_key
from gateway.domain.periods import GRACE_DAYS_DEFAULT, GRACE_DAYS_MAX
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right, Role, administers_above
from gateway.domain.settings import RULES, Key
from gateway.operations.company_order import Order, behind, columns_of
from gateway.operations.inviting import invite
from gateway.operations.queueing import queue_recheck
from gateway.operations.registry import (
    Call,
    Page,
    company_number,
    not_found,
    operation,
)
from gateway.people.accounts import is_email
from gateway.storage.locks import Tree
from gateway.storage.schema import company, company_path, company_place, membership
from gateway.storage.setting_rows import Found, settings_of, settings_of_many
from gateway.storage.transaction import AnyRow

Limit = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
GraceDays = Annotated[int, msgspec.Meta(ge=0, le=GRACE_DAYS_MAX)]
Text = Annotated[str, msgspec.Meta(max_length=500)]
Email = Annotated[str, msgspec.Meta(max_length=254, pattern=r"^(?:[^\s@]+@[^\s@]+)?$")]
# Whoever pays decides, and whoever sells.
FROM_ABOVE = frozenset(
    "use_parent_credits parent_limit grace_days extend_unheard plan unregister show_prices".split()
)
# Settings that stand in the company's own row, because paying reads them there.
COLUMNS = {Key.EXTEND_UNHEARD: "extend_unheard", Key.BILLING_EMAIL: "billing_email"}

_UP, _DOWN = company_path.alias("up"), company_path.alias("down")
_PATHS = (
    select(_UP.c.descendant_id, _UP.c.ancestor_id)
    .join(_DOWN, _DOWN.c.descendant_id == _UP.c.descendant_id)
    .where(_DOWN.c.ancestor_id == bindparam("moved"))
    .order_by(_UP.c.descendant_id, _UP.c.depth.desc())
)


class Suspension(msgspec.Struct):
    """Why and since when a company is stopped."""

    reason: str
    since: str


class Company(msgspec.Struct):
    """A node of the tree."""

    id: str
    name: str
    parent_id: str | None
    plan: str
    use_parent_credits: bool
    parent_limit: int | None
    grace_days: int
    suspended: Suspension | None
    reference: str
    settings: dict[str, Any]
    created_at: str
    closed_at: str | None


class CreatedCompany(Company, kw_only=True):
    """The new company. `invitation_id`: of the administrator who was named; `link`: of the
    invitation, without a mail server, for you to hand on; it is shown once."""

    invitation_id: str | msgspec.UnsetType = msgspec.UNSET
    link: str | msgspec.UnsetType = msgspec.UNSET


class Companies(msgspec.Struct):
    """A page of companies."""

    items: list[Company]
    next_cursor: str | None


class ListCompanies(Page, kw_only=True):
    """Which companies to list; all one may see without `company`.

    `parent`: only those directly below it. `top`: only those above which one sees none. `ids`:
    only these, as far as one sees them. `sort`: by id, as they were made, or by name.
    """

    company: str = ""
    parent: str = ""
    top: bool = False
    ids: Annotated[list[str], msgspec.Meta(max_length=500)] = msgspec.field(default_factory=list)
    q: str = ""
    sort: Order = "id"


class CreateCompany(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A new company; without `parent_id` a root, which an operator makes.

    `administrator_email`: who is invited as its administrator. Of a root company without one, its
    maker is the administrator."""

    name: str
    parent_id: str | None = None
    use_parent_credits: bool = False
    parent_limit: Limit | None = None
    grace_days: GraceDays = GRACE_DAYS_DEFAULT
    extend_unheard: bool = False
    plan: Literal["block", "daily"] = "block"
    reference: Text = ""
    administrator_email: str = ""


class OneCompany(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Names a company."""

    company_id: str


class ChangeCompany(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to change; flags about paying are changed only from above."""

    company_id: str
    name: str | msgspec.UnsetType = msgspec.UNSET
    reference: Text | msgspec.UnsetType = msgspec.UNSET
    use_parent_credits: bool | msgspec.UnsetType = msgspec.UNSET
    parent_limit: Limit | msgspec.UnsetType | None = msgspec.UNSET
    grace_days: GraceDays | msgspec.UnsetType = msgspec.UNSET
    extend_unheard: bool | msgspec.UnsetType = msgspec.UNSET
    plan: Literal["block", "daily"] | msgspec.UnsetType = msgspec.UNSET
    unregister: Literal["forfeit", "refund"] | msgspec.UnsetType = msgspec.UNSET
    show_prices: bool | msgspec.UnsetType = msgspec.UNSET
    billing_email: Email | msgspec.UnsetType = msgspec.UNSET


def given_values(given: msgspec.Struct, *without: str) -> dict[str, Any]:
    """The fields that a change really names."""
    return {
        name: value
        for name, value in msgspec.structs.asdict(given).items()
        if value is not msgspec.UNSET and name not in without
    }


def company_row(call: Call, company_id: int) -> AnyRow:
    """The company's row, or the answer for a missing one."""
    row = call.tx.one(select(company).where(company.c.id == company_id))
    if row is None:
        raise not_found("company")
    return row


def show(call: Call, row: AnyRow, said: Mapping[str, Found] | None = None) -> Company:
    """The company as its viewers see it; `said`: what is set for it, if that was read before."""
    if said is None:
        said = settings_of(call.tx, row.id)
    suspended = None
    if row.suspended_at is not None:
        suspended = Suspension(row.suspended_reason, instant_text(row.suspended_at))
    return Company(
        str(row.id),
        row.name,
        None if row.parent_id is None else str(row.parent_id),
        row.plan,
        row.use_parent_credits,
        row.parent_limit,
        row.grace_days,
        suspended,
        row.reference,
        {
            **{key.value: rule.default for key, rule in RULES.items()},
            **{key: found.value for key, found in said.items()},
            **{key.value: getattr(row, column) for key, column in COLUMNS.items()},
            "unregister": "refund" if row.refunds else "forfeit",
            "show_prices": row.show_prices,
        },
        instant_text(row.created_at),
        None if row.closed_at is None else instant_text(row.closed_at),
    )


def checked_name(name: str) -> str:
    """The name as kept. Raises `Refused`."""
    try:
        return clean_name(name)
    except ValueError as error:
        raise Refused(Code.VALIDATION, f"name: {error}", field="name") from error


@operation("companies.list", "GET", "/companies", right=Right.SEE_COMPANIES, result=Companies)
def list_companies(call: Call, given: ListCompanies) -> Companies:
    """Lists the companies that one may see, by id or by name."""
    visible = call.visible_of(given.company, Right.SEE_COMPANIES)
    statement = (
        select(company)
        .where(visible.has(company.c.id), *behind(call, given.sort, given.cursor, visible))
        .order_by(*columns_of(given.sort))
        .limit(given.limit + 1)
    )
    if given.parent:
        parent = company_number(given.parent, "parent")
        call.require(
            Right.SEE_COMPANIES, parent, see=Right.SEE_COMPANIES, what="company", reading=True
        )
        statement = statement.where(company.c.parent_id == parent)
    if given.top:
        above = company.alias("above")
        seen = select(above.c.id).where(above.c.id == company.c.parent_id, visible.has(above.c.id))
        statement = statement.where(~seen.exists())
    if given.ids:
        wanted = [company_number(id_, "ids") for id_ in given.ids]
        statement = statement.where(company.c.id.in_(wanted))
    if given.q:
        statement = statement.where(company.c.name_key.contains(name_key(given.q), autoescape=True))
    rows = call.tx.all(statement)
    said = settings_of_many(call.tx, [row.id for row in rows[: given.limit]])
    items = [show(call, row, said[row.id]) for row in rows[: given.limit]]
    return Companies(items, items[-1].id if len(rows) > given.limit else None)


@operation(
    "companies.show", "GET", "/companies/{company_id}", right=Right.SEE_COMPANIES, result=Company
)
def show_company(call: Call, given: OneCompany) -> Company:
    """Shows one company."""
    number = company_number(given.company_id)
    call.require(Right.SEE_COMPANIES, number, see=Right.SEE_COMPANIES, what="company")
    return show(call, company_row(call, number))


@operation(
    "companies.create",
    "POST",
    "/companies",
    right=Right.MANAGE_COMPANIES,
    result=CreatedCompany,
    status=201,
    errors=(Code.NAME_TAKEN,),
    tree=Tree.ALONE,
)
def create_company(call: Call, given: CreateCompany) -> CreatedCompany:
    """Makes a company below another, or a root company."""
    parent_id = None
    if given.parent_id is None:
        if not call.allows(Right.OPERATE):
            raise Refused(
                Code.FORBIDDEN, "Only an operator makes root companies; give `parent_id`."
            )
    else:
        parent_id = company_number(given.parent_id, "parent_id")
        call.require(Right.MANAGE_COMPANIES, parent_id, see=Right.SEE_COMPANIES, what="company")
    name = checked_name(given.name)
    if given.administrator_email and not is_email(given.administrator_email):
        raise Refused(
            Code.VALIDATION, "administrator_email: not an address", field="administrator_email"
        )
    number = _insert(call, given, name, parent_id)
    call.tx.run(insert(company_path), {"ancestor_id": number, "descendant_id": number, "depth": 0})
    if parent_id is not None:
        for depth, ancestor in enumerate(call.treasury.path(parent_id), 1):
            call.tx.run(
                insert(company_path),
                {"ancestor_id": ancestor, "descendant_id": number, "depth": depth},
            )
    note_places(call, number)
    made = CreatedCompany(**msgspec.structs.asdict(show(call, company_row(call, number))))
    if given.administrator_email:
        sent = invite(
            call, email=given.administrator_email, company_id=number, role=Role.ADMINISTRATOR
        )
        made.invitation_id, made.link = str(sent.id), sent.link
    elif parent_id is None:
        _make_administrator(call, number)
    return made


def note_places(call: Call, company_id: int) -> None:
    """Notes where the company and all below it stand from now on."""
    paths: dict[int, list[str]] = {}
    for row in call.tx.all(_PATHS, {"moved": company_id}):
        paths.setdefault(row.descendant_id, []).append(str(row.ancestor_id))
    for number, path in paths.items():
        call.tx.run(
            insert(company_place),
            {"company_id": number, "path": "/".join(path), "at": call.tx.now_ms},
        )


def _insert(call: Call, given: CreateCompany, name: str, parent_id: int | None) -> int:
    try:
        return call.tx.insert(
            insert(company),
            {
                "parent_id": parent_id,
                "name": name,
                "name_key": name_key(name),
                "plan": given.plan,
                "use_parent_credits": given.use_parent_credits and parent_id is not None,
                "parent_limit": given.parent_limit,
                "grace_days": given.grace_days,
                "extend_unheard": given.extend_unheard,
                "reference": given.reference,
                "created_at": call.tx.now_ms,
            },
        )
    except IntegrityError as error:
        raise name_taken(name) from error


def name_taken(name: str) -> Refused:
    """A sibling is called so."""
    return Refused(
        Code.NAME_TAKEN, f"There is a company named like {name!r} beside it.", field="name"
    )


def _make_administrator(call: Call, company_id: int) -> None:
    """Who makes a root company and names nobody else answers for it."""
    assert call.principal.user_id is not None
    call.tx.run(
        insert(membership),
        {
            "person_id": call.principal.user_id,
            "company_id": company_id,
            "role": Role.ADMINISTRATOR.value,
            "created_at": call.tx.now_ms,
        },
    )


@operation(
    "companies.change",
    "PATCH",
    "/companies/{company_id}",
    right=Right.MANAGE_COMPANIES,
    result=Company,
    errors=(Code.NAME_TAKEN,),
    tree=Tree.ALONE,
)
def change_company(call: Call, given: ChangeCompany) -> Company:
    """Changes a company's name, reference and, from above, what decides about paying."""
    number = company_number(given.company_id)
    call.require(Right.SEE_COMPANIES, number, see=Right.SEE_COMPANIES, what="company")
    values = given_values(given, "company_id")
    paying = values.keys() & FROM_ABOVE
    if paying:
        require_above(call, number, f"`{min(paying)}`")
    if values.keys() - paying or not values:
        call.require(Right.MANAGE_COMPANIES, number, see=Right.SEE_COMPANIES, what="company")
    row = company_row(call, number)
    if values.get("use_parent_credits") and row.parent_id is None:
        raise Refused(
            Code.VALIDATION,
            "use_parent_credits: a root company has no parent",
            field="use_parent_credits",
        )
    if "unregister" in values:
        values["refunds"] = values.pop("unregister") == "refund"
    if "name" in values:
        values["name"] = checked_name(str(values["name"]))
        values["name_key"] = name_key(str(values["name"]))
    if values:
        try:
            call.tx.run(update(company).where(company.c.id == number).values(**values))
        except IntegrityError as error:
            raise name_taken(str(values["name"])) from error
    if paying:
        queue_recheck(call.tx, number)
    return show(call, company_row(call, number))


def require_above(call: Call, company_id: int, what: str) -> None:
    """Whoever pays decides: refuses whoever is not administrator strictly above."""
    call.require_open(company_id)
    if not administers_above(call.principal, call.treasury.path(company_id), company_id):
        raise Refused(
            Code.FORBIDDEN,
            f"{what} is changed by an administrator above the company; "
            "of a root company by an operator.",
        )
