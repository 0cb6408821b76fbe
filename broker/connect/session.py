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
from broker.connect.connection import CertificateWrong, DialFailed, Relay, dial
from wire.budget import SESSION_BYTES, Budget
from wire.frames import FrameReader
from wire.hello import SECRET_BYTES, Answered, Hello, Word
from wire.link import Link, Transport
from wire.targets import PORT_MAX

BACKOFF_S_FIRST = 0.2
BACKOFF_S_MAX = 2.0  # sessions go on within seconds of a relay's restart
QUESTION_S_MAX = 5.0
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
        self._link: Link | None = None
        self._settled = asyncio.Event()  # a link is up, or none will ever be

    @property
    def link(self) -> Link | None:
        """The link, while it is up."""
        return None if self._link is None or self._link.ended else self._link

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
                ended = await self._dial()
                self._link_up()
                up_s = asyncio.get_running_loop().time()
                reason = await ended
                self._settled.clear()
                if asyncio.get_running_loop().time() - up_s >= STEADY_S:
                    tries = 0
                await self._lost(reason)
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
        if self.link is not None:
            self.link.bye("closed")

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

    async def _dial(self) -> asyncio.Future[str]:
        """A new ticket, then the link; the future is done when that has ended.

        Raises `Hindered` and `Over`.
        """
        ticket, relay = await self._ticket()
        if relay.tls and self._context is None:
            try:
                self._context = tls_context(self._ca, system_too=True)
            except ApiError as error:
                raise Over(str(error)) from error
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[str] = loop.create_future()

        def make_link(transport: Transport, reader: FrameReader) -> Link:
            self._link = Link(
                transport,
                budget=Budget(SESSION_BYTES),
                clock=loop.time,
                later=loop.call_later,
                on_end=lambda reason: None if ended.done() else ended.set_result(reason),
                reader=reader,
            )
            return self._link

        hello = Hello(ticket, secrets.token_bytes(SECRET_BYTES))
        try:
            answered = await dial(
                relay, hello, make_link, context=self._context, random_bytes=secrets.token_bytes
            )
        except CertificateWrong as error:
            raise Over(str(error)) from error
        except DialFailed as error:
            raise Hindered(str(error)) from error
        if answered.word is not Word.WELCOME:
            await self._turned_away(answered)
        return ended

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

    async def _ticket(self) -> tuple[str, Relay]:
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

    async def _lost(self, reason: str) -> NoReturn:
        """The link has ended. Raises `Over` if the session has."""
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
