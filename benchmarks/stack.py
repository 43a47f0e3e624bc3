"""What is measured against: servers over fresh data folders, which end with this process."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from latency_dashboard import embedded
from latency_dashboard.embedded import EmbeddedServers
from latency_dashboard.supervisor import Process, Processes, Program, ProgramError

PROJECT = Path(__file__).resolve().parent.parent
# The product's tables, partitions and indexes once more, in a database that nothing else writes to.
EMPTY_COPY = "empty_copy"
# All that processes here take from the person at the keyboard: what is measured are the default settings.
_KEPT_VARIABLES = ("HOME", "LANG", "PATH", "POSTGRES_BIN", "TMPDIR", "VALKEY_SERVER", "VIRTUAL_ENV")
_PREPARE_SECONDS = 120.0
_UP_SECONDS = 120.0


def plain_environment(**variables: str) -> dict[str, str]:
    """Our environment without settings, and these variables."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {**kept, "PYTHONUNBUFFERED": "1", **variables}


@contextlib.contextmanager
def fresh_data_dir() -> Iterator[Path]:
    """A DATA_DIR that is removed afterwards; as root, one through which the servers' user may pass.

    Where the block fails, the ends of the logs in it are shown: they go with it.
    """
    folder = Path(tempfile.mkdtemp(prefix="latency-dashboard-bench-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    try:
        yield folder
    except Exception:
        _show_last_words(folder / "log")
        raise
    finally:
        shutil.rmtree(folder)


def _show_last_words(logs: Path, lines: int = 15) -> None:
    for log in sorted(logs.glob("*.log")):
        ending = log.read_text(errors="replace").splitlines()[-lines:]
        print(f"--- {log.name}", *ending, sep="\n", file=sys.stderr)


def connect(data_dir: Path, database: str | None = None) -> psycopg.Connection[Any]:
    """A connection in autocommit to a database of the embedded PostgreSQL (default: the product's)."""
    settings = embedded.database_settings(data_dir)
    return psycopg.connect(
        host=settings["HOST"],
        port=settings["PORT"],
        user=settings["USER"],
        dbname=database or settings["NAME"],
        autocommit=True,
    )


class Stack:
    """PostgreSQL that waits for the disk, Valkey, the product's empty tables, and web processes on request.

    No worker runs: what one rolls up would be taken from what is measured. Django in this process has to be
    set up with the same DATA_DIR.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.processes = Processes()
        self._servers = EmbeddedServers(data_dir, processes=self.processes)
        self._product: Process | None = None
        self._port = 0

    def __enter__(self) -> Stack:
        from django.core.management import call_command
        from django.db import connections

        from budgets.partitions import ensure_ahead

        try:
            self._servers.start()
            call_command("migrate", verbosity=0)
            ensure_ahead(datetime.now(tz=UTC))
            connections.close_all()  # nobody may be connected to what is copied
            if not self._has_database(EMPTY_COPY):  # started for the second time in a run
                self.make_database(EMPTY_COPY, template=embedded.DATABASE_NAME)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        from django.db import connections

        connections.close_all()
        self.processes.close()
        self._servers.stop()

    def run(self, name: str, *command: str) -> str:
        """Runs a Python program of the project to its end; what it wrote."""
        [output] = self.processes.run(self._program(name, [*command]), timeout_seconds=_PREPARE_SECONDS)
        return output

    def make_database(self, name: str, *, template: str = "template1") -> None:
        """Another database in the same PostgreSQL; its template must be one that nobody is connected to."""
        with connect(self.data_dir, "postgres") as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")

    def _has_database(self, name: str) -> bool:
        with connect(self.data_dir, "postgres") as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone()
        return found is not None

    def empty(self) -> None:
        """Empties the product's tables and ends its web processes, which remember rows of them."""
        from django.apps import apps
        from django.db import connection

        if self._product is not None:
            self.processes.end(self._product)
            self._product = None
        tables = [
            model._meta.db_table
            for app in ("budgets", "alerts", "sessions")
            for model in apps.get_app_config(app).get_models()
        ]
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {', '.join(tables)} CASCADE")

    def serve_product(self) -> int:
        """Serves the product's API and pages, at most once at a time; the port at which it answers."""
        if self._product is None:
            from django.core.management import call_command

            call_command("collectstatic", interactive=False, verbosity=0)
            self._port = self.serve("latency_dashboard.wsgi:application", "web")
            self._product = self.processes.running[-1]
        return self._port

    def serve(self, application: str, name: str) -> int:
        """Serves a WSGI application as the product is served; the port at which it answers."""
        from latency_dashboard.serve import _Console, _Server

        port = free_port()
        # Its command, whatever it is by then: both contenders are served alike.
        web = _Server(self.processes, _Console(), {})._web()  # type: ignore[arg-type]
        command = [*web.command]
        command[command.index("--port") + 1] = str(port)
        command[-1] = application
        log = self.data_dir / "log" / f"{name}.log"
        process = self.processes.start(replace(self._program(name, []), command=command, log=log))
        _wait_until_up(self.processes, process, port, "/", below=500)
        return port

    def _program(self, name: str, command: list[str]) -> Program:
        environment = plain_environment(DATA_DIR=str(self.data_dir))
        return Program(name, [sys.executable, *command], environment=environment, folder=PROJECT)


class Served:
    """All of the product as `make serve` runs it, with default settings but for those that are given."""

    def __init__(self, data_dir: Path, settings: Mapping[str, str]) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self._environment = plain_environment(
            DATA_DIR=str(data_dir), PORT=str(self.port), PYTHONPATH=str(PROJECT), **settings
        )
        self._processes = Processes()

    def __enter__(self) -> Served:
        try:
            process = self._processes.start(
                Program(
                    "serve",
                    [sys.executable, "-m", "latency_dashboard.serve", "--ends-with-parent"],
                    environment=self._environment,
                    folder=PROJECT,
                    stop_signal=signal.SIGINT,
                    grace_seconds=60,
                    log=self.data_dir / "log" / "serve.log",
                )
            )
            # Ready: the database and the broker answer, and a worker has swept.
            _wait_until_up(self._processes, process, self.port, "/readyz", below=300)
        except BaseException:
            self._processes.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._processes.close()

    @property
    def pid(self) -> int:
        """Of the process that starts and keeps up all the others."""
        return self._processes.running[0].pid

    def make_key(self, team: str, *scopes: str) -> str:
        """A new key of a team, which is made where it is new."""
        options = [part for scope in scopes for part in ("--scope", scope)]
        written = self.command("create_key", "--team", team, "--name", "benchmark", *options)
        return next(line for line in written.splitlines() if line.startswith("ld_"))

    def command(self, name: str, *arguments: str) -> str:
        """Runs a command of manage.py beside it; what it wrote, its last line last."""
        program = Program(
            name,
            [sys.executable, "manage.py", name, *arguments],
            environment=self._environment,
            folder=PROJECT,
        )
        [output] = self._processes.run(program, timeout_seconds=_PREPARE_SECONDS)
        return output


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened at just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(processes: Processes, process: Process, port: int, path: str, *, below: int) -> None:
    def is_up() -> bool:
        return not process.is_running or _status(port, path) < below

    if not processes.wait_until(is_up, timeout_seconds=_UP_SECONDS) or not process.is_running:
        state = (
            f"did not answer within {_UP_SECONDS:g} s" if process.is_running else f"ended: {process.ending}"
        )
        raise ProgramError(f"{process.program.name} {state}. Its log ends so:\n{process.last_words(25)}")


def _status(port: int, path: str) -> int:
    """The status of an answer to GET; 599 where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 599
    finally:
        connection.close()
