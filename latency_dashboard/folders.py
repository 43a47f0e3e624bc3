"""The folders below DATA_DIR, and whom the servers that use them run as.

Needs the standard library alone, because settings ask before anything runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import re
import stat
from pathlib import Path

from latency_dashboard.supervisor import User

POSTGRES_PORT = "5432"  # no port, but a part of the socket's name

# sockaddr_un holds 108 bytes on Linux and 104 on macOS, with the zero at the end.
_LONGEST_SOCKET_PATH = 103
# What needs no quoting in any of the URLs.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")


class EmbeddedError(Exception):
    """An embedded server cannot run here. The message tells a person why and what to do."""


def default_data_dir(project_dir: Path) -> Path:
    """The folder for data where DATA_DIR is unset: `.data` in the project.

    As root PostgreSQL runs as nobody; where nobody cannot enter the project's folder (a clone in /root),
    it is a folder in /var/lib that is named after the project's path.
    """
    project_dir = project_dir.resolve()
    data_dir = project_dir / ".data"
    if os.geteuid() != 0 or can_enter(project_dir, server_user()):
        return data_dir
    return Path("/var/lib/latency-dashboard") / f"{project_dir.name}-{_digest(project_dir)[:8]}"


def socket_dir(data_dir: Path) -> Path:
    """The folder of the sockets, the same for the same DATA_DIR.

    A socket's path holds about a hundred bytes, and URLs hold it unquoted: below a DATA_DIR that is too
    long or has other characters than letters, digits, `.`, `_` and `-`, it is a folder in /tmp.
    Raises EmbeddedError where that belongs to somebody else.
    """
    inside = data_dir / "run"
    longest = inside / f".s.PGSQL.{POSTGRES_PORT}.lock"
    if len(os.fsencode(longest)) <= _LONGEST_SOCKET_PATH and _PLAIN_PATH.fullmatch(str(longest)):
        return inside
    outside = Path("/tmp") / f"latency-dashboard-{_digest(data_dir)[:16]}"  # noqa: S108  # owner is checked
    with contextlib.suppress(FileNotFoundError):
        _check_owner(outside, server_user())
    return outside


def server_user() -> User | None:
    """Whom the servers run as: nobody where we are root, whom PostgreSQL refuses; None means ourselves."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return User(nobody.pw_name, nobody.pw_uid, nobody.pw_gid)


def can_enter(folder: Path, user: User | None) -> bool:
    """Whether the user may pass through this folder and all above it, by their mode bits."""
    return all(may(part, user, 0o1) for part in [folder, *folder.parents] if part.exists())


def may(path: Path, user: User | None, wanted: int) -> bool:
    """Whether the user has these bits (4 read, 2 write, 1 enter or execute) on the path itself."""
    if user is None:
        return os.access(path, wanted)
    info = path.stat()
    if info.st_uid == user.uid:
        return info.st_mode >> 6 & wanted == wanted
    if info.st_gid == user.gid:
        return info.st_mode >> 3 & wanted == wanted
    return info.st_mode & wanted == wanted


def make_data_dir(data_dir: Path) -> None:
    """Makes DATA_DIR: for its owner alone, or, as root, one through which the servers' user may pass."""
    if data_dir.is_dir():
        return
    try:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        data_dir.mkdir(exist_ok=True)
        data_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise EmbeddedError(
            f"The data folder {data_dir} cannot be made ({error.strerror}). Set DATA_DIR to another."
        ) from error


def make_private(folder: Path, user: User | None) -> None:
    """Makes a folder that only the servers' user (and root) may enter, or checks the one that is there."""
    try:
        folder.mkdir(mode=0o700)
        if user is not None:
            os.chown(folder, user.uid, user.gid)
    except FileExistsError:
        _check_owner(folder, user)
    folder.chmod(0o700)


def _check_owner(folder: Path, user: User | None) -> None:
    info = folder.lstat()
    expected = os.geteuid() if user is None else user.uid
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != expected:
        raise EmbeddedError(
            f"{folder} belongs to {user_name(info.st_uid)}, and the servers run as {user_name(expected)}. "
            "Remove it, run this as that user, or set DATA_DIR to another folder."
        )


def belongs_to_another(data_dir: Path) -> EmbeddedError:
    """The error that tells a person whose DATA_DIR this is."""
    return EmbeddedError(
        f"The data folder {data_dir} belongs to user {user_name(data_dir.stat().st_uid)}. "
        "Run this as that user, or set DATA_DIR to another folder."
    )


def user_name(uid: int) -> str:
    """The name of an account, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()
