"""Words for values of closed lists: states, reasons, roles; translated where they are shown."""

from collections.abc import Mapping
from enum import Enum

from gateway.web.languages import gettext_noop, words_of

CONTEXT = "word"
PRESENCE: Mapping[str, str] = {
    "online": gettext_noop("online"),
    "late": gettext_noop("late"),
    "offline": gettext_noop("offline"),
    "never": gettext_noop("never heard"),
    "hidden": gettext_noop("not shown"),
}
SERVICE: Mapping[str, str] = {
    "active": gettext_noop("active"),
    "unpaid": gettext_noop("unpaid"),
    "off": gettext_noop("off"),
}
REASON: Mapping[str, str] = {
    "paid": gettext_noop("paid"),
    "grace": gettext_noop("grace"),
    "no_credit": gettext_noop("no credit"),
    "limit": gettext_noop("limit reached"),
    "suspended": gettext_noop("company suspended"),
    "switched_off": gettext_noop("switched off"),
    "not_activated": gettext_noop("not activated"),
    "unheard": gettext_noop("not heard"),
}
ROLE: Mapping[str, str] = {
    "administrator": gettext_noop("administrator"),
    "advanced": gettext_noop("advanced user"),
    "basic": gettext_noop("basic user"),
    "read_only": gettext_noop("read-only user"),
    "billing": gettext_noop("billing"),
}
ALERT: Mapping[str, str] = {
    "credential_in_two_places": gettext_noop("its credential is used in two places"),
    "waits_for_release": gettext_noop("it waits to be let in"),
    "recovered": gettext_noop("it was recovered from a backup; let it in"),
    "secret_to_rotate": gettext_noop("its secret should be replaced: join it again"),
}
SESSION: Mapping[str, str] = {
    "waiting": gettext_noop("waiting for the router"),
    "open": gettext_noop("open"),
    "ended": gettext_noop("ended"),
}
ENDED: Mapping[str, str] = {
    "closed": gettext_noop("closed by a person"),
    "expired": gettext_noop("its time was over"),
    "idle_streams": gettext_noop("nobody used it"),
    "idle_bytes": gettext_noop("nothing went through it"),
    "unregistered": gettext_noop("the device was unregistered"),
    "service_unpaid": gettext_noop("the service is not paid"),
    "company_suspended": gettext_noop("the company is suspended"),
    "right_lost": gettext_noop("the right was taken away"),
    "moved": gettext_noop("the device was moved"),
    "released": gettext_noop("the device was released"),
    "restored": gettext_noop("the installation was restored"),
    "control_link_lost": gettext_noop("the relay lost the gateway"),
    "over": gettext_noop("over"),
}
HOP: Mapping[str, str] = {
    "person": gettext_noop("You"),
    "gateway": gettext_noop("Gateway"),
    "mqtt": gettext_noop("MQTT server"),
    "agent": gettext_noop("Router's agent"),
    "relay": gettext_noop("Relay"),
    "target": gettext_noop("Target"),
}
HOP_STATE: Mapping[str, str] = {
    "ok": gettext_noop("works"),
    "failed": gettext_noop("fails"),
    "waiting": gettext_noop("waiting"),
    "unknown": gettext_noop("not known yet"),
}
IMPORT: Mapping[str, str] = {
    "checking": gettext_noop("being checked"),
    "done": gettext_noop("done"),
    "refused": gettext_noop("refused"),
    "failed": gettext_noop("interrupted"),
    "undone": gettext_noop("undone"),
}
INVITATION: Mapping[str, str] = {
    "open": gettext_noop("not answered yet"),
    "accepted": gettext_noop("accepted"),
    "withdrawn": gettext_noop("withdrawn"),
    "expired": gettext_noop("its 72 hours are over"),
    "closed": gettext_noop("the company was closed"),
}
CREDIT_CODE: Mapping[str, str] = {
    "open": gettext_noop("not used yet"),
    "redeemed": gettext_noop("redeemed"),
    "deleted": gettext_noop("deleted"),
    "expired": gettext_noop("expired"),
}
CREDIT_REQUEST: Mapping[str, str] = {
    "open": gettext_noop("waits for an answer"),
    "accepted": gettext_noop("accepted"),
    "refused": gettext_noop("refused"),
    "withdrawn": gettext_noop("withdrawn"),
}
COMMAND: Mapping[str, str] = {
    "refresh": gettext_noop("send fresh values"),
    "set_intervals": gettext_noop("set the intervals"),
    "ping": gettext_noop("say that it is there"),
    "open": gettext_noop("open a session"),
    "close": gettext_noop("close a session"),
}
COMMAND_STATE: Mapping[str, str] = {
    "waiting": gettext_noop("waits to be sent"),
    "sent": gettext_noop("sent"),
    "ended": gettext_noop("over"),
}
OUTCOME: Mapping[str, str] = {
    "done": gettext_noop("done"),
    "failed": gettext_noop("failed"),
    "refused": gettext_noop("refused by the device"),
    "unknown": gettext_noop("not known"),
}
LISTS: Mapping[str, Mapping[str, str]] = {
    "alert": ALERT,
    "command": COMMAND,
    "command_state": COMMAND_STATE,
    "credit_code": CREDIT_CODE,
    "credit_request": CREDIT_REQUEST,
    "ended": ENDED,
    "hop": HOP,
    "hop_state": HOP_STATE,
    "import": IMPORT,
    "invitation": INVITATION,
    "outcome": OUTCOME,
    "presence": PRESENCE,
    "reason": REASON,
    "role": ROLE,
    "service": SERVICE,
    "session": SESSION,
}


def word_of(language: str, kind: str, value: str | Enum) -> str:
    """The word for a value of a closed list; one that is not known here stays as it is."""
    text = str(value.value) if isinstance(value, Enum) else str(value)
    known = LISTS[kind].get(text)
    return text if known is None else words_of(language).pgettext(CONTEXT, known)
