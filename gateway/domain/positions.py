"""Which values tell where a device is."""

POSITION = frozenset({"latitude", "longitude", "altitude", "speed"})
