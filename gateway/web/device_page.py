"""One device: how it is, why it is served or not, what happened to it, and the ways onto it."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from aiohttp import web

from gateway.domain.sessions import WEB_PROTOCOLS
from gateway.web.closed_words import word_of
from gateway.web.device_values import GROUPS, LABELS, shown_values
from gateway.web.languages import gettext_noop as _
from gateway.web.reading import Look, show

LINES = 20
RANGES = {
    "hour": (3_600, _("hour")),
    "day": (86_400, _("day")),
    "week": (7 * 86_400, _("week")),
    "month": (30 * 86_400, _("month")),
    "year": (365 * 86_400, _("year")),
}
KINDS = {
    "": _("everything"),
    "ledger": _("credits and service"),
    "session": _("remote access"),
    "command": _("commands"),
    "audit": _("what people did"),
}


class Line(NamedTuple):
    """One thing that happened to a device."""

    id: str
    at: str
    kind: str
    text: str
    who: str
    href: str


def add_routes(app: web.Application) -> None:
    """The device's page, and how it joins."""
    app.router.add_get("/devices/{serial}/join", _join)
    app.router.add_get("/devices/{serial}", _device)


async def _device(request: web.Request) -> web.StreamResponse:
    serial = request.match_info["serial"]
    chosen = request.query.get("range", "day")
    chosen = chosen if chosen in RANGES else "day"
    kind = request.query.get("kind", "")

    def work(look: Look) -> dict[str, Any]:
        device = look.ask("devices.show", serial=serial)
        targets = None
        if look.may("reach", device.company_id):
            targets = look.ask_or_none("targets.list", serial=serial)
        return {
            "room": "devices",
            "device": device,
            "company_named": look.name_of_company(device.company_id),
            "payer_named": look.name_of_company(device.service.payer_company_id),
            "credits": look.ask_or_none("companies.credits", company_id=device.company_id),
            "groups": GROUPS,
            "values": shown_values(device.latest),
            "plot_labels": lambda names: "|".join(
                look.gettext(LABELS[name]) for name in names.split()
            ),
            "ranges": RANGES,
            "range": chosen,
            "seconds": RANGES[chosen][0],
            "targets": () if targets is None else targets.items,
            "web_protocols": WEB_PROTOCOLS,
            "kinds": KINDS,
            "kind": kind,
            "lines": timeline(look, serial, kind),
            "see_history": look.may("see_history", device.company_id),
        }

    return await show(request, "device.html", work)


def timeline(look: Look, serial: str, kind: str) -> Sequence[Line]:
    """What happened to the device, newest first, as far as the reader may know."""
    parts: Mapping[str, Any] = {
        "ledger": _of_ledger,
        "session": _of_sessions,
        "command": _of_commands,
        "audit": _of_audit,
    }
    lines: list[Line] = []
    for name, part in parts.items():
        if kind in ("", name):
            lines += part(look, serial)
    return sorted(lines, key=lambda one: one.at, reverse=True)[:LINES]


def _items(look: Look, operation: str, serial: str) -> Iterable[Any]:
    found = look.ask_or_none(operation, serial=serial, limit=LINES)
    return () if found is None else found.items


def _of_ledger(look: Look, serial: str) -> Iterable[Line]:
    for one in _items(look, "ledger.list", serial):
        href = f"/ledger?operation={one.operation_id}"
        yield Line(f"t-{one.id}", one.at, "ledger", one.sentence, one.actor, href)


def _of_sessions(look: Look, serial: str) -> Iterable[Line]:
    for one in _items(look, "sessions.list", serial):
        text = f"{one.protocol} {one.target_name or one.target}"
        href = f"/sessions/{one.id}"
        yield Line(f"s-{one.id}", one.created_at, "session", text, one.person, href)


def _of_commands(look: Look, serial: str) -> Iterable[Line]:
    for one in _items(look, "commands.list", serial):
        word = partial(word_of, look.reader.language)
        became = word("outcome", one.outcome) if one.outcome else word("command_state", one.state)
        text = f"{word('command', one.verb)}: {became}"
        yield Line(f"c-{one.id}", one.created_at, "command", text, "", "")


def _of_audit(look: Look, serial: str) -> Iterable[Line]:
    for one in _items(look, "audit.list", serial):
        if not one.verb.startswith(("session.", "commands.")):
            yield Line(f"a-{one.id}", one.at, "audit", one.sentence, "", "")


async def _join(request: web.Request) -> web.StreamResponse:
    serial = request.match_info["serial"]

    def work(look: Look) -> dict[str, Any]:
        return {"room": "devices", "device": look.ask("devices.show", serial=serial)}

    return await show(request, "device_join.html", work)
