"""The diagnosis as a table: what is known, and which hop a person is sent to look at."""

from typing import Any

import pytest

from gateway.domain.diagnosis import (
    ANSWER_MS,
    DIAL_MS,
    RELAY_SEEN_MS,
    Facts,
    Found,
    Hop,
    HopState,
    advice,
    culprit,
    diagnose,
)
from gateway.domain.rights import Principal, Reach, Right, Role, authorize, roles_with
from gateway.domain.sessions import SessionState, ended_because, state_of
from wire.endings import Ended

NOW = 1_800_000_000_000
OK, FAILED, WAITING, UNKNOWN = HopState.OK, HopState.FAILED, HopState.WAITING, HopState.UNKNOWN

# Everything works: told and answered 5 s ago, linked since 4 s, used 1 s ago.
WORKS = Facts(
    now_ms=NOW,
    ended_at=None,
    ended_because=None,
    may=True,
    registered=True,
    served=True,
    suspended=False,
    presence="online",
    heard_at=NOW - 30_000,
    signed_in=True,
    told_at=NOW - 5_000,
    sent_at=NOW - 5_000,
    answered_at=NOW - 5_000,
    outcome="done",
    error="",
    link_state="up",
    link_error="",
    link_at=NOW - 4_000,
    mqtt_seen_at=NOW - 5_000,
    relay_epoch=True,
    relay_seen_at=NOW - 1_000,
    linked=True,
    linked_at=NOW - 4_000,
    refused_reason="",
    refused_at=None,
    used_at=NOW - 1_000,
)
# The agent took the command a second ago, and nothing is known since.
TAKEN = WORKS._replace(
    linked=False,
    linked_at=None,
    link_state="",
    link_at=None,
    used_at=None,
    told_at=NOW - 2_000,
    sent_at=NOW - 2_000,
    answered_at=NOW - 1_000,
)
UNANSWERED = TAKEN._replace(answered_at=None, outcome=None)
LOST: dict[str, Any] = {"answered_at": NOW, "outcome": "unknown"}

TABLE = [
    # what is so                                           hop, state, code, since
    (WORKS, None),
    (WORKS._replace(used_at=None), None),
    (WORKS._replace(may=False), (Hop.PERSON, FAILED, "right_lost", None)),
    (WORKS._replace(registered=False), (Hop.GATEWAY, FAILED, "unregistered", None)),
    (WORKS._replace(suspended=True), (Hop.GATEWAY, FAILED, "company_suspended", None)),
    (WORKS._replace(served=False), (Hop.GATEWAY, FAILED, "service_unpaid", None)),
    # a link that is up does not need the MQTT server
    (WORKS._replace(presence="offline"), None),
    (WORKS._replace(signed_in=False), None),
    # the device's connection
    (TAKEN._replace(presence="offline"), (Hop.MQTT, FAILED, "device_offline", NOW - 30_000)),
    (
        TAKEN._replace(presence="never", heard_at=None),
        (Hop.MQTT, FAILED, "device_offline", None),
    ),
    (TAKEN._replace(signed_in=False), (Hop.MQTT, FAILED, "device_signed_out", NOW - 30_000)),
    (
        UNANSWERED._replace(**LOST, error="signed_out"),
        (Hop.MQTT, FAILED, "device_signed_out", NOW - 30_000),
    ),
    (
        UNANSWERED._replace(**LOST, error="connection_lost"),
        (Hop.MQTT, FAILED, "device_signed_out", NOW - 30_000),
    ),
    (UNANSWERED._replace(presence="late"), (Hop.MQTT, WAITING, "device_late", NOW - 30_000)),
    # the agent
    (UNANSWERED._replace(sent_at=None), (Hop.AGENT, WAITING, "open_waiting", NOW - 2_000)),
    (UNANSWERED, (Hop.AGENT, WAITING, "open_sent", NOW - 2_000)),
    (
        UNANSWERED._replace(sent_at=NOW - ANSWER_MS + 1),
        (Hop.AGENT, WAITING, "open_sent", NOW - ANSWER_MS + 1),
    ),
    (
        UNANSWERED._replace(sent_at=NOW - ANSWER_MS),
        (Hop.AGENT, FAILED, "open_unanswered", NOW - ANSWER_MS),
    ),
    (
        UNANSWERED._replace(**LOST, error="no_answer"),
        (Hop.AGENT, FAILED, "open_unanswered", NOW - 2_000),
    ),
    # its answer was lost or is on its way, but what it does is known
    (UNANSWERED._replace(linked=True, linked_at=NOW), None),
    (
        UNANSWERED._replace(link_state="up", link_at=NOW - 1_500),
        (Hop.RELAY, WAITING, "no_link", None),
    ),
    (
        UNANSWERED._replace(**LOST, error="no_answer", link_state="failed", link_at=NOW - 1_500),
        (Hop.AGENT, FAILED, "dial_failed", NOW - 1_500),
    ),
    (
        UNANSWERED._replace(refused_reason="refused", refused_at=NOW - 1_500),
        (Hop.AGENT, WAITING, "dialling", NOW - 1_500),
    ),
    (
        UNANSWERED._replace(sent_at=NOW - ANSWER_MS, link_state="up", link_at=NOW - ANSWER_MS - 1),
        (Hop.AGENT, FAILED, "open_unanswered", NOW - ANSWER_MS),
    ),
    (
        UNANSWERED._replace(**LOST, error="session_over"),
        (Hop.AGENT, WAITING, "open_waiting", NOW - 2_000),
    ),
    (
        TAKEN._replace(outcome="refused", error="not_allowed"),
        (Hop.TARGET, FAILED, "not_allowed", NOW - 1_000),
    ),
    (TAKEN._replace(outcome="refused", error="busy"), (Hop.AGENT, FAILED, "busy", NOW - 1_000)),
    (
        TAKEN._replace(outcome="refused", error="unknown_verb"),
        (Hop.AGENT, FAILED, "agent_too_old", NOW - 1_000),
    ),
    (
        TAKEN._replace(outcome="refused", error="no_tls"),
        (Hop.AGENT, FAILED, "agent_not_joined", NOW - 1_000),
    ),
    (
        TAKEN._replace(outcome="refused", error="expired"),
        (Hop.AGENT, FAILED, "open_refused", NOW - 1_000),
    ),
    (TAKEN._replace(outcome="failed"), (Hop.AGENT, FAILED, "open_refused", NOW - 1_000)),
    (TAKEN, (Hop.AGENT, WAITING, "dialling", NOW - 1_000)),
    (
        TAKEN._replace(answered_at=NOW - DIAL_MS + 1),
        (Hop.AGENT, WAITING, "dialling", NOW - DIAL_MS + 1),
    ),
    (
        TAKEN._replace(answered_at=NOW - DIAL_MS),
        (Hop.AGENT, FAILED, "dial_failed", NOW - DIAL_MS),
    ),
    (
        TAKEN._replace(link_state="failed", link_at=NOW - 500),
        (Hop.AGENT, FAILED, "dial_failed", NOW - 500),
    ),
    (
        TAKEN._replace(link_state="lost", link_at=NOW - 500),
        (Hop.AGENT, FAILED, "link_lost", NOW - 500),
    ),
    (
        TAKEN._replace(link_state="unknown", link_at=NOW - 500),
        (Hop.AGENT, WAITING, "ticket_renewed", NOW - 500),
    ),
    (
        TAKEN._replace(link_state="over", link_at=NOW - 500),
        (Hop.AGENT, FAILED, "link_refused", NOW - 500),
    ),
    # what it said before it was told anew does not count
    (
        TAKEN._replace(link_state="failed", link_at=NOW - 2_001),
        (Hop.AGENT, WAITING, "dialling", NOW - 1_000),
    ),
    # the relay saw the link end first
    (TAKEN._replace(linked_at=NOW - 100), (Hop.AGENT, FAILED, "link_lost", NOW - 100)),
    # the agent says up, the relay does not yet
    (
        TAKEN._replace(link_state="up", link_at=NOW - 100),
        (Hop.RELAY, WAITING, "no_link", None),
    ),
    # the relay: a dial that cannot succeed is not the agent's fault
    (
        TAKEN._replace(link_state="failed", link_at=NOW, relay_seen_at=NOW - RELAY_SEEN_MS - 1),
        (Hop.RELAY, FAILED, "relay_away", NOW - RELAY_SEEN_MS - 1),
    ),
    (WORKS._replace(relay_seen_at=NOW - RELAY_SEEN_MS), None),
    # nothing comes through the MQTT server; while the relay is heard it does work
    (WORKS._replace(mqtt_seen_at=NOW - RELAY_SEEN_MS - 1), None),
    (
        WORKS._replace(mqtt_seen_at=NOW - RELAY_SEEN_MS - 1, relay_seen_at=NOW - RELAY_SEEN_MS - 1),
        (Hop.MQTT, FAILED, "mqtt_away", NOW - RELAY_SEEN_MS - 1),
    ),
    # the agent said that it was up, then the relay lost it
    (
        TAKEN._replace(link_state="up", link_at=NOW - 500, linked_at=NOW - 499),
        (Hop.AGENT, FAILED, "link_lost", NOW - 499),
    ),
    (
        UNANSWERED._replace(**LOST, error="relay_away", relay_epoch=False, relay_seen_at=None),
        (Hop.RELAY, FAILED, "relay_away", None),
    ),
    # the target
    (
        WORKS._replace(refused_reason="refused", refused_at=NOW - 1_000),
        (Hop.TARGET, FAILED, "refused", NOW - 1_000),
    ),
    (WORKS._replace(refused_reason="refused", refused_at=NOW - 1_001), None),
    (
        WORKS._replace(used_at=None, refused_reason="timed_out", refused_at=NOW - 9_000),
        (Hop.TARGET, FAILED, "timed_out", NOW - 9_000),
    ),
    # over
    (
        WORKS._replace(ended_at=NOW - 7, ended_because="closed"),
        (Hop.PERSON, FAILED, "closed", NOW - 7),
    ),
    *(
        (
            WORKS._replace(ended_at=NOW - 7, ended_because=because),
            (Hop.PERSON, FAILED, because, NOW - 7),
        )
        for because in ("expired", "idle_streams", "idle_bytes", "right_lost")
    ),
    (
        WORKS._replace(ended_at=NOW - 7, ended_because="service_unpaid"),
        (Hop.GATEWAY, FAILED, "service_unpaid", NOW - 7),
    ),
    (
        WORKS._replace(ended_at=NOW - 7, ended_because="control_link_lost"),
        (Hop.RELAY, FAILED, "control_link_lost", NOW - 7),
    ),
]


@pytest.mark.parametrize(("facts", "expected"), TABLE)
def test_the_hop_to_look_at(
    facts: Facts, expected: tuple[Hop, HopState, str, int | None] | None
) -> None:
    found = diagnose(facts)
    assert [one.hop for one in found] == list(Hop)
    guilty = culprit(found)
    if guilty is not None:
        guilty = guilty._replace(detail="")
    assert guilty == (None if expected is None else Found(*expected))
    for one in found:
        assert (one.state in (FAILED, WAITING)) <= bool(one.code)
        assert one.state is not OK or not one.code


def test_the_devices_own_words_are_passed_on() -> None:
    said = {"link_state": "failed", "link_at": NOW, "link_error": "no route"}
    guilty = culprit(diagnose(TAKEN._replace(**said)))  # type: ignore[arg-type]  # of all types
    assert guilty is not None and (guilty.code, guilty.detail) == ("dial_failed", "no route")
    guilty = culprit(diagnose(TAKEN._replace(outcome="refused", error="busy")))
    assert guilty is not None and guilty.detail == "busy"


def test_nothing_is_claimed_of_hops_behind_one_that_failed() -> None:
    states = [one.state for one in diagnose(TAKEN._replace(presence="offline"))]
    assert states == [OK, OK, FAILED, UNKNOWN, WAITING, UNKNOWN]
    states = [one.state for one in diagnose(WORKS)]
    assert states == [OK] * 6
    ended = WORKS._replace(ended_at=NOW, ended_because="expired")
    states = [one.state for one in diagnose(ended)]
    assert states == [FAILED, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN]


def test_every_code_of_the_table_has_its_own_advice() -> None:
    codes = {expected[2] for _, expected in TABLE if expected} | set(Ended)
    texts = [advice(code) for code in sorted(codes)]
    assert all(text.endswith(".") for text in texts) and len(set(texts)) == len(codes)
    assert advice("") == "" and "Try again" in advice("never heard of")


def test_reasons_and_states() -> None:
    assert ended_because("idle_bytes") is Ended.IDLE_BYTES
    assert ended_because("what?") is Ended.OVER
    assert state_of(None, linked=False) is SessionState.WAITING
    assert state_of(None, linked=True) is SessionState.OPEN
    assert state_of(1, linked=True) is SessionState.ENDED


@pytest.mark.parametrize("right", list(Right))
@pytest.mark.parametrize("role", list(Role))
def test_the_sweep_and_authorize_agree_about_roles(role: Role, right: Right) -> None:
    """The sweep asks the database for roles; it must not know another table."""
    person = Principal("user:7", 7, memberships={1: role})
    if right not in (Right.PUBLIC, Right.SIGNED_IN, Right.OWN_ACCOUNT, Right.OPERATE):
        assert authorize(person, right, (1,)) == (role in roles_with(right))
        assert authorize(person, right, (2, 1)) == (role in roles_with(right, Reach.BELOW))
