"""The commands themselves, in a fresh copy of the tree: what a newcomer types, and how they end it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.children import PROJECT, eventually
from tests.plugins.servers import temporary_data_dir

pytestmark = pytest.mark.processes

# What this session has set for itself, and what a make that runs it passes on.
FOREIGN = {
    *("DATA_DIR", "DATABASE_URL", "REDIS_URL", "REDIS_DATABASE", "SECRET_KEY", "KEY_PEPPER"),
    *("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "DJANGO_SETTINGS_MODULE"),
}
# Alone on two cores everything is up in half a minute; here other tests run beside it.
UP_SECONDS = 400.0
GONE_SECONDS = 60.0


@dataclass
class Command:
    """A `make …` that runs in a copy of the tree."""

    make: subprocess.Popen[bytes]
    folder: Path
    port: int
    output: Path

    def says(self, words: str) -> bool:
        return words in self.output.read_text()

    def ask(self, method: str, path: str, *, key: str = "", document: object = None) -> tuple[int, str]:
        """The status and the body of the answer of the web process; status 0 where nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        body = None if document is None else json.dumps(document)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def headers_of(self, path: str) -> Mapping[str, str]:
        """What a browser that can inflate is told beside a file."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
            answer = connection.getresponse()
            answer.read()
            return answer.headers
        finally:
            connection.close()

    def make_key(self) -> str:
        """A key from the shell, which finds the running servers by the folder alone."""
        arguments = ["--team", "assistants", "--name", "test", "--scope", "ingest", "--scope", "read"]
        made = subprocess.run(
            [sys.executable, "manage.py", "create_key", *arguments],
            cwd=self.folder,
            env=_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return made.stdout.strip()

    def wait_until_up(self) -> None:
        up = eventually(lambda: self.says("Ctrl-C") or self.make.poll() is not None, seconds=UP_SECONDS)
        assert up, f"Not up in time:\n{self.output.read_text()}"
        assert self.make.poll() is None, self.output.read_text()

    def assert_nothing_is_left(self) -> None:
        left: list[str] = []

        def is_empty() -> bool:
            left[:] = processes_in(self.folder)
            return not left

        assert eventually(is_empty, seconds=GONE_SECONDS), "\n".join(left)
        assert self.ask("GET", "/healthz") == (0, "")


@pytest.fixture(scope="module")
def copy() -> Iterator[Path]:
    """A copy of the tree as a clone would give it, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    )
    with temporary_data_dir() as folder:
        project = folder / "project"
        for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
            if (PROJECT / name).is_file():
                (project / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / name, project / name)
        yield project
        eventually(lambda: not processes_in(project), seconds=GONE_SECONDS)


@contextlib.contextmanager
def running(copy: Path, target: str) -> Iterator[Command]:
    """`make <target>` at the head of a process group, like a command that is typed at a terminal."""
    port = _free_port()
    output = copy.parent / f"{target}-{port}.out"
    with output.open("wb") as stream:
        make = subprocess.Popen(
            ["make", target, f"PORT={port}", f"VENV={sys.prefix}", f"PYTHON={sys.executable}"],
            cwd=copy,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Command(make, copy, port, output)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(make.pid, signal.SIGKILL)
        make.wait()


def test_the_demo_comes_up_with_its_history_and_ctrl_c_ends_all_of_it(copy: Path):
    with running(copy, "demo") as demo:
        demo.wait_until_up()

        # 1. The page, and what it takes to log in.
        assert demo.ask("GET", "/healthz")[0] == 200
        status, page = demo.ask("GET", "/login/")
        assert (status, "<form" in page) == (200, True)
        assert demo.says("Log in as demo@example.com with password latency-demo")

        # Static files are named by what is in them, so browsers keep them for ever; and they come compressed.
        files = re.findall(r'(?:href|src)="(/static/[^"]+\.(?:css|js|svg))"', page)
        assert len(files) >= 4
        for path in files:
            assert re.search(r"\.[0-9a-f]{12}\.\w+$", path), path
            headers = demo.headers_of(path)
            assert headers["Cache-Control"] == "max-age=315360000, public, immutable", path
            assert (headers["Content-Encoding"], headers["Vary"]) == ("gzip", "Accept-Encoding"), path

        # 2. The API: four features, four weeks of them.
        key = demo.make_key()
        status, answer = demo.ask("GET", "/api/v1/features", key=key)
        assert (status, len(json.loads(answer)["items"])) == (200, 4)
        path = "/api/v1/features/support-chat/status?milestone=first_token"
        status, answer = demo.ask("GET", path, key=key)
        assert status == 200
        assert json.loads(answer)["total"] > 10_000

        # 3. A first measurement of one's own.
        item = {
            "feature": "support-chat",
            "component": "retrieval",
            "started_at": datetime.now(UTC).isoformat(),
            "duration_ms": 231.5,
            "environment": "staging",
        }
        status, answer = demo.ask("POST", "/api/v1/measurements", key=key, document={"measurements": [item]})
        assert (status, json.loads(answer)["accepted"]) == (200, 1)

        # 4. Live traffic flows, and everything that sweeps does.
        assert eventually(lambda: demo.ask("GET", "/readyz")[0] == 200, seconds=60)

        os.killpg(demo.make.pid, signal.SIGINT)

        demo.make.wait(timeout=GONE_SECONDS)
        assert demo.says("Stopped (SIGINT)")
        demo.assert_nothing_is_left()


def test_a_second_command_is_told_who_runs_the_first_and_kill_9_leaves_no_process_and_the_data_stays(
    copy: Path,
):
    with running(copy, "serve") as first:
        first.wait_until_up()
        key = first.make_key()
        with running(copy, "serve") as second:
            assert second.make.wait(timeout=60) != 0

            assert re.search(r"Process \d+ is already running on the data folder", second.output.read_text())
            assert first.ask("GET", "/healthz")[0] == 200
        first.make.kill()

        first.assert_nothing_is_left()

    with running(copy, "serve") as again:
        again.wait_until_up()
        assert again.ask("GET", "/api/v1/features", key=key)[0] == 200

        os.killpg(again.make.pid, signal.SIGKILL)

        again.assert_nothing_is_left()


def test_a_port_in_use_is_an_error_before_anything_starts(copy: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with temporary_data_dir() as data_dir:
            refused = subprocess.run(
                [sys.executable, "-m", "latency_dashboard.serve"],
                cwd=copy,
                env=_environment() | {"PORT": str(port), "DATA_DIR": str(data_dir)},
                capture_output=True,
                text=True,
                check=False,
            )
            started = (data_dir / "postgres").exists()

    assert refused.returncode == 1
    assert f"Port {port} of 127.0.0.1 cannot be used" in refused.stdout
    assert "Traceback" not in refused.stderr
    assert not started


def test_make_alone_lists_the_commands(copy: Path):
    listed = subprocess.run(
        ["make"], cwd=copy, env=_environment(), capture_output=True, text=True, check=True
    )

    assert {"demo", "serve", "test", "bench", "lint", "help"} <= set(re.findall(r"make (\w+)", listed.stdout))


def processes_in(folder: Path) -> list[str]:
    """The processes that work in this folder or were told of it, as lines for a message."""
    needle = os.fsencode(folder)
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            command = (entry / "cmdline").read_bytes()
            told = needle in command or needle in (entry / "environ").read_bytes()
            if state != "Z" and (told or os.fsencode(os.readlink(entry / "cwd")).startswith(needle)):
                found.append(f"{entry.name} {command.replace(bytes(1), b' ').decode(errors='replace')}")
    return found


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in FOREIGN}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
