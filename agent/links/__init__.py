"""The agent's side of sessions: links to relays, and the targets that they lead to."""
