"""For every operation what it is asked with, in the company in the middle.

`{company}` and the like stand for the ids of `RightsWorld.facts`.
"""

from typing import Any

from tests.contract.rights_world import ACTIVE, LATER, NEW, SPARE

_COMPANY = {"company_id": "{company}"}
_DEVICE = {"serial": ACTIVE}
_OF = {"company": "{company}"}
_SESSION = {"session_id": "{session}"}
_TARGET = {"target_id": "{target}"}

CASES: dict[str, dict[str, Any]] = {
    "audit.export": {**_OF, "format": "json"},
    "audit.list": _OF,
    "clock.accept": {},
    "commands.list": _DEVICE,
    "commands.send": {**_DEVICE, "verb": "ping"},
    "companies.change": {**_COMPANY, "name": "New"},
    "companies.close": {**_COMPANY, "devices": "unregister"},
    "companies.create": {"parent_id": "{company}", "name": "New"},
    "companies.credits": _COMPANY,
    "companies.export": _COMPANY,
    "companies.forecast": _COMPANY,
    "companies.list": _OF,
    "companies.move": {**_COMPANY, "parent_id": "{above}"},
    "companies.price": {**_COMPANY, "per_credit": "1.00", "currency": "EUR", "from": "2027-02-01"},
    "companies.prices": _COMPANY,
    "companies.resume": _COMPANY,
    "companies.show": _COMPANY,
    "companies.statement": {**_COMPANY, "from": "2027-01-01", "to": "2027-01-15"},
    "companies.suspend": {**_COMPANY, "reason": "unpaid"},
    "credit-codes.create": {**_COMPANY, "credits": 1},
    "credit-codes.delete": {"code_id": "{code}"},
    "credit-codes.list": _OF,
    "credit-codes.redeem": {**_COMPANY, "code": "{code_text}"},
    "credit-requests.accept": {"request_id": "{request}"},
    "credit-requests.create": {**_COMPANY, "credits": 1, "note": ""},
    "credit-requests.list": {},
    "credit-requests.refuse": {"request_id": "{request}"},
    "credits.give": {"serial": LATER, "days": 1},
    "credits.grant": {**_COMPANY, "credits": 1},
    "credits.move": {"source": "{company}", "target": "{below}", "credits": 1},
    "credits.reverse": {"transfer": "{transfer}"},
    "devices.activate": {"serial": LATER, "credits": 1},
    "devices.change": {**_DEVICE, "name": "New"},
    "devices.export": {**_OF, "format": "json"},
    "devices.extend": _DEVICE,
    "devices.forget": _DEVICE,
    "devices.heartbeats": _DEVICE,
    "devices.import": {**_COMPANY, "csv": f"serial\n{NEW}\n", "activate": "later"},
    "devices.join": _DEVICE,
    "devices.list": _OF,
    "devices.move": {**_DEVICE, "company_id": "{below}"},
    "devices.move-many": {"serials": [ACTIVE, LATER], "company_id": "{below}"},
    "devices.register": {"serial": NEW, **_COMPANY, "activate": "later"},
    "devices.release": _DEVICE,
    "devices.replace": {"broken": ACTIVE, "serial": NEW},
    "devices.series": {**_DEVICE, "fields": ["uptime"]},
    "devices.show": _DEVICE,
    "devices.switch-off": _DEVICE,
    "devices.switch-on": _DEVICE,
    "devices.undo-replace": _DEVICE,
    "devices.unregister": {"serial": SPARE},
    "events.follow": _OF,
    "imports.list": _OF,
    "imports.show": {"import_id": "{import}"},
    "imports.undo": {"import_id": "{import}"},
    "invitations.accept": {"token": "wrong"},
    "invitations.create": {**_COMPANY, "email": "new@example.org", "role": "basic"},
    "invitations.list": _OF,
    "invitations.look": {"token": "wrong"},
    "invitations.resend": {"invitation_id": "{invitation}"},
    "invitations.withdraw": {"invitation_id": "{invitation}"},
    "join-codes.create": _COMPANY,
    "ledger.list": _OF,
    "me.change": {"name": "New"},
    "me.change-password": {"old_password": "wrong-password", "new_password": "new-password"},
    "me.confirm-totp": {"code": "000000"},
    "me.erase": {"password": "wrong-password"},
    "me.export": {},
    "me.keep-totp": {},
    "me.recovery-codes": {"code": "000000"},
    "me.remove-totp": {"password": "wrong-password", "code": "000000"},
    "me.set-up-totp": {"password": "wrong-password"},
    "me.show": {},
    # Of a company without a parent: operators find it an administrator.
    "members.create": {
        "company_id": "{above}",
        "email": "new@example.org",
        "role": "administrator",
    },
    "members.change": {"membership_id": "{membership}", "role": "read_only"},
    "members.list": _COMPANY,
    "members.remove": {"membership_id": "{membership}"},
    "notices.list": _COMPANY,
    "password-resets.create": {"email": "a@example.org"},
    "password-resets.use": {"token": "wrong", "password": "new-password"},
    "people.sign_in": {"email": "a@example.org", "password": "wrong-password"},
    "people.sign_out": {},
    "sessions.close": _SESSION,
    "sessions.diagnosis": _SESSION,
    "sessions.list": _OF,
    "sessions.open": {**_DEVICE, "protocol": "http"},
    "sessions.show": _SESSION,
    "sessions.ticket": {**_SESSION, "way": "connect"},
    "settings.change": {**_COMPANY, "language": "es"},
    "settings.show": _COMPANY,
    "sign-ins.end": {"sign_in_id": "f" * 16},
    "sign-ins.end-all": {},
    "sign-ins.list": {},
    "support-access.end": {**_COMPANY, "access_id": "{access}"},
    "support-access.grant": {**_COMPANY, "minutes": 60, "reason": "help"},
    "support-access.list": _COMPANY,
    "targets.change": {**_TARGET, "name": "new"},
    "targets.create": {**_DEVICE, "name": "new", "target": "10.0.0.8:502", "protocol": "tcp"},
    "targets.delete": _TARGET,
    "targets.list": _DEVICE,
    "tokens.create": {"name": "New", "scopes": ["read"]},
    "tokens.delete": {"token_id": "f" * 16},
    "tokens.list": {},
    "users.erase": {"user_id": "1"},
    "users.list": {},
    "users.reset-totp": {"user_id": "1"},
}


def filled(given: dict[str, Any], facts: dict[str, str]) -> dict[str, Any]:
    """The input with the ids that the words stand for."""
    return {
        name: value.format(**facts) if isinstance(value, str) else value
        for name, value in given.items()
    }
