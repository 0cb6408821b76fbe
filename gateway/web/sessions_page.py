"""Remote access: sessions as they are now, opening one, and where one that does not work fails."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from aiohttp import web

from gateway.domain.sessions import MINUTES_DEFAULT, MINUTES_MAX, WEB_PROTOCOLS
from gateway.web.reading import Look, show

SHOWN_AT_ONCE = 50
REMEMBERED_MAX = 10
STATES = ("waiting", "open", "ended")
PROTOCOLS = ("http", "https", "ssh", "telnet", "rdp", "vnc", "tcp")
LENGTHS = (15, MINUTES_DEFAULT, 240, MINUTES_MAX)
SESSION_ID = "[0-9a-f]{32}"


class Remembered(NamedTuple):
    """A target to choose: one that was saved, or one that this person reached before."""

    name: str
    target: str
    protocol: str
    saved: bool


def add_routes(app: web.Application) -> None:
    """The list, the dialog, and a page for each session."""
    app.router.add_get("/sessions", _list)
    app.router.add_get("/sessions/new", _new)
    app.router.add_get(f"/sessions/{{session_id:{SESSION_ID}}}", _one)


async def _list(request: web.Request) -> web.StreamResponse:
    query = request.query
    state = query.get("state", "")
    asked: dict[str, Any] = {
        "serial": query.get("serial", "").strip(),
        "mine": query.get("mine", "") == "true",
        "cursor": query.get("cursor", ""),
        "limit": SHOWN_AT_ONCE,
    }
    if state in STATES:
        asked["state"] = state

    def work(look: Look) -> dict[str, Any]:
        may_see = look.may("see_sessions")
        company = look.reader.company_id if may_see else ""
        found = look.ask("sessions.list", company=company, **asked)
        return {
            "room": "sessions",
            "found": found,
            "asked": {**asked, "state": state},
            "states": STATES,
            "may_end": lambda one: (
                one.person_id == look.reader.me.id or look.may("see_sessions", one.company_id)
            ),
        }

    return await show(request, "sessions.html", work)


async def _new(request: web.Request) -> web.StreamResponse:
    serial = request.query.get("serial", "").strip()

    def work(look: Look) -> dict[str, Any]:
        device = look.ask("devices.show", serial=serial) if serial else None
        return {
            "room": "sessions",
            "device": device,
            "serial": serial,
            "targets": _remembered(look, serial) if serial else (),
            "target": request.query.get("target", ""),
            "protocol": request.query.get("protocol", ""),
            "protocols": [
                ("", look.gettext("of the saved target, or the usual one")),
                *zip(PROTOCOLS, PROTOCOLS, strict=True),
            ],
            "lengths": LENGTHS,
        }

    return await show(request, "session_new.html", work)


def _remembered(look: Look, serial: str) -> Sequence[Remembered]:
    """Saved targets first, then those of this person's sessions, newest first."""
    saved = look.ask_or_none("targets.list", serial=serial)
    found = [] if saved is None else saved.items
    chosen = [Remembered(one.name, one.target, one.protocol, True) for one in found]
    known = {(one.target, one.protocol) for one in chosen}
    before = look.ask_or_none("sessions.list", serial=serial, mine=True, limit=SHOWN_AT_ONCE)
    for one in () if before is None else before.items:
        if (one.target, one.protocol) not in known and len(chosen) < REMEMBERED_MAX:
            known.add((one.target, one.protocol))
            chosen.append(Remembered("", one.target, one.protocol, False))
    return chosen


async def _one(request: web.Request) -> web.StreamResponse:
    session_id = request.match_info["session_id"]

    def work(look: Look) -> dict[str, Any]:
        session = look.ask("sessions.show", session_id=session_id)
        own = session.person_id == look.reader.me.id
        return {
            "room": "sessions",
            "session": session,
            "diagnosis": look.ask("sessions.diagnosis", session_id=session_id),
            "own": own,
            "is_web": session.protocol in WEB_PROTOCOLS,
            "may_end": own or look.may("see_sessions", session.company_id),
            "may_save": look.may("reach_any", session.company_id),
            "go": own and "go" in request.query,
            "server": look.services.site.public_url,
        }

    return await show(request, "session.html", work)
