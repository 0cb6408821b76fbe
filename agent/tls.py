"""TLS of the device: one pinned CA and nothing else that the system trusts."""

import ssl
from pathlib import Path

# OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python's `ssl` does not name but hands through: the
# chain, the names and the signatures are checked as ever, only the dates are not.
_NO_CHECK_TIME = 0x200000


def device_context(
    *, ca_file: Path | None = None, ca_pem: str | None = None, check_dates: bool
) -> ssl.SSLContext:
    """Trusts this CA alone and checks the server's name.

    Without `check_dates`, certificates outside their validity are accepted too. That is for a
    device whose clock is before the agent's build date, so that it is known to be wrong: it could
    not join or connect if it had to believe it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=ca_file, cadata=ca_pem)
    if not check_dates:
        context.verify_flags = ssl.VerifyFlags(int(context.verify_flags) | _NO_CHECK_TIME)
    return context


def unverified_context() -> ssl.SSLContext:
    """For fetching the CA certificate alone, whose digest the join string carries."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
