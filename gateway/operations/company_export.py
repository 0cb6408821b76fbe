"""What is stored about a company, for those who administer it: to keep, or to take elsewhere."""

import msgspec

from gateway.domain.instants import instant_text
from gateway.domain.refusals import Code, Refused
from gateway.domain.rights import Right
from gateway.operations.companies import Company, OneCompany, company_row, show
from gateway.operations.credits import Credits, show_credits
from gateway.operations.exporting import ExportDevices, ExportedDevices, export_devices
from gateway.operations.memberships import ListMembers, Member, list_members
from gateway.operations.registry import Call, company_number, operation
from gateway.operations.settings import Settings, show_settings

MEMBERS_AT_ONCE = 500


class CompanyExport(msgspec.Struct):
    """The company itself, without those below: each of them is exported by itself.

    Its ledger, statements, audit and the history of its devices have exports of their own. Of more
    devices than one part holds, `devices.next_cursor` says where `devices.export` goes on.
    """

    at: str
    company: Company
    settings: Settings
    members: list[Member]
    credits: Credits
    devices: ExportedDevices


@operation(
    "companies.export",
    "GET",
    "/companies/{company_id}/export",
    right=Right.MANAGE_COMPANIES,
    result=CompanyExport,
)
def export_company(call: Call, given: OneCompany) -> CompanyExport:
    """Exports a company: settings, members, credits, devices."""
    number = company_number(given.company_id)
    call.require(
        Right.MANAGE_COMPANIES, number, see=Right.SEE_COMPANIES, what="company", reading=True
    )
    for right in (Right.SEE_DEVICES, Right.SEE_CREDITS, Right.INVITE):
        if not call.carried(right, number):
            raise Refused(Code.FORBIDDEN, "It holds everything: this needs a token for `all`.")
    row = company_row(call, number)
    asked = ExportDevices(company=given.company_id, descendants=False, format="json")
    devices = export_devices(call, asked)
    assert isinstance(devices, ExportedDevices)
    return CompanyExport(
        at=instant_text(call.tx.now_ms),
        company=show(call, row),
        settings=show_settings(call, given),
        members=_all_members(call, given.company_id),
        credits=show_credits(call, given),
        devices=devices,
    )


def _all_members(call: Call, company_id: str) -> list[Member]:
    members: list[Member] = []
    cursor = ""
    while True:
        asked = ListMembers(company_id=company_id, limit=MEMBERS_AT_ONCE, cursor=cursor)
        page = list_members(call, asked)
        members += page.items
        if page.next_cursor is None:
            return members
        cursor = page.next_cursor
