"""A visitor without a browser: pages through the relay, `fleetgate connect`, the diagnosis."""

import hashlib
import http.client
import re
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from tests.scenario.http_api import Api
from tests.scenario.installation import ROOT, Installation, end_with_the_tests, until

PAGE_S_MAX = 40.0
CONNECT_S_MAX = 45.0
COOKIE = "fleetgate-relay"
STATE_COOKIE = "fleetgate-state"
_SAID = re.compile(r"<small>Where it stopped: (.*) \(([a-z_]+)\)(, since .* UTC)?</small>")


@dataclass(frozen=True, slots=True)
class Page:
    """What a visitor of a session's host got, and after how long."""

    status: int
    text: str
    cookies: tuple[str, ...]  # as they are sent back
    took_s: float

    @property
    def code(self) -> str:
        """Of the relay's own page; empty for a page of the target's."""
        found = _SAID.search(self.text)
        return found[2] if found else ""

    @property
    def hop(self) -> str:
        """In the page's words."""
        found = _SAID.search(self.text)
        return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class Connected:
    """What `fleetgate connect --stdio` did."""

    code: int
    out: bytes
    error: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Session:
    """A session that was asked for, and the ways into it."""

    installation: Installation
    id: str
    host: str
    port: int

    @property
    def api(self) -> Api:
        return self.installation.api

    def shown(self) -> Any:
        return self.api.get(f"/sessions/{self.id}")

    def diagnosis(self) -> Any:
        return self.api.get(f"/sessions/{self.id}/diagnosis")

    def hop(self, name: str) -> Any:
        """What the diagnosis says of one hop."""
        return next(hop for hop in self.diagnosis()["hops"] if hop["hop"] == name)

    def until_open(self, within_s: float = 20.0) -> "Session":
        until(lambda: self.shown()["state"] == "open", "the link is up", within_s=within_s)
        return self

    def until_found(self, failing: str | None, code: str, within_s: float) -> Any:
        """Waits until the diagnosis names this hop and code; the diagnosis."""

        def look() -> Any:
            found = self.diagnosis()
            return found if (found["failing"], found["code"]) == (failing, code) else None

        try:
            return until(look, f"{failing}: {code}", within_s=within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; but {self.diagnosis()}") from None

    def close(self) -> None:
        self.api.done("DELETE", f"/sessions/{self.id}")

    # Ways in

    def web_ticket(self) -> tuple[str, str]:
        """A web ticket, and the state to which it is bound."""
        state = secrets.token_urlsafe(24)
        asked = {"way": "web", "state": hashlib.sha256(state.encode()).hexdigest()}
        made = self.api.done("POST", f"/sessions/{self.id}/tickets", asked)
        return str(made["ticket"]), state

    def enter(self) -> str:
        """The relay's cookie of a visitor who was let in."""
        ticket, state = self.web_ticket()
        path = f"/.fleetgate/enter?ticket={ticket}&state={state}"
        page = self.page(path, cookie=f"{STATE_COOKIE}={state}")
        assert page.status == 303, (page.status, page.text)
        return next(one for one in page.cookies if one.startswith(f"{COOKIE}="))

    def page(
        self, path: str = "/", *, cookie: str | None = None, source: str = "127.0.0.1"
    ) -> Page:
        """A page as a browser with a cookie asks for it; without one it is let in first.

        From a `source` that was not there before the relay opens a new stream for it.
        """
        sent = {
            "Host": f"{self.host}:{self.port}",
            "Accept": "text/html",
            "Cookie": self.enter() if cookie is None else cookie,
            "Sec-Fetch-Site": "none",
            "Sec-Fetch-Mode": "navigate",
            "Connection": "close",
        }
        began_s = time.monotonic()
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=PAGE_S_MAX, source_address=(source, 0)
        )
        try:
            connection.request("GET", path, headers=sent)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        took_s = time.monotonic() - began_s
        cookies = answer.headers.get_all("Set-Cookie", [])
        return Page(answer.status, text, tuple(one.partition(";")[0] for one in cookies), took_s)


def open_session(
    installation: Installation,
    serial: str,
    target: str = "",
    *,
    protocol: str = "http",
    minutes: int = 60,
) -> Session:
    """Asks for a session; it need not have a link yet."""
    content = {"serial": serial, "protocol": protocol, "minutes": minutes}
    if target:
        content["target"] = target
    made = installation.api.done("POST", "/sessions", content)
    port = int(installation.facts()["relay_port"])
    return Session(installation, made["id"], made["host"], port)


def start_connect(installation: Installation, *words: str) -> subprocess.Popen[bytes]:
    """`fleetgate connect --stdio`, started."""
    facts = installation.facts()
    server = ["--url", facts["http_url"], "--token", facts["admin_token"]]
    command = [sys.executable, "-m", "broker.connect", *server, "--stdio", *words]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=installation.environment,
        preexec_fn=end_with_the_tests,
    )


def connect(installation: Installation, *words: str, sent: bytes = b"") -> Connected:
    """`fleetgate connect --stdio` until it ends by itself."""
    began_s = time.monotonic()
    process = start_connect(installation, *words)
    try:
        out, error = process.communicate(sent, timeout=CONNECT_S_MAX)
    finally:
        process.kill()
    return Connected(process.returncode, out, error.decode(), time.monotonic() - began_s)
