"""The installation's keys: own CA, the certificates of the listeners for devices, master.key."""

import hashlib
import ipaddress
import os
import secrets
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.atomic_file import PRIVATE_FILE_MODE, write_atomically
from wire.hello import LINK_NAME

MASTER_KEY_BYTES = 32
CA_LIFE = timedelta(days=20 * 365)
SERVER_LIFE = timedelta(days=825)
RENEWED_BEFORE = timedelta(days=30)
# Devices' clocks run behind, and so do a freshly started machine's.
BACKDATED = timedelta(days=1)
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
KEY_FILE_BYTES_MAX = 64 * 1024
_PUBLIC_FILE_MODE = 0o644
_LOOSE_MODE = 0o077


class KeyFileError(Exception):
    """A key file is missing, unreadable or open to others; nothing starts until that is mended."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate by the own CA, and its key; both are made anew when they do not fit."""

    certificate: Path
    key: Path
    common_name: str


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """The files in `keys/`."""

    folder: Path

    @property
    def master(self) -> Path:
        return self.folder / "master.key"

    @property
    def ca_certificate(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def ca_key(self) -> Path:
        return self.folder / "ca.key"

    @property
    def server_certificate(self) -> Path:
        return self.server.certificate

    @property
    def server_key(self) -> Path:
        return self.server.key

    @property
    def tickets(self) -> Path:
        """Folder of the keys that sign tickets."""
        return self.folder / "tickets"

    @property
    def server(self) -> Pair:
        """Of the MQTT server and of the listener where devices join."""
        return Pair(self.folder / "server.pem", self.folder / "server.key", "Fleetgate server")

    @property
    def relay(self) -> Pair:
        """Of the relay, where devices dial it."""
        return Pair(self.folder / "relay.pem", self.folder / "relay.key", "Fleetgate relay")


def prepare_keys(folder: Path, names: Iterable[str], now: datetime) -> KeyFiles:
    """Makes what is absent, renews certificates when due, and refuses loose files."""
    files = KeyFiles(folder)
    lasting = (files.master, files.ca_certificate, files.ca_key)
    missing = [path.name for path in lasting if not path.exists()]
    if len(missing) == len(lasting):
        _make_lasting(folder, now)
    elif missing:
        # A new one in its place would lock out every device; only a backup helps.
        raise KeyFileError(f"{folder}: {', '.join(missing)} missing: restore it from a backup")
    read_master_key(files)
    ca_key = _load_key(files.ca_key)
    ca = _load_certificate(files.ca_certificate)
    if _spki(ca_key) != _certificate_spki(ca):
        raise KeyFileError(f"{files.ca_key} does not belong to {files.ca_certificate}")
    if ca.not_valid_after_utc <= now:
        raise KeyFileError(f"{files.ca_certificate} has expired")
    for pair, wanted in ((files.server, server_names(names)), (files.relay, (LINK_NAME,))):
        if not _fits(pair, ca, wanted, now):
            _make_pair(pair, ca, ca_key, wanted, now)
    return files


def server_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names in the server's certificate: loopback always, then the public ones."""
    return tuple(dict.fromkeys([*LOOPBACK_NAMES, *(name for name in names if name)]))


def read_master_key(files: KeyFiles) -> bytes:
    """The 32 bytes that encrypt what the database must not show."""
    key = read_private(files.master)
    if len(key) != MASTER_KEY_BYTES:
        raise KeyFileError(f"{files.master} must hold {MASTER_KEY_BYTES} bytes, not {len(key)}")
    return key


def ca_digest(files: KeyFiles) -> bytes:
    """SHA-256 of the CA's DER, as join strings carry it."""
    certificate = _load_certificate(files.ca_certificate)
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()


def _make_lasting(folder: Path, now: datetime) -> None:
    """All lasting files appear in one step: a crash half-way leaves none, not some."""
    beside = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")
    beside.mkdir(mode=0o700)
    try:
        files = KeyFiles(beside)
        key = ec.generate_private_key(ec.SECP256R1())
        write_atomically(files.ca_key, _key_pem(key))
        certificate = _make_ca(key, now)
        write_atomically(
            files.ca_certificate, certificate.public_bytes(Encoding.PEM), mode=_PUBLIC_FILE_MODE
        )
        write_atomically(files.master, secrets.token_bytes(MASTER_KEY_BYTES))
        os.rename(beside, folder)  # replaces an empty folder, refuses any other
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise KeyFileError(f"cannot make {folder}: {error.strerror}") from error


def _make_ca(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    # The random part keeps two installations apart in one trust store.
    name = _name(f"Fleetgate CA {secrets.token_hex(4)}")
    public = key.public_key()
    return (
        _builder(name, name, public, now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _make_pair(
    pair: Pair,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...],
    now: datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    life = min(SERVER_LIFE, ca.not_valid_after_utc - now)
    certificate = (
        _builder(_name(pair.common_name), ca.subject, key.public_key(), now, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    # A crash between the two leaves a pair that does not fit, which is made anew at next start.
    write_atomically(pair.key, _key_pem(key))
    write_atomically(
        pair.certificate, certificate.public_bytes(Encoding.PEM), mode=_PUBLIC_FILE_MODE
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _fits(pair: Pair, ca: x509.Certificate, names: tuple[str, ...], now: datetime) -> bool:
    if not (pair.certificate.exists() and pair.key.exists()):
        return False
    certificate = _load_certificate(pair.certificate)
    key = _load_key(pair.key)
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return (
        _spki(key) == _certificate_spki(certificate)
        and certificate.issuer == ca.subject
        and set(alternative.value) == {_general_name(name) for name in names}
        and certificate.not_valid_after_utc - now > RENEWED_BEFORE
        and certificate.not_valid_before_utc <= now
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass  # then it is a host name
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise KeyFileError(f"not a host name for a certificate: {name!r}") from error


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _certificate_spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"{path} is not a private key without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyFileError(f"{path} is not an elliptic-curve key")
    return key


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError as error:
        raise KeyFileError(f"{path} is not a certificate") from error


def read_private(path: Path) -> bytes:
    try:
        status = path.stat()
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    if status.st_mode & _LOOSE_MODE:
        raise KeyFileError(
            f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}):"
            f" chmod {PRIVATE_FILE_MODE:04o} {path}"
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyFileError(f"{path} belongs to user id {status.st_uid}: chown it to yourself")
    return _read(path)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(KEY_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    if len(content) > KEY_FILE_BYTES_MAX:
        raise KeyFileError(f"{path} is larger than {KEY_FILE_BYTES_MAX} bytes")
    return content
