"""Devices that joined after the backup that was restored: known again by their records alone."""

from collections.abc import Callable

import pytest

from gateway.domain.instants import DAY_MS
from gateway.domain.refusals import Refused
from gateway.join.sealing import seal
from gateway.operations import recovering
from gateway.operations.joining import join
from gateway.storage.transaction import Transaction
from tests.contract.world import SITE, World
from wire.join import JoinAnswer, JoinRequest, decode_join_string

pytestmark = pytest.mark.either_engine

S = "1700000001"
OTHER = "1700000002"


class Lost:
    """An installation and records of devices that it knew; `forget` is the older backup."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.top = world.company("Top")
        self.low = world.company("Low", self.top)
        world.grant(self.low, 5)

    def joined(self, serial: str = S, secret: str = "a") -> str:
        """Its record, after it joined with a code of the lower company."""
        made = self.world.do(
            "join-codes.create", company_id=self.low, uses=1, register=True, credits=1
        )
        code = decode_join_string(made["join"]).code
        request = JoinRequest(code, serial, "00:1E:42:00:00:01", secret * 64, "b" * 64)
        return self.world.write(lambda tx: join(tx, SITE, request, "test")).record

    def forget(self, serial: str = S) -> None:
        """As if the device had never been registered; nobody was charged for it yet."""
        id_ = self.world.row(serial).id
        self.world.write(lambda tx: _forget(tx, id_))

    def forget_joining(self, serial: str = S) -> None:
        """As if it had been registered and had not joined yet."""
        id_ = self.world.row(serial).id
        statement = "DELETE FROM enrolment WHERE device_id = ?"
        self.world.write(lambda tx: tx.change(statement, (id_,)))
        self.world.write(
            lambda tx: tx.change("UPDATE device SET joined_at = NULL WHERE id = ?", (id_,))
        )

    def status(self, record: str, serial: str = S) -> JoinAnswer | None:
        return self.world.read(lambda tx: recovering.status(tx, SITE, serial, record))

    def recover(self, record: str, serial: str = S) -> JoinAnswer:
        return self.world.write(lambda tx: recovering.recover(tx, SITE, serial, record))

    def refused(self, record: str, serial: str = S) -> bool:
        with pytest.raises(Refused) as first:
            self.recover(record, serial)
        with pytest.raises(Refused) as wrong:
            self.recover("wrong", serial)
        assert str(first.value) == str(wrong.value)
        return True


def _forget(tx: Transaction, id_: int) -> None:
    for table, column in (
        ("account", "device_id"),
        ("enrolment", "device_id"),
        ("device_latest", "device_id"),
        ("device_search", "device_id"),
        ("device_live", "device_id"),
        ("device", "id"),
    ):
        tx.change(f"DELETE FROM {table} WHERE {column} = ?", (id_,))
    tx.change("DELETE FROM mqtt_login WHERE login = ?", (S,))


@pytest.fixture
def lost(world: World) -> Lost:
    return Lost(world)


def test_a_device_that_is_known_is_told_where_it_stands(lost: Lost) -> None:
    answer = lost.status(lost.joined())
    assert answer is not None and answer.state == "joined"


def test_a_device_that_is_unknown_waits_without_login_or_credit_until_it_is_released(
    lost: Lost,
) -> None:
    world = lost.world
    record = lost.joined()
    login = world.login(S)
    lost.forget()
    assert lost.status(record) is None
    assert lost.recover(record).state == "waiting"
    shown = world.device(S)
    assert shown["alerts"] == ["recovered"] and shown["company_id"] == lost.low
    assert world.login(S) is None
    assert world.service(S) == ("off", "not_activated") and world.kinds(S) == []
    # Asked again, it says the same and changes nothing.
    again = lost.status(record)
    assert again is not None and again.state == "waiting"
    assert lost.recover(record).state == "waiting"

    world.do("devices.release", serial=S)
    assert world.login(S) == login
    answer = lost.status(record)
    assert answer is not None and answer.state == "joined"
    assert world.device(S)["alerts"] == []
    assert world.ask("devices.release", serial=S) == "nothing_waits"
    world.heartbeat(S)
    assert world.service(S) == ("active", "paid")
    assert world.kinds(S) == [("activate", 30)]


def test_a_registration_that_is_there_stays_as_it_is(lost: Lost) -> None:
    world = lost.world
    world.register(S, lost.low, "later")
    before = world.row(S).id
    record = lost.joined()
    lost.forget_joining()
    assert lost.recover(record).state == "waiting"
    world.do("devices.release", serial=S)
    assert world.row(S).id == before
    world.heartbeat(S)
    assert world.service(S) == ("off", "not_activated")


def test_only_who_may_manage_the_company_releases(lost: Lost) -> None:
    world = lost.world
    record = lost.joined()
    lost.forget()
    lost.recover(record)
    world.one_person(2, lost.low, "billing")
    world.one_person(3, world.company("Another"), "administrator")
    assert world.ask("devices.release", person=2, serial=S) == "forbidden"
    assert world.ask("devices.release", person=3, serial=S) == "not_found"
    assert world.login(S) is None


def test_without_its_company_it_waits_in_the_nearest_above_that_is_left(lost: Lost) -> None:
    world = lost.world
    record = lost.joined()
    lost.forget()
    world.write(lambda tx: _close(tx, int(lost.low), world.now_ms))
    lost.recover(record)
    assert world.device(S)["company_id"] == lost.top


def test_without_any_company_of_its_own_it_is_refused(lost: Lost) -> None:
    world = lost.world
    record = lost.joined()
    lost.forget()
    world.write(lambda tx: _close(tx, int(lost.low), world.now_ms))
    world.write(lambda tx: _close(tx, int(lost.top), world.now_ms))
    assert lost.refused(record)


def _close(tx: Transaction, number: int, now_ms: int) -> None:
    """Another company has its number now, as after a restore it may."""
    tx.change("UPDATE company SET created_at = ? WHERE id = ?", (now_ms + 1, number))


def removed(lost: Lost) -> None:
    lost.world.do("devices.unregister", serial=S)


def removed_and_registered_again(lost: Lost) -> None:
    removed(lost)
    lost.world.live(100 * DAY_MS)
    lost.world.register(S, lost.low)


def sold(lost: Lost) -> None:
    removed(lost)
    lost.world.live(100 * DAY_MS)
    lost.world.register(S, lost.world.company("Buyer"))


def replaced(lost: Lost) -> None:
    lost.joined(secret="c")
    lost.world.do("devices.release", serial=S)


def registered_elsewhere(lost: Lost) -> None:
    lost.forget()
    lost.world.register(S, lost.world.company("Elsewhere"))


@pytest.mark.parametrize(
    "since", [removed, removed_and_registered_again, sold, replaced, registered_elsewhere]
)
def test_an_old_record_brings_nothing_back(lost: Lost, since: Callable[[Lost], None]) -> None:
    record = lost.joined()
    lost.world.now_ms += 1_000
    since(lost)
    before = lost.world.login(S)
    assert lost.refused(record)
    assert lost.world.login(S) == before
    assert lost.world.ask("devices.release", serial=S) in ("nothing_waits", "not_found")


def test_a_record_that_is_no_record_gets_the_same_answer(lost: Lost) -> None:
    record = lost.joined()
    lost.forget()
    for wrong in ("", "A", record[:-4], record[:-8] + "AAAAAAA=", record + "A" * 4, "é"):
        assert lost.refused(wrong)
    assert lost.refused(record, OTHER)
    for made in (b"{}", b"not JSON", b'{"serial":"' + S.encode() + b'"}'):
        sealed = seal(SITE.master_key, made, bound_to=S)
        assert lost.refused(sealed.hex())


def test_of_two_that_were_enrolled_the_later_record_counts(lost: Lost) -> None:
    world = lost.world
    first = lost.joined()
    world.now_ms += 1_000
    later = lost.joined(secret="c")
    world.do("devices.release", serial=S)
    lost.forget()
    assert lost.recover(first).state == "waiting"
    assert lost.recover(later).state == "waiting"
    assert lost.refused(first)
    world.do("devices.release", serial=S)
    answer = lost.status(later)
    assert answer is not None and answer.state == "joined"


def test_joining_anew_needs_no_release(lost: Lost) -> None:
    world = lost.world
    record = lost.joined()
    lost.forget()
    lost.recover(record)
    lost.joined()
    assert world.login(S) is not None and world.device(S)["alerts"] == []
    assert world.ask("devices.release", serial=S) == "nothing_waits"


def test_no_code_of_another_company_takes_it_over_meanwhile(lost: Lost) -> None:
    world = lost.world
    record = lost.joined()
    lost.forget()
    lost.recover(record)
    lost.low = world.company("Thief")
    world.grant(lost.low, 1)
    with pytest.raises(Refused):
        lost.joined(secret="d")
    world.do("devices.release", serial=S)
    answer = lost.status(record)
    assert answer is not None and answer.state == "joined"
