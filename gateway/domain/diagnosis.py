"""Why a session does not work: the way from the person to the target, hop by hop."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from gateway.domain.instants import SECOND_MS
from gateway.domain.presence import Presence
from wire.endings import Ended
from wire.session_commands import LinkState

ANSWER_MS = 10 * SECOND_MS  # an agent that is there answers a command sooner
DIAL_MS = 15 * SECOND_MS  # and has its link up sooner
RELAY_SEEN_MS = 15 * SECOND_MS  # a relay says something every two seconds


class Hop(StrEnum):
    """The parts of the way, in order."""

    PERSON = "person"
    GATEWAY = "gateway"
    MQTT = "mqtt"
    AGENT = "agent"
    RELAY = "relay"
    TARGET = "target"


class HopState(StrEnum):
    """How one of them is."""

    OK = "ok"
    FAILED = "failed"
    WAITING = "waiting"
    UNKNOWN = "unknown"


class Found(NamedTuple):
    """What is known of one hop: `code` is empty where all is well, `at` when it began, if known.

    `detail` has the device's own words, where it gave any.
    """

    hop: Hop
    state: HopState
    code: str = ""
    at_ms: int | None = None
    detail: str = ""


class Facts(NamedTuple):
    """What decides; instants are ms since 1970 by the server's clock."""

    now_ms: int
    ended_at: int | None
    ended_because: str | None
    may: bool  # the person has the right
    registered: bool
    served: bool
    suspended: bool
    presence: str
    heard_at: int | None
    signed_in: bool  # the device's present connection can be told something
    told_at: int | None
    sent_at: int | None  # of the newest command `open`
    answered_at: int | None
    outcome: str | None
    error: str
    link_state: str  # the agent's word
    link_error: str
    link_at: int | None
    mqtt_seen_at: int | None  # when something last came back through the MQTT server
    relay_epoch: bool  # the relay was heard since it is known
    relay_seen_at: int | None
    linked: bool  # the relay's word
    linked_at: int | None
    refused_reason: str
    refused_at: int | None
    used_at: int | None


# Nothing is broken after most of these: whoever needs the session opens another.
_OF_PERSON = frozenset(
    {Ended.CLOSED, Ended.EXPIRED, Ended.IDLE_STREAMS, Ended.IDLE_BYTES, Ended.RIGHT_LOST}
)
# What an outcome `unknown` of a command is called by, where its device was not there.
_NOT_THERE = frozenset({"signed_out", "connection_lost", "expired"})
# What an agent says when it does not take the command, and how that is called here.
_OF_AGENT = {"busy": "busy", "unknown_verb": "agent_too_old", "no_tls": "agent_not_joined"}


def relay_away(seen_at: int | None, now_ms: int) -> bool:
    """Whether a relay has been silent for too long."""
    return seen_at is None or seen_at < now_ms - RELAY_SEEN_MS


def mqtt_away(facts: Facts) -> bool:
    """Whether the gateway hears nothing through the MQTT server.

    Its own messages count, and those of the relay: after a silence the former are stored late.
    """
    return (
        facts.mqtt_seen_at is not None
        and relay_away(facts.mqtt_seen_at, facts.now_ms)
        and relay_away(facts.relay_seen_at, facts.now_ms)
    )


def diagnose(facts: Facts) -> tuple[Found, ...]:
    """All hops; behind one that failed nothing is claimed that is not known."""
    if facts.ended_at is not None:
        return _ended(facts)
    return (
        _person(facts),
        _gateway(facts),
        _mqtt(facts),
        _agent(facts),
        _relay(facts),
        _target(facts),
    )


def culprit(found: Iterable[Found]) -> Found | None:
    """The hop to look at: the first that failed, else the first that is waited for."""
    hops = tuple(found)
    for state in (HopState.FAILED, HopState.WAITING):
        for one in hops:
            if one.state is state:
                return one
    return None


def _ended(facts: Facts) -> tuple[Found, ...]:
    because = facts.ended_because or Ended.OVER
    if because in _OF_PERSON:
        guilty = Hop.PERSON
    elif because == Ended.CONTROL_LINK_LOST:
        guilty = Hop.RELAY
    else:
        guilty = Hop.GATEWAY
    return tuple(
        Found(hop, HopState.FAILED, because, facts.ended_at)
        if hop is guilty
        else Found(hop, HopState.UNKNOWN)
        for hop in Hop
    )


def _person(facts: Facts) -> Found:
    if not facts.may:
        return Found(Hop.PERSON, HopState.FAILED, Ended.RIGHT_LOST)
    return Found(Hop.PERSON, HopState.OK)


def _gateway(facts: Facts) -> Found:
    for wrong, code in (
        (not facts.registered, Ended.UNREGISTERED),
        (facts.suspended, Ended.COMPANY_SUSPENDED),
        (not facts.served, Ended.SERVICE_UNPAID),
    ):
        if wrong:
            return Found(Hop.GATEWAY, HopState.FAILED, code)
    return Found(Hop.GATEWAY, HopState.OK)


def _mqtt(facts: Facts) -> Found:
    if mqtt_away(facts):
        # A link that is up does not need it, but whoever opens a stream needs the relay's lease.
        seen_at = max(facts.mqtt_seen_at or 0, facts.relay_seen_at or 0)
        return Found(Hop.MQTT, HopState.FAILED, "mqtt_away", seen_at)
    code = ""
    if facts.presence in (Presence.OFFLINE, Presence.NEVER):
        code = "device_offline"
    elif not facts.signed_in or (_command_unknown(facts) and facts.error in _NOT_THERE):
        code = "device_signed_out"
    elif facts.presence == Presence.LATE:
        return Found(Hop.MQTT, HopState.WAITING, "device_late", facts.heard_at)
    if not code:
        return Found(Hop.MQTT, HopState.OK, "", facts.heard_at)
    # A link that is up does not need it.
    state = HopState.UNKNOWN if facts.linked else HopState.FAILED
    return Found(Hop.MQTT, state, code, facts.heard_at)


def _command_unknown(facts: Facts) -> bool:
    return facts.answered_at is not None and facts.outcome == "unknown"


def _agent(facts: Facts) -> Found:
    if facts.linked:
        return Found(Hop.AGENT, HopState.OK, "", facts.linked_at)
    if _mqtt(facts).state is HopState.FAILED:
        return Found(Hop.AGENT, HopState.UNKNOWN)
    if facts.sent_at is None:
        return Found(Hop.AGENT, HopState.WAITING, "open_waiting", facts.told_at)
    if facts.answered_at is None or _command_unknown(facts):
        acted_at = _acted_at(facts, facts.sent_at)
        if acted_at is not None:
            return _dialling(facts, acted_at)
        return _unanswered(facts, facts.sent_at)
    if _not_allowed(facts):
        return Found(Hop.AGENT, HopState.OK, "", facts.answered_at)
    if facts.outcome in ("refused", "failed"):
        code = _OF_AGENT.get(facts.error, "open_refused")
        return Found(Hop.AGENT, HopState.FAILED, code, facts.answered_at, facts.error)
    return _dialling(facts, facts.answered_at)


def _not_allowed(facts: Facts) -> bool:
    """The agent works: it has refused the target."""
    return facts.outcome == "refused" and facts.error == "not_allowed"


def _acted_at(facts: Facts, sent_at: int) -> int | None:
    """Since when something is known that only an agent does which took the command.

    Its answer may be on its way still, or lost.
    """
    proofs = (facts.link_at, facts.refused_at, facts.used_at)
    return min((at for at in proofs if at is not None and at >= sent_at), default=None)


def _unanswered(facts: Facts, sent_at: int) -> Found:
    if facts.error in ("relay_away", "session_over"):
        return Found(Hop.AGENT, HopState.WAITING, "open_waiting", facts.told_at)
    if _command_unknown(facts) or sent_at <= facts.now_ms - ANSWER_MS:
        return Found(Hop.AGENT, HopState.FAILED, "open_unanswered", sent_at)
    return Found(Hop.AGENT, HopState.WAITING, "open_sent", sent_at)


def _dialling(facts: Facts, answered_at: int) -> Found:
    """The agent took the command; what it said of its link before does not count."""
    said = facts.link_state if (facts.link_at or 0) >= (facts.told_at or 0) else ""
    if relay_away(facts.relay_seen_at, facts.now_ms):
        # It cannot succeed, and it is not its fault.
        return Found(Hop.AGENT, HopState.WAITING, "dialling", answered_at)
    if said == LinkState.UP and (facts.link_at or 0) >= (facts.linked_at or 0):
        return Found(Hop.AGENT, HopState.OK, "", facts.link_at)
    if said == LinkState.FAILED:
        return Found(Hop.AGENT, HopState.FAILED, "dial_failed", facts.link_at, facts.link_error)
    if said == LinkState.LOST:
        return Found(Hop.AGENT, HopState.FAILED, "link_lost", facts.link_at, facts.link_error)
    if said == LinkState.UNKNOWN:
        return Found(Hop.AGENT, HopState.WAITING, "ticket_renewed", facts.link_at)
    if said == LinkState.OVER:
        return Found(Hop.AGENT, HopState.FAILED, "link_refused", facts.link_at, facts.link_error)
    if facts.linked_at is not None and facts.linked_at >= answered_at:
        # The relay saw the link end before the agent could say so.
        return Found(Hop.AGENT, HopState.FAILED, "link_lost", facts.linked_at)
    late = answered_at <= facts.now_ms - DIAL_MS
    state = HopState.FAILED if late else HopState.WAITING
    return Found(Hop.AGENT, state, "dial_failed" if late else "dialling", answered_at)


def _relay(facts: Facts) -> Found:
    if mqtt_away(facts):
        return Found(Hop.RELAY, HopState.UNKNOWN, "", facts.relay_seen_at)
    if not facts.relay_epoch or relay_away(facts.relay_seen_at, facts.now_ms):
        return Found(Hop.RELAY, HopState.FAILED, "relay_away", facts.relay_seen_at)
    if facts.linked:
        return Found(Hop.RELAY, HopState.OK, "", facts.linked_at)
    return Found(Hop.RELAY, HopState.WAITING, "no_link", facts.linked_at)


def _target(facts: Facts) -> Found:
    if not facts.linked and _not_allowed(facts):
        return Found(Hop.TARGET, HopState.FAILED, "not_allowed", facts.answered_at)
    if not facts.linked:
        return Found(Hop.TARGET, HopState.UNKNOWN)
    if facts.refused_at is not None and facts.refused_at >= (facts.used_at or 0):
        return Found(Hop.TARGET, HopState.FAILED, facts.refused_reason, facts.refused_at)
    if facts.used_at is not None:
        return Found(Hop.TARGET, HopState.OK, "", facts.used_at)
    return Found(Hop.TARGET, HopState.UNKNOWN)


_TEXTS = {
    Ended.CLOSED: "Somebody closed the session. Open a new one.",
    Ended.EXPIRED: "The session's time is over. Open a new one, for longer if need be.",
    Ended.IDLE_STREAMS: "Nothing was open in the session for a while. Open a new one.",
    Ended.IDLE_BYTES: "Nothing moved in the session for a while. Open a new one.",
    Ended.UNREGISTERED: "The device is not registered any more. Register it again.",
    Ended.SERVICE_UNPAID: "The device's service is not active. Activate or extend it.",
    Ended.COMPANY_SUSPENDED: "The company is suspended. Ask the company above it.",
    Ended.RIGHT_LOST: "The person may not reach this any more. Ask an administrator.",
    Ended.MOVED: "The device belongs to another company now.",
    Ended.RELEASED: "Another device took the serial over. Open a new session.",
    Ended.RESTORED: "The installation was restored from a backup. Open a new session.",
    Ended.CONTROL_LINK_LOST: "The relay heard nothing of the gateway for five minutes. "
    "See that both work and reach the MQTT server, then open a new session.",
    Ended.OVER: "The relay ended the session. Open a new one.",
    "mqtt_away": "The gateway hears nothing through the MQTT server. See that it runs and that the "
    "gateway reaches it; what is open goes on for five minutes.",
    "device_offline": "The device is offline. Check its power and its mobile connection; "
    "it is told of the session when it comes back.",
    "device_signed_out": "The device is not connected to the MQTT server just now; "
    "it is told of the session when it comes back.",
    "device_late": "A heartbeat of the device is due. Wait a moment.",
    "open_waiting": "The device is about to be told of the session. Wait a moment.",
    "open_sent": "The device was told of the session a moment ago. Wait for its answer.",
    "open_unanswered": "The device does not answer. It is told again; its agent may have to be "
    "restarted.",
    "open_refused": "The device's agent did not take the session. It is told again; look at the "
    "agent's log if it stays so.",
    "agent_too_old": "The device's agent does not know sessions. Update it.",
    "agent_not_joined": "The device's agent has no certificate of the server's. Join it again.",
    "not_allowed": "The target is not on the router's list. Add it to the agent's allow-list on "
    "the router (`allow` in fleetgate-agent.toml), and start the agent again.",
    "busy": "The router has as many sessions or connections open as it takes. Close some.",
    "dialling": "The router is connecting to the relay. Wait a moment.",
    "dial_failed": "The router cannot connect to the relay. See that its network lets it reach "
    "the relay's address and port, and that its clock is right.",
    "link_lost": "The router's connection to the relay broke; it connects again by itself.",
    "link_refused": "The relay did not admit the router. Open a new session.",
    "ticket_renewed": "The router gets a new ticket. Wait a moment.",
    "relay_away": "The relay is not heard. See that it runs and reaches the MQTT server.",
    "no_link": "The relay waits for the router.",
    "refused": "The target refused the connection: nothing listens on this port.",
    "timed_out": "The target does not answer: it is off, or drops packets.",
    "unreachable": "The router cannot reach the target's address. Check the address and the cable.",
}

CODES = tuple(_TEXTS)


def advice(code: str) -> str:
    """What to do, for people; empty where all is well."""
    if not code:
        return ""
    return _TEXTS.get(code, "Try again; if it stays so, look at the device's and the relay's logs.")
