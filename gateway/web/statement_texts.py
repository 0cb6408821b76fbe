"""The words of the statement, which goes to customers, on its page and in its mail."""

from collections.abc import Callable, Mapping

from gateway.web.languages import gettext_noop as _
from gateway.web.languages import words_of as catalog_of

LANGUAGES = ("en", "es")
CONTEXT = "statement"  # of the catalogs' entries
WORDS: Mapping[str, str] = {
    "statement": _("Statement"),
    "until": _("to"),
    "made_at": _("made"),
    "incomplete": _("The last month is not closed yet: these figures may still change."),
    "reference": _("Reference"),
    "show": _("Show"),
    "csv": _("CSV"),
    "csv-excel": _("CSV for Excel"),
    "from_month": _("From"),
    "to_month": _("To"),
    "by": _("By"),
    "by_device": _("device"),
    "by_child": _("company below"),
    "in_days": _("In days of one device; 30 days are one credit."),
    "balance": _("Balance"),
    "beside": _("Beside the balance"),
    "all": _("All"),
    "paid": _("Paid"),
    "free": _("Free"),
    "opening": _("Opening balance"),
    "granted": _("Granted"),
    "trial": _("of them on trial"),
    "received": _("Received"),
    "redeemed": _("Redeemed from codes"),
    "codes_returned": _("Back from deleted codes"),
    "given_back": _("Given back"),
    "companies_joined": _("Came with companies"),
    "moved_out": _("Moved out"),
    "taken_back": _("Taken back"),
    "spent_by_itself": _("Spent for own devices"),
    "spent_for_below": _("Spent for companies below"),
    "courtesy": _("Given as a courtesy"),
    "codes_made": _("Put into codes"),
    "expired": _("Expired"),
    "written_off": _("Written off at closing"),
    "companies_left": _("Left with companies"),
    "closing": _("Closing balance"),
    "spent_by_above": _("Paid by a company above"),
    "paid_from_here": _("Paid by this company"),
    "courtesy_received": _("Courtesy days received"),
    "forfeited": _("Forfeited"),
    "served": _("Served"),
    "expired_in_codes": _("Expired in codes"),
    "prepaid": _("Still prepaid at the end"),
    "amount": _("Amount"),
    "per_credit": _("per credit"),
    "days": _("days"),
    "devices": _("Devices"),
    "companies": _("Companies"),
    "serial": _("Serial"),
    "name": _("Name"),
    "company": _("Company"),
    "days_paid": _("Days paid"),
    "days_free": _("Days free"),
    "days_heard": _("Days heard"),
    "credits": _("Credits"),
    "own": _("the company itself"),
    "gone": _("a company that left"),
    "total": _("Total"),
    "none": _("There is nothing to show."),
    "print": _("Print"),
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


def words_of(
    language: str, words: Mapping[str, tuple[str, str]] | None = None
) -> Callable[[str], str]:
    """The words of a language by key, of the statement if not of another page with a column for
    each language; a missing key is a mistake of ours."""
    if words is None:
        catalog = catalog_of(language)
        return lambda key: catalog.pgettext(CONTEXT, WORDS[key])
    column = LANGUAGES.index(language)
    return lambda key: words[key][column]
