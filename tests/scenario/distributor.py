"""Plays a story of companies and credits, through whichever way operations are asked for."""

import asyncio
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from typer.testing import CliRunner

from gateway.api.catalogue import operation_called
from gateway.command.admin import application
from gateway.operations.registry import Operation
from tests.scenario.handmade import Handmade
from tests.scenario.installation import DAY_S, Installation, instant_s, until
from wire import topics

STORY = Path(__file__).with_name("distributor.toml")
SOON_S = 30.0
_CODE = re.compile(r"\((\w+)\)")
_NAME = re.compile(r"^\$(\w+)(?:\+(\d+))?$")


@dataclass(frozen=True, slots=True)
class Said:
    """What an operation answered: its result, or the code of its refusal."""

    result: Any
    code: str


class Way(Protocol):
    """A way of asking for operations."""

    def ask(self, op: Operation, given: dict[str, Any]) -> Said: ...


@dataclass
class ByApi:
    """Over HTTP, with a token."""

    installation: Installation

    def ask(self, op: Operation, given: dict[str, Any]) -> Said:
        left = dict(given)
        path = op.path.format(**{n: quote(str(left.pop(n)), safe="") for n in op.path_fields})
        if op.writes:
            answer = self.installation.api.ask(op.method, path, left)
        else:
            answer = self.installation.api.ask(op.method, f"{path}?{urlencode(left)}")
        return Said(None if answer.code else answer.json, answer.code)


@dataclass
class ByCommand:
    """By `fleetgate admin`, over the socket in the data directory."""

    installation: Installation
    runner: CliRunner = field(default_factory=CliRunner)

    def ask(self, op: Operation, given: dict[str, Any]) -> Said:
        left = dict(given)
        noun, _, verb = op.name.partition(".")
        words = [noun, verb, *(str(left.pop(name)) for name in op.path_fields)]
        for name, value in left.items():
            words += _option(op, name, value)
        words += ["--yes"] if op.irrevocable else []
        done = self.runner.invoke(
            application, [*words, "--json", "--data", str(self.installation.data)]
        )
        assert "Traceback" not in done.output, done.output
        if done.exit_code == 0:
            return Said(json.loads(done.stdout), "")
        found = _CODE.findall(done.output)
        assert found, (words, done.output, done.exception)
        return Said(None, found[-1])


def _option(op: Operation, name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool) and name != "activate":
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", json.dumps(value) if isinstance(value, bool) else str(value)]


@dataclass
class Player:
    """One telling of the story."""

    installation: Installation
    way: Way
    kept: dict[str, str] = field(default_factory=dict)
    routers: dict[str, Handmade] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    begun_on: date = field(init=False)

    def __post_init__(self) -> None:
        self.begun_on = self._today()

    def _today(self) -> date:
        return date.fromisoformat(self.installation.api.status()["at"][:10])

    def play(self) -> None:
        """Every step, in its order."""
        doing: dict[str, Callable[[Any], None]] = {
            "days": self._days,
            "service": self._service,
            "join": self._join,
            "hear": self._hear,
            "restart": self._restart,
            "clock": lambda days: self.installation.move_clock(days * DAY_S),
        }
        for number, step in enumerate(tomllib.loads(STORY.read_text())["step"], 1):
            try:
                if "do" in step:
                    self._do(step)
                for name in doing.keys() & step.keys():
                    doing[name](step[name])
            except AssertionError as error:
                raise AssertionError(f"step {number}, {step}: {error}") from error

    def ask(self, name: str, **given: Any) -> Any:
        """An operation that must succeed."""
        said = self.way.ask(operation_called(name), given)
        assert not said.code, f"{name} {given}: {said.code}"
        return said.result

    def _do(self, step: dict[str, Any]) -> None:
        given = {name: self._meant(value) for name, value in step.get("with", {}).items()}
        said = self.way.ask(operation_called(step["do"]), given)
        assert said.code == step.get("code", ""), said
        if "keep" in step:
            self.kept[step["keep"]] = str(said.result[step.get("of", "id")])

    def _meant(self, value: Any) -> Any:
        found = _NAME.match(value) if isinstance(value, str) else None
        if found is None:
            return value
        if found[1] == "today":
            return (self._today() + timedelta(days=int(found[2] or 0))).isoformat()
        return self.kept[found[1]]

    def _days(self, wanted: dict[str, int]) -> None:
        def held() -> dict[str, int]:
            return {
                name: self.ask("companies.credits", company_id=self.kept[name])["days"]
                for name in wanted
            }

        self._soon(held, wanted)

    def _service(self, wanted: dict[str, str]) -> None:
        def states() -> dict[str, str]:
            found = {}
            for serial in wanted:
                service = self.ask("devices.show", serial=serial)["service"]
                found[serial] = f"{service['state']}/{service['reason']}"
            return found

        self._soon(states, wanted)

    def _soon(self, look: Callable[[], Any], wanted: Any) -> None:
        seen: list[Any] = []

        def so() -> bool:
            seen[:] = [look()]
            return bool(seen[0] == wanted)

        try:
            until(so, str(wanted), within_s=SOON_S)
        except AssertionError as error:
            raise AssertionError(f"{wanted} expected, and it is {seen}") from error

    def _restart(self, kinds: list[str]) -> None:
        # A start long after the last sign of life would make it wary of its clock.
        moved_s = self.installation.now_s()
        api = self.installation.api
        until(
            lambda: instant_s(api.status()["jobs"]["alive"]) > moved_s - DAY_S,
            "the mark of being alive is made",
            within_s=SOON_S,
        )
        self.installation.stop()
        self.installation.start()
        for kind in kinds:
            until(partial(self._booked, kind), f"{kind} is booked", within_s=SOON_S)

    def _booked(self, kind: str) -> Any:
        return self.ask("ledger.list", kind=kind)["items"]

    def _join(self, serials: list[str]) -> None:
        for serial in serials:
            join = self.ask("devices.join", serial=serial)["join"]
            self.routers[serial] = Handmade(self.installation, serial)
            answer = self.routers[serial].ask_to_join(join)
            assert (answer.status, answer.state) == (200, "joined"), answer.body
        for serial in serials:
            self.routers[serial].until_let_in()

    def _hear(self, serials: list[str]) -> None:
        for serial in serials:
            asyncio.run(self._report(serial))

    async def _report(self, serial: str) -> None:
        router = self.routers[serial]
        number = self.numbers[serial] = self.numbers.get(serial, 0) + 1
        async with router.connect() as connection:
            await connection.subscribe(topics.receipt(serial))
            await connection.publish(router.hb, router.heartbeat(number), qos=1)
            await connection.until_received(count=1)

    # ---- what came of it

    def statement(self, company_id: str) -> Any:
        """Of all months in which the story was lived, one line for each child."""
        months = {"from": self.begun_on.isoformat()[:7], "to": self._today().isoformat()[:7]}
        given = {"company_id": company_id, "group_by": "child", **months}
        return self.ask("companies.statement", **given)

    def digest(self) -> list[tuple[str, int, str, str | None, str]]:
        """Every row of the ledger: kind, days, company, serial, payer."""
        names = {one["id"]: one["name"] for one in self.ask("companies.list", limit=500)["items"]}
        rows = self.ask("ledger.list", limit=500)["items"]
        return sorted(
            (
                row["kind"],
                row["days"],
                names[row["company_id"]],
                row["serial"],
                names.get(row["payer_company_id"], ""),
            )
            for row in rows
        )
