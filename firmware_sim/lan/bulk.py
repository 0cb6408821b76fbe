"""Bytes in any amount that are the same each time and differ at every place."""

import hashlib
from collections.abc import Iterator
from random import Random

BULK_BYTES_MAX = 1024**3
# A prime length: blocks fall together with nobody's frames or buffers.
_BLOCK_BYTES = 65_521
_BLOCK = Random("bulk").randbytes(_BLOCK_BYTES - 8)


def bulk(total_bytes: int) -> Iterator[bytes]:
    """So many bytes in blocks; each block opens with its number."""
    for number in range(-(-total_bytes // _BLOCK_BYTES)):
        left_bytes = total_bytes - number * _BLOCK_BYTES
        yield (number.to_bytes(8, "big") + _BLOCK)[:left_bytes]


def bulk_sha256(total_bytes: int) -> str:
    """The SHA-256 of what `bulk` yields, in hex."""
    digest = hashlib.sha256()
    for block in bulk(total_bytes):
        digest.update(block)
    return digest.hexdigest()
