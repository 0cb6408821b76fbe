"""What stands beside a form that moves credits: the companies' balances as they are now."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gateway.web.forms import Texts
from gateway.web.reading import Look

# Fields of inputs that name a company whose credits may be meant.
_NAMING = ("source", "target", "company_id", "payer_company_id")


class Balance(NamedTuple):
    """Days a company can spend: now and, where that was asked, then."""

    name: str
    days: int | None
    then: int | None = None

    @property
    def now(self) -> int | None:
        return self.days


def balances(look: Look, texts: Texts) -> list[Balance]:
    """Of the companies that a refused form names, as far as its reader sees them."""
    found = []
    for field in _NAMING:
        for company_id in texts.get(field, ())[-1:]:
            shown = _credits(look, company_id)
            if shown is not None:
                found.append(Balance(_name(look, company_id), shown.days))
    return found


def named_balances(look: Look, report: Mapping[str, Any]) -> Sequence[Balance]:
    """Of the companies whose pools a trial would change; those above are one entry, unnamed."""
    found = []
    for left in report["left"]:
        company_id = left["company_id"]
        shown = _credits(look, company_id)
        name = _name(look, company_id) if shown is not None else "…"
        found.append(Balance(name, None if shown is None else shown.days, left["days"]))
    return found


def _credits(look: Look, company_id: str) -> Any:
    if not company_id.isdigit():
        return None
    return look.ask_or_none("companies.credits", company_id=company_id)


def _name(look: Look, company_id: str) -> str:
    shown = look.ask_or_none("companies.show", company_id=company_id)
    return "" if shown is None else str(shown.name)
