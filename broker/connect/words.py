"""What `fleetgate connect` says when something is in the way: why, and what to do."""

import os
from collections.abc import Mapping
from typing import Any

from wire.endings import Ended

CHARS_MAX = 500

# After a refusal of the API; its own words come first.
_API_ADVICE = {
    "signed_out": "Give a valid API token with --token or FLEETGATE_TOKEN.",
    "forbidden": "Ask an administrator of the company for the right to reach devices.",
    "not_found": "Check the serial, and that the token's person may see the device: "
    "`fleetgate admin devices list`.",
    "service_unpaid": "Activate or extend it: `fleetgate admin devices activate SERIAL "
    "--credits N`.",
    "company_suspended": "Ask the company above it.",
    "not_joined": "Join the device first: `fleetgate admin devices join SERIAL`.",
    "too_many_sessions": "Close some: `fleetgate admin sessions list --state open`.",
    "unavailable": "See `fleetgate admin status`: the relay has to run and to reach the MQTT "
    "server.",
    "internal": "The gateway's log names it by the request id.",
}

# Why a session is over.
_OVER: Mapping[str, str] = {
    Ended.CLOSED: "somebody closed it",
    Ended.EXPIRED: "its time is over; --minutes gives more, up to 720",
    Ended.IDLE_STREAMS: "nothing was connected for a while",
    Ended.IDLE_BYTES: "nothing moved for a while",
    Ended.UNREGISTERED: "the device is not registered any more",
    Ended.SERVICE_UNPAID: "the device's service is not active; activate or extend it",
    Ended.COMPANY_SUSPENDED: "the company is suspended; ask the company above it",
    Ended.RIGHT_LOST: "you may not reach this any more; ask an administrator",
    Ended.MOVED: "the device belongs to another company now",
    Ended.RELEASED: "another device took the serial over",
    Ended.RESTORED: "the installation was restored from a backup",
    Ended.CONTROL_LINK_LOST: "the relay heard nothing of the gateway for five minutes",
    Ended.OVER: "the relay ended it",
}

# Why a connection did not come about.
_REFUSED = {
    "not_allowed": "the target is not on the router's list; add it to the agent's allow-list on "
    "the router (`allow` in fleetgate-agent.toml), and start the agent again",
    "refused": "the target refused the connection: nothing listens on this port",
    "timed_out": "the target does not answer: it is off, or drops packets",
    "unreachable": "the router cannot reach the target's address; check the address and the cable",
    "busy": "the router has as many connections open as it takes; close some",
    "control_link_lost": "the relay hears nothing of the gateway; open connections go on",
    "session_over": "the session is over",
    "no_link": "the router is not connected to the relay",
    "device_offline": "the device is offline; check its power and its mobile connection",
    "device_signed_out": "the device is not connected to the MQTT server just now",
    "open_unanswered": "the device does not answer; its agent may have to be restarted",
    "dial_failed": "the router cannot connect to the relay; its network has to let it reach the "
    "relay's address and port, and its clock has to be right",
    "link_lost": "the connection to the relay, or the router's to it, broke",
    "relay_away": "the relay is not heard; see that it runs",
    "reset": "the connection was broken off",
}
ENDS = frozenset(_OVER)
BY_TARGET = frozenset({"not_allowed", "refused", "timed_out", "unreachable"})


def clean(text: object) -> str:
    """A text of somebody else's as one line without control characters: it goes to a terminal."""
    return "".join(one if one.isprintable() else " " for one in str(text)[:CHARS_MAX]).strip()


def of_os_error(error: OSError) -> str:
    """The system's own words; asyncio puts addresses in their place."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return clean(error.strerror or error) or "no answer in time"


def of_problem(status: int, problem: Mapping[str, Any]) -> str:
    """A refusal of the API, and what to do."""
    code = clean(problem.get("code", ""))
    text = clean(problem.get("detail") or f"the server answered {status}")
    if code:
        text += f" ({code})"
    advice = _API_ADVICE.get(code, "")
    if code == "internal":
        advice += f" Request {clean(problem.get('request_id'))}."
    return f"{text}\n{advice}" if advice else text


def of_end(reason: str) -> str:
    """Why a session is over."""
    return f"{_OVER[reason]} ({reason})" if reason in _OVER else reason.replace("_", " ")


def of_refusal(reason: str) -> str:
    """Why a connection failed."""
    known = _REFUSED.get(reason)
    return f"{known} ({reason})" if known else reason.replace("_", " ")


def of_diagnosis(diagnosis: Any) -> tuple[str, str]:
    """The code of the hop to look at, and a line about it; empty when no hop is in the way."""
    hops = diagnosis.get("hops") if isinstance(diagnosis, dict) else None
    found = [one for one in hops if isinstance(one, dict)] if isinstance(hops, list) else []
    for state in ("failed", "waiting"):
        for hop in found:
            if hop.get("state") == state:
                code = clean(hop.get("code", ""))
                said = clean(hop.get("advice") or hop.get("text") or "") or of_refusal(code)
                since = f", since {clean(hop['at'])}" if hop.get("at") else ""
                return code, f"{clean(hop.get('hop'))}: {code}{since}: {said}"
    return "", ""
