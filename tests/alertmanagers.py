"""A real Alertmanager of the machine's, on a free port of 127.0.0.1 and with a folder of its own."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.children import eventually

# As packages call it.
NAMES = ("prometheus-alertmanager", "alertmanager")


class RealAlertmanager:
    """`url` is its address; `start` and `stop` may be repeated, and it keeps its folder and port."""

    def __init__(self, program: str, folder: Path, *, receiver_url: str) -> None:
        self._folder, self._program = folder, program
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        receiver = {"name": "here", "webhook_configs": [{"url": receiver_url, "send_resolved": True}]}
        route = {
            "receiver": "here",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "1h",
        }
        # JSON is YAML.
        (folder / "alertmanager.yml").write_text(json.dumps({"route": route, "receivers": [receiver]}))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program,
                    f"--config.file={self._folder / 'alertmanager.yml'}",
                    f"--storage.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    "--cluster.listen-address=",
                ],
                stdout=log,
                stderr=log,
            )
        if not eventually(self._is_ready):
            pytest.fail(f"the Alertmanager did not start: {(self._folder / 'log').read_text()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    def active_alerts(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=5) as answer:  # noqa: S310
            found: list[dict[str, Any]] = json.load(answer)
        return found

    def _is_ready(self) -> bool:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as answer,  # noqa: S310
        ):
            return bool(answer.status == 200)
        return False


@contextlib.contextmanager
def running_alertmanager(folder: Path, *, receiver_url: str) -> Iterator[RealAlertmanager]:
    """One that runs; skips the test where the machine has none."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Alertmanager here; Debian's package is prometheus-alertmanager")
    server = RealAlertmanager(program, folder, receiver_url=receiver_url)
    try:
        server.start()
        yield server
    finally:
        server.stop()
