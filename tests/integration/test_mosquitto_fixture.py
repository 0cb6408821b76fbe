"""The tests' own Mosquitto keeps its word: it starts, dies, comes back and reads files again."""

import asyncio
import os
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import aiomqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import MosquittoFactory
from tests.mosquitto import MosquittoError, MosquittoServer, chosen_way, mosquitto_binary

ANSWER_S_MAX = 10.0


def write_configuration(server: MosquittoServer, *lines: str) -> None:
    # Root may not read what root owns privately after Mosquitto has changed its user.
    user = "user root\n" if os.getuid() == 0 else ""
    server.configuration.write_text(
        f"{user}listener {server.port} {server.bind_host}\n" + "\n".join(lines) + "\n"
    )


async def send_to_itself(
    server: MosquittoServer, topic: str, *, trusted: Path | None = None
) -> str:
    context = None if trusted is None else ssl.create_default_context(cafile=trusted)
    async with (
        asyncio.timeout(ANSWER_S_MAX),
        aiomqtt.Client(server.host, server.port, identifier="one", tls_context=context) as client,
    ):
        await client.subscribe(topic, qos=1)
        await client.publish(topic, "hello", qos=1)
        message = await anext(aiter(client.messages))
        return str(message.topic)


async def test_it_carries_messages_and_comes_back_after_a_kill(mosquitto: MosquittoFactory) -> None:
    server = mosquitto()
    write_configuration(server, "allow_anonymous true")
    server.start()
    assert await send_to_itself(server, "a/b") == "a/b"
    for end in (server.kill, server.stop):
        end()
        assert not server.running()
        with pytest.raises(OSError):
            await asyncio.open_connection(server.host, server.port)
        server.start()
        assert await send_to_itself(server, "a/b") == "a/b"
    assert "mosquitto version" in server.log()


async def test_it_reads_the_acl_again_on_hup(mosquitto: MosquittoFactory) -> None:
    server = mosquitto()
    acl = server.directory / "acl"
    acl.write_text("topic readwrite other/#\n")
    acl.chmod(0o600)
    write_configuration(server, "allow_anonymous true", f"acl_file {acl}")
    server.start()
    async with aiomqtt.Client(server.host, server.port, identifier="watcher") as client:
        await client.subscribe("mine/#", qos=1)
        await client.subscribe("other/#", qos=1)
        arrivals = aiter(client.messages)

        async def first_to_arrive() -> str:
            """Both are sent; a refused one is dropped silently, so the second proves it."""
            await client.publish("mine/1", "x", qos=1)
            await client.publish("other/1", "x", qos=1)
            return str((await anext(arrivals)).topic)

        async with asyncio.timeout(ANSWER_S_MAX):
            assert await first_to_arrive() == "other/1"
            acl.write_text("topic readwrite mine/#\ntopic readwrite other/#\n")
            server.hup()
            while await first_to_arrive() != "mine/1":
                pass


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    files = folder / "server.pem", folder / "server.key"
    files[0].write_bytes(certificate.public_bytes(encoding))
    files[1].write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    )
    files[1].chmod(0o600)
    return files


async def test_it_speaks_tls(mosquitto: MosquittoFactory) -> None:
    server = mosquitto(tls=True)
    certificate, key = write_certificate(server.directory)
    write_configuration(server, "allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    server.start()
    assert await send_to_itself(server, "a/b", trusted=certificate) == "a/b"


def test_a_server_that_cannot_start_says_why(mosquitto: MosquittoFactory) -> None:
    server = mosquitto()
    write_configuration(server, "no_such_option true")
    with pytest.raises(MosquittoError, match="no_such_option"):
        server.start()


def test_with_neither_engine_nor_binary_the_one_line_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tests.mosquitto.engine_state", lambda: "no engine")
    monkeypatch.setattr("tests.mosquitto.mosquitto_binary", lambda: None)
    with pytest.raises(MosquittoError, match="apt-get install mosquitto"):
        chosen_way()


def test_an_engine_without_the_image_leads_to_the_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    if mosquitto_binary() is None:
        pytest.skip("the binary is not installed; the container way is used")
    monkeypatch.setattr("tests.mosquitto.engine_state", lambda: "no image")
    way, why = chosen_way()
    assert way == "binary" and "CONTRIBUTING" in why
