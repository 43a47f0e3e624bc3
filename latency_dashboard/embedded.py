"""PostgreSQL and Valkey that need no installation: found, prepared, started below DATA_DIR, and stopped.

DATA_DIR holds

    postgres/     the cluster; its owner is the user whom the servers run as
    run/          the sockets, where their paths are short enough (see folders.py)
    log/          a log for each process
    programs/     copies of the servers' programs, where their user cannot reach the installed ones
    secrets.env   keys that were made at first use
    server.lock   held by the process that runs the servers, and by its children

Both servers listen on unix sockets alone, in a folder that only their user and root may enter. Settings
import this module, so it needs the standard library alone until a server starts.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets as randomness
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latency_dashboard import folders, programs
from latency_dashboard.folders import POSTGRES_PORT, EmbeddedError, default_data_dir
from latency_dashboard.supervisor import Process, Processes, Program, ProgramError, User

__all__ = [
    "AlreadyRunning",
    "EmbeddedError",
    "EmbeddedServers",
    "broker_url",
    "cache_url",
    "database_settings",
    "default_data_dir",
    "secrets",
]

POSTGRES_USER = "latency_dashboard"
DATABASE_NAME = "latency_dashboard"

_READY_SECONDS = 60.0
# As long as the guard of an earlier run may take to end what that run left behind.
_EARLIER_RUN_SECONDS = 45.0


class AlreadyRunning(EmbeddedError):
    """Another process runs the servers of this DATA_DIR. The message names it."""


# -- What settings ask --------------------------------------------------------------------------


def database_settings(data_dir: Path) -> dict[str, Any]:
    """The entry of Django's DATABASES for the embedded PostgreSQL."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": DATABASE_NAME,
        "USER": POSTGRES_USER,
        "HOST": str(folders.socket_dir(data_dir)),
        "PORT": POSTGRES_PORT,
    }


def broker_url(data_dir: Path, database: int | None = None) -> str:
    """Celery's address of the embedded Valkey. REDIS_DATABASE (default 0) chooses the database."""
    number = _first_redis_database() if database is None else database
    return f"redis+socket://{_valkey_socket(data_dir)}?virtual_host={number}"


def cache_url(data_dir: Path, database: int | None = None) -> str:
    """Django's and redis-py's address of the embedded Valkey, one database on: `clear()` empties it whole."""
    number = _first_redis_database() + 1 if database is None else database
    return f"unix://{_valkey_socket(data_dir)}?db={number}"


def secrets(data_dir: Path) -> dict[str, str]:
    """SECRET_KEY and KEY_PEPPER of this DATA_DIR, made at first use and readable by their owner alone."""
    path = data_dir / "secrets.env"
    if not path.exists():
        folders.make_data_dir(data_dir)
        made = "".join(f"{name}={randomness.token_urlsafe(48)}\n" for name in ("SECRET_KEY", "KEY_PEPPER"))
        with tempfile.NamedTemporaryFile("w", dir=data_dir, prefix=".secrets-") as draft:
            draft.write(made)
            draft.flush()
            os.fsync(draft.fileno())
            # Of two processes that make them at once, both go on with those that were linked first.
            with contextlib.suppress(FileExistsError):
                os.link(draft.name, path)
    try:
        lines = path.read_text().splitlines()
    except PermissionError as error:
        raise folders.belongs_to_another(data_dir) from error
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _valkey_socket(data_dir: Path) -> Path:
    return folders.socket_dir(data_dir) / "valkey.sock"


def _first_redis_database() -> int:
    return int(os.environ.get("REDIS_DATABASE") or 0)


# -- Servers ------------------------------------------------------------------------------------


class EmbeddedServers:
    """The embedded servers of one DATA_DIR.

        with EmbeddedServers(data_dir) as servers:
            ...  # database_settings(data_dir), broker_url(data_dir) and cache_url(data_dir) answer

    They end with the block, and with this process, however it ends. `processes` runs them (default: its
    own, which `stop` closes); `postgres=False` or `valkey=False` leaves one out; `durable=False` trades
    safety against power cuts for speed, in tests. Starting waits until what a killed run of the same
    DATA_DIR left behind has ended, and raises AlreadyRunning where that run goes on.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        processes: Processes | None = None,
        postgres: bool = True,
        valkey: bool = True,
        durable: bool = True,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.processes = Processes() if processes is None else processes
        self._owns_processes = processes is None
        self.postgres: Process | None = None
        self.valkey: Process | None = None
        self._has_postgres = postgres
        self._has_valkey = valkey
        self._is_durable = durable
        self._lock: int | None = None

    def __enter__(self) -> EmbeddedServers:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the servers and returns when both answer.

        1. Take the lock of the DATA_DIR. 2. Start Valkey. 3. Make the PostgreSQL cluster, once.
        4. Start PostgreSQL. 5. Make the database, once.
        """
        try:
            self.claim()
            if self._has_valkey:
                self.start_valkey()
            if self._has_postgres:
                self.start_postgres()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops the servers and frees the DATA_DIR."""
        self.stop_postgres()
        self.stop_valkey()
        if self._owns_processes:
            self.processes.close()
        if self._lock is not None:
            self.processes.let_go(self._lock)
            os.close(self._lock)
            self._lock = None

    def stop_postgres(self) -> None:
        """Stops PostgreSQL alone, in order."""
        if self.postgres is not None:
            self.processes.end(self.postgres)
            self.postgres = None

    def stop_valkey(self) -> None:
        """Stops Valkey alone."""
        if self.valkey is not None:
            self.processes.end(self.valkey)
            self.valkey = None

    def claim(self) -> None:
        """Makes the DATA_DIR ours until `stop`. Raises AlreadyRunning where another process has it."""
        if self._lock is not None:
            return
        folders.make_data_dir(self.data_dir)
        user = folders.server_user()
        if not folders.can_enter(self.data_dir, user):
            name = folders.user_name(os.geteuid()) if user is None else user.name
            raise EmbeddedError(
                f"The data folder {self.data_dir} cannot be entered by user {name}, whom the servers run as. "
                "Set DATA_DIR to another, e.g. in /var/lib, or `chmod a+x` each folder on its path."
            )
        try:
            lock = os.open(self.data_dir / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except PermissionError as error:
            raise folders.belongs_to_another(self.data_dir) from error
        try:
            if os.fstat(lock).st_uid != os.geteuid():  # root would leave files that their owner cannot write
                raise folders.belongs_to_another(self.data_dir)
            self._wait_for_lock(lock)
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self.processes.hold_open(lock)
        (self.data_dir / "log").mkdir(exist_ok=True)
        if self._has_postgres or self._has_valkey:
            folders.make_private(folders.socket_dir(self.data_dir), user)

    def start_postgres(self) -> None:
        """Starts PostgreSQL, over a cluster that is made where there is none, and waits until it answers."""
        user = folders.server_user()
        cluster = self.data_dir / "postgres"
        found = programs.find_postgres() / "postgres"
        postgres = programs.within_reach(found, user, self.data_dir)
        version = programs.postgres_version(postgres)
        if not cluster.exists():
            self._make_cluster(postgres.with_name("initdb"), version, cluster, user)
        folders.make_private(cluster, user)
        made_by = int((cluster / "PG_VERSION").read_text().split(".")[0])
        if made_by != version:
            raise EmbeddedError(
                f"The data in {cluster} was written by PostgreSQL {made_by}, and {postgres} is "
                f"{version}. Name the folder of PostgreSQL {made_by} in POSTGRES_BIN, or run pg_upgrade."
            )
        _remove_stale_pid_file(cluster / "postmaster.pid")
        settings = self._postgres_settings()
        self.postgres = self.processes.start(
            Program(
                name="postgres",
                command=[
                    str(postgres),
                    "-D",
                    str(cluster),
                    *(argument for key, value in settings.items() for argument in ("-c", f"{key}={value}")),
                ],
                environment=_plain_environment(),
                folder=cluster,
                user=user,
                stop_signal=signal.SIGINT,  # "fast": roll back what is open, write a checkpoint, end
                grace_seconds=30,
                is_server=True,
                log=self.data_dir / "log" / "postgres.log",
                echo=re.compile(r"FATAL|PANIC"),
            )
        )
        self._wait_for("PostgreSQL", self.postgres, self._postgres_answers)

    def start_valkey(self) -> None:
        """Starts Valkey. It keeps nothing on disk: whatever it holds may be lost."""
        user = folders.server_user()
        program = programs.within_reach(programs.find_valkey(), user, self.data_dir)
        socket = _valkey_socket(self.data_dir)
        socket.unlink(missing_ok=True)  # of an earlier run that was killed: the lock says that it is over
        options = {
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "700",
            "save": "",
            "appendonly": "no",
            "databases": "64",
            "dir": str(socket.parent),
            "maxmemory": "256mb",
            "maxmemory-policy": "volatile-lru",  # drops cached answers, never a queued task
            "daemonize": "no",
        }
        self.valkey = self.processes.start(
            Program(
                name="valkey",
                command=[
                    str(program),
                    *(part for key, value in options.items() for part in (f"--{key}", value)),
                ],
                environment=_plain_environment(),
                folder=socket.parent,
                user=user,
                is_server=True,
                log=self.data_dir / "log" / "valkey.log",
            )
        )
        self._wait_for("Valkey", self.valkey, self._valkey_answers)

    def _wait_for_lock(self, lock: int) -> None:
        deadline = time.monotonic() + _EARLIER_RUN_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(lock, 32, 0).decode().strip()
                if not holder.isdigit() or _is_alive(int(holder)) or time.monotonic() > deadline:
                    raise AlreadyRunning(
                        f"Process {holder or 'unknown'} is already running on the data folder "
                        f"{self.data_dir}. Stop it first, or set DATA_DIR to another folder."
                    ) from None
                self.processes.pause(0.05)
            else:
                return

    def _make_cluster(self, initdb: Path, version: int, cluster: Path, user: User | None) -> None:
        """Runs initdb in a folder of its own, so that an interrupted one leaves nothing half made."""
        draft = cluster.with_name("postgres.new")
        if draft.exists():
            shutil.rmtree(draft)
        folders.make_private(draft, user)
        # Sorts by code point and folds the case of every letter, on every machine alike.
        locale = ["--locale=C"]
        if version >= 17:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        try:
            self.processes.run(
                Program(
                    name="initdb",
                    command=[
                        str(initdb),
                        "--pgdata",
                        str(draft),
                        "--username",
                        POSTGRES_USER,
                        "--encoding=UTF8",
                        *locale,
                        "--data-checksums",
                        "--auth=trust",  # whoever can reach the socket in its 0700 folder
                        *([] if self._is_durable else ["--no-sync"]),
                    ],
                    environment=_plain_environment(),
                    folder=draft,
                    user=user,
                ),
                timeout_seconds=120,
            )
        except ProgramError as error:
            raise EmbeddedError(f"The PostgreSQL cluster could not be made: {error}") from error
        draft.rename(cluster)

    def _postgres_settings(self) -> dict[str, str]:
        settings = {
            "listen_addresses": "",
            "port": POSTGRES_PORT,
            "unix_socket_directories": str(folders.socket_dir(self.data_dir)),
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            "shared_buffers": "256MB",
            "work_mem": "16MB",
            "max_wal_size": "2GB",
            "checkpoint_timeout": "15min",
            "random_page_cost": "1.1",
            "jit": "off",  # compiling costs more than these queries
            "max_locks_per_transaction": "256",  # a statement over all daily partitions locks each of them
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] ",
            "log_destination": "stderr",
            "logging_collector": "off",
        }
        if not self._is_durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        return settings

    def _wait_for(self, name: str, process: Process | None, answers: Callable[[], bool]) -> None:
        assert process is not None
        is_up = self.processes.wait_until(
            lambda: not process.is_running or answers(), timeout_seconds=_READY_SECONDS
        )
        if not is_up or not process.is_running:
            state = (
                f"did not answer within {_READY_SECONDS:g} s"
                if process.is_running
                else f"ended with {process.ending}"
            )
            log = process.program.log
            raise EmbeddedError(f"{name} {state}. Its log, {log}, ends so:\n{process.last_words()}")

    def _postgres_answers(self) -> bool:
        """Whether it accepts connections; makes the database where it is not there yet."""
        import psycopg

        address = psycopg.conninfo.make_conninfo(
            host=str(folders.socket_dir(self.data_dir)),
            port=POSTGRES_PORT,
            user=POSTGRES_USER,
            dbname="postgres",
            connect_timeout=5,
        )
        try:
            with psycopg.connect(address, autocommit=True) as connection:
                query = "SELECT 1 FROM pg_database WHERE datname = %s"
                if connection.execute(query, [DATABASE_NAME]).fetchone() is None:
                    connection.execute(f'CREATE DATABASE "{DATABASE_NAME}"')
        except psycopg.OperationalError:
            return False
        return True

    def _valkey_answers(self) -> bool:
        import redis

        client = redis.Redis.from_url(cache_url(self.data_dir))
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
        finally:
            client.close()


def _plain_environment() -> dict[str, str]:
    """Our environment without what would steer a PostgreSQL."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")} | {"LC_ALL": "C"}


def _remove_stale_pid_file(path: Path) -> None:
    """Removes the note of a PostgreSQL whose process id another program has now.

    PostgreSQL takes over the note of a dead process by itself, but after a power cut the id may be anybody's.
    """
    try:
        pid = int(path.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    if "postgres" not in _command_line(pid):
        path.unlink(missing_ok=True)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        pass
    with contextlib.suppress(FileNotFoundError):
        command = ["ps", "-o", "command=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True
