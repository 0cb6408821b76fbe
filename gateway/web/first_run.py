"""What an empty system says of itself: three steps to the first router, each with its button."""

from dataclasses import dataclass
from typing import Any

from gateway.web.languages import gettext_noop as _
from gateway.web.reading import Look

# A fleet of which nobody was ever heard is still being set up, while it is as small as this.
DEVICES_MAX = 5
COMPANIES_LOOKED_AT = 5
_FIRST = _("Make a company first; you are its administrator then.")


@dataclass(frozen=True, slots=True)
class Step:
    """One of the three: whether it is done, and the button to it; without one, whom to ask."""

    title: str
    text: str
    done: bool
    href: str = ""
    button: str = ""
    dialog: bool = True
    ask: str = ""


def steps_of(look: Look) -> list[Step]:
    """The steps, while they are not all done; nothing for a fleet that is at work."""
    counts = look.ask("devices.counts")
    heard = counts.total - (counts.presence or {}).get("never", 0)
    if heard or counts.total > DEVICES_MAX:
        return []
    companies = look.ask("companies.list", limit=COMPANIES_LOOKED_AT).items
    return [
        _company(look, companies),
        _credits(look, companies),
        _router(look, companies, registered=bool(counts.total)),
    ]


def _company(look: Look, companies: list[Any]) -> Step:
    title = _("Make a company")
    text = _("Devices, credits and people belong to a company; customers get one below yours.")
    if companies:
        return Step(title, text, done=True)
    if look.may("operate"):
        return Step(title, text, False, "/companies/new", _("Add new company"))
    ask = _("You belong to no company. Ask whoever runs this installation for an invitation.")
    return Step(title, text, done=False, ask=ask)


def _credits(look: Look, companies: list[Any]) -> Step:
    title = _("Give it credits")
    text = _("One credit is 30 days of one device. A company may also use those of its parent.")
    for company in companies:
        forecast = look.ask_or_none("companies.forecast", company_id=company.id)
        if forecast is not None and (forecast.days or forecast.covered_by):
            return Step(title, text, done=True)
    if not companies:
        return Step(title, text, done=False, ask=_FIRST if look.may("operate") else "")
    about = f"?company_id={companies[0].id}"
    if look.may("operate"):
        return Step(title, text, False, f"/credits/grant{about}", _("Grant credits"))
    if look.may("move_credits") and companies[0].parent_id:
        return Step(title, text, False, f"/credits/request{about}", _("Ask for credits"))
    ask = _("Ask an administrator of the company above for credits, or to use theirs.")
    return Step(title, text, done=False, ask=ask)


def _router(look: Look, companies: list[Any], *, registered: bool) -> Step:
    title = _("Register a router and join it")
    text = _(
        "The router's serial is on its label. Then a join string, or its QR code, lets it in: it "
        "comes online here by itself."
    )
    if not look.may("manage_devices"):
        ask = _("Ask an administrator of your company to register devices, or to let you do so.")
        if not companies:
            ask = _FIRST if look.may("operate") else ""
        return Step(title, text, done=False, ask=ask)
    if not registered:
        return Step(title, text, False, "/devices/register", _("Register a device"))
    serial = look.ask("devices.list", limit=1).items[0].serial
    href = f"/devices/{serial}/join"
    return Step(title, text, False, href, _("Join string and QR code"), dialog=False)
