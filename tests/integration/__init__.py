"""Tests with real sockets, processes and a real MQTT server, on loopback."""
