"""Failed sign-ins and wrong secrets in the audit: at once, then summed up once a minute.

An entry for each of them would let strangers fill the database. They are counted in memory and
written by a task of its own, so that no answer tells by its time whether there is such an account;
a gateway that is killed loses the counts of its last minute.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import select

from gateway.domain.rights import user_of
from gateway.operations.audit_writing import Personal, record
from gateway.storage.schema import person
from gateway.storage.transaction import Transaction

SUMMED_UP_S = 60.0
KINDS_MAX = 1_000  # counted apart; what comes on top of them is summed up under no address
SIGN_IN_FAILED = "people.sign_in_failed"
SECRET_WRONG = "secrets.wrong"


class Failure(NamedTuple):
    """What failed, and whose attempt it was."""

    verb: str
    actor: str
    address: str
    email_key: str = ""  # that was given to sign in
    operation: str = ""  # that was given the wrong secret


@dataclass(slots=True)
class Failures:
    """Those of this gateway that are not in the audit yet."""

    _counts: Counter[Failure] = field(default_factory=Counter)
    _written_s: dict[Failure, float] = field(default_factory=dict)

    def note(self, failure: Failure) -> None:
        """One more."""
        if failure not in self._counts and len(self._counts) >= KINDS_MAX:
            failure = failure._replace(address="", email_key="")
        self._counts[failure] += 1

    def due(self, now_s: float, *, all_of_them: bool = False) -> dict[Failure, int]:
        """How often each failed that nothing was written of in the last minute."""
        over = now_s - SUMMED_UP_S
        self._written_s = {one: at_s for one, at_s in self._written_s.items() if at_s > over}
        return {
            one: times
            for one, times in self._counts.items()
            if all_of_them or one not in self._written_s
        }

    def written(self, failures: dict[Failure, int], now_s: float) -> None:
        """These are in the audit now."""
        for one, times in failures.items():
            self._written_s[one] = now_s
            self._counts[one] -= times
            if self._counts[one] <= 0:
                del self._counts[one]


def write(tx: Transaction, failures: dict[Failure, int]) -> None:
    """An entry for each, which says how often."""
    keys = sorted({one.email_key for one in failures if one.email_key})
    rows = tx.all(select(person.c.id, person.c.email_key).where(person.c.email_key.in_(keys)))
    ids = {row.email_key: row.id for row in rows}
    erased = _erased(tx, failures)
    for one, times in failures.items():
        # Of an account that there is not, the address is not kept: it may be a mistyped password.
        person_id = ids.get(one.email_key, user_of(one.actor))
        detail: dict[str, object] = {"times": times}
        if one.operation:
            detail["operation"] = one.operation
        record(
            tx,
            one.verb,
            actor=one.actor,
            owner_id=None,
            company_id=None,
            device_id=None,
            serial=None,
            subject="" if person_id is None else str(person_id),
            detail=detail,
            personal=(
                [Personal("address", one.address, person_id)]
                if one.address and person_id not in erased
                else []
            ),
        )


def _erased(tx: Transaction, failures: dict[Failure, int]) -> set[int]:
    """Who of those that failed was erased since."""
    some = {user_of(one.actor) for one in failures} - {None}
    which = select(person.c.id).where(person.c.id.in_(some), person.c.erased_at.is_not(None))
    return {row.id for row in tx.all(which)} if some else set()
