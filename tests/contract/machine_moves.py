"""What goes from one company to another, or from one router to another, as rules of the machine."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from gateway.domain.instants import day_of
from tests.contract.machine_base import SERIALS, MachineBase, reached_at
from tests.contract.machine_rules import TimeRules, amounts, picks, serials

REVERSIBLE = ("grant", "move", "courtesy")


class DeviceMoveRules(MachineBase):
    """Routers sold on, replaced, forgotten; companies that leave."""

    @rule(serial=serials, pick=picks, history=st.sampled_from(["keep", "leave", None]))
    def move_device(self, serial: str, pick: int, history: str | None) -> None:
        self.step.carried.add(serial)
        given = {"company_id": self.company(pick), "history": history}
        self.ask("devices.move", serial=serial, **given)
        self.look()

    @rule(pick=picks, to=picks, history=st.sampled_from(["keep", "leave"]))
    def move_many(self, pick: int, to: int, history: str) -> None:
        self.step.carried.update(SERIALS)
        given = {"from_company_id": self.company(pick), "company_id": self.company(to)}
        self.ask("devices.move-many", **given, history=history)
        self.look()

    @rule(serial=serials, other=serials, join=st.booleans(), undo=st.sampled_from([0, 0, 1, 2]))
    def replace(self, serial: str, other: str, join: bool, undo: int) -> None:
        self.step.carried.update((serial, other))
        done = self.ask("devices.replace", broken=serial, serial=other)
        self.look()
        if done:
            before = self.plain.seq
            self.fair[serial].registered = False  # its tenure is the other's now
            self.hear([serial], 1)  # the old router wakes up: nobody listens
            rows = [row for row in self.plain.seen.values() if row.seq > before]
            assert all(row.serial != serial for row in rows)
            if join and undo == 0 and self.world.login(other) is None:
                self.world.join(other)
        if undo and done:
            self.step.carried.update(SERIALS)
            self.ask("devices.undo-replace", serial=(serial, other)[undo - 1])
            self.look()

    @rule(serial=serials)
    def undo_replace(self, serial: str) -> None:
        self.step.carried.update(SERIALS)
        self.ask("devices.undo-replace", serial=serial)
        self.look()

    @rule(serial=serials, rarely=st.integers(0, 5))
    def forget(self, serial: str, rarely: int) -> None:
        if rarely == 0:
            self.ask("devices.forget", serial=serial)
            self.look()

    @rule(serial=serials, on=st.booleans())
    def switch(self, serial: str, on: bool) -> None:
        path = "/devices/{serial}/switch-" + ("on" if on else "off")
        self.ask(reached_at("POST", path).name, serial=serial)
        self.look()

    @rule(
        pick=picks,
        devices=st.sampled_from(["move", "unregister", "release"]),
        flag=st.booleans(),
        rarely=st.integers(0, 3),
    )
    def close(self, pick: int, devices: str, flag: bool, rarely: int) -> None:
        company_id = self.company(pick)
        node = self.nodes[company_id]
        open_ones = [one for one in self.nodes.values() if not one.closed]
        if rarely or node.parent is None or len(open_ones) < 4:
            return
        self.step.carried.update(SERIALS)
        given = {"devices": devices, "use_parent_credits": flag}
        if self.ask("companies.close", company_id=company_id, **given):
            for other in self.nodes.values():
                if other.parent == company_id:
                    other.parent, other.flag = node.parent, flag
            node.closed, node.flag = True, False
            self.look()
            assert self.plain.held(company_id) == 0
        self.look()


class CreditMoveRules(TimeRules):
    """Credits moved, put into codes, given away, asked for and taken back."""

    @rule(pick=picks, to=picks, days=amounts)
    def move_credits(self, pick: int, to: int, days: int) -> None:
        source, target = self.company(pick), self.company(to)
        there = self.plain.spendable(source, day_of(self.world.now_ms))
        before = self.plain.held(target)
        if self.ask("credits.move", source=source, target=target, days=days):
            self.look()
            assert source != target and there >= days
            assert self.plain.held(target) == before + days

    @rule(pick=picks, days=amounts)
    def make_code(self, pick: int, days: int) -> None:
        name = reached_at("POST", "/credits/codes").name
        made = self.answer(name, company_id=self.company(pick), days=days)
        if made is not None:
            self.codes.append((made["code"], made["id"]))
        self.look()

    @rule(pick=picks, which=picks, twice=st.booleans())
    def redeem(self, pick: int, which: int, twice: bool) -> None:
        if not self.codes:
            return
        code, _ = self.codes[which % len(self.codes)]
        name = reached_at("POST", "/credits/codes/redeem").name
        company = self.company(pick)
        before = self.plain.held(company)
        done = self.ask(name, company_id=company, code=code)
        self.look()
        assert (self.plain.held(company) > before) == done
        if twice and done:
            assert not self.ask(name, company_id=self.company(pick + 1), code=code)
            self.look()

    @rule(serial=serials, pick=picks, to=picks, days=amounts, which=picks)
    def at_once(self, serial: str, pick: int, to: int, days: int, which: int) -> None:
        """What people do in the same moment, at two gateways where there are two."""
        one, other = self.company(pick), self.company(to)
        self.step.by_hand.add(serial)
        self.step.carried.add(serial)
        asked: list[tuple[str, dict[str, Any]]] = [
            ("credits.move", {"source": one, "target": other, "days": days}),
            ("devices.activate", {"serial": serial}),
            ("credits.move", {"source": other, "target": one, "days": days}),
            ("devices.move", {"serial": serial, "company_id": other}),
        ]
        if self.codes:
            code, _ = self.codes[which % len(self.codes)]
            redeem = reached_at("POST", "/credits/codes/redeem").name
            asked += [(redeem, {"code": code, "company_id": to_}) for to_ in (one, other)]
        done = self.ask_at_once(*asked)
        assert not self.codes or not all(done[-2:]), "one code, redeemed twice"
        self.look(at_once=True)

    @rule(which=picks, rarely=st.integers(0, 2))
    def delete_code(self, which: int, rarely: int) -> None:
        if self.codes and rarely == 0:
            _, id_ = self.codes[which % len(self.codes)]
            op = reached_at("DELETE", "/credits/codes/{code_id}")
            self.ask(op.name, code_id=id_)
            self.look()

    @rule(serial=serials, pick=picks, days=st.integers(1, 9), subtree=st.booleans())
    def give_days(self, serial: str, pick: int, days: int, subtree: bool) -> None:
        about: dict[str, Any] = (
            {"company_id": self.company(pick)} if subtree else {"serial": serial}
        )
        self.step.given.update(SERIALS)
        self.ask(reached_at("POST", "/credits/courtesies").name, **about, days=days)
        self.look()

    @rule(which=picks, days=st.sampled_from([None, 1, 10]))
    def reverse(self, which: int, days: int | None) -> None:
        rows = [row for row in self.plain.seen.values() if row.kind in REVERSIBLE]
        if rows:
            self.step.given.update(SERIALS)
            more = {} if days is None else {"days": days}
            id_ = rows[which % len(rows)].id
            self.ask(reached_at("POST", "/credits/reversals").name, transfer=id_, **more)
            self.look()

    @rule(pick=picks, days=amounts, accept=st.sampled_from([True, True, False]))
    def request(self, pick: int, days: int, accept: bool) -> None:
        op = reached_at("POST", "/credits/requests")
        made = self.answer(op.name, company_id=self.company(pick), days=days)
        self.look()
        if made is not None:
            verb = "accept" if accept else "refuse"
            answer = reached_at("POST", "/credits/requests/{request_id}/" + verb).name
            if self.ask(answer, request_id=made["id"]) or not accept:
                assert not self.ask(answer, request_id=made["id"])
            self.look()

    @rule(pick=picks)
    def read_statement(self, pick: int) -> None:
        key = (self.company(pick), self.last_month())
        if self.world.now_ms >= self.latest_ms and key not in self.statements:
            said = self.statement(*key)
            # Until the month is marked as over it says itself that it may change.
            if said is not None and said["complete"]:
                self.statements[key] = said
