"""What is told when a device's service changes by itself: nobody could pay, or it was silent."""

from gateway.domain.instants import instant_text
from gateway.domain.notices import Notice
from gateway.domain.service import Reason, Service, State
from gateway.operations.announcing import tell
from gateway.operations.held import Held
from gateway.operations.treasury import Treasury
from gateway.storage.transaction import Transaction


def announce(tx: Transaction, treasury: Treasury, held: Held, before: Service) -> None:
    """Tells those who could pay that grace began; its company that a silent device is off."""
    if held.reason == before.reason:
        return
    if held.reason == Reason.GRACE:
        assert held.grace_until is not None
        detail = {"until": instant_text(held.grace_until)}
        for company_id in treasury.asked(held.company_id):
            key = f"grace_began {held.id} {held.grace_from} {company_id}"
            tell(tx, company_id, Notice.GRACE_BEGAN, held.serial, detail, key)
    elif held.reason == Reason.UNHEARD and before.state is State.ACTIVE:
        key = f"device_unheard {held.id} {held.last_end}"
        tell(tx, held.company_id, Notice.DEVICE_UNHEARD, held.serial, {}, key)
