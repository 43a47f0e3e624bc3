"""Ends process groups, and watches over them for a parent that may be killed at any moment.

Run as a script, it is the one process that outlives a `kill -9` of its parent: it reads a line for each
group on standard input, and when that ends, which is all that a killed parent can still do, it ends the
groups that are left. It needs the standard library alone and starts in about 20 ms:

    watch <pid> <signal> <seconds> <stage>
    forget <pid>

Groups of a higher stage end first: web and workers before the servers they use.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

# After SIGKILL only a process that is stuck in the kernel remains.
_SECONDS_AFTER_KILL = 3.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Group:
    """A process group, named by the id of the process that leads it, and how it wants to be stopped."""

    pid: int
    stop_signal: int
    grace_seconds: float
    stage: int


def end(
    groups: Iterable[Group],
    *,
    reap: Callable[[], object] = lambda: None,
    hurry: Callable[[Group], bool] = lambda group: False,
) -> list[int]:
    """Ends the groups, the highest stage first, and returns the ids of those that had to be killed.

    Each leader gets its stop signal and its grace, so that it can stop its own children in order; what is
    left of its group then gets SIGKILL. `reap` is called between looks, for a caller that is the parent;
    a group for which `hurry` turns true gets no more grace.
    """
    killed: list[int] = []
    by_stage: dict[int, list[Group]] = {}
    for group in groups:
        by_stage.setdefault(group.stage, []).append(group)
    for stage in sorted(by_stage, reverse=True):
        killed += _end_together(by_stage[stage], reap, hurry)
    return killed


def _end_together(
    groups: list[Group], reap: Callable[[], object], hurry: Callable[[Group], bool]
) -> list[int]:
    started_at = time.monotonic()
    killed_at: dict[int, float] = {}
    killed_leaders = []
    for group in groups:
        _signal(os.kill, group.pid, group.stop_signal)
    left = list(groups)
    while left:
        reap()
        now = time.monotonic()
        for group in list(left):
            if not _has_living_member(group.pid):
                left.remove(group)
            elif group.pid in killed_at:
                if now - killed_at[group.pid] > _SECONDS_AFTER_KILL:
                    left.remove(group)
            else:
                leads = _is_living(group.pid)
                if not leads or hurry(group) or now - started_at >= group.grace_seconds:
                    _signal(os.killpg, group.pid, signal.SIGKILL)
                    killed_at[group.pid] = now
                    if leads:
                        killed_leaders.append(group.pid)
        if left:
            time.sleep(_POLL_SECONDS)
    return killed_leaders


def _signal(send: Callable[[int, int], None], pid: int, number: int) -> bool:
    """Whether the signal found someone. EPERM is what macOS answers where only zombies are left."""
    try:
        send(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _is_living(pid: int) -> bool:
    """Whether the process runs. One that has ended counts as gone though its parent has not noticed: an
    orphan's new parent may take its time, or, as the first process of a container, never look."""
    if not _signal(os.kill, pid, 0):
        return False
    facts = _facts(pid)
    return facts is None or facts.is_living


def _has_living_member(pid: int) -> bool:
    if not _signal(os.killpg, pid, 0):
        return False
    if _facts(os.getpid()) is None:
        return True
    everybody = (_facts(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return any(facts.group == pid and facts.is_living for facts in everybody if facts is not None)


class _Facts(NamedTuple):
    is_living: bool
    group: int


def _facts(pid: int) -> _Facts | None:
    """Of a process, where there is a /proc that tells. It lives as long as one of its threads does: the first
    of them is a zombie (Z) before the others have ended, and only then can a parent take it in."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            state, _, group, *rest = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return _Facts(state != "Z" or int(rest[14]) > 1, int(group))


def main() -> None:
    """Keeps the list of groups until standard input ends, then ends them."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: dict[int, Group] = {}
    for line in sys.stdin:
        match line.split():
            case ["watch", pid, number, seconds, stage]:
                groups[int(pid)] = Group(int(pid), int(number), float(seconds), int(stage))
            case ["forget", pid]:
                groups.pop(int(pid), None)
    end(groups.values())


if __name__ == "__main__":
    main()
