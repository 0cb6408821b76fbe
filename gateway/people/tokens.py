"""Tokens that people and scripts hold; the database keeps only their SHA-256."""

import hashlib
import secrets

API_TOKEN_PREFIX = "fgt_"
TOKEN_BYTES = 32  # 256 bits, so a plain hash needs no salt
TOKEN_CHARS_MAX = 128


def new_api_token() -> str:
    """A token for `Authorization: Bearer`; the prefix lets leak scanners know it."""
    return API_TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def new_sign_in_token() -> str:
    """The content of a sign-in cookie."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def new_link_token() -> str:
    """What the address of a link carries that is good once."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def new_public_id() -> str:
    """A name under which a token or sign-in is listed and ended; it opens nothing."""
    return secrets.token_hex(8)


def new_csrf_token() -> str:
    """What a page must show beside the cookie."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def hash_token(token: str) -> bytes:
    """The form in which tokens are stored and looked up.

    A header may bring any bytes: those that are no text stand in it as surrogates.
    """
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
