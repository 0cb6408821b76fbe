"""A self-signed certificate such as routers make for themselves at their first start."""

import ssl
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from secrets import randbits

import asyncssh

_FILE = "https.pem"
# A router's clock is not to be trusted, so these are wide.
_NOT_BEFORE, _NOT_AFTER = datetime(2020, 1, 1), datetime(2049, 12, 31)
_INTEGER, _BIT_STRING, _OCTET_STRING, _OID, _UTF8, _UTC_TIME = 2, 3, 4, 6, 12, 23
_SEQUENCE, _SET, _VERSION, _EXTENSIONS, _DNS_NAME, _IP_ADDRESS = 48, 49, 0xA0, 0xA3, 0x82, 0x87
_OID_ECDSA_SHA256 = bytes.fromhex("2a8648ce3d040302")
_OID_COMMON_NAME = bytes.fromhex("550403")
_OID_ALTERNATIVE_NAMES = bytes.fromhex("551d11")


def server_context(folder: Path, hostname: str, addresses: tuple[str, ...]) -> ssl.SSLContext:
    """The TLS server's context, with the certificate kept in this folder."""
    path = folder / _FILE
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_bytes(_key_and_certificate(hostname, addresses))
        new.replace(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def _key_and_certificate(hostname: str, addresses: tuple[str, ...]) -> bytes:
    """PEM of a new key and its certificate.

    The encoding is written out here (RFC 5280) because the simulator has no library for it.
    """
    key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    algorithm = _der(_SEQUENCE, _der(_OID, _OID_ECDSA_SHA256))
    common_name = _der(_SEQUENCE, _der(_OID, _OID_COMMON_NAME), _der(_UTF8, hostname.encode()))
    name = _der(_SEQUENCE, _der(_SET, common_name))
    names = _der(
        _SEQUENCE,
        _der(_DNS_NAME, hostname.encode()),
        *(_der(_IP_ADDRESS, ip_address(one).packed) for one in addresses),
    )
    extension = _der(_SEQUENCE, _der(_OID, _OID_ALTERNATIVE_NAMES), _der(_OCTET_STRING, names))
    signed = _der(
        _SEQUENCE,
        _der(_VERSION, _der(_INTEGER, b"\2")),
        _der(_INTEGER, b"\1" + randbits(120).to_bytes(15, "big")),
        algorithm,
        name,
        _der(_SEQUENCE, _time(_NOT_BEFORE), _time(_NOT_AFTER)),
        name,
        key.export_public_key("pkcs8-der"),
        _der(_EXTENSIONS, _der(_SEQUENCE, extension)),
    )
    signature = _der(_BIT_STRING, b"\0", key.sign_raw(signed, "sha256"))
    certificate = ssl.DER_cert_to_PEM_cert(_der(_SEQUENCE, signed, algorithm, signature))
    return key.export_private_key("pkcs8-pem") + certificate.encode()


def _time(moment: datetime) -> bytes:
    return _der(_UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    length = len(body)
    if length < 128:
        return bytes((tag, length)) + body
    long = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 128 + len(long))) + long + body
