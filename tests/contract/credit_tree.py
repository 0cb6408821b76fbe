"""A small tree of companies with people, in which credits are moved."""

from gateway.domain.instants import day_of, day_text
from tests.contract.world import World

ADMIN, BILLING = "administrator", "billing"
# Who is who, as numbers of people; the operator is 1 and administrator of the distributor.
MID_ADMIN, LOW_ADMIN, OTHER_ADMIN, MID_BILLING = 2, 3, 4, 5


class CreditTree:
    """A distributor, two resellers, and a customer of the first."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.top = world.company("Distributor")
        self.mid = world.company("Reseller", self.top)
        self.other = world.company("Other", self.top)
        self.low = world.company("Customer", self.mid)
        for person, company, role in (
            (MID_ADMIN, self.mid, ADMIN),
            (LOW_ADMIN, self.low, ADMIN),
            (OTHER_ADMIN, self.other, ADMIN),
            (MID_BILLING, self.mid, BILLING),
        ):
            world.one_person(person, company, role)

    def pools(self) -> list[int]:
        """Days of all four, from the top."""
        return [self.world.pools(one) for one in (self.top, self.mid, self.other, self.low)]


def lots(world: World, company: str) -> list[tuple[str | None, bool, int]]:
    """`(expires_on, free, days)` of what a company can spend."""
    shown = world.do("companies.credits", company_id=company)["pools"]
    return [(pool["expires_on"], pool["free"], pool["days"]) for pool in shown]


def day(world: World, days: int) -> str:
    """The day in so many days."""
    return day_text(day_of(world.now_ms) + days)


def notices(world: World, company: str) -> list[str]:
    """What a company's people were told, the newest first."""
    return [one["kind"] for one in world.do("notices.list", company_id=company)["items"]]
