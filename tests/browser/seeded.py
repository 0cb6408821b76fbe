"""A small fleet for pages: a tree of companies, devices in every state, people of every role."""

from typing import Any

from sqlalchemy import select, update

from gateway.storage.schema import device
from gateway.storage.transaction import Transaction
from tests.api_server import ApiServer, everything_works
from tests.relay_row import one_relay

HOSTILE = "<img src=x onerror=alert(1)> \u202egnol \u2066x 🚚 'q\" " + "y" * 120
CHILD = {"email": "carla@example.org", "name": "Carla", "password": "correct horse battery 2"}


async def seed(server: ApiServer) -> dict[str, Any]:
    """Ids by name: `top`, `low`, `side`, `serial` and so on."""
    everything_works(server)
    top = await server.company("Nordlift GmbH", reference="K-17")
    low = await server.company("Hafen Ost", parent_id=top, use_parent_credits=True)
    side = await server.company("Aufzüge <img src=x onerror=alert(1)> 🚚 'q\"", parent_id=top)
    await server.done("POST", "/api/v1/credits/grants", {"company_id": top, "credits": 50})
    moving = {"source": top, "target": side, "credits": 7, "note": HOSTILE}
    moved = await server.done("POST", "/api/v1/credits/moves", moving)
    coding = {"company_id": top, "credits": 2, "comment": HOSTILE}
    code = await server.done("POST", "/api/v1/credits/codes", coding)
    asking = {"company_id": low, "credits": 1, "note": HOSTILE}
    request = await server.done("POST", "/api/v1/credits/requests", asking)
    price = {"per_credit": "1.85", "currency": "EUR", "from": "2020-01-01"}
    await server.done("PUT", f"/api/v1/companies/{low}/prices", price)
    for number in range(9):
        made = {
            "serial": f"11000000{number:02}",
            "company_id": (top, low, side)[number % 3],
            "name": HOSTILE if number == 4 else f"Crane {number}",
            "alias": f"crane-{number}",
            "tags": ["port", HOSTILE[:38]][: number % 3],
            "notes": HOSTILE * 4,
            "activate": True if number % 4 != 3 else "later",
        }
        await server.done("POST", "/api/v1/devices", made)
    listed = {"company_id": low, "csv": f"serial,name\n1100000021,{HOSTILE[:20]}\n"}
    listed |= {"activate": "later", "file_name": "pumps <b>.csv"}
    imported = await server.done("POST", "/api/v1/devices/import", listed)
    member = {**CHILD, "role": "administrator"}
    carla = await server.done("POST", f"/api/v1/companies/{low}/members", member)
    invited = {"email": "ines@example.org", "company_id": low, "role": "basic"}
    invitation = await server.done("POST", "/api/v1/invitations", invited)
    session = await _session(server, "1100000001")
    (own,) = [
        one
        for one in (await server.done("GET", f"/api/v1/companies/{top}/members"))["items"]
        if one["person_id"] == "1"
    ]
    saved = {"serial": "1100000001", "name": "plc", "target": "10.0.0.7:80", "protocol": "http"}
    target = await server.done("POST", "/api/v1/targets", saved)
    return {
        "code": code["id"],
        "import": imported["id"],
        "member": carla["id"],
        "membership": own["id"],
        "operation": moved["operation_id"],
        "person": carla["person_id"],
        "request": request["id"],
        "session": session,
        "target": target["id"],
        "transfer": moved["transfers"][0]["id"],
        "top": top,
        "low": low,
        "side": side,
        "serial": "1100000001",
        "hostile": "1100000004",
        "link": invitation.get("link", ""),
    }


async def _session(server: ApiServer, serial: str) -> str:
    """A session to a device that has joined, by the word of the database alone."""

    def joined(tx: Transaction) -> None:
        one_relay(tx)
        this = select(device.c.id).where(device.c.serial == serial)
        tx.lock_devices(this)
        tx.run(update(device).where(device.c.serial == serial).values(joined_at=tx.now_ms))

    await server.store.write(joined)
    wanted = {"serial": serial, "protocol": "ssh", "reason": "<b>service</b> 🚚"}
    return str((await server.done("POST", "/api/v1/sessions", wanted))["id"])
