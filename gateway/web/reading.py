"""Pages that show something: who reads, what operations answer, in the reader's own words.

A page is read and rendered in one transaction, in the store's thread: what stands on it is of one
moment, and what a button would be refused is known while the page is written.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from zoneinfo import ZoneInfo

import msgspec
from aiohttp import web

from gateway.api.callers import credential_of
from gateway.api.catalogue import all_operations, operation_called
from gateway.api.execution import learn, touch
from gateway.api.services import Services, services_of
from gateway.domain.instants import instant_text
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Principal, Right, authorize, roles_with
from gateway.domain.settings import Key
from gateway.operations.people import Me, show_person
from gateway.operations.registry import Call, execute
from gateway.people.authentication import Identity, identity_of
from gateway.storage.setting_rows import setting_of
from gateway.storage.transaction import Transaction
from gateway.web import languages, zones
from gateway.web.closed_words import word_of
from gateway.web.done_texts import CONTEXT, DONE, OTHERWISE
from gateway.web.field_labels import field_label
from gateway.web.languages import language_of, words_of
from gateway.web.rendering import render
from gateway.web.spoken import refusal_text, spoken, title_of
from gateway.web.writing import with_moments

COMPANY_COOKIE = "fleetgate_company"
ALL_COMPANIES = "all"
COMPANIES_SHOWN_MAX = 200


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads a page, and how."""

    me: Me
    principal: Principal
    csrf: str
    language: str
    zone: ZoneInfo
    company_id: str  # the one that is chosen; empty: all there are
    company_name: str


class Look:
    """One page being made: its transaction, its reader, and what operations answer them."""

    def __init__(self, tx: Transaction, reader: Reader, services: Services) -> None:
        self.tx = tx
        self.reader = reader
        self.services = services
        self._names: dict[str, str] = {}
        self._calls = Call(tx, reader.principal, services.site)

    def ask(self, name: str, **given: Any) -> Any:
        """What the operation answers this reader; dots instead of brackets. Raises `Refused`."""
        op = operation_called(name)
        assert not op.writes, name
        principal, site = self.reader.principal, self.services.site
        return execute(self.tx, op, principal, site, msgspec.convert(given, op.input, strict=False))

    def ask_or_none(self, name: str, **given: Any) -> Any:
        """The same; None where this reader may not know."""
        try:
            return self.ask(name, **given)
        except Refused as error:
            if error.code in (Code.FORBIDDEN, Code.NOT_FOUND):
                return None
            raise

    def may(self, right: str, company_id: str | int | None = None) -> bool:
        """Whether a button that needs the right is shown; without a company: whether anywhere."""
        wanted = Right(right)
        if company_id is None:
            if wanted in (Right.SIGNED_IN, Right.OWN_ACCOUNT, Right.OPERATE):
                return authorize(self.reader.principal, wanted)
            roles = roles_with(wanted)
            return any(role in roles for role in self.reader.principal.memberships.values())
        return self._calls.allows(wanted, int(company_id))

    def companies(self) -> "InReach":
        """Companies for a menu, by name; of very many only the first."""
        found = self.ask("companies.list", sort="name", limit=COMPANIES_SHOWN_MAX)
        by_name = sorted(found.items, key=lambda one: one.name.casefold())
        return InReach(by_name, found.next_cursor is not None)

    def learn_names(self, company_ids: Iterable[str | None]) -> None:
        """Reads the names of companies that a page will show, all at once."""
        named = {one for one in company_ids if one and one.isdecimal()}
        wanted = sorted(named - self._names.keys())
        if wanted:
            found = self.ask("companies.list", ids=wanted, limit=len(wanted))
            self._names |= dict.fromkeys(wanted, "") | {one.id: one.name for one in found.items}

    def name_of_company(self, company_id: str | None) -> str:
        """Its name, where this reader sees it."""
        if not company_id or not str(company_id).isdecimal():
            return ""
        if company_id not in self._names:
            shown = self.ask_or_none("companies.show", company_id=str(company_id))
            self._names[company_id] = "" if shown is None else shown.name
        return self._names[company_id]

    def events(self, company_id: str = "", serial: str = "") -> str:
        """The query of events that happen from this page's moment on, so that none is missed."""
        about = {"company": company_id, "serial": serial}
        asked = {name: value for name, value in about.items() if value}
        found = self.ask_or_none("events.follow", **asked)
        # Of what is gone from the reader's sight nothing happens either.
        return urlencode({**({} if found is None else {"after": found.position}), **asked})

    def translated(self, choices: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Choices with their words in the reader's language."""
        return [(value, self.gettext(words) if words else "") for value, words in choices]

    def closed_choices(self, kind: str, choices: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
        """Choices out of a closed list, each with its word in the reader's language."""
        return [(one[0], word_of(self.reader.language, kind, one[0])) for one in choices]

    def gettext(self, text: str) -> str:
        """The text in the reader's language."""
        return words_of(self.reader.language).gettext(text)

    @property
    def now(self) -> str:
        return instant_text(self.services.clock.wall_ms())


class InReach(NamedTuple):
    """Companies to choose from; `more`: not all of them."""

    companies: Sequence[Any]
    more: bool


Work = Callable[[Look], Mapping[str, Any]]


async def show(
    request: web.Request, template: str, work: Work, *, status: int = 200
) -> web.StreamResponse:
    """The page for whoever is signed in; the sign-in page for the others. Raises `Refused`."""
    services = services_of(request)
    credential = credential_of(request, services.http)

    def read(tx: Transaction) -> tuple[Identity, str]:
        identity = identity_of(tx, credential)
        if identity.principal.user_id is None:
            return identity, ""
        look = Look(tx, reader_of(tx, request, identity, services), services)
        return identity, write(look, template, request.path_qs, work(look))

    identity, text = await services.store.read(read)
    if identity.principal.user_id is None:
        raise web.HTTPSeeOther(f"/login?next={quote(request.path_qs, safe='/')}")
    await touch(services, credential, identity)
    learn(services, credential, identity)
    return web.Response(text=text, status=status, content_type="text/html")


def write(look: Look, template: str, address: str, values: Mapping[str, Any]) -> str:
    """The text of a page with what every page has."""
    reader = look.reader

    def here(said: str) -> str:
        return with_moments(said, reader.zone, reader.language)

    shared = {
        "address": address,
        "closed_choices": look.closed_choices,
        "companies_in_reach": look.companies,
        "company_id": reader.company_id,
        "company_name": reader.company_name,
        "csrf": reader.csrf,
        "events_from": look.events,
        "done": _done(address, reader.language),
        "field_label": partial(field_label, reader.language),
        "may": look.may,
        "me": reader.me,
        "name_of_company": look.name_of_company,
        "now": look.now,
        "refusal_text": lambda text: here(refusal_text(reader.language, text)),
        "second_factor_needed": reader.principal.second_factor_needed,
        "spoken": lambda text: here(spoken(reader.language, text)),
        "title_of": partial(title_of, reader.language),
        "translated": look.translated,
        "version": look.services.site.version,
        "word": partial(word_of, reader.language),
        "zone": reader.zone,
    }
    return render(template, language=reader.language, **{**shared, **values})


def _done(address: str, language: str) -> str:
    """What to say when a form has just led here."""
    name = dict(parse_qsl(urlsplit(address).query)).get("done", "")
    if not any(op.name == name for op in all_operations()):
        return ""
    return words_of(language).pgettext(CONTEXT, DONE.get(name, OTHERWISE))


def reader_of(
    tx: Transaction, request: web.Request, identity: Identity, services: Services
) -> Reader:
    """Who reads: language and time zone as chosen, else the company's, else the browser's."""
    principal = identity.principal
    assert principal.user_id is not None
    me = show_person(Call(tx, principal, services.site), principal.user_id)
    home = int(me.memberships[0].company_id) if me.memberships else None
    own = me.language
    if not own and home is not None and languages.COOKIE not in request.cookies:
        own = str(setting_of(tx, home, Key.LANGUAGE) or "")
    language = language_of(
        request.query.get("lang", ""),
        own,
        request.cookies.get(languages.COOKIE, ""),
        accepted=request.headers.get("Accept-Language", ""),
    )
    zone = request.cookies.get(zones.COOKIE, "")
    if not zone and home is not None:
        zone = str(setting_of(tx, home, Key.TIME_ZONE) or "")
    company_id, name = _chosen(tx, request, principal, services)
    csrf = identity.csrf or ""
    return Reader(me, principal, csrf, language, zones.zone_of(zone), company_id, name)


def _chosen(
    tx: Transaction, request: web.Request, principal: Principal, services: Services
) -> tuple[str, str]:
    """The company of the switcher, if the reader still sees it."""
    chosen = request.query.get("company", request.cookies.get(COMPANY_COOKIE, ""))
    if not chosen or chosen == ALL_COMPANIES:
        return "", ""
    op = operation_called("companies.show")
    try:
        shown = execute(
            tx, op, principal, services.site, msgspec.convert({"company_id": chosen}, op.input)
        )
    except Refused:
        return "", ""
    return shown.id, shown.name
