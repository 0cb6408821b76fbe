"""Contracts of the store, the ledger and ingest, on a real SQLite file with a clock of our own."""
