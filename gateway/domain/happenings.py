"""What may happen that people watch for, and the right that hearing of it needs: a closed list."""

from collections.abc import Mapping
from enum import StrEnum

from gateway.domain.instants import DAY_MS
from gateway.domain.ledger import Kind as Transfer
from gateway.domain.rights import Right

EVENT_KEPT_MS = 7 * DAY_MS


class Happening(StrEnum):
    """The kinds of events; `docs/api.md` lists them."""

    DEVICE_PRESENCE = "device.presence"
    DEVICE_SERVICE = "device.service"
    DEVICE_REGISTERED = "device.registered"
    DEVICE_UNREGISTERED = "device.unregistered"
    DEVICE_MOVED = "device.moved"
    DEVICE_REPLACED = "device.replaced"
    DEVICE_FORGOTTEN = "device.forgotten"
    DEVICE_CHANGED = "device.changed"
    DEVICES_IMPORTED = "devices.imported"
    SESSION_OPENED = "session.opened"
    SESSION_ENDED = "session.ended"
    TARGET_CHANGED = "target.changed"
    COMMAND_ENDED = "command.ended"
    CREDITS_CHANGED = "credits.changed"
    CREDITS_REQUESTED = "credits.requested"
    NOTICE_TOLD = "notice.told"
    COMPANY_CREATED = "company.created"
    COMPANY_CHANGED = "company.changed"
    COMPANY_CLOSED = "company.closed"
    MEMBER_CHANGED = "member.changed"
    INVITATION_CHANGED = "invitation.changed"
    SETTINGS_CHANGED = "settings.changed"
    SUPPORT_ACCESS_CHANGED = "support_access.changed"


RIGHTS: Mapping[Happening, Right] = {
    # Billing users see names and days, and no presence.
    Happening.DEVICE_PRESENCE: Right.SEE_HISTORY,
    Happening.DEVICE_SERVICE: Right.SEE_DEVICES,
    Happening.DEVICE_REGISTERED: Right.SEE_DEVICES,
    Happening.DEVICE_UNREGISTERED: Right.SEE_DEVICES,
    Happening.DEVICE_MOVED: Right.SEE_DEVICES,
    Happening.DEVICE_REPLACED: Right.SEE_DEVICES,
    Happening.DEVICE_FORGOTTEN: Right.SEE_DEVICES,
    Happening.DEVICE_CHANGED: Right.SEE_DEVICES,
    Happening.DEVICES_IMPORTED: Right.SEE_DEVICES,
    Happening.SESSION_OPENED: Right.SEE_SESSIONS,
    Happening.SESSION_ENDED: Right.SEE_SESSIONS,
    Happening.TARGET_CHANGED: Right.REACH,
    Happening.COMMAND_ENDED: Right.COMMAND,
    # It says that there is another balance now, and not which.
    Happening.CREDITS_CHANGED: Right.SEE_ENOUGH,
    Happening.CREDITS_REQUESTED: Right.SEE_CREDITS,
    Happening.NOTICE_TOLD: Right.SEE_CREDITS,
    Happening.COMPANY_CREATED: Right.SEE_COMPANIES,
    Happening.COMPANY_CHANGED: Right.SEE_COMPANIES,
    Happening.COMPANY_CLOSED: Right.SEE_COMPANIES,
    Happening.MEMBER_CHANGED: Right.INVITE,
    Happening.INVITATION_CHANGED: Right.INVITE,
    Happening.SETTINGS_CHANGED: Right.SEE_COMPANIES,
    Happening.SUPPORT_ACCESS_CHANGED: Right.SEE_AUDIT,
}

# What people do is in the audit, so its entry tells of it: verbs, and nouns for all their verbs.
_BY_VERB: Mapping[str, Happening] = {
    "companies.change": Happening.COMPANY_CHANGED,
    "companies.create": Happening.COMPANY_CREATED,
    "companies.move": Happening.COMPANY_CHANGED,
    "companies.resume": Happening.COMPANY_CHANGED,
    "companies.suspend": Happening.COMPANY_CHANGED,
    "company.closed": Happening.COMPANY_CLOSED,
    "credits.give": Happening.DEVICE_CHANGED,
    "device.forgotten": Happening.DEVICE_FORGOTTEN,
    "device.moved": Happening.DEVICE_MOVED,
    "device.replaced": Happening.DEVICE_REPLACED,
    "device.replacement_undone": Happening.DEVICE_REPLACED,
    "devices.change": Happening.DEVICE_CHANGED,
    "devices.extend": Happening.DEVICE_CHANGED,
    "devices.import_undone": Happening.DEVICES_IMPORTED,
    "devices.imported": Happening.DEVICES_IMPORTED,
    "devices.register": Happening.DEVICE_REGISTERED,
    "devices.release": Happening.DEVICE_CHANGED,
    "devices.switch-off": Happening.DEVICE_CHANGED,
    "devices.switch-on": Happening.DEVICE_CHANGED,
    "devices.unregister": Happening.DEVICE_UNREGISTERED,
    "session.ended": Happening.SESSION_ENDED,
    "session.opened": Happening.SESSION_OPENED,
}
_BY_NOUN: Mapping[str, Happening] = {
    "credit-requests": Happening.CREDITS_REQUESTED,
    "invitations": Happening.INVITATION_CHANGED,
    "members": Happening.MEMBER_CHANGED,
    "settings": Happening.SETTINGS_CHANGED,
    "support-access": Happening.SUPPORT_ACCESS_CHANGED,
    "target": Happening.TARGET_CHANGED,
}
# Strangers look, and change nothing; that a service begins is told by itself.
_NOTHING = frozenset({"devices.activate", "invitations.look"})
# Days that a device has, and that are served or lapse, are in no company's balance.
NOT_OF_A_BALANCE = frozenset({Transfer.SERVE, Transfer.FORFEIT, Transfer.CARRY})


def happening_of(verb: str) -> Happening | None:
    """What those who watch hear when the audit gets an entry of this verb, if anything."""
    if verb in _NOTHING:
        return None
    return _BY_VERB.get(verb) or _BY_NOUN.get(verb.partition(".")[0])
