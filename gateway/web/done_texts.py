"""What a page says after an operation was done, by the operation's name."""

from collections.abc import Mapping

from gateway.web.languages import gettext_noop

CONTEXT = "done"  # of these texts in the catalogs
DONE: Mapping[str, str] = {
    "companies.close": gettext_noop("The company is closed."),
    "companies.create": gettext_noop("The company is there."),
    "companies.move": gettext_noop("The company was moved."),
    "companies.resume": gettext_noop("The company is not suspended any more."),
    "companies.suspend": gettext_noop("The company is suspended."),
    "credits.give": gettext_noop("The days were given."),
    "credits.grant": gettext_noop("The credits were granted."),
    "credits.move": gettext_noop("The credits were moved."),
    "credits.reverse": gettext_noop("The transfer was taken back."),
    "credit-codes.delete": gettext_noop("The code was deleted; its credits are back."),
    "credit-codes.redeem": gettext_noop("The code was redeemed."),
    "credit-requests.accept": gettext_noop("The request was accepted; the credits were moved."),
    "credit-requests.create": gettext_noop("The request was sent to the company above."),
    "credit-requests.refuse": gettext_noop("The request was refused."),
    "devices.act-many": gettext_noop("It was done to the devices that were ticked."),
    "devices.activate": gettext_noop("The device is active."),
    "devices.extend": gettext_noop("The device is paid for longer."),
    "devices.forget": gettext_noop("The device was forgotten."),
    "devices.import": gettext_noop("The devices of the list are registered."),
    "devices.move": gettext_noop("The device was moved."),
    "devices.move-many": gettext_noop("The devices were moved."),
    "devices.register": gettext_noop("The device is registered."),
    "devices.replace": gettext_noop("The device was replaced; its days went along."),
    "devices.switch-off": gettext_noop("The device's service is off."),
    "devices.switch-on": gettext_noop("The device's service is on."),
    "devices.undo-replace": gettext_noop("The replacement was undone."),
    "devices.unregister": gettext_noop("The device was unregistered."),
    "imports.undo": gettext_noop("The import was undone."),
    "invitations.create": gettext_noop("The invitation was sent."),
    "invitations.resend": gettext_noop("The invitation was sent again; the old link is dead."),
    "invitations.withdraw": gettext_noop("The invitation was withdrawn."),
    "me.change-password": gettext_noop("The password was changed."),
    "members.change": gettext_noop("The role was changed."),
    "members.remove": gettext_noop("The person was removed from the company."),
    "me.remove-totp": gettext_noop("The second factor was removed."),
    "me.keep-totp": gettext_noop("Your second factor stays."),
    "sign-ins.end": gettext_noop("The sign-in was ended."),
    "sign-ins.end-all": gettext_noop("You are signed out there."),
    "targets.change": gettext_noop("The target was changed."),
    "tokens.delete": gettext_noop("The token was deleted."),
    "users.reset-totp": gettext_noop(
        "Mails were sent; the second factor is taken away in 24 hours."
    ),
    "users.erase": gettext_noop("The person was erased."),
    "me.erase": gettext_noop("Your account was deleted."),
    "support-access.grant": gettext_noop("People from above are let in."),
    "support-access.end": gettext_noop("The support access was ended."),
    "sessions.close": gettext_noop("The session is closed."),
}
OTHERWISE = gettext_noop("Saved.")
