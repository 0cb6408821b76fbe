"""All sessions of a relay, and those that are over."""

import logging
from collections import OrderedDict, deque

from broker.relay.bandwidth import Bandwidth
from broker.relay.clock import Clock
from broker.relay.detached import Detached
from broker.relay.errors import TicketRefused
from broker.relay.happenings import Happenings
from broker.relay.lease import LeaseWatch
from broker.relay.limits import Limits, Tally
from broker.relay.session import Guest, Session, Shared
from wire.budget import RELAY_BYTES, Budget
from wire.relay_control import Note, Usage
from wire.tickets import Claims

__all__ = ["Guest", "Session", "Sessions"]

log = logging.getLogger(__name__)

SWEEP_EVERY_S = 1.0
OVER_S = 24 * 3600
OVER_MAX = 100_000
NOTES_MAX = 2_000
NOTE_S = 60.0  # a note that is not repeated for so long says nothing any more
LAST_USAGES_MAX = 5_000


class Sessions:
    """By id and by host label."""

    def __init__(
        self, *, clock: Clock, lease: LeaseWatch, happenings: Happenings, limits: Limits
    ) -> None:
        self.limits = limits
        self.budget = Budget(RELAY_BYTES)
        self.happenings = happenings
        self.detached = Detached(clock, self.budget)
        self.connected = 0  # devices' connections, those too to which goodbye was said
        self.bandwidth = Bandwidth(limits)
        self._clock = clock
        self._lease = lease
        self._by_id: dict[str, Session] = {}
        self._by_host: dict[str, Session] = {}
        self._over: OrderedDict[str, tuple[str, float]] = OrderedDict()  # reason, when
        self._notes: OrderedDict[str, tuple[Note, float]] = OrderedDict()
        self._last: deque[tuple[int, Usage]] = deque(maxlen=LAST_USAGES_MAX)
        bounds = ("session", "device", "person", "address", "company")
        self._shared = Shared(
            clock=clock,
            lease=lease,
            happenings=happenings,
            limits=limits,
            tally=Tally({name: getattr(limits, name) for name in bounds}),
            budget=self.budget,
            detached=self.detached,
            bandwidth=self.bandwidth,
            note=self.note,
            forget=self._forget,
        )

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def settled(self) -> bool:
        """Whether none is open, and the gateway has stored all that happened and was counted."""
        return not (self._by_id or self._last or self.happenings.waiting(1))

    def by_id(self, session: str) -> Session | None:
        """The session, if it is open here."""
        return self._by_id.get(session)

    def by_host(self, label: str) -> Session | None:
        """The session whose own host name begins with this label."""
        return self._by_host.get(label)

    def all(self) -> list[Session]:
        """Those that are open."""
        return list(self._by_id.values())

    def over(self, session: str) -> str:
        """Why the session ended, as far as remembered; empty for one that did not."""
        known = self._over.get(session)
        return known[0] if known is not None else ""

    def check(self, claims: Claims) -> None:
        """Whether the bearer of a ticket may enter. Raises `TicketRefused`."""
        reason = self.over(claims.session)
        if not reason and claims.until_ms <= self._clock.wall_ms():
            reason = "expired"
        if reason:
            raise TicketRefused("session_over", reason)
        session = self._by_id.get(claims.session)
        if session is None:
            if claims.host in self._by_host:
                raise TicketRefused("ticket_wrong")
            if len(self._by_id) >= self.limits.sessions:
                raise TicketRefused("busy")
        elif _subject(session.claims) != _subject(claims):
            raise TicketRefused("ticket_wrong")

    def enter(self, claims: Claims) -> Session:
        """The session of a ticket that the desk has just admitted."""
        session = self._by_id.get(claims.session)
        if session is None:
            session = Session(claims, self._shared)
            self._by_id[session.id] = self._by_host[session.host] = session
        session.until_ms = max(session.until_ms, claims.until_ms)
        return session

    def revoke(self, session: str, reason: str) -> None:
        """Ends the session; one that is not here yet will never be admitted."""
        known = self._by_id.get(session)
        if known is not None:
            known.end(reason)
        else:
            self._remember(session, reason)

    def end_all(self, reason: str) -> None:
        """Ends every session."""
        for session in self.all():
            session.end(reason)

    def stop(self) -> None:
        """The relay ends, its sessions do not: devices may come back to the next one."""
        for session in self.all():
            session.let_go("relay_stopping")

    def sweep(self) -> None:
        """Ends what is over by its time; called every `SWEEP_EVERY_S`."""
        if self._lease.lost:
            self.end_all("control_link_lost")
        for session in self.all():
            try:
                reason = session.due()
                if reason:
                    session.end(reason)
            except Exception:  # one session's mistake must not cost the others
                log.exception("a session failed session=%s", session.id)
        self.detached.sweep()
        now_s = self._clock.now_s()
        while self._over and next(iter(self._over.values()))[1] <= now_s - OVER_S:
            self._over.popitem(last=False)
        while self._notes and next(iter(self._notes.values()))[1] <= now_s - NOTE_S:
            self._notes.popitem(last=False)

    # What the gateway says and hears

    def take_notes(self, notes: tuple[Note, ...]) -> None:
        """Why devices have not come."""
        now_s = self._clock.now_s()
        for note in notes:
            before = self._notes.pop(note.session, None)
            self._notes[note.session] = (note, now_s)
            session = self._by_id.get(note.session)
            if session is not None and (before is None or before[0] != note):
                session.stir()
        while len(self._notes) > NOTES_MAX:
            self._notes.popitem(last=False)

    def note(self, session: str) -> Note | None:
        """The last note on this session, if it is not too old."""
        known = self._notes.get(session)
        if known is None or known[1] <= self._clock.now_s() - NOTE_S:
            return None
        return known[0]

    def usages(self) -> list[Usage]:
        """Of all that are open, and of those whose end the gateway has not stored yet."""
        return [usage for _, usage in self._last] + [one.usage() for one in self._by_id.values()]

    def memory_bytes(self) -> int:
        """What was promised to others, and what waits to be acknowledged by devices."""
        links = (session.channel for session in self._by_id.values())
        return self.budget.used + sum(link.held_bytes for link in links if link is not None)

    def taken(self, number: int) -> None:
        """The gateway has stored what happened up to this number."""
        self.happenings.taken(number)
        while self._last and self._last[0][0] <= number:
            self._last.popleft()

    def _forget(self, session: Session, reason: str) -> None:
        del self._by_id[session.id]
        del self._by_host[session.host]
        self.bandwidth.end(session.claims.company)
        self._last.append((self.happenings.newest, session.usage()))
        self._remember(session.id, reason)

    def _remember(self, session: str, reason: str) -> None:
        self._over.setdefault(session, (reason, self._clock.now_s()))
        while len(self._over) > OVER_MAX:
            self._over.popitem(last=False)


def _subject(claims: Claims) -> tuple[str, ...]:
    return (
        claims.device,
        claims.company,
        claims.target,
        claims.protocol,
        claims.person,
        claims.host,
    )
