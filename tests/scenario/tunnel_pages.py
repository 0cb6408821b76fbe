"""What a person does to see pages behind routers: opens sessions and tabs, signs in where asked."""

import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import BrowserContext, Page

from firmware_sim.lan.facts import PASSWORD
from firmware_sim.lan.lan import PLC
from tests.scenario.http_api import Api
from tests.scenario.installation import Installation, installed, marked, until

ROUTERS = 3
ROUTER_SERIAL, PLC_SERIAL, SPARE_SERIAL = "1100000001", "1100000002", "1100000003"
WHOLE_ROUTER = "60 of 60 objects, websocket ok, cookie ok"
WHOLE_PLC = "plc websocket ok, cookie ok"
GATEWAY_COOKIE, RELAY_COOKIE, STATE_COOKIE = "fleetgate", "fleetgate-relay", "fleetgate-state"
_LISTENS = "0A"  # as /proc/net/tcp writes it


@dataclass(frozen=True)
class Opened:
    """A session as the API shows it."""

    id: str
    url: str
    host: str

    @property
    def origin(self) -> str:
        return self.url.rstrip("/")


@dataclass(frozen=True)
class Pair:
    """A router's own page, and a machine behind another router."""

    installation: Installation
    router: Opened
    plc: Opened
    sign_in: str  # the cookie of somebody who signed in at the gateway

    @property
    def gateway(self) -> str:
        return str(self.installation.facts()["http_url"])


def open_session(api: Api, serial: str, target: str = "") -> Opened:
    content = {"serial": serial, "target": target, "protocol": "http"}
    made = api.done("POST", "/sessions", content)
    return Opened(made["id"], made["url"], made["host"])


@contextmanager
def paired(folder: Path) -> Iterator[Pair]:
    """A demo with the two sessions, for all tests of a module."""
    with installed(folder, "--demo", str(ROUTERS)) as installation:
        api = installation.api
        plc = open_session(api, PLC_SERIAL, f"{PLC}:80")
        yield Pair(installation, open_session(api, ROUTER_SERIAL), plc, _signed_in(installation))


def _signed_in(installation: Installation) -> str:
    facts = installation.facts()
    content = {"email": facts["admin_email"], "password": facts["admin_password"]}
    answer = installation.api.ask("POST", "/login", content)
    found = re.match(rf"{GATEWAY_COOKIE}=([^;]+);.*HttpOnly", answer.headers["Set-Cookie"])
    assert found is not None, answer
    return found[1]


async def sign_in(page: Page, installation: Installation, **other: str) -> None:
    """At the gateway's form that the page shows; `email` and `password` of somebody else."""
    facts = installation.facts()
    await page.fill("[name=email]", other.get("email", facts["admin_email"]))
    await page.fill("[name=password]", other.get("password", facts["admin_password"]))
    await page.press("[name=password]", "Enter")


async def be_signed_in(context: BrowserContext, pair: Pair) -> None:
    """As after the gateway's own form, which other tests fill in."""
    await context.add_cookies(
        [
            {
                "name": GATEWAY_COOKIE,
                "value": pair.sign_in,
                "url": pair.gateway,
                "httpOnly": True,
                "sameSite": "Lax",
            }
        ]
    )


async def sign_in_at_router(page: Page) -> None:
    """The router's own form; returns when its whole page is there."""
    await page.fill("[name=password]", PASSWORD)
    await page.press("[name=password]", "Enter")
    await page.wait_for_function(f"document.title === '{WHOLE_ROUTER}'")


async def both_shown(context: BrowserContext, pair: Pair) -> tuple[Page, Page]:
    """Two tabs of one person, who is signed in at the gateway: a router's form, and the machine."""
    await be_signed_in(context, pair)
    router, plc = await context.new_page(), await context.new_page()
    await router.goto(pair.router.url + "form")
    await plc.goto(pair.plc.url)
    await plc.wait_for_function(f"document.title === '{WHOLE_PLC}'")
    return router, plc


async def cookies(context: BrowserContext, url: str) -> set[tuple[str, str]]:
    """Names and values that this browser would send there, whether or not scripts see them."""
    return {(one["name"], one["value"]) for one in await context.cookies(url)}


async def cookie(context: BrowserContext, url: str, name: str) -> str:
    """The one value of a cookie; empty when there is none."""
    values = [value for one, value in await cookies(context, url) if one == name]
    assert len(values) <= 1, values
    return values[0] if values else ""


def loopback_ports(installation: Installation) -> list[int]:
    """Where the simulated routers' own servers listen, past everything of ours."""
    lines = marked(installation.mark).items()
    pids = [pid for pid, line in lines if "firmware_sim fleet" in line]
    held = {link.readlink().name for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()}
    ports = []
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = row.split()
        if words[3] == _LISTENS and f"socket:[{words[9]}]" in held:
            ports.append(int(words[1].rpartition(":")[2], 16))
    return ports


def router_port(installation: Installation) -> int:
    """Where the visited router's own page listens, without any tunnel."""
    for port in loopback_ports(installation):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/login", timeout=5) as answer:
                if b"simulated router" in answer.read():
                    return port
        except urllib.error.HTTPError as error:
            error.close()  # the page of a machine
    raise AssertionError("no router was visited")


def relay_log(installation: Installation) -> str:
    return (installation.data / "logs" / "relay.log").read_text(errors="replace")


def insist_nothing_failed(installation: Installation) -> None:
    """No mistake of ours shows in a log, whatever the pages did."""
    assert not installation.tracebacks()
    assert not re.search(r"Traceback|level=ERROR", relay_log(installation))


def until_ended(api: Api, session: Opened) -> str:
    """Why it ended, once it has."""

    def reason() -> Any:
        return api.get(f"/sessions/{session.id}")["ended_because"]

    return str(until(reason, "the session has ended", within_s=5.0))
