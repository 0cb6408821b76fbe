"""The command line of `fleetgate connect`."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from wire.heartbeat import WireError
from wire.serials import is_serial
from wire.targets import PORT_MAX, PROTOCOL_PORTS, ROUTER, Target, spelled_target

MINUTES_MAX = 720
REASON_CHARS_MAX = 200
TARGETS_MAX = 50  # as many sessions as one person may have open
SOCKET_NAME = "admin.sock"
_PROTOCOLS = {port: name for name, port in PROTOCOL_PORTS.items() if port}

DESCRIPTION = """\
Reach a router, or a machine behind it, by a port of this computer.

Each TARGET opens one session and one local port, which lead to:
  SERIAL             the router's SSH server
  SERIAL:PORT        a port of the router itself
  SERIAL/NAME        a saved target of the router
  SERIAL:HOST:PORT   a machine in the router's network; IPv6: SERIAL:[ADDRESS]:PORT

The ports stay open, also while the network is away, until Ctrl-C or until the sessions are over."""

EXAMPLES = """\
examples:
  a shell on a router, nothing to set up before:
    ssh -o ProxyCommand='fleetgate connect --stdio %n:%p' root@1100000001
  the same for every `ssh root@1100000001`, and for scp, sftp and rsync, in ~/.ssh/config:
    Host 11????????
      ProxyCommand fleetgate connect --stdio %n:%p
  copy a file to it:
    scp -o ProxyCommand='fleetgate connect --stdio %n:%p' firmware.bin root@1100000001:/tmp/
  its web page at http://127.0.0.1:8080/, for curl or any browser:
    fleetgate connect --local-port 8080 1100000001:80
    curl http://127.0.0.1:8080/
  several at once, each with a port of its choice:
    fleetgate connect --local 2222=1100000001 --local 5020=1100000001:192.168.1.50:502
  a saved target for two hours, and why, for the audit:
    fleetgate connect --minutes 120 --reason 'ticket 4711' 1100000001/plc

Server and API token come from --url and --token, or from FLEETGATE_URL, FLEETGATE_TOKEN and
FLEETGATE_CA. Without them it talks to the gateway of the data directory on this machine.
Exit codes: 0 done or Ctrl-C, 1 failed or the session is over, 2 wrong usage."""


class UsageError(Exception):
    """The command line is wrong; the text says how to put it right."""


class Wanted(NamedTuple):
    """One session to open.

    `target` is empty for the router itself by the protocol's usual port; `protocol` is empty
    where the saved target's own is meant; `local_port` 0 takes any free one.
    """

    serial: str
    target: str
    protocol: str
    local_port: int = 0

    def __str__(self) -> str:
        if not self.target:
            return self.serial
        return f"{self.serial}{':' if ':' in self.target else '/'}{self.target}"


class Options(NamedTuple):
    """What was asked for; either `url` or `admin_socket` is set."""

    wanted: tuple[Wanted, ...]
    local_address: str
    stdio: bool
    minutes: int
    reason: str
    keep: bool
    as_json: bool
    url: str
    token: str
    ca: Path | None
    admin_socket: Path | None
    relay: tuple[str, int] | None


def read_wanted(text: str, protocol: str = "", local_port: int = 0) -> Wanted:
    """What one TARGET means. Raises `UsageError`."""
    end = next((index for index, one in enumerate(text) if one in ":/"), len(text))
    serial, mark, rest = text[:end], text[end : end + 1], text[end + 1 :]
    if not is_serial(serial):
        raise UsageError(
            f"{text}: {serial or 'nothing'!r} is not a serial; write SERIAL, SERIAL:PORT, "
            "SERIAL/NAME or SERIAL:HOST:PORT"
        )
    if not mark:
        protocol = protocol or "ssh"
        if not PROTOCOL_PORTS[protocol]:
            raise UsageError(f"{text}: {protocol} has no usual port; write {serial}:PORT")
        return Wanted(serial, "", protocol, local_port)
    if mark == "/":
        if not rest or len(rest) > 63 or set(rest) & set(":/[]"):
            raise UsageError(f"{text}: after / comes the name of a saved target")
        return Wanted(serial, rest, protocol, local_port)
    target = _target(text, rest)
    chosen = protocol or _PROTOCOLS.get(target.port, "tcp")
    return Wanted(serial, str(target), chosen, local_port)


def _target(text: str, rest: str) -> Target:
    spelled = f"{ROUTER}:{rest}" if rest.isascii() and rest.isdigit() else rest
    try:
        return spelled_target(spelled)
    except WireError as error:
        raise UsageError(f"{text}: {error}") from error


def parse(argv: Sequence[str], environment: Mapping[str, str]) -> Options:
    """The options; argparse itself ends the program for --help and for what it refuses.

    Raises `UsageError`.
    """
    given = _parser().parse_args(argv)
    wanted = _all_wanted(given.targets, given.local, given.local_port, given.protocol)
    if given.stdio and (len(wanted) != 1 or wanted[0].local_port):
        raise UsageError("--stdio takes exactly one TARGET and no local port")
    if not 1 <= given.minutes <= MINUTES_MAX:
        raise UsageError(f"--minutes: 1 to {MINUTES_MAX}")
    if len(given.reason) > REASON_CHARS_MAX:
        raise UsageError(f"--reason: at most {REASON_CHARS_MAX} characters")
    url = (given.url or environment.get("FLEETGATE_URL", "")).rstrip("/")
    ca = given.ca or environment.get("FLEETGATE_CA", "")
    return Options(
        wanted=tuple(wanted),
        local_address=given.local_address,
        stdio=given.stdio,
        minutes=given.minutes,
        reason=given.reason,
        keep=given.keep,
        as_json=given.as_json,
        url=url,
        token=given.token or environment.get("FLEETGATE_TOKEN", ""),
        ca=Path(ca) if ca else None,
        admin_socket=None if url else _socket_of(given.data),
        relay=_relay(given.relay) if given.relay else None,
    )


def _relay(text: str) -> tuple[str, int]:
    try:
        where = spelled_target(text)
    except WireError as error:
        raise UsageError(f"--relay {text}: write HOST:PORT") from error
    return where.host, where.port


def _all_wanted(
    texts: Sequence[str], local: Sequence[str], local_port: int | None, protocol: str
) -> list[Wanted]:
    if local_port is not None and (len(texts) != 1 or local):
        raise UsageError("--local-port goes with one TARGET; for several: --local PORT=TARGET …")
    port = 0 if local_port is None else _port(str(local_port), "--local-port")
    wanted = [read_wanted(text, protocol, port) for text in texts]
    for text in local:
        port_text, equals, target = text.partition("=")
        if not equals:
            raise UsageError(f"--local {text}: write PORT=TARGET")
        wanted.append(read_wanted(target, protocol, _port(port_text, "--local")))
    if not wanted:
        raise UsageError("name at least one TARGET; see --help")
    if len(wanted) > TARGETS_MAX:
        raise UsageError(f"at most {TARGETS_MAX} targets at once")
    ports = [one.local_port for one in wanted if one.local_port]
    if len(ports) != len(set(ports)):
        raise UsageError("a local port was given twice")
    return wanted


def _port(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= PORT_MAX):
        raise UsageError(f"{name}: {text!r} is not a port, 0 (any) to {PORT_MAX}")
    return int(text)


def _socket_of(data: Path) -> Path:
    """The unix socket of the gateway on this machine."""
    socket = data.absolute() / SOCKET_NAME
    if os.name != "posix" or not socket.exists():
        raise UsageError(
            "no server named: give --url and --token, or set FLEETGATE_URL and FLEETGATE_TOKEN "
            f"(or, on the server's machine, --data DIR: there is no gateway at {socket})"
        )
    return socket


def check_url(url: str) -> str:
    """The address again, when it is one. Raises `UsageError`."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"{url}: write https://HOST[:PORT]")
    return url


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fleetgate connect",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("targets", metavar="TARGET", nargs="*", help="what to reach, see above")
    add("--local-address", default="127.0.0.1", metavar="ADDRESS", help="where local ports listen")
    add("--local-port", type=int, metavar="PORT", help="the local port of the one TARGET")
    add(
        "--local",
        action="append",
        default=[],
        metavar="PORT=TARGET",
        help="a TARGET with its local port; may be repeated",
    )
    add("--stdio", action="store_true", help="join standard input and output with the TARGET")
    add("--minutes", type=int, default=60, metavar="N", help="how long, at most 720 [60]")
    add("--reason", default="", metavar="TEXT", help="what for; stands in the audit")
    add(
        "--protocol",
        default="",
        choices=["", *PROTOCOL_PORTS],
        metavar="NAME",
        help=f"one of {', '.join(PROTOCOL_PORTS)} [by the port]",
    )
    add("--keep", action="store_true", help="leave the sessions open at the end")
    add("--json", action="store_true", dest="as_json", help="print one JSON line, for scripts")
    add("--url", default="", metavar="URL", help="server to talk to")
    add("--token", default="", metavar="TOKEN", help="API token")
    add(
        "--relay",
        default="",
        metavar="HOST:PORT",
        help="dial the relay here, whatever the gateway says, as through a port of your own",
    )
    add("--ca", default="", metavar="FILE", help="CA that signed the server")
    add(
        "--data",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="data directory, without --url",
    )
    return parser
