"""A fleet as resellers have it: many devices of many companies in a tree, named and heard."""

import random

from bench.bulk_fleet import COMPANY_ID, BulkFleet, Values, serial
from gateway.domain.instants import DAY_MS, MINUTE_MS
from gateway.storage import latest_values
from gateway.storage.search_rows import note_names, note_told
from gateway.storage.transaction import Transaction
from wire.fields import BY_NAME

COMPANIES = 300
_AT_ONCE = 5_000
_FIRMWARES = [f"RUTX_R_00.07.{minor:02d}.{patch}" for minor in range(8) for patch in range(3)]
_OPERATORS = ["Telia", "Vodafone", "Orange", "Telefónica", "LMT", "Bitė", "Tele2", "A1"]
_TOWNS = "Vilnius Köln Málaga Łódź Aarhus Zürich Porto Graz Gent Kaunas".split()
_FIELDS = ("operator", "firmware", "imei", "iccid", "lan_mac", "rsrp", "latitude", "longitude")
_IDS = [BY_NAME[name].id for name in _FIELDS]


class LargeFleet:
    """Devices of a `BulkFleet`, spread over companies below its own, three levels deep."""

    def __init__(self, fleet: BulkFleet, seed: int = 1) -> None:
        self._fleet = fleet
        self._rng = random.Random(seed)

    def companies(self, tx: Transaction) -> None:
        """Ten below the first, the others below these and below those."""
        parents = {COMPANY_ID: 0}
        rows, paths = [], []
        for number in range(COMPANY_ID + 1, COMPANY_ID + COMPANIES):
            place = number - COMPANY_ID - 1
            parent = COMPANY_ID if place < 10 else COMPANY_ID + 1 + (place - 10) // 5
            parents[number] = parent
            name = f"{_TOWNS[number % 10]} {number}"
            rows.append(self._company(name, parent))
            above, depth = number, 0
            while above:
                paths.append((above, number, depth))
                above, depth = parents[above], depth + 1
        tx.add_rows("company", list(rows[0]), [list(row.values()) for row in rows])
        tx.add_rows("company_path", ("ancestor_id", "descendant_id", "depth"), paths)

    def _company(self, name: str, parent: int) -> Values:
        return {
            "parent_id": parent,
            "name": name,
            "name_key": name.casefold(),
            "plan": "block",
            "use_parent_credits": True,
            "grace_days": 3,
            "extend_unheard": False,
            "reference": f"K-{parent}",
            "created_at": self._fleet.registered_at_ms,
        }

    def parts(self) -> list[range]:
        """The devices, so many at a time."""
        last = self._fleet.devices
        return [range(n, min(n + _AT_ONCE, last + 1)) for n in range(1, last + 1, _AT_ONCE)]

    def devices(self, tx: Transaction, ids: range) -> None:
        """Names, tags, service, presence and newest values of some of them."""
        rng = self._rng
        named, live, latest, told = [], [], [], {}
        for id_ in ids:
            tags = [f"site {rng.randrange(150)}"] if rng.random() < 0.3 else []
            state, reason = ("active", "paid")
            if rng.random() < 0.02:
                state, reason = "unpaid", "no_credit"
            end = self._fleet.heard_at_ms + rng.randrange(30 * DAY_MS)
            start = end - 30 * DAY_MS
            text = str(tags).replace("'", '"')
            name = f"{_TOWNS[rng.randrange(10)]} kiosk {id_}"
            mac = f"00:1E:42:{id_ >> 16:02X}:{id_ >> 8 & 255:02X}:{id_ & 255:02X}"
            company_id = COMPANY_ID + rng.randrange(COMPANIES)
            paid = (start, end) if state == "active" else (None, None)
            named.append((company_id, name, f"A-{id_}", mac, text, state, reason, *paid, id_))
            presence = rng.choices(("online", "late", "offline"), (92, 1, 7))[0]
            rsrp = rng.randrange(-120, -70)
            heard = self._fleet.heard_at_ms - rng.randrange(MINUTE_MS)
            live.append((presence, heard, rsrp, id_))
            values = (
                rng.choice(_OPERATORS),
                rng.choice(_FIRMWARES),
                f"{860_000_000_000_000 + id_}",
                f"{89_000_000_000_000_000_000 + id_}",
                mac,
                rsrp,
                rng.randrange(400_000_000, 600_000_000),
                rng.randrange(-50_000_000, 250_000_000),
            )
            kept = {field: (value, heard) for field, value in zip(_IDS, values, strict=True)}
            packed = latest_values.merged(latest_values.NOTHING, latest_values.encode(kept))
            latest.append((packed, id_))
            told[id_] = latest_values.NOTHING
        columns = "company_id name reference mac tags state reason period_start period_end id"
        tx.change_rows("device", columns.split(), named)
        tx.change_rows("device_live", ("presence", "last_heard_at", "signal", "device_id"), live)
        tx.change_rows("device_latest", ("latest", "device_id"), latest)
        note_names(tx, ids)
        note_told(tx, told)


__all__ = ["COMPANIES", "LargeFleet", "serial"]
