"""What other pages may ask of a session's host: nothing, except to be linked to."""

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote

PREFIX = "/.fleetgate"
_DECODINGS_MAX = 8
_HOST = re.compile(rb"(s-[a-z2-7]{26})\.([a-z0-9.-]+)(?::([0-9]{1,5}))?")

RawHeaders = Iterable[tuple[bytes, bytes]]


class Host(NamedTuple):
    """The session's host as the visitor wrote it."""

    label: str
    netloc: bytes  # with the port, if one was given


def host_of(headers: RawHeaders, domain: str) -> Host | None:
    """The one `Host` of a session under this domain; None for anything else."""
    given = [value for key, value in headers if key.lower() == b"host"]
    found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    if found is None or found[2] != domain.encode():
        return None
    return Host(found[1].decode(), given[0])


def one(headers: RawHeaders, name: bytes) -> bytes | None:
    """The header's value; one that was sent twice differently counts as neither."""
    values = {value for key, value in headers if key.lower() == name}
    if not values:
        return None
    return values.pop() if len(values) == 1 else b""


def is_navigation(headers: RawHeaders, method: str) -> bool:
    """A person follows a link or types an address: the whole page is replaced."""
    if method != "GET":
        return False
    mode, destination = one(headers, b"sec-fetch-mode"), one(headers, b"sec-fetch-dest")
    if mode is None and destination is None:
        # A browser without these headers, such as one on plain HTTP.
        return b"text/html" in (one(headers, b"accept") or b"")
    return mode == b"navigate" and destination == b"document"


def may_ask(headers: RawHeaders, method: str, own_origin: bytes, *, websocket: bool) -> bool:
    """Whether this request may come from where it says."""
    origin = one(headers, b"origin")
    if websocket:
        # Browsers always send it, and let any page open a WebSocket to any host.
        return origin == own_origin and one(headers, b"sec-fetch-site") in (None, b"same-origin")
    site = one(headers, b"sec-fetch-site")
    if site is None:
        return origin is None or origin == own_origin
    if site in (b"same-origin", b"none"):
        return True
    mode, destination = one(headers, b"sec-fetch-mode"), one(headers, b"sec-fetch-dest")
    return method == "GET" and mode == b"navigate" and destination == b"document"


def is_worker_script(headers: RawHeaders) -> bool:
    """Whether a page installs a service worker, as every browser says that asks for its script.

    It would answer for the whole host, our prefix included: see tickets on their way, and go on
    showing a page after its session's end.
    """
    destination = one(headers, b"sec-fetch-dest")
    return destination == b"serviceworker" or one(headers, b"service-worker") is not None


def is_ours(path: str) -> bool:
    """Whether any reading of the path leads under our prefix; such a path is never forwarded.

    Servers differ in what they decode, how often, and which characters they take for a slash, so
    a segment that anybody could read as ours is enough.
    """
    if "%" not in path and "\\" not in path and path.isascii():
        return PREFIX in path.lower() and _has_segment(path)
    for _ in range(_DECODINGS_MAX):
        if _has_segment(path):
            return True
        decoded = unquote(path, errors="replace")
        if decoded == path:
            return False
        path = decoded
    return True  # nobody encodes so often without a purpose


def _has_segment(path: str) -> bool:
    folded = unicodedata.normalize("NFKC", path).casefold().replace("\\", "/")
    folded = "".join(one for one in folded if one.isprintable() and not one.isspace())
    segments = folded.replace("?", "/").replace("#", "/").replace(";", "/").split("/")
    return any(segment.rstrip(".") == PREFIX[1:] for segment in segments)
