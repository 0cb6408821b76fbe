"""How the gateway meets its mail server: encrypted, signed in, and never in plain by mistake."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import insert

from gateway.command.configuration import ConfigurationError, as_tables, as_toml, load
from gateway.command.mail_server import PASSWORD_VARIABLE, smtp_of
from gateway.operations.mailing import queue_mail
from gateway.people.mail_messages import message_of
from gateway.people.mail_texts import words_of_mail
from gateway.people.smtp import ServerUnfit, SmtpSettings, connected
from gateway.storage.address import Address
from gateway.storage.schema import mail
from gateway.storage.transaction import Transaction
from tests.api_server import ApiServer, api_server
from tests.integration.relay_certificate import visitors_certificate
from tests.mail_server import PASSWORD, USER, Mailboxes, mail_server, tls_context

ANN = "ann@example.org"


async def send(settings: SmtpSettings) -> None:
    words = words_of_mail("password_changed", "en", {}, "https://fleet.example.org")
    message = message_of(words, ANN, settings, language="en", sealed=b"1", created_ms=0)
    async with connected(settings) as connection:
        await connection.send(ANN, message)


def certified(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """The CA's file and what the server shows."""
    certificate, key = visitors_certificate(folder, "localhost")
    return certificate, tls_context(certificate, key)


async def test_starttls_and_signing_in_as_configured(tmp_path: Path) -> None:
    ca_file, context = certified(tmp_path)
    async with mail_server(context, sign_in=True) as boxes:
        settings = boxes.settings(
            host="localhost", security="starttls", ca_file=ca_file, user=USER, password=PASSWORD
        )
        await send(settings)
        assert boxes.encrypted and boxes.signed_in == 1 and len(boxes.arrived) == 1


async def test_a_wrong_password_and_none_keep_the_mail(tmp_path: Path) -> None:
    ca_file, context = certified(tmp_path)
    async with mail_server(context, sign_in=True) as boxes:
        settings = boxes.settings(host="localhost", security="starttls", ca_file=ca_file)
        with pytest.raises(ServerUnfit, match="535") as caught:
            await send(replace(settings, user=USER, password="wrong-pass"))
        assert "wrong-pass" not in str(caught.value)
        with pytest.raises(ServerUnfit, match="530"):
            await send(settings)
        assert boxes.asked == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_certificate_of_another_ca_or_name_is_refused(
    tmp_path: Path, security: str
) -> None:
    ca_file, context = certified(tmp_path)
    async with mail_server(context) as boxes:
        for host, trusted in (("localhost", None), ("127.0.0.1", ca_file)):
            with pytest.raises(ServerUnfit):
                await send(boxes.settings(host=host, security=security, ca_file=trusted))
        assert boxes.asked == []


async def test_a_server_without_starttls_is_not_told_in_plain() -> None:
    async with mail_server() as boxes:
        with pytest.raises(ServerUnfit, match="STARTTLS"):
            await send(boxes.settings(security="starttls", user=USER, password=PASSWORD))
        assert boxes.asked == [] and boxes.signed_in == 0


async def test_tls_from_the_first_byte(tmp_path: Path) -> None:
    ca_file, context = certified(tmp_path)
    async with mail_server() as inside, relayed(inside, context) as port:
        settings = replace(
            inside.settings(), host="localhost", port=port, security="tls", ca_file=ca_file
        )
        await send(settings)
        assert len(inside.arrived) == 1


async def test_a_server_that_says_nothing_is_left_after_the_time_limit() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        with pytest.raises(ServerUnfit):
            await send(replace(Mailboxes(port=port).settings(), timeout_s=1))


class relayed:  # noqa: N801 - used like a function
    """TLS in front of a plain mail server."""

    def __init__(self, boxes: Mailboxes, context: ssl.SSLContext) -> None:
        self._boxes, self._context = boxes, context

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner = await asyncio.open_connection("127.0.0.1", self._boxes.port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while some := await source.read(65536):
                sink.write(some)
            sink.close()

        await asyncio.gather(copy(reader, inner), copy(inner_reader, writer))

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", 0, ssl=self._context)
        return int(self._server.sockets[0].getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        self._server.close()


CONFIGURED = """
[mail]
host = "mail.example.org"
user = "fleet"
from_address = "fleetgate@example.org"
"""


def test_the_password_lies_in_a_file_of_its_own_and_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, file = tmp_path / "smtp-password", tmp_path / "gateway.toml"
    file.write_text(CONFIGURED)
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    with pytest.raises(ConfigurationError, match="password_file, or set FLEETGATE_MAIL_PASSWORD"):
        smtp_of(load(file))
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    found = smtp_of(load(file))
    assert found is not None and found.password == PASSWORD
    file.write_text(CONFIGURED + 'password_file = "smtp-password"\n')
    with pytest.raises(ConfigurationError, match="No such file"):
        smtp_of(load(file))
    secret.write_text(f"{PASSWORD}-2\n")
    secret.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        smtp_of(load(file))
    secret.chmod(0o600)
    found = smtp_of(load(file))
    assert found is not None and found.password == f"{PASSWORD}-2"
    assert PASSWORD not in repr(found)
    assert PASSWORD not in as_toml(as_tables(load(file)))


@pytest.fixture
async def server(tmp_path: Path, database: Address) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, database) as running:
        yield running


async def test_status_and_metrics_say_what_waits_and_what_went_wrong(server: ApiServer) -> None:
    found = (await server.done("GET", "/status"))["mail"]
    assert found == {
        "configured": False,
        "unsent": 0,
        "oldest_unsent_s": 0.0,
        "given_up": 0,
        "last_error": None,
    }
    site = replace(server.site, mail=True)

    def fill(tx: Transaction) -> None:
        for _ in range(2):
            queue_mail(
                tx, site=site, template="password_changed", recipient=ANN, language="", values={}
            )
        given_up = {"recipient": ANN, "template": "notice", "language": "en", "attempts": 1}
        tx.run(insert(mail), {**given_up, "created_at": tx.now_ms, "error": "550 unknown"})

    await server.store.write(fill)
    server.clock.moved_ms += 61_000
    async with asyncio.timeout(10):
        found = {"unsent": 0}
        while not found["unsent"]:  # counts are kept for a second
            found = (await server.done("GET", "/status"))["mail"]
    assert (found["unsent"], found["given_up"], found["last_error"]) == (2, 1, "550 unknown")
    assert found["oldest_unsent_s"] >= 61
    status, text, _ = await server.ask("GET", "/metrics")
    assert status == 200 and b"mail_unsent 2.0" in text and b"mail_given_up 1.0" in text
