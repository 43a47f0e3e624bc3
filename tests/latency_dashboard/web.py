"""A real web server for tests: granian, as `make serve` runs it, over the test's own database."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlencode

from django.db import connection

from tests.children import PROJECT, eventually


@contextlib.contextmanager
def web_server(*, workers: int = 1, **environment: str) -> Iterator[int]:
    """Gives the port on 127.0.0.1 at which the pages and the API answer until the end of the block.

    The test must use `transactional_db`: what it has not committed, the server does not see.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    arguments += ["--blocking-threads", "4", "--no-ws", "--log-level", "error"]
    process = subprocess.Popen(
        [sys.executable, "-m", "granian", *arguments, "latency_dashboard.wsgi:application"],
        cwd=PROJECT,
        env=os.environ | {"DATABASE_URL": database_url()} | environment,
    )
    with process:
        try:
            assert eventually(lambda: process.poll() is not None or _answers(port), seconds=60)
            assert process.poll() is None
            yield port
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        client.request("GET", "/healthz")
        return client.getresponse().status == 200
    except OSError:
        return False
    finally:
        client.close()


def database_url() -> str:
    """The address of the test's database, which may be a folder with a socket."""
    parameters = connection.settings_dict
    options = {name: parameters[name.upper()] for name in ("host", "port", "user", "password")}
    query = urlencode({name: value for name, value in options.items() if value})
    return f"postgres:///{parameters['NAME']}?{query}"
