"""The spool's file: length, CRC and body of each record, appended with one write each.

A record is in the file whole or not at all: the kernel keeps what was written when the process is
killed, and a last record that was cut off anyway is recognised by its CRC and taken away.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from agent.sample_pack import PACKED_BYTES_MAX

_FRAME = struct.Struct("<II")  # length of the body, CRC-32 of the body
_BOOT = struct.Struct("<BHBq")
_RUN = struct.Struct("<BHH11s")
_SAMPLE = struct.Struct("<BHIQ")
_GONE = struct.Struct("<BHQQ")
_PAIR = struct.Struct("<II")
_KIND_BOOT, _KIND_RUN, _KIND_SAMPLE, _KIND_GONE = 1, 2, 3, 4
RECORD_BYTES_MAX = 64 * 1024
_PAIRS_MAX = 4_096
_READ_BYTES = 64 * 1024
_FILE_MODE = 0o600

assert _FRAME.size + _SAMPLE.size + PACKED_BYTES_MAX < RECORD_BYTES_MAX


class BootRecord(NamedTuple):
    """One boot of the system; wall clock = boot-time clock + `offset_ms`, if it was ever known."""

    slot: int
    boot_id: str
    offset_ms: int | None


class RunRecord(NamedTuple):
    """One life of the agent's counter, and the boot in which it was lived."""

    slot: int
    run: str
    boot: int


class SampleRecord(NamedTuple):
    """One sample; `packed` holds its values."""

    run: int
    number: int
    boot_ms: int
    packed: bytes


class GoneRecord(NamedTuple):
    """Numbers of a run that the spool holds no more, and the totals after that."""

    run: int
    dropped: int
    refused: int
    ranges: tuple[tuple[int, int], ...]


Record = BootRecord | RunRecord | SampleRecord | GoneRecord


def encode(record: Record) -> bytes:
    """The record as it stands in the file."""
    if isinstance(record, SampleRecord):
        head = _SAMPLE.pack(_KIND_SAMPLE, record.run, record.number, record.boot_ms)
        body = head + record.packed
    elif isinstance(record, GoneRecord):
        assert len(record.ranges) <= _PAIRS_MAX
        head = _GONE.pack(_KIND_GONE, record.run, record.dropped, record.refused)
        body = head + b"".join(_PAIR.pack(*pair) for pair in record.ranges)
    elif isinstance(record, RunRecord):
        body = _RUN.pack(_KIND_RUN, record.slot, record.boot, record.run.encode())
    else:
        known = record.offset_ms is not None
        head = _BOOT.pack(_KIND_BOOT, record.slot, known, record.offset_ms or 0)
        body = head + record.boot_id.encode()
    assert len(body) <= RECORD_BYTES_MAX
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def decode(body: bytes) -> Record | None:
    """The record of a body whose CRC was right; None for a kind of a later version."""
    try:
        kind = body[0]
        if kind == _KIND_SAMPLE:
            _, run, number, boot_ms = _SAMPLE.unpack_from(body)
            return SampleRecord(run, number, boot_ms, body[_SAMPLE.size :])
        if kind == _KIND_GONE:
            _, run, dropped, refused = _GONE.unpack_from(body)
            return GoneRecord(run, dropped, refused, tuple(_PAIR.iter_unpack(body[_GONE.size :])))
        if kind == _KIND_RUN:
            _, slot, boot, text = _RUN.unpack(body)
            return RunRecord(slot, text.decode(), boot)
        if kind == _KIND_BOOT:
            _, slot, known, offset_ms = _BOOT.unpack_from(body)
            return BootRecord(slot, body[_BOOT.size :].decode(), offset_ms if known else None)
    except (struct.error, UnicodeDecodeError, IndexError):
        return None
    return None


def gone_records(
    run: int, dropped: int, refused: int, ranges: list[tuple[int, int]]
) -> Iterator[GoneRecord]:
    """As many records as the ranges need; the totals stand in the last one."""
    for at in range(0, len(ranges), _PAIRS_MAX):
        yield GoneRecord(run, dropped, refused, tuple(ranges[at : at + _PAIRS_MAX]))


class SpoolFile:
    """An append-only file of records that knows where its good part ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        self.size = 0

    def scan(self) -> Iterator[tuple[int, Record]]:
        """Every good record with its offset; then cuts off what is behind the last one."""
        position, pending = 0, b""
        while chunk := os.pread(self._descriptor, _READ_BYTES, position + len(pending)):
            pending += chunk
            at = 0
            while len(pending) - at >= _FRAME.size:
                length, crc = _FRAME.unpack_from(pending, at)
                if not 0 < length <= RECORD_BYTES_MAX:
                    break
                end = at + _FRAME.size + length
                if end > len(pending):
                    break
                body = pending[at + _FRAME.size : end]
                if zlib.crc32(body) != crc:
                    break
                record = decode(body)
                if record is not None:
                    yield position + at, record
                at = end
            if at == 0 and len(pending) > _FRAME.size + RECORD_BYTES_MAX:
                break  # Not a record, however much more is read.
            position, pending = position + at, pending[at:]
        self.size = position
        os.ftruncate(self._descriptor, position)

    def append(self, *records: Record) -> int:
        """Writes the records with one call; returns the offset of the first. Raises `OSError`."""
        data = b"".join(encode(record) for record in records)
        offset = self.size
        try:
            written = os.pwrite(self._descriptor, data, offset)
            if written != len(data):
                raise OSError(f"wrote {written} of {len(data)} bytes: no room for the spool")
        except OSError:
            # Half a record in the middle would hide everything behind it at the next start.
            os.ftruncate(self._descriptor, offset)
            raise
        self.size = offset + len(data)
        return offset

    def read_sample(self, offset: int) -> SampleRecord | None:
        """The sample at an offset of the index; None when the file was damaged from outside."""
        data = os.pread(self._descriptor, 512, offset)
        if len(data) < _FRAME.size:
            return None
        length, crc = _FRAME.unpack_from(data)
        end = _FRAME.size + length
        if length > RECORD_BYTES_MAX:
            return None
        if end > len(data):
            data = os.pread(self._descriptor, end, offset)
        body = data[_FRAME.size : end]
        record = decode(body) if zlib.crc32(body) == crc else None
        return record if isinstance(record, SampleRecord) else None

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._descriptor)


def write_file(path: Path, records: Iterable[Record], *, durable: bool) -> None:
    """A whole new file, put in place in one step; `durable` for storage that outlives power."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _FILE_MODE)
    with os.fdopen(descriptor, "wb", _READ_BYTES) as file:
        for record in records:
            file.write(encode(record))
        file.flush()
        if durable:
            os.fsync(file.fileno())
    os.replace(beside, path)
    if durable:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Makes a renaming in the directory outlive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
