"""Lets the applications listen: TCP with or without TLS, and the unix socket of the owner."""

import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.command.sections import DevicesSection, HttpSection
from gateway.unix_socket import short_path

SHUTDOWN_S = 2.0
BACKLOG = 512
KEEP_ALIVE_S = 75.0
# How long the rest of a refused body is read, so that the refusal itself can arrive.
LINGER_S = 0.75
SOCKET_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Listening:
    """A listener at work; `port` is the one really bound."""

    runner: web.AppRunner
    host: str
    port: int
    socket_path: Path | None = None

    async def close(self) -> None:
        """Lets requests end for a moment, then closes."""
        await self.runner.cleanup()
        if self.socket_path is not None:
            self.socket_path.unlink(missing_ok=True)


def people_tls(http: HttpSection) -> ssl.SSLContext | None:
    """TLS for people's listener, if certificate files are set."""
    if http.certificate_file is None or http.key_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(http.certificate_file, http.key_file)
    return context


def devices_tls(certificate_file: Path, key_file: Path) -> ssl.SSLContext:
    """TLS for the devices' listener, with the pair that the own CA signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate_file, key_file)
    return context


async def serve_people(
    app: web.Application, http: HttpSection, admin_socket: Path | None
) -> Listening:
    """Listens for people, and on the unix socket for whoever owns the data directory.

    Requests over the socket without a token act as the first operator (`Means.ADMIN_SOCKET`).
    """
    runner = _runner(app)
    await runner.setup()
    try:
        await web.TCPSite(
            runner, http.host, http.port, ssl_context=people_tls(http), backlog=BACKLOG
        ).start()
        port = _bound_port(runner)
        if admin_socket is not None:
            await web.SockSite(runner, _private_socket(admin_socket)).start()
    except BaseException:
        await runner.cleanup()
        raise
    return Listening(runner, http.host, port, admin_socket)


async def serve_devices(
    app: web.Application, devices: DevicesSection, context: ssl.SSLContext
) -> Listening:
    """Listens for devices, with TLS always."""
    runner = _runner(app)
    await runner.setup()
    try:
        await web.TCPSite(
            runner, devices.host, devices.port, ssl_context=context, backlog=BACKLOG
        ).start()
    except BaseException:
        await runner.cleanup()
        raise
    return Listening(runner, devices.host, _bound_port(runner))


def _runner(app: web.Application) -> web.AppRunner:
    return web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=SHUTDOWN_S,
        keepalive_timeout=KEEP_ALIVE_S,
        lingering_time=LINGER_S,
    )


def _bound_port(runner: web.AppRunner) -> int:
    address = runner.addresses[0]
    assert isinstance(address, tuple)
    return int(address[1])


def _private_socket(path: Path) -> socket.socket:
    """A bound socket that only its owner may open; what an earlier process left is replaced."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(path) as name:
            bound.bind(name)
            # It does not listen yet, so nobody gets in before its mode is set.
            os.chmod(name, SOCKET_MODE)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound
