"""SSH host keys of targets: who shows and accepts them, and for whom."""

import base64
from functools import partial
from typing import Any

import msgspec
import pytest
from sqlalchemy import select, text

from gateway.domain.instants import MINUTE_MS
from gateway.domain.refusals import Refused
from gateway.domain.rights import Principal
from gateway.operations.erasing import OneUser
from gateway.operations.host_keys import KEY_CHARS_MAX
from gateway.storage.schema import known_host
from gateway.storage.transaction import Transaction
from tests.contract.browsers import run
from tests.contract.rights_cases import _HOST_KEY as KEY
from tests.contract.tunnel import S, Tunnel


def another(byte: bytes = b"\x01") -> str:
    """A key that differs from `KEY`."""
    blob = base64.b64decode(KEY.partition(" ")[2])[:-1] + byte
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


def opened(tunnel: Tunnel, person: int = 1, target: str = "") -> dict[str, Any]:
    """Names a new session to the router's own SSH server."""
    given = {"serial": S, "protocol": "ssh", "target": target}
    return {"session_id": tunnel.world.do("sessions.open", person=person, **given)["id"]}


def changed(statement: str, tx: Transaction) -> None:
    """What happens behind the program's back."""
    tx.run(text(statement))


def test_a_key_is_of_a_target_and_every_session_there_knows_it(tunnel: Tunnel) -> None:
    world = tunnel.world
    world.one_person(2, tunnel.acme, "advanced")
    mine, other = opened(tunnel), opened(tunnel, target="10.0.0.5:22")
    nothing = {"key": "", "fingerprint": "", "accepted_at": None}
    assert world.do("host-keys.show", **mine) == nothing
    shown = world.do("host-keys.trust", **mine, key=KEY)
    assert shown["key"] == KEY and shown["fingerprint"].startswith("SHA256:")
    assert shown["accepted_at"] == "2027-01-15T00:00:00.000Z"
    assert world.do("host-keys.show", **opened(tunnel, 2), person=2) == shown
    assert world.do("host-keys.show", **other) == nothing
    last = world.do("audit.list", limit=1, verb="host-keys.trust")["items"][0]
    assert (last["serial"], last["subject"]) == (S, "127.0.0.1:22")
    assert shown["fingerprint"] in str(last["detail"]) and KEY not in str(last)


def test_another_key_needs_more_right_than_the_first(tunnel: Tunnel) -> None:
    world = tunnel.world
    for person, role in ((2, "basic"), (3, "advanced")):
        world.one_person(person, tunnel.acme, role)
    basic, advanced = opened(tunnel, 2), opened(tunnel, 3)
    assert world.ask("host-keys.trust", **basic, key=KEY, person=2) == "ok"
    assert world.ask("host-keys.trust", **basic, key=KEY, person=2) == "ok"
    assert world.ask("host-keys.trust", **basic, key=another(), person=2) == "forbidden"
    assert world.do("host-keys.show", **basic, person=2)["key"] == KEY
    assert world.ask("host-keys.trust", **advanced, key=another(), person=3) == "ok"
    assert world.do("host-keys.show", **basic, person=2)["key"] == another()


def test_only_a_session_of_ones_own_that_is_not_over(tunnel: Tunnel) -> None:
    """Who had the device before does not decide what its next owner trusts."""
    world = tunnel.world
    world.one_person(2, tunnel.acme, "administrator")
    world.one_person(3, world.company("Other"), "administrator")
    mine = opened(tunnel)
    asked: tuple[tuple[str, dict[str, Any]], ...] = (
        ("host-keys.show", {}),
        ("host-keys.trust", {"key": KEY}),
    )
    for name, more in asked:
        assert world.ask(name, **mine, **more, person=2) == "forbidden"
        assert world.ask(name, **mine, **more, person=3) == "not_found"
        assert world.ask(name, session_id="0" * 32, **more) == "not_found"
    world.do("sessions.close", **mine)
    assert world.ask("host-keys.trust", **mine, key=KEY) == "session_over"
    assert world.ask("host-keys.show", **mine) == "session_over"
    late = opened(tunnel)
    world.now_ms += 61 * MINUTE_MS
    assert world.ask("host-keys.trust", **late, key=KEY) == "session_over"
    # Lost in between, though no sweep came by: role, service, company.
    for change, code in (
        ("UPDATE device SET state = 'unpaid'", "service_unpaid"),
        ("UPDATE membership SET role = 'read_only' WHERE person_id = 2", "forbidden"),
    ):
        tunnel.state()
        theirs = opened(tunnel, 2)
        world.write(partial(changed, change))
        assert world.ask("host-keys.trust", **theirs, key=KEY, person=2) == code
        tunnel.mend()


def test_what_is_no_key_is_refused(tunnel: Tunnel) -> None:
    world = tunnel.world
    mine = opened(tunnel)
    blob = KEY.partition(" ")[2]
    for wrong in (
        "",
        "x",
        blob,
        f"ssh-rsa {blob}",
        f"ssh-ed2551 {blob}",
        f"{KEY} root@router",
        f" {KEY}",
        f"ssh-ed25519  {blob}",
        f"ssh-ed25519\t{blob}",
        KEY[:-1],
        f"é {blob}",
        " ",
        f"ssh-ed25519 {'A' * KEY_CHARS_MAX}",
    ):
        with pytest.raises((Refused, msgspec.ValidationError)):
            world.do("host-keys.trust", **mine, key=wrong)
    rows = world.read(lambda tx: tx.all(select(known_host)))
    assert rows == []


def test_a_key_outlives_the_person_who_accepted_it(tunnel: Tunnel) -> None:
    world = tunnel.world
    world.one_person(2, tunnel.acme, "advanced")
    world.do("host-keys.trust", **opened(tunnel, 2), key=KEY, person=2)
    run(world, "users.erase", Principal("user:1", 1, operator=True), OneUser(user_id="2"))
    assert world.do("host-keys.show", **opened(tunnel))["key"] == KEY
