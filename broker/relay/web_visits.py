"""What the relay keeps per session for browsers: the way to the target, and why it ended."""

import ssl
from collections import OrderedDict
from functools import partial

from broker.relay.errors import StreamRefused
from broker.relay.session import Session
from broker.relay.upstream import Upstream, device_tls_context
from broker.relay.web_headers import Mapping
from broker.relay.web_proxy import Visit
from wire.targets import spelled_target

ENDED_MAX = 10_000
ADDRESSES_MAX = 256  # of one session's visitors
SCHEMES = frozenset({"http", "https"})


class _Open:
    """A session that browsers visit; ends with it."""

    def __init__(self, session: Session, visits: "Visits", tls: ssl.SSLContext) -> None:
        target = spelled_target(session.claims.target)
        self.scheme = session.claims.protocol
        self.target = target
        self.upstreams: dict[str, Upstream] = {}
        self._session = session
        self._visits = visits
        self._tls = tls if self.scheme == "https" else None

    def upstream(self, address: str) -> Upstream:
        """Connections are kept per visitor's address, since streams are counted by it."""
        known = self.upstreams.get(address)
        if known is None:
            if len(self.upstreams) >= ADDRESSES_MAX:
                self._tidy()
            open_stream = partial(self._session.stream, address=address)
            known = Upstream(
                open_stream,
                here=lambda: self._session.link is not None,
                tls=self._tls,
                server_name=self.target.host,
            )
            self.upstreams[address] = known
        return known

    def _tidy(self) -> None:
        """Those of addresses that ask no more. Raises `StreamRefused` when all are in use."""
        for address in [key for key, one in self.upstreams.items() if one.unused]:
            self.upstreams.pop(address).close()
        if len(self.upstreams) >= ADDRESSES_MAX:
            raise StreamRefused("busy")

    def session_ended(self, reason: str) -> None:
        self._visits.forget(self._session, reason)
        for upstream in self.upstreams.values():
            upstream.close()


class Visits:
    """By session."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()  # host label, reason
        self._tls = device_tls_context()

    def visit(self, session: Session, address: str, own_origin: bytes) -> Visit:
        """Where requests of this visitor go. Raises `StreamRefused`."""
        known = self._open.get(session.id)
        if known is None:
            if session.claims.protocol not in SCHEMES:
                raise StreamRefused("not_a_page")
            known = _Open(session, self, self._tls)
            session.attach(known)
            self._open[session.id] = known
        mapping = Mapping(known.scheme.encode(), known.target, own_origin)
        return Visit(known.upstream(address), mapping)

    def forget(self, session: Session, reason: str) -> None:
        """The session is over; its visitors are told why for a while."""
        self._open.pop(session.id, None)
        self._ended[session.host] = reason
        while len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)

    def ended(self, label: str) -> str:
        """Why the session of this host name ended; empty if that is not known."""
        return self._ended.get(label, "")
