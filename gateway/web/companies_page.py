"""Companies: the tree with what each has and how long it lasts, and a page for each of them."""

from typing import Any

from aiohttp import web

from gateway.operations.overview import Overview
from gateway.web.reading import Look, show

SHOWN_AT_ONCE = 50
LEVELS_MAX = 40
NOTICES_SHOWN = 5
ACCESSES_SHOWN = 10
PEOPLE_SHOWN = 20
SOON_S = 30 * 86_400  # credits that do not last longer are told in another colour
_ID = "{company_id:[0-9]+}"


def add_routes(app: web.Application) -> None:
    """The tree, its branches, and a page for each company."""
    app.router.add_get("/companies", _tree)
    app.router.add_get(f"/companies/{_ID}/children", _children)
    app.router.add_get(f"/companies/{_ID}", _company)


async def _tree(request: web.Request) -> web.StreamResponse:
    asked = request.query.get("q", "").strip()[:100]
    cursor = request.query.get("cursor", "")

    def work(look: Look) -> dict[str, Any]:
        below = None
        top = look.ask("companies.list", top=True, limit=2).items
        if not asked and not cursor and len(top) == 1:
            # Most people have one company at the top: what is below it is the answer.
            found, below = _with_those_below(look, top[0].id)
        else:
            given = {"q": asked} if asked else {"top": True}
            found = look.ask(
                "companies.overview", sort="name", limit=SHOWN_AT_ONCE, cursor=cursor, **given
            )
        if asked:
            look.learn_names(one.company.parent_id for one in found.items)
        return {
            "room": "companies",
            "found": found,
            "below": below,
            "asked": asked,
            **_shared(look),
        }

    return await show(request, "companies.html", work)


def _with_those_below(look: Look, top: str, cursor: str = "") -> tuple[Overview, Overview | None]:
    """One company, and a page of those below it: their devices are counted at once."""
    below = look.ask("companies.list", parent=top, sort="name", limit=SHOWN_AT_ONCE, cursor=cursor)
    ids = [top, *(one.id for one in below.items)]
    rows = {
        one.company.id: one for one in look.ask("companies.overview", ids=ids, limit=len(ids)).items
    }
    first = Overview([rows.pop(top)], None)
    if not rows:
        return first, None
    return first, Overview([rows[id_] for id_ in ids[1:]], below.next_cursor)


async def _children(request: web.Request) -> web.StreamResponse:
    """The rows below one company, for its branch of the tree."""
    company_id = request.match_info["company_id"]
    cursor = request.query.get("cursor", "")

    def work(look: Look) -> dict[str, Any]:
        return {"found": _below(look, company_id, cursor), "parent": company_id, "soon_s": SOON_S}

    return await show(request, "company_branch.html", work)


def _below(look: Look, company_id: str, cursor: str = "") -> Any:
    given = {"parent": company_id, "sort": "name", "cursor": cursor}
    return look.ask("companies.overview", limit=SHOWN_AT_ONCE, **given)


def _shared(look: Look, company_id: str = "") -> dict[str, Any]:
    return {"soon_s": SOON_S, "events": look.events(company_id)}


async def _company(request: web.Request) -> web.StreamResponse:
    company_id = request.match_info["company_id"]
    cursor = request.query.get("cursor", "")

    def work(look: Look) -> dict[str, Any]:
        company = look.ask("companies.show", company_id=company_id)
        found, below = _with_those_below(look, company_id, cursor)
        people = None
        if look.may("invite", company_id) or look.may("operate"):
            people = look.ask_or_none("members.list", company_id=company_id, limit=PEOPLE_SHOWN)
        return {
            "room": "companies",
            "company": company,
            "crumbs": above(look, company),
            "branch": found.items[0],
            "below": below,
            "people": people,
            "access": look.ask("support-access.list", company_id=company_id, limit=ACCESSES_SHOWN),
            "lets_in": role_in(look, company_id) in ("administrator", "advanced"),
            "notices": look.ask_or_none("notices.list", company_id=company_id, limit=NOTICES_SHOWN),
            "moves": moves(look, company),
            "priced": company.parent_id is not None
            and look.ask_or_none("companies.prices", company_id=company_id) is not None,
            **_shared(look, company_id),
        }

    return await show(request, "company.html", work)


def above(look: Look, company: Any) -> list[Any]:
    """The companies above, as far as the reader sees them, the highest first."""
    found: list[Any] = []
    parent_id = company.parent_id
    while parent_id is not None and len(found) < LEVELS_MAX:
        parent = look.ask_or_none("companies.show", company_id=parent_id)
        if parent is None:
            break
        found.insert(0, parent)
        parent_id = parent.parent_id
    return found


def role_in(look: Look, company_id: str) -> str:
    """The reader's role in the company itself; empty: none."""
    for one in look.reader.me.memberships:
        if one.company_id == company_id:
            return one.role
    return ""


def moves(look: Look, company: Any) -> bool:
    """Whether the reader may move it, or decide about its paying: who is above it may."""
    if company.parent_id is None:
        return look.may("operate")
    return look.may("manage_companies", company.parent_id)
