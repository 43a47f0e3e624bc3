"""What a web process counts ends it by no signal when the disk is full."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Counts far more than the first pages of the files hold.
_WEB = """
import os
from django.conf import settings
from latency_dashboard import wsgi
from latency_dashboard.meters import count_request
for n in range(200):
    count_request("POST", f"/a/route/as/long/as/those/that/there/are/{n}", 503, 0.1)
found = {name: os.stat(os.path.join(settings.METRICS_DIR, name)) for name in os.listdir(settings.METRICS_DIR)}
print(os.environ.get("PROMETHEUS_MULTIPROC_DIR", "alone"), len(found))
assert all(one.st_blocks * 512 >= one.st_size > 0 for one in found.values()), found
"""


def counts(folder: Path, data_dir: Path, code: str = _WEB) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "METRICS_DIR": str(folder), "DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_files_have_all_of_their_room_on_disk_before_anything_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    assert counts(folder, tmp_path) == f"{folder} 2"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def small_files(tmp_path: Path) -> Iterator[Path]:
    """A limit on the size of files, which takes no privilege, for this process and those that it starts."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512 * 1024, before[1]))
    yield tmp_path
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", ["small_files", *(["small_disk"] if os.getuid() == 0 else [])])
def test_a_process_that_starts_without_room_counts_for_itself(
    room: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(room)
    assert counts(folder / "metrics", tmp_path).startswith("alone")
