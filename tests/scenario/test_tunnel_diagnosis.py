"""Whatever is in the way: page, `fleetgate connect` and diagnosis name the same hop, in time."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenario.hindered import (
    AT_ONCE_S,
    DIAL_S,
    LINK_WAIT_S,
    LITTLE_S,
    a_router,
    insist_connect,
    insist_found,
    insist_page,
    insist_works,
    together,
)
from tests.scenario.installation import DAY_S, Installation, installed, until
from tests.scenario.tunnel import demo, router
from tests.scenario.visiting import (
    Page,
    Session,
    connect,
    open_session,
    start_connect,
)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with demo(tmp_path_factory.mktemp("diagnosis"), 1) as found:
        yield found
        assert not found.tracebacks()


# Targets

TARGETS = [
    # target, code, status
    ("192.168.1.62:80", "refused", 502),
    ("192.168.1.50:8080", "refused", 502),
    ("192.168.1.77:80", "unreachable", 502),
    ("nowhere.lan:80", "unreachable", 502),
]


def insist_not_reached(
    installation: Installation, target: str, code: str, status: int, wait_s: float = 0.0
) -> None:
    session = open_session(installation, router(1), target)
    page = session.page()
    insist_page(page, status, "target", code, wait_s + AT_ONCE_S)
    assert page.took_s >= wait_s - 0.5
    insist_found(session, "target", code, LITTLE_S, LITTLE_S)
    hops = session.diagnosis()["hops"]
    assert [one["state"] for one in hops] == ["ok"] * 5 + ["failed"]
    # It was the target, not the way: the session lives.
    assert session.shown()["state"] == "open"
    session.close()
    within_s = wait_s + AT_ONCE_S + LITTLE_S
    insist_connect(installation, f"{router(1)}:{target}", f"({code})", within_s)


@pytest.mark.parametrize(("target", "code", "status"), TARGETS)
def test_a_target_that_refuses(
    installation: Installation, target: str, code: str, status: int
) -> None:
    insist_not_reached(installation, target, code, status)


def test_a_refusal_is_never_taken_for_an_agent_that_is_silent(installation: Installation) -> None:
    """Also in the moment before the relay's report is stored."""
    session = open_session(installation, router(1), "192.168.1.62:80")
    assert session.page().code == "refused"
    seen = set()

    def refused() -> bool:
        found = session.diagnosis()
        seen.add(found["code"])
        return bool(found["code"] == "refused")

    until(refused, "the refusal is known", within_s=LITTLE_S, look_s=0.0)
    assert "open_unanswered" not in seen
    session.close()


# Devices


def insist_waits(session: Session, cookie: str) -> None:
    """A stream that is open waits for its device for a minute and more."""
    with pytest.raises(TimeoutError):
        session.page(cookie=cookie)


def test_devices_and_a_target_that_are_away(installation: Installation, tmp_path: Path) -> None:
    """One whose process is killed, one that falls silent as in a network cut, and meanwhile a
    machine behind a third that drops packets.
    """
    with (
        a_router(installation, tmp_path, 1_700_000_001) as killed,
        a_router(installation, tmp_path, 1_700_000_002) as silent,
    ):
        gone = open_session(installation, killed.serials[0])
        quiet = open_session(installation, silent.serials[0])
        cookies = {one.id: one.enter() for one in (gone, quiet)}
        for one in (gone, quiet):
            assert one.page(cookie=cookies[one.id]).status == 302
        killed.kill()
        assert silent.process is not None
        silent.process.send_signal(signal.SIGSTOP)
        late = open_session(installation, silent.serials[0])
        cookies[late.id] = late.enter()

        def killed_is_known_at_once() -> None:
            insist_found(gone, "mqtt", "device_signed_out", 30, AT_ONCE_S)
            page = gone.page(cookie=cookies[gone.id])
            insist_page(page, 504, "mqtt", "device_signed_out", LINK_WAIT_S + LITTLE_S)
            assert ", since " in page.text
            insist_found(gone, "mqtt", "device_signed_out", 60, 0.1)

        def silent_without_a_link() -> None:
            until(lambda: late.diagnosis()["code"] == "open_sent", "it is sent", within_s=LITTLE_S)
            page = late.page(cookie=cookies[late.id])
            insist_page(page, 504, "agent", "open_unanswered", LINK_WAIT_S + LITTLE_S)
            insist_found(late, "agent", "open_unanswered", 30, 0.1)

        together(
            killed_is_known_at_once,
            lambda: insist_waits(quiet, cookies[quiet.id]),
            lambda: insist_found(quiet, "agent", "link_lost", LITTLE_S, LINK_WAIT_S + LITTLE_S),
            silent_without_a_link,
            lambda: insist_not_reached(installation, "192.168.1.61:81", "timed_out", 504, DIAL_S),
            lambda: insist_connect(
                installation,
                f"{killed.serials[0]}:80",
                "mqtt: device_signed_out, since 2",
                LINK_WAIT_S + LITTLE_S,
            ),
            lambda: insist_connect(
                installation,
                f"{silent.serials[0]}:80",
                "agent: open_unanswered, since 2",
                LINK_WAIT_S + LITTLE_S,
            ),
        )
        # Wanted state: all go on by themselves.
        killed.start()
        silent.process.send_signal(signal.SIGCONT)
        for one in (gone, quiet, late):
            insist_works(one, cookies[one.id])


@pytest.mark.long
@pytest.mark.timeout(180)
def test_a_device_that_stays_away_is_late_and_then_offline(
    installation: Installation, tmp_path: Path
) -> None:
    with a_router(installation, tmp_path, 1_700_000_011) as silent:
        assert silent.process is not None
        silent.process.send_signal(signal.SIGSTOP)
        session = open_session(installation, silent.serials[0])
        cookie = session.enter()
        # An agent that does not answer is worse than a heartbeat that is due.
        session.until_found("agent", "open_unanswered", 15)

        def waiting() -> bool:
            return bool(session.hop("mqtt")["code"] == "device_late")

        until(waiting, "the device is late", within_s=40)
        assert session.hop("mqtt")["state"] == "waiting"
        insist_found(session, "mqtt", "device_offline", 90, 40)
        page = session.page(cookie=cookie)
        insist_page(page, 504, "mqtt", "device_offline", LINK_WAIT_S + LITTLE_S)
        insist_connect(
            installation,
            f"{silent.serials[0]}:80",
            "mqtt: device_offline, since 2",
            LINK_WAIT_S + LITTLE_S,
        )


def test_a_device_that_never_signed_in(installation: Installation, tmp_path: Path) -> None:
    api, serial = installation.api, "never-1"
    company = api.company("Never")
    api.grant(company, 1)
    api.register(serial, company)
    api.done("POST", f"/devices/{serial}/activate", {"credits": 1})
    refused = api.ask("POST", "/sessions", {"serial": serial, "protocol": "ssh"})
    assert (refused.status, refused.code) == (409, "not_joined")
    done = connect(installation, serial)
    assert done.code == 1 and "(not_joined)" in done.error and "devices join" in done.error
    # Joined, but its agent was never started.
    join = api.done("POST", f"/devices/{serial}/join", {})["join"]
    options = ["--state-dir", str(tmp_path / "state"), join]
    words = [sys.executable, "-m", "agent", "join", *options]
    subprocess.run(words, check=True, capture_output=True, timeout=30)
    session = open_session(installation, serial)
    found = session.until_found("mqtt", "device_offline", LITTLE_S)
    assert session.hop("mqtt")["at"] is None
    assert found["state"] == "waiting" and "offline" in found["advice"]
    session.close()


# Companies and money


def test_an_unpaid_device_is_refused(installation: Installation) -> None:
    api, serial = installation.api, "unpaid-1"
    api.register(serial, api.company("Unpaid"))
    refused = api.ask("POST", "/sessions", {"serial": serial, "protocol": "http"})
    assert (refused.status, refused.code) == (409, "service_unpaid")
    assert "activate" in refused.json["detail"]
    done = connect(installation, f"{serial}:80")
    assert done.code == 1 and done.took_s <= AT_ONCE_S
    assert "(service_unpaid)" in done.error and "devices activate" in done.error


def insist_ended(session: Session, cookie: str, because: str, sentence: str) -> None:
    """A session that the gateway ended: each way in says why."""
    until(lambda: session.shown()["state"] == "ended", "it ends", within_s=AT_ONCE_S)
    insist_found(session, "gateway", because, 30, 0.1)

    def gone() -> Page | None:
        page = session.page(cookie=cookie)
        return page if page.status == 410 else None

    page = until(gone, "the page says that it is over", within_s=AT_ONCE_S)
    assert sentence in page.text and page.code == "session_over"
    refused = session.api.ask("POST", f"/sessions/{session.id}/tickets", {"way": "connect"})
    assert refused.code == "session_over" and because in refused.json["detail"]


@pytest.mark.long
def test_a_company_that_is_suspended(installation: Installation, tmp_path: Path) -> None:
    api = installation.api
    with a_router(installation, tmp_path, 1_700_000_021) as fleet:
        serial = fleet.serials[0]
        company = api.device(serial)["company_id"]
        session = open_session(installation, serial)
        cookie = session.enter()
        assert session.page(cookie=cookie).status == 302
        visitor = start_connect(installation, f"{serial}:22")
        assert visitor.stdout is not None
        assert visitor.stdout.readline().startswith(b"SSH-")
        api.done("POST", f"/companies/{company}/suspend", {"reason": "test"})
        insist_ended(session, cookie, "company_suspended", "The company is suspended.")
        _, error = visitor.communicate(timeout=AT_ONCE_S)
        assert visitor.returncode == 1 and b"(company_suspended)" in error, error
        refused = api.ask("POST", "/sessions", {"serial": serial, "protocol": "http"})
        assert (refused.status, refused.code) == (409, "company_suspended")
        done = connect(installation, f"{serial}:80")
        assert done.code == 1 and "(company_suspended)" in done.error


def usable(installation: Installation, serial: str) -> tuple[Session, str] | None:
    """A session that works; right after a move the relay has no lease, or another time."""
    session = open_session(installation, serial)
    try:
        cookie = session.enter()
    except AssertionError:
        cookie = ""  # no ticket was given, or the relay did not take it
    if cookie and session.page(cookie=cookie).status == 302:
        return session, cookie
    session.close()
    return None


@pytest.mark.long
@pytest.mark.timeout(150)
def test_a_session_whose_device_becomes_unpaid(tmp_path: Path) -> None:
    with (
        installed(tmp_path / "up", "--relay", "127.0.0.1:0") as installation,
        a_router(installation, tmp_path, 1_700_000_031) as fleet,
    ):
        api, serial = installation.api, fleet.serials[0]

        def service(reason: str) -> None:
            until(lambda: api.device(serial)["service"]["reason"] == reason, reason, within_s=30)

        service("paid")
        installation.move_clock(30 * DAY_S + 60)
        service("grace")
        installation.move_clock(3 * DAY_S - 240)
        service("grace")
        session, cookie = until(
            lambda: usable(installation, serial), "the relay lives later, too", within_s=30
        )
        # To the end of the grace; a longer jump would be one of the relay's lease, too.
        installation.move_clock(250)
        insist_ended(session, cookie, "service_unpaid", "service is not paid for")
        refused = api.ask("POST", "/sessions", {"serial": serial, "protocol": "http"})
        assert (refused.status, refused.code) == (409, "service_unpaid")
