"""Backed up from a server that is in use, restored into an empty one, and the same to the last row."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import stat
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from alerts.evaluation import evaluate
from alerts.models import Incident, Notification
from budgets import audit, ingest, rollups
from budgets.models import Membership, Team, User
from latency_dashboard import programs
from tests.children import PROJECT
from tests.factories import (
    item,
    make_channel,
    make_feature,
    make_key,
    make_traffic,
    request_item,
)
from tests.latency_dashboard.web import database_url

_numbers = itertools.count(1)


def manage(url: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *map(str, arguments)],
        cwd=PROJECT,
        env=os.environ | {"DATABASE_URL": url, "LOG_FORMAT": "text"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def python(url: str, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs code with the application over another database."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "import django; django.setup()\n" + textwrap.dedent(code),
            *map(str, arguments),
        ],
        cwd=PROJECT,
        env=os.environ | {"DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


def address_of(name: str) -> str:
    """Of another database of the test's server."""
    return re.sub(r"^postgres:///[^?]*", f"postgres:///{name}", database_url())


@pytest.fixture(scope="module")
def migrated(django_db_setup: None) -> Iterator[str]:
    """The name of a database as `migrate` leaves an empty one: copied where a test needs one."""
    name = f"migrated_{os.getpid()}"
    parts = psycopg.conninfo.conninfo_to_dict(database_url())
    with psycopg.connect(**parts, autocommit=True) as server:  # type: ignore[arg-type]
        server.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]
        try:
            done = manage(address_of(name), "migrate", "--no-input")
            assert done.returncode == 0, done.stderr
            yield name
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[arg-type]


@pytest.fixture
def make_database(transactional_db: None) -> Iterator[Callable[..., str]]:
    """Makes databases of the test's server, empty or as another one is; gives their addresses."""
    made: list[str] = []

    def make(template: str = "template1") -> str:
        name = f"restored_{os.getpid()}_{next(_numbers)}"
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        made.append(name)
        return address_of(name)

    yield make
    with connection.cursor() as cursor:
        for name in made:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def token(transactional_db: None) -> str:
    """A key of a team that has done everything: the server is full of it."""
    now = timezone.now()
    team = Team.objects.create(slug="assistants", name='Assistants – ümläut\t\\N "quoted"\nsecond line')
    person = User.objects.create_user("ada@example.com", "correct horse battery")
    Membership.objects.create(team=team, user=person, role=Membership.Role.ADMIN)
    key, token = make_key(team, now=now)
    feature = make_feature(team=team, slug="chat")
    other = make_feature(team=team, slug="search", name="Search")
    make_channel(team)
    # Several days of raw measurements, with labels, traces, spans of their own, and rollups of all levels.
    for days in range(4):
        at = (now - timedelta(days=days, minutes=5)).isoformat()
        calls = [{"component": "model", "duration_ms": 20, "offset_ms": n * 30} for n in range(3)]
        body = {
            "measurements": [
                item(feature, started_at=at, labels={"cache": "cold", "text": 'a\t"b"\\N\nä'}),
                item(other, started_at=at, status="timeout", duration_ms=0.1 + 0.2),
            ],
            "requests": [request_item(feature, started_at=at, components=calls, trace_id=f"{days + 1:032x}")],
        }
        answer = ingest.accept(
            key=key, body=json.dumps(body).encode(), idempotency_key=f"day-{days}", now=now
        )
        assert answer.status == 200
        assert not answer.document["rejected"], answer.document
    while rollups.roll_up(now=now).is_more:
        pass
    rollups.compact(now=now)
    # Something that burns: rules, states, an incident and its message.
    make_traffic(feature, at=now - timedelta(minutes=1), count=60, over=60, milestone="first_token", now=now)
    evaluate(feature_ids=None, now=now)
    assert Incident.objects.exists()
    assert Notification.objects.exists()
    audit.record(
        team=team, actor="ada", action="team.changed", subject="x", before={"a": None}, after=[1.5], now=now
    )
    # And one batch that waits to be rolled up.
    late = json.dumps({"measurements": [item(feature, started_at=(now - timedelta(seconds=5)).isoformat())]})
    assert ingest.accept(key=key, body=late.encode(), now=now).status == 200
    return token


def contents(url: str) -> dict[str, tuple[int, str]]:
    """Of each table the number of rows and a checksum of all of them, whatever their order; and of each sequence."""
    parts = psycopg.conninfo.conninfo_to_dict(url)
    with psycopg.connect(**parts) as other:  # type: ignore[arg-type]
        names = other.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        ).fetchall()
        found = {}
        for (name,) in names:
            row = other.execute(
                f"SELECT count(*), md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM \"{name}\" t"  # type: ignore[arg-type]
            ).fetchone()
            assert row is not None
            found[name] = row
        sequences = "SELECT sequencename, last_value FROM pg_sequences WHERE last_value IS NOT NULL"
        found |= {
            name: (value, "")
            for name, value in other.execute(sequences)
            if name != "django_migrations_id_seq"
        }
    del found["django_migrations"]  # which says when each was applied
    return found


def back_up(tmp_path: Path) -> Path:
    """A file as the command makes it, without another process: what is tested is what becomes of the file."""
    path = tmp_path / "backup.zip"
    call_command("backup", str(path), stdout=io.StringIO())
    return path


# -- the way there and back -------------------------------------------------------------------------


def test_what_was_restored_is_what_was_backed_up_and_the_product_works_on_it(
    token: str, tmp_path: Path, make_database: Callable[..., str]
) -> None:
    path, url = tmp_path / "backup.zip", make_database()
    done = manage(database_url(), "backup", path)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"Backed up \d+ rows of \d+ tables, as of \S+ \S+ UTC\.\n", done.stdout)
    done = manage(url, "restore", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Restored ")
    assert done.stderr == ""

    # 1. Every row of every table and partition, and where the next ids begin.
    before, after = contents(database_url()), contents(url)
    assert after == before
    for table in (
        *(
            "budgets_measurement",
            "budgets_span",
            "budgets_rollup_minute",
            "budgets_rollup_hour",
            "budgets_dirtyhour",
        ),
        *(
            "budgets_ingestkey",
            "budgets_user",
            "budgets_auditentry",
            "budgets_latencybudget",
            "budgets_batch",
        ),
        *("alerts_incident", "alerts_notification", "alerts_channel", "alerts_rulestate"),
    ):
        assert before[table][0] > 0, table
    partitions = [
        name for name in before if re.fullmatch(r"budgets_measurement_\d{8}", name) and before[name][0]
    ]
    assert len(partitions) >= 4

    # 2. The key still works, a POST is stored, rolled up and shown; what was rolled up before equals its raw rows.
    worked = python(
        url,
        """
        import sys, time
        from django.test import Client
        from django.utils import timezone
        from budgets import rollups
        from budgets.models import User
        headers = {"Authorization": f"Bearer {sys.argv[1]}"}
        item = {"feature": "chat", "component": "model", "started_at": time.time() - 1, "duration_ms": 5}
        web = Client(SERVER_NAME="localhost")
        posted = web.post("/api/v1/measurements", {"measurements": [item]}, "application/json", headers=headers)
        assert posted.status_code == 200, posted.content
        done = rollups.roll_up(now=timezone.now())
        assert (done.batches, done.measurements) == (2, 2), done  # the one that waited, and this
        status = web.get("/api/v1/features/chat/status?milestone=first_token", headers=headers)
        assert status.status_code == 200, status.content
        assert User.objects.get(email="ada@example.com").check_password("correct horse battery")
        """,
        token,
    )
    assert worked.returncode == 0, worked.stderr
    range_ = ("--from", (timezone.now() - timedelta(days=5)).isoformat(), "--to", timezone.now().isoformat())
    checked = manage(url, "rebuild_rollups", "--check", *range_)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "0 differences" in checked.stdout


def test_a_backup_goes_to_standard_output_too_and_into_a_migrated_database(
    token: str, tmp_path: Path, migrated: str, make_database: Callable[..., str]
) -> None:
    path, url = tmp_path / "piped.zip", make_database(migrated)
    with path.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "manage.py", "backup", "-"],
            cwd=PROJECT,
            env=os.environ | {"DATABASE_URL": database_url()},
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "Backed up" in done.stderr
    restored = manage(url, "restore", path)
    assert restored.returncode == 0, restored.stderr
    assert contents(url) == contents(database_url())


def test_a_backup_is_one_moment_and_is_for_its_owner_alone(token: str, tmp_path: Path) -> None:
    path = back_up(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        # No secret of the installation is in it.
        everything = b"".join(archive.read(name) for name in archive.namelist())
    assert settings.SECRET_KEY.encode() not in everything
    assert settings.KEY_PEPPER.encode() not in everything
    assert token.encode() not in everything
    assert manifest["version"] == settings.VERSION
    taken_at = datetime.fromisoformat(manifest["taken_at"])
    assert abs(datetime.now(UTC) - taken_at) < timedelta(minutes=2)


def test_pg_dump_and_pg_restore_do_as_well(
    token: str, tmp_path: Path, make_database: Callable[..., str]
) -> None:
    """Whoever has them at hand in the server's version may use them instead."""
    folder, path, url = programs.find_postgres(), tmp_path / "backup.dump", make_database()
    dump = [folder / "pg_dump", "--format=custom", f"--file={path}", f"--dbname={database_url()}"]
    subprocess.run(dump, check=True, capture_output=True)
    load = [folder / "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={url}", path]
    subprocess.run(load, check=True, capture_output=True)
    assert contents(url) == contents(database_url())


# -- what is refused --------------------------------------------------------------------------------


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout
    assert done.stdout == ""
    assert done.stderr.startswith("CommandError: ")
    return done.stderr


def test_a_database_that_is_not_empty_is_refused_and_left_as_it_is(token: str, tmp_path: Path) -> None:
    path, before = back_up(tmp_path), contents(database_url())
    said = refused(manage(database_url(), "restore", path))
    assert "is not empty: " in said
    assert contents(database_url()) == before


def test_a_database_that_holds_one_row_is_refused(
    token: str, tmp_path: Path, migrated: str, make_database: Callable[..., str]
) -> None:
    path, url = back_up(tmp_path), make_database(migrated)
    assert manage(url, "restore", path).returncode == 0
    filled = make_database(migrated)
    assert manage(filled, "ensure_admin").returncode == 0
    assert "is not empty: " in refused(manage(filled, "restore", path))


def rewritten(path: Path, change: Callable[[dict[str, Any]], None], **members: bytes) -> Path:
    """A copy with another manifest, or other members."""
    other = path.with_name(f"other-{next(_numbers)}.zip")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "manifest.json":
                manifest = json.loads(content)
                change(manifest)
                content = json.dumps(manifest).encode()
            target.writestr(name, members.get(name.removeprefix("tables/").removesuffix(".copy"), content))
    return other


def test_a_backup_of_a_newer_version_is_refused(
    token: str, tmp_path: Path, make_database: Callable[..., str]
) -> None:
    def make_newer(manifest: dict[str, Any]) -> None:
        manifest["version"] = "99.0"
        manifest["migrations"].append(["budgets", "9999_from_the_future"])

    path, url = rewritten(back_up(tmp_path), make_newer), make_database()
    said = refused(manage(url, "restore", path))
    assert "newer version, 99.0" in said
    assert "budgets.9999_from_the_future" in said
    assert contents_are_none(url)


def contents_are_none(url: str) -> bool:
    with psycopg.connect(**psycopg.conninfo.conninfo_to_dict(url)) as other:  # type: ignore[arg-type]
        return (
            other.execute("SELECT 1 FROM pg_class WHERE relnamespace = 'public'::regnamespace").fetchone()
            is None
        )


def test_a_file_that_is_no_backup_is_refused(tmp_path: Path, make_database: Callable[..., str]) -> None:
    url = make_database()
    text, archive = tmp_path / "text.zip", tmp_path / "archive.zip"
    text.write_text("hello")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("hello.txt", "hello")
    assert "is no backup" in refused(manage(url, "restore", text))
    assert "is no backup of Latency Dashboard" in refused(manage(url, "restore", archive))
    assert "There is no file" in refused(manage(url, "restore", tmp_path / "none.zip"))
    assert contents_are_none(url)


def test_a_backup_that_was_cut_off_or_changed_is_refused_and_nothing_is_restored(
    token: str, tmp_path: Path, make_database: Callable[..., str]
) -> None:
    path, url = back_up(tmp_path), make_database()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(path.read_bytes()[:-5000])
    assert "not all of it" in refused(manage(url, "restore", cut)).replace("not all of one", "not all of it")
    assert contents_are_none(url)
    changed = rewritten(path, lambda manifest: None, budgets_sweep=b"roll_up\t2026-01-01 00:00:00+00\n")
    assert "budgets_sweep is not what was written" in refused(manage(url, "restore", changed))
    # The tables are there and hold nothing, so that a good file can still come.
    assert manage(url, "restore", path).returncode == 0
    assert contents(url) == contents(database_url())


def test_a_file_that_exists_is_not_overwritten(token: str, tmp_path: Path) -> None:
    path = tmp_path / "backup.zip"
    path.write_text("precious")
    assert "exists already" in refused(manage(database_url(), "backup", path))
    assert path.read_text() == "precious"


def test_a_database_that_was_never_migrated_has_nothing_to_back_up(
    tmp_path: Path, make_database: Callable[..., str]
) -> None:
    assert "never been migrated" in refused(manage(make_database(), "backup", tmp_path / "backup.zip"))
    assert list(tmp_path.iterdir()) == []


# -- versions ---------------------------------------------------------------------------------------


def test_a_backup_of_an_older_version_is_brought_up_to_date(
    tmp_path: Path, make_database: Callable[..., str]
) -> None:
    older, newer = make_database(), make_database()
    assert manage(older, "migrate", "budgets", "0003", "--no-input").returncode == 0
    added = python(
        older,
        """
        from django.db import connection
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO budgets_team (slug, name, created_at) VALUES ('old', 'Old', now())")
        """,
    )
    assert added.returncode == 0, added.stderr
    path = tmp_path / "older.zip"
    assert manage(older, "backup", path).returncode == 0
    done = manage(newer, "restore", path)
    assert done.returncode == 0, done.stderr
    assert manage(newer, "migrate", "--check").returncode == 0
    with psycopg.connect(**psycopg.conninfo.conninfo_to_dict(newer)) as other:  # type: ignore[arg-type]
        assert other.execute("SELECT slug FROM budgets_team").fetchall() == [("old",)]


def test_another_pepper_than_the_backups_is_told(
    token: str, tmp_path: Path, migrated: str, make_database: Callable[..., str]
) -> None:
    path = back_up(tmp_path)
    done = manage(make_database(migrated), "restore", path, KEY_PEPPER="another " * 12)
    assert done.returncode == 0
    assert "KEY_PEPPER is another one" in done.stderr
