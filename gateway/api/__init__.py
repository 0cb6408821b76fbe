"""The HTTP API, made from the registry of operations; /status, metrics and their listeners."""
