"""The dialogs about companies and about the people in them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.domain.periods import GRACE_DAYS_DEFAULT
from gateway.domain.rights import Role
from gateway.operations.registry import not_found
from gateway.web.acts import Act, Field, act_page
from gateway.web.closed_words import ROLE
from gateway.web.languages import gettext_noop as _
from gateway.web.reading import Look, show

_COMPANY = (("company_id", "id"),)
_BACK = "/companies/{id}"
# The role that may least comes first.
_ROLES = tuple(reversed(tuple(ROLE.items())))
# What may be given by whoever is no administrator.
_LOWER_ROLES = tuple((role.value, ROLE[role]) for role in (Role.READ_ONLY, Role.BASIC))
_PLANS = (
    ("block", _("blocks of 30 days")),
    ("daily", _("by the day on which it was heard")),
)
_PARENT_PAYS = Field(
    "use_parent_credits",
    _("Allow to use parent company's credits"),
    "check",
    _("Where its own credits are used up, the company above pays."),
    own="",
)

NEW = Act(
    "companies.create",
    _("Add new company"),
    _("Add"),
    "manage_companies",
    fields=(
        Field("name", _("Name"), required=True),
        Field(
            "parent_id",
            _("Parent company"),
            "company",
            empty=_("none: a company of its own, which only operators make"),
        ),
        _PARENT_PAYS,
        Field(
            "parent_limit",
            _("At most so many parent credits a month"),
            "number",
            _("Empty: no limit."),
            least=0,
        ),
        Field("plan", _("Plan"), "choice", choices=_PLANS),
        Field(
            "grace_days",
            _("Days of grace without credits"),
            "number",
            _("So long its devices are served when nobody pays; up to 30."),
            value=GRACE_DAYS_DEFAULT,
            least=0,
        ),
        Field("reference", _("Reference"), hint=_("Your number for this customer."), most=500),
        Field(
            "administrator_email",
            _("Its administrator's e-mail"),
            "email",
            _("Is invited by mail; empty: you look after it yourself."),
            most=254,
        ),
    ),
    then="/companies/{id}",
    operators=True,
)
INVITE = Act(
    "invitations.create",
    _("Invite new user"),
    _("Invite"),
    "invite",
    _("Nothing changes until the invitation is accepted; it is good for 72 hours."),
    (
        Field("email", _("E-mail"), "email", required=True, most=254),
        Field("company_id", _("Company"), "company", required=True),
        Field("role", _("Role"), "choice", choices=_ROLES, required=True, closed="role"),
        Field(
            "until", _("Until"), "date", _("The role ends as this day begins (UTC); empty: never.")
        ),
    ),
    then="/users",
    operators=True,
)

ACTS: Mapping[str, Act] = {
    "move": Act(
        "companies.move",
        _("Move to another parent"),
        _("Move"),
        "manage_companies",
        _("Everything below goes along. You must be administrator in both places."),
        (
            Field(
                "parent_id",
                _("New parent"),
                "company",
                empty=_("none: a company of its own, which only operators make"),
            ),
            replace(_PARENT_PAYS, own="use_parent_credits"),
        ),
        _COMPANY,
        _BACK,
    ),
    "suspend": Act(
        "companies.suspend",
        _("Suspend"),
        _("Suspend"),
        "manage_companies",
        _("No new period begins in it and below, and sessions end; what is paid runs on."),
        (Field("reason", _("Reason"), hint=_("Its people read it."), required=True, most=500),),
        _COMPANY,
        _BACK,
        danger=True,
    ),
    "resume": Act(
        "companies.resume",
        _("Let it work again"),
        _("Let it work again"),
        "manage_companies",
        _("What waited is paid for within a minute."),
        hidden=_COMPANY,
        then=_BACK,
    ),
    "close": Act(
        "companies.close",
        _("Close the company"),
        _("Close for good"),
        "manage_companies",
        _("It can only be read then. Its credits and the companies below go to its parent."),
        (
            Field(
                "devices",
                _("Its devices"),
                "choice",
                choices=(
                    ("move", _("move to another company")),
                    ("unregister", _("are unregistered")),
                    ("release", _("are unregistered and forgotten")),
                ),
            ),
            Field("to", _("Devices go to"), "company", empty=_("the parent company")),
        ),
        _COMPANY,
        "/companies",
        danger=True,
        at_once=True,
    ),
    "join-code": Act(
        "join-codes.create",
        _("Join string for many devices"),
        _("Make"),
        "manage_devices",
        _("Whoever has it can let so many devices join this company."),
        (
            Field("uses", _("For how many devices"), "number", required=True, value=10),
            Field(
                "register",
                _("Also devices that are not registered yet"),
                "check",
                _("Each is registered in this company when it joins."),
            ),
            Field(
                "credits",
                _("Credits they may take together"),
                "number",
                _("0: they are activated later, by hand."),
                value=0,
                least=0,
            ),
        ),
        _COMPANY,
        _BACK,
    ),
    "support-access": Act(
        "support-access.grant",
        _("Let support in"),
        _("Let in"),
        "share",
        _("People from above may use sessions and see targets and positions, until then."),
        (
            Field(
                "minutes",
                _("For"),
                "choice",
                choices=(
                    ("60", _("an hour")),
                    ("480", _("8 hours")),
                    ("1440", _("a day")),
                    ("10080", _("a week")),
                ),
            ),
            Field("reason", _("Reason"), required=True, most=500),
        ),
        _COMPANY,
        "/companies/{company_id}",
    ),
}


def add_routes(app: web.Application) -> None:
    """The dialogs of one company, those for a new company and a new user, and for a member."""
    app.router.add_get("/companies/new", _new)
    app.router.add_get("/users/invite", _invite)
    app.router.add_get("/users/memberships/{membership_id:[0-9]+}", _member)
    names = "|".join(ACTS)
    app.router.add_get(f"/companies/{{company_id:[0-9]+}}/{{act:{names}}}", _act)


async def _new(request: web.Request) -> web.StreamResponse:
    parent = request.query.get("parent", "")
    if parent and "parent_id" not in request.query:
        raise web.HTTPSeeOther(str(request.rel_url.with_query({"parent_id": parent})))
    return await act_page(request, NEW, "companies", None, _rooted(NEW))


async def _invite(request: web.Request) -> web.StreamResponse:
    def facts(look: Look) -> Mapping[str, Any]:
        if look.may("manage_companies") or look.may("operate"):
            return {}
        fields = tuple(
            replace(one, choices=_LOWER_ROLES) if one.name == "role" else one
            for one in INVITE.fields
        )
        return {"act": replace(INVITE, fields=fields)}

    return await act_page(request, INVITE, "users", None, facts)


async def _act(request: web.Request) -> web.StreamResponse:
    subject = ("companies.show", {"company_id": request.match_info["company_id"]})
    act = ACTS[request.match_info["act"]]
    return await act_page(request, act, "companies", subject, _rooted(act))


def _rooted(act: Act) -> Any:
    """Who is no operator makes no company without a parent, so one must be chosen."""

    def facts(look: Look) -> Mapping[str, Any]:
        if look.may("operate"):
            return {}
        fields = tuple(
            replace(one, required=True, empty="") if one.name == "parent_id" else one
            for one in act.fields
        )
        return {"act": replace(act, fields=fields)}

    return facts


async def _member(request: web.Request) -> web.StreamResponse:
    """A person's role in a company: changed, ended on a day, taken away."""
    number = request.match_info["membership_id"]
    company_id = request.query.get("of", "")

    def work(look: Look) -> Mapping[str, Any]:
        if look.may("invite"):
            found = look.ask("members.find", membership_id=number, limit=1).items
        else:
            # An operator finds a company its people.
            found = look.ask("members.list", company_id=company_id, limit=500).items
        chosen = [one for one in found if one.id == number]
        if not chosen:
            raise not_found("membership")
        roles = _LOWER_ROLES
        if look.may("manage_companies", chosen[0].company_id) or look.may("operate"):
            roles = _ROLES
        return {"room": "users", "member": chosen[0], "roles": roles}

    return await show(request, "member.html", work)
