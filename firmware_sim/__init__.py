"""Routers that do not exist: worlds, fleets of real agents, and raw load."""
