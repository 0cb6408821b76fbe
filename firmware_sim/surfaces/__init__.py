"""The ways in which a simulated router tells of itself, each in the forms of the real one."""
