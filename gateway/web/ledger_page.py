"""The ledger for people: a sentence a line, and behind each the rows that one act booked."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from gateway.domain.ledger import Kind
from gateway.domain.refusals import Code, Refused
from gateway.operations.reversals import REVERSIBLE
from gateway.web.languages import gettext_noop
from gateway.web.reading import ALL_COMPANIES, Look, show

SHOWN_AT_ONCE = 100
ROWS_MAX = 500
KINDS: Mapping[Kind, str] = {
    Kind.GRANT: gettext_noop("credits granted"),
    Kind.TRIAL: gettext_noop("trial"),
    Kind.MOVE: gettext_noop("moved between companies"),
    Kind.ACTIVATE: gettext_noop("device activated"),
    Kind.EXTEND: gettext_noop("device extended"),
    Kind.COURTESY: gettext_noop("courtesy days"),
    Kind.DAY: gettext_noop("paid by the day"),
    Kind.SERVE: gettext_noop("days used"),
    Kind.CARRY: gettext_noop("days went along"),
    Kind.FORFEIT: gettext_noop("forfeited"),
    Kind.REFUND: gettext_noop("given back"),
    Kind.UNUSED: gettext_noop("given back unused"),
    Kind.EXPIRE: gettext_noop("expired days"),
    Kind.CODE_MAKE: gettext_noop("credit code made"),
    Kind.CODE_REDEEM: gettext_noop("credit code redeemed"),
    Kind.CODE_DELETE: gettext_noop("credit code deleted"),
    Kind.CLOSE: gettext_noop("company closed"),
    Kind.REVERSE: gettext_noop("taken back"),
}
_ABOVE = gettext_noop("a company above")
_SINKS: Mapping[str, str] = {
    "issuer": gettext_noop("new credits"),
    "consumed": gettext_noop("used up"),
    "forfeited": gettext_noop("forfeited"),
    "expired": gettext_noop("expired"),
    "above": _ABOVE,
}

_PREPAID = gettext_noop("prepaid days of a device")
_NEVER = gettext_noop("never expires")
_UNTIL = gettext_noop("valid until %(day)s")
_FREE = gettext_noop("free of charge")
_PAID = gettext_noop("paid for")
_REDEEMED = gettext_noop("redeemed from a code")
_CODE = gettext_noop("a credit code")


def add_routes(app: web.Application) -> None:
    """The list, and what one act booked."""
    app.router.add_get("/ledger", _ledger)
    app.router.add_get("/ledger/operations/{operation}", _operation)


class Line(NamedTuple):
    """A row, and what it did to the pools that are looked at: `+`, `−`, or neither."""

    row: Any
    sign: str


def company_of(look: Look, request: web.Request) -> str:
    """The company that a page is about; empty: all. Raises `Refused` for one that is not seen."""
    asked = request.query.get("company", "")
    if asked and asked != ALL_COMPANIES and not look.reader.company_id:
        return str(look.ask("companies.show", company_id=asked).id)
    return look.reader.company_id


def lines_of(rows: Any, company_id: str) -> list[Line]:
    """With the sign of each; of all companies together what moves between two of them has none."""
    return [Line(row, _sign(row, company_id)) for row in rows]


def _sign(row: Any, company_id: str) -> str:
    begins = f"pool:{company_id}:" if company_id else "pool:"
    into, out = row.to_account.startswith(begins), row.from_account.startswith(begins)
    if into == out:
        return ""
    return "+" if into else "−"


async def _ledger(request: web.Request) -> web.StreamResponse:
    query = {name: request.query.get(name, "").strip() for name in ("serial", "kind")}
    descendants = request.query.get("descendants", "true") != "false"

    def work(look: Look) -> dict[str, Any]:
        if not look.may("see_credits"):
            raise Refused(Code.FORBIDDEN, "This needs the right see_credits in the company.")
        company_id = company_of(look, request)
        kept: dict[str, str] = {name: value for name, value in query.items() if value}
        if company_id:
            kept["company"] = company_id
            kept["descendants"] = "true" if descendants else "false"
        cursor = request.query.get("cursor", "")
        found = look.ask("ledger.list", **kept, cursor=cursor, limit=SHOWN_AT_ONCE)
        return {
            "room": "credits",
            "about": look.name_of_company(company_id),
            "of_company": company_id,
            "lines": lines_of(found.items, company_id),
            "query": query,
            "descendants": descendants,
            "kinds": look.translated([(kind.value, words) for kind, words in KINDS.items()]),
            "filtered": bool(kept),
            "export": urlencode(kept),
            "older": urlencode({**kept, "cursor": found.next_cursor}) if found.next_cursor else "",
        }

    return await show(request, "ledger.html", work)


async def _operation(request: web.Request) -> web.StreamResponse:
    asked = request.match_info["operation"][:60]

    def work(look: Look) -> dict[str, Any]:
        found = look.ask("ledger.list", operation=asked, limit=ROWS_MAX)
        if not found.items:
            raise Refused(Code.NOT_FOUND, "There is no such operation, or it is not yours to see.")
        rows = list(reversed(found.items))
        return {
            "room": "credits",
            "rows": [_row(look, row) for row in rows],
            "first": rows[0],
            "more": found.next_cursor is not None,
        }

    return await show(request, "ledger_operation.html", work)


def _row(look: Look, row: Any) -> dict[str, Any]:
    payers = [look.name_of_company(one) for one in _path(row)]
    return {
        "row": row,
        "kind": look.gettext(KINDS[Kind(row.kind)]),
        "from": _account(look, row.from_account, None if row.kind == Kind.CARRY else row.serial),
        "to": _account(look, row.to_account, row.serial),
        # Where one of them is not known, the sentence says as much as may be said.
        "payers": payers if all(payers) else [],
        "reversible": row.kind in REVERSIBLE and _may_reverse(look, row),
    }


def _may_reverse(look: Look, row: Any) -> bool:
    """Whether it would be refused: who may take back is who may do."""
    if row.kind == Kind.GRANT:
        return look.may("operate")
    ends = [name.split(":") for name in (row.from_account, row.to_account)]
    if any(end[0] == "above" for end in ends):
        return False
    return all(look.may("move_credits", end[1]) for end in ends if end[0] == "pool")


def _path(row: Any) -> list[str]:
    return row.payer_path or ([row.payer_company_id] if row.payer_company_id else [])


def _account(look: Look, name: str, serial: str | None) -> tuple[str, str]:
    """An account in words, and what its lot is."""
    kind, _, rest = name.partition(":")
    if kind in _SINKS:
        return look.gettext(_SINKS[kind]), ""
    if kind == "prepaid":
        return look.gettext(_PREPAID), serial or ""
    number, _, lot = rest.partition(":")
    expiry, _, more = lot.partition(":")
    free, _, given = more.partition(":")
    facts = [
        look.gettext(_NEVER) if expiry == "never" else look.gettext(_UNTIL) % {"day": expiry},
        look.gettext(_FREE) if free == "free" else look.gettext(_PAID),
    ]
    if given == "redeemed":
        facts.append(look.gettext(_REDEEMED))
    owner = look.gettext(_CODE)
    if kind == "pool":
        owner = look.name_of_company(number) or look.gettext(_ABOVE)
    return owner, ", ".join(facts)
