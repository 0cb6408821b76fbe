"""The dialogs about devices."""

from collections.abc import Mapping

from aiohttp import web

from gateway.web.acts import Act, Field, act_page
from gateway.web.languages import gettext_noop as _
from gateway.web.sessions_page import PROTOCOLS

_CREDITS = Field(
    "credits",
    _("Credits"),
    "number",
    _("One credit is 30 days of one device."),
    required=True,
    value=1,
)
_DESCRIBED = (
    Field("name", _("Name"), own="name"),
    Field(
        "alias",
        _("Alias"),
        hint=_("Short and unique in the company: a-z, 0-9, dot, dash."),
        own="alias",
        most=63,
    ),
    Field("mac", _("MAC address"), own="mac", most=17),
    Field("tags", _("Tags"), hint=_("Separated by commas."), own="tags", most=900),
    Field("reference", _("Reference"), own="reference"),
    Field("notes", _("Notes"), "area", own="notes", most=4000),
)
REGISTER = Act(
    "devices.register",
    _("Register a device"),
    _("Register"),
    "manage_devices",
    fields=(
        Field("company_id", _("Company"), "company", required=True),
        Field(
            "serial",
            _("Serial"),
            hint=_("As on the router's label; leading zeros count."),
            required=True,
            most=32,
        ),
        Field(
            "activate",
            _("Activate"),
            "choice",
            _("Activation takes a credit for 30 days."),
            choices=(
                ("on_contact", _("when it is heard for the first time")),
                ("true", _("now")),
                ("later", _("later, by hand")),
            ),
        ),
        Field("auto_extend", _("Extend by itself when the days are over"), "check", value=True),
        Field("name", _("Name")),
        Field("alias", _("Alias"), hint=_DESCRIBED[1].hint, most=63),
        Field("mac", _("MAC address"), most=17),
        Field("tags", _("Tags"), hint=_DESCRIBED[3].hint, most=900),
        Field("reference", _("Reference")),
    ),
    then="/devices/{serial}/join",
)
_SERIAL = (("serial", "serial"),)
_BACK = "/devices/{serial}"

ACTS: Mapping[str, Act] = {
    "activate": Act(
        "devices.activate",
        _("Activate"),
        _("Activate"),
        "manage_devices",
        _("Service begins at once; the days are taken from whoever pays for the company."),
        (_CREDITS,),
        _SERIAL,
        _BACK,
        at_once=True,
    ),
    "extend": Act(
        "devices.extend",
        _("Extend"),
        _("Extend"),
        "manage_devices",
        _("The days are added to those that are left."),
        (_CREDITS,),
        _SERIAL,
        _BACK,
        at_once=True,
    ),
    "move": Act(
        "devices.move",
        _("Move to another company"),
        _("Move"),
        "move_devices",
        _("The days that are left go along; from then on the new company pays."),
        (
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
        _SERIAL,
        _BACK,
    ),
    "replace": Act(
        "devices.replace",
        _("Replace by another router"),
        _("Replace"),
        "manage_devices",
        _("The new router takes over name, tags, targets and all days that are left."),
        (Field("serial", _("Serial of the new router"), required=True, most=32),),
        (("broken", "serial"),),
        "/devices/{serial}/join",
    ),
    "undo-replace": Act(
        "devices.undo-replace",
        _("Undo the replacement"),
        _("Undo"),
        "manage_devices",
        _("The old router gets its place and the days back."),
        hidden=_SERIAL,
        then="/devices",
        at_once=True,
    ),
    "unregister": Act(
        "devices.unregister",
        _("Unregister"),
        _("Unregister"),
        "unregister",
        _("The device leaves the company, and what it would lose stands here before."),
        hidden=_SERIAL,
        then="/devices",
        danger=True,
        at_once=True,
    ),
    "switch-off": Act(
        "devices.switch-off",
        _("Switch the service off"),
        _("Switch off"),
        "manage_devices",
        _("Days go on passing until the end of the period; nothing is taken after it."),
        hidden=_SERIAL,
        then=_BACK,
        at_once=True,
    ),
    "switch-on": Act(
        "devices.switch-on",
        _("Switch the service on"),
        _("Switch on"),
        "manage_devices",
        _("Within the period it costs nothing."),
        hidden=_SERIAL,
        then=_BACK,
        at_once=True,
    ),
    "release": Act(
        "devices.release",
        _("Let the device in"),
        _("Let in"),
        "manage_devices",
        _("Its new credential is valid from then on, and the old one is not."),
        hidden=_SERIAL,
        then=_BACK,
    ),
    "forget": Act(
        "devices.forget",
        _("Forget the device"),
        _("Forget"),
        "move_devices",
        _("It is unregistered and its history is deleted; anybody can register the serial then."),
        hidden=_SERIAL,
        then="/devices",
        danger=True,
        at_once=True,
    ),
    "change": Act(
        "devices.change",
        _("Name, tags and notes"),
        _("Save"),
        "manage_devices",
        fields=_DESCRIBED,
        hidden=_SERIAL,
        then=_BACK,
    ),
    # Its address says what there is now.
    "target": Act(
        "targets.change",
        _("Change a saved target"),
        _("Save"),
        "reach_any",
        _("Sessions that are open keep theirs."),
        (
            Field("target_id", "", "hidden"),
            Field("name", _("Name"), required=True, most=300),
            Field(
                "target",
                _("Target"),
                hint=_("host:port inside its network, as 192.168.1.50:443."),
                required=True,
                most=300,
            ),
            Field(
                "protocol",
                _("Protocol"),
                "choice",
                choices=tuple((one, one) for one in PROTOCOLS),
            ),
        ),
        then=_BACK,
    ),
}


def add_routes(app: web.Application) -> None:
    """The dialogs of one device, and the one for a new device."""
    app.router.add_get("/devices/register", _register)
    names = "|".join(ACTS)
    app.router.add_get(f"/devices/{{serial}}/{{act:{names}}}", _act)


async def _register(request: web.Request) -> web.StreamResponse:
    return await act_page(request, REGISTER, "devices", None)


async def _act(request: web.Request) -> web.StreamResponse:
    subject = ("devices.show", {"serial": request.match_info["serial"]})
    return await act_page(request, ACTS[request.match_info["act"]], "devices", subject)
