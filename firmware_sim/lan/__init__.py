"""What a simulated router serves, and the machines that stand behind it."""
