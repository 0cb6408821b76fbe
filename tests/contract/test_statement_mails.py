"""Statements go to the billing address on the 2nd of the month, once, with their table."""

import csv
import io
from collections.abc import Sequence

import pytest

from gateway.domain.clock_trust import Trust
from gateway.domain.instants import DAY_MS, HOUR_MS
from gateway.jobs import statement_mails
from gateway.storage.transaction import AnyRow
from tests.contract.gateways import TwoGateways
from tests.contract.mails import MAILING, delivered, mailing, rows
from tests.contract.world import World
from tests.mail_server import parts_of

pytestmark = pytest.mark.either_engine

S = "1100000001"
UNTIL_FEBRUARY = 17 * DAY_MS  # worlds begin on 15 January 2027


def january(world: World) -> str:
    """A company that used a device in January and wants its statement."""
    number = mailing(world).company("Acme")
    world.grant(number, 5)
    world.register(S, number, activate="later")
    world.do("devices.activate", serial=S)
    world.set_company(number, billing_email="bills@example.org")
    return number


def queue(world: World) -> Sequence[AnyRow]:
    while world.write(lambda tx: statement_mails.queue_some(tx, MAILING)):
        pass
    return rows(world)


def test_on_the_second_it_goes_out_once_with_table_and_totals(world: World) -> None:
    number = january(world)
    world.company("Without an address", number)
    world.live(UNTIL_FEBRUARY + DAY_MS - HOUR_MS)
    assert delivered(world).arrived == []
    world.live(HOUR_MS)
    ((recipient, message),) = delivered(world).arrived
    assert recipient == "bills@example.org"
    assert message["Subject"] == "Acme: statement of 2027-01"
    text, _ = parts_of(message)
    assert "- Granted: 150" in text and "- Spent for own devices: 30" in text
    assert "- Closing balance: 120" in text
    assert f"https://fleet.example.org/companies/{number}/statement?from=2027-01" in text
    (attached,) = message.iter_attachments()
    assert attached.get_filename() == f"statement-{number}-2027-01-2027-01.csv"
    table = list(csv.DictReader(io.StringIO(attached.get_content())))
    assert [(row["serial"], row["days_paid"]) for row in table] == [(S, "30")]
    world.live(3 * DAY_MS)
    assert delivered(world).arrived == []


def test_each_month_has_its_own_and_a_closed_company_none(world: World) -> None:
    number = january(world)
    world.live(UNTIL_FEBRUARY + DAY_MS)
    assert len(queue(world)) == 1
    world.live(28 * DAY_MS)
    assert len(queue(world)) == 2
    world.do("devices.unregister", serial=S)
    world.do("companies.close", company_id=number)
    world.live(31 * DAY_MS)
    assert len(queue(world)) == 2


def test_a_company_of_this_month_has_no_statement_of_the_last(world: World) -> None:
    mailing(world)
    world.live(UNTIL_FEBRUARY + HOUR_MS)
    number = world.company("New")
    world.set_company(number, billing_email="bills@example.org")
    world.live(DAY_MS)
    assert queue(world) == []


def test_a_server_that_was_down_on_the_second_makes_up_for_it(world: World) -> None:
    january(world)
    world.outage(UNTIL_FEBRUARY + 9 * DAY_MS)
    assert len(queue(world)) == 1


def test_it_waits_while_the_clock_is_in_doubt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    january(world)
    world.live(UNTIL_FEBRUARY + DAY_MS)
    with monkeypatch.context() as patched:
        doubt = Trust("it jumped", 0, None, looked_up=True)
        patched.setattr(statement_mails, "trust_of", lambda _: doubt)
        assert queue(world) == []
    assert len(queue(world)) == 1


def test_many_companies_are_done_in_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statement_mails, "COMPANIES_AT_ONCE", 2)
    mailing(world)
    for n in range(5):
        number = world.company(f"C{n}")
        world.set_company(number, billing_email=f"b{n}@example.org")
    world.live(UNTIL_FEBRUARY + DAY_MS)
    assert [row.recipient for row in queue(world)] == [f"b{n}@example.org" for n in range(5)]


def test_a_table_that_is_too_long_is_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    january(world)
    monkeypatch.setattr(statement_mails, "ATTACHED_CHARS_MAX", 100)
    world.live(UNTIL_FEBRUARY + DAY_MS)
    ((_, message),) = delivered(world).arrived
    assert list(message.iter_attachments()) == []
    assert "too long for a mail" in parts_of(message)[0]


def test_two_gateways_queue_them_once(two: TwoGateways) -> None:
    january(two.world)
    two.world.live(UNTIL_FEBRUARY + DAY_MS)
    two.at_once([lambda tx: statement_mails.queue_some(tx, MAILING)] * 6)
    assert len(rows(two.world)) == 1
