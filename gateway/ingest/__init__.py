"""From MQTT to the ledger: batches, one transaction each, then receipts."""
