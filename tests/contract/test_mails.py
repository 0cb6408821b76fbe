"""The queue of mails against a real SMTP server: each sent once, put off, or given up."""

import asyncio
import email.utils
import re
from collections import Counter
from email.message import EmailMessage
from typing import Any

import pytest
from sqlalchemy import select, update

from gateway.domain.instants import DAY_MS, MINUTE_MS
from gateway.jobs import housekeeping, mail_sender, mails
from gateway.operations import mailing as queueing
from gateway.operations import restored
from gateway.operations.mailing import queue_mail
from gateway.people.mail_messages import message_of
from gateway.people.mail_texts import Words
from gateway.people.smtp import ServerUnfit
from gateway.storage.schema import mail
from gateway.storage.transaction import Transaction
from tests.contract.gateways import TwoGateways
from tests.contract.mails import MAILING, delivered, queue, rows, sender, with_server
from tests.contract.world import SITE, World
from tests.mail_server import FROM, Mailboxes, mail_server, parts_of

pytestmark = pytest.mark.either_engine

ANN = "ann@example.org"
LINK = "https://fleet.example.org/invitation/abc"


def test_a_mail_arrives_once_with_both_parts_and_the_link_is_gone_afterwards(world: World) -> None:
    queue(world, ANN, "invitation", link=LINK, company="Acme", role="basic")
    (row,) = rows(world)
    assert LINK.encode() not in row.sealed and row.next_at == world.now_ms
    boxes = delivered(world)
    ((recipient, message),) = boxes.arrived
    assert recipient == ANN and message["To"] == ANN and FROM in message["From"]
    assert message["Auto-Submitted"] == "auto-generated"
    assert email.utils.parsedate_to_datetime(message["Date"]).timestamp() * 1000 == row.created_at
    text, page = parts_of(message)
    assert LINK in text and f'href="{LINK}"' in page
    (row,) = rows(world)
    assert (row.sealed, row.next_at, row.sent_at) == (None, None, world.now_ms)
    assert delivered(world).arrived == []


def test_without_a_mail_server_nothing_is_kept(world: World) -> None:
    world.write(
        lambda tx: queue_mail(
            tx, site=SITE, template="password_changed", recipient=ANN, language="", values={}
        )
    )
    assert rows(world) == []


def test_a_mail_lacks_no_value_and_leads_nowhere_else(world: World) -> None:
    with pytest.raises(AssertionError, match="company"):
        queue(world, ANN, "invitation", link=LINK, role="basic")
    with pytest.raises(AssertionError, match="another address"):
        queue(world, ANN, "password_reset", link="https://fleet.example.org.evil.example/x")


def test_it_is_tried_again_after_one_five_fifteen_and_sixty_minutes_for_two_days(
    world: World,
) -> None:
    queue(world, "later@example.org")
    waits = []
    for _ in range(6):
        assert delivered(world).asked == ["later@example.org"]
        (row,) = rows(world)
        assert row.error == "450 4.2.0 <…@example.org> is greylisted"
        waits.append((row.next_at - world.now_ms) // MINUTE_MS)
        world.now_ms = row.next_at - 1
        assert delivered(world).asked == []
        world.now_ms += 1
    assert waits == [1, 5, 15, 60, 60, 60]
    world.now_ms = row.created_at + 2 * DAY_MS
    assert delivered(world).asked == []
    (row,) = rows(world)
    assert row.next_at is None and row.sealed is None and row.sent_at is None
    assert row.error.startswith("not sent within two days: 450")


@pytest.mark.parametrize("name", ["nobody", "spam"])
def test_who_refuses_for_good_is_not_asked_again(world: World, name: str) -> None:
    queue(world, f"{name}@example.org")
    queue(world, ANN)
    assert [one for one, _ in delivered(world).arrived] == [ANN]
    first, second = rows(world)
    assert first.next_at is None and first.sealed is None and first.error[:2] == "55"
    assert f"{name}@" not in first.error
    assert second.sent_at is not None


def test_a_server_that_is_away_costs_no_mail_a_try(world: World) -> None:
    queue(world, ANN)

    async def closed_port() -> int:
        async with mail_server() as boxes:
            return boxes.port

    port = world.wait(closed_port())
    settings = Mailboxes(port=port).settings()
    one = sender(world, settings)
    for _ in range(3):
        with pytest.raises(ServerUnfit) as caught:
            world.wait(one.send_due())
        reason = str(caught.value)
        world.write(lambda tx: mails.note_trouble(tx, reason))  # noqa: B023 - done at once
        (row,) = rows(world)
        assert row.attempts == 0 and row.error and row.next_at == world.now_ms
    world.now_ms += DAY_MS
    assert [one for one, _ in delivered(world).arrived] == [ANN]


def test_a_server_that_will_not_have_us_keeps_the_mails(world: World) -> None:
    for number in range(3):
        queue(world, f"p{number}@example.org")

    async def work(boxes: Mailboxes) -> None:
        boxes.senders_refused = "530 5.7.0 sign in first"
        with pytest.raises(ServerUnfit, match="530"):
            await sender(world, boxes.settings()).send_due()

    with_server(world, work)
    assert all(row.next_at is not None and row.sealed for row in rows(world))
    # Only the one that was tried waits.
    assert sorted(row.attempts for row in rows(world)) == [0, 0, 1]
    world.now_ms += MINUTE_MS
    assert len(delivered(world).arrived) == 3


def test_what_was_taken_without_a_word_is_sent_again_as_the_same_mail(world: World) -> None:
    queue(world, "dropped@example.org")
    queue(world, ANN)
    first = delivered(world)
    assert Counter(one for one, _ in first.arrived)["dropped@example.org"] == 1
    assert ANN in [one for one, _ in first.arrived]
    world.now_ms += MINUTE_MS
    second = delivered(world)
    ids = {
        str(message["Message-ID"])
        for one, message in first.arrived + second.arrived
        if one.startswith("dropped")
    }
    assert len(ids) == 1 and len(second.arrived) == 1


def test_a_gateway_that_was_killed_leaves_its_mails_to_the_next(world: World) -> None:
    for number in range(3):
        queue(world, f"p{number}@example.org")
    claimed = world.write(lambda tx: mails.claim(tx, 75_000))
    assert len(claimed) == 3
    assert delivered(world).arrived == []
    world.now_ms += 75_000
    assert len(delivered(world).arrived) == 3
    # The late word of one that was only slow changes nothing.
    world.write(lambda tx: mails.put_off(tx, claimed[0], "late"))
    assert all(row.sent_at for row in rows(world))


def test_many_mails_go_out_once_each_and_people_go_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail_sender, "PER_CONNECTION", 20)
    told = {"notices": "[]", "count": "0", "link": "https://fleet.example.org/"}

    def fill(tx: Transaction) -> None:
        for number in range(60):
            queue_mail(
                tx,
                site=MAILING,
                template="notice" if number < 50 else "password_changed",
                recipient=f"p{number}@example.org",
                language="es",
                values=told,
            )

    world.write(fill)
    boxes = delivered(world)
    asked = [one for one, _ in boxes.arrived]
    assert len(asked) == len(set(asked)) == 60
    assert sorted(asked[:10]) == [f"p{number}@example.org" for number in range(50, 60)]
    assert boxes.connections == 3


def test_a_queue_that_is_full_takes_no_more_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queueing, "WAITING_MAX", 2)
    for number in range(3):
        queue(world, f"p{number}@example.org")
    assert [row.error for row in rows(world)] == ["", "", "the queue was full"]
    assert len(delivered(world).arrived) == 2
    queue(world, ANN)
    assert len(delivered(world).arrived) == 1


def test_a_clock_that_ran_ahead_does_not_keep_a_mail_for_a_year(world: World) -> None:
    world.now_ms += 365 * DAY_MS
    queue(world, ANN)
    world.now_ms -= 365 * DAY_MS
    assert len(delivered(world).arrived) == 1


def test_mails_are_forgotten_after_thirty_days(world: World) -> None:
    queue(world, ANN)
    delivered(world)
    world.now_ms += 30 * DAY_MS
    while world.write(housekeeping.clean):
        pass
    assert len(rows(world)) == 1
    world.now_ms += 1
    while world.write(housekeeping.clean):
        pass
    assert rows(world) == []


def test_what_waited_in_a_backup_is_not_sent_after_its_restore(world: World) -> None:
    queue(world, ANN, "password_reset", link=LINK)
    counts = world.write(lambda tx: restored.void(tx, "2027-01-15T00:00:00.000Z"))
    assert counts["mails"] == 1 and delivered(world).arrived == []
    (row,) = rows(world)
    assert row.sealed is None and "restored from a backup" in row.error


def test_a_mail_for_another_row_cannot_be_opened(world: World) -> None:
    queue(world, ANN, "password_reset", link=LINK)
    world.write(lambda tx: tx.run(update(mail).values(recipient="eve@example.org")))
    assert delivered(world).arrived == []
    (row,) = rows(world)
    assert row.next_at is None and "master.key" in row.error


ODD = "Ána\r\nBcc: eve@example.org\u2028\u202eEvil \U0001f600\x00<b>&amp;</b>" + "x" * 400
LEADING = "Locked! https://evil.example/x HTTP://evil.example WWW.evil.example"


@pytest.mark.parametrize("language", ["en", "es"])
def test_a_name_adds_neither_a_header_nor_html(world: World, language: str) -> None:
    world.write(
        lambda tx: queue_mail(
            tx,
            site=MAILING,
            template="invitation",
            recipient="jürgen@exämple.org",
            language=language,
            values={"link": LINK, "company": ODD, "role": "basic", "inviter": ODD},
        )
    )
    ((recipient, message),) = delivered(world).arrived
    assert recipient == "jürgen@xn--exmple-cua.org"
    assert message["Bcc"] is None and message["Content-Language"] == language
    subject = str(message["Subject"])
    assert "Ána Bcc: eve@example.org Evil \U0001f600 <b>" in subject and len(subject) < 400
    text, page = parts_of(message)
    assert "<b>" not in page and "&lt;b&gt;" in page and "\u202e" not in text + page
    assert f'<html lang="{language}">' in page


def test_a_name_makes_no_link(world: World) -> None:
    values = {"link": LINK, "company": LEADING, "role": "basic", "inviter": LEADING}
    queue(world, ANN, "invitation", **values)
    ((_, message),) = delivered(world).arrived
    whole = str(message["Subject"]) + "".join(parts_of(message))
    own = whole.replace(LINK, "").replace(MAILING.public_url, "")
    assert "evil.example/x" in own and not re.search(r"(://|www\.)\S", own, re.IGNORECASE)


def test_a_late_answer_is_not_taken_for_that_of_the_next_mail(world: World) -> None:
    queue(world, "slow@example.org")
    queue(world, "nobody@example.org")

    async def work(boxes: Mailboxes) -> None:
        await sender(world, boxes.settings(timeout_s=3)).send_due()

    with_server(world, work)
    slow, nobody = rows(world)
    assert (slow.sent_at, slow.next_at) == (None, world.now_ms + MINUTE_MS)
    assert (nobody.sent_at, nobody.next_at) == (None, None) and nobody.error[:3] == "550"


def test_a_mail_that_brings_out_a_bug_does_not_stop_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(world, "odd@example.org")
    queue(world, ANN)

    def written(words: Words, recipient: str, *given: Any, **more: Any) -> EmailMessage:
        if recipient.startswith("odd"):
            raise RuntimeError("a bug")
        return message_of(words, recipient, *given, **more)

    monkeypatch.setattr(mail_sender, "message_of", written)
    assert [one for one, _ in delivered(world).arrived] == [ANN]
    odd = rows(world)[0]
    assert (odd.error, odd.next_at) == ("RuntimeError", world.now_ms + MINUTE_MS)


def test_the_sender_outlives_a_server_that_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOOK_EVERY_S", "PAUSE_S_MIN", "PAUSE_S_MAX"):
        monkeypatch.setattr(mail_sender, name, 0.01)
    queue(world, ANN)

    async def run() -> Mailboxes:
        async with mail_server() as boxes:
            port = boxes.port
        one = asyncio.ensure_future(sender(world, boxes.settings()).run())
        noted = select(mail.c.error)
        # A row sends no event.
        while not await world.store.read(lambda tx: tx.scalar(noted)):  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)
        async with mail_server(port=port) as boxes:
            await boxes.something_came.wait()
            one.cancel()
            await asyncio.wait({one})
            return boxes

    boxes = world.wait(asyncio.wait_for(run(), 20))
    assert len(boxes.arrived) == 1
    # It was on its way when the sender was stopped, and was brought to its end.
    assert rows(world)[0].sent_at is not None


def test_a_gateway_that_stops_leaves_nothing_claimed(world: World) -> None:
    for number in range(5):
        queue(world, f"p{number}@example.org")

    async def work(boxes: Mailboxes) -> None:
        one = asyncio.ensure_future(sender(world, boxes.settings()).send_due())
        await boxes.something_came.wait()
        one.cancel()
        await asyncio.wait({one})

    first = with_server(world, work)
    assert len(first.arrived) < 5
    assert all(row.sent_at or row.attempts == 0 for row in rows(world))
    second = delivered(world)
    asked = [one for one, _ in first.arrived + second.arrived]
    assert sorted(asked) == sorted(f"p{number}@example.org" for number in range(5))


def test_two_gateways_send_each_mail_once(two: TwoGateways) -> None:
    for number in range(60):
        queue(two.world, f"p{number}@example.org")

    async def both() -> list[str]:
        async with mail_server() as boxes:
            await asyncio.gather(
                *(sender(two.world, boxes.settings(), store).send_due() for store in two.stores)
            )
            return [one for one, _ in boxes.arrived]

    arrived = two.world.wait(both())
    assert len(arrived) == len(set(arrived)) == 60
    assert all(row.attempts == 1 for row in rows(two.world))


def test_two_that_claim_at_once_claim_different_ones(two: TwoGateways) -> None:
    for number in range(30):
        queue(two.world, f"p{number}@example.org")
    claimed = two.at_once([lambda tx: mails.claim(tx, 75_000)] * 4)
    ids = [row.id for one in claimed for row in one]
    assert len(ids) == len(set(ids)) == 30
    assert two.world.read(lambda tx: tx.scalar(select(mail.c.attempts).distinct())) == 1
