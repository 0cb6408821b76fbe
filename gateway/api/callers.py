"""What a request says about its caller: address, credential, cookie, and where it was made."""

import hmac
import ipaddress
import socket
from urllib.parse import urlsplit

from aiohttp import web

from gateway.command.sections import HttpSection
from gateway.domain.refusals import Code, Refused
from gateway.people.authentication import NO_CREDENTIAL, Credential, Identity, Means
from gateway.people.sign_ins import ABSOLUTE_MS

SECURE_COOKIE = "__Host-fleetgate"
PLAIN_COOKIE = "fleetgate"  # over HTTP on loopback browsers refuse the prefix
CSRF_HEADER = "X-CSRF-Token"
LOCAL = "local"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
IPV6_NETWORK_BITS = 64  # one customer has at least so many addresses


def came_by_admin_socket(request: web.BaseRequest) -> bool:
    """Whether the request came over the unix socket in the data directory."""
    transport = request.transport
    sock = None if transport is None else transport.get_extra_info("socket")
    return sock is not None and sock.family == socket.AF_UNIX


def client_address(request: web.BaseRequest, http: HttpSection) -> str:
    """Whose attempts are counted together: an IPv4 address, an IPv6 network, or `local`."""
    if came_by_admin_socket(request):
        return LOCAL
    text = request.remote or ""
    if http.behind_proxy:
        # The last entry is the proxy's own; what stands before it, the client may have written.
        text = request.headers.get("X-Forwarded-For", text).rpartition(",")[2].strip()
    return address_group(text)


def address_group(text: str) -> str:
    """The address, or of IPv6 the network."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address) and not address.is_loopback:
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, IPV6_NETWORK_BITS), strict=False))
    return str(address)


def is_secure(request: web.BaseRequest, http: HttpSection) -> bool:
    """Whether the browser speaks TLS, to us or to the proxy in front."""
    if http.behind_proxy:
        return request.headers.get("X-Forwarded-Proto", "https") != "http"
    return http.certificate_file is not None


def cookie_name(request: web.BaseRequest, http: HttpSection) -> str:
    return SECURE_COOKIE if is_secure(request, http) else PLAIN_COOKIE


def credential_of(request: web.BaseRequest, http: HttpSection) -> Credential:
    """What the caller shows. Raises `Refused` for another scheme than Bearer."""
    header = request.headers.get("Authorization")
    if header is not None:
        scheme, _, token = header.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refused(Code.SIGNED_OUT, "Send `Authorization: Bearer …` with an API token.")
        return Credential(Means.BEARER, token.strip())
    if came_by_admin_socket(request):
        return Credential(Means.ADMIN_SOCKET)
    token = request.cookies.get(cookie_name(request, http), "")
    return Credential(Means.COOKIE, token) if token else NO_CREDENTIAL


def check_same_origin(request: web.BaseRequest, http: HttpSection) -> None:
    """Refuses what a page of another site made a browser send."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        raise Refused(Code.FORBIDDEN, "This request was made by a page of another site.")
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc not in (
        request.host,
        urlsplit(http.url).netloc,
    ):
        raise Refused(
            Code.FORBIDDEN,
            "This request was made by a page of another site. (If this is your own address, "
            "set http.public_url to it.)",
        )


def check_csrf(
    request: web.BaseRequest, http: HttpSection, identity: Identity, token: str | None = None
) -> None:
    """A cookie alone changes nothing: the page that acts must show its token as well."""
    if identity.csrf is None or request.method in SAFE_METHODS:
        return
    check_same_origin(request, http)
    shown = token if token is not None else request.headers.get(CSRF_HEADER, "")
    if not hmac.compare_digest(shown.encode(errors="surrogateescape"), identity.csrf.encode()):
        raise Refused(Code.FORBIDDEN, f"A sign-in by cookie sends its CSRF token as {CSRF_HEADER}.")


def set_cookie(
    request: web.BaseRequest, response: web.StreamResponse, http: HttpSection, token: str
) -> None:
    """Gives the browser a new sign-in."""
    secure = is_secure(request, http)
    response.set_cookie(
        cookie_name(request, http),
        token,
        path="/",
        secure=secure,
        httponly=True,
        samesite="Lax",
        max_age=ABSOLUTE_MS // 1000,
    )


def drop_cookie(request: web.BaseRequest, response: web.StreamResponse, http: HttpSection) -> None:
    """Takes it away again."""
    response.set_cookie(
        cookie_name(request, http),
        "",
        path="/",
        secure=is_secure(request, http),
        httponly=True,
        samesite="Lax",
        max_age=0,
    )
