"""Backups: everything in the database at one moment, in one file, which any later version can restore.

The file is a zip archive: `manifest.json` and, for each table, `tables/<name>.copy` in PostgreSQL's text format.
Python alone writes and reads it, by COPY over the connection that is there anyway: no pg_dump has to be found whose
version fits the server's, and the image stays without one (docs/adr/0013-backups-by-copy.md). A table of daily
partitions is one table in it; its days are listed, and made before its rows come back.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from budgets.partitions import RETENTION_SETTINGS, existing_days, make_partitions

PRODUCT = "latency-dashboard"
FORMAT = 1
# What `migrate` fills by itself: a database with nothing else is empty.
_MADE_BY_MIGRATE = {"django_migrations", "django_content_type", "auth_permission"}
_BLOCK_BYTES = 1 << 18


class BackupError(Exception):
    """It cannot be done, and nothing was changed. The message says why and what to do."""


@dataclass(frozen=True)
class Summary:
    """What a file holds. `is_other_pepper`: its keys were kept under another KEY_PEPPER than the present one."""

    taken_at: datetime
    version: str
    rows: dict[str, int]
    is_other_pepper: bool

    @property
    def total(self) -> int:
        return sum(self.rows.values())


# -- writing ----------------------------------------------------------------------------------------


def back_up(path: Path | None, stream: IO[bytes] | None = None, *, now: datetime) -> Summary:
    """Writes everything to a new file, readable by its owner alone, or to a stream; the file is whole or not there.

    Raises BackupError where there is such a file, or no database of ours.
    """
    if path is None:
        assert stream is not None
        return _write(stream, now)
    if path.exists():
        raise BackupError(f"{path} exists already. Nothing was written; name another file.")
    draft = path.with_name(f".{path.name}.part")
    draft.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            summary = _write(file, now)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # which, unlike a rename, takes no other's place
    finally:
        draft.unlink(missing_ok=True)
    return summary


def _write(stream: IO[bytes], now: datetime) -> Summary:
    with _snapshot(), zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
        migrations = _applied()
        if not migrations:
            raise BackupError("There is nothing to back up: this database has never been migrated.")
        tables = []
        for name in _tables():
            columns = _columns(name)
            digest, rows = hashlib.sha256(), 0
            with archive.open(_member(name, now), "w", force_zip64=True) as member:
                for block in _copied_out(name, columns):
                    member.write(block)
                    digest.update(block)
                    # A row ends with a newline, and one within a value is written as \\n.
                    rows += block.count(b"\n")
            tables.append({"name": name, "columns": columns, "rows": rows, "sha256": digest.hexdigest()})
        manifest = {
            "product": PRODUCT,
            "format": FORMAT,
            "version": settings.VERSION,
            "taken_at": now.astimezone(UTC).isoformat(),
            "pepper": _fingerprint_of_pepper(),
            "migrations": migrations,
            "tables": tables,
            "partitions": {
                table: sorted(day.isoformat() for day in existing_days(table)) for table in RETENTION_SETTINGS
            },
            "sequences": _sequences(),
        }
        entry = _member("manifest.json", now)
        archive.writestr(entry, json.dumps(manifest, indent=1))
    return _summary(manifest)


def _member(name: str, now: datetime) -> zipfile.ZipInfo:
    path = name if name == "manifest.json" else f"tables/{name}.copy"
    info = zipfile.ZipInfo(path, now.astimezone(UTC).timetuple()[:6])
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


@contextmanager
def _snapshot() -> Iterator[None]:
    """One moment for all tables, whatever is written meanwhile."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def _tables() -> list[str]:
    """All of ours, without partitions, whose rows come with their table's, and without what `migrate` writes."""
    return [
        name
        for (name,) in _fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
            " AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname"
        )
        if name != "django_migrations"
    ]


def _columns(table: str) -> list[str]:
    """In their order, without what the database works out itself."""
    rows = _fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
        " AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
        [_quoted(table)],
    )
    return [name for (name,) in rows]


def _copied_out(table: str, columns: Sequence[str]) -> Iterator[bytes]:
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY (SELECT {_list(columns)} FROM {_quoted(table)}) TO STDOUT") as copy,
    ):
        for block in copy:
            yield bytes(block)


def _sequences() -> dict[str, int]:
    rows = _fetch("SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = current_schema()")
    return {name: value for name, value in rows if value is not None}


# -- reading ----------------------------------------------------------------------------------------


def restore(path: Path) -> Summary:
    """Fills an empty database with what a file holds, in one transaction: all of it or nothing.

    1. Looks at the file and at the database, and refuses what does not fit.
    2. Makes the tables as they were when the file was written.
    3. Copies the rows in, and compares each table's checksum.
    4. Brings the tables up to date with this version.

    Raises BackupError for a file that is none of ours, is broken or was written by a newer version, and for a
    database that holds anything.
    """
    with _opened(path) as archive:
        manifest = _manifest(archive, path)
        backed_up = {(app, name) for app, name in manifest["migrations"]}
        _refuse_newer(backed_up, manifest)
        is_fresh = _refuse_unless_empty(backed_up)
        if is_fresh:
            _migrate_to(backed_up)
        with transaction.atomic():
            tables = [table["name"] for table in manifest["tables"]]
            _check_tables(tables)
            with connection.cursor() as cursor:
                # Whoever still runs waits here, and finds the rows.
                cursor.execute(f"LOCK TABLE {_list(tables)} IN ACCESS EXCLUSIVE MODE")
                _refuse_rows(tables)
                cursor.execute(f"TRUNCATE {_list(tables)}")
                for table, days in manifest["partitions"].items():
                    make_partitions(table, [date.fromisoformat(day) for day in days])
                for table in manifest["tables"]:
                    _copy_in(archive, table)
                for name, value in manifest["sequences"].items():
                    cursor.execute("SELECT setval(%s::regclass, %s)", [_quoted(name), value])
    call_command("migrate", interactive=False, verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return _summary(manifest)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise BackupError(f"There is no file {path}. Nothing was changed.") from error
    except (zipfile.BadZipFile, OSError) as error:
        raise BackupError(f"{path} is no backup, or not all of one: {error}. Nothing was changed.") from error
    with archive:
        yield archive


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(archive.read("manifest.json"))
        is_ours = manifest["product"] == PRODUCT
        members = {f"tables/{table['name']}.copy" for table in manifest["tables"]}
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise BackupError(f"{path} is no backup of Latency Dashboard. Nothing was changed.") from error
    if not is_ours:
        raise BackupError(f"{path} is a backup of {manifest['product']}. Nothing was changed.")
    if manifest["format"] != FORMAT:
        raise BackupError(
            f"{path} has format {manifest['format']}, and this version reads {FORMAT}. Nothing was changed; restore "
            f"it with version {manifest['version']} or a newer one."
        )
    if missing := members - set(archive.namelist()):
        raise BackupError(
            f"{path} is incomplete: {', '.join(sorted(missing))} is missing. Nothing was changed."
        )
    return dict(manifest)


def _refuse_newer(backed_up: set[tuple[str, str]], manifest: dict[str, Any]) -> None:
    known = set(MigrationExecutor(connection).loader.graph.nodes)
    if unknown := sorted(f"{app}.{name}" for app, name in backed_up - known):
        raise BackupError(
            f"The backup was written by a newer version, {manifest['version']}: this one, {settings.VERSION}, does not "
            f"know {', '.join(unknown)}. Nothing was changed; restore it with that version."
        )


def _refuse_unless_empty(backed_up: set[tuple[str, str]]) -> bool:
    """Whether the database has no tables yet; one that was migrated and never used is empty, too."""
    tables = _tables()
    if not tables:
        return True
    _refuse_rows(tables)
    if {(app, name) for app, name in _applied()} != backed_up:
        raise BackupError(
            f"The tables of {_database()} are of another version than the backup's. Nothing was changed; restore into "
            "a database without tables, which are then made as the backup needs them."
        )
    return False


def _refuse_rows(tables: Iterable[str]) -> None:
    for table in sorted(set(tables) - _MADE_BY_MIGRATE):
        [(is_filled,)] = _fetch(f"SELECT EXISTS (SELECT 1 FROM {_quoted(table)})")
        if is_filled:
            raise BackupError(
                f"The database {_database()} is not empty: {table} has rows. Nothing was changed; restore into an "
                "empty one, with web, workers and beat stopped."
            )


def _check_tables(tables: Iterable[str]) -> None:
    if missing := sorted(set(tables) - set(_tables())):
        raise BackupError(f"No version of ours has the tables {', '.join(missing)}. Nothing was changed.")


def _migrate_to(migrations: set[tuple[str, str]]) -> None:
    """Makes the tables as these migrations leave them."""
    executor = MigrationExecutor(connection)
    graph = executor.loader.graph
    leaves = [
        node
        for node in sorted(migrations)
        if not any(
            child.key in migrations and child.key[0] == node[0] for child in graph.node_map[node].children
        )
    ]
    executor.migrate(leaves)


def _copy_in(archive: zipfile.ZipFile, table: dict[str, Any]) -> None:
    name, digest = table["name"], hashlib.sha256()
    statement = f"COPY {_quoted(name)} ({_list(table['columns'])}) FROM STDIN"
    try:
        with (
            archive.open(f"tables/{name}.copy") as member,
            connection.cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            while block := member.read(_BLOCK_BYTES):
                digest.update(block)
                copy.write(block)
    except zipfile.BadZipFile as error:
        raise BackupError(f"The backup is broken: {error}. Nothing was restored.") from error
    if digest.hexdigest() != table["sha256"]:
        raise BackupError(f"The backup is broken: {name} is not what was written. Nothing was restored.")


# -- both -------------------------------------------------------------------------------------------


def _summary(manifest: dict[str, Any]) -> Summary:
    return Summary(
        taken_at=datetime.fromisoformat(manifest["taken_at"]),
        version=manifest["version"],
        rows={table["name"]: table["rows"] for table in manifest["tables"]},
        is_other_pepper=manifest["pepper"] != _fingerprint_of_pepper(),
    )


def _fingerprint_of_pepper() -> str:
    """Tells peppers apart and says nothing about them: bearer keys work under the one that they were made under."""
    return hmac.digest(settings.KEY_PEPPER.encode(), b"fingerprint", "sha256").hex()[:16]


def _applied() -> list[tuple[str, str]]:
    return sorted(MigrationRecorder(connection).applied_migrations())


def _database() -> str:
    return str(connection.settings_dict["NAME"])


def _fetch(statement: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(_quoted, names))
