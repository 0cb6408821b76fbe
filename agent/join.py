"""Joins a gateway with a join string: proves the server, then tells it the derived values."""

import hashlib
import http.client
import json
import logging
import secrets
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple
from urllib.parse import urlencode

from agent.errors import JoinError, JoinRefused
from agent.spool import empty
from agent.state import (
    CA_NAME,
    Enrolment,
    Identity,
    Secret,
    load_enrolment,
    login_of,
    own_secret,
    save,
    save_enrolment,
    save_secret,
)
from agent.tls import device_context, unverified_context
from wire.heartbeat import WireError
from wire.join import (
    CA_PATH,
    JOIN_PATH,
    STATUS_PATH,
    JoinAnswer,
    JoinRequest,
    JoinString,
    decode_join_answer,
    decode_join_string,
)
from wire.keys import SECRET_BYTES

log = logging.getLogger(__name__)

_TIMEOUT_S = 20.0
_ANSWER_BYTES_MAX = 64 * 1024
_RETRY_S_FIRST = 2.0
_RETRY_S_MAX = 900.0


class Joined(NamedTuple):
    """The outcome of one joining."""

    enrolment: Enrolment
    ready_in_s: int


def join_once(
    text: str, identity: Identity, *, state: Path, spool: Path, check_dates: bool
) -> Joined:
    """One attempt over all hosts of the join string. Raises `JoinError`.

    May be repeated as often as one likes: the gateway gives the same code, serial and derived
    values the same answer, and the secret is on flash before it is used.
    """
    try:
        join = decode_join_string(text)
    except WireError as error:
        raise JoinRefused(f"not a join string ({error}): copy the whole text, fg1:…") from error
    if join.serial is not None and join.serial != identity.serial:
        raise JoinRefused(
            f"this join string is for the device {join.serial}, but this one is "
            f"{identity.serial}: use its own join string, or one for the whole company"
        )
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = own_secret(state, *identity)
    if secret is None:
        secret = Secret(secrets.token_bytes(SECRET_BYTES), *identity)
        save_secret(state, secret)
    failures: list[str] = []
    for host in join.hosts:
        try:
            ca_pem = _fetch_ca(host, join)
            answer = _post(host, join, ca_pem, secret, check_dates=check_dates)
        except JoinRefused:
            raise
        except JoinError as error:
            failures.append(f"{host}:{join.port}: {error}")
            continue
        return _keep(text, join, answer, ca_pem, identity, state=state, spool=spool)
    raise JoinError("; ".join(failures))


def _keep(
    text: str,
    join: JoinString,
    answer: JoinAnswer,
    ca_pem: str,
    identity: Identity,
    *,
    state: Path,
    spool: Path,
) -> Joined:
    before = load_enrolment(state)
    if before is not None and before.ca != join.ca:
        # What was measured for another company's installation is none of this one's business.
        empty(spool, state)
        log.info("joined another installation, the spool was emptied")
    enrolment = Enrolment(
        answer.state,
        identity.serial,
        join.ca,
        answer.mqtt_hosts,
        answer.mqtt_port,
        answer.record,
        answer.spread_s,
        text.strip(),
    )
    save(state / CA_NAME, ca_pem.encode())
    save_enrolment(state, enrolment)
    return Joined(enrolment, answer.ready_in_s)


def _fetch_ca(host: str, join: JoinString) -> str:
    """The CA certificate, known by its digest; who handed it over does not matter."""
    body = _exchange(host, join.port, unverified_context(), "GET", CA_PATH, None)
    try:
        pem = body.decode("ascii")
        der = ssl.PEM_cert_to_DER_cert(pem.strip())
    except ValueError as error:
        raise JoinError("no certificate came; is this the port for devices?") from error
    if hashlib.sha256(der).hexdigest() != join.ca:
        raise JoinError(
            "the server shows another CA than the join string names; somebody is in between, or "
            "the server was set up anew: get a new join string"
        )
    return ssl.DER_cert_to_PEM_cert(der)


def _post(
    host: str, join: JoinString, ca_pem: str, secret: Secret, *, check_dates: bool
) -> JoinAnswer:
    login = login_of(secret)
    request = JoinRequest(
        join.code, secret.serial, secret.lan_mac, login.password, login.command_key.hex()
    )
    body = json.dumps(request.as_json()).encode()
    context = device_context(ca_pem=ca_pem, check_dates=check_dates)
    answer = _exchange(host, join.port, context, "POST", JOIN_PATH, body)
    try:
        return decode_join_answer(answer)
    except WireError as error:
        raise JoinError(f"the answer makes no sense ({error}); update the agent") from error


def ask_status(enrolment: Enrolment, *, state: Path, check_dates: bool) -> JoinAnswer:
    """Shows the gateway its own sealed record, for when the login is refused.

    After the restore of an older backup the gateway does not know this device; the record proves
    that it did. Raises `JoinError`.
    """
    join = decode_join_string(enrolment.join_string)
    query = urlencode({"serial": enrolment.serial, "record": enrolment.record})
    failures: list[str] = []
    for host in join.hosts:
        context = device_context(ca_file=state / CA_NAME, check_dates=check_dates)
        try:
            answer = _exchange(host, join.port, context, "GET", f"{STATUS_PATH}?{query}", None)
            return decode_join_answer(answer)
        except (JoinError, WireError) as error:
            failures.append(f"{host}:{join.port}: {error}")
    raise JoinError("; ".join(failures))


def _exchange(
    host: str, port: int, context: ssl.SSLContext, method: str, path: str, body: bytes | None
) -> bytes:
    """One request on one connection."""
    connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = response.read(_ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise JoinError(explain(error)) from error
    finally:
        connection.close()
    if response.status in (200, 201, 202):
        return answer
    if 400 <= response.status < 500 and response.status not in (404, 408, 429):
        raise JoinRefused(
            "the gateway refused this join string: it is used up, older than 7 days, withdrawn or "
            "for other devices, or this device must be released first; ask the operator for a new "
            "one (the device's page makes it)"
        )
    raise JoinError(f"the gateway answered {response.status}")


def explain(error: Exception) -> str:
    """What went wrong on the way to a server, and what to do about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the server's certificate was not accepted ({error.verify_message}); is the clock "
            "right, and is the host one that the certificate names?"
        )
    if isinstance(error, ssl.SSLError):
        return f"no TLS ({error.reason}); is this the right port?"
    if isinstance(error, socket.gaierror):
        return "the host name is not known; check the name and this device's DNS"
    if isinstance(error, TimeoutError):
        return f"no answer in {_TIMEOUT_S:.0f} s; is the server up, and does a firewall drop it?"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there; is the server up, and is the port right?"
    return str(error) or type(error).__name__


def join_until_done(
    attempt: Callable[[], Joined], *, rng: Random, wait: Callable[[float], object]
) -> Joined:
    """Tries until the gateway answers. Raises `JoinRefused`."""
    ceiling_s = _RETRY_S_FIRST
    while True:
        try:
            return attempt()
        except JoinRefused:
            raise
        except JoinError as error:
            log.warning("joining failed, it will be tried again error=%s", error)
        wait(rng.uniform(0.0, ceiling_s))
        ceiling_s = min(ceiling_s * 2, _RETRY_S_MAX)
