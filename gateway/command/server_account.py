"""Which unix user the MQTT server runs as, tried for real, and what belongs to it."""

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gateway.atomic_file import write_atomically

SERVER_USER = "mosquitto"
TRIAL_S_MAX = 5.0
_FOLDER_MODE = 0o700
_TRAVERSABLE_MODE = 0o710


@dataclass(frozen=True, slots=True)
class ServerAccount:
    """`name` is empty when the server runs as whoever started `up`; then `why` may say why."""

    name: str = ""
    ids: tuple[int, int] | None = None
    why: str = ""


def choose_account(data: Path, server_folder: Path) -> ServerAccount:
    """Prepares both folders, and finds out whether the MQTT server's own user can work there."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    server_folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return ServerAccount()
    try:
        entry = pwd.getpwnam(SERVER_USER)
    except KeyError:
        return _as_root(data, server_folder, f"there is no user {SERVER_USER}")
    ids = (entry.pw_uid, entry.pw_gid)
    # Only that user's group can pass through, and it cannot list.
    _tighten(data, entry.pw_gid, _TRAVERSABLE_MODE)
    own_files(server_folder, ids)
    refusal = _try(server_folder, ids)
    if refusal:
        return _as_root(data, server_folder, refusal)
    return ServerAccount(SERVER_USER, ids)


def own_files(folder: Path, ids: tuple[int, int]) -> None:
    """Gives the folder and the files in it to these ids, and closes them to all others."""
    os.chown(folder, *ids)
    folder.chmod(_FOLDER_MODE)
    for path in folder.iterdir():
        if not path.is_symlink():
            os.chown(path, *ids)


def _as_root(data: Path, server_folder: Path, why: str) -> ServerAccount:
    own_files(server_folder, (os.geteuid(), os.getegid()))
    _tighten(data, os.getegid(), _FOLDER_MODE)
    return ServerAccount(why=why)


def _tighten(data: Path, group: int, mode: int) -> None:
    status = data.stat()
    if status.st_uid != os.geteuid() or status.st_mode & stat.S_ISVTX:
        return  # a shared folder such as /tmp is not ours to close
    os.chown(data, status.st_uid, group)
    data.chmod(mode)


def _try(folder: Path, ids: tuple[int, int]) -> str:
    """Why that user cannot work in the folder, found by letting it write there; or nothing."""
    trial = folder / ".trial"
    touch = shutil.which("touch") or "/bin/touch"
    try:
        done = subprocess.run(
            [touch, str(trial)],
            user=ids[0],
            group=ids[1],
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=TRIAL_S_MAX,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"cannot start a program as user {SERVER_USER}: {error}"
    trial.unlink(missing_ok=True)
    if done.returncode:
        return f"user {SERVER_USER} cannot reach {folder}: {done.stderr.strip()}"
    return ""


def hand_over(source: Path, target: Path, account: ServerAccount) -> None:
    """A copy of a key or certificate that the server can read itself, also when it re-reads it."""
    write_atomically(target, source.read_bytes(), owner=account.ids)
