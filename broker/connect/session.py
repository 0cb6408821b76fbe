"""One session: opened over the API, its link held up until the session is over."""

import asyncio
import random
import secrets
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from broker.connect import words
from broker.connect.api import Api, ApiError, CertificateRefused, Refused, tls_context
from broker.connect.arguments import Wanted
from broker.connect.connection import CertificateWrong, DialFailed, NotNeeded, Relay, dial
from wire.budget import SESSION_BYTES, Budget
from wire.frames import FrameReader, LinkError
from wire.hello import SECRET_BYTES, Answered, Word
from wire.link import Link
from wire.resuming import Bearer
from wire.targets import PORT_MAX
from wire.transport import Transport

BACKOFF_S_FIRST = 0.2
BACKOFF_S_MAX = 2.0  # sessions go on within seconds of a relay's restart
QUESTION_S_MAX = 5.0
FORGET_S = 90.0  # longer than the relay, which may notice the loss later
ASK_EVERY = 4  # tries to resume: then the gateway is asked whether the session is over
STEADY_S = 5.0  # a link that lasted so long was not part of a failure that repeats
# Refusals of the API after which no other ticket will be better.
_FINAL = frozenset({"signed_out", "forbidden", "service_unpaid", "company_suspended", "validation"})
# Refusals of the relay that another ticket cures.
_RENEWED = frozenset({"relay_restarted", "ticket_used", "ticket_expired"})

Say = Callable[[str], None]


class Hindered(Exception):
    """There is no link now; trying again may help. The text says what is in the way."""


class Over(Exception):
    """The session is over, or cannot be used; the text says why."""


class Session:
    """Made by `open_session`; `keep` runs as long as the session is wanted."""

    def __init__(
        self,
        api: Api,
        wanted: Wanted,
        shown: dict[str, Any],
        *,
        ca: Path | None,
        at: tuple[str, int] | None,
        say: Say,
        rng: random.Random,
    ) -> None:
        self.wanted = wanted
        self.id = str(shown.get("id", ""))
        self.target = words.clean(shown.get("target", ""))
        self.protocol = words.clean(shown.get("protocol", ""))
        self.expires_at = words.clean(shown.get("expires_at", ""))
        self.over: str | None = None  # why it cannot be used any more
        self.trouble = ""  # why there is no link
        self._api = api
        self._ca = ca
        self._at = at  # where to dial the relay instead of where the gateway says
        self._say = say
        self._rng = rng
        self._context: ssl.SSLContext | None = None
        self._link: Link | None = None  # it waits for another connection where it has none
        self._relay: Relay | None = None
        self._ticket = ""  # until it is shown
        self._bearer = Bearer(b"")  # of the present link, or the next one
        self._stirred = asyncio.Event()  # the connection is lost, or doubted
        self._loss = ""
        self._forget: asyncio.TimerHandle | None = None
        self._settled = asyncio.Event()  # a link is up, or none will ever be

    @property
    def link(self) -> Link | None:
        """The link, while it has a connection."""
        return self._link if self._link is not None and self._link.attached else None

    async def linked(self, limit_s: float) -> Link | None:
        """Waits for the link; None when it does not come in time, or never will."""
        try:
            async with asyncio.timeout(limit_s):
                await self._settled.wait()
        except TimeoutError:
            return None
        return self.link

    async def keep(self) -> None:
        """Holds the link up until the session is over; then `over` says why."""
        tries = 0
        while True:
            try:
                if self._link is None or self._link.doubted:
                    await self._dial(tries)
                self._link_up()
                up_s = asyncio.get_running_loop().time()
                await self._stirred.wait()
                self._stirred.clear()
                if asyncio.get_running_loop().time() - up_s >= STEADY_S:
                    tries = 0
                if self.link is not None:
                    continue  # it is doubted
                self._settled.clear()
                await self._lost()
            except Hindered as error:
                self._hindered(str(error))
            except Over as error:
                self.over = str(error)
                self._settled.set()
                return
            tries += 1
            most_s = min(BACKOFF_S_MAX, BACKOFF_S_FIRST * 2 ** min(tries, 10))
            await asyncio.sleep(self._rng.uniform(most_s / 2, most_s))

    async def close(self) -> None:
        """Ends the session at the gateway; one that is over already is well."""
        self.hang_up()
        try:
            async with asyncio.timeout(QUESTION_S_MAX):
                await self._api.ask(
                    "DELETE", f"/sessions/{self.id}", key=secrets.token_hex(16), tries=1
                )
        except (ApiError, TimeoutError) as error:
            if not isinstance(error, Refused):
                self._say(f"{self.wanted}: the session could not be closed; it ends by itself")

    def hang_up(self) -> None:
        """Ends the link, and with it all streams."""
        if self._link is not None:
            self._link.bye("closed")

    async def explanation(self, reason: str) -> str:
        """Why a stream was refused; the gateway is asked which hop is in the way."""
        code, line = "", ""
        if reason in words.BY_TARGET:
            # The device was there and said so: the other hops are well.
            return f"{self.wanted}: {words.of_refusal(reason)}"
        try:
            async with asyncio.timeout(QUESTION_S_MAX):
                found = await self._api.ask("GET", f"/sessions/{self.id}/diagnosis", tries=1)
            code, line = words.of_diagnosis(found)
        except (ApiError, TimeoutError):
            pass  # then the relay's word has to do
        if code == reason:
            return f"{self.wanted}: {line}"
        text = f"{self.wanted}: {words.of_refusal(words.clean(reason))}"
        return f"{text}\n{line}" if line else text

    # Inside

    async def _dial(self, tries: int) -> None:
        """Another connection for the link, or a new ticket and a new link.

        Raises `Hindered` and `Over`.
        """
        resuming = self._bearer.shown
        if not resuming:
            self._bearer = Bearer(secrets.token_bytes(SECRET_BYTES))
            self._ticket, self._relay = await self._new_ticket()
        elif tries % ASK_EVERY == ASK_EVERY - 1:
            over = await self._why_over()
            if over:
                raise Over(over)
        relay = self._relay
        assert relay is not None
        if relay.tls and self._context is None:
            try:
                self._context = tls_context(self._ca, system_too=True)
            except ApiError as error:
                raise Over(str(error)) from error
        try:
            answered = await dial(
                relay,
                self._make_hello,
                self._take_answer,
                context=self._context,
                random_bytes=secrets.token_bytes,
            )
        except NotNeeded:
            return
        except CertificateWrong as error:
            raise Over(str(error)) from error
        except DialFailed as error:
            raise Hindered(str(error)) from error
        if answered.word not in (Word.WELCOME, Word.RESUMED, Word.FRESH):
            self._forget_link()
            if not resuming or answered.word is Word.OVER:
                await self._turned_away(answered)
            await self._dial(0)  # nothing is kept there any more: at once, with a new ticket

    def _make_hello(self) -> bytes:
        """A ticket is shown once; if its answer is lost the secret does as well."""
        if not self._bearer.shown:
            return self._bearer.hello(self._ticket)
        link = self._link
        if link is None:
            return self._bearer.resume(self.id, 0)
        if not link.doubted:
            raise NotNeeded
        # Unread from here on: what it still brings is of a connection given up.
        taken = link.detach()
        self._wait_for_another()
        return self._bearer.resume(self.id, taken)

    def _take_answer(
        self, answered: Answered, transport: Transport, reader: FrameReader
    ) -> Link | None:
        """The link that goes on over this connection, or begins there."""
        if answered.word is Word.RESUMED and self._link is not None:
            try:
                self._link.attach(transport, reader, answered.received)
            except LinkError:
                self._forget_link()
                return None
        elif answered.word in (Word.WELCOME, Word.FRESH, Word.RESUMED):
            if self._link is not None:
                self._link.end("link_lost")
            self._link = self._new_link(transport, reader)
        else:
            return None
        self._stop_waiting()
        self._stirred.clear()
        return self._link

    def _new_link(self, transport: Transport, reader: FrameReader) -> Link:
        def ended(reason: str) -> None:
            if self._link is link:
                self._link, self._loss = None, reason
                self._bearer = Bearer(b"")
                self._stop_waiting()
                self._stirred.set()

        loop = asyncio.get_running_loop()
        link = Link(
            transport,
            budget=Budget(SESSION_BYTES),
            clock=loop.time,
            later=loop.call_later,
            on_end=ended,
            on_loss=self._connection_lost,
            on_doubt=self._stirred.set,
            reader=reader,
        )
        return link

    def _connection_lost(self, reason: str) -> None:
        self._loss = reason
        self._wait_for_another()
        self._stirred.set()

    def _wait_for_another(self) -> None:
        """Streams wait with the link, but not for ever: the relay does not either."""
        if self._forget is None:
            loop = asyncio.get_running_loop()
            self._forget = loop.call_later(FORGET_S, self._forget_link)

    def _stop_waiting(self) -> None:
        if self._forget is not None:
            self._forget.cancel()
            self._forget = None

    def _forget_link(self) -> None:
        """What comes next begins with a new ticket."""
        self._forget = None
        self._bearer = Bearer(b"")
        if self._link is not None and not self._link.attached:
            self._link.end("link_lost")

    async def _turned_away(self, answered: Answered) -> NoReturn:
        reason = words.clean(answered.reason)
        if answered.word is Word.OVER or reason == "session_over":
            raise Over(await self._why_over() or words.of_end(reason or "over"))
        if answered.word is Word.REFUSED and reason not in _RENEWED:
            # A session that ended in this moment looks like that, too.
            over = await self._why_over()
            if over:
                raise Over(over)
            raise Hindered(f"the relay did not accept the ticket ({reason or 'no reason given'})")
        raise Hindered(f"the relay wants another ticket ({reason or answered.word.value})")

    async def _new_ticket(self) -> tuple[str, Relay]:
        try:
            answer = await self._api.ask(
                "POST",
                f"/sessions/{self.id}/tickets",
                {"way": "connect"},
                key=secrets.token_hex(16),
                tries=1,
            )
        except CertificateRefused as error:
            raise Over(str(error)) from error
        except Refused as error:
            if error.code in ("session_over", "not_found"):
                raise Over(await self._why_over() or str(error)) from error
            if error.code in _FINAL:
                raise Over(str(error)) from error
            raise Hindered(str(error)) from error
        except ApiError as error:
            raise Hindered(str(error)) from error
        ticket, relay = _ticket_of(answer)
        if self._at is not None:
            relay = relay._replace(hosts=(self._at[0],), port=self._at[1])
        return ticket, relay

    async def _lost(self) -> NoReturn:
        """The connection is lost, or the link has ended. Raises `Over` if the session has."""
        reason = self._loss
        if self._link is not None:
            # The gateway is not asked: it may be behind the same network.
            raise Hindered(f"the link to the relay is lost ({words.clean(reason)})")
        over = await self._why_over()
        if over:
            raise Over(over)
        if reason in words.ENDS:
            # The gateway may be away, or not know yet: the next ticket will tell.
            raise Hindered(f"the relay ended the link: {words.of_end(reason)}")
        raise Hindered(f"the link to the relay is lost ({words.clean(reason)})")

    async def _why_over(self) -> str:
        """Empty while the session is not over, or nobody answers."""
        try:
            async with asyncio.timeout(QUESTION_S_MAX):
                shown = await self._api.ask("GET", f"/sessions/{self.id}", tries=1)
        except (ApiError, TimeoutError):
            return ""
        if not isinstance(shown, dict) or shown.get("state") != "ended":
            return ""
        return words.of_end(words.clean(shown.get("ended_because") or "over"))

    def _link_up(self) -> None:
        if self.trouble:
            self._say(f"{self.wanted}: connected to the relay")
        self.trouble = ""
        if self.link is not None:
            self._settled.set()

    def _hindered(self, text: str) -> None:
        if text != self.trouble:
            self.trouble = text
            self._say(f"{self.wanted}: {text}\ntrying again …")


def _ticket_of(answer: Any) -> tuple[str, Relay]:
    """Raises `Hindered` for an answer that is none."""
    relay = answer.get("relay") if isinstance(answer, dict) else None
    ticket = answer.get("ticket") if isinstance(answer, dict) else None
    if isinstance(ticket, str) and isinstance(relay, dict):
        hosts, port, name = relay.get("hosts"), relay.get("port"), relay.get("name")
        if (
            isinstance(hosts, list)
            and type(port) is int
            and 0 < port <= PORT_MAX
            and isinstance(name, str)
            and name.isascii()
            and name.isprintable()
            and " " not in name
        ):
            return ticket, Relay(tuple(map(str, hosts)), port, bool(relay.get("tls")), name)
    raise Hindered("the gateway's answer holds no ticket: is it another version?")


async def open_session(
    api: Api,
    wanted: Wanted,
    *,
    minutes: int,
    reason: str,
    ca: Path | None,
    at: tuple[str, int] | None,
    say: Say,
    rng: random.Random,
) -> Session:
    """Asks the gateway for it. Raises `ApiError`."""
    content: dict[str, Any] = {"serial": wanted.serial, "minutes": minutes}
    if wanted.target:
        content["target"] = wanted.target
    if wanted.protocol:
        content["protocol"] = wanted.protocol
    if reason:
        content["reason"] = reason
    shown = await api.ask("POST", "/sessions", content, key=secrets.token_hex(16))
    if not isinstance(shown, dict) or not shown.get("id"):
        raise ApiError("the gateway's answer holds no session: is it another version?")
    return Session(api, wanted, shown, ca=ca, at=at, say=say, rng=rng)
