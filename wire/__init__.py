"""What travels between Fleetgate's programs: topics, messages, receipts, commands, join strings."""
