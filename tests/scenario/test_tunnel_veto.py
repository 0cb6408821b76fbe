"""Targets that are nobody's to reach, however they are spelt: the agent refuses them."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.scenario.box import Box, a_box
from tests.scenario.installation import Installation, end_with_the_tests, until
from tests.scenario.tunnel import demo, demo_pid, router
from tests.scenario.visiting import connect, open_session

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

SERIAL = "veto-1"
NOTE_S_MAX = 5.0  # the relay hears of the agent's word with the next lease
AT_ONCE = 7  # sessions; a device has at most 8
# PORT is one that somebody listens at, on all addresses of this machine.
MALFORMED = [
    "[fe80::1%lo]:PORT",
    "::1:PORT",
    "127.0.0.1:0PORT",
    "127.0.0.1:99999",
    "127.0.0.1",
    "[127.0.0.1]:PORT",
    "user@localhost:PORT",
]
NOT_LISTED = [
    "0x7f.1:PORT",
    "127.1:PORT",
    "0:PORT",
    "2130706433:PORT",
    "127.0.0.01:PORT",
    "0177.0.0.1:PORT",
    "[::ffff:127.0.0.1]:PORT",
    "[0:0:0:0:0:0:0:1]:PORT",
    "LOCALHOST:PORT",
    "127.0.0.1:PORT",
    "127.0.0.2:PORT",
    "127.0.0.2:80",
    "0.0.0.0:PORT",
    "[::]:PORT",
    "[::1]:PORT",
    "[::ffff:7f00:1]:PORT",
    "[::7f00:1]:PORT",
    "[64:ff9b::7f00:1]:PORT",
    "[fe80::1]:80",
    "169.254.169.254:80",
    "224.0.0.1:80",
    "255.255.255.255:80",
    "192.168.1.50:80",
    "localhost:PORT",
]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with demo(tmp_path_factory.mktemp("veto"), 1) as found:
        yield found
        assert not found.tracebacks()


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """Takes whatever reaches this machine at its port, IPv4 and IPv6."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as made:
        made.setblocking(False)
        yield made


@pytest.fixture(scope="module")
def box(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with a_box(installation, tmp_path_factory.mktemp("box") / SERIAL, SERIAL) as found:
        yield found


def insist_refused(
    installation: Installation, serial: str, target: str, *, programs: bool = True
) -> None:
    """By the agent: said by the page, by the diagnosis and by `fleetgate connect`."""
    session = open_session(installation, serial, target)
    try:
        page = session.page()
        assert (page.status, page.hop, page.code) == (403, "the target", "not_allowed"), page.text
        assert page.took_s <= NOTE_S_MAX
        assert "does not allow this target" in page.text
        session.until_found("target", "not_allowed", NOTE_S_MAX)
        assert session.hop("target")["state"] == "failed" and session.hop("target")["at"]
        assert "allow-list" in session.hop("target")["advice"]
        assert session.hop("agent")["state"] == "ok"
    finally:
        session.close()
    if not programs:
        return
    done = connect(installation, f"{serial}:{target}")
    assert done.code == 1 and "not_allowed" in done.error, done
    assert done.took_s <= NOTE_S_MAX + 2


def nothing_came(listener: socket.socket) -> bool:
    try:
        accepted, _ = listener.accept()
    except BlockingIOError:
        return True
    accepted.close()
    return False


@pytest.mark.parametrize("target", MALFORMED)
def test_what_is_no_target_is_refused_by_the_api(installation: Installation, target: str) -> None:
    asked = {"serial": router(1), "target": target.replace("PORT", "80"), "protocol": "tcp"}
    refused = installation.api.ask("POST", "/sessions", asked)
    assert (refused.status, refused.code) == (422, "validation"), refused.body
    assert refused.json["field"] == "target", refused.json


def test_what_is_not_listed_is_refused_by_the_agent_and_never_dialled(
    installation: Installation, box: Box, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        assert not nothing_came(listener)  # it would be seen
    targets = [target.replace("PORT", str(port)) for target in NOT_LISTED]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        refusing = [
            pool.submit(insist_refused, installation, SERIAL, one, programs=number % 5 == 0)
            for number, one in enumerate(targets)
        ]
        for done in refusing:
            done.result()
    assert nothing_came(listener)
    facts = installation.facts()
    known = {("127.0.0.1", facts["mqtt_port"]), ("127.0.0.1", facts["relay_port"])}
    # Of a sample: a datagram socket that sends nothing tells the own address on the way out.
    assert box.dialled() - {("192.0.2.1", 9)} == known


def test_what_is_listed_is_reached(installation: Installation, tmp_path: Path) -> None:
    """The same agent with another list; the listener's answer proves that the way is whole."""
    with socket.create_server(("127.0.0.1", 0)) as target:
        port = target.getsockname()[1]
        allow = (f"router:{port}",)
        with (
            a_box(installation, tmp_path / "listed", "veto-2", allow) as listed,
            ThreadPoolExecutor(1) as pool,
        ):

            def answer() -> None:
                accepted, _ = target.accept()
                with accepted:
                    accepted.sendall(b"here")

            answering = pool.submit(answer)
            done = connect(installation, f"veto-2:127.0.0.1:{port}")
            assert (done.code, done.out) == (0, b"here"), done
            answering.result()
            assert ("127.0.0.1", port) in listed.dialled()
            insist_refused(installation, "veto-2", "127.0.0.1:22")
            assert ("127.0.0.1", 22) not in listed.dialled()


def test_names_are_judged_by_what_they_lead_to(installation: Installation, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with traced(demo_pid(installation), trace):
        insist_names_are_judged(installation)
    reached = set(re.findall(r'inet_addr\("([0-9.]+)"\)', trace.read_text()))
    # The simulated machines live on loopback; there the page's own was dialled.
    assert "127.0.0.1" in reached and reached <= {"127.0.0.1", "192.0.2.1"}, reached


def insist_names_are_judged(installation: Installation) -> None:
    insist_refused(installation, router(1), "metadata.lan:80")
    # One name, another address each time it is asked: judged anew at each connection.
    session = open_session(installation, router(1), "fickle.lan:80")
    cookie = session.enter()
    sources = [f"127.0.0.{number}" for number in range(2, 6)]
    codes = [session.page(cookie=cookie, source=source).code for source in sources]
    assert set(codes) == {"", "not_allowed"}, codes
    session.close()


# The relay


@contextmanager
def traced(pid: int, trace: Path) -> Iterator[None]:
    """The network calls of a process that runs already."""
    words = ["strace", "-f", "-e", "trace=connect,bind,socket", "-o", str(trace)]
    process = subprocess.Popen(
        [*words, "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=end_with_the_tests,
    )
    assert process.stderr is not None
    try:
        assert b"attached" in process.stderr.readline()
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)


def test_the_relay_connects_to_nothing_but_its_mqtt_server(
    installation: Installation, tmp_path: Path
) -> None:
    pid, trace = installation.pid("relay"), tmp_path / "trace"
    with traced(pid, trace):
        for target in ("", "192.168.1.50:80", "nowhere.lan:80", "metadata.lan:80"):
            session = open_session(installation, router(1), target)
            session.page()
            session.close()
        done = connect(installation, f"{router(1)}:192.168.1.60:7777", sent=b"hello\n")
        assert done.code == 0 and b"hello" in done.out, done
        # It signs in anew, so that there is something to be seen.
        former = installation.kill_child("mosquitto")
        installation.back("mosquitto", former)
        until(lambda: "connect(" in trace.read_text(), "it signs in", within_s=20)
        open_session(installation, router(1)).until_open().close()
    assert installation.pid("relay") == pid
    calls = trace.read_text()
    connects = [line for line in calls.splitlines() if "connect(" in line]
    places = {
        (found[2], found[1])
        for line in connects
        if (found := re.search(r'htons\((\d+)\), sin_addr=inet_addr\("([0-9.]+)"\)', line))
    }
    assert places == {("127.0.0.1", str(installation.facts()["mqtt_port"]))}, connects
    # Nothing else was even begun: no name server, no resolver's socket, no other family.
    assert all("AF_INET, " in line or "resumed" in line for line in connects), connects
    assert "SOCK_DGRAM" not in calls and "AF_UNIX" not in calls, calls
    binds = [line for line in calls.splitlines() if "bind(" in line]
    assert all("htons(0)" in line for line in binds), binds  # any port, to connect from


def test_the_relay_holds_none_of_the_gateways_secrets(installation: Installation) -> None:
    data, pid = installation.data, installation.pid("relay")
    configuration = (data / "relay.toml").read_text()
    files = {Path(text) for text in re.findall(r'"(/[^"]+)"', configuration)}
    assert files and all(one.parent == data / "relay" for one in files), files
    private = [one.name for one in (data / "relay").iterdir() if "PRIVATE" in one.read_text()]
    assert private == ["link.key"]
    process = Path(f"/proc/{pid}")
    held = {os.readlink(one) for one in (process / "fd").iterdir()}
    own = {Path(one) for one in held if one.startswith(str(data))}
    assert own <= {data / "logs" / "relay.log", data / "lock"}, own
    facts = installation.facts()
    environment = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
    secrets = [facts["admin_token"], facts["admin_password"]]
    logins = json.loads((data / "mqtt-logins.json").read_text())
    secrets += [password for name, password in logins.items() if name != "@relay-1"]
    for secret in secrets:
        assert secret.encode() not in environment
        assert not any(secret in one.read_text() for one in (data / "relay").iterdir())
