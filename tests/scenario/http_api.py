"""The HTTP API as a script uses it: the standard library's client and a token."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

PAGE_MAX = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API said."""

    status: int
    body: bytes
    headers: Message

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a refusal; empty for anything else."""
        return str(self.json.get("code", "")) if self.status >= 400 else ""


@dataclass(frozen=True, slots=True)
class Api:
    """The HTTP API as a script uses it. `path` is under `/api/v1` unless it begins with `//`."""

    url: str
    token: str

    def ask(
        self,
        method: str,
        path: str,
        content: Any = None,
        *,
        key: str | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        place = path[1:] if path.startswith("//") else f"/api/v1{path}"
        sent = {
            "Authorization": f"Bearer {token or self.token}",
            "Accept": "application/json",
            **(headers or {}),
        }
        if key is not None:
            sent["Idempotency-Key"] = key
        body = None
        if content is not None:
            sent["Content-Type"] = "application/json"
            body = json.dumps(content).encode()
        request = urllib.request.Request(self.url + place, body, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return Answer(answer.status, answer.read(), answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read(), error.headers)

    def done(self, method: str, path: str, content: Any = None, **more: Any) -> Any:
        """The answer of a request that must succeed."""
        answer = self.ask(method, path, content, **more)
        assert 200 <= answer.status < 300, (method, path, content, answer.status, answer.body)
        return answer.json

    def get(self, path: str) -> Any:
        return self.done("GET", path)

    def items(self, path: str) -> list[Any]:
        """A whole list, page by page."""
        joint = "&" if "?" in path else "?"
        found: list[Any] = []
        cursor = ""
        while True:
            page = self.get(f"{path}{joint}limit={PAGE_MAX}{cursor}")
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    # What most scenarios begin with

    def company(self, name: str, parent: str | None = None, **more: Any) -> str:
        made = self.done("POST", "/companies", {"name": name, "parent_id": parent, **more})
        return str(made["id"])

    def grant(self, company: str, credits: int, **more: Any) -> Any:
        content = {"company_id": company, "credits": credits, **more}
        return self.done("POST", "/credits/grants", content)

    def credits(self, company: str) -> Any:
        return self.get(f"/companies/{company}/credits")

    def register(self, serial: str, company: str, **more: Any) -> Any:
        content = {"serial": serial, "company_id": company, **more}
        return self.done("POST", "/devices", content)

    def device(self, serial: str) -> Any:
        return self.get(f"/devices/{serial}")

    def devices(self, company: str) -> dict[str, Any]:
        return {row["serial"]: row for row in self.items(f"/devices?company={company}")}

    def ledger(self, **filters: str) -> list[Any]:
        """Rows of the ledger, oldest first."""
        words = "&".join(f"{name}={value}" for name, value in filters.items())
        return self.items(f"/ledger?{words}")[::-1]

    def heartbeats(self, serial: str) -> list[Any]:
        """All stored samples of a device, newest first."""
        return self.items(f"/devices/{serial}/heartbeats")

    def join_code(
        self, company: str, uses: int, *, credits: int | None = None, register: bool = True
    ) -> str:
        """A join string for devices of the company that may not be registered yet."""
        content = {
            "uses": uses,
            "register": register,
            "credits": uses if credits is None else credits,
        }
        made = self.done("POST", f"/companies/{company}/join-codes", content)
        return str(made["join"])

    def status(self) -> Any:
        return self.get("//status")

    def ready(self) -> bool:
        """Whether `/readyz` says so; a gateway that is being started again is not."""
        try:
            return self.ask("GET", "//readyz").status == 200
        except (OSError, urllib.error.URLError):
            return False
