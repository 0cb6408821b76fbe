"""Importing a list of devices, the imports there were, and undoing one."""

from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.domain.importing import COLUMNS
from gateway.domain.refusals import Code, Refused
from gateway.operations.importing import BODY_BYTES_MAX
from gateway.web.acts import Act, act_page
from gateway.web.languages import gettext_noop as _
from gateway.web.reading import Look, show

IMPORTS = "/devices/imports"
SHOWN_AT_ONCE = 50
EXAMPLE = (
    "serial;name;company;tags;activate\r\n"
    "1100000001;Pump 1;;harbour|pump;on_contact\r\n"
    "1100000002;Pump 2;;harbour|pump;later\r\n"
)
UNDO = Act(
    "imports.undo",
    _("Undo the import"),
    _("Undo"),
    "unregister",
    _("Devices that were never heard are taken out again, and their credits go back."),
    hidden=(("import_id", "id"),),
    then=IMPORTS,
    danger=True,
    at_once=True,
)


def add_routes(app: web.Application) -> None:
    """Before those of a device: none of these is a serial."""
    app.router.add_get("/devices/import", _import)
    app.router.add_get("/devices/import/example.csv", _example)
    app.router.add_get(IMPORTS, _imports)
    app.router.add_get(f"{IMPORTS}/{{import_id:[0-9]+}}/undo", _undo)


async def _import(request: web.Request) -> web.StreamResponse:
    def work(look: Look) -> dict[str, Any]:
        if not look.may("unregister"):
            raise Refused(Code.FORBIDDEN, "This needs the right unregister in a company.")
        found = look.companies().companies
        only = str(found[0].id) if len(found) == 1 else ""
        return {
            "room": "devices",
            "columns": COLUMNS,
            "bytes_max": BODY_BYTES_MAX,
            "chosen": look.reader.company_id or only,
        }

    return await show(request, "import.html", work)


async def _example(_: web.Request) -> web.Response:
    """A file to begin with, as spreadsheets read it."""
    headers = {"Content-Disposition": 'attachment; filename="devices.csv"'}
    body = EXAMPLE.encode("utf-8-sig")
    return web.Response(body=body, content_type="text/csv", charset="utf-8", headers=headers)


async def _imports(request: web.Request) -> web.StreamResponse:
    cursor = request.query.get("cursor", "")

    def work(look: Look) -> dict[str, Any]:
        company = look.reader.company_id
        found = look.ask("imports.list", company=company, cursor=cursor, limit=SHOWN_AT_ONCE)
        look.learn_names([one.company_id for one in found.items])
        return {"room": "devices", "found": found}

    return await show(request, "imports.html", work)


async def _undo(request: web.Request) -> web.StreamResponse:
    subject = ("imports.show", {"import_id": request.match_info["import_id"]})
    return await act_page(request, replace(UNDO), "devices", subject)
