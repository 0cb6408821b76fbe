"""Two gateways at one database do the same thing at the same moment."""

from collections import Counter
from functools import partial
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select

from gateway.api.idempotency import Answers, Kept
from gateway.domain.ledger import operation_id
from gateway.domain.refusals import Refused
from gateway.ingest.sender import claim
from gateway.jobs import housekeeping, periods, presence
from gateway.operations.joining import join
from gateway.operations.logins import set_login
from gateway.people import sign_ins
from gateway.storage.schema import (
    account,
    company_path,
    device,
    installation,
    join_code,
    mqtt_login,
    outage,
    outbox,
    presence_change,
    sign_in,
    transfer,
)
from gateway.storage.transaction import Transaction
from tests.contract.gateways import TwoGateways, Work
from tests.contract.world import SITE
from wire.join import JoinRequest, decode_join_string

S = "1100000001"


def counted(two: TwoGateways, table: Any, *where: Any) -> int:
    asked = select(func.count()).select_from(table).where(*where)
    return int(two.world.read(lambda tx: tx.scalar(asked)))


def test_the_last_credits_of_a_pool_above(two: TwoGateways) -> None:
    world = two.world
    top = world.company("Top")
    below = [world.company(f"C{n}", top, use_parent_credits=True) for n in range(3)]
    world.grant(top, 5)
    serials = [f"racer-{number:02}" for number in range(24)]
    for number, serial in enumerate(serials):
        world.register(serial, below[number % 3], activate="later")
    told = Counter(two.ask_at_once("devices.activate", [{"serial": one} for one in serials]))
    assert told == {"ok": 5, "credits_insufficient": 19}
    assert world.pools(top) == 0 and len(world.ledger(kind="activate")) == 5


def test_a_limit_from_above_holds_for_both(two: TwoGateways) -> None:
    world = two.world
    top = world.company("Top")
    limited = world.company("Limited", top, use_parent_credits=True, parent_limit=3)
    below = [world.company(f"C{n}", limited, use_parent_credits=True) for n in range(2)]
    world.grant(top, 20)
    serials = [f"racer-{number:02}" for number in range(12)]
    for number, serial in enumerate(serials):
        world.register(serial, below[number % 2], activate="later")
    told = Counter(two.ask_at_once("devices.activate", [{"serial": one} for one in serials]))
    assert told == {"ok": 3, "parent_limit_reached": 9}


def test_one_device_is_activated_once(two: TwoGateways) -> None:
    world = two.world
    acme = world.company("Acme")
    world.grant(acme, 9)
    world.register(S, acme, activate="later")
    told = Counter(two.ask_at_once("devices.activate", [{"serial": S}] * 6))
    assert told == {"ok": 1, "already_active": 5}
    assert world.pools(acme) == 8 * 30


def test_the_same_key_at_both_is_one_operation(two: TwoGateways) -> None:
    world = two.world
    acme = world.company("Acme")
    answers = Answers(bytes(32))
    grant = world.work("credits.grant", company_id=acme, credits=1)

    def asked(body: bytes) -> Work:
        def work(tx: Transaction) -> bytes:
            digest = answers.request_hash("POST", "/credits/grants", body)
            kept = answers.claim(tx, "user:1", "key", digest)
            if kept is not None:
                return kept.body
            answer = Kept(201, msgspec.json.encode(grant(tx)))
            answers.keep(tx, "user:1", "key", answer)
            return answer.body

        return work

    id_ = operation_id("user:1", "key")
    results = two.at_once([asked(b"{}")] * 8, operation_id=id_)
    assert len(set(results)) == 1 and isinstance(results[0], bytes)
    assert world.pools(acme) == 30
    (other,) = two.at_once([asked(b"[]")], operation_id=id_)
    assert isinstance(other, Refused) and other.code == "idempotency_conflict"


def test_a_refusal_under_a_key_leaves_it_to_the_next(two: TwoGateways) -> None:
    world = two.world
    acme = world.company("Acme")
    world.register(S, acme, activate="later")
    answers = Answers(bytes(32))
    activate = world.work("devices.activate", serial=S)

    def work(tx: Transaction) -> bool:
        """Whether it was a replay."""
        if answers.claim(tx, "user:1", "key", b"x" * 32) is not None:
            return True
        answers.keep(tx, "user:1", "key", Kept(200, msgspec.json.encode(activate(tx))))
        return False

    refused = two.at_once([work] * 4)
    assert all(isinstance(one, Refused) for one in refused)
    world.grant(acme, 4)
    assert sorted(two.at_once([work] * 4)) == [False, True, True, True]


def test_crossing_moves_never_make_a_cycle(two: TwoGateways) -> None:
    world = two.world
    a, b = world.company("A"), world.company("B")
    below = world.company("Below", a)
    for _ in range(20):
        moves = [
            {"company_id": a, "parent_id": b},
            {"company_id": b, "parent_id": below},
        ]
        told = two.ask_at_once("companies.move", moves)
        assert sorted(told) == ["ok", "would_make_a_cycle"]
        for one in (a, b):
            if world.do("companies.show", company_id=one)["parent_id"] is not None:
                world.do("companies.move", company_id=one)
        assert counted(two, company_path) == 4


def test_a_serial_is_registered_once(two: TwoGateways) -> None:
    world = two.world
    companies = [world.company(f"C{n}") for n in range(2)]
    for number in range(10):
        serial = f"twice-{number:02}"
        given = [
            {"serial": serial, "company_id": companies[n % 2], "alias": f"same-{number}-{n}"}
            for n in range(4)
        ]
        told = Counter(two.ask_at_once("devices.register", given))
        assert told == {"ok": 1, "serial_unavailable": 3}
        assert counted(two, device, device.c.serial == serial) == 1


def test_an_alias_is_given_once(two: TwoGateways) -> None:
    acme = two.world.company("Acme")
    given = [{"serial": f"alias-{n:02}", "company_id": acme, "alias": "same"} for n in range(6)]
    told = Counter(two.ask_at_once("devices.register", given))
    assert told == {"ok": 1, "name_taken": 5}


def asking(code: str, serial: str, secret: str = "a") -> Work:
    request = JoinRequest(code, serial, "00:1E:42:00:00:01", secret * 64, "b" * 64)
    return lambda tx: join(tx, SITE, request, "test").state


def code_for(two: TwoGateways, **given: Any) -> str:
    acme = two.world.company("Acme")
    made = two.world.do("join-codes.create", company_id=acme, register=True, **given)
    return decode_join_string(made["join"]).code


def test_a_device_that_asks_both_joins_once(two: TwoGateways) -> None:
    code = code_for(two, uses=9)
    assert two.at_once([asking(code, S)] * 6) == ["joined"] * 6
    assert two.world.read(lambda tx: tx.scalar(select(join_code.c.uses_left))) == 8
    assert counted(two, device) == 1


def test_a_join_code_admits_no_more_than_it_says(two: TwoGateways) -> None:
    code = code_for(two, uses=3, credits=2)
    told = two.at_once([asking(code, f"many-{n:02}") for n in range(10)])
    assert told.count("joined") == 3
    assert all(isinstance(one, Refused) for one in told if one != "joined")
    on_contact = counted(two, device, device.c.start == "on_contact")
    assert (counted(two, device), on_contact) == (3, 2)


def test_versions_of_logins_have_no_gap_and_no_double(two: TwoGateways) -> None:
    def work(number: int) -> Work:
        return lambda tx: set_login(tx, f"device-{number:02}", "hash")

    first = two.at_once([work(number) for number in range(20)])
    again = two.at_once([work(number) for number in range(20)])
    assert sorted(first) == list(range(min(first), min(first) + 20))
    assert sorted(again) == list(range(max(first) + 1, max(first) + 21))
    newest = two.world.read(lambda tx: tx.scalar(select(func.max(mqtt_login.c.version))))
    assert newest == max(again)


def test_a_new_pool_is_made_once(two: TwoGateways) -> None:
    acme = two.world.company("Acme")
    for day in ("2027-05-01", "2027-05-02", "2027-05-03"):
        given = [{"company_id": acme, "credits": 1, "expires_on": day}] * 6
        assert two.ask_at_once("credits.grant", given) == ["ok"] * 6
    assert counted(two, account, account.c.kind == "pool") == 3
    assert two.world.pools(acme) == 18 * 30


def served(two: TwoGateways, serials: list[str]) -> None:
    world = two.world
    acme = world.company("Acme")
    world.grant(acme, len(serials))
    for serial in serials:
        world.register(serial, acme)
        world.join(serial)
        world.up(serial)
        world.heartbeat(serial)


def test_a_command_is_sent_once(two: TwoGateways) -> None:
    serials = [f"told-{number:02}" for number in range(8)]
    served(two, serials)
    for serial in serials * 3:
        two.world.do("commands.send", serial=serial, verb="refresh")

    def work(tx: Transaction) -> list[tuple[str, bool]]:
        found = claim(tx, "node-1", SITE.master_key, SITE.tickets)
        return [(one.id, one.payload is not None) for one in found]

    sent: list[tuple[str, bool]] = []
    while counted(two, outbox, outbox.c.sent_at.is_(None)):
        for found in two.at_once([work] * 6):
            assert isinstance(found, list), found
            sent += found
    assert len({id_ for id_, _ in sent}) == len(sent) == 24
    assert all(made for _, made in sent)


def test_commands_end_once_whoever_looks(two: TwoGateways) -> None:
    serials = [f"told-{number:02}" for number in range(4)]
    served(two, serials)
    for serial in serials * 3:
        two.world.do("commands.send", serial=serial, verb="refresh")
    two.world.now_ms += 3_600_000
    ids = two.world.read(housekeeping.unanswered)
    ended = two.at_once([lambda tx: housekeeping.end_commands(tx, ids)] * 6)
    assert sum(ended) == len(ids) == 12


def test_one_row_for_each_change_of_presence(two: TwoGateways) -> None:
    serials = [f"silent-{number:02}" for number in range(12)]
    served(two, serials)
    clock_ms = two.world.now_ms + 10_000_000
    changes: list[int] = [1]
    while any(changes):
        changes = two.at_once([lambda tx: presence.sweep(tx, "node-1", clock_ms)] * 6)
    for state in ("late", "offline"):
        told = counted(two, presence_change, presence_change.c.presence == state)
        assert told == (12 if state == "offline" else 0), state


def test_a_period_that_is_over_is_extended_once(two: TwoGateways) -> None:
    serials = [f"ended-{number:02}" for number in range(12)]
    served(two, serials)
    acme = two.world.device(serials[0])["company_id"]
    two.world.grant(acme, 7)
    two.world.now_ms += 30 * 86_400_000
    while ids := two.world.read(periods.due_in_order):
        two.at_once([partial(periods.settle_due, ids=ids)] * 6)
    assert two.world.pools(acme) == 0
    assert counted(two, transfer, transfer.c.kind == "extend") == 7


def test_lots_expire_once(two: TwoGateways) -> None:
    acme = two.world.company("Acme")
    for n in range(5):
        two.world.grant(acme, 1, expires_on=f"2027-02-0{n + 1}")
    two.world.now_ms += 40 * 86_400_000
    done = two.at_once([periods.expire_pools] * 6)
    assert sum(done) == 5 == counted(two, transfer, transfer.c.kind == "expire")


def test_an_outage_is_noted_once(two: TwoGateways) -> None:
    two.world.now_ms += 3_600_000
    two.at_once([housekeeping.mark_alive] * 6)
    assert counted(two, outage) == 1
    assert counted(two, installation, installation.c.key == "alive_at") == 1


@pytest.mark.parametrize("already", [0, 49])
def test_a_person_has_so_many_sign_ins_and_no_more(two: TwoGateways, already: int) -> None:
    for number in range(already):
        two.world.write(partial(sign_ins.begin, person_id=1, token=f"old-{number}"))

    def work(number: int) -> Work:
        return lambda tx: sign_ins.begin(tx, 1, f"new-{number}")

    two.at_once([work(number) for number in range(12)])
    assert counted(two, sign_in) == min(50, already + 12)
