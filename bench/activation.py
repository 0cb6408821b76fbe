"""CPU of an activation that somebody asks for, with concurrent callers who share commits."""

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.engines import Database, new_database
from gateway.clock import Clock
from gateway.command.gateway import tune_collector
from gateway.domain.rights import Principal, Role
from gateway.operations.all import MODULES
from gateway.operations.registry import Site, execute, operations
from gateway.operations.ticket_making import TicketSigner
from gateway.people.accounts import make_operator
from gateway.storage.store import Store
from tests.databases import store_of

DEVICES = 2_000
CALLERS = 200
OPERATIONS = {op.name: op for op in operations()}
SITE = Site(
    "",
    ("127.0.0.1",),
    1,
    ("127.0.0.1",),
    1,
    "0" * 64,
    bytes(32),
    "node-1",
    "bench",
    TicketSigner("bench", Ed25519PrivateKey.generate()),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one activation; `a_commit` is how many of them shared one."""

    cpu_us: float
    server_cpu_us: float
    a_second: float
    a_commit: float


def measure(folder: Path, engine: str) -> Figures:
    """Activations of as many callers at once."""
    assert len(OPERATIONS) >= len(MODULES)
    tune_collector()
    with new_database(engine, folder) as database:
        return asyncio.run(_measure(database))


async def _measure(database: Database) -> Figures:
    store = store_of(database.address, Clock().wall_ms)
    try:
        person = await store.write(lambda tx: make_operator(tx, "a@example.org", "A", "no hash"))
        operator = Principal("user:1", person, operator=True)
        company = await _ask(store, operator, "companies.create", name="Bench")
        caller = Principal(
            "user:1", person, True, memberships={int(company.id): Role.ADMINISTRATOR}
        )
        await _ask(store, caller, "credits.grant", company_id=company.id, credits=DEVICES)
        for start in range(0, DEVICES, CALLERS):
            await asyncio.gather(
                *(
                    _ask(
                        store,
                        caller,
                        "devices.register",
                        serial=f"11{number:08d}",
                        company_id=company.id,
                        activate="later",
                    )
                    for number in range(start, start + CALLERS)
                )
            )
        database.settle()
        commits, begin_s = store.commits, time.monotonic()
        cpu_s, server_s = time.process_time(), database.server_cpu_s()
        for start in range(0, DEVICES, CALLERS):
            await asyncio.gather(
                *(
                    _ask(store, caller, "devices.activate", serial=f"11{number:08d}")
                    for number in range(start, start + CALLERS)
                )
            )
        cpu_s, server_s = time.process_time() - cpu_s, database.server_cpu_s() - server_s
        return Figures(
            cpu_s * 1e6 / DEVICES,
            server_s * 1e6 / DEVICES,
            DEVICES / (time.monotonic() - begin_s),
            DEVICES / (store.commits - commits),
        )
    finally:
        store.close()


async def _ask(store: Store, caller: Principal, called: str, **given: Any) -> Any:
    op = OPERATIONS[called]
    asked = msgspec.convert(given, op.input)
    run = partial(_run, op=op, caller=caller, asked=asked)
    return await store.write(run, tree=op.tree)


def _run(tx: Any, *, op: Any, caller: Principal, asked: Any) -> Any:
    return execute(tx, op, caller, SITE, asked)
