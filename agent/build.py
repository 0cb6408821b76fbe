"""Names this build of the agent: its version and the instant it was made."""

VERSION = "0.1.0"

# A clock that shows less than this is wrong for certain: routers without a battery start in 1970,
# or at the date of their firmware, until NTP answers. Moved forward with each release.
BUILT_AT_MS = 1_767_225_600_000  # 2026-01-01
