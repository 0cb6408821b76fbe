"""A relay that tests know, as a gateway keeps it."""

from gateway.operations.relays import register_relay
from gateway.storage.transaction import Transaction

RELAY = "relay-1"


def one_relay(
    tx: Transaction, relay_id: str = RELAY, *, tls: bool = False, public_port: int = 8885
) -> None:
    """As `fleetgate up` registers it on loopback."""
    register_relay(
        tx,
        relay_id,
        hosts=["127.0.0.1"],
        port=8885,
        domain="localhost",
        public_port=public_port,
        tls=tls,
    )
