"""The server: it takes heartbeats, keeps companies, credits and devices, and answers people."""
