"""Problem details (RFC 9457): the one shape of every failure."""

import traceback

import msgspec

from gateway.domain.importing import BadLine, LinesRefused
from gateway.domain.refusals import STATUS, Code, Refused

CONTENT_TYPE = "application/problem+json"


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What went wrong; `code` is from a closed list, `field` names the part of the input."""

    type: str
    title: str
    status: int
    detail: str
    code: Code
    field: str | None = None
    lines: list[BadLine] | None = None  # of a file: everything that is wrong with it
    request_id: str


def problem(
    code: Code,
    detail: str,
    request_id: str,
    *,
    field: str | None = None,
    status: int | None = None,
    lines: list[BadLine] | None = None,
) -> Problem:
    """The problem of a refusal; its type leads to the reading page."""
    usual, title = STATUS[code]
    return Problem(
        type=f"/api/docs#problem-{code.value}",
        title=title,
        status=status or usual,
        detail=detail,
        code=code,
        field=field,
        lines=lines,
        request_id=request_id,
    )


def of_refusal(error: Refused, request_id: str) -> Problem:
    """The problem of a use case that refused."""
    lines = error.lines if isinstance(error, LinesRefused) else None
    return problem(error.code, error.detail, request_id, field=error.field, lines=lines)


def trace(error: BaseException) -> str:
    """Where an unexpected exception came from, without its message: that may hold anything."""
    lines = []
    cause: BaseException | None = error
    while cause is not None:
        lines.append(type(cause).__name__)
        lines += [line.rstrip() for line in traceback.format_tb(cause.__traceback__)]
        cause = cause.__cause__ or cause.__context__
    return "\n".join(lines)
