"""Dialogs: each asks for the input of one operation and says what that would cost, before.

An act is a row of a table; one handler and one template make all of them. Its address is that of
what it is about, so that a dialog is also a page, which works without a script.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.api.catalogue import operation_called
from gateway.domain.refusals import Code, Refused
from gateway.web.reading import Look, Work, show

TEXT_MAX = 200


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a dialog; `kind` names the macro that draws it."""

    name: str
    label: str
    kind: str = "text"  # text, number, email, date, area, choice, check, company, hidden
    hint: str = ""
    required: bool = False
    choices: tuple[tuple[str, str], ...] = ()
    value: Any = ""
    own: str = ""  # the attribute of the subject that it shows at first
    most: int = TEXT_MAX
    least: int | None = 1
    empty: str = ""  # of a company: what choosing none means
    closed: str = ""  # the closed list that the words of its choices are of


@dataclass(frozen=True, slots=True)
class Act:
    """One dialog. `hidden`: input fields that are attributes of the subject."""

    operation: str
    title: str
    submit: str
    right: str
    lead: str = ""
    fields: tuple[Field, ...] = ()
    hidden: tuple[tuple[str, str], ...] = ()
    then: str = ""
    danger: bool = False
    at_once: bool = False  # it can be said what it costs before anything is typed
    operators: bool = False  # they may do it without the right in a company


async def act_page(
    request: web.Request,
    act: Act,
    room: str,
    subject: tuple[str, Mapping[str, str]] | None,
    facts: Work | None = None,
) -> web.StreamResponse:
    """The dialog for its subject, which an operation shows. Raises `Refused`.

    `facts`: more for the template, such as what it says above the form (`facts`, a template).
    """

    def work(look: Look) -> dict[str, Any]:
        about = None
        company: str | None = None
        if subject is not None:
            about = look.ask(subject[0], **subject[1])
            company = getattr(about, "company_id", None) or about.id
        if not (look.may(act.right, company) or (act.operators and look.may("operate"))):
            raise Refused(Code.FORBIDDEN, f"This needs the right {act.right} in the company.")
        return {
            "room": room,
            "act": act,
            "about": about,
            "costs": operation_called(act.operation).moves_credits,
            "hidden": {name: getattr(about, own) for name, own in act.hidden},
            "values": {field.name: _value(request, look, field, about) for field in act.fields},
            "then": act.then,
            **(facts(look) if facts is not None else {}),
        }

    return await show(request, "act.html", work)


def _value(request: web.Request, look: Look, field: Field, about: Any) -> Any:
    """What stands in the field at first: what the address says, what there is, or the usual."""
    if field.name in request.query:
        return request.query[field.name][: field.most]
    if field.own:
        value = getattr(about, field.own)
        return ", ".join(value) if isinstance(value, list) else value
    if field.kind == "company" and field.required and not field.value:
        return look.reader.company_id or _only_company(look)
    return field.value.strip() if isinstance(field.value, str) else field.value


def _only_company(look: Look) -> str:
    found = look.companies()
    return str(found.companies[0].id) if len(found.companies) == 1 else ""
