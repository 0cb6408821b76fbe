"""Addresses of our own pages."""

from urllib.parse import urlsplit

START = "/devices"


def local_address(text: str) -> str:
    """Where to go next: an address of ours, whatever a link or a form said."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return START
    if parts.scheme or parts.netloc or not text.startswith("/") or text.startswith("//"):
        return START
    return START if "\\" in text or not text.isprintable() else text
