"""The sentences of notices in Spanish; for each kind the same facts as in English."""

from collections.abc import Callable, Mapping

from gateway.domain.ledger import DAYS_PER_CREDIT
from gateway.domain.notices import Facts, Notice

_STATES: Mapping[str, str] = {
    "accepted": "aceptada",
    "refused": "rechazada",
    "withdrawn": "retirada",
}
Sentence = Callable[[str, Facts], str]
SENTENCES: dict[Notice, Sentence] = {}


def _says(kind: Notice) -> Callable[[Sentence], Sentence]:
    """The function below makes the sentence of this kind."""

    def keep(sentence: Sentence) -> Sentence:
        SENTENCES[kind] = sentence
        return sentence

    return keep


def spanish_sentence(kind: Notice, subject: str, facts: Facts) -> str:
    """Says it for people; what is not known is left out, so that old notices stay readable."""
    text = SENTENCES[kind](subject, facts)
    note = str(facts.get("note", ""))
    return f"{text}; nota: {note}." if note else f"{text}."


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def credits_in_spanish(days: int) -> str:
    """An amount of days as people count them."""
    credits, rest = divmod(days, DAYS_PER_CREDIT)
    if not credits:
        return _counted(rest, "día", "días")
    whole = _counted(credits, "crédito", "créditos")
    return f"{whole} y {_counted(rest, 'día', 'días')}" if rest else whole


def _amount(facts: Facts) -> str:
    days = facts.get("days")
    return credits_in_spanish(days) if isinstance(days, int) else "créditos"


def _by(facts: Facts) -> str:
    return f" por {facts['by']}" if facts.get("by") else ""


def _because(facts: Facts) -> str:
    return f": {facts['reason']}" if facts.get("reason") else ""


def _in_days(facts: Facts) -> str:
    left = facts.get("days_left")
    if not isinstance(left, int):
        return ""
    return " en menos de un día" if left <= 1 else f" dentro de {left} días"


@_says(Notice.CREDITS_MOVED_UP)
def _moved_up(_: str, facts: Facts) -> str:
    if facts.get("into") == "code":
        return f"La empresa superior puso en un código de créditos: {_amount(facts)}"
    return f"Se transfirieron a la empresa superior: {_amount(facts)}"


@_says(Notice.CREDITS_TAKEN_BACK)
def _taken_back(_: str, facts: Facts) -> str:
    whose = f" de {facts['serial']}" if facts.get("serial") else ""
    return f"Se retiraron{whose} {_amount(facts)}{_because(facts)}"


@_says(Notice.CREDITS_REQUESTED)
def _requested(subject: str, facts: Facts) -> str:
    return f"{facts.get('company', subject)} pide {_amount(facts)}"


@_says(Notice.REQUEST_ANSWERED)
def _answered(_: str, facts: Facts) -> str:
    state = _STATES.get(str(facts.get("state", "")), "contestada")
    return f"La petición de {_amount(facts)} fue {state}"


@_says(Notice.PARENT_LIMIT_USED)
def _limit_used(subject: str, facts: Facts) -> str:
    percent = facts.get("percent")
    part = f"el {percent} % del" if isinstance(percent, int) else "el"
    limit = facts.get("limit")
    of = f" de {limit} créditos" if isinstance(limit, int) else ""
    who = facts.get("company", subject)
    return f"{who} ha gastado {part} límite mensual{of} de la empresa superior"


@_says(Notice.CREDITS_RUN_DRY)
def _run_dry(_: str, facts: Facts) -> str:
    on = f", el {facts['on']}" if facts.get("on") else ""
    return f"Al ritmo actual los créditos se agotan{_in_days(facts)}{on}"


@_says(Notice.LOT_EXPIRES)
def _lot_expires(_: str, facts: Facts) -> str:
    on = f"; el último día válido es el {facts['on']}" if facts.get("on") else ""
    return f"Caducan sin usar{_in_days(facts)}: {_amount(facts)}{on}"


@_says(Notice.GRACE_BEGAN)
def _grace(subject: str, facts: Facts) -> str:
    until = f" hasta el {facts['until']}" if facts.get("until") else " por un tiempo"
    return f"Nadie pudo pagar {subject}; sigue en servicio{until} y después se detiene"


@_says(Notice.DEVICE_UNHEARD)
def _unheard(subject: str, _: Facts) -> str:
    return (
        f"{subject} no dio señal en su último período, así que no se tomó ningún crédito y está"
        " apagado"
    )


@_says(Notice.DEVICE_UNREGISTERED)
def _unregistered(subject: str, facts: Facts) -> str:
    days = facts.get("forfeited")
    lost = f"; se perdieron {credits_in_spanish(days)}" if isinstance(days, int) and days else ""
    return f"{subject} fue dado de baja{_by(facts)}{lost}"


@_says(Notice.DEVICE_MOVED)
def _device_moved(subject: str, facts: Facts) -> str:
    return f"{subject} pasó a {facts['company'] if facts.get('company') else 'otra empresa'}"


@_says(Notice.DEVICE_REPLACED)
def _replaced(subject: str, facts: Facts) -> str:
    by = facts.get("serial")
    return f"{subject} fue sustituido por {by}" if by else f"{subject} fue sustituido"


@_says(Notice.SERIAL_TAKEN_OVER)
def _taken_over(subject: str, _: Facts) -> str:
    return f"El registro de {subject} terminó: el dispositivo se incorporó a otra empresa"


@_says(Notice.COMPANY_SUSPENDED)
def _suspended(_: str, facts: Facts) -> str:
    return f"La empresa fue suspendida{_because(facts)}"


@_says(Notice.COMPANY_CLOSED)
def _closed(subject: str, facts: Facts) -> str:
    return f"La empresa {facts.get('company', subject)} fue cerrada{_by(facts)}"


@_says(Notice.SUPPORT_ACCESS)
def _support(subject: str, facts: Facts) -> str:
    until = f" hasta el {facts['until']}" if facts.get("until") else " por un tiempo"
    who = facts.get("company", subject)
    return f"Las empresas superiores pueden ver el interior de {who}{until}{_because(facts)}"
