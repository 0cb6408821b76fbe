"""The map: where the devices are whose position one may see, and the same as a list."""

from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from gateway.domain.refusals import Code, Refused
from gateway.web.fleet_filters import Asked
from gateway.web.reading import Look, show

PATH = "/map"
PRESENCES = ("online", "late", "offline", "never")
FILTERS = ("q", "presence", "tag")


def add_routes(app: web.Application) -> None:
    """One page; its script draws what stands in its list."""
    app.router.add_get(PATH, _map)


async def _map(request: web.Request) -> web.StreamResponse:
    asked = Asked.of(request.query).filters
    filters = {name: asked[name] for name in FILTERS if name in asked}

    def work(look: Look) -> dict[str, Any]:
        if not look.may("see_position"):
            raise Refused(Code.FORBIDDEN, "This needs the right see_position in a company.")
        company = look.reader.company_id
        found = look.ask("devices.positions", company=company, **filters)
        return {
            "room": "map",
            "filters": filters,
            "found": found,
            "events": look.events(company),
            "narrowed": lambda **more: _address({**filters, **more}),
            "presences": PRESENCES,
            "counted": {
                one: sum(place.presence == one for place in found.items) for one in PRESENCES
            },
        }

    return await show(request, "map.html", work)


def _address(filters: dict[str, str]) -> str:
    kept = {name: value for name, value in filters.items() if value}
    return f"{PATH}?{urlencode(kept)}" if kept else PATH
