"""The file of a backup: a tar of compressed members, written and read in one pass.

Any tar program lists and unpacks it. A member that ends in `.gz` is compressed with gzip; a table
is one JSON array a line. The last member is `manifest.json`: an archive without one was not
finished. Neither side ever holds more than a small part of a member in memory.
"""

import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from gateway.atomic_file import sync_directory

MANIFEST = "manifest.json"
MANIFEST_BYTES_MAX = 16 * 1024 * 1024
FILE_BYTES_MAX = 1024 * 1024
_BLOCK = 512
_PIECE = 256 * 1024
_GZIP = 31  # zlib's number for its own largest window with the header of gzip
_LEVEL = 3  # heartbeats shrink to nearly the same size at 6, in twice the time


class ArchiveError(Exception):
    """The file is no whole backup; the text says what is wrong with it."""


class _Member:
    """What is being written: counted, digested, and compressed where its name says so."""

    def __init__(self, file: BinaryIO, *, compressed: bool) -> None:
        self._file = file
        self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP) if compressed else None
        self._digest = hashlib.sha256()
        self.bytes = 0

    def write(self, content: bytes) -> None:
        self._put(content if self._packer is None else self._packer.compress(content))

    def finish(self) -> str:
        """Its digest, once all is written."""
        if self._packer is not None:
            self._put(self._packer.flush())
        return self._digest.hexdigest()

    def _put(self, content: bytes) -> None:
        self._file.write(content)
        self._digest.update(content)
        self.bytes += len(content)


class ArchiveWriter:
    """Members one after the other, their sizes filled in afterwards."""

    def __init__(self, file: BinaryIO, made_s: int) -> None:
        self._file = file
        self._made_s = made_s
        self.members: dict[str, dict[str, Any]] = {}

    @contextmanager
    def member(self, name: str) -> Iterator[_Member]:
        """Something to write into."""
        head = self._file.tell()
        self._file.write(bytes(_BLOCK))
        member = _Member(self._file, compressed=name.endswith(".gz"))
        yield member
        digest = member.finish()
        self._file.write(bytes(-member.bytes % _BLOCK))
        end = self._file.tell()
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = member.bytes, 0o600, self._made_s
        self._file.seek(head)
        self._file.write(info.tobuf(tarfile.GNU_FORMAT))
        self._file.seek(end)
        self.members[name] = {"bytes": member.bytes, "sha256": digest}

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """The manifest with the digests of all members, and the end of the tar."""
        body = json.dumps({**manifest, "members": dict(self.members)}, indent=1).encode()
        with self.member(MANIFEST) as member:
            member.write(body + b"\n")
        self._file.write(bytes(2 * _BLOCK))


@contextmanager
def new_private_file(path: Path) -> Iterator[BinaryIO]:
    """A file that has this name only once all of it is on the disk; mode 0600."""
    beside = path.with_name(f"{path.name}.part")
    beside.unlink(missing_ok=True)  # of an earlier run that was killed
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


class Archive:
    """A backup that is read."""

    def __init__(self, tar: tarfile.TarFile, path: Path) -> None:
        self._tar = tar
        self._path = path
        self._infos: dict[str, tarfile.TarInfo] = {}
        for info in tar:
            if not info.isreg() or info.name in self._infos:
                raise ArchiveError(f"{path}: {info.name} does not belong into a backup")
            self._infos[info.name] = info
        if MANIFEST not in self._infos:
            raise ArchiveError(f"{path}: no manifest: the backup was not finished, or is no backup")
        try:
            found = json.loads(b"".join(self._pieces(MANIFEST, MANIFEST_BYTES_MAX)))
        except ValueError as error:
            raise ArchiveError(f"{path}: the manifest is damaged") from error
        if not isinstance(found, dict) or not isinstance(found.get("members"), dict):
            raise ArchiveError(f"{path}: the manifest is none of a backup")
        self.manifest: dict[str, Any] = found

    def check(self) -> Iterator[str]:
        """Compares every member with its digest, telling each name. Raises `ArchiveError`."""
        listed = self.manifest["members"]
        if set(listed) | {MANIFEST} != set(self._infos):
            differing = ", ".join(sorted((set(listed) | {MANIFEST}) ^ set(self._infos)))
            raise ArchiveError(f"{self._path}: missing, or too much: {differing}")
        for name, facts in listed.items():
            yield name
            made = hashlib.sha256()
            for piece in self._pieces(name):
                made.update(piece)
            if made.hexdigest() != facts["sha256"]:
                raise ArchiveError(f"{self._path}: {name} is damaged: take another copy")

    def content(self, name: str) -> bytes:
        """A small file."""
        return b"".join(self._pieces(name, FILE_BYTES_MAX))

    def names(self, folder: str) -> list[str]:
        """The members in a folder."""
        return [name for name in self._infos if name.startswith(f"{folder}/")]

    def lines(self, name: str) -> Iterator[bytes]:
        """A compressed member in pieces that end where a line ends."""
        unpacker = zlib.decompressobj(_GZIP)
        rest = b""
        for piece in self._pieces(name):
            while piece:
                unpacked = rest + unpacker.decompress(piece, _PIECE)
                piece = unpacker.unconsumed_tail
                end = unpacked.rfind(b"\n") + 1
                rest = unpacked[end:]
                if end:
                    yield unpacked[:end]
        if unpacked := rest + unpacker.flush():
            yield unpacked
        if not unpacker.eof:
            raise ArchiveError(f"{self._path}: {name} ends too early")

    def _pieces(self, name: str, bytes_max: int | None = None) -> Iterator[bytes]:
        info = self._infos.get(name)
        file = None if info is None else self._tar.extractfile(info)
        if info is None or file is None:
            raise ArchiveError(f"{self._path}: {name} is missing")
        if bytes_max is not None and info.size > bytes_max:
            raise ArchiveError(f"{self._path}: {name} is larger than any of its kind")
        with file:
            while piece := file.read(_PIECE):
                yield piece


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """The backup in a file. Raises `ArchiveError`."""
    try:
        with tarfile.open(path, "r:") as tar:
            yield Archive(tar, path)
    except (tarfile.TarError, zlib.error) as error:
        raise ArchiveError(f"{path}: no backup, or damaged: {error}") from error
