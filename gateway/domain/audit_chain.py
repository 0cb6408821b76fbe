"""The chain of the audit: each entry's hash covers the entry and the hash before it."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import NamedTuple

GENESIS = bytes(32)  # what the first entry follows
SALT_BYTES = 16
UNSEALED_MS_MAX = 60_000  # by then each entry is in the chain
# What an entry consists of, in the order in which it is covered.
COLUMNS = (
    "id",
    "at",
    "actor",
    "owner_id",
    "verb",
    "company_id",
    "device_id",
    "serial",
    "subject",
    "detail",
    "digests",
)
_HEAD = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")


class Head(NamedTuple):
    """The newest link of the chain, as it was at some instant: noted elsewhere, it proves that
    nothing before it was changed or taken away since."""

    position: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.position}:{self.hash.hex()}"


def head_of(text: str) -> Head:
    """A head as `str` wrote it. Raises `ValueError`."""
    found = _HEAD.fullmatch(text.strip())
    if found is None:
        raise ValueError("not a head of the audit: POSITION:HASH, with 64 hexadecimal digits")
    return Head(int(found[1]), bytes.fromhex(found[2]))


def canonical(values: tuple[object, ...]) -> bytes:
    """The bytes of an entry; `values` are those of `COLUMNS`."""
    return json.dumps(list(values), ensure_ascii=False, separators=(",", ":")).encode()


def next_hash(before: bytes, entry: bytes) -> bytes:
    """The hash of an entry that follows this hash."""
    return hashlib.sha256(before + entry).digest()


def digest_of(salt: bytes, value: str) -> str:
    """What the chain covers of a personal value; without the salt nobody can try values out."""
    return hashlib.sha256(salt + value.encode()).hexdigest()


def misplaced(
    wrong: Mapping[int, tuple[bytes, bytes, bytes]],
) -> dict[int, int]:
    """Of positions whose hash is wrong those that hold an entry of another one of them.

    `wrong`: by position the hash before, the entry that lies there, and the hash that is stored.
    """
    found = {}
    for position, (before, _, stored) in wrong.items():
        for other, (_, entry, _) in wrong.items():
            if other != position and next_hash(before, entry) == stored:
                found[position] = other
                break
    return found
