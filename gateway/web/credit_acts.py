"""The dialogs about credits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.web.acts import Act, Field, act_page
from gateway.web.languages import gettext_noop as _
from gateway.web.reading import Look

_COMPANY = Field("company_id", _("Company"), "company", required=True)
_CREDITS = Field("credits", _("Number"), "number", _("Whole credits; a credit is 30 days."))
_DAYS = Field("days", _("or days"), "number")
_NOTE = Field("note", _("Note"), most=500)
_BACK = "/credits"
_ABOUT = ("source", "company_id", "company")
LOOKED_AT_MAX = 500

ACTS: Mapping[str, Act] = {
    "move": Act(
        "credits.move",
        _("Move credits"),
        _("Move credits"),
        "move_credits",
        fields=(
            Field("source", _("Source"), "company", required=True),
            Field("target", _("Destination"), "company", required=True, value=" "),
            _CREDITS,
            _DAYS,
            _NOTE,
        ),
        then=_BACK,
    ),
    "grant": Act(
        "credits.grant",
        _("Grant credits"),
        _("Grant"),
        "operate",
        _("New credits, as they were bought or given."),
        (
            _COMPANY,
            _CREDITS,
            _DAYS,
            Field("expires_on", _("They expire on"), "date", _("Empty: never.")),
            Field("free", _("Free of charge"), "check"),
            _NOTE,
        ),
        then=_BACK,
    ),
    "give": Act(
        "credits.give",
        _("Give courtesy days"),
        _("Give"),
        "move_credits",
        _("Days for one device, or for all devices of a company; somebody's credits pay for them."),
        (
            Field("serial", _("Serial"), most=32),
            Field("company_id", _("or all devices of"), "company", empty=_("nobody")),
            Field("days", _("Days for each"), "number", required=True, value=1),
            Field(
                "payer_company_id",
                _("Paid by"),
                "company",
                empty=_("the nearest company above that can"),
            ),
            _NOTE,
        ),
        then=_BACK,
    ),
    "code": Act(
        "credit-codes.create",
        _("Make a credit code"),
        _("Make the code"),
        "move_credits",
        _("The credits leave the company now; whoever has the code can redeem it, once."),
        (
            _COMPANY,
            _CREDITS,
            _DAYS,
            Field("comment", _("Comment"), hint=_("Only you read it."), most=500),
        ),
        then=_BACK,
    ),
    "redeem": Act(
        "credit-codes.redeem",
        _("Redeem a credit code"),
        _("Redeem"),
        "move_credits",
        fields=(Field("code", _("Credit code"), required=True, most=100), _COMPANY),
        then=_BACK,
    ),
    "request": Act(
        "credit-requests.create",
        _("Ask for credits"),
        _("Ask"),
        "move_credits",
        _("The company above reads it and answers."),
        (_COMPANY, _CREDITS, _DAYS, _NOTE),
        then=_BACK,
    ),
    "accept": Act(
        "credit-requests.accept",
        _("Accept the request"),
        _("Move the credits"),
        "move_credits",
        _("Another amount than was asked for, if you type one."),
        (Field("request_id", "", "hidden", most=18), _CREDITS, _DAYS, _NOTE),
        then=_BACK,
        at_once=True,
    ),
    "refuse": Act(
        "credit-requests.refuse",
        _("Refuse the request"),
        _("Refuse"),
        "move_credits",
        fields=(
            Field("request_id", "", "hidden", most=18),
            Field("answer", _("Answer"), hint=_("Whoever asked reads it."), most=500),
        ),
        then=_BACK,
        danger=True,
    ),
    "delete-code": Act(
        "credit-codes.delete",
        _("Delete the code"),
        _("Delete"),
        "move_credits",
        _("Its credits go back to the company."),
        (Field("code_id", "", "hidden", most=18),),
        then=_BACK,
        danger=True,
        at_once=True,
    ),
    "reverse": Act(
        "credits.reverse",
        _("Take a transfer back"),
        _("Take back"),
        "move_credits",
        _("What is still unspent of it goes back to where it came from."),
        (
            Field("transfer", "", "hidden", most=80),
            Field("days", _("Days"), "number", _("Empty: as many as there are.")),
            _NOTE,
        ),
        then=_BACK,
        danger=True,
        at_once=True,
    ),
    "price": Act(
        "companies.price",
        _("Price of a credit"),
        _("Save"),
        "see_statements",
        _("Stands in statements from that day on."),
        (
            _COMPANY,
            Field("per_credit", _("Price of a credit"), required=True, hint="1.85", most=20),
            Field("currency", _("Currency"), required=True, value="EUR", most=3),
            Field("from", _("From"), "date", required=True),
        ),
        then="/companies/{company_id}/prices",
    ),
}


def add_routes(app: web.Application) -> None:
    """One dialog for each."""
    names = "|".join(ACTS)
    app.router.add_get(f"/credits/{{act:{names}}}", _act)


async def _act(request: web.Request) -> web.StreamResponse:
    name, query = request.match_info["act"], request.query
    act = ACTS[name]
    company_id = next((query[one] for one in _ABOUT if query.get(one, "").isdecimal()), "")
    if company_id and not act.then.startswith("/companies/"):
        act = replace(act, then=f"{_BACK}?company={company_id}")
    find = _SUBJECTS.get(name)
    found = None if find is None else lambda look: _facts(find(look, query))
    return await act_page(request, act, "credits", None, found)


# What an act is about, so that whoever decides sees it again.


def _facts(subject: Any) -> dict[str, Any]:
    return {} if subject is None else {"facts": "credit_facts.html", "subject": subject}


def _request(look: Look, query: Mapping[str, str]) -> Any:
    found = look.ask("credit-requests.list", state="open", limit=LOOKED_AT_MAX)
    return _with_id(found.items, query.get("request_id", ""))


def _code(look: Look, query: Mapping[str, str]) -> Any:
    found = look.ask("credit-codes.list", state="open", limit=LOOKED_AT_MAX)
    return _with_id(found.items, query.get("code_id", ""))


def _transfer(look: Look, query: Mapping[str, str]) -> Any:
    if not query.get("operation"):
        return None
    found = look.ask("ledger.list", operation=query["operation"][:60], limit=LOOKED_AT_MAX)
    return _with_id(found.items, query.get("transfer", ""))


def _with_id(items: Sequence[Any], id_: str) -> Any:
    return next((one for one in items if one.id == id_), None)


_SUBJECTS: Mapping[str, Callable[[Look, Mapping[str, str]], Any]] = {
    "accept": _request,
    "refuse": _request,
    "delete-code": _code,
    "reverse": _transfer,
}
