"""A forgotten password: a link by mail, good once and for 30 minutes.

Asking does the same for every address: it notes the address, and answers. Whether there is an
account is looked up afterwards, by the job that mails the link, so nobody can tell from the answer
or from the time it takes.
"""

from typing import Annotated

import msgspec
from sqlalchemy import delete, func, insert, select, update

from gateway.domain.instants import HOUR_MS, MINUTE_MS
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right, name_of_user
from gateway.operations.accounts import require_password
from gateway.operations.mailing import queue_mail
from gateway.operations.people import Email, Password
from gateway.operations.registry import Call, Site, operation
from gateway.people import sign_ins
from gateway.people.accounts import account_of, email_key, end_reset_links, is_email, set_password
from gateway.people.tokens import TOKEN_CHARS_MAX, hash_token, new_link_token
from gateway.storage.schema import password_reset, password_reset_asked, person
from gateway.storage.transaction import AnyRow, Transaction

PATH = "/password-reset"
GOOD_MS = 30 * MINUTE_MS
LINKS_MAX = 3  # of one account
LINKS_WITHIN_MS = HOUR_MS
WAITING_MAX = 10_000  # asked for and not looked up yet; the job comes by each second
OVER = (
    "This link is not good, or not any more: it was used, its 30 minutes are over, or a newer one "
    "was sent. Ask for a new one."
)


class AskReset(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The address of the account."""

    email: Email


class LocalAsk(AskReset, kw_only=True):
    """The same from whoever owns the data directory, which proves more than a mailbox."""


class ResetAsked(msgspec.Struct):
    """The same answer for every address. `mail`: whether this installation sends mails at all.

    `link` is shown to the server's owner only: at the admin socket, of the own account, without a
    mail server.
    """

    mail: bool
    link: str | msgspec.UnsetType = msgspec.UNSET


class UseReset(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the link ends with, and the password from now on."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=TOKEN_CHARS_MAX)]
    password: Password


class HashedReset(UseReset, kw_only=True):
    """The same with the password hashed outside of the transaction: that takes long."""

    password_hash: str


class PasswordReset(msgspec.Struct):
    """The password is changed, and nobody is signed in: how many sign-ins ended."""

    sign_ins_ended: int


@operation(
    "password-resets.create", "POST", "/password-resets", right=Right.PUBLIC, result=ResetAsked
)
def ask_reset(call: Call, given: AskReset) -> ResetAsked:
    """Asks for a mail with a link to a new password; the answer is the same for every address."""
    if not is_email(given.email):
        raise Refused(Code.VALIDATION, "email: not an address", field="email")
    tx = call.tx
    if isinstance(given, LocalAsk) and not call.site.mail:
        account = account_of(tx, given.email)
        if account is not None and account.person_id == call.principal.user_id:
            return ResetAsked(mail=False, link=new_link(tx, call.site, account.person_id))
    some = select(password_reset_asked.c.id).limit(WAITING_MAX)
    waiting = tx.scalar(select(func.count()).select_from(some.subquery()))
    if call.site.mail and waiting < WAITING_MAX:
        values = {"email_key": email_key(given.email), "asked_at": tx.now_ms}
        tx.insert(insert(password_reset_asked), values)
    return ResetAsked(mail=call.site.mail)


@operation(
    "password-resets.use",
    "POST",
    "/password-resets/{token}",
    right=Right.PUBLIC,
    result=PasswordReset,
    errors=(Code.LINK_OVER,),
)
def use_reset(call: Call, given: UseReset) -> PasswordReset:
    """Sets a new password by the link of a mail: once; it ends all sign-ins, and begins none."""
    require_password(given.password, "password")
    tx, row = call.tx, find(call.tx, given.token)
    # Without the hash this would be a way around the desk that hashes outside of transactions.
    assert isinstance(given, HashedReset)
    tx.lock_person(row.person_id)
    good = (password_reset.c.token_hash == row.token_hash, password_reset.c.expires_at > tx.now_ms)
    if tx.run(update(password_reset).where(*good).values(expires_at=tx.now_ms)) == 0:
        raise Refused(Code.LINK_OVER, OVER)
    set_password(tx, row.person_id, given.password_hash)
    ended = sign_ins.end_all(tx, row.person_id)
    queue_mail(
        tx,
        site=call.site,
        template="password_changed",
        recipient=row.email,
        language="",
        values={},
        person_id=row.person_id,
    )
    call.about(subject=str(row.person_id), actor=name_of_user(row.person_id), sign_ins_ended=ended)
    return PasswordReset(ended)


def find(tx: Transaction, token: str) -> AnyRow:
    """The link and its person. Raises `Refused`, alike for all that are not good."""
    row = tx.one(
        select(password_reset.c.token_hash, password_reset.c.person_id, person.c.email)
        .join(person, person.c.id == password_reset.c.person_id)
        .where(
            password_reset.c.token_hash == hash_token(token),
            password_reset.c.expires_at > tx.now_ms,
            person.c.erased_at.is_(None),
        )
    )
    if row is None:
        raise Refused(Code.LINK_OVER, OVER)
    return row


def new_link(tx: Transaction, site: Site, person_id: int) -> str | msgspec.UnsetType:
    """A link, which ends those before it; none when enough were made within the hour."""
    tx.lock_person(person_id)
    own = password_reset.c.person_id == person_id
    long_ago = password_reset.c.created_at <= tx.now_ms - LINKS_WITHIN_MS
    tx.run(delete(password_reset).where(own, long_ago))
    made = tx.scalar(select(func.count()).select_from(password_reset).where(own))
    if made >= LINKS_MAX:
        return msgspec.UNSET  # the newest one stays good
    end_reset_links(tx, person_id)
    token = new_link_token()
    tx.run(
        insert(password_reset),
        {
            "token_hash": hash_token(token),
            "person_id": person_id,
            "created_at": tx.now_ms,
            "expires_at": tx.now_ms + GOOD_MS,
        },
    )
    return f"{site.public_url}{PATH}/{token}"
