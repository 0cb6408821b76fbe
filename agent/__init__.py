"""The device program: collects samples, keeps them until they are receipted, obeys commands."""
