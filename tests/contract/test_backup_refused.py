"""What is no whole backup restores nothing, and what is interrupted leaves nothing behind."""

import gzip
import hashlib
import io
import json
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.command import backup, restore
from gateway.command.restore import UNFINISHED
from tests.contract.backups import back_up, fail, restored
from tests.contract.lived import change

pytestmark = pytest.mark.either_engine


def test_nothing_that_exists_is_overwritten(
    data: Path, tmp_path: Path, new_database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = back_up(data)
    taken = out.read_bytes()
    assert "exists already" in fail(capsys, backup.main, "--data", data, "--out", out)
    assert out.read_bytes() == taken
    words = ["--from", out, "--data"]
    assert "not empty" in fail(capsys, restore.main, *words, data)
    more = ["--database", new_database] if new_database else []
    if new_database:
        change(new_database, "CREATE TABLE somebody (id integer)")
        assert "createdb" in fail(capsys, restore.main, *words, tmp_path / "new", *more)
        assert not list((tmp_path / "new").iterdir())


def damaged(out: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The same archive with other members."""
    with tarfile.open(out) as tar:
        members = {info.name: (tar.extractfile(info) or io.BytesIO()).read() for info in tar}
    change(members)
    path = out.with_name("damaged.tar")
    with tarfile.open(path, "w") as tar:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return path


def _other_bytes(members: dict[str, bytes]) -> None:
    members["tables/transfer.jsonl.gz"] = gzip.compress(b"[]\n")


def _redigested(members: dict[str, bytes], name: str, body: bytes) -> None:
    manifest = json.loads(members["manifest.json"])
    members[name] = body
    manifest["members"][name] = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    members["manifest.json"] = json.dumps(manifest).encode()


def _one_row_less(members: dict[str, bytes]) -> None:
    name = "tables/transfer.jsonl.gz"
    lines = gzip.decompress(members[name]).splitlines(keepends=True)
    _redigested(members, name, gzip.compress(b"".join(lines[:-1])))


def _another_ledger(members: dict[str, bytes]) -> None:
    name = "tables/transfer.jsonl.gz"
    text = gzip.decompress(members[name])
    _redigested(members, name, gzip.compress(text.replace(b"user:1", b"user:2")))


def _climbs_out(members: dict[str, bytes]) -> None:
    _redigested(members, "files/../../escaped", b"1")


def _of_the_future(members: dict[str, bytes]) -> None:
    manifest = json.loads(members["manifest.json"])
    members["manifest.json"] = json.dumps({**manifest, "schema": "9999"}).encode()


DAMAGED = [
    # what was done to the archive                               said
    (_other_bytes, "damaged"),
    (lambda members: members.pop("manifest.json"), "no manifest"),
    (lambda members: members.pop("tables/device.jsonl.gz"), "missing"),
    (lambda members: members.update({"tables/more.jsonl.gz": b""}), "too much"),
    (_one_row_less, "rows"),
    (_another_ledger, "digest"),
    (_climbs_out, "no place"),
    (_of_the_future, "does not know"),
]


@pytest.mark.parametrize(("harm", "said"), DAMAGED)
def test_a_damaged_backup_restores_nothing(
    data: Path,
    tmp_path: Path,
    new_database: str,
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[dict[str, bytes]], None],
    said: str,
) -> None:
    bad = damaged(back_up(data), harm)
    target = tmp_path / "target"
    more = ["--database", new_database] if new_database else []
    assert said in fail(capsys, restore.main, "--from", bad, "--data", target, *more)
    assert not target.exists() or not list(target.iterdir())
    assert not (tmp_path / "escaped").exists() and not (target.parent / "escaped").exists()
    if new_database:
        # Nothing is left in the database either: the whole backup fits in.
        restored(tmp_path / "backup.tar", new_database)


def test_a_file_that_is_cut_off_is_no_backup(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = back_up(data).read_bytes()
    cut = tmp_path / "cut.tar"
    for size in (0, 100, 512, len(whole) // 2, len(whole) - 2_000):
        cut.write_bytes(whole[:size])
        fail(capsys, restore.main, "--from", cut, "--data", tmp_path / "target")


def test_a_backup_that_fails_leaves_no_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(backup, "read_table", broken)
    with pytest.raises(KeyboardInterrupt):
        backup.main(["--data", str(data), "--out", str(tmp_path / "out.tar")])
    assert not list(tmp_path.glob("out.tar*"))


def test_a_restore_that_is_interrupted_leaves_nothing_that_looks_finished(
    data: Path, tmp_path: Path, new_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = back_up(data)
    target = tmp_path / "target"
    words = ["--from", str(out), "--data", str(target)]
    words += ["--database", new_database] if new_database else []
    with monkeypatch.context() as patched:
        patched.setattr(restore, "void", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            restore.main(words)
    assert not list(target.iterdir())
    assert restore.main(words) == 0


KILLED = """
import os, signal, sys
from gateway.command import restore
restore.void = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
restore.main(sys.argv[1:])
"""


def test_a_restore_that_is_killed_leaves_an_empty_database(
    data: Path, tmp_path: Path, new_database: str
) -> None:
    out = back_up(data)
    target = tmp_path / "killed"
    words = ["--from", out, "--data", target]
    words += ["--database", new_database] if new_database else []
    ended = subprocess.run([sys.executable, "-c", KILLED, *map(str, words)], timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert [path.name for path in target.iterdir()] == [UNFINISHED]
    restored(out, new_database)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt
