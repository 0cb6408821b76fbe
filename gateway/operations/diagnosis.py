"""Why a session does not work, and what to do about it."""

import msgspec

from gateway.domain.diagnosis import Found, advice, culprit, diagnose
from gateway.domain.instants import instant_text
from gateway.domain.rights import Right
from gateway.domain.sessions import state_of
from gateway.operations.registry import Call, operation
from gateway.operations.session_facts import facts_of, rows_where
from gateway.operations.session_views import find_session
from gateway.operations.sessions import OneSession
from gateway.storage.schema import session


class HopShown(msgspec.Struct):
    """One part of the way: person, gateway, mqtt, agent, relay or target.

    `state` is ok, failed, waiting or unknown; `advice` says what to do about `code`, `detail`
    has the device's own words, if it gave any.
    """

    hop: str
    state: str
    code: str
    at: str | None
    detail: str
    advice: str


class Diagnosis(msgspec.Struct):
    """The way from the person to the target; `failing` names the hop to look at, if any."""

    session_id: str
    state: str
    failing: str | None
    code: str
    advice: str
    hops: list[HopShown]


@operation(
    "sessions.diagnosis",
    "GET",
    "/sessions/{session_id}/diagnosis",
    right=Right.REACH,
    result=Diagnosis,
)
def diagnose_session(call: Call, given: OneSession) -> Diagnosis:
    """Walks from the person to the target and names the hop that fails, and what to do."""
    row = find_session(call, given.session_id)
    known = call.tx.all(rows_where(session.c.id == row.id))
    hops = diagnose(facts_of(call.tx, known)[0])
    failing = culprit(hops)
    return Diagnosis(
        row.id,
        state_of(row.ended_at, row.linked).value,
        None if failing is None else failing.hop.value,
        "" if failing is None else failing.code,
        "" if failing is None else advice(failing.code),
        [_shown(hop) for hop in hops],
    )


def _shown(found: Found) -> HopShown:
    at = None if found.at_ms is None else instant_text(found.at_ms)
    return HopShown(
        found.hop.value, found.state.value, found.code, at, found.detail, advice(found.code)
    )
