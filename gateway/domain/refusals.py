"""Why something is refused: a closed list, each with its HTTP status and a title."""

from enum import StrEnum


class Code(StrEnum):
    """What scripts may compare; `docs/api.md` lists them."""

    VALIDATION = "validation"
    SIGNED_OUT = "signed_out"
    CREDENTIALS_WRONG = "credentials_wrong"
    FORBIDDEN = "forbidden"
    SECOND_FACTOR_NEEDED = "second_factor_needed"
    SECOND_FACTOR_SET = "second_factor_set"
    CODE_NEEDED = "code_needed"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BODY_TOO_LARGE = "body_too_large"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    NAME_TAKEN = "name_taken"
    WOULD_MAKE_A_CYCLE = "would_make_a_cycle"
    SERIAL_UNAVAILABLE = "serial_unavailable"
    COMPANY_SUSPENDED = "company_suspended"
    CREDITS_INSUFFICIENT = "credits_insufficient"
    PARENT_LIMIT_REACHED = "parent_limit_reached"
    ALREADY_ACTIVE = "already_active"
    NOT_ACTIVE = "not_active"
    PAYMENT_TOO_SHORT = "payment_too_short"
    SERVICE_UNPAID = "service_unpaid"
    NOT_JOINED = "not_joined"
    TOO_MANY_SESSIONS = "too_many_sessions"
    SESSION_OVER = "session_over"
    NOTHING_WAITS = "nothing_waits"
    CREDIT_CODE_UNKNOWN = "credit_code_unknown"
    CREDIT_CODE_USED = "credit_code_used"
    CREDIT_CODE_EXPIRED = "credit_code_expired"
    NOTHING_TO_REVERSE = "nothing_to_reverse"
    REQUEST_OPEN = "request_open"
    REQUEST_ANSWERED = "request_answered"
    CANNOT_REPLACE = "cannot_replace"
    TOO_LATE = "too_late"
    COMPANY_CLOSED = "company_closed"
    INVITATION_OVER = "invitation_over"
    OTHER_ACCOUNT = "other_account"
    LINK_OVER = "link_over"
    LAST_ADMINISTRATOR = "last_administrator"
    CLOCK_IN_DOUBT = "clock_in_doubt"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


STATUS: dict[Code, tuple[int, str]] = {
    Code.VALIDATION: (422, "The request does not fit"),
    Code.SIGNED_OUT: (401, "Sign in first"),
    Code.CREDENTIALS_WRONG: (401, "E-mail or password is wrong"),
    Code.FORBIDDEN: (403, "Your role does not allow this"),
    Code.SECOND_FACTOR_SET: (409, "There is a second factor already"),
    Code.CODE_NEEDED: (401, "The second factor's code is needed"),
    Code.SECOND_FACTOR_NEEDED: (403, "Set up a second factor first"),
    Code.NOT_FOUND: (404, "There is no such thing, or it is not yours to see"),
    Code.METHOD_NOT_ALLOWED: (405, "This address does not take that method"),
    Code.BODY_TOO_LARGE: (413, "The body is too large"),
    Code.TOO_MANY_ATTEMPTS: (429, "Too many attempts; wait a little"),
    Code.IDEMPOTENCY_CONFLICT: (409, "This Idempotency-Key was used for another request"),
    Code.NAME_TAKEN: (409, "The name is taken"),
    Code.WOULD_MAKE_A_CYCLE: (409, "A company cannot be moved below itself"),
    Code.SERIAL_UNAVAILABLE: (409, "The serial is not available"),
    Code.COMPANY_SUSPENDED: (409, "The company is suspended"),
    Code.CREDITS_INSUFFICIENT: (409, "There are not enough credits"),
    Code.PARENT_LIMIT_REACHED: (409, "This month's limit of credits from above is reached"),
    Code.ALREADY_ACTIVE: (409, "The device is active already"),
    Code.NOT_ACTIVE: (409, "The device is not active"),
    Code.PAYMENT_TOO_SHORT: (409, "The payment would not reach beyond the grace already served"),
    Code.SERVICE_UNPAID: (409, "The device's service is not active"),
    Code.NOT_JOINED: (409, "The device has not joined"),
    Code.TOO_MANY_SESSIONS: (409, "There are too many open sessions"),
    Code.SESSION_OVER: (409, "The session is over"),
    Code.NOTHING_WAITS: (409, "Nothing waits for release"),
    Code.CREDIT_CODE_UNKNOWN: (404, "There is no such credit code"),
    Code.CREDIT_CODE_USED: (409, "The credit code was redeemed or deleted already"),
    Code.CREDIT_CODE_EXPIRED: (409, "The credits of this code have expired"),
    Code.NOTHING_TO_REVERSE: (409, "Nothing of this transfer can be taken back"),
    Code.REQUEST_OPEN: (409, "A request for credits waits for an answer already"),
    Code.REQUEST_ANSWERED: (409, "The request was answered already"),
    Code.CANNOT_REPLACE: (409, "This device cannot take the other's place"),
    Code.TOO_LATE: (409, "It is too late to undo this"),
    Code.COMPANY_CLOSED: (409, "The company is closed"),
    Code.INVITATION_OVER: (404, "This invitation is not good, or not any more"),
    Code.LAST_ADMINISTRATOR: (409, "The company would be left without an administrator"),
    Code.OTHER_ACCOUNT: (409, "You are signed in as somebody else"),
    Code.LINK_OVER: (404, "This link is not good, or not any more"),
    Code.CLOCK_IN_DOUBT: (503, "The server's clock is in doubt; charges are stopped"),
    Code.UNAVAILABLE: (503, "Try again in a moment"),
    Code.INTERNAL: (500, "Something went wrong on our side"),
}


class Refused(Exception):
    """Ends a use case without effect; handlers turn it into problem details."""

    def __init__(self, code: Code, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field
