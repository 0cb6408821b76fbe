"""What a company may set: a closed list, what holds where nothing is set, and who may change it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

IDLE_MINUTES_MIN = 5
IDLE_MINUTES_MAX = 720
BUDGET_MB_MAX = 10_000_000
INTERVAL_S_MAX = 86_400
KEPT_DAYS_MAX = 36_525


class Key(StrEnum):
    """The names of settings."""

    TIME_ZONE = "time_zone"
    LANGUAGE = "language"
    BRAND = "brand"
    BILLING_EMAIL = "billing_email"
    INTERVALS = "intervals"
    DATA_BUDGET_MB = "data_budget_mb"
    EXTEND_UNHEARD = "extend_unheard"
    RETENTION = "retention"
    INSIDE = "inside"
    SHARES = "shares"
    RECORD_TERMINALS = "record_terminals"
    REQUIRE_TOTP = "require_totp"
    REQUIRE_REASON = "require_reason"
    IDLE_MINUTES = "idle_minutes"


class Setter(StrEnum):
    """Who may change a setting."""

    ADMINISTRATOR = "administrator"  # of the company or of one above
    ABOVE = "above"  # only from above: whoever pays decides
    OWN = "own"  # only the company's own administrators


class Rule(NamedTuple):
    """What is so of one setting."""

    default: Any
    setter: Setter = Setter.ADMINISTRATOR
    inherited: bool = True  # whether companies below take it over until they set their own


RULES: Mapping[Key, Rule] = {
    Key.TIME_ZONE: Rule("UTC"),
    Key.LANGUAGE: Rule("en"),
    Key.BRAND: Rule({"name": "", "logo": "", "support": ""}),
    Key.BILLING_EMAIL: Rule("", inherited=False),
    # Empty: as the installation, or the device, has it.
    Key.INTERVALS: Rule({"sample_s": None, "send_s": None}),
    Key.DATA_BUDGET_MB: Rule(0),  # no budget
    Key.EXTEND_UNHEARD: Rule(False, Setter.ABOVE, inherited=False),
    Key.RETENTION: Rule(
        {
            "raw_days": None,
            "hourly_days": None,
            "position_days": None,
            "sessions_days": None,
            "recordings_days": None,
            "address_days": None,
        }
    ),
    Key.INSIDE: Rule("open", Setter.OWN),
    Key.SHARES: Rule(True),
    Key.RECORD_TERMINALS: Rule(False),
    Key.REQUIRE_TOTP: Rule(False),
    Key.REQUIRE_REASON: Rule(False),
    Key.IDLE_MINUTES: Rule(IDLE_MINUTES_MAX),
}
