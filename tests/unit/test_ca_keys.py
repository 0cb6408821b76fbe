"""The installation's keys: made once, kept, renewed when due, refused when loose."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.join import ca
from gateway.join.ca import KeyFileError, KeyFiles, prepare_keys

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NAMES = ("fleet.example.org", "192.0.2.7")


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def contents(files: KeyFiles) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in files.folder.iterdir()}


def test_a_first_start_makes_all_and_a_second_changes_nothing(tmp_path: Path) -> None:
    files = prepare_keys(tmp_path / "keys", NAMES, NOW)
    made = contents(files)
    pairs = {"ca.pem", "ca.key", "server.pem", "server.key", "relay.pem", "relay.key"}
    assert set(made) == {"master.key", *pairs}
    assert len(ca.read_master_key(files)) == 32
    assert files.folder.stat().st_mode & 0o777 == 0o700
    for path in (files.master, files.ca_key, files.server_key, files.relay.key):
        assert path.stat().st_mode & 0o777 == 0o600, path.name
    prepare_keys(tmp_path / "keys", NAMES, NOW + timedelta(days=300))
    assert contents(files) == made
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys"]


def test_the_certificates_say_what_they_are_for(tmp_path: Path) -> None:
    files = prepare_keys(tmp_path / "keys", NAMES, NOW)
    authority = certificate(files.ca_certificate)
    assert authority.not_valid_before_utc == NOW - timedelta(days=1)
    assert authority.not_valid_after_utc >= NOW + timedelta(days=7300)
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert constraints.ca and constraints.path_length == 0
    server = certificate(files.server_certificate)
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "fleet.example.org"]
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["127.0.0.1", "::1", "192.0.2.7"]
    # Agents know the relay by a name of its own, which no other listener can show.
    relay = certificate(files.relay.certificate)
    relay.verify_directly_issued_by(authority)
    names = relay.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("link.fleetgate")]
    (purpose,) = relay.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert purpose == ExtendedKeyUsageOID.SERVER_AUTH
    assert relay.public_key() != server.public_key()


SERVER = {"server.pem", "server.key"}
BOTH = {*SERVER, "relay.pem", "relay.key"}
RENEWALS: list[tuple[str, timedelta, tuple[str, ...], set[str]]] = [
    ("same", timedelta(0), NAMES, set()),
    ("long before its end", ca.SERVER_LIFE - timedelta(days=31), NAMES, set()),
    ("in its last 30 days", ca.SERVER_LIFE - timedelta(days=30), NAMES, BOTH),
    ("after its end", ca.SERVER_LIFE + timedelta(days=1), NAMES, BOTH),
    ("other order of names", timedelta(0), NAMES[::-1], set()),
    ("one name more", timedelta(0), (*NAMES, "other.example.org"), SERVER),
    ("one name less", timedelta(0), NAMES[:1], SERVER),
    ("clock far behind", -timedelta(days=2), NAMES, BOTH),
]


@pytest.mark.parametrize(("case", "later", "names", "renewed"), RENEWALS)
def test_only_the_listeners_certificates_are_renewed(
    case: str, later: timedelta, names: tuple[str, ...], renewed: set[str], tmp_path: Path
) -> None:
    files = prepare_keys(tmp_path / "keys", NAMES, NOW)
    made = contents(files)
    prepare_keys(tmp_path / "keys", names, NOW + later)
    after = contents(files)
    changed = {name for name in made if made[name] != after[name]}
    assert changed == renewed, case


def test_a_pair_that_does_not_fit_is_made_anew(tmp_path: Path) -> None:
    files = prepare_keys(tmp_path / "keys", NAMES, NOW)
    other = prepare_keys(tmp_path / "other", NAMES, NOW)
    files.server_key.write_bytes(other.server_key.read_bytes())
    prepare_keys(tmp_path / "keys", NAMES, NOW)
    server = certificate(files.server_certificate)
    server.verify_directly_issued_by(certificate(files.ca_certificate))
    assert files.server_key.read_bytes() != other.server_key.read_bytes()


def _loosen(files: KeyFiles) -> None:
    files.master.chmod(0o640)


def _shorten(files: KeyFiles) -> None:
    files.master.write_bytes(b"short")


def _lose_master(files: KeyFiles) -> None:
    files.master.unlink()


def _lose_ca_key(files: KeyFiles) -> None:
    files.ca_key.unlink()


def _lose_ca(files: KeyFiles) -> None:
    files.ca_certificate.unlink()


def _spoil(files: KeyFiles) -> None:
    files.ca_key.write_text("not a key")


def _swap_ca_key(files: KeyFiles) -> None:
    files.ca_key.write_bytes(files.server_key.read_bytes())


def _loosen_ca_key(files: KeyFiles) -> None:
    files.ca_key.chmod(0o604)


FAULTS: list[tuple[Callable[[KeyFiles], None], str]] = [
    (_loosen, r"master\.key is open to others \(mode 0640\): chmod 0600"),
    (_shorten, r"must hold 32 bytes, not 5"),
    (_lose_master, r"master\.key missing: restore it from a backup"),
    (_lose_ca_key, r"ca\.key missing"),
    (_lose_ca, r"ca\.pem missing"),
    (_spoil, r"ca\.key is not a private key"),
    (_swap_ca_key, r"does not belong to"),
    (_loosen_ca_key, r"ca\.key is open to others"),
]


@pytest.mark.parametrize(("spoil", "words"), FAULTS)
def test_nothing_starts_with_keys_that_are_missing_or_open(
    spoil: Callable[[KeyFiles], None], words: str, tmp_path: Path
) -> None:
    files = prepare_keys(tmp_path / "keys", NAMES, NOW)
    spoil(files)
    before = contents(files)
    with pytest.raises(KeyFileError, match=words):
        prepare_keys(tmp_path / "keys", NAMES, NOW)
    assert contents(files) == before


def test_a_name_that_no_certificate_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="not a host name"):
        prepare_keys(tmp_path / "keys", ["füchse.example"], NOW)
