"""One session at the relay: its device's link, its visitors, its counts and its end."""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from broker.relay.arrivals import address_key
from broker.relay.bandwidth import Bandwidth
from broker.relay.clock import Clock
from broker.relay.detached import Detached
from broker.relay.errors import StreamRefused
from broker.relay.happenings import Happenings
from broker.relay.lease import LeaseWatch
from broker.relay.limits import Key, Limits, Tally
from broker.relay.opening import Pace
from wire.budget import SESSION_BYTES, Budget
from wire.frames import LinkError
from wire.link import Link
from wire.relay_control import Note, Usage
from wire.resuming import Keeper
from wire.stream import Stream, User
from wire.tickets import Claims

log = logging.getLogger(__name__)

LINK_WAIT_S = 15.0  # a visitor waits so long for the device's link
COOKIE_BYTES = 32
# What the gateway says of a device that will not come whatever one waits for.
FINAL_CODES = frozenset({"not_allowed"})
# What an agent says instead of accepting a stream.
REFUSALS = frozenset({"not_allowed", "refused", "timed_out", "unreachable", "busy"})


class Guest(Protocol):
    """What ends with its session: a visitor's link, connections towards the device."""

    def session_ended(self, reason: str) -> None:
        """The session is over; its streams have ended. Never raises."""


class Caller(Guest, Protocol):
    """A visitor's link."""

    @property
    def away(self) -> bool:
        """Whether it has no connection at present."""


@dataclass(frozen=True)
class Shared:
    """What all sessions of a relay share. `note` asks why a session's device has not come."""

    clock: Clock
    lease: LeaseWatch
    happenings: Happenings
    limits: Limits
    tally: Tally
    budget: Budget
    detached: Detached
    bandwidth: Bandwidth
    note: Callable[[str], Note | None]
    forget: Callable[["Session", str], None]


class Session:
    """Made of the first valid ticket's claims."""

    def __init__(self, claims: Claims, shared: Shared) -> None:
        now_s = shared.clock.now_s()
        self.claims = claims
        self.id = claims.session
        self.host = claims.host
        self.until_ms = claims.until_ms
        self.budget = Budget(SESSION_BYTES, shared.budget)
        self.channel: Link | None = None  # the device's; kept for a while without a connection
        self.keeper: Keeper | None = None  # by which the device resumes, after its first hello
        self.over = ""  # the reason, once it has ended
        self._linked = False  # as was told last
        self._shared = shared
        self.opens_per_s = shared.limits.opens_per_s
        self.rates = shared.bandwidth.begin(claims.company)
        self._pace = Pace(self.opens_per_s, asyncio.get_running_loop().time)
        self._changed = asyncio.Event()
        self._browsers: dict[bytes, str] = {}  # hash of a cookie, address
        self._links: dict[Caller, None] = {}  # the oldest first
        self._guests: set[Guest] = set()
        self._to_device = self._from_device = self._opened = 0  # of links that are gone
        self._seen_bytes = self._seen_opened = 0
        self._stream_s = self._byte_s = now_s  # when one was last open, or moved

    # Streams

    async def stream(self, user: User, *, wait_s: float = LINK_WAIT_S, address: str = "") -> Stream:
        """Opens a stream to the target, for a visitor at this address; data may follow at once.

        Waits for the device's link, at most so long. Raises `StreamRefused`. What the device says
        later reaches `user.stream_ended(reason)`. The stream's `user` must not be exchanged.
        """
        self._check()
        keys = self._keys(address)
        if not self._shared.tally.take(keys):
            raise StreamRefused("busy")
        try:
            link = self.link
            if link is None or not self._has_room() or not self._pace.at_once():
                link = await self._turn(wait_s)
            stream = self._open(link, user)
        except BaseException:
            self._shared.tally.give(keys)
            raise
        stream.released = partial(self._shared.tally.give, keys)
        return stream

    def _keys(self, address: str) -> tuple[Key, ...]:
        claims = self.claims
        keys = (
            ("session", self.id),
            ("device", claims.device),
            ("person", claims.person),
            ("company", claims.company),
        )
        return (*keys, ("address", address_key(address))) if address else keys

    async def _turn(self, wait_s: float) -> Link:
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    while self.link is None:
                        await self._changed.wait()
                        self._check()
                    await self._room()
                    await self._pace.wait()
                    self._check()
                    if self.link is not None:
                        return self.link
        except TimeoutError:
            raise StreamRefused("busy") if self.link is not None else self._away() from None

    def _has_room(self) -> bool:
        rate = self.rates[1]
        return rate is None or rate.free

    async def _room(self) -> None:
        """A new stream brings a window of its own, so above a limit of bandwidth it waits for
        its turn, too."""
        rate = self.rates[1]
        if rate is not None and not rate.free:
            turn = asyncio.Event()
            rate.when_free(turn.set)
            await turn.wait()

    def _check(self) -> None:
        if self.over:
            raise StreamRefused("session_over", detail=self.over)
        if not self._shared.lease.fresh:
            raise StreamRefused("control_link_lost")
        if self.link is None:
            note = self._shared.note(self.id)
            if note is not None and note.code in FINAL_CODES:
                raise _of_note(note)

    def _away(self) -> StreamRefused:
        note = self._shared.note(self.id)
        return StreamRefused("no_link") if note is None else _of_note(note)

    def _open(self, link: Link, user: User) -> Stream:
        watched = _Watched(user, self._device_refused)
        try:
            stream = link.open(watched)
        except LinkError as error:
            raise StreamRefused("busy") from error
        watched.stream = stream
        return stream

    def _device_refused(self, reason: str) -> None:
        self._shared.happenings.add(self.id, "refused", reason)

    # The device's link

    @property
    def link(self) -> Link | None:
        """The device's, while it has a connection."""
        return self.channel if self.channel is not None and self.channel.attached else None

    def link_up(self, link: Link) -> None:
        """The device's link has begun, or goes on; one before it has ended."""
        assert self.channel is None or self.channel is link
        self.channel = link
        self._shared.detached.remove(link)
        self._linked = True
        self._shared.happenings.add(self.id, "link_up")
        self.stir()

    def link_away(self, link: Link, reason: str) -> None:
        """Its connection is lost, and it waits for another; its streams wait with it."""
        self._shared.detached.add(link, self.held_bytes)
        self._unlinked(reason)

    def held_bytes(self) -> int:
        """Memory that was promised to others, or waits to be acknowledged by the device."""
        kept = 0 if self.channel is None else self.channel.held_bytes
        return self.budget.used + kept

    def _unlinked(self, reason: str) -> None:
        if self._linked:
            self._linked = False
            self._shared.happenings.add(self.id, "link_lost", reason)
        self.stir()

    def link_down(self, link: Link, reason: str) -> None:
        """The link is over; what is said of an older one is ignored."""
        self._shared.detached.remove(link)
        if self.channel is not link:
            return
        self.channel = None
        self._to_device += link.streams.bytes_out
        self._from_device += link.streams.bytes_in
        self._opened += link.streams.opened
        self._unlinked(reason)

    def stir(self) -> None:
        """Whoever waits looks again: a link, a note, an end."""
        self._changed.set()
        self._changed = asyncio.Event()

    # Visitors

    def admit_browser(self, address: str) -> str:
        """A browser's ticket was accepted; the value of its cookie. Raises `StreamRefused`."""
        if self.over:
            raise StreamRefused("session_over", detail=self.over)
        while len(self._browsers) >= self._shared.limits.browsers_per_session:
            del self._browsers[next(iter(self._browsers))]  # the oldest has to ask again
        cookie = secrets.token_urlsafe(COOKIE_BYTES)
        self._browsers[_hashed(cookie)] = address
        self._shared.happenings.add(self.id, "visitor", "web")
        return cookie

    def knows_browser(self, cookie: str) -> bool:
        """Whether this cookie was made here, for this session, and not dismissed."""
        return not self.over and _hashed(cookie) in self._browsers

    def dismiss_browser(self, cookie: str) -> None:
        """The browser leaves."""
        self._browsers.pop(_hashed(cookie), None)

    def admit_link(self, link: Caller) -> None:
        """A visitor's link was accepted by its ticket. Raises `StreamRefused`."""
        if len(self._links) >= self._shared.limits.links_per_session:
            away = next((one for one in self._links if one.away), None)
            if away is None:
                raise StreamRefused("busy")
            _safely(away.session_ended, "link_lost")  # whoever is here goes first
        self.attach(link)
        self._links[link] = None
        self._shared.happenings.add(self.id, "visitor", "connect")

    def dismiss_link(self, link: Caller) -> None:
        """The visitor's link has ended."""
        self._links.pop(link, None)
        self.detach(link)

    def callers(self) -> tuple[Caller, ...]:
        """Visitors' links."""
        return tuple(self._links)

    def keep(self, link: Link, held: Callable[[], int]) -> None:
        """The link of a visitor has lost its connection; `held` tells how much memory it takes."""
        self._shared.detached.add(link, held)

    def keep_no_more(self, link: Link) -> None:
        """It has another one, or is over."""
        self._shared.detached.remove(link)

    def attach(self, guest: Guest) -> None:
        """The guest is told when the session ends. Raises `StreamRefused`."""
        if self.over:
            raise StreamRefused("session_over", detail=self.over)
        if len(self._guests) >= self._shared.limits.guests_per_session:
            raise StreamRefused("busy")
        self._guests.add(guest)

    def detach(self, guest: Guest) -> None:
        """The guest has gone by itself."""
        self._guests.discard(guest)

    def visitor_budget(self) -> Budget:
        """For one visitor's link."""
        return Budget(SESSION_BYTES, self.budget)

    # Counts and the end

    def usage(self) -> Usage:
        """Absolute counts of this relay life."""
        link = self.channel
        counted = (0, 0, 0, 0)
        if link is not None:
            streams = link.streams
            counted = (streams.bytes_out, streams.bytes_in, len(streams), streams.opened)
        return Usage(
            self.id,
            self._to_device + counted[0],
            self._from_device + counted[1],
            counted[2],
            self._opened + counted[3],
            len(self._browsers) + sum(not link.away for link in self._links),
            self.link is not None,
        )

    def due(self) -> str:
        """Why it must end now; empty when it may go on. To be asked every second or so."""
        clock = self._shared.clock
        now_s = clock.now_s()
        usage = self.usage()
        if usage.streams or usage.opened != self._seen_opened:
            self._stream_s, self._seen_opened = now_s, usage.opened
        if usage.to_device + usage.from_device != self._seen_bytes:
            self._byte_s, self._seen_bytes = now_s, usage.to_device + usage.from_device
        if clock.wall_ms() >= self.until_ms:
            return "expired"
        if now_s - self._stream_s >= self.claims.idle_streams_s:
            return "idle_streams"
        if now_s - self._byte_s >= self.claims.idle_bytes_s:
            return "idle_bytes"
        return ""

    def end(self, reason: str) -> None:
        """Ends everything of it, now and for good; says why to the device and to visitors."""
        if self.over:
            return
        self.let_go(reason)
        self._shared.happenings.add(self.id, "ended", reason)
        self._shared.forget(self, reason)

    def let_go(self, reason: str) -> None:
        """Says goodbye to all, and takes nobody in any more."""
        self.over = reason
        # One guest's mistake must cost neither the others nor the relay, whose task this mostly is.
        if self.channel is not None:
            _safely(self.channel.bye, reason)
        for guest in list(self._guests):
            _safely(guest.session_ended, reason)
        self._guests.clear()
        self._links.clear()
        self._browsers.clear()
        self.stir()


class _Watched:
    """A stream's user, of whom the device's refusal is noted."""

    __slots__ = (
        "_refused",
        "_user",
        "stream",
        "stream_data",
        "stream_finished",
        "stream_room",
    )

    def __init__(self, user: User, refused: Callable[[str], None]) -> None:
        self._user = user
        self._refused = refused
        self.stream: Stream | None = None
        # Straight through: these are called for each piece of data.
        self.stream_data = user.stream_data
        self.stream_finished = user.stream_finished
        self.stream_room = user.stream_room

    def stream_ended(self, reason: str) -> None:
        if reason in REFUSALS and self.stream is not None and not self.stream.arrived:
            self._refused(reason)
        _safely(self._user.stream_ended, reason)


def _of_note(note: Note) -> StreamRefused:
    return StreamRefused(note.code, note.hop, since_ms=note.at_ms)


def _safely(call: Callable[[str], None], reason: str) -> None:
    try:
        call(reason)
    except Exception:  # whatever it is, it is logged
        log.exception("a guest failed at its end reason=%s", reason)


def _hashed(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode(errors="replace")).digest()
