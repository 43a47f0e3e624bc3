"""docker-compose.yml and the Dockerfile: what they say is what runs here, without Docker.

The files are read, the tree is laid out as the image has it, and every command and every health check of our
services runs as a process with the environment that the files give it. Only addresses and ports are the test's.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from django.conf import settings
from django.db import connection
from redis import Redis

from latency_dashboard import programs
from latency_dashboard.embedded import EmbeddedServers
from latency_dashboard.supervisor import Process, Processes, Program
from tests.children import PROJECT, eventually
from tests.latency_dashboard.web import database_url
from tests.plugins.servers import temporary_data_dir
from tests.receivers import WebhookReceiver, webhook_receiver

__all__ = ["webhook_receiver"]

OURS = ("web", "worker", "deliver", "beat", "migrate")
COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = re.sub(r"\\\n\s*", " ", (PROJECT / "Dockerfile").read_text())
# As somebody fills in .env.
ENV_FILE = {
    "SECRET_KEY": "compose-secret-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGH",
    "KEY_PEPPER": "compose-pepper-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGH",
    "POSTGRES_PASSWORD": "0123456789abcdef",
    "PUBLIC_URL": "https://latency.example.org",
    "TRUST_X_FORWARDED_PROTO": "true",
    "METRICS_TOKEN": "compose-metrics-token-0123456789",
    "OUTBOUND_ALLOWED_CIDRS": "127.0.0.1/32",
}
UP_SECONDS = 90.0
TMP = "/tmp"  # noqa: S108


def interpolated(value: str, given: Mapping[str, str]) -> str:
    """What Compose makes of ${NAME}, ${NAME:-default} and ${NAME:?message}."""

    def replace(found: re.Match[str]) -> str:
        name, operator, rest = found["name"], found["operator"], found["rest"] or ""
        if given.get(name):
            return given[name]
        assert operator != ":?", f"{name} {rest}"
        return rest

    return re.sub(r"\$\{(?P<name>[A-Z_]+)(?:(?P<operator>:[-?])(?P<rest>[^}]*))?\}", replace, value)


def environment_of(service: str, given: Mapping[str, str] = ENV_FILE) -> dict[str, str]:
    """The variables of a service's container; one without a value is handed on where it is given."""
    stated: dict[str, str | None] = SERVICES[service]["environment"]
    found = {
        name: given.get(name) if value is None else interpolated(value, given)
        for name, value in stated.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def command_of(service: str) -> list[str]:
    command = SERVICES[service]["command"]
    return shlex.split(command) if isinstance(command, str) else [str(part) for part in command]


def health_check_of(service: str) -> list[str]:
    kind, *command = SERVICES[service]["healthcheck"]["test"]
    assert kind == "CMD"
    return command


def dockerfile_environment() -> dict[str, str]:
    """ENV of the last stage."""
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    [line] = re.findall(r"^ENV (.*)$", last, re.MULTILINE)
    return dict(pair.split("=", 1) for pair in line.split())


# -- the files --------------------------------------------------------------------------------------


def test_the_services_are_those_that_it_takes() -> None:
    assert set(SERVICES) == {*OURS, "postgres", "redis"}


@pytest.mark.parametrize("service", OURS)
def test_our_services_run_one_image_without_privileges_and_write_to_memory_alone(service: str) -> None:
    it = SERVICES[service]
    assert it["image"] == SERVICES["web"]["image"]
    assert it["build"] == "."
    assert it["read_only"] is True
    assert [mount.partition(":")[0] for mount in it["tmpfs"]] == [TMP]
    assert it["cap_drop"] == ["ALL"]
    assert it["security_opt"] == ["no-new-privileges:true"]
    assert "volumes" not in it
    assert it["environment"] == SERVICES["web"]["environment"]


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_restarts_and_has_a_health_check_and_a_limit_of_memory(service: str) -> None:
    it = SERVICES[service]
    assert it["restart"] == ("on-failure:5" if service == "migrate" else "unless-stopped")
    assert it["deploy"]["resources"]["limits"]["memory"]
    assert it["logging"]["options"]["max-size"]
    if service == "migrate":  # it ends: what counts is how
        assert it["healthcheck"] == {"disable": True}
    else:
        assert it["healthcheck"]["test"][0] == "CMD"
        assert {"interval", "timeout", "retries"} <= set(it["healthcheck"])


@pytest.mark.parametrize("service", sorted(set(OURS) - {"migrate"}))
def test_nothing_starts_before_the_database_is_up_to_date(service: str) -> None:
    needs = {name: need["condition"] for name, need in SERVICES[service]["depends_on"].items()}
    assert needs == {
        "migrate": "service_completed_successfully",
        "postgres": "service_healthy",
        "redis": "service_healthy",
    }
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_data_lives_in_a_named_volume_and_only_the_web_service_is_reached() -> None:
    assert set(COMPOSE["volumes"]) == {"postgres"}
    # From PostgreSQL 18 on the image keeps a folder for each major version below this one.
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]
    assert [name for name, it in SERVICES.items() if "ports" in it] == ["web"]
    assert interpolated(SERVICES["web"]["ports"][0], {}) == "127.0.0.1:8000:8000"


def test_every_image_is_pinned_to_a_version() -> None:
    for service in ("postgres", "redis"):
        assert re.fullmatch(r"[a-z]+:\d+(\.\d+)*-bookworm", SERVICES[service]["image"])
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm", bases[0])


def test_no_secret_has_a_default_or_a_value() -> None:
    text = (PROJECT / "docker-compose.yml").read_text()
    for name, operator in re.findall(r"\$\{([A-Z_]+)(:?[-?+]?)", text):
        if re.search("SECRET|PEPPER|PASSWORD|TOKEN|KEY", name):
            assert operator == ":?", name
    for service, it in SERVICES.items():
        for name, value in it.get("environment", {}).items():
            if re.search("SECRET|PEPPER|PASSWORD|TOKEN|KEY|DATABASE_URL", name) and value is not None:
                assert ":?" in value, (service, name)
    example = dict(re.findall(r"^([A-Z_]+)=(.*)$", (PROJECT / ".env.example").read_text(), re.MULTILINE))
    assert {example[name] for name in ("SECRET_KEY", "KEY_PEPPER", "POSTGRES_PASSWORD")} == {""}


@pytest.mark.parametrize("missing", ["SECRET_KEY", "KEY_PEPPER", "POSTGRES_PASSWORD", "PUBLIC_URL"])
def test_what_is_required_is_asked_for(missing: str) -> None:
    with pytest.raises(AssertionError, match=f"{missing} is missing in .env"):
        environment_of("web", {**ENV_FILE, missing: ""})


def test_every_variable_is_documented() -> None:
    documented = (PROJECT / "docs/reference/settings.md").read_text()
    text = (PROJECT / "docker-compose.yml").read_text()
    used = set(re.findall(r"\$\{([A-Z_]+)", text)) | set(dockerfile_environment())
    for service in SERVICES.values():
        used |= set(service.get("environment", {}))
    used |= set(re.findall(r"^#?([A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE))
    of_the_system = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "DJANGO_SETTINGS_MODULE"}
    of_postgres = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_INITDB_ARGS"}
    assert [
        name for name in sorted(used - of_the_system - of_postgres) if f"`{name}`" not in documented
    ] == []


def test_every_compose_command_of_the_documentation_names_services_that_exist() -> None:
    takes_value = {
        "-e",
        "-u",
        "-v",
        "--user",
        "--volume",
        "--env",
        "--scale",
        "--username",
        "--dbname",
        "--command",
        "--tail",
    }
    named = set()
    for page in (PROJECT / "docs").rglob("*.md"):
        text = re.sub(r"\\\n\s*", " ", page.read_text())
        for line in re.findall(r"docker compose ((?:run|exec|up|stop|logs|pull) [^\n`>|]*)", text):
            subcommand, *words = shlex.split(line, comments=True)
            named |= {word.partition("=")[0] for word in re.findall(r"--scale (\S+)", line)}
            skip = False
            for word in words:
                if skip or word.startswith("-"):
                    skip = not skip and word in takes_value
                    continue
                named.add(word)
                if subcommand in ("run", "exec"):
                    break  # what follows is the command
    assert named <= set(SERVICES), named - set(SERVICES)
    assert {"web", "migrate", "postgres", "worker", "deliver"} <= named


def test_postgres_and_redis_are_set_up_like_the_embedded_ones() -> None:
    with temporary_data_dir() as folder:
        embedded = EmbeddedServers(folder)._postgres_settings()
    given = dict(part.removeprefix("-c").split("=") for part in command_of("postgres")[1:])
    assert given == {name: embedded[name] for name in given}
    assert {"max_connections", "max_locks_per_transaction", "jit"} <= set(given)


# -- the image --------------------------------------------------------------------------------------


def test_the_image_is_built_from_hashes_and_runs_as_nobody_in_particular() -> None:
    assert "pip install --require-hashes --only-binary :all: -r /build/requirements.txt" in DOCKERFILE
    assert "requirements-" not in DOCKERFILE  # neither embedded servers nor what it takes to test
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER (\d+):\1$", last, re.MULTILINE)
    assert not re.search(r"SECRET|PEPPER|PASSWORD|TOKEN", last)
    assert "ARG" not in DOCKERFILE


def test_the_image_runs_the_web_service_where_no_command_is_given() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    [command] = re.findall(r"^CMD (\[.*\])$", last, re.MULTILINE)
    joined = [part for one in json.loads(command) for part in [one]]
    assert " ".join(joined).replace("=", " ") == " ".join(command_of("web")).replace("=", " ")
    [check] = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", last, re.MULTILINE)
    assert json.loads(check) == health_check_of("web")


def test_everything_that_is_copied_exists_and_is_not_ignored() -> None:
    allowed = {
        line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = {name for names in copies() for name in names[0]}
    assert copied == allowed
    assert all((PROJECT / name).exists() for name in copied)


def copies() -> list[tuple[list[str], str]]:
    """(sources, target) of each COPY out of the tree."""
    found = [shlex.split(line) for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)]
    return [(parts[:-1], parts[-1]) for parts in found]


@dataclass
class Image:
    """The tree as the image has it, in a folder that stands for / of its containers."""

    root: Path

    @property
    def app(self) -> Path:
        return self.root / "app"

    def here(self, text: str, tmp: str = "tmp") -> str:
        """A path of the image as it is found here; each container has a /tmp of its own."""
        text = re.sub(r"(?<![\w/])/tmp(?=/|$)", f"{self.root}/{tmp}", text)
        return re.sub(r"(?<![\w/])/app(?=/|$)", f"{self.root}/app", text)

    def command(self, words: list[str], tmp: str = "tmp") -> list[str]:
        """With the programs of this virtual environment for those of /opt/venv."""
        program = words[0].removeprefix("/opt/venv/bin/")
        return [str(Path(sys.prefix) / "bin" / program), *(self.here(word, tmp) for word in words[1:])]

    def environment(self, stated: Mapping[str, str], tmp: str = "tmp") -> dict[str, str]:
        """The Dockerfile's variables, then the service's, and nothing of this session's."""
        found = {name: self.here(value, tmp) for name, value in (dockerfile_environment() | stated).items()}
        return found | {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}

    def files(self) -> set[Path]:
        return {path for path in self.app.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """Laid out by the Dockerfile's COPY lines, with static files collected by its own command."""
    with temporary_data_dir() as root:
        (root / "tmp").mkdir()
        it = Image(root)
        for sources, target in copies():
            if not target.startswith("/app"):
                continue
            for source in sources:
                into = root / target.strip("/")
                if (PROJECT / source).is_dir():
                    shutil.copytree(PROJECT / source, into, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    into.mkdir(parents=True, exist_ok=True)
                    shutil.copy(PROJECT / source, into)
        [line] = re.findall(
            r"^RUN ((?:\w+=\S+ +)+)(/opt/venv/bin/python manage.py [^&]*)", DOCKERFILE, re.MULTILINE
        )
        variables = dict(pair.split("=", 1) for pair in line[0].split())
        done = subprocess.run(
            it.command(shlex.split(line[1])),
            cwd=it.app,
            env={name: it.here(value) for name, value in variables.items()} | {"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield it


def test_static_files_are_collected_while_building_and_without_any_server(image: Image) -> None:
    manifest = json.loads((image.app / "static/staticfiles.json").read_text())
    assert "css/pages.css" in manifest["paths"]
    assert (image.app / "static" / manifest["paths"]["css/pages.css"]).with_suffix(".css.gz").is_file()
    assert not (image.root / "tmp/data").exists()


def test_the_images_settings_start_no_server_and_write_nothing_below_the_data_folder(image: Image) -> None:
    script = (
        "import django; django.setup()\n"
        "from django.conf import settings\n"
        "assert not settings.EMBEDDED_POSTGRES and not settings.EMBEDDED_REDIS\n"
        "assert settings.LOG_FORMAT == 'json' and not settings.DEBUG\n"
        "print(settings.DATA_DIR)"
    )
    done = subprocess.run(
        image.command(["python", "-c", script]),
        cwd=image.app,
        env=image.environment(environment_of("web")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not Path(done.stdout.strip()).exists()


def test_the_deployment_checks_are_silent_under_these_settings(image: Image) -> None:
    done = run(
        image,
        "web",
        ["python", "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        EMAIL_URL="smtp://mail.example.org",
    )
    assert done.returncode == 0, done.stderr


def run(image: Image, service: str, words: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        image.command(words),
        cwd=image.app,
        env=image.environment(environment_of(service)) | more,
        capture_output=True,
        text=True,
        check=False,
    )


# -- the services -----------------------------------------------------------------------------------


@dataclass
class Running:
    """The services as processes over the test's own servers."""

    image: Image
    processes: Processes
    addresses: dict[str, str]
    port: int
    started: dict[str, Process] = field(default_factory=dict)

    def environment(self, service: str) -> dict[str, str]:
        stated = self.image.environment(environment_of(service), self.tmp(service))
        return stated | self.addresses | {"PORT": str(self.port)}

    def tmp(self, service: str) -> str:
        (self.image.root / f"tmp-{service}").mkdir(exist_ok=True)
        return f"tmp-{service}"

    def start(self, service: str) -> None:
        words = [part.replace("=8000", f"={self.port}") for part in command_of(service)]
        self.started[service] = self.processes.start(
            Program(
                name=service,
                command=self.image.command(words, self.tmp(service)),
                environment=self.environment(service),
                folder=self.image.app,
                log=self.log(service),
            )
        )

    def log(self, service: str) -> Path:
        return self.image.root / f"{service}.log"

    def lines(self, service: str) -> list[dict[str, Any]]:
        found = self.log(service).read_text().splitlines()
        others = [line for line in found if not line.startswith("{")]
        assert others == [], f"{service} wrote lines that are no JSON"
        return [json.loads(line) for line in found]

    def check(self, service: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.image.command(health_check_of(service)),
            cwd=self.image.app,
            env=self.environment(service),
            capture_output=True,
            text=True,
            check=False,
        )

    def is_healthy(self, service: str) -> bool:
        return self.check(service).returncode == 0

    def ask(self, method: str, path: str, document: object = None, **headers: str) -> tuple[int, Any]:
        """As the proxy asks."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {
            "Host": "latency.example.org",
            "X-Forwarded-Proto": "https",
            "Content-Type": "application/json",
        }
        try:
            client.request(method, path, None if document is None else json.dumps(document), sent | headers)
            response = client.getresponse()
            text = response.read().decode()
        finally:
            client.close()
        return response.status, json.loads(text) if text.startswith("{") else text


@pytest.fixture(scope="module")
def running(image: Image, django_db_setup: None, django_db_blocker: Any) -> Iterator[Running]:
    """A database of its own, a Redis started by its own command, and all of our services."""
    name = f"compose_{os.getpid()}"
    with contextlib.ExitStack() as stack:
        stack.enter_context(django_db_blocker.unblock())
        url = re.sub(r"^postgres:///[^?]*", f"postgres:///{name}", database_url())
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"')
        stack.callback(_drop, name)
        processes = stack.enter_context(Processes())
        redis_port, port = free_port(), free_port()
        redis = [
            str(programs.find_valkey()),
            *command_of("redis")[1:],
            "--port",
            str(redis_port),
            "--dir",
            str(image.root),
        ]
        processes.start(
            Program(
                name="redis",
                command=redis,
                environment={},
                folder=image.root,
                log=image.root / "redis.log",
                is_server=True,
            )
        )
        with Redis(port=redis_port) as client:
            assert eventually(lambda: _answers(client))
        addresses = {"DATABASE_URL": url, "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0"}
        it = Running(image, processes, addresses, port)
        it.start("migrate")
        assert eventually(lambda: not it.started["migrate"].is_running, seconds=UP_SECONDS)
        assert it.started["migrate"].popen.returncode == 0, it.log("migrate").read_text()
        for service in ("web", "worker", "deliver", "beat"):
            it.start(service)
        yield it


def _drop(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except OSError:
        return False
    except Exception as error:
        return "Connection" not in type(error).__name__


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.processes
@pytest.mark.parametrize("service", ["web", "worker", "deliver", "beat"])
def test_each_command_runs_and_its_health_check_says_so(running: Running, service: str) -> None:
    up = eventually(lambda: running.is_healthy(service), seconds=UP_SECONDS)
    assert up, running.check(service).stdout + running.log(service).read_text()
    assert running.started[service].is_running


@pytest.mark.processes
@pytest.mark.parametrize("service", ["worker", "deliver", "beat"])
def test_a_heartbeat_goes_on_and_a_stale_one_is_told(running: Running, service: str) -> None:
    heartbeat = Path(running.environment(service)["HEARTBEAT_FILE"])
    assert eventually(heartbeat.exists, seconds=UP_SECONDS)
    os.utime(heartbeat, (0, 0))
    told = running.check(service)
    # Or it beat between the two: then it goes on.
    assert (told.returncode, "heartbeat was" in told.stdout) == (1, True) or running.is_healthy(service)
    assert eventually(lambda: running.is_healthy(service), seconds=20)


def test_a_web_service_that_is_not_there_and_a_heartbeat_that_never_came_are_told(image: Image) -> None:
    more = {"PORT": str(free_port()), "HEARTBEAT_FILE": str(image.root / "never")}
    for service in ("web", "worker"):
        told = run(image, service, health_check_of(service), **more)
        assert told.returncode == 1
        assert "does not answer" in told.stdout or "no heartbeat yet" in told.stdout


def test_a_health_check_costs_next_to_nothing(image: Image) -> None:
    """A twentieth of a second of processor time, every quarter of a minute."""
    before = os.times()
    for _ in range(5):
        run(image, "worker", health_check_of("worker"))
    after = os.times()
    spent_s = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent_s / 5 < 0.25


@pytest.mark.processes
def test_a_request_is_followed_through_roll_up_evaluation_and_delivery(
    running: Running, webhook_receiver: WebhookReceiver
) -> None:
    """In the lines of three services, which are JSON to the last."""
    assert eventually(lambda: running.is_healthy("web"), seconds=UP_SECONDS)
    arguments = [
        "--team",
        "assistants",
        "--name",
        "compose",
        "--scope",
        "ingest",
        "--scope",
        "read",
        "--scope",
        "write",
    ]
    made = run(running.image, "web", ["python", "manage.py", "create_key", *arguments], **running.addresses)
    assert made.returncode == 0, made.stderr
    key = {"Authorization": f"Bearer {made.stdout.strip()}"}
    feature = {
        "name": "Chat",
        "team": "assistants",
        "kind": "interactive_chat",
        "components": ["model"],
        "latency_budgets": [
            {"milestone": "complete", "budget_ms": 3000, "objective": 0.99, "window_days": 28}
        ],
    }
    assert running.ask("PUT", "/api/v1/features/chat", feature, **key)[0] == 201
    channel = {"kind": "webhook", "url": webhook_receiver.url, "secret": "whsec_" + "c2VjcmV0" * 4}
    assert running.ask("PUT", "/api/v1/channels/ops", channel, **key)[0] in (200, 201)
    assert eventually(lambda: running.ask("GET", "/readyz")[0] == 200, seconds=UP_SECONDS), running.ask(
        "GET", "/readyz"
    )
    slow = {"feature": "chat", "milestone": "complete", "started_at": time.time() - 12, "duration_ms": 9000}
    status, answer = running.ask(
        "POST", "/api/v1/measurements", {"measurements": [slow] * 60}, **key, **{"X-Request-ID": "slow-1"}
    )
    assert (status, answer["accepted"]) == (200, 60)
    assert eventually(lambda: len(webhook_receiver.requests) > 0, seconds=30), running.lines("worker")

    def said(service: str, logger: str) -> list[dict[str, Any]]:
        return [
            line
            for line in running.lines(service)
            if line["logger"] == logger and line.get("request_id") == "slow-1"
        ]

    assert eventually(lambda: len(said("deliver", "alerts.tasks")) > 0)
    [request] = said("web", "latency_dashboard.access")
    assert (request["route"], request["status"]) == ("/api/v1/measurements", 200)
    [rolled_up] = said("worker", "budgets.tasks")
    assert rolled_up["measurements"] == 60
    opened = [line["opened"] for line in said("worker", "alerts.tasks") if line["opened"]]
    [delivered] = said("deliver", "alerts.tasks")
    assert opened == [[delivered["incident_id"]]]
    assert delivered["is_delivered"] is True

    # Of all services every line is JSON, and none holds a secret.
    for service in ("web", "worker", "deliver", "beat", "migrate"):
        text = running.log(service).read_text()
        if service != "migrate":  # a command speaks to a person
            assert all({"time", "level", "logger", "message"} <= set(line) for line in running.lines(service))
        for secret in (*ENV_FILE.values(), made.stdout.strip(), channel["secret"]):
            assert secret in (ENV_FILE["PUBLIC_URL"], "true", "127.0.0.1/32") or secret not in text, service


@pytest.mark.processes
def test_metrics_are_served_and_nothing_was_written_into_the_image(running: Running) -> None:
    assert eventually(lambda: running.is_healthy("web"), seconds=UP_SECONDS)
    status, text = running.ask("GET", "/metrics", Authorization=f"Bearer {ENV_FILE['METRICS_TOKEN']}")
    assert status == 200
    assert "latency_dashboard_sweep_age_seconds" in text
    fresh = {running.image.app / name for sources, _ in copies() for name in sources}
    for path in running.image.files():
        inside = any(path.is_relative_to(part) for part in fresh) or path.is_relative_to(
            running.image.app / "static"
        )
        assert inside, path
    assert not (running.image.root / "tmp/latency-dashboard").exists()


def test_psycopg_reads_the_address_of_the_database_as_compose_gives_it() -> None:
    parts = psycopg.conninfo.conninfo_to_dict(environment_of("web")["DATABASE_URL"])
    assert (parts["host"], parts["user"], parts["password"]) == (
        "postgres",
        "latency_dashboard",
        ENV_FILE["POSTGRES_PASSWORD"],
    )
    assert SERVICES["postgres"]["environment"]["POSTGRES_DB"] == parts["dbname"]
    assert settings.DATABASES["default"]["ENGINE"]
