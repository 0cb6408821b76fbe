"""What devices answer: outcomes of commands, and reports on the links of sessions."""

from gateway.ingest import rows
from gateway.operations.outbox import command_ended
from gateway.operations.telling import take_report
from gateway.storage.transaction import Transaction
from wire.commands import Answer
from wire.heartbeat import WireError
from wire.session_commands import report_of


def take(tx: Transaction, live: rows.Live, answer: Answer) -> str:
    """Stores an answer; why it cannot be read, or nothing."""
    try:
        report = report_of(answer)
        result = rows.encode(answer.result).decode()
    except WireError as error:
        return str(error)
    except (ValueError, OverflowError, RecursionError) as error:
        # JSON that Python can hold and no column can: half a surrogate pair, a huge number.
        return f"result: {type(error).__name__}"
    if report is not None:
        take_report(tx, live.id, report)
        return ""
    verb = rows.answer(tx, live.id, answer.id, answer.outcome.value, result)
    if verb:
        command_ended(tx, live.company_id, live.serial, answer.id, verb, answer.outcome.value)
    return ""
