"""A relay or an MQTT server that hangs or is gone: every way in says which, until it is back."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.scenario.hindered import (
    AT_ONCE_S,
    LINK_WAIT_S,
    LITTLE_S,
    PROBE_S,
    RELAY_SEEN_S,
    insist_connect,
    insist_found,
    insist_page,
    insist_works,
)
from tests.scenario.installation import Installation, until
from tests.scenario.tunnel import demo, router
from tests.scenario.visiting import Page, Session, open_session


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with demo(tmp_path_factory.mktemp("servers"), 1) as found:
        yield found
        assert not found.tracebacks()


@contextmanager
def not_started_again(installation: Installation) -> Iterator[None]:
    """`up` stands still meanwhile, so that it starts no server again."""
    assert installation.process is not None
    installation.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        installation.process.send_signal(signal.SIGCONT)


@contextmanager
def stopped(installation: Installation, name: str) -> Iterator[None]:
    """A server that hangs: it is there, and says nothing."""
    pid = installation.pid(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def insist_no_ticket(session: Session, code: str) -> None:
    refused = session.api.ask("POST", f"/sessions/{session.id}/tickets", {"way": "connect"})
    assert (refused.status, refused.code) == (503, "unavailable")
    assert refused.json["detail"].endswith(f"({code})"), refused.json


@pytest.mark.long
@pytest.mark.timeout(150)
def test_a_relay_that_hangs_or_is_gone(installation: Installation) -> None:
    session = open_session(installation, router(1))
    cookie = session.enter()
    assert session.page(cookie=cookie).status == 302
    with stopped(installation, "relay"):
        insist_found(session, "relay", "relay_away", 30, RELAY_SEEN_S + LITTLE_S)
        insist_no_ticket(session, "relay_away")
        insist_connect(installation, f"{router(1)}:80", "(relay_away)", LINK_WAIT_S + LITTLE_S)
    insist_works(session, cookie)
    former = installation.pid("relay")
    with not_started_again(installation):
        os.kill(former, signal.SIGKILL)
        # Nobody answers for it, so what connects is told by the system, and says which part it is.
        insist_connect(installation, f"{router(1)}:80", "relay 127.0.0.1:", LINK_WAIT_S + LITTLE_S)
        insist_found(session, "relay", "relay_away", 30, RELAY_SEEN_S + LITTLE_S)
    installation.back("relay", former)
    until(lambda: session.diagnosis()["failing"] is None, "all is well", within_s=20)
    session.until_open()
    assert session.page().status == 302  # a new ticket, as after a redirect through the gateway


@pytest.mark.long
@pytest.mark.timeout(150)
@pytest.mark.parametrize("way", ["hangs", "is gone"])
def test_an_mqtt_server_that_hangs_or_is_gone(installation: Installation, way: str) -> None:
    session = open_session(installation, router(1))
    cookie = session.enter()
    assert session.page(cookie=cookie).status == 302
    former = installation.pid("mosquitto")
    with not_started_again(installation), ExitStack() as stack:
        if way == "hangs":
            stack.enter_context(stopped(installation, "mosquitto"))
        else:
            os.kill(former, signal.SIGKILL)
        # What can be opened is opened while the relay's lease lasts.
        assert session.page(cookie=cookie).status == 302
        insist_found(session, "mqtt", "mqtt_away", 30, RELAY_SEEN_S + PROBE_S + LITTLE_S)

        sources = (f"127.0.0.{number}" for number in range(2, 250))

        def refused() -> Page | None:
            page = session.page(cookie=cookie, source=next(sources))
            return page if page.status == 503 else None

        page = until(refused, "no lease", within_s=AT_ONCE_S)
        insist_page(page, 503, "mqtt", "control_link_lost", AT_ONCE_S)
        insist_no_ticket(session, "mqtt_away")
        insist_connect(installation, f"{router(1)}:80", "(mqtt_away)", LINK_WAIT_S + LITTLE_S)
    if way == "is gone":
        installation.back("mosquitto", former)
    insist_works(session, cookie)
