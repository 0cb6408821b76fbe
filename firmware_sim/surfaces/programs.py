"""Stand-ins for a router's programs, as executables in a folder, and for its file system."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from firmware_sim.surfaces.facts import RouterState
from firmware_sim.surfaces.rutos_text import (
    Form,
    form_of,
    gsmctl_lines,
    mnf_info_lines,
    modem_info,
    ubus_answers,
)

# As on the router: a failing call prints nothing where a script would read.
_NOT_FOUND = "echo 'Command failed: Not found' >&2; exit 4"


def write_programs(folder: Path, state: RouterState, form: Form | None = None) -> None:
    """`ubus`, `gsmctl`, `mnf_info` and `uci`, which answer for this router at this instant."""
    spoken = form or form_of(state)
    folder.mkdir(parents=True, exist_ok=True)
    calls = {
        f"call {asked}": json.dumps(answer, indent="\t")
        for asked, answer in ubus_answers(state, spoken).items()
    }
    _write(folder / "ubus", _cases('"$*"', calls, _NOT_FOUND))
    _write(folder / "gsmctl", _gsmctl(state, spoken))
    _write(folder / "mnf_info", _cases('"$1"', mnf_info_lines(state), "echo N/A"))
    hostname = {"-q get system.system.hostname": state.hostname}
    _write(folder / "uci", _cases('"$*"', hostname, "exit 1"))


def _write(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


def _cases(word: str, answers: Mapping[str, str], otherwise: str) -> str:
    lines = [
        f"{shlex.quote(asked)}) printf '%s\\n' {shlex.quote(answer)} ;;"
        for asked, answer in answers.items()
    ]
    return "\n".join([f"case {word} in", *lines, f"*) {otherwise} ;;", "esac"])


def _gsmctl(state: RouterState, form: Form) -> str:
    modem = state.modems[0]
    if modem.offline:
        return "echo 'Timeout.'; exit 1"
    info = "printf '%s\\n' " + shlex.quote(json.dumps(modem_info(modem)))
    whole = "exit 1" if form is Form.OLD else info
    each = _cases('"$flag"', gsmctl_lines(modem, form), "exit 1")
    return f"""\
[ "$1" = --info ] && {{ {whole}; exit; }}
flags=${{1#-}}
while [ -n "$flags" ]; do
rest=${{flags#?}}
flag=${{flags%"$rest"}}
flags=$rest
{each}
done"""


def write_root(root: Path, state: RouterState, *, mobile: bool = True, mnf: bool = False) -> None:
    """The files that a collector reads; `mobile` with the modem's interfaces among them."""
    files = {
        "etc/version": state.firmware,
        "proc/uptime": f"{state.uptime_s}.50 100.00",
        "proc/loadavg": f"{state.load_hundredths / 100:.2f} 0.20 0.15 1/80 999",
        "proc/meminfo": (
            f"MemTotal: {state.memory_kib} kB\nMemAvailable: {state.memory_available_kib} kB"
        ),
        "proc/sys/kernel/hostname": state.hostname,
        "sys/class/thermal/thermal_zone0/temp": str(state.board_temperature * 100),
        "sys/class/net/br-lan/address": state.lan_mac,
        "proc/net/dev": _interfaces(state, mobile),
        "proc/net/route": (
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
            f"{state.wan_interface}\t00000000\t0100000A\t0003\t0\t0\t1\t00000000\t0\t0\t0"
        ),
        "proc/net/arp": "\n".join(
            [
                "IP address HW type Flags HW address Mask Device",
                *(
                    f"192.168.1.{10 + n} 0x1 0x2 00:11:22:33:44:{n:02x} * br-lan"
                    for n in range(state.clients)
                ),
            ]
        ),
    }
    if mnf:
        files |= {
            "sys/mnf_info/serial": state.serial,
            "sys/mnf_info/mac": state.lan_mac.replace(":", "").upper(),
            "sys/mnf_info/name": state.product_code,
        }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")


def _interfaces(state: RouterState, mobile: bool) -> str:
    counts = {"lo": (900, 900), "br-lan": (state.received, state.sent)}
    if mobile:
        received = sum(modem.received for modem in state.modems)
        sent = sum(modem.sent for modem in state.modems)
        # The same bytes pass both, one above the other.
        counts |= {"wwan0": (received, sent), "qmimux0": (received, sent)}
    rows = [f"{name}: {r} 9 0 0 0 0 0 0 {s} 9 0 0 0 0 0 0" for name, (r, s) in counts.items()]
    return "\n".join(["Inter-|   Receive  |  Transmit", " face |bytes  |bytes", *rows])
