"""Whether two host names could share cookies, so that one must not serve strangers' pages.

Browsers let a page set cookies for its registrable domain: what a registry sells, such as
`example.org` or `example.co.uk`. Only the Public Suffix List knows where that begins, and it
changes by the week, so it is not carried along. Taken instead are the last two labels. That errs
on the safe side: it may refuse two names below `co.uk` that belong to different owners, but it
never admits two names of one owner, whatever the list says.
"""

import re
from ipaddress import ip_address

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
# A session's own label, `s-` and 26 characters, and a dot stand before it.
DOMAIN_CHARS_MAX = 253 - 29


def is_domain(text: str) -> bool:
    """A name in lower case that names can stand below; an address is none."""
    return (
        len(text) <= DOMAIN_CHARS_MAX
        and _DOMAIN.fullmatch(text) is not None
        and not is_address(text)
    )


def is_address(host: str) -> bool:
    """An IP literal, in brackets or not; browsers share its cookies with nothing else."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def host_of(netloc: str) -> str:
    """The name in `Host: NAME:PORT`, in lower case and without the root's dot."""
    host = netloc.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].rstrip(".")


def is_below(host: str, domain: str) -> bool:
    """The domain itself, or a name below it."""
    return host == domain or host.endswith("." + domain)


def common_domain(one: str, other: str) -> str:
    """The domain for which pages of both could set cookies; empty where there is none."""
    if is_address(one) or is_address(other):
        return ""
    one, other = host_of(one), host_of(other)
    for domain in (_registrable(one), _registrable(other)):
        if is_below(one, domain) and is_below(other, domain):
            return domain
    return ""


def _registrable(host: str) -> str:
    return ".".join(host.split(".")[-2:])
