"""Gives a test session a real PostgreSQL and a real Valkey of its own.

Loaded by `-p tests.plugins.servers`, so that the servers run before pytest-django reads the settings. The
process that was started by hand starts them, in a fresh folder and without waiting for the disk; workers of
pytest-xdist find them through the environment. A worker has its own database (pytest-django names it) and
its own Redis databases. Where DATABASE_URL or REDIS_URL is set, that server is used instead.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from latency_dashboard.embedded import EmbeddedServers

# Settings of the person at the keyboard that must not change what is tested.
_FOREIGN_SETTINGS = (
    "ALLOWED_HOSTS",
    "DEBUG",
    "DEFAULT_FROM_EMAIL",
    "EMAIL_URL",
    "LOG_LEVEL",
    "PORT",
    "PUBLIC_URL",
    "STATIC_ROOT",
)

_session = contextlib.ExitStack()
# Also where pytest fails before it configures anything. After a kill -9 the servers' guard does it.
atexit.register(_session.close)


@contextlib.contextmanager
def temporary_data_dir() -> Iterator[Path]:
    """A fresh DATA_DIR with a short path, removed afterwards; as root, one that user nobody may enter."""
    is_root = os.geteuid() == 0
    # root's own TMPDIR may be closed to others.
    folder = Path(tempfile.mkdtemp(prefix="latency-dashboard-test-", dir="/tmp" if is_root else None))  # noqa: S108
    if is_root:
        folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Starts the servers, or finds those of the session, before any other plugin looks at the settings."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        options = early_config.known_args_namespace
        _enter_session(starts_servers=not (options.help or options.version or options.collectonly))
    else:
        # The broker's database and, one further, the cache's (see latency_dashboard.embedded).
        os.environ["REDIS_DATABASE"] = str(2 * (1 + int(worker.removeprefix("gw"))))
    return (yield)


def pytest_unconfigure() -> None:
    _session.close()


def _enter_session(*, starts_servers: bool) -> None:
    for name in _FOREIGN_SETTINGS:
        os.environ.pop(name, None)
    data_dir = _session.enter_context(temporary_data_dir())
    os.environ["DATA_DIR"] = str(data_dir)
    os.environ["SECRET_KEY"] = "tests " * 12
    os.environ["KEY_PEPPER"] = "pepper " * 12
    if starts_servers:
        _session.enter_context(
            EmbeddedServers(
                data_dir,
                postgres=not os.environ.get("DATABASE_URL"),
                valkey=not os.environ.get("REDIS_URL"),
                durable=False,
            )
        )
