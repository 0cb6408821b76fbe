"""Mosquitto beside a gateway: configuration, logins, access list, proof that it is closed."""
