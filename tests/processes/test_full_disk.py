"""A full disk: nothing is accepted that is not stored, and all goes on by itself once there is room again."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest

from tests.children import eventually
from tests.plugins.servers import temporary_data_dir
from tests.processes.installation import Answer, Installation, installed

pytestmark = pytest.mark.processes

MIB = 1024 * 1024


class Disk(Protocol):
    def fill(self, installation: Installation) -> None: ...

    def free(self, installation: Installation) -> None: ...


class SmallDisk:
    """A file system in memory, of which a file takes all that is left."""

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"

    def fill(self, installation: Installation) -> None:
        with self._ballast.open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(64 * 1024))

    def free(self, installation: Installation) -> None:
        self._ballast.unlink()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m,mode=711", "tmpfs", folder], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", folder], check=True)


class SmallFiles:
    """A limit on the size of files, which needs no privilege: PostgreSQL cannot extend what has reached it."""

    # Over the 16 MiB of a segment of the write-ahead log, which has to be written nevertheless.
    LARGEST = 17 * MIB

    def fill(self, installation: Installation) -> None:
        installation.servers.stop_postgres()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.LARGEST, hard))
        try:
            installation.servers.start_postgres()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def free(self, installation: Installation) -> None:
        installation.servers.stop_postgres()
        installation.servers.start_postgres()


@contextlib.contextmanager
def small_files(folder: Path) -> Iterator[Disk]:
    yield SmallFiles()


def _may_mount() -> bool:
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
        return True


# Whoever may not mount has the second alone, so that nobody has none.
DISKS = [*([small_disk] if _may_mount() else []), small_files]


@pytest.mark.parametrize("disk", DISKS, ids=lambda one: one.__name__)
def test_a_full_disk_refuses_what_it_cannot_store_and_goes_on_where_there_is_room(
    disk: Callable[[Path], AbstractContextManager[Disk]],
):
    with temporary_data_dir() as folder, disk(folder) as space, installed(folder) as installation:
        installation.post()
        assert installation.is_caught_up(), installation.log_of("worker")
        space.fill(installation)

        # 1. Full: an answer is 200 and stored, or 503. No other.
        answers: list[Answer] = []

        def is_refused() -> bool:
            answers.append(installation.post(5000))
            return answers[-1].status == 503

        for _ in range(3):
            assert eventually(is_refused, seconds=60), answers[-1]
        for answer in answers:
            if answer.status != 200:
                assert answer.status == 503, answer.document
                assert answer.document["error"]["code"] == "database_unavailable"
                assert int(answer.headers["Retry-After"]) > 0
        assert installation.processes["web"].is_running

        # 2. Room again.
        space.free(installation)
        installation.start_again_what_ended()
        assert eventually(lambda: installation.post().status == 200), installation.log_of("web")
        assert installation.is_caught_up(), installation.log_of("worker")
        assert eventually(lambda: installation.ask("GET", "/readyz").status == 200)
        assert installation.ask("GET", "/readyz").document["failed_batches"] == 0
        installation.assert_nothing_was_lost_or_counted_twice()
