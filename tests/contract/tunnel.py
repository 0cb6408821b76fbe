"""A world with a relay that does not exist: its states and leases, and sessions to one device."""

from typing import Any

from sqlalchemy import delete, func, select, text

from gateway.ingest.sender import Claimed, claim
from gateway.jobs import sessions
from gateway.operations import telling
from gateway.operations.relays import lease_for, take_state
from gateway.storage.schema import audit, membership, outbox, revocation, session
from gateway.storage.transaction import AnyRow, Transaction
from tests.contract.world import SITE, World
from tests.relay_row import one_relay
from wire.commands import Answer, Command, Outcome, decode_command
from wire.relay_control import Happening, Lease, State, Usage
from wire.session_commands import LinkState, Open, Report, open_of, report_answer

S = "0123456789"
RELAY = "relay-1"
EPOCH = "epoch-1"
KEY = bytes.fromhex("b" * 64)
NONCE = "0" * 32


class Tunnel:
    """One company with one device that is served and connected, and one relay."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.acme = world.company("Acme")
        world.grant(self.acme, 10)
        self.device(S)
        self.register_relay()
        self._number = 0
        self.state()

    def device(self, serial: str) -> None:
        """Registered, joined, paid and connected."""
        world = self.world
        world.register(serial, self.acme, True)
        world.join(serial)
        world.up(serial)
        world.heartbeat(serial)

    def register_relay(self, *, tls: bool = False, port: int = 8885) -> None:
        self.world.write(lambda tx: one_relay(tx, tls=tls, public_port=port))

    # ---- people

    def open(self, serial: str = S, **given: Any) -> Any:
        return self.world.do("sessions.open", serial=serial, **{"protocol": "http", **given})

    def refused(self, serial: str = S, **given: Any) -> str:
        return self.world.ask("sessions.open", serial=serial, **{"protocol": "http", **given})

    def show(self, session_id: str) -> Any:
        return self.world.do("sessions.show", session_id=session_id)

    def ticket(self, session_id: str, **given: Any) -> str:
        given = {"way": "connect", **given}
        return self.world.ask("sessions.ticket", session_id=session_id, **given)

    def hop(self, session_id: str) -> tuple[str | None, str]:
        """The hop to look at, and its code."""
        found = self.world.do("sessions.diagnosis", session_id=session_id)
        assert [
            hop["hop"] for hop in found["hops"]
        ] == "person gateway mqtt agent relay target".split()
        return found["failing"], found["code"]

    # ---- the device

    def sent(self) -> list[Claimed]:
        """What the outbox gives away now."""
        return self.world.write(lambda tx: claim(tx, "node-1", SITE.master_key, SITE.tickets))

    def commands(self, serial: str = S) -> list[Command]:
        """What the device reads of it."""
        return [
            decode_command(one.payload, key=KEY, serial=serial, nonce=NONCE)
            for one in self.sent()
            if one.payload is not None and one.serial == serial
        ]

    def orders(self) -> list[Open]:
        return [open_of(one.args) for one in self.commands() if one.verb == "open"]

    def answer(self, session_id: str, outcome: Outcome, **result: object) -> None:
        """The agent's answer to the newest `open` of a session."""
        self.world.answer(S, Answer(self.row(session_id).open_id, outcome, result))

    def report(self, session_id: str, link: LinkState, error: str = "", serial: str = S) -> None:
        self.world.answer(serial, report_answer(Report(session_id, link, error)))

    def sign_in_anew(self) -> None:
        self.world.router(S).connection += 1
        self.world.up(S)

    # ---- the relay

    def state(
        self,
        *usage: Usage,
        happened: tuple[Happening, ...] = (),
        epoch: str = EPOCH,
        applied: int = 0,
    ) -> None:
        said = State(epoch, applied, 0, 0, 0, usage, happened)
        self.world.write(lambda tx: take_state(tx, RELAY, said))

    def happening(self, session_id: str, what: str, detail: str = "") -> Happening:
        self._number += 1
        return Happening(self._number, session_id, what, detail, self.world.now_ms)

    def happens(self, session_id: str, what: str, detail: str = "", applied: int = 0) -> None:
        self.state(happened=(self.happening(session_id, what, detail),), applied=applied)

    def lease(self) -> Lease:
        found = self.world.read(lambda tx: lease_for(tx, RELAY))
        assert found is not None
        return found

    # ---- the jobs

    def sweep(self) -> None:
        """All there is to do, as the schedule does it."""
        for _ in range(100):
            work = self.world.read(sessions.anything_due)
            if not any(work):
                return
            if work.end:
                assert self.world.write(sessions.end_due)
            if work.tell:
                assert self.world.write(telling.tell_untold)
            if work.settle:
                assert self.world.write(sessions.settle)
        raise AssertionError("the job never comes to its end")

    # ---- what is so

    def row(self, session_id: str) -> AnyRow:
        found = self.world.read(
            lambda tx: tx.one(select(session).where(session.c.id == session_id))
        )
        assert found is not None
        return found

    def revoked(self) -> list[tuple[int, str, str]]:
        rows = self.world.read(lambda tx: tx.all(select(revocation).order_by(revocation.c.number)))
        return [(row.number, row.session_id, row.reason) for row in rows]

    def entries(self, **where: Any) -> list[Any]:
        """Of the audit, oldest first."""
        return list(reversed(self.world.do("audit.list", limit=500, **where)["items"]))

    def counts(self) -> tuple[int, int, int]:
        """Rows of sessions, audit and outbox."""

        def count(tx: Transaction) -> tuple[int, int, int]:
            sizes = [
                int(tx.scalar(select(func.count()).select_from(table)))
                for table in (session, audit, outbox)
            ]
            return sizes[0], sizes[1], sizes[2]

        return self.world.read(count)

    def mend(self) -> None:
        """Puts a device right that a test changed behind the program's back."""
        right = text("UPDATE device SET state = 'active', registered = true, ended_at = NULL")
        self.world.write(lambda tx: tx.run(right))

    def dismiss(self, person: int) -> None:
        """Takes all roles of a person away."""
        gone = delete(membership).where(membership.c.person_id == person)
        self.world.write(lambda tx: tx.run(gone))


def usage(session_id: str, to_device: int = 0, from_device: int = 0, *, link: bool = True) -> Usage:
    return Usage(session_id, to_device, from_device, 0, 0, 0, link)
