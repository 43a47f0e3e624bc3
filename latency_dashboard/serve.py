"""Runs the whole product with one command: `python -m latency_dashboard.serve [--demo]`.

It starts the embedded servers that no URL replaces, migrates, collects static files, starts web, workers and
beat, and keeps them up until Ctrl-C. With `--demo` it also loads four features with 28 days of history and
keeps live traffic flowing. It reads the settings but loads no application, so it stays small.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "latency_dashboard.settings")

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from latency_dashboard.embedded import EmbeddedError, EmbeddedServers
from latency_dashboard.supervisor import Program, ProgramError, Stopped, Supervisor

# What a person at the terminal should see of the logs; the rest is in DATA_DIR/log.
_TROUBLE = re.compile(
    r"^(?!.* WARNING (django\.request|py\.warnings) )"  # a page that is not there is no trouble of ours
    r"(.*\b(WARNING|ERROR|CRITICAL|FATAL)\b|\S*(Error|Exception)\b)"
)
# As in budgets.demo.features, which would load all of the demo into this small process.
_DEMO_TEAM = "assistants"
_PAGES_UP_SECONDS = 120.0
_STEP_SECONDS = 300.0

# The demo shows 28 days minute by minute, and its incidents resolve while one watches.
_DEMO_ENVIRONMENT = {
    "RAW_RETENTION_DAYS": "30",
    "MINUTE_RETENTION_DAYS": "30",
    "ALERT_KEEP_FIRING_SECONDS": "60",
}


def main() -> int:
    """The command; its exit code is 0 where it was asked to stop and 1 where it could not go on."""
    options = _options()
    # The demo's retention counts for its workers; settings of the person at the keyboard come first.
    # A person reads these logs, whoever's the database is.
    environment = {"LOG_FORMAT": "text"} | (_DEMO_ENVIRONMENT if options.demo else {}) | os.environ
    console = _Console()
    try:
        with Supervisor(say=console.say, ends_with_parent=options.ends_with_parent) as supervisor:
            server = _Server(supervisor, console, environment)
            try:
                server.start(demo=options.demo)
                supervisor.watch()
            finally:
                if supervisor.running:
                    console.say("Stopping …")
                supervisor.close()
                server.servers.stop()
    except Stopped as reason:
        console.say(f"Stopped ({reason}). The data stays in {settings.DATA_DIR}.")
        return 0
    except (EmbeddedError, ImproperlyConfigured, ProgramError, _PortError) as error:
        console.say(f"Error: {error}")
        return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m latency_dashboard.serve", description=__doc__)
    parser.add_argument("--demo", action="store_true", help="load demo features, history and live traffic")
    parser.add_argument(
        "--ends-with-parent",
        action="store_true",
        help="stop when the process that started this one ends, e.g. make by kill -9",
    )
    return parser.parse_args()


class _PortError(Exception):
    """The port cannot be listened on. The message says why and what to do."""


class _Console:
    """Short lines for a person, the steps with the seconds since the start."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()

    def say(self, line: str) -> None:
        # The terminal may be gone: that must not keep us from stopping in order.
        with contextlib.suppress(OSError):
            print(line, flush=True)  # noqa: T201

    def step(self, line: str) -> None:
        self.say(f"{time.monotonic() - self._started_at:5.1f} s  {line}")


class _Server:
    """The steps of the command, in order."""

    def __init__(self, supervisor: Supervisor, console: _Console, environment: Mapping[str, str]) -> None:
        self.data_dir = Path(settings.DATA_DIR)
        self.servers = EmbeddedServers(
            self.data_dir,
            processes=supervisor,
            postgres=settings.EMBEDDED_POSTGRES,
            valkey=settings.EMBEDDED_REDIS,
        )
        self._supervisor = supervisor
        self._console = console
        self._environment = {
            **environment,
            "DATA_DIR": str(self.data_dir),
            "PYTHONUNBUFFERED": "1",
        }
        self._address = os.environ.get("LISTEN_ADDRESS") or "127.0.0.1"

    def start(self, *, demo: bool) -> None:
        """Starts everything and tells where it is.

        1. Claim the data folder and look at the port: nothing runs yet. 2. Servers. 3. Migrations beside
        static files. 4. Web beside the first account. 5. Workers and beat. 6. The demo's history and traffic.
        """
        self.servers.claim()
        _check_port(self._address, settings.PORT)
        self._console.say(f"Latency Dashboard · data in {self.data_dir}")
        self._start_servers()
        self._prepare()
        self._keep_up(self._web())
        [account] = self._run(self._command("ensure_admin", *(self._demo_account() if demo else [])))
        for program in (self._worker(), self._delivery_worker(), self._beat()):
            self._keep_up(program)
        self._wait_for_pages()
        self._console.step(f"pages are up at {settings.PUBLIC_URL}/")
        if demo:
            self._console.step("loading 28 days of history …")
            self._run(self._command("demo_history"))
            self._console.step("history is loaded, live traffic starts")
            url = f"http://{_reachable(self._address)}:{settings.PORT}"
            self._keep_up(self._command("demo_traffic", "--url", url, log="traffic"))
        self._tell(account)

    def _start_servers(self) -> None:
        self.servers.start()
        for server in (self.servers.postgres, self.servers.valkey):
            if server is not None:
                self._supervisor.keep_up(server)
        named = {"PostgreSQL": self.servers.postgres, "Valkey": self.servers.valkey}
        started = [name for name, server in named.items() if server is not None]
        if started:
            self._console.step(f"started {' and '.join(started)}")

    def _prepare(self) -> None:
        programs = [self._command("migrate", "--no-input")]
        key = _static_key()
        key_file = self.data_dir / "static.key"
        static_root = Path(settings.STATIC_ROOT)
        is_collected = static_root.is_dir() and key_file.exists() and key_file.read_text() == key
        if not is_collected:
            programs.append(self._command("collectstatic", "--no-input", "--clear"))
        self._run(*programs)
        key_file.write_text(key)
        # What an earlier run has counted: its process ids will be somebody else's.
        shutil.rmtree(settings.METRICS_DIR, ignore_errors=True)
        self._console.step("database is up to date" + ("" if is_collected else ", static files collected"))

    def _wait_for_pages(self) -> None:
        if not self._supervisor.wait_until(self._answers, timeout_seconds=_PAGES_UP_SECONDS):
            log = self.data_dir / "log" / "web.log"
            last_words = "\n".join(log.read_text().splitlines()[-25:])
            raise ProgramError(f"No page within {_PAGES_UP_SECONDS:g} s. {log} ends so:\n{last_words}")

    def _answers(self) -> bool:
        """Whether our own web process answers, be it by a redirect or by refusing this host's name."""
        connection = http.client.HTTPConnection(_reachable(self._address), settings.PORT, timeout=2)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _demo_account(self) -> list[str]:
        """A password that everybody knows is for a demo on one's own machine; elsewhere one is made up."""
        is_local = self._address in ("127.0.0.1", "::1", "localhost")
        known = ["--password", "latency-demo"] if is_local else []
        return ["--email", "demo@example.com", *known, "--team", _DEMO_TEAM]

    def _tell(self, account: str) -> None:
        lines = [
            "",
            f"  Open     {settings.PUBLIC_URL}/",
            *(f"           {line}" for line in account.strip().splitlines()),
            f"  Logs     {self.data_dir / 'log'}",
            "  Stop     Ctrl-C",
            "",
        ]
        self._console.say("\n".join(lines))

    # -- programs

    def _keep_up(self, program: Program) -> None:
        self._supervisor.keep_up(self._supervisor.start(program))

    def _run(self, *programs: Program) -> list[str]:
        return self._supervisor.run(*programs, timeout_seconds=_STEP_SECONDS)

    def _program(self, name: str, command: list[str], *, log: str | None = None) -> Program:
        return Program(
            name=name,
            command=[sys.executable, *command],
            environment=self._environment,
            folder=settings.BASE_DIR,
            log=None if log is None else self.data_dir / "log" / f"{log}.log",
            echo=_TROUBLE,
        )

    def _command(self, name: str, *arguments: str, log: str | None = None) -> Program:
        return self._program(log or name, ["manage.py", name, *arguments], log=log)

    def _web(self) -> Program:
        options = {
            "--interface": "wsgi",
            "--host": self._address,
            "--port": str(settings.PORT),
            "--workers": str(min(2, os.cpu_count() or 1)),
            # Threads wait for PostgreSQL; each keeps a connection.
            "--blocking-threads": "8",
            "--backlog": "1024",
            "--workers-kill-timeout": "8",
            "--log-level": "error",
        }
        arguments = [part for option in options.items() for part in option]
        application = "latency_dashboard.wsgi:application"
        flags = ["--no-ws", "--respawn-failed-workers"]
        return self._program("web", ["-m", "granian", *arguments, *flags, application], log="web")

    def _worker(self) -> Program:
        return self._celery_worker("worker", "--queues", "rollup,evaluate,maintain", "--concurrency", "3")

    def _delivery_worker(self) -> Program:
        # Threads of its own: a webhook that hangs delays neither roll-ups nor other webhooks.
        options = ["--queues", "deliver", "--pool", "threads", "--concurrency", "16"]
        return self._celery_worker("deliver", *options)

    def _celery_worker(self, name: str, *options: str) -> Program:
        # The workers share no state; talking to each other would only slow their start.
        alone = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        prefetch = ["--prefetch-multiplier", "1"]
        return self._celery(name, "worker", "--hostname", f"{name}@%h", *options, *prefetch, *alone)

    def _beat(self) -> Program:
        schedule = self.data_dir / "beat" / "schedule"
        schedule.parent.mkdir(exist_ok=True)
        return self._celery("beat", "beat", "--schedule", str(schedule))

    def _celery(self, name: str, *arguments: str) -> Program:
        command = ["-m", "celery", "--quiet", "--app", "latency_dashboard", *arguments]
        return self._program(name, [*command, "--loglevel", "WARNING"], log=name)


def _check_port(address: str, port: int) -> None:
    """Raises _PortError where the web process could not listen."""
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except OSError as error:
        raise _PortError(
            f"Port {port} of {address} cannot be used ({error.strerror}). Nothing was started. "
            f"Choose another, e.g. PORT={port + 1}."
        ) from error


def _reachable(address: str) -> str:
    """The address at which a listener on all addresses answers ourselves."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104


def _static_key() -> str:
    """Changes where static files do: our own, or the versions of the packages that bring the others."""
    digest = hashlib.sha256((settings.BASE_DIR / "requirements.txt").read_bytes())
    digest.update(Path(settings.STATIC_ROOT).as_posix().encode())
    for module in ("settings.py", "staticfinders.py"):
        digest.update((settings.BASE_DIR / "latency_dashboard" / module).read_bytes())
    for path in static_files():
        digest.update(f"{path}:{path.stat().st_size}:{path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


def static_files() -> list[Path]:
    """Our own, sorted: those in the folders of the packages that hold applications."""
    packages = {app.partition(".")[0] for app in settings.INSTALLED_APPS}
    folders = [
        *map(Path, settings.STATICFILES_DIRS),
        *(settings.BASE_DIR / one / "static" for one in packages),
    ]
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
