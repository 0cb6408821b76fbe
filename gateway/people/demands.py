"""What a person's companies demand of whoever signs in: a second factor, and not to idle long."""

import json
from typing import NamedTuple

from gateway.domain.instants import MINUTE_MS
from gateway.domain.settings import IDLE_MINUTES_MAX, IDLE_MINUTES_MIN, Key
from gateway.storage.transaction import Transaction

# Roles count as in `memberships.in_force`.
_SAID = """
SELECT p.descendant_id, s.key, s.value FROM membership AS m
JOIN company_path AS p ON p.descendant_id = m.company_id
JOIN setting AS s ON s.company_id = p.ancestor_id AND s.key IN (?, ?)
WHERE m.person_id = ? AND (m.until IS NULL OR m.until > ?)
ORDER BY p.depth DESC
"""


class Demands(NamedTuple):
    """The strictest of what a person's companies say."""

    second_factor: bool
    idle_ms: int


def demands_on(tx: Transaction, person_id: int) -> Demands:
    """Asked with each request, so that a change is in force with the next one."""
    keys = (Key.REQUIRE_TOTP.value, Key.IDLE_MINUTES.value)
    # Of each company what its nearest one says, which comes last.
    said = {
        (company_id, key): json.loads(value)
        for company_id, key, value in tx.fetch(_SAID, (*keys, person_id, tx.now_ms))
    }
    minutes = [value for (_, key), value in said.items() if key == Key.IDLE_MINUTES]
    strictest = max(IDLE_MINUTES_MIN, min([IDLE_MINUTES_MAX, *minutes]))
    second_factor = any(value for (_, key), value in said.items() if key == Key.REQUIRE_TOTP)
    return Demands(second_factor, strictest * MINUTE_MS)
