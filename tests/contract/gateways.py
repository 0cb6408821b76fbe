"""Two gateways at one PostgreSQL database, as far as the store knows of gateways."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import text

from gateway.domain.refusals import Refused
from gateway.storage.address import Address
from gateway.storage.locks import Tree
from gateway.storage.store import Lane, Store
from gateway.storage.transaction import Transaction
from tests.contract.world import OPERATIONS, World
from tests.databases import store_of

Work = Callable[[Transaction], Any]


class TwoGateways:
    """A world, whose store is the first gateway's, and the store of a second one."""

    def __init__(self, address: Address) -> None:
        self.world = World(address)
        self.second: Store = store_of(address, lambda: self.world.now_ms)

    @property
    def stores(self) -> tuple[Store, Store]:
        return self.world.store, self.second

    def close(self) -> None:
        self.second.close()
        self.world.close()

    def at_once(
        self,
        works: Sequence[Work],
        *,
        tree: Tree = Tree.SHARED,
        operation_id: str | None = None,
    ) -> list[Any]:
        """All of them at the same time, in turn at the one and the other; exceptions included."""

        async def all_of_them() -> list[Any]:
            lanes = (Lane.PEOPLE, Lane.PEOPLE, Lane.INGEST, Lane.INGEST)
            return await asyncio.gather(
                *(
                    self.stores[number % 2].write(
                        work,
                        tree=tree,
                        operation_id=operation_id,
                        # Each lane has threads of its own, so more of them really are at once.
                        lane=lanes[number % len(lanes)],
                    )
                    for number, work in enumerate(works)
                ),
                return_exceptions=True,
            )

        return asyncio.run(all_of_them())

    def ask_at_once(self, name: str, given: Sequence[dict[str, Any]]) -> list[str]:
        """Of each call of one operation `ok`, or the code of the refusal."""
        works = [self.world.work(name, **one) for one in given]
        return [_told(one) for one in self.at_once(works, tree=OPERATIONS[name].tree)]

    def deadlocks(self) -> int:
        """How many there were in this database."""
        asked = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(self.world.read(lambda tx: tx.scalar(asked)))


def _told(outcome: Any) -> str:
    if isinstance(outcome, Refused):
        return outcome.code.value
    if isinstance(outcome, BaseException):
        raise outcome
    return "ok"
