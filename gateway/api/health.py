"""Whether the gateway is ready: a list of checks, each of which says why."""

import asyncio
import logging
from dataclasses import dataclass, field

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from gateway.clock import Clock
from gateway.storage.store import Store, StoreError
from gateway.telemetry import Telemetry

log = logging.getLogger(__name__)

DATABASE_S_MAX = 5.0
PROBE_MS_MAX = 20_000
LOGINS_MS_MAX = 30_000  # the file is written every 2 to 10 s, and not at all while nothing changes
INGEST_MS_MAX = 30_000


class Check(msgspec.Struct, omit_defaults=True):
    """One thing that must hold; `why` when it does not."""

    name: str
    ok: bool
    why: str = ""


class Readiness(msgspec.Struct):
    """Ready when every check holds."""

    ready: bool
    checks: list[Check]


@dataclass(slots=True)
class Health:
    """Looks at the gateway's own state and asks the database."""

    store: Store
    telemetry: Telemetry
    clock: Clock
    _behind_since: tuple[int, int] = field(default=(0, 0))  # logins in force, and since when

    async def readiness(self) -> Readiness:
        """All checks, in the order in which things start."""
        database = await self._database()
        checks = [database, *self._mqtt(), self._logins(), self._ingest()]
        return Readiness(all(check.ok for check in checks), checks)

    async def _database(self) -> Check:
        try:
            async with asyncio.timeout(DATABASE_S_MAX):
                await self.store.read(lambda tx: tx.scalar(text("SELECT 1")))
        except TimeoutError:
            return Check("database", False, f"no answer within {DATABASE_S_MAX:.0f} s")
        except (StoreError, SQLAlchemyError) as error:
            # The first line only: drivers add lines of advice.
            why = str(error).partition("\n")[0] or type(error).__name__
            return Check("database", False, f"the database does not answer: {why}")
        trouble = self.store.trouble()
        return Check("database", not trouble, trouble and f"nothing can be stored: {trouble}")

    def _mqtt(self) -> list[Check]:
        telemetry, now_ms = self.telemetry, self.clock.wall_ms()
        connected = telemetry.mqtt_connected
        checks = [
            Check("mqtt", connected, "" if connected else "not connected to the MQTT server"),
            Check("mqtt_closed", True)
            if telemetry.mqtt_closed_proof_ms
            else Check(
                "mqtt_closed", False, "not proven yet that the MQTT server keeps strangers out"
            ),
        ]
        if not telemetry.probe_at_ms:
            return [*checks, Check("probe", False, "no probe came back yet")]
        age_ms = now_ms - telemetry.probe_at_ms
        if age_ms < PROBE_MS_MAX:
            return [*checks, Check("probe", True)]
        return [*checks, Check("probe", False, f"the last one came back {age_ms // 1000} s ago")]

    def _logins(self) -> Check:
        wanted, written = self.telemetry.logins_version, self.telemetry.logins_written
        if written >= wanted:
            self._behind_since = (written, 0)
            return Check("logins", True)
        now_ms = self.clock.boot_ms()
        if self._behind_since[0] != written or not self._behind_since[1]:
            # Each joining device makes the file a little late; only one that stays so is wrong.
            self._behind_since = (written, now_ms)
        if not written:
            return Check("logins", False, "the MQTT logins are not written yet")
        age_ms = now_ms - self._behind_since[1]
        if age_ms < LOGINS_MS_MAX:
            return Check("logins", True)
        return Check(
            "logins", False, f"version {written} instead of {wanted} for {age_ms // 1000} s"
        )

    def _ingest(self) -> Check:
        lag_ms = self.telemetry.batch_ms
        if self.telemetry.ingest_waiting and lag_ms > INGEST_MS_MAX:
            return Check("ingest", False, f"{lag_ms / 1000:.0f} s behind")
        return Check("ingest", True)
