"""Why the relay turned somebody away."""


class TicketRefused(Exception):
    """A ticket was not accepted.

    `code` is one of relay_restarted, ticket_used, ticket_expired, ticket_wrong, session_over, busy;
    `detail` says more where there is more: for session_over the reason why the session ended.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


class StreamRefused(Exception):
    """A stream was not opened.

    `reason` is one of not_allowed, refused, timed_out, unreachable, busy, control_link_lost,
    session_over, no_link, or the code of the gateway's note on why the device has not come; `hop`
    is that note's hop, and `since_ms` (0: not known) since when it is so. For session_over `detail`
    is the reason why the session ended.
    """

    def __init__(self, reason: str, hop: str = "", detail: str = "", *, since_ms: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hop = hop
        self.detail = detail
        self.since_ms = since_ms
