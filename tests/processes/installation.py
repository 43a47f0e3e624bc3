"""A whole installation of a test's own: servers, web, worker and beat, each of which can be killed and started again."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import redis

from latency_dashboard import embedded
from latency_dashboard.embedded import EmbeddedServers
from latency_dashboard.supervisor import Process, Program
from tests.children import PROJECT, eventually
from tests.plugins.servers import temporary_data_dir

# What this session has set for itself.
_FOREIGN = {"DATA_DIR", "DATABASE_URL", "REDIS_URL", "REDIS_DATABASE", "DJANGO_SETTINGS_MODULE"}
UP_SECONDS = 120.0
FEATURE = {
    "name": "Support chat",
    "team": "assistants",
    "kind": "interactive_chat",
    "components": ["model", "tools"],
    "latency_budgets": [
        {
            "milestone": "first_token",
            "budget_ms": 3000,
            "objective": 0.99,
            "window_days": 28,
            "allocations": {"model": 1500, "tools": 800},
        }
    ],
}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    document: Any
    seconds: float


@dataclass
class Installation:
    """What runs, and what was accepted."""

    servers: EmbeddedServers
    port: int
    processes: dict[str, Process] = field(default_factory=dict)
    key: str = ""
    accepted: int = 0
    _counting: threading.Lock = field(default_factory=threading.Lock)

    @property
    def data_dir(self) -> Path:
        return self.servers.data_dir

    # -- Processes

    def start_web(self) -> None:
        options = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", str(self.port)]
        threads = ["--workers", "1", "--blocking-threads", "4", "--log-level", "error", "--no-ws"]
        self._start("web", "granian", *options, *threads, "latency_dashboard.wsgi:application")
        assert eventually(lambda: self.ask("GET", "/healthz").status == 200, seconds=UP_SECONDS)

    def start_worker(self) -> None:
        alone = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        queues = [
            "--queues",
            "rollup,evaluate,maintain,deliver",
            "--concurrency",
            "2",
            "--prefetch-multiplier",
            "1",
        ]
        self._start_celery("worker", "worker", *queues, "--prefetch-multiplier", "1", *alone)

    def start_beat(self, name: str = "beat") -> None:
        self._start_celery(name, "beat", "--schedule", str(self.data_dir / name))

    def kill(self, name: str) -> None:
        """Kills all of it, as the kernel does where memory is short or a machine goes away."""
        os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.end(name)

    def kill_worker(self) -> None:
        self.kill("worker")

    def kill_pool(self) -> None:
        """Kills the processes in which tasks run, and leaves the one that receives them."""
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        ).stdout
        for line in listed.splitlines():
            pid, parent = map(int, line.split())
            if parent == self.processes["worker"].pid:
                os.kill(pid, signal.SIGKILL)

    def end(self, name: str) -> None:
        self.servers.processes.end(self.processes.pop(name))

    def start_again_what_ended(self) -> None:
        """As `make serve` does, or whatever else the processes run under."""
        if self.servers.postgres is not None and not self.servers.postgres.is_running:
            self.servers.stop_postgres()
            self.servers.start_postgres()
        for name, start in (("worker", self.start_worker), ("beat", self.start_beat)):
            if not self.processes[name].is_running:
                self.end(name)
                start()

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def log_of(self, name: str) -> str:
        return (self.data_dir / "log" / f"{name}.log").read_text()

    def _start_celery(self, name: str, *arguments: str) -> None:
        self._start(
            name, "celery", "--quiet", "--app", "latency_dashboard", *arguments, "--loglevel", "WARNING"
        )

    def _start(self, name: str, module: str, *arguments: str) -> None:
        self.processes[name] = self.servers.processes.start(
            Program(
                name=name,
                command=[sys.executable, "-m", module, *arguments],
                environment=self._environment(),
                folder=PROJECT,
                log=self.data_dir / "log" / f"{name}.log",
            )
        )

    def _environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        return ours | {"DATA_DIR": str(self.data_dir), "PORT": str(self.port), "PYTHONUNBUFFERED": "1"}

    # -- The API

    def ask(self, method: str, path: str, document: object = None, **headers: str) -> Answer:
        """What the web process answers; status 0 where it does not."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}", **headers}
        began = time.monotonic()
        try:
            connection.request(method, path, None if document is None else json.dumps(document), sent)
            response = connection.getresponse()
            body = response.read()
            found = json.loads(body) if body[:1] == b"{" else None
            return Answer(response.status, response.headers, found, time.monotonic() - began)
        except (OSError, http.client.HTTPException):
            return Answer(0, {}, None, time.monotonic() - began)
        finally:
            connection.close()

    def post(
        self, count: int = 10, *, ago: timedelta = timedelta(0), now: datetime | None = None, **headers: str
    ) -> Answer:
        """Posts measurements that ended so long ago, and keeps count of what was accepted.

        Send one again only where no answer came, and with the same `now`: a replay is counted here as well.
        """
        started_at = ((now or datetime.now(UTC)) - ago - timedelta(milliseconds=500)).isoformat()
        item = {"feature": "support-chat", "started_at": started_at, "duration_ms": 500}
        items = [{**item, "component": ("model", "tools")[n % 2]} for n in range(count)]
        answer = self.ask("POST", "/api/v1/measurements", {"measurements": items}, **headers)
        if answer.status == 200:
            with self._counting:
                self.accepted += answer.document["accepted"]
        return answer

    # -- The database

    @contextlib.contextmanager
    def database(self) -> Iterator[psycopg.Connection]:
        """A connection that holds what it locks until the end of the block."""
        where = embedded.database_settings(self.data_dir)
        with psycopg.connect(
            host=where["HOST"], port=where["PORT"], user=where["USER"], dbname=where["NAME"]
        ) as connection:
            yield connection
            connection.rollback()

    def value_of(self, query: str) -> Any:
        with self.database() as connection:
            row = connection.execute(query).fetchone()  # type: ignore[call-overload]
            return row and row[0]

    @property
    def pending(self) -> int:
        return self.value_of("SELECT count(*) FROM budgets_batch WHERE state = 'pending'")

    @property
    def rolled_up(self) -> int:
        return self.value_of("SELECT coalesce(sum(total), 0)::int FROM budgets_rollup_minute")

    @property
    def unacknowledged(self) -> int:
        """How many tasks the worker has received and not yet begun."""
        with redis.Redis.from_url(embedded.cache_url(self.data_dir, 0)) as broker:
            return int(broker.hlen("unacked"))

    def is_caught_up(self, seconds: float = 60.0) -> bool:
        """Whether in time everything that was accepted is rolled up, by itself."""
        return eventually(lambda: self.pending == 0, seconds=seconds)

    def assert_nothing_was_lost_or_counted_twice(self) -> None:
        assert self.rolled_up == self.accepted
        now = datetime.now(UTC)
        checked = self.manage(
            "rebuild_rollups",
            "--check",
            *("--from", (now - timedelta(days=3)).isoformat()),
            *("--to", (now + timedelta(hours=1)).isoformat()),
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "0 differences" in checked.stdout


@contextlib.contextmanager
def installed(data_dir: Path | None = None) -> Iterator[Installation]:
    """An installation in this empty folder or a fresh one, with one feature; everything ends with the block."""
    where = temporary_data_dir() if data_dir is None else contextlib.nullcontext(data_dir)
    with where as folder, EmbeddedServers(folder) as servers:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
        installation = Installation(servers, port)
        migrated = installation.manage("migrate", "--no-input")
        assert migrated.returncode == 0, migrated.stderr
        scopes = itertools.chain(*(("--scope", scope) for scope in ("ingest", "read", "write")))
        made = installation.manage("create_key", "--team", "assistants", "--name", "faults", *scopes)
        installation.key = made.stdout.strip()
        installation.start_web()
        installation.start_worker()
        installation.start_beat()
        assert installation.ask("PUT", "/api/v1/features/support-chat", FEATURE).status == 201
        try:
            yield installation
        finally:
            for name in [*installation.processes]:
                installation.end(name)
