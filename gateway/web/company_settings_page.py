"""The settings of a company: each with its value, where that comes from, and who may change it."""

from typing import Any, NamedTuple
from zoneinfo import available_timezones

from aiohttp import web

from gateway.web.companies_page import above, moves, role_in
from gateway.web.languages import LANGUAGES
from gateway.web.languages import gettext_noop as _
from gateway.web.reading import Look, show


class Setting(NamedTuple):
    """One setting: its words, and what may be chosen."""

    name: str
    label: str
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    kind: str = "text"
    least: int = 0
    most: int = 500
    inherited: bool = True


class Group(NamedTuple):
    """Settings that are saved together; `whole`: one setting with parts, set as a whole."""

    key: str
    title: str
    settings: tuple[Setting, ...]
    lead: str = ""
    whole: str = ""
    own: bool = False  # changed only by the company's own administrators


_SWITCH = (("true", _("yes")), ("false", _("no")))

GROUPS = (
    Group(
        "inside",
        _("People from above"),
        (
            Setting(
                "inside",
                _("People from the companies above"),
                choices=(
                    ("open", _("may open sessions and see targets and positions")),
                    ("ask", _("must be let in by a member, for a time")),
                ),
            ),
        ),
        _(
            "With “must be let in”, people from above go on seeing state, days and credits; "
            "sessions, targets, recordings and positions need a support access that a member "
            "grants for a time. Both sides see the same record of it."
        ),
        own=True,
    ),
    Group(
        "access",
        _("Remote access"),
        (
            Setting("require_reason", _("Every session needs a reason"), choices=_SWITCH),
            Setting("shares", _("Sessions may be shared with guests"), choices=_SWITCH),
            Setting("record_terminals", _("Terminals are recorded"), choices=_SWITCH),
        ),
    ),
    Group(
        "people",
        _("Signing in"),
        (
            Setting("require_totp", _("Everybody needs a second factor"), choices=_SWITCH),
            Setting(
                "idle_minutes",
                _("Signed out after so many minutes without use"),
                kind="number",
                least=5,
                most=720,
            ),
        ),
    ),
    Group(
        "look",
        _("Language, time and mail"),
        (
            Setting("language", _("Language"), choices=tuple(LANGUAGES.items())),
            Setting("time_zone", _("Time zone"), _("For example Europe/Madrid.")),
            Setting(
                "billing_email",
                _("Mails about credits go to"),
                _("Empty: to its administrators and billing people."),
                kind="email",
                inherited=False,
            ),
        ),
    ),
    Group(
        "devices",
        _("Data budget"),
        (
            Setting(
                "data_budget_mb",
                _("Megabytes a month and device (0: no budget)"),
                kind="number",
                most=10_000_000,
            ),
        ),
    ),
    Group(
        "intervals",
        _("How often devices report"),
        (
            Setting("sample_s", _("Look at itself every so many seconds"), kind="number", least=1),
            Setting("send_s", _("Send every so many seconds"), kind="number", least=1),
        ),
        _("Empty: as the device has it."),
        whole="intervals",
    ),
    Group(
        "retention",
        _("How long things are kept, in days"),
        (
            Setting("raw_days", _("Every sample"), kind="number", least=1),
            Setting("hourly_days", _("Hourly values"), kind="number", least=1),
            Setting("position_days", _("Positions (0: not at all)"), kind="number"),
            Setting("sessions_days", _("Sessions"), kind="number", least=1),
            Setting("recordings_days", _("Recordings"), kind="number", least=1),
            Setting("address_days", _("IP addresses"), kind="number", least=1),
        ),
        _("Empty: as the installation has it."),
        whole="retention",
    ),
    Group(
        "brand",
        _("Brand"),
        (
            Setting("name", _("Shown name"), most=200),
            Setting("logo", _("Logo (an https address)")),
            Setting("support", _("Where people ask for help"), most=200),
        ),
        whole="brand",
    ),
)


def add_routes(app: web.Application) -> None:
    """One page, with a form for each group."""
    app.router.add_get("/companies/{company_id:[0-9]+}/settings", _settings)


async def _settings(request: web.Request) -> web.StreamResponse:
    company_id = request.match_info["company_id"]

    def work(look: Look) -> dict[str, Any]:
        company = look.ask("companies.show", company_id=company_id)
        found = look.ask("settings.show", company_id=company_id)
        return {
            "room": "companies",
            "company": company,
            "crumbs": above(look, company),
            "settings": found.settings,
            "groups": GROUPS,
            "own": role_in(look, company_id) == "administrator",
            # Whoever pays decides about paying: the operation says the same.
            "from_above": moves(look, company),
            "time_zones": sorted(one for one in available_timezones() if "/" in one),
        }

    return await show(request, "company_settings.html", work)
