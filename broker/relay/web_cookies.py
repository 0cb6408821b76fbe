"""The relay's cookies among those of a device: read and cut by exact name, never overwritten."""

from collections.abc import Iterable
from typing import NamedTuple

_BLANK = b" \t"
_NAMES = (b"fleetgate-relay", b"fleetgate-state")
_PREFIX = b"__Host-"
# All that are ever ours, so that a page can plant none before a relay changes to TLS.
OURS = frozenset(prefix + name for prefix in (b"", _PREFIX) for name in _NAMES)
_OURS_LOWER = frozenset(name.lower() for name in OURS)


class CookieNames(NamedTuple):
    """The names in use; with TLS browsers let only this very host set them."""

    relay: bytes
    state: bytes
    secure: bool


def names(*, secure: bool) -> CookieNames:
    """The names at relays with TLS, and at those on loopback without."""
    prefix = _PREFIX if secure else b""
    return CookieNames(prefix + _NAMES[0], prefix + _NAMES[1], secure)


def values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """All values of the cookie; a page of the device may have put others beside ours."""
    found = []
    for key, value in headers:
        if key.lower() == b"cookie":
            for part in value.split(b";"):
                one, equals, rest = part.strip(_BLANK).partition(b"=")
                if equals and one.rstrip(_BLANK) == name:
                    found.append(rest.strip(_BLANK))
    return found


def cut(value: bytes) -> bytes:
    """A `Cookie` header without ours; the others stay as they are, empty when none is left."""
    parts = value.split(b";")
    kept = [part for part in parts if not _is_ours(part)]
    if len(kept) == len(parts):
        return value
    return b";".join(kept).strip(_BLANK)


def _is_ours(part: bytes) -> bool:
    return part.strip(_BLANK).partition(b"=")[0].rstrip(_BLANK) in OURS


def for_visitor(value: bytes) -> bytes | None:
    """A device's `Set-Cookie` without `Domain`; None when it would touch one of ours.

    Browsers take a cookie without a name as its value alone: `=a=b` comes back as `a=b`.
    """
    pair, *attributes = value.split(b";")
    name = pair.strip(_BLANK).lstrip(b"=").lstrip(_BLANK).partition(b"=")[0].rstrip(_BLANK)
    if name.lower() in _OURS_LOWER:
        return None
    kept = [one for one in attributes if one.partition(b"=")[0].strip(_BLANK).lower() != b"domain"]
    return b";".join([pair, *kept])


def setting(name: bytes, value: str, *, secure: bool, age_s: int | None = None) -> bytes:
    """A `Set-Cookie` of ours: for this host alone, out of scripts' reach."""
    text = name + b"=" + value.encode("ascii") + b"; Path=/; HttpOnly; SameSite=Lax"
    if age_s is not None:
        text += b"; Max-Age=%d" % age_s
    return text + b"; Secure" if secure else text
