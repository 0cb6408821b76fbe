"""Work by the clock: periods, recovery of unpaid devices, presence, housekeeping."""
