"""CPU of an activation that somebody asks for, with concurrent callers who share commits."""

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.clock import Clock
from gateway.domain.rights import Principal, Role
from gateway.operations.all import MODULES
from gateway.operations.registry import Site, execute, operations
from gateway.operations.ticket_making import TicketSigner
from gateway.people.accounts import make_operator
from gateway.storage.migrate import migrate
from gateway.storage.store import Store

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


def measure(folder: Path) -> tuple[float, float]:
    """µs of CPU per activation, and activations per commit."""
    assert len(OPERATIONS) >= len(MODULES)
    return asyncio.run(_measure(folder / "activation.db"))


async def _measure(path: Path) -> tuple[float, float]:
    migrate(path)
    store = Store(path, Clock().wall_ms)
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
        commits, cpu_s = store.commits, time.process_time()
        for start in range(0, DEVICES, CALLERS):
            await asyncio.gather(
                *(
                    _ask(store, caller, "devices.activate", serial=f"11{number:08d}")
                    for number in range(start, start + CALLERS)
                )
            )
        spent_s = time.process_time() - cpu_s
        return spent_s * 1e6 / DEVICES, DEVICES / (store.commits - commits)
    finally:
        store.close()


async def _ask(store: Store, caller: Principal, called: str, **given: Any) -> Any:
    op = OPERATIONS[called]
    asked = msgspec.convert(given, op.input)
    return await store.write(partial(_run, op=op, caller=caller, asked=asked))


def _run(tx: Any, *, op: Any, caller: Principal, asked: Any) -> Any:
    return execute(tx, op, caller, SITE, asked)
