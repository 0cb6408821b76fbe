"""A device made by hand from `wire` alone: joins, signs in, and says what no agent would say."""

import http.client
import json
import secrets
import socket
import ssl
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mqtt5

from gateway.mqtt_server.connection import Connection, TlsListener, connected
from tests.scenario.installation import Installation, until
from wire import keys, topics
from wire.fields import BY_NAME
from wire.heartbeat import Message, Sample, encode_message, new_run
from wire.join import JOIN_PATH, STATUS_PATH, JoinRequest, JoinString, decode_join_string
from wire.presence import Up, encode_up

LOGIN_S_MAX = 20.0


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer of the joining listener, as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def state(self) -> str:
        return str(self.json.get("state", ""))

    def without_ids(self) -> tuple[int, dict[str, str], bytes]:
        """What is the same for everybody: all but the request's own number and the second."""
        own = self.headers["X-Request-Id"]
        kept = {k: v for k, v in self.headers.items() if k not in ("X-Request-Id", "Date")}
        return self.status, kept, self.body.replace(own.encode(), b"*")


def ask(ca_file: Path, join: JoinString, method: str, path: str, body: bytes = b"") -> Joined:
    """One request to the joining listener."""
    context = ssl.create_default_context(cafile=str(ca_file))
    connection = http.client.HTTPSConnection(join.hosts[0], join.port, timeout=20, context=context)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return Joined(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


@dataclass
class Handmade:
    """One device with a secret of its own."""

    installation: Installation
    serial: str
    secret: bytes = field(
        default_factory=lambda: secrets.token_bytes(keys.SECRET_BYTES), repr=False
    )
    run: str = field(default_factory=new_run)
    connection: int = 0

    @property
    def ca_file(self) -> Path:
        return Path(self.installation.facts()["ca_file"])

    def request(self, code: str) -> JoinRequest:
        return JoinRequest(
            code,
            self.serial,
            "00:1e:42:00:00:01",
            keys.mqtt_password(self.secret, self.serial),
            keys.command_key(self.secret, self.serial).hex(),
        )

    def ask_to_join(self, join: str, **changed: str) -> Joined:
        """Shows the code of a join string; `changed` members of the request are somebody else's."""
        string = decode_join_string(join)
        request = self.request(string.code)._replace(**changed)
        body = json.dumps(request.as_json()).encode()
        return ask(self.ca_file, string, "POST", JOIN_PATH, body)

    def ask_status(self, join: str, record: str, serial: str | None = None) -> Joined:
        path = f"{STATUS_PATH}?serial={serial or self.serial}&record={record}"
        return ask(self.ca_file, decode_join_string(join), "GET", path)

    def join(self, join: str) -> "Handmade":
        """Joined, and let in by the MQTT server."""
        answer = self.ask_to_join(join)
        assert (answer.status, answer.state) == (200, "joined"), answer.body
        self.until_let_in()
        return self

    def packet(self, will: mqtt5.Will | None = None, **more: Any) -> mqtt5.ConnectPacket:
        return mqtt5.ConnectPacket(
            **{
                "client_id": self.serial,
                "username": self.serial,
                "password": keys.mqtt_password(self.secret, self.serial).encode(),
                "clean_start": True,
                "keep_alive": 60,
                "will": will,
                **more,
            }
        )

    def let_in(self) -> bool:
        """Whether the MQTT server takes the password; a connection there is would be taken over."""
        facts = self.installation.facts()
        address = facts["mqtt_host"], facts["mqtt_port"]
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with (
            socket.create_connection(address, timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=address[0]) as wrapped,
        ):
            wrapped.sendall(self.packet().write())
            answer, _ = mqtt5.read(memoryview(wrapped.recv(4096)))
            assert isinstance(answer, mqtt5.ConnAckPacket)
            accepted = answer.reason_code == mqtt5.ConnAckReasonCode.SUCCESS
            if accepted:
                wrapped.sendall(mqtt5.DisconnectPacket().write())
        return accepted

    def until_let_in(self) -> None:
        """The file of logins is written at most every two seconds."""
        until(self.let_in, "the MQTT server knows the login", within_s=LOGIN_S_MAX)

    def connect(
        self, *, will: mqtt5.Will | None = None, **more: Any
    ) -> AbstractAsyncContextManager[Connection]:
        """Signed in to the MQTT server over TLS, as an agent does."""
        facts = self.installation.facts()
        listener = TlsListener(facts["mqtt_host"], facts["mqtt_port"], self.ca_file)
        self.connection += 1
        return connected(listener, self.packet(will, **more))

    def heartbeat(self, *numbers: int, ask: bool = True, base: int = 0, **values: Any) -> bytes:
        """A good message of these numbers; `values` are by field name."""
        fields = {BY_NAME[name].id: value for name, value in (values or {"uptime": 1}).items()}
        samples = [Sample(number, 0, fields) for number in numbers]
        return encode_message(
            Message(
                self.run,
                self.run,
                self.connection,
                base,
                numbers[0],
                60,
                ask,
                0,
                None,
                samples,
            )
        )

    @property
    def hb(self) -> str:
        return topics.heartbeat(self.serial)

    def up(self, *, up: bool = True) -> bytes:
        return encode_up(Up(self.run, self.connection, up, secrets.token_hex(16)))
