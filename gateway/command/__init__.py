"""The `fleetgate` command."""
