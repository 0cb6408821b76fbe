"""The plan `daily` against the plainest model of it: a set of days for each device, and a sum."""

from random import Random

import pytest
from sqlalchemy import func, select

from gateway.domain.daily import owed_of
from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS, day_of
from gateway.storage.schema import device, heartbeat, monitored_day
from gateway.storage.transaction import Transaction
from tests.contract.world import World

pytestmark = pytest.mark.either_engine

SERIALS = [f"daily-{number}" for number in range(4)]
STEPS = 60
GRACE_DAYS = 2


class Model:
    """What must be so, whatever happened."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.top = world.company("Top")
        self.mine = world.company("Mine", self.top, plan="daily", use_parent_credits=True)
        self.low = world.company("Low", self.mine, plan="daily", use_parent_credits=True)
        for company in (self.mine, self.low):
            world.set_company(company, grace_days=GRACE_DAYS)
        for number, serial in enumerate(SERIALS):
            world.register(serial, self.low if number % 2 else self.mine)
            world.join(serial)
        self.ids = {serial: world.row(serial).id for serial in SERIALS}
        self.stored: dict[str, set[int]] = {serial: set() for serial in SERIALS}
        self.granted = 0
        self.unwanted: set[str] = set()

    # ---- what happens

    def grant(self, random: Random) -> None:
        days = random.randint(1, 6)
        company = random.choice([self.top, self.mine, self.low])
        self.world.do("credits.grant", company_id=company, days=days, free=random.random() < 0.3)
        self.granted += days

    def hear(self, random: Random) -> None:
        heard = random.sample(SERIALS, random.randint(1, len(SERIALS)))
        sent = [(one, "hb", self.world.router(one).message(random.randint(1, 3))) for one in heard]
        before = self.world.read(_stored)
        self.world.deliver(*sent, *random.sample(sent, random.randint(0, len(sent))))
        after = self.world.read(_stored)
        for serial in heard:
            id_ = self.ids[serial]
            if after.get(id_, 0) > before.get(id_, 0):
                self.stored[serial].add(day_of(self.world.now_ms))
                assert serial not in self.unwanted

    def switch(self, random: Random) -> None:
        serial = random.choice(SERIALS)
        verb = "on" if serial in self.unwanted else "off"
        self.world.do(f"devices.switch-{verb}", serial=serial)
        self.unwanted ^= {serial}

    def pass_time(self, random: Random) -> None:
        step_ms = random.choice([MINUTE_MS, HOUR_MS, 7 * HOUR_MS, DAY_MS, DAY_MS, 2 * DAY_MS])
        if random.random() < 0.08:
            self.world.now_ms -= step_ms  # the clock is set back
            return
        self.world.live(step_ms, jobs=random.random() < 0.8)

    # ---- what is so

    def look(self) -> None:
        taken = 0
        for serial, id_ in self.ids.items():
            counted, owed = self.world.read(lambda tx: _days(tx, id_))  # noqa: B023 - done at once
            assert len(owed) == len(set(owed)), f"{serial} owes a day twice: {owed}"
            assert not counted & set(owed), f"{serial} owes what it has paid"
            assert counted | set(owed) == self.stored[serial], serial
            assert len(owed) <= GRACE_DAYS, f"{serial} owes {owed}"
            state, reason = self.world.service(serial)
            assert reason != "grace" or owed, f"{serial} is in grace and owes nothing"
            assert (reason == "switched_off") == (serial in self.unwanted)
            assert state != "unpaid" or serial not in self.unwanted
            taken += len(counted)
        held = sum(self.world.pools(company) for company in (self.top, self.mine, self.low))
        assert held == self.granted - taken


def _stored(tx: Transaction) -> dict[int, int]:
    statement = select(heartbeat.c.device_id, func.count()).group_by(heartbeat.c.device_id)
    return {id_: int(count) for id_, count in tx.all(statement)}


def _days(tx: Transaction, id_: int) -> tuple[set[int], tuple[int, ...]]:
    rows = tx.all(select(monitored_day).where(monitored_day.c.device_id == id_))
    assert all(row.transfer_id is not None for row in rows)
    owed = tx.scalar(select(device.c.owed_days).where(device.c.id == id_))
    return {row.day for row in rows}, owed_of(owed)


@pytest.mark.parametrize("seed", range(4))
def test_each_heard_day_is_paid_once_or_owed(world: World, seed: int) -> None:
    random = Random(seed)
    model = Model(world)
    for _ in range(STEPS):
        happens = random.choices(
            (model.hear, model.pass_time, model.grant, model.switch), weights=(5, 5, 1, 1)
        )[0]
        happens(random)
        model.look()
    world.jobs()
    world.check()
