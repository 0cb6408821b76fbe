"""The terminal in the browser: SSH from here to a router, through its session's tunnel."""
