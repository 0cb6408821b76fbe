"""An installation without its network: a real store, operations, ingest and jobs, and a clock."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert, select

from gateway.command.verify import verify
from gateway.domain.instants import DAY_MS, MINUTE_MS
from gateway.domain.refusals import Refused
from gateway.domain.rights import GATEWAY, Principal, Role
from gateway.ingest.batch import Incoming, Outcome, Terms, take_batch
from gateway.ingest.intake import read_payload
from gateway.jobs import housekeeping, months, periods, sealing
from gateway.operations import all as all_operations
from gateway.operations.dry_run import TriedOut, try_out
from gateway.operations.joining import join
from gateway.operations.registry import Site, execute, operations
from gateway.operations.ticket_making import TicketSigner
from gateway.people.accounts import make_operator
from gateway.people.memberships import in_force
from gateway.storage.address import Address, is_postgres
from gateway.storage.locks import Tree
from gateway.storage.schema import account, device, device_live, membership, mqtt_login
from gateway.storage.transaction import AnyRow, Transaction
from tests.contract.found_rows import stale_rows
from tests.databases import store_of
from wire import topics
from wire.commands import Answer, encode_answer
from wire.fields import BY_NAME, Value
from wire.heartbeat import (
    Message,
    Origin,
    Receipt,
    Sample,
    decode_receipt,
    encode_message,
)
from wire.join import JoinRequest, decode_join_string
from wire.presence import Up, encode_up

assert all_operations.MODULES
OPERATIONS = {operation.name: operation for operation in operations()}
T = TypeVar("T")

# 2027-01-15 00:00 UTC: a month's turn is 17 days away.
BEGIN_MS = 1_800_000_000_000 - 1_800_000_000_000 % DAY_MS
SITE = Site(
    public_url="http://127.0.0.1",
    join_hosts=("127.0.0.1",),
    join_port=8884,
    mqtt_hosts=("127.0.0.1",),
    mqtt_port=8883,
    ca_digest="0" * 64,
    master_key=bytes(range(32)),
    node="node-1",
    version="0.0.0",
    tickets=TicketSigner("test", Ed25519PrivateKey.generate()),
)


@dataclass(slots=True)
class Router:
    """What a device keeps: its run, its numbers, what was receipted."""

    serial: str
    run: str
    connection: int = 1
    number: int = 0
    base: int = 0  # the highest receipted number; deltas are relative to it
    full: bool = False
    interval_s: int = 60
    receipts: list[Receipt] = field(default_factory=list)

    def restart(self, run: str) -> None:
        """A new life of the counter."""
        self.run, self.number, self.base, self.connection = run, 0, 0, 1

    def message(
        self,
        samples: int = 1,
        *,
        ask: bool = True,
        age_ms: int = 0,
        low: int | None = None,
        values: dict[str, Value] | None = None,
        number: int | None = None,
        base: int | None = None,
        origin: Origin | None = None,
        run: str | None = None,
        dropped: int = 0,
    ) -> bytes:
        """The next samples as sent; `number` names another first sample than the next."""
        first = self.number + 1 if number is None else number
        self.number = max(self.number, first + samples - 1)
        if base is None:
            base = 0 if self.full or self.base >= first else self.base
        made = {BY_NAME[name].id: value for name, value in (values or {"uptime": first}).items()}
        return encode_message(
            Message(
                run or self.run,
                self.run,
                self.connection,
                base,
                first if low is None else low,
                self.interval_s,
                ask,
                dropped,
                origin,
                [Sample(first + i, age_ms, made) for i in range(samples)],
            )
        )

    def take(self, receipt: Receipt) -> None:
        """Learns what is committed."""
        self.receipts.append(receipt)
        if receipt.run == self.run:
            self.full = receipt.full
            last = max((last for _, last in receipt.ranges), default=0)
            self.base = max(self.base, receipt.upto, last)


class World:
    """One installation; everything happens when the test says so."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.findable = True  # whether the rows by which devices are found must be true
        self.now_ms = BEGIN_MS
        self.store = store_of(address, lambda: self.now_ms)
        self._runner = asyncio.Runner()
        self.routers: dict[str, Router] = {}
        self._runs = 0
        self.alive()

    def close(self) -> None:
        self.store.close()
        self._runner.close()

    @property
    def engine(self) -> str:
        return "postgresql" if is_postgres(self.address) else "sqlite"

    def write(self, function: Callable[[Transaction], T], tree: Tree = Tree.SHARED) -> T:
        return self._runner.run(self.store.write(function, tree=tree))

    def read(self, function: Callable[[Transaction], T]) -> T:
        return self._runner.run(self.store.read(function))

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs what a task of the gateway would run."""
        # Not its `run`, which takes and gives back the handling of signals each time.
        return self._runner.get_loop().run_until_complete(work)

    def together(self, functions: list[Callable[[Transaction], Any]]) -> list[Any]:
        """Many callers at once; what each got, exceptions included."""

        async def all_of_them() -> list[Any]:
            return await asyncio.gather(
                *(self.store.write(function) for function in functions), return_exceptions=True
            )

        return self._runner.run(all_of_them())

    # ---- people

    def principal(self, tx: Transaction, person_id: int) -> Principal:
        rows = tx.all(
            select(membership.c.company_id, membership.c.role).where(
                membership.c.person_id == person_id, in_force(tx.now_ms)
            )
        )
        roles = {row.company_id: Role(row.role) for row in rows}
        return Principal(f"user:{person_id}", person_id, person_id == 1, memberships=roles)

    def work(self, name: str, /, *, person: int = 1, **given: Any) -> Callable[[Transaction], Any]:
        """An operation as a function of a transaction."""
        op = OPERATIONS[name]
        read = msgspec.convert(given, op.input)

        def run(tx: Transaction) -> Any:
            return execute(tx, op, self.principal(tx, person), SITE, read)

        return run

    def do(self, name: str, /, *, person: int = 1, **given: Any) -> Any:
        """An operation that must succeed; as plain data."""
        work = self.work(name, person=person, **given)
        return msgspec.to_builtins(self.write(work, OPERATIONS[name].tree))

    def ask(self, name: str, /, *, person: int = 1, **given: Any) -> str:
        """`ok`, or the code of the refusal."""
        try:
            self.do(name, person=person, **given)
        except Refused as refused:
            return refused.code.value
        return "ok"

    def trying(
        self, name: str, /, *, person: int = 1, **given: Any
    ) -> Callable[[Transaction], Any]:
        """A dry run of an operation as a function of a transaction."""
        op = OPERATIONS[name]
        read = msgspec.convert(given, op.input)
        return lambda tx: try_out(tx, op, self.principal(tx, person), SITE, read)

    def dry_run(self, name: str, /, *, person: int = 1, **given: Any) -> Any:
        """What the operation would do; nothing of it is kept."""
        work = self.trying(name, person=person, **given)
        try:
            self.write(work, OPERATIONS[name].tree)
        except TriedOut as tried:
            return msgspec.to_builtins(tried.report)
        raise AssertionError(f"{name} was not given up")

    def company(self, name: str, parent: str | None = None, **more: Any) -> str:
        return str(self.do("companies.create", name=name, parent_id=parent, **more)["id"])

    def grant(self, company_id: str, credits: int, **more: Any) -> None:
        self.do("credits.grant", company_id=company_id, credits=credits, **more)

    def register(self, serial: str, company_id: str, activate: bool | str = "on_contact") -> Any:
        return self.do("devices.register", serial=serial, company_id=company_id, activate=activate)

    # ---- devices

    def router(self, serial: str) -> Router:
        if serial not in self.routers:
            self.routers[serial] = Router(serial, self.new_run())
        return self.routers[serial]

    def new_run(self) -> str:
        self._runs += 1
        return f"run{self._runs:08d}"

    def join(self, serial: str, *, secret: str = "a") -> None:
        """The device joins with a code of its own."""
        self.join_as(serial, 1, secret=secret)

    def join_as(self, serial: str, person: int, *, secret: str = "a") -> None:
        text = self.do("devices.join", person=person, serial=serial)["join"]
        code = decode_join_string(text).code
        request = JoinRequest(code, serial, "00:1E:42:00:00:01", secret * 64, "b" * 64)
        self.write(lambda tx: join(tx, SITE, request, "test"))

    def deliver(self, *payloads: tuple[str, str, bytes]) -> Outcome:
        """`(serial, leaf, payload)` in one batch; the routers get their receipts."""
        incoming = []
        for serial, leaf, payload in payloads:
            body = read_payload(f"fg1/d/{serial}/{leaf}", leaf, payload)
            incoming.append(Incoming(serial, body, self.now_ms))
        terms = Terms("node-1", self.now_ms, 4, 5)
        outcome = self.write(lambda tx: take_batch(tx, incoming, terms))
        for topic, payload in outcome.receipts:
            serial = topic.split("/")[2]
            assert topic == topics.receipt(serial)
            self.router(serial).take(decode_receipt(payload))
        return outcome

    def heartbeat(self, serial: str, samples: int = 1, **more: Any) -> Outcome:
        return self.deliver((serial, "hb", self.router(serial).message(samples, **more)))

    def up(self, serial: str, *, up: bool = True, connection: int | None = None) -> Outcome:
        router = self.router(serial)
        said = Up(router.run, connection or router.connection, up, "0" * 32)
        return self.deliver((serial, "up", encode_up(said)))

    def answer(self, serial: str, answer: Answer) -> Outcome:
        return self.deliver((serial, "ans", encode_answer(answer)))

    # ---- time

    def alive(self, lived_ms: int = 0) -> None:
        self.write(lambda tx: housekeeping.mark_alive(tx, lived_ms))

    def jobs(self) -> None:
        """Every job once, to its end, as the schedule runs them."""
        while (found := self.read(periods.next_recheck)) is not None:
            self._recheck(*found)
        self.settle()
        while self.write(periods.expire_pools):
            pass
        self.write(months.close)
        while self.write(months.roll_up):
            pass
        self.seal()

    def seal(self) -> int:
        """Everything that is in the audit gets its place in the chain; how much that was."""
        count = 0
        while sealed := self.write(sealing.seal).entries:
            count += sealed
        return count

    def _recheck(self, company_id: int, queued_at: int) -> None:
        ids = self.read(lambda tx: periods.unpaid_below(tx, company_id))
        for start in range(0, len(ids), periods.DEVICES_AT_ONCE):
            part = ids[start : start + periods.DEVICES_AT_ONCE]
            self.write(lambda tx: periods.settle_some(tx, part))  # noqa: B023 - done at once
        self.write(lambda tx: periods.recheck_done(tx, company_id, queued_at))

    def settle(self) -> None:
        for _ in range(1_000):
            ids = self.read(periods.due_in_order)
            if not ids or not self.write(partial(periods.settle_due, ids=ids)):
                return
        raise AssertionError("the periods job never comes to its end")

    def live(self, ms: int, *, jobs: bool = True) -> None:
        """Time passes while the server works; jobs come by at the end of it."""
        self.now_ms += ms
        self.alive(lived_ms=ms)
        if jobs:
            self.jobs()

    def outage(self, ms: int) -> None:
        """The server is down meanwhile."""
        assert ms > MINUTE_MS
        self.now_ms += ms
        self.alive()
        self.jobs()

    # ---- what is so

    def device(self, serial: str) -> Any:
        return self.do("devices.show", serial=serial)

    def service(self, serial: str) -> tuple[str, str]:
        shown = self.device(serial)["service"]
        return shown["state"], shown["reason"]

    def row(self, serial: str) -> AnyRow:
        """The newest tenure as stored, whether registered or not."""
        statement = (
            select(device, device_live)
            .join(device_live, device_live.c.device_id == device.c.id)
            .where(device.c.serial == serial, device.c.ended_at.is_(None))
        )
        row = self.read(lambda tx: tx.one(statement))
        assert row is not None
        return row

    def balance(self, name: str) -> int:
        """Of an account by name, or of all whose name begins so."""
        statement = select(account.c.balance).where(account.c.name.startswith(name))
        rows = self.read(lambda tx: tx.all(statement))
        return sum(row.balance or 0 for row in rows)

    def pools(self, company_id: str) -> int:
        return self.balance(f"pool:{company_id}:")

    def prepaid(self, serial: str) -> int:
        return self.balance(f"prepaid:{self.row(serial).id}")

    def ledger(self, **where: Any) -> list[Any]:
        """The newest rows first."""
        return list(self.do("ledger.list", limit=500, **where)["items"])

    def kinds(self, serial: str) -> list[tuple[str, int]]:
        """`(kind, days)` of a serial, oldest first."""
        return [(row["kind"], row["days"]) for row in reversed(self.ledger(serial=serial))]

    def login(self, serial: str) -> str | None:
        statement = select(mqtt_login.c.hash).where(mqtt_login.c.login == serial)
        found = self.read(lambda tx: tx.scalar(statement))
        return None if found is None else str(found)

    def one_person(self, person_id: int, company_id: str, role: str) -> None:
        """Another user with one role; passwords are the API's business."""
        self.write(lambda tx: _add_person(tx, person_id, int(company_id), role))

    def set_company(self, company_id: str, **values: Any) -> None:
        self.do("companies.change", company_id=company_id, **values)

    def check(self) -> None:
        """`fleetgate verify` agrees."""
        self.seal()
        wrong = [f"{c.name}: {text}" for c in verify(self.address) for text in c.findings]
        if self.findable:
            wrong += self.read(stale_rows)
        assert not wrong, "\n".join(wrong)


def _add_person(tx: Transaction, person_id: int, company_id: int, role: str) -> None:
    made = make_operator(tx, f"person{person_id}@example.org", "P", "-")
    assert made == person_id
    tx.run(
        insert(membership),
        {"person_id": made, "company_id": company_id, "role": role, "created_at": tx.now_ms},
    )


INTERNAL = GATEWAY
