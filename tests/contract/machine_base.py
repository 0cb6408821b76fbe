"""An installation under test with its plain model: what the machine's rules are made with."""

import asyncio
from typing import Any

import msgspec
from hypothesis.stateful import RuleBasedStateMachine

from gateway.api.openapi import errors_of
from gateway.domain.refusals import Code, Refused
from gateway.operations.registry import Operation
from gateway.storage.store import Store
from gateway.storage.transaction import AnyRow, Transaction
from tests.contract.figures import figures, newest_tenures
from tests.contract.machine_fair import Fair, Touched
from tests.contract.plain_ledger import Company, PlainLedger, accounts_of, rows_after
from tests.contract.world import OPERATIONS, World
from tests.databases import Databases, store_of

SERIALS = [f"machine-{number}" for number in range(5)]
COMPANIES_MAX = 7


def reached_at(method: str, path: str) -> Operation:
    """The operation of an address."""
    found = [op for op in OPERATIONS.values() if (op.method, op.path) == (method, path)]
    assert found, f"there is no operation at {method} {path}"
    return found[0]


class MachineBase(RuleBasedStateMachine):
    """After each step the ledger agrees with itself, with the model, and with what is fair."""

    databases: Databases

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.databases.make())
        self.stores = self._stores()
        self.nodes: dict[str, Company] = {}
        self.plain = PlainLedger(self.nodes)
        self.fair = {serial: Fair() for serial in SERIALS}
        self.step = Touched()
        self.latest_ms = self.world.now_ms
        self.codes: list[tuple[str, str]] = []  # the code, its id
        self.statements: dict[tuple[str, str], Any] = {}
        self.by_day: set[str] = set()  # devices that were ever charged by the day
        for parent in (None, 0, 1, 2):
            self.create(None if parent is None else list(self.nodes)[parent])
        # As within a minute of every start: what lies before its first month is over.
        self.world.jobs()

    def teardown(self) -> None:
        try:
            self.world.jobs()
            self.look()
            self.same_statements()
            self.world.check()
        finally:
            for store in self.stores[1:]:
                store.close()
            self.world.store = self.stores[0]
            self.world.close()
            self.databases.drop(self.world.address)

    def _stores(self) -> list[Store]:
        """Of one gateway or, where there can be two, of each."""
        if self.world.engine == "sqlite":
            return [self.world.store]
        second = store_of(self.world.address, lambda: self.world.now_ms)
        return [self.world.store, second]

    def start_again(self) -> None:
        """Every gateway ends and comes back; nothing is kept but the database."""
        for store in self.stores:
            store.close()
        self.world.store = store_of(self.world.address, lambda: self.world.now_ms)
        self.stores = [self.world.store]
        self.stores = self._stores()

    # ---- asking

    def ask(self, name: str, /, **given: Any) -> bool:
        """Whether it was done; a refusal must be one that the operation declares."""
        return self.answer(name, **given) is not None

    def answer(self, name: str, /, **given: Any) -> Any:
        """What it said; None when it was refused with one of its own codes."""
        try:
            said = self.world.do(name, **given)
            # What an engine adds up must be the number that the operation announces.
            msgspec.convert(said, OPERATIONS[name].result)
            return said
        except Refused as refused:
            self.insist_declared(name, refused.code)
            return None

    def insist_declared(self, name: str, code: Code) -> None:
        declared = {*errors_of(OPERATIONS[name]), Code.NOT_FOUND}
        assert code in declared, f"{name} refuses with {code}, which it does not declare"

    def company(self, pick: int) -> str:
        return list(self.nodes)[pick % len(self.nodes)]

    def create(self, parent: str | None) -> None:
        flag = parent is not None
        name = f"C{len(self.nodes)}"
        made = self.answer("companies.create", name=name, parent_id=parent, use_parent_credits=flag)
        if made is not None:
            self.nodes[made["id"]] = Company(parent)
            self.nodes[made["id"]].flag = flag

    def hear(self, heard: list[str], samples: int) -> None:
        """One batch, some of it twice."""
        self.step.by_contact |= set(heard)
        sent = [(one, "hb", self.world.router(one).message(samples, low=1)) for one in heard]
        self.world.deliver(*sent, *sent[:2])
        for serial in heard:
            self.fair[serial].heard(self.world.now_ms)
        self.look()

    def ask_at_once(self, *asked: tuple[str, dict[str, Any]]) -> list[bool]:
        """Operations at the same time, of each gateway some; which of them were done."""
        works = [
            (self.stores[n % len(self.stores)], self.world.work(name, **given), OPERATIONS[name])
            for n, (name, given) in enumerate(asked)
        ]

        async def all_of_them() -> list[Any]:
            calls = (store.write(work, tree=op.tree) for store, work, op in works)
            return await asyncio.gather(*calls, return_exceptions=True)

        answers = self.world.wait(all_of_them())
        for (name, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, Refused):
                self.insist_declared(name, answer.code)
            elif isinstance(answer, BaseException):
                raise answer
        return [not isinstance(answer, Refused) for answer in answers]

    # ---- what must be so

    def look(self, *, at_once: bool = False) -> None:
        """Everything equal to the model, and fair."""
        self._sums()
        rows, accounts, tenures = self.world.read(self._what_is_there)
        self.plain.take(rows, accounts, at_once=at_once)
        self.latest_ms = max(self.latest_ms, self.world.now_ms)
        for row in tenures:
            if row.serial in self.fair:
                self._fairly(row)
        self.step.clear()

    def _what_is_there(self, tx: Transaction) -> tuple[Any, Any, Any]:
        return rows_after(tx, self.plain.seq), accounts_of(tx), newest_tenures(tx)

    def _sums(self) -> None:
        found = self.world.read(figures)
        assert found["stored"] + found["sinks"] == found["issued"]
        assert found["negative"] == found["prepaid_wrong"] == found["twice"] == 0, found

    def _fairly(self, row: AnyRow) -> None:
        serial = row.serial
        fair = self.fair[serial]
        if (row.id, bool(row.registered)) != (fair.device_id, fair.registered):
            # Another registration begins or ends: nothing is owed from before.
            self.fair[serial] = fair = Fair()
            fair.device_id, fair.registered = row.id, bool(row.registered)
            if serial in self.step.by_contact:
                fair.heard_ms = self.world.now_ms
            if serial in self.step.carried:
                fair.heard_ms = row.last_heard_at
                fair.last = None if row.last_end is None else (row.last_start, row.last_end)
                if row.grace_from is not None:  # what was served of it goes along
                    served_ms = min(self.world.now_ms, row.grace_until) - row.grace_from
                    fair.grace_ms = max(0, served_ms)
        if self.nodes[str(row.company_id)].was_daily:
            self.by_day.add(serial)
        sure = self.world.now_ms >= self.latest_ms and serial not in self.by_day
        fair.look(serial, row, self.world.now_ms, self.step, sure=sure)

    def same_statements(self) -> None:
        """What was said of a month that is over is said for ever."""
        for (company, month), said in self.statements.items():
            assert self.statement(company, month) == said, f"{company} in {month}"

    def statement(self, company: str, month: str) -> Any:
        name = reached_at("GET", "/companies/{company_id}/statement").name
        return self.answer(name, company_id=company, **{"from": month, "to": month})
