"""The dialog of what is done to many devices at once, and what that would cost."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.domain.refusals import Code, Refused
from gateway.operations.acting import ACTED_ON_AT_ONCE_MAX
from gateway.web.acts import Act, Field, act_page
from gateway.web.addresses import local_address
from gateway.web.fleet_filters import FLEET
from gateway.web.forms import read_fields
from gateway.web.languages import gettext_noop as _
from gateway.web.reading import Look

PATH = "/devices/act"
NAMED_MAX = 8
# A hidden field holds all of them, with commas between.
_SERIALS = Field("serials", "", "hidden", most=40 * ACTED_ON_AT_ONCE_MAX)
_BETWEEN = re.compile(r"[,\s]+")
_CREDITS = Field(
    "credits",
    _("Credits for each"),
    "number",
    _("One credit is 30 days of one device."),
    required=True,
    value=1,
)
_TAG = Field("tag", _("Tag"), required=True, most=40)


def _many(title: str, submit: str, lead: str, *fields: Field, **more: Any) -> Act:
    return Act(
        "devices.act-many",
        title,
        submit,
        more.pop("right", "manage_devices"),
        lead,
        (_SERIALS, Field("action", "", "hidden"), *fields),
        at_once=True,
        **more,
    )


ACTS: Mapping[str, Act] = {
    "activate": _many(
        _("Activate devices"),
        _("Activate"),
        _("Service begins at once; the days are taken from whoever pays for the company."),
        _CREDITS,
    ),
    "extend": _many(
        _("Extend devices"),
        _("Extend"),
        _("The days are added to those that are left."),
        _CREDITS,
    ),
    "auto-extend-on": _many(
        _("Extend by itself: on"),
        _("Switch on"),
        _("When the days of these devices are over, the next credit is taken."),
    ),
    "auto-extend-off": _many(
        _("Extend by itself: off"),
        _("Switch off"),
        _("When the days of these devices are over, their service ends."),
    ),
    "add-tag": _many(_("Add a tag"), _("Add"), "", _TAG),
    "remove-tag": _many(_("Remove a tag"), _("Remove"), "", _TAG),
    "switch-on": _many(
        _("Switch the service on"), _("Switch on"), _("Within the period it costs nothing.")
    ),
    "switch-off": _many(
        _("Switch the service off"),
        _("Switch off"),
        _("Days go on passing until the end of the period; nothing is taken after it."),
    ),
    "move": Act(
        "devices.move-many",
        _("Move devices to another company"),
        _("Move"),
        "move_devices",
        _("The days that are left go along; from then on the new company pays."),
        (
            _SERIALS,
            Field("company_id", _("To"), "company", required=True, value=" "),
            Field(
                "history",
                _("History"),
                "choice",
                choices=(
                    ("", _("as usual: along within your companies")),
                    ("keep", _("goes along")),
                    ("leave", _("stays behind")),
                ),
            ),
        ),
    ),
    "unregister": _many(
        _("Unregister devices"),
        _("Unregister"),
        _("The devices leave their companies, and what they would lose stands here before."),
        right="unregister",
        danger=True,
    ),
}


def add_routes(app: web.Application) -> None:
    """One address; many serials do not fit into one, so a form may send them as well."""
    app.router.add_get(PATH, _act)
    app.router.add_post(PATH, _act)


async def _act(request: web.Request) -> web.StreamResponse:
    texts: Mapping[str, Sequence[str]] = (
        await read_fields(request)
        if request.method == "POST"
        else {name: request.query.getall(name) for name in request.query}
    )
    name = _last(texts, "action")
    if name not in ACTS:
        raise web.HTTPNotFound
    serials = serials_of(texts)
    following = local_address(_last(texts, "next") or FLEET)
    act = replace(ACTS[name], then=following)
    given = {"action": name, "serials": ",".join(serials)}

    def facts(look: Look) -> dict[str, Any]:
        values = {
            one.name: given.get(one.name, _last(texts, one.name) or _usual(one))
            for one in act.fields
        }
        return {
            "facts": "fleet_chosen.html",
            "values": values,
            "chosen": serials,
            "named": serials[:NAMED_MAX],
        }

    return await act_page(request, act, "devices", None, facts)


def serials_of(texts: Mapping[str, Sequence[str]]) -> list[str]:
    """The serials that were ticked, in order, each once. Raises `Refused`."""
    found = [one for text in texts.get("serials", ()) for one in _BETWEEN.split(text) if one]
    serials = sorted(set(found))
    if not serials:
        raise Refused(Code.VALIDATION, "serials: tick at least one device", field="serials")
    if len(serials) > ACTED_ON_AT_ONCE_MAX:
        detail = f"serials: at most {ACTED_ON_AT_ONCE_MAX} at once"
        raise Refused(Code.VALIDATION, detail, field="serials")
    return serials


def _usual(field: Field) -> Any:
    return field.value.strip() if isinstance(field.value, str) else field.value


def _last(texts: Mapping[str, Sequence[str]], name: str) -> str:
    return texts[name][-1] if texts.get(name) else ""
