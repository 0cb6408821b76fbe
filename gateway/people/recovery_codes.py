"""Recovery codes: each takes the place of the second factor once."""

import base64
import secrets

from gateway.people.tokens import hash_token

COUNT = 10
CODE_BYTES = 10  # 80 bits, so a plain hash needs no salt
_GROUP = 4


def new_codes() -> list[str]:
    """Ten codes such as `abcd-efgh-ijkl-mnop`."""
    return [_grouped(secrets.token_bytes(CODE_BYTES)) for _ in range(COUNT)]


def hash_code(code: str) -> bytes:
    """The form in which codes are stored; how they are typed makes no difference."""
    return hash_token("".join(code.lower().replace("-", " ").split()))


def _grouped(raw: bytes) -> str:
    text = base64.b32encode(raw).decode().lower()
    return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))
