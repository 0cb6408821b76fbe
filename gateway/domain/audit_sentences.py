"""Says in a sentence what an entry of the audit is about, for people who read it."""

from collections.abc import Mapping

# What was done, after the name of who did it; `{}` stands for what it was done to.
_DONE: Mapping[str, str] = {
    "clock.accepted": "took the server's clock for right",
    "companies.change": "changed the company {}",
    "companies.create": "made the company {}",
    "companies.move": "moved the company {}",
    "companies.price": "changed the price of a company",
    "companies.resume": "let the company {} work again",
    "companies.suspend": "suspended the company {}",
    "company.closed": "closed the company {}",
    "credit-codes.create": "made a credit code",
    "credit-codes.delete": "took back the credit code {}",
    "credit-codes.redeem": "redeemed a credit code",
    "credit-requests.accept": "accepted the request {} for credits",
    "credit-requests.create": "asked for credits",
    "credit-requests.refuse": "refused the request {} for credits",
    "credits.give": "gave {} days",
    "credits.grant": "granted credits",
    "credits.move": "moved credits",
    "credits.reverse": "reversed a transfer of credits",
    "commands.send": "sent {} a command",
    "device.forgotten": "forgot the device {}",
    "device.moved": "moved the device {}",
    "device.replaced": "replaced the device {}",
    "device.replacement_undone": "undid the replacement of {}",
    "devices.activate": "activated {}",
    "devices.change": "changed the device {}",
    "devices.extend": "extended {}",
    "devices.import_undone": "undid the import {}",
    "devices.imported": "imported devices, import {}",
    "devices.join": "made a join string for {}",
    "devices.register": "registered {}",
    "devices.release": "released {}",
    "devices.switch-off": "switched {} off",
    "devices.switch-on": "switched {} on",
    "devices.unregister": "unregistered {}",
    "host-keys.trust": "accepted the SSH host key of {}",
    "installation.restored": "restored the installation from a backup",
    "invitations.accept": "accepted the invitation {}",
    "invitations.create": "invited somebody",
    "invitations.look": "opened the link of the invitation {}",
    "invitations.resend": "sent the invitation {} again",
    "invitations.withdraw": "withdrew the invitation {}",
    "join-codes.create": "made a join code",
    "me.change": "changed the own account",
    "me.change-password": "changed the own password",
    "me.confirm-totp": "put the own second factor in force",
    "me.erase": "erased the own account",
    "me.keep-totp": "stopped the reset of the own second factor",
    "me.recovery-codes": "made new recovery codes",
    "me.remove-totp": "removed the own second factor",
    "me.set-up-totp": "began to set up a second factor",
    "members.change": "changed the membership {}",
    "members.create": "made somebody a member",
    "members.remove": "ended the membership {}",
    "password-reset.mailed": "mailed the person {} a link to a new password",
    "password-resets.use": "set a new password by the link of a mail",
    "people.sign_in": "signed in",
    "people.sign_in_failed": "could not sign in",
    "people.sign_out": "signed out",
    "secrets.wrong": "gave a wrong secret",
    "relays.drain": "took the relay {} out of service, or put it back",
    "session.counted": "counted what the session {} carried at last",
    "session.ended": "ended the session {}",
    "session.opened": "opened the session {}",
    "session.ticket": "made a ticket for the session {}",
    "sign-ins.end": "ended the own sign-in {}",
    "sign-ins.end-all": "signed out everywhere",
    "settings.change": "changed settings of the company {}",
    "support-access.end": "ended the support access {}",
    "support-access.grant": "let people from above look inside, support access {}",
    "target.changed": "changed the target {}",
    "target.created": "saved the target {}",
    "target.deleted": "deleted the target {}",
    "tokens.create": "made the API token {}",
    "tokens.delete": "deleted the API token {}",
    "users.reset-totp": "asked for the second factor of the person {} to be taken away",
    "users.erase": "erased the person {}",
}

VERBS = tuple(_DONE)
# They tell of sessions and targets, which a company may ask people from above to stay out of.
_INSIDE = ("host-keys", "session", "target")
INSIDE_VERBS = tuple(verb for verb in _DONE if verb.partition(".")[0] in _INSIDE)


def has_words(verb: str) -> bool:
    """Whether there are words for it."""
    return verb in _DONE


def sentence(verb: str, actor: str, subject: str) -> str:
    """`Ann (user:7) activated 1100000001.`; of a verb without words of its own, the verb."""
    done = _DONE.get(verb, f"{verb} {{}}").format(subject).strip()
    return f"{actor} {done}."
