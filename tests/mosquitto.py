"""A real Mosquitto for tests: in a container when an engine answers, else the installed binary.

A test writes `mosquitto.conf` and the files it names into a directory, with the listener on
`server.bind_host` and `server.port`, and starts the server on that directory:

    server = new_server(tmp_path)
    (tmp_path / "mosquitto.conf").write_text(f"listener {server.port} {server.bind_host}\\n…")
    server.start()

The whole product is tested with `fleetgate up`, which runs the binary itself; this is for rules of
the configuration alone, such as the ACL.
"""

import functools
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

import docker
from docker.errors import DockerException, ImageNotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from tests.ports import free_port

IMAGE = "fleetgate-mosquitto:test"
# "host" where the engine has no bridge network; else ports are mapped to loopback.
NETWORK_VARIABLE = "FLEETGATE_TEST_NETWORK"
INSTALL = "no container engine answers and mosquitto is not installed: apt-get install mosquitto"
ENGINE_ANSWER_S_MAX = 2
START_S_MAX = 15.0
STOP_S_MAX = 10.0

# MQTT 3.1.1, clean session, keep-alive 60 s, client identifier "ready".
CONNECT = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05ready"
CONNACK = b"\x20"

Way = Literal["container", "binary"]

# The image is local; nothing may be fetched for a test, and that includes testcontainers' reaper.
testcontainers_config.ryuk_disabled = True


class MosquittoError(Exception):
    """The server did not do what a test asked; carries what it said."""


def mosquitto_binary() -> str | None:
    """The installed binary; Debian puts it where not every user's PATH leads."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def listens(socket_path: str) -> bool:
    """Asked first, since the client library leaves a socket open when nobody listens."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(ENGINE_ANSWER_S_MAX)
        try:
            probe.connect(socket_path)
        except OSError:
            return False
    return True


@functools.cache
def engine_state() -> Literal["ready", "no image", "no engine"]:
    """Asks the engine that DOCKER_HOST names, or the usual socket, for a short time."""
    address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if address.startswith("unix://") and not listens(address.removeprefix("unix://")):
        return "no engine"
    try:
        client = docker.from_env(timeout=ENGINE_ANSWER_S_MAX)
    except DockerException:
        return "no engine"
    try:
        client.ping()
        client.images.get(IMAGE)
    except ImageNotFound:
        return "no image"
    # Older engines answer a ping with an error page, and requests raises errors of its own.
    except (DockerException, OSError):
        return "no engine"
    finally:
        client.close()
    return "ready"


def chosen_way() -> tuple[Way, str]:
    """Which Mosquitto the tests use, and why, in words for the head of the test run."""
    state = engine_state()
    if state == "ready":
        return "container", f"container of image {IMAGE}"
    binary = mosquitto_binary()
    if binary is None:
        raise MosquittoError(INSTALL)
    if state == "no image":
        return "binary", f"{binary} (an engine answers, but has no image {IMAGE}: CONTRIBUTING.md)"
    return "binary", f"{binary} (no container engine answers)"


class MosquittoServer(ABC):
    """One server on one directory; it keeps its port over any number of stops and starts."""

    host = "127.0.0.1"
    bind_host = "127.0.0.1"

    def __init__(self, directory: Path, *, tls: bool = False) -> None:
        self.directory = directory
        self.configuration = directory / "mosquitto.conf"
        self.tls = tls
        self.port = free_port()

    @abstractmethod
    def start(self) -> None:
        """Returns when the port answers."""

    @abstractmethod
    def stop(self) -> None:
        """SIGTERM, and waits for the end."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL, and waits for the end."""

    @abstractmethod
    def hup(self) -> None:
        """SIGHUP: the server reads its password and ACL files again, in its own time."""

    @abstractmethod
    def running(self) -> bool: ...

    @abstractmethod
    def log(self) -> str:
        """All that it wrote to standard output and standard error since it was made."""

    @abstractmethod
    def close(self) -> None:
        """Stops it if need be and leaves nothing behind; a second call does nothing."""

    def _answers(self) -> bool:
        """Whether MQTT is spoken: an open port proves nothing where an engine forwards it."""
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                if self.tls:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                    context.check_hostname = False
                    context.verify_mode = ssl.CERT_NONE
                    context.wrap_socket(connection).close()
                    return True
                # Any answer will do, also that we are not authorised.
                connection.sendall(CONNECT)
                return connection.recv(1) == CONNACK
        except OSError:
            return False

    def _wait_until_it_answers(self) -> None:
        deadline_s = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline_s:
            if not self.running():
                raise MosquittoError(f"mosquitto ended at once:\n{self.log()}")
            if self._answers():
                return
            time.sleep(0.01)
        raise MosquittoError(f"no answer on port {self.port} in {START_S_MAX} s:\n{self.log()}")


class BinaryServer(MosquittoServer):
    """The installed program as a child process."""

    def __init__(self, directory: Path, *, tls: bool = False) -> None:
        super().__init__(directory, tls=tls)
        self._output = directory / "output.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.running():
            raise MosquittoError("already running")
        binary = mosquitto_binary()
        if binary is None:
            raise MosquittoError(INSTALL)
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [binary, "-c", str(self.configuration)],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._wait_until_it_answers()

    def _signal(self, number: signal.Signals) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise MosquittoError(f"not running:\n{self.log()}")
        self._process.send_signal(number)
        return self._process

    def stop(self) -> None:
        process = self._signal(signal.SIGTERM)
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise MosquittoError(f"did not end in {STOP_S_MAX} s:\n{self.log()}") from error

    def kill(self) -> None:
        self._signal(signal.SIGKILL).wait()

    def hup(self) -> None:
        self._signal(signal.SIGHUP)

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        if not self._output.exists():
            return ""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        if self.running():
            self.stop()


class ContainerServer(MosquittoServer):
    """The program in a container that sees the directory under the same path as we do."""

    def __init__(self, directory: Path, *, tls: bool = False) -> None:
        super().__init__(directory, tls=tls)
        # The engine holds absolute paths only.
        self.directory = directory.resolve()
        self._on_host_network = os.environ.get(NETWORK_VARIABLE) == "host"
        # A mapped port reaches the container from outside its loopback.
        self.bind_host = "127.0.0.1" if self._on_host_network else "0.0.0.0"
        self._container: DockerContainer | None = None

    def _new_container(self) -> DockerContainer:
        # Our own user, so that private files in the directory can be read and belong to us later.
        container = (
            DockerContainer(IMAGE, user=f"{os.getuid()}:{os.getgid()}")
            .with_volume_mapping(self.directory, str(self.directory), "rw")
            .with_command(["mosquitto", "-c", str(self.directory / "mosquitto.conf")])
            .with_kwargs(working_dir=str(self.directory))
        )
        if self._on_host_network:
            return container.with_kwargs(working_dir=str(self.directory), network_mode="host")
        # Set directly, since with_bind_ports knows no address and would listen off loopback.
        loopback = ("127.0.0.1", self.port)
        container.ports[str(self.port)] = loopback  # type: ignore[assignment]  # engine takes it
        return container

    def start(self) -> None:
        if self._container is None:
            self._container = self._new_container()
            self._container.start()
        elif self.running():
            raise MosquittoError("already running")
        else:
            self._container.get_wrapped_container().start()
        self._wait_until_it_answers()

    def _started(self) -> DockerContainer:
        if self._container is None:
            raise MosquittoError("was never started")
        return self._container

    def stop(self) -> None:
        self._started().get_wrapped_container().stop(timeout=int(STOP_S_MAX))

    def kill(self) -> None:
        wrapped = self._started().get_wrapped_container()
        wrapped.kill("SIGKILL")
        wrapped.wait(timeout=STOP_S_MAX)

    def hup(self) -> None:
        self._started().get_wrapped_container().kill("SIGHUP")

    def running(self) -> bool:
        if self._container is None:
            return False
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return bool(wrapped.status == "running")

    def log(self) -> str:
        if self._container is None:
            return ""
        return bytes(self._container.get_wrapped_container().logs()).decode(errors="replace")

    def close(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.stop()
            container.get_docker_client().client.close()


def new_server(directory: Path, *, tls: bool = False) -> MosquittoServer:
    """A server on a directory, not started yet, so that its port can be written into the files."""
    way, _ = chosen_way()
    return (ContainerServer if way == "container" else BinaryServer)(directory, tls=tls)
