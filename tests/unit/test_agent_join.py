"""Joining a small gateway over real TLS: the digest, the secret, copied state, and refusals."""

import hashlib
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.errors import JoinError, JoinRefused
from agent.join import Joined, ask_status, join_once, join_until_done
from agent.spool import Spool
from agent.state import (
    SECRET_NAME,
    Enrolment,
    Identity,
    claimed,
    is_locked,
    load_enrolment,
    load_secret,
    login_of,
    own_secret,
)
from wire.join import CA_PATH, CODE_BYTES, STATUS_PATH, JoinString, encode_join_string

HERE = Identity("1100000001", "00:1e:42:00:00:01")
CODE = "c" * (CODE_BYTES + 6)


class Gateway:
    """The `[devices]` listener in miniature."""

    def __init__(self, folder: Path, *, valid_until: datetime | None = None) -> None:
        now = datetime.now(UTC)
        until = valid_until or now + timedelta(days=1)
        self.ca_pem, chain = self._certificates(folder, now - timedelta(days=60), until)
        self.requests: list[dict[str, str]] = []
        self.questions: list[str] = []
        self.status = 200
        self.state = "joined"
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == CA_PATH:
                    self._answer(200, gateway.ca_pem)
                    return
                gateway.questions.append(self.path)
                self._answer(gateway.status, json.dumps(gateway.answer()).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                gateway.requests.append(json.loads(body))
                self._answer(gateway.status, json.dumps(gateway.answer()).encode())

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def answer(self) -> dict[str, object]:
        return {
            "state": self.state,
            "mqtt": {"hosts": ["127.0.0.1"], "port": 8883},
            "record": "sealed",
            "ready_in": 2,
            "spread": 7,
            "server_time": 1_800_000_000_000,
        }

    def join_string(self, *hosts: str, ca: str | None = None, serial: str | None = None) -> str:
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.ca_pem.decode())).hexdigest()
        port: int = self.server.server_address[1]
        return encode_join_string(
            JoinString(hosts or ("127.0.0.1",), port, ca or digest, CODE, serial)
        )

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @staticmethod
    def _certificates(folder: Path, since: datetime, until: datetime) -> tuple[bytes, Path]:
        ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])

        def builder(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
            made = x509.CertificateBuilder().subject_name(name).issuer_name(ca_name)
            made = made.public_key(public).serial_number(x509.random_serial_number())
            return made.not_valid_before(since).not_valid_after(until)

        basic = x509.BasicConstraints(ca=True, path_length=0)
        ca = builder(ca_name, ca_key.public_key()).add_extension(basic, critical=True)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        alternative = x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        leaf = builder(name, key.public_key()).add_extension(alternative, critical=False)
        pem = serialization.Encoding.PEM
        chain = folder / "chain.pem"
        chain.write_bytes(
            leaf.sign(ca_key, hashes.SHA256()).public_bytes(pem)
            + key.private_bytes(
                pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return ca.sign(ca_key, hashes.SHA256()).public_bytes(pem), chain


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path)
    yield made
    made.close()


def join(gateway: Gateway, folder: Path, text: str | None = None, **more: object) -> Joined:
    identity = more.get("identity", HERE)
    assert isinstance(identity, Identity)
    return join_once(
        text or gateway.join_string(),
        identity,
        state=folder / "flash",
        spool=folder / "memory",
        check_dates=bool(more.get("check_dates", True)),
    )


def test_joining_keeps_what_the_gateway_said_and_never_sends_the_secret(
    gateway: Gateway, tmp_path: Path
) -> None:
    joined = join(gateway, tmp_path)
    assert joined.ready_in_s == 2
    kept = load_enrolment(tmp_path / "flash")
    assert kept == joined.enrolment
    assert isinstance(kept, Enrolment)
    assert (kept.state, kept.mqtt_hosts, kept.mqtt_port, kept.record, kept.spread_s) == (
        "joined",
        ("127.0.0.1",),
        8883,
        "sealed",
        7,
    )
    secret = load_secret(tmp_path / "flash")
    assert secret is not None and secret.material.hex() not in repr(secret)
    (request,) = gateway.requests
    assert request == {
        "code": CODE,
        "serial": HERE.serial,
        "lan_mac": HERE.lan_mac,
        "mqtt_password": login_of(secret).password,
        "command_key": login_of(secret).command_key.hex(),
    }
    assert secret.material.hex() not in json.dumps(request)
    assert login_of(secret).password not in repr(login_of(secret))
    assert (tmp_path / "flash" / SECRET_NAME).stat().st_mode & 0o777 == 0o600


def test_joining_again_says_the_same(gateway: Gateway, tmp_path: Path) -> None:
    gateway.state = "waiting"
    assert join(gateway, tmp_path).enrolment.state == "waiting"
    gateway.state = "joined"
    assert join(gateway, tmp_path).enrolment.state == "joined"
    assert gateway.requests[0] == gateway.requests[1]


def test_the_secret_is_saved_before_anybody_hears_of_it(gateway: Gateway, tmp_path: Path) -> None:
    gateway.status = 500
    with pytest.raises(JoinError):
        join(gateway, tmp_path)
    secret = load_secret(tmp_path / "flash")
    assert secret is not None
    assert gateway.requests[0]["mqtt_password"] == login_of(secret).password


def test_another_ca_than_the_join_string_names_gets_nothing(
    gateway: Gateway, tmp_path: Path
) -> None:
    with pytest.raises(JoinError, match="shows another CA"):
        join(gateway, tmp_path, gateway.join_string(ca="0" * 64))
    assert gateway.requests == []


def test_a_name_that_the_certificate_does_not_have_is_not_believed(
    gateway: Gateway, tmp_path: Path
) -> None:
    with pytest.raises(JoinError, match="certificate was not accepted"):
        join(gateway, tmp_path, gateway.join_string("localhost"))
    assert gateway.requests == []


def test_the_next_host_is_tried(gateway: Gateway, tmp_path: Path) -> None:
    joined = join(gateway, tmp_path, gateway.join_string("no-such-host.invalid", "127.0.0.1"))
    assert joined.enrolment.state == "joined"


def test_dates_do_not_count_while_the_clock_is_known_to_be_wrong(tmp_path: Path) -> None:
    expired = Gateway(tmp_path, valid_until=datetime.now(UTC) - timedelta(days=1))
    try:
        with pytest.raises(JoinError, match="expired"):
            join(expired, tmp_path)
        assert expired.requests == []
        assert join(expired, tmp_path, check_dates=False).enrolment.state == "joined"
        with pytest.raises(JoinError, match="not accepted"):
            # The name still counts.
            join(expired, tmp_path, expired.join_string("localhost"), check_dates=False)
    finally:
        expired.close()


def test_a_refusal_says_what_to_do(gateway: Gateway, tmp_path: Path) -> None:
    gateway.status = 403
    with pytest.raises(JoinRefused, match="ask the operator"):
        join(gateway, tmp_path)
    with pytest.raises(JoinRefused, match="copy the whole text"):
        join(gateway, tmp_path, "fg1:abc")
    with pytest.raises(JoinRefused, match="is for the device 1100000009"):
        join(gateway, tmp_path, gateway.join_string(serial="1100000009"))


def test_a_copied_state_is_set_aside(gateway: Gateway, tmp_path: Path) -> None:
    join(gateway, tmp_path)
    first = load_secret(tmp_path / "flash")
    for there in (
        Identity("1100000002", HERE.lan_mac),
        Identity("1100000002", "00:1e:42:00:00:02"),
    ):
        join(gateway, tmp_path, identity=there)
        second = load_secret(tmp_path / "flash")
        assert second is not None and first is not None
        assert second.material != first.material and second[1:] == there
        first = second
    kept = sorted(path.name for path in (tmp_path / "flash").glob(f"{SECRET_NAME}.of-*"))
    assert kept == [f"{SECRET_NAME}.of-1100000001", f"{SECRET_NAME}.of-1100000002"]
    assert own_secret(tmp_path / "flash", *HERE) is None
    assert load_enrolment(tmp_path / "flash") is None


def test_joining_another_installation_empties_the_spool(gateway: Gateway, tmp_path: Path) -> None:
    def samples() -> int:
        spool = Spool(tmp_path / "memory", tmp_path / "flash")
        count = len(spool)
        spool.close()
        return count

    join(gateway, tmp_path)
    spool = Spool(tmp_path / "memory", tmp_path / "flash")
    spool.begin_run("A" * 11, "boot")
    spool.append("A" * 11, 1, 0, {1: 1})
    spool.snapshot()
    spool.close()
    join(gateway, tmp_path)
    assert samples() == 1  # the same installation
    other = Gateway(tmp_path)
    try:
        join(other, tmp_path)
    finally:
        other.close()
    assert samples() == 0


def test_network_errors_are_tried_again_with_growing_waits(
    gateway: Gateway, tmp_path: Path
) -> None:
    waits: list[float] = []

    def attempt() -> Joined:
        if len(waits) < 12:
            raise JoinError("weather")
        return join(gateway, tmp_path)

    joined = join_until_done(attempt, rng=Random(1), wait=waits.append)
    assert joined.enrolment.state == "joined" and len(waits) == 12
    assert all(wait <= min(2 * 2**i, 900) for i, wait in enumerate(waits))


def test_the_record_is_shown_to_the_gateway(gateway: Gateway, tmp_path: Path) -> None:
    enrolment = join(gateway, tmp_path).enrolment
    answer = ask_status(enrolment, state=tmp_path / "flash", check_dates=True)
    assert (answer.state, answer.mqtt_hosts, answer.mqtt_port) == ("joined", ("127.0.0.1",), 8883)
    assert gateway.questions == [f"{STATUS_PATH}?serial={HERE.serial}&record=sealed"]
    gateway.status = 403
    with pytest.raises(JoinError):
        ask_status(enrolment, state=tmp_path / "flash", check_dates=True)


def test_a_state_directory_has_one_agent(tmp_path: Path) -> None:
    state = tmp_path / "flash"
    assert not is_locked(state)
    with claimed(state) as ours:
        assert ours and is_locked(state)
        with claimed(state) as second:
            assert not second
    assert not is_locked(state)
