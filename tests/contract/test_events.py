"""What those who watch hear: of everything that happens, in order, and of nothing that is not
theirs to see."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select, update

from gateway.domain.happenings import EVENT_KEPT_MS, RIGHTS, Happening, happening_of
from gateway.domain.instants import DAY_MS, HOUR_MS, MINUTE_MS
from gateway.domain.rights import Role
from gateway.jobs import events, housekeeping, presence
from gateway.operations.event_positions import leave_gap
from gateway.operations.happening import all_happened, happened, told_as
from gateway.storage.schema import event, membership
from gateway.storage.transaction import Transaction
from tests.contract.gateways import TwoGateways
from tests.contract.world import World
from tests.relay_row import one_relay
from wire.commands import Answer, Outcome

S, T = "1100000001", "1100000002"


def place(world: World) -> int:
    count = 0
    while some := world.write(events.place):
        count += some
    return count


def heard(world: World, after: str = "0", *, person: int = 1, **given: Any) -> list[Any]:
    """Everything after a position, as somebody hears it."""
    place(world)
    found: list[Any] = []
    while True:
        page = world.do("events.follow", person=person, after=after, limit=500, **given)
        assert not page["reset"]
        found += page["events"]
        after = page["position"]
        if not page["more"]:
            return found


def kinds(world: World, after: str = "0", **given: Any) -> list[str]:
    return [one["kind"] for one in heard(world, after, **given)]


def now(world: World) -> str:
    place(world)
    return str(world.do("events.follow")["position"])


def test_a_device_s_life_is_heard_in_order(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 3)
    world.register(S, acme)
    world.join(S)
    before = now(world)
    world.heartbeat(S)
    (came, paid) = heard(world, before, kinds=["device.presence", "device.service"])
    if came["kind"] != "device.presence":
        came, paid = paid, came
    assert (came["serial"], came["company_id"]) == (S, acme)
    assert came["detail"] == {"presence": "online", "before": "never"}
    assert paid["detail"] == {"state": "active", "reason": "paid"}
    before = now(world)
    world.heartbeat(S)
    assert kinds(world, before) == []
    assert world.write(lambda tx: presence.sweep(tx, "node-1", tx.now_ms + HOUR_MS)) == 1
    (left,) = heard(world, before)
    assert left["detail"] == {"presence": "offline", "before": "online"}
    before = now(world)
    world.do("devices.switch-off", serial=S)
    world.do("devices.unregister", serial=S)
    assert kinds(world, before, serial=S) == [
        "device.service",
        "device.changed",
        "device.unregistered",
    ]
    assert kinds(world, before, serial=T) == []


def test_credits_companies_and_people(world: World) -> None:
    acme = world.company("Acme")
    below = world.company("Below", acme)
    assert kinds(world) == ["company.created", "company.created"]
    before = now(world)
    world.grant(acme, 9)
    world.do("credits.move", source=acme, target=below, credits=2)
    changed = heard(world, before)
    assert {(one["kind"], one["company_id"]) for one in changed} == {
        ("credits.changed", acme),
        ("credits.changed", below),
    }
    assert all(one["detail"] == {} for one in changed)
    before = now(world)
    world.do("companies.suspend", company_id=below, reason="unpaid")
    world.do("companies.resume", company_id=below)
    world.register(S, below, activate="later")
    world.do("devices.move", serial=S, company_id=acme)
    moved = [(one["kind"], one["company_id"]) for one in heard(world, before)]
    assert moved.count(("company.changed", below)) == 2
    assert {("device.registered", below), ("device.moved", below), ("device.moved", acme)} <= {
        *moved
    }
    assert kinds(world, before, company=acme) == kinds(world, before)
    assert ("device.moved", acme) not in [
        (one["kind"], one["company_id"]) for one in heard(world, before, company=below)
    ]


def test_sessions_and_commands(world: World) -> None:
    acme = world.company("Acme")
    world.grant(acme, 3)
    world.register(S, acme)
    world.write(one_relay)
    world.join(S)
    world.up(S)
    world.heartbeat(S)
    world.one_person(2, acme, Role.BASIC.value)
    world.one_person(3, acme, Role.BASIC.value)
    before = now(world)
    opened = world.do("sessions.open", person=2, serial=S, protocol="http")
    world.do("sessions.close", person=2, session_id=opened["id"])
    wanted = ["session.opened", "session.ended"]
    assert kinds(world, before) == wanted
    assert [one["subject"] for one in heard(world, before, person=2)] == [opened["id"]] * 2
    assert kinds(world, before, person=3) == []
    before = now(world)
    sent = world.do("commands.send", serial=S, verb="ping")
    world.now_ms += 2 * MINUTE_MS
    ids = world.read(housekeeping.unanswered)
    world.write(lambda tx: housekeeping.end_commands(tx, ids))
    (ended,) = heard(world, before)
    assert ended["subject"] == sent["id"]
    assert ended["detail"] == {"verb": "ping", "outcome": "unknown"}
    before = now(world)
    sent = world.do("commands.send", serial=S, verb="ping")
    world.write(_sent)
    for _ in range(2):
        world.answer(S, Answer(sent["id"], Outcome.DONE, {}))
    (ended,) = heard(world, before, kinds=["command.ended"])
    assert ended["detail"] == {"verb": "ping", "outcome": "done"}


def _sent(tx: Transaction) -> None:
    tx.change("UPDATE outbox SET sent_at = ? WHERE sent_at IS NULL", (tx.now_ms,))


def test_everybody_hears_what_their_role_sees(world: World) -> None:
    top = world.company("Top")
    acme = world.company("Acme", top)
    beside = world.company("Beside")
    places = [(role, place_) for role in Role for place_ in (acme, top, beside)]
    people_of = {one: number for number, one in enumerate(places, start=2)}
    for (role, company_id), number in people_of.items():
        world.one_person(number, company_id, role.value)
    before = now(world)
    world.write(lambda tx: _one_of_each(tx, int(acme)))
    place(world)
    devices = {one.value for one in Happening if one.value.startswith("device")}
    company = {"company.created", "company.changed", "company.closed", "settings.changed"}
    people = {"member.changed", "invitation.changed"}
    sessions = {"session.opened", "session.ended"}
    wanted = {
        Role.ADMINISTRATOR: {one.value for one in Happening},
        Role.ADVANCED: devices
        | company
        | people
        | sessions
        | {"target.changed", "command.ended", "credits.changed"},
        Role.BASIC: devices | company | {"target.changed"},
        Role.READ_ONLY: devices | company,
        Role.BILLING: (devices - {"device.presence"})
        | company
        | {"credits.changed", "credits.requested", "notice.told"},
    }
    assert set(wanted) == set(Role)
    for role in Role:
        assert set(kinds(world, before, person=people_of[role, acme])) == wanted[role], role
        assert kinds(world, before, person=people_of[role, beside]) == []
        above = set(kinds(world, before, person=people_of[role, top]))
        if role in (Role.BASIC, Role.READ_ONLY):
            assert above == set()
        elif role is Role.ADVANCED:
            assert above == wanted[role] - sessions
        else:
            assert above == wanted[role]
    assert set(RIGHTS) == set(Happening)


def test_a_right_taken_away_is_gone_at_the_next_event_and_a_new_one_is_there(world: World) -> None:
    acme = world.company("Acme")
    world.one_person(2, acme, Role.READ_ONLY.value)
    before = now(world)
    world.register(S, acme, activate="later")
    assert kinds(world, before, person=2) == ["device.registered"]
    mine = membership.c.person_id == 2
    world.write(lambda tx: tx.run(update(membership).where(mine).values(until=tx.now_ms - 1)))
    world.register(T, acme, activate="later")
    assert kinds(world, before, person=2) == []
    assert world.ask("events.follow", person=2, company=acme) == "not_found"
    assert world.ask("events.follow", person=2, company="99") == "not_found"
    world.write(lambda tx: tx.run(update(membership).where(mine).values(until=None)))
    assert kinds(world, before, person=2) == ["device.registered"] * 2


def test_one_reads_on_from_where_one_was(world: World) -> None:
    acme = world.company("Acme")
    first = now(world)
    world.write(lambda tx: _many(tx, int(acme), range(25)))
    place(world)
    assert world.do("events.follow")["events"] == []
    found: list[str] = []
    after = first
    while True:
        page = world.do("events.follow", after=after, limit=10)
        found += [one["subject"] for one in page["events"]]
        after = page["position"]
        if not page["more"]:
            break
        assert after == page["events"][-1]["id"]
    assert found == [str(number) for number in range(25)]
    for wrong in ("x", "-1", "1.5", "٣", "1" * 17):
        with pytest.raises(Exception, match=r"after|length"):
            world.do("events.follow", after=wrong)


def _one_of_each(tx: Transaction, company_id: int) -> None:
    for kind in Happening:
        happened(tx, kind, company_id)


def _many(tx: Transaction, company_id: int, numbers: Sequence[int]) -> None:
    rows = [
        told_as(tx, Happening.DEVICE_CHANGED, company_id, subject=str(number)) for number in numbers
    ]
    all_happened(tx, rows)


def test_what_is_not_kept_any_more_is_loaded_anew(world: World) -> None:
    acme = world.company("Acme")
    world.company("Below", acme)
    old = heard(world)[0]["id"]
    world.live(EVENT_KEPT_MS - DAY_MS, jobs=False)
    world.register(S, acme, activate="later")
    newer = heard(world, old)[-1]["id"]
    world.live(DAY_MS + 1, jobs=False)
    while world.write(housekeeping.clean):
        pass
    page = world.do("events.follow", after=old)
    assert page == {"events": [], "position": newer, "more": False, "reset": True}
    assert not world.do("events.follow", after=newer)["reset"]
    assert kinds(world) == ["device.registered"]
    assert world.do("events.follow", after="999999")["reset"]
    # All gone; the count goes on.
    world.live(EVENT_KEPT_MS, jobs=False)
    while world.write(housekeeping.clean):
        pass
    assert world.read(lambda tx: tx.all(select(event.c.id))) == []
    assert not world.do("events.follow", after=newer)["reset"]
    world.register(T, acme, activate="later")
    assert [one["serial"] for one in heard(world, newer)] == [T]


def test_after_a_restored_backup_newer_positions_are_not_given_again(world: World) -> None:
    acme = world.company("Acme")
    last = int(now(world))
    lost = str(last + 3)  # given after the backup was made
    world.write(leave_gap)
    _ = [world.company(f"C{number}", acme) for number in range(5)]
    place(world)
    assert world.do("events.follow", after=lost)["reset"]
    assert len(heard(world, str(last - 1))) >= 5


def test_what_is_tried_out_or_refused_is_not_heard_of(world: World) -> None:
    acme = world.company("Acme")
    before = now(world)
    world.dry_run("credits.grant", company_id=acme, credits=3)
    assert world.ask("credits.move", source=acme, target="77", credits=1) == "not_found"
    assert kinds(world, before) == []


def test_nothing_is_lost_or_doubled_while_two_gateways_write_and_place(two: TwoGateways) -> None:
    """Many transactions that end in another order than they began, read all the while."""
    world = two.world
    acme = int(world.company("Acme"))
    position = now(world)
    found: list[str] = []

    def write(number: int) -> Any:
        return lambda tx: _many(tx, acme, range(number * 10, number * 10 + 10))

    for round_ in range(6):
        works = [write(round_ * 10 + number) for number in range(10)]
        for place_at in (2, 5, 8):
            works.insert(place_at, events.place)
        outcomes = two.at_once(works)
        assert not [one for one in outcomes if isinstance(one, BaseException)]
        page = world.do("events.follow", after=position, limit=500)
        found += [one["subject"] for one in page["events"]]
        position = page["position"]
    found += [one["subject"] for one in heard(world, position)]
    assert sorted(map(int, found)) == list(range(600))
    placed = world.read(lambda tx: tx.all(select(event.c.position).order_by(event.c.position)))
    numbers = [row.position for row in placed]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_an_event_committed_late_is_heard_though_its_id_is_lower(two: TwoGateways) -> None:
    """The first has an id and waits; the second is committed, placed and heard meanwhile."""
    world = two.world
    acme = int(world.company("Acme"))
    before = now(world)
    second: list[Any] = []

    def slow(tx: Transaction) -> None:
        _many(tx, acme, [1])
        if not second:
            two.at_once([lambda _: None, lambda other: _many(other, acme, [2])])
            second.append([one["subject"] for one in heard_at(two, before)])

    two.at_once([slow])
    assert second == [["2"]]
    assert [one["subject"] for one in heard(world, before)] == ["2", "1"]


def heard_at(two: TwoGateways, after: str) -> list[Any]:
    """At the second gateway, while the first is at work."""
    two.at_once([lambda _: None, events.place])
    page: list[Any] = two.at_once([lambda _: None, two.world.work("events.follow", after=after)])
    return [{"subject": one.subject} for one in page[1].events]


def test_verbs_of_people_s_deeds_are_heard_as_their_kind() -> None:
    for verb, wanted in (
        ("members.remove", Happening.MEMBER_CHANGED),
        ("invitations.create", Happening.INVITATION_CHANGED),
        ("invitations.look", None),
        ("settings.change", Happening.SETTINGS_CHANGED),
        ("support-access.grant", Happening.SUPPORT_ACCESS_CHANGED),
        ("target.deleted", Happening.TARGET_CHANGED),
        ("people.sign_in", None),
        ("session.ticket", None),
    ):
        assert happening_of(verb) is wanted, verb
