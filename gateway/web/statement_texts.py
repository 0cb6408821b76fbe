"""The words of the statement's page, which goes to customers: a column for each language."""

from collections.abc import Callable, Mapping

LANGUAGES = ("en", "es")
WORDS: Mapping[str, tuple[str, str]] = {
    "statement": ("Statement", "Extracto"),
    "until": ("to", "a"),
    "made_at": ("made", "emitido"),
    "incomplete": (
        "The last month is not closed yet: these figures may still change.",
        "El último mes aún no está cerrado: estas cifras pueden cambiar.",
    ),
    "reference": ("Reference", "Referencia"),
    "show": ("Show", "Mostrar"),
    "csv": ("CSV", "CSV"),
    "csv-excel": ("CSV for Excel", "CSV para Excel"),
    "from_month": ("From", "Desde"),
    "to_month": ("To", "Hasta"),
    "by": ("By", "Por"),
    "by_device": ("device", "dispositivo"),
    "by_child": ("company below", "empresa inferior"),
    "in_days": (
        "In days of one device; 30 days are one credit.",
        "En días de un dispositivo; 30 días son un crédito.",
    ),
    "balance": ("Balance", "Saldo"),
    "beside": ("Beside the balance", "Aparte del saldo"),
    "all": ("All", "Total"),
    "paid": ("Paid", "Pagados"),
    "free": ("Free", "Gratuitos"),
    "opening": ("Opening balance", "Saldo inicial"),
    "granted": ("Granted", "Concedidos"),
    "trial": ("of them on trial", "de ellos, de prueba"),
    "received": ("Received", "Recibidos"),
    "redeemed": ("Redeemed from codes", "Canjeados con códigos"),
    "codes_returned": ("Back from deleted codes", "Devueltos de códigos eliminados"),
    "given_back": ("Given back", "Devueltos"),
    "companies_joined": ("Came with companies", "Llegados con empresas"),
    "moved_out": ("Moved out", "Transferidos"),
    "taken_back": ("Taken back", "Retirados"),
    "spent_by_itself": ("Spent for own devices", "Gastados en dispositivos propios"),
    "spent_for_below": ("Spent for companies below", "Gastados en empresas inferiores"),
    "courtesy": ("Given as a courtesy", "Dados de cortesía"),
    "codes_made": ("Put into codes", "Puestos en códigos"),
    "expired": ("Expired", "Caducados"),
    "written_off": ("Written off at closing", "Perdidos al cerrar"),
    "companies_left": ("Left with companies", "Salidos con empresas"),
    "closing": ("Closing balance", "Saldo final"),
    "spent_by_above": ("Paid by a company above", "Pagados por una empresa superior"),
    "paid_from_here": ("Paid by this company", "Pagados por esta empresa"),
    "courtesy_received": ("Courtesy days received", "Días de cortesía recibidos"),
    "forfeited": ("Forfeited", "Perdidos"),
    "served": ("Served", "Consumidos"),
    "expired_in_codes": ("Expired in codes", "Caducados en códigos"),
    "prepaid": ("Still prepaid at the end", "Aún prepagados al final"),
    "amount": ("Amount", "Importe"),
    "per_credit": ("per credit", "por crédito"),
    "days": ("days", "días"),
    "devices": ("Devices", "Dispositivos"),
    "companies": ("Companies", "Empresas"),
    "serial": ("Serial", "Número de serie"),
    "name": ("Name", "Nombre"),
    "company": ("Company", "Empresa"),
    "days_paid": ("Days paid", "Días pagados"),
    "days_free": ("Days free", "Días gratuitos"),
    "days_heard": ("Days heard", "Días con señal"),
    "credits": ("Credits", "Créditos"),
    "own": ("the company itself", "la propia empresa"),
    "gone": ("a company that left", "una empresa que salió"),
    "total": ("Total", "Total"),
    "none": ("There is nothing to show.", "No hay nada que mostrar."),
    "sign_out": ("Sign out", "Salir"),
    "status": ("Status", "Estado"),
}
# In the order in which a person reckons; those that are 0 everywhere are left out.
BALANCE = (
    "opening granted trial received redeemed codes_returned given_back companies_joined moved_out "
    "taken_back spent_by_itself spent_for_below courtesy codes_made expired written_off "
    "companies_left closing"
).split()
BESIDE = (
    "spent_by_above paid_from_here courtesy_received forfeited served expired_in_codes prepaid"
).split()
ALWAYS = frozenset({"opening", "closing", "prepaid"})
TAKEN = frozenset(
    "moved_out taken_back spent_by_itself spent_for_below courtesy codes_made expired written_off "
    "companies_left".split()
)


def language_of(asked: str, accepted: str) -> str:
    """The one asked for, else the first that the browser accepts and there is, else English."""
    wanted = [asked, *(part.partition(";")[0].strip() for part in accepted.split(","))]
    for tag in wanted:
        if tag[:2].lower() in LANGUAGES:
            return tag[:2].lower()
    return LANGUAGES[0]


def words_of(language: str, words: Mapping[str, tuple[str, str]] = WORDS) -> Callable[[str], str]:
    """The words of a language by key; a missing key is a mistake of ours."""
    column = LANGUAGES.index(language)
    return lambda key: words[key][column]
