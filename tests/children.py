"""Scripts run as processes of their own, for tests in which such a process is killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1]


@contextlib.contextmanager
def script(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python that runs this code with these arguments, and is killed at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> list[str]:
    """The words of the next line that the script prints."""
    assert process.stdout is not None
    return process.stdout.readline().split()


def eventually(condition: Callable[[], bool], *, seconds: float = 20.0) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_gone(pid: int) -> bool:
    """Whether the process has ended; one that its parent has not taken in yet has."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return True
    except FileNotFoundError:  # just now, or there is no /proc
        return Path("/proc/self").exists()
    return state == "Z"
