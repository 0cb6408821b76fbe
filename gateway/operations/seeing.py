"""Upwards one sees little: the direct parent by name, everybody further up as `above`."""

from collections.abc import Sequence

from sqlalchemy import select

from gateway.domain.rights import Right
from gateway.operations.registry import Call
from gateway.storage.schema import company

ABOVE = "above"
UNNAMED = "a company above"


class Upwards:
    """What a caller who looks at one company may know of the companies above it."""

    def __init__(self, call: Call, company_id: int) -> None:
        self._call = call
        path = call.treasury.path(company_id)
        seen = {
            number
            for number in path
            if call.allows(Right.SEE_CREDITS, number) or call.principal.operator
        }
        highest = max((path.index(number) for number in seen), default=0)
        self._named = set(path[: highest + 2])  # the direct parent of the highest seen as well

    def knows(self, company_id: int) -> bool:
        """Whether the company may be named."""
        return company_id in self._named

    def company_id(self, company_id: int | None) -> str | None:
        """The id, or None beyond the direct parent."""
        if company_id is None or not self.knows(company_id):
            return None
        return str(company_id)

    def path(self, path: Sequence[int]) -> list[str]:
        """The ids as asked, ending in `above` where they may not be named."""
        shown = [str(number) for number in path if self.knows(number)]
        return shown if len(shown) == len(path) else [*shown, ABOVE]

    def names(self, path: Sequence[int]) -> list[str]:
        """The same for people."""
        shown = [self.name(number) for number in path if self.knows(number)]
        return shown if len(shown) == len(path) else [*shown, UNNAMED]

    def name(self, company_id: int) -> str:
        """The name for people."""
        if not self.knows(company_id):
            return UNNAMED
        found = self._call.tx.scalar(select(company.c.name).where(company.c.id == company_id))
        return str(found)
