"""What of a request reaches the target, and what of its answer the visitor: headers in bytes."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from broker.relay import web_cookies
from wire.targets import PROTOCOL_PORTS, Target

Headers = list[tuple[bytes, bytes]]
RawHeaders = Iterable[tuple[bytes, bytes]]

# RFC 9110, section 7.6.1, and what Connection names itself.
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization "
    b"te trailer transfer-encoding upgrade".split()
)
# Where a visitor comes from is no business of the device; HTTP2-Settings belongs to an upgrade.
_NOT_FORWARDED = HOP_BY_HOP | frozenset(
    b"host expect forwarded x-real-ip http2-settings content-length".split()
)
# What a device says in them would hold for the relay's name or domain, other devices included:
# HTTPS only, another port, all cookies of the domain gone. The length is told by the caller.
_NOT_FOR_VISITORS = frozenset(
    b"strict-transport-security alt-svc clear-site-data content-length".split()
)
_FORBIDDEN_PREFIXES = (b"x-forwarded-", b"proxy-")
_LOCATIONS = frozenset({b"location", b"content-location"})
_ABSOLUTE = re.compile(
    rb"(https?)://(\[[0-9a-f:.]+\]|[^/?#:@\\\s]+)(?::([0-9]{0,5}))?(?=[/?#]|$)", re.IGNORECASE
)
_LINE_END = re.compile(rb"[\r\n\x00]")
_REFRESH = re.compile(
    rb"(\s*+[0-9.]*+\s*+[;,]\s*+(?:url\s*+=\s*+)?['\"]?)(.*)", re.IGNORECASE | re.DOTALL
)


class Mapping(NamedTuple):
    """Between the session's own origin and that of its target, as bytes."""

    scheme: bytes  # the target's
    target: Target
    own_origin: bytes  # as the visitor's browser writes it

    @property
    def target_host(self) -> bytes:
        """The `Host` that the target expects."""
        host = self.target.host.encode("ascii")
        host = b"[" + host + b"]" if b":" in host else host
        default = PROTOCOL_PORTS[self.scheme.decode()]
        return host if self.target.port == default else host + b":%d" % self.target.port

    @property
    def target_origin(self) -> bytes:
        """Scheme and host of the target's pages as they see themselves."""
        return self.scheme + b"://" + self.target_host

    def to_visitor(self, url: bytes) -> bytes:
        """A URL of the target's own origin becomes one of the session's; others stay."""
        found = _ABSOLUTE.match(url)
        if found is None or found[2].strip(b"[]").lower() != self.target.host.encode("ascii"):
            return url
        # Devices often leave their port out, or say https behind a terminator of their own.
        default = PROTOCOL_PORTS[found[1].decode().lower()]
        if found[3] and int(found[3]) not in (self.target.port, default):
            return url
        return self.own_origin + url[found.end() :]

    def to_target(self, value: bytes) -> bytes:
        """`Origin` and `Referer` of the session become those of the target's own pages."""
        if value == self.own_origin:
            return self.target_origin
        if value.startswith(self.own_origin + b"/"):
            return self.target_origin + value[len(self.own_origin) :]
        return value


def named_by_connection(headers: RawHeaders) -> frozenset[bytes]:
    """Headers that are for this hop because `Connection` says so."""
    tokens = [
        token.strip().lower()
        for key, value in headers
        if key.lower() == b"connection"
        for token in value.split(b",")
    ]
    return frozenset(tokens)


def request_headers(headers: Headers, mapping: Mapping, *, upgrade: bool) -> Headers:
    """Those that the target gets, in their order; the body's length is added by the caller."""
    dropped = named_by_connection(headers) | _NOT_FORWARDED
    kept: Headers = [(b"Host", mapping.target_host)]
    for key, value in headers:
        name = key.lower()
        if name in dropped or name.startswith(_FORBIDDEN_PREFIXES):
            continue
        if name == b"cookie":
            value = web_cookies.cut(value)
            if not value:
                continue
        elif name in (b"origin", b"referer", b"destination"):
            value = mapping.to_target(value)
        kept.append((key, value))
    if upgrade:
        kept += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    return kept


def response_headers(headers: RawHeaders, mapping: Mapping) -> Headers:
    """Those that the visitor gets; how the body's end is told is the caller's business."""
    headers = list(headers)
    dropped = (named_by_connection(headers) | HOP_BY_HOP) - {b"content-length"}
    kept: Headers = []
    for key, value in headers:
        name = key.lower()
        if name in dropped or name in _NOT_FOR_VISITORS:
            continue
        if name == b"set-cookie":
            cookie = web_cookies.for_visitor(value)
            if cookie is None:
                continue
            value = cookie
        elif name in _LOCATIONS:
            value = mapping.to_visitor(value)
        elif name == b"refresh":
            value = _refresh(value, mapping)
        kept.append((key, value))
    return kept


def _refresh(value: bytes, mapping: Mapping) -> bytes:
    found = _REFRESH.fullmatch(value)
    return value if found is None else found[1] + mapping.to_visitor(found[2])


class BadHead(ValueError):
    """A line end inside a header would let its sender write headers of its choice."""


def encode_head(first_line: bytes, headers: RawHeaders) -> bytes:
    """The head of a message. Raises `BadHead`."""
    lines = [first_line, *(key + b": " + value for key, value in headers)]
    for line in lines:
        if _LINE_END.search(line):
            raise BadHead("a line end inside a header")
    return b"\r\n".join(lines) + b"\r\n\r\n"
