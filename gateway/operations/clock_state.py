"""What the installation knows of its clock: accepted by people, or waited for after a start."""

import json

from sqlalchemy import delete, select, update

from gateway.domain.clock_trust import Caution, Trust, why_wary
from gateway.domain.refusals import Code, Refused
from gateway.storage.installation_facts import get, put
from gateway.storage.schema import installation, transfer
from gateway.storage.transaction import Transaction

ACCEPTED_KEY = "clock_accepted"
CAUTION_KEY = "clock_caution"

_NEWEST = select(transfer.c.seq, transfer.c.at).order_by(transfer.c.seq.desc()).limit(1)


def trust_of(tx: Transaction) -> Trust:
    """Whether the clock may decide in this transaction.

    While all is well that costs nothing. Else the database is asked, so that what people accept
    holds at once, on every gateway.
    """
    trust = tx.trust
    if trust.sure or trust.looked_up:
        return trust
    accepted, caution = known(tx)
    tx.trust = Trust(
        trust.doubt if accepted <= trust.accepted else "",
        accepted,
        None if caution is None else caution.seq,
        looked_up=True,
    )
    return tx.trust


def clock_refused(what: str) -> Refused:
    """For people, while nothing may be booked that the clock decides about."""
    return Refused(
        Code.CLOCK_IN_DOUBT,
        f"Charges are stopped: {what}. An operator puts the clock right, or accepts it.",
    )


def known(tx: Transaction) -> tuple[int, Caution | None]:
    """How often people accepted the clock, and what is waited for."""
    return int(get(tx, ACCEPTED_KEY) or 0), caution_of(tx)


def caution_of(tx: Transaction) -> Caution | None:
    """What makes gateways wary since a start, if anything does."""
    kept = get(tx, CAUTION_KEY)
    return None if kept is None else Caution(*json.loads(kept))


def note_start(tx: Transaction, alive_ms: int | None) -> None:
    """At a start: gateways are wary when the clock may be wrong. `alive_ms`: last sign of life."""
    newest = tx.one(_NEWEST)
    why = why_wary(tx.now_ms, alive_ms, None if newest is None else newest.at)
    if not why:
        return
    before = caution_of(tx)
    seq = 0 if newest is None else newest.seq
    # What was charged since an earlier such start counts as charged since this one.
    seq = seq if before is None else min(seq, before.seq)
    _keep(tx, Caution(why, tx.now_ms, seq, 0))


def note_running(tx: Transaction, ran_ms: int) -> None:
    """Gateways worked for so long again; after a day of it the clock is believed."""
    caution = caution_of(tx)
    if caution is None:
        return
    later = caution._replace(ran_ms=caution.ran_ms + max(0, ran_ms))
    if later.over:
        _forget(tx)
        return
    tx.run(
        update(installation)
        # Not if somebody has accepted the clock meanwhile.
        .where(installation.c.key == CAUTION_KEY, installation.c.value == json.dumps(caution))
        .values(value=json.dumps(later))
    )


def accept_clock(tx: Transaction) -> None:
    """From now on the clock counts as right, on all gateways."""
    put(tx, ACCEPTED_KEY, str(int(get(tx, ACCEPTED_KEY) or 0) + 1))
    _forget(tx)


def _keep(tx: Transaction, caution: Caution) -> None:
    put(tx, CAUTION_KEY, json.dumps(caution))


def _forget(tx: Transaction) -> None:
    tx.run(delete(installation).where(installation.c.key == CAUTION_KEY))
