"""Use cases: load, decide, store; each registered once."""
