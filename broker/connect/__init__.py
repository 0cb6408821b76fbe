"""`fleetgate connect`: reaches devices by local ports; needs only the standard library and wire."""
