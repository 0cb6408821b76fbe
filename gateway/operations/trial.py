"""Trial days: what a device that no company ever paid for may be tried with, once for ever."""

from gateway.domain.instants import DAY_MS
from gateway.domain.ledger import Kind, pool_name
from gateway.operations.booking import ISSUER, Booking, trial_account
from gateway.operations.held import Held
from gateway.operations.treasury import Treasury
from gateway.storage.installation_facts import get
from gateway.storage.transaction import Transaction

CAUSE = "trial"
TRIAL_DAYS_KEY = "trial_days"
# In any tenure: registering again, forgetting or replacing begins no other trial. In two halves,
# as there is an index for each.
_EVER_HEARD = """
SELECT 1 FROM device
WHERE serial = ? AND ended_at IS NULL AND (heard_before OR first_heard_at IS NOT NULL)
UNION ALL
SELECT 1 FROM device
WHERE serial = ? AND ended_at IS NOT NULL AND (heard_before OR first_heard_at IS NOT NULL)
LIMIT 1
"""


def begin_trial(tx: Transaction, treasury: Treasury, held: Held) -> bool:
    """Begins a free period of a device that is heard for the first time; whether it gets one.

    None where nobody wants service, or somebody has paid for it. The days pass a lot of the
    device's company that is as free as they are and does not outlive them.
    """
    if held.start == "later" or held.last_end is not None:
        return False
    days = int(get(tx, TRIAL_DAYS_KEY) or 0)
    if not days or tx.fetch(_EVER_HEARD, (held.serial, held.serial)):
        return False
    treasury.prepare((held.company_id,), (held.id,))
    seq = treasury.last_seq()
    expires_day = tx.today + days - 1
    name = pool_name(held.company_id, expires_day, free=True, redeemed=False)
    pool = trial_account(tx, f"{name}:trial:{held.id}", held.company_id, expires_day)
    path = treasury.path(held.company_id)
    booking = Booking(
        tx,
        "gateway",
        CAUSE,
        held.company_id,
        path,
        held.id,
        held.serial,
        journal=treasury.journal,
    )
    booking.post(Kind.TRIAL, ISSUER, pool, days, free=True)
    booking.post(
        Kind.ACTIVATE,
        pool,
        treasury.prepaid(held.id),
        days,
        free=True,
        payer_id=held.company_id,
        payer_path=(held.company_id,),
    )
    held.period_start, held.period_end = tx.now_ms, tx.now_ms + days * DAY_MS
    held.period_seq, held.payer_id = seq, held.company_id
    held.grace_from = held.grace_until = held.attempted_at = None
    return True
