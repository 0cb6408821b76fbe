"""Between which companies credits may be moved, and by which way."""

from collections.abc import Collection, Sequence


def way(source: Sequence[int], target: Sequence[int]) -> tuple[int, ...] | None:
    """The companies whose pools the days pass, from the source to the target.

    Each path begins with the company and ends with its root. Between two that are not one above
    the other the days pass the nearest company above both, so that each of them sees its own half.
    None when they are in different trees.
    """
    above_target = set(target)
    common = next((company for company in source if company in above_target), None)
    if common is None:
        return None
    passed = [source[0]]
    for company in (common, target[0]):
        if company != passed[-1]:
            passed.append(company)
    return tuple(passed)


def is_down(source: Sequence[int], target: Sequence[int]) -> bool:
    """Whether the days go to a company below their own."""
    return source[0] in target


def is_own(member_of: Collection[int], source: Sequence[int]) -> bool:
    """Whether the caller decides about credits that the source redeemed itself.

    Nobody from above gets hold of them; above a root company there is nobody.
    """
    return source[0] in member_of or len(source) == 1
