"""Runs child processes that never outlive this one, and restarts those that must stay up.

Three things together leave nothing behind, whatever is killed with -9:

- every child leads a process group of its own, which is ended as a whole;
- a guard process (guard.py) ends the groups when this process dies;
- on Linux the kernel signals a child when its parent dies, for the case that both are killed at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from latency_dashboard import guard

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

_TICK_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 30.0
# A process that ran this long was well: its next end is a new trouble and is answered at once.
_SETTLED_SECONDS = 60.0
_SAME_SIGNAL_SECONDS = 0.5
_LOG_BYTES = 20 * 1024 * 1024
_ECHOED_LINES_A_TICK = 20


class ProgramError(Exception):
    """A program that was to run to its end, or to become ready, did not. The message shows its last words."""


class Stopped(BaseException):  # like KeyboardInterrupt: no handler of errors may swallow it
    """Raised out of a wait when the supervisor has been asked to stop; its text says by what."""


@dataclass(frozen=True)
class User:
    """Whom a program runs as, where that is not ourselves."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Program:
    """A command and how it wants to be run and stopped."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] | None = None  # None: ours
    folder: Path | None = None
    user: User | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 10.0
    is_server: bool = False  # others use it: it ends after all that is not a server
    log: Path | None = None  # standard output and error are appended; None: they are ours
    # Which lines of its log a person at the terminal should see.
    echo: re.Pattern[str] | None = None


@dataclass
class Process:
    """A program that was started."""

    program: Program
    popen: subprocess.Popen[bytes]
    started_at: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_running(self) -> bool:
        return self.popen.poll() is None

    @property
    def group(self) -> guard.Group:
        program = self.program
        return guard.Group(
            self.pid, program.stop_signal, program.grace_seconds, stage=int(not program.is_server)
        )

    @property
    def ending(self) -> str:
        """How it ended, e.g. "exit code 1" or "signal SIGKILL"."""
        code = self.popen.returncode
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def last_words(self, lines: int = 15) -> str:
        """The end of its log, for an error message."""
        if self.program.log is None or not self.program.log.exists():
            return ""
        with self.program.log.open("rb") as log:
            log.seek(max(0, self.program.log.stat().st_size - 10_000))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])


class Processes:
    """Child processes that end with this one.

    `with Processes() as processes:` ends them all at the end of the block; the guard does it where the
    block has no end. Start processes from the main thread alone: the kernel takes the end of the thread
    that started a child for the end of its parent.
    """

    def __init__(self) -> None:
        self.running: list[Process] = []
        self._guard: subprocess.Popen[str] | None = None
        self._held_open: list[int] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def hold_open(self, descriptor: int) -> None:
        """Lets the guard and every child hold this open file: its lock is free when all of them are gone."""
        self._held_open.append(descriptor)

    def let_go(self, descriptor: int) -> None:
        """Undoes `hold_open` for what is started from now on."""
        self._held_open.remove(descriptor)

    def start(self, program: Program, *, output: IO[bytes] | None = None) -> Process:
        """Starts a program at the head of a new session, known to the guard."""
        log: IO[bytes] | None = None
        if program.log is not None:
            program.log.parent.mkdir(parents=True, exist_ok=True)
            log = program.log.open("ab", buffering=0)
        user = program.user
        try:
            popen = subprocess.Popen(
                program.command,
                stdin=subprocess.DEVNULL,
                stdout=output or log,
                stderr=subprocess.STDOUT if output or log else None,
                env=program.environment,
                cwd=program.folder,
                start_new_session=True,
                pass_fds=self._held_open,
                preexec_fn=_die_with_parent(program.stop_signal),
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
            )
        except OSError as error:
            raise ProgramError(f"{program.name} could not be started: {error}") from error
        finally:
            if log is not None:
                log.close()
        process = Process(program, popen)
        self.running.append(process)
        self._watch(process)
        return process

    def run(self, *programs: Program, timeout_seconds: float) -> list[str]:
        """Runs programs side by side, each to its end, and returns what they wrote.

        Raises ProgramError with its last lines where one fails or takes longer.
        """
        with contextlib.ExitStack() as stack:
            outputs = [stack.enter_context(tempfile.TemporaryFile()) for _ in programs]
            processes: list[Process] = []
            stack.callback(lambda: self.end(*processes))
            for program, output in zip(programs, outputs, strict=True):
                processes.append(self.start(program, output=output))
            self.wait_until(
                lambda: not any(process.is_running for process in processes), timeout_seconds=timeout_seconds
            )
            texts = []
            for process, output in zip(processes, outputs, strict=True):
                output.seek(0)
                text = output.read().decode(errors="replace")
                if process.is_running or process.popen.returncode:
                    how = f"took longer than {timeout_seconds:g} s" if process.is_running else process.ending
                    last_words = "\n".join(text.splitlines()[-25:])
                    raise ProgramError(f"{process.program.name} failed ({how}):\n{last_words}".rstrip())
                texts.append(text)
            return texts

    def wait_until(self, condition: Callable[[], bool], *, timeout_seconds: float) -> bool:
        """Whether the condition came true in time."""
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.pause(_TICK_SECONDS / 5)
        return True

    def pause(self, seconds: float) -> None:
        """Waits. The supervisor looks after its processes meanwhile."""
        time.sleep(seconds)

    def end(self, *processes: Process) -> list[Process]:
        """Ends these and whatever they started, and returns those that did not end by themselves."""
        # The number of one that ended earlier may be somebody else's by now.
        ours = [process for process in processes if process in self.running]
        killed = guard.end([process.group for process in ours], reap=self._reap, hurry=self._is_hurried)
        self._reap()
        for process in ours:
            self.running.remove(process)
            self._tell_guard(f"forget {process.pid}")
        return [process for process in ours if process.pid in killed]

    def close(self) -> None:
        """Ends everything, servers last."""
        self.end(*self.running)
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.close()
            self._guard.wait()
            self._guard = None

    def _is_hurried(self, group: guard.Group) -> bool:
        return False

    def _reap(self) -> None:
        """Takes in the ended: leaders, and the orphans of their groups where we are the subreaper."""
        for process in self.running:
            if process.popen.poll() is not None:
                with contextlib.suppress(ChildProcessError):
                    while os.waitpid(-process.pid, os.WNOHANG)[0]:
                        pass

    def _watch(self, process: Process) -> None:
        self._tell_guard(_to_watch(process))

    def _tell_guard(self, line: str) -> None:
        if self._guard is None or self._guard.poll() is not None:
            self._start_guard()
        assert self._guard is not None
        assert self._guard.stdin is not None
        try:
            self._guard.stdin.write(line + "\n")
            self._guard.stdin.flush()
        except BrokenPipeError:
            self._start_guard()

    def _start_guard(self) -> None:
        """Starts the guard, or another where someone killed it, and tells it of all that runs."""
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.close()
        # Told before it is there: were we killed between the two, it would know of nobody.
        told, tell = os.pipe()
        lines = os.fdopen(tell, "w")
        lines.writelines(f"{_to_watch(process)}\n" for process in self.running)
        lines.flush()
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__],
                stdin=told,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd="/",
                start_new_session=True,
                pass_fds=self._held_open,
            )
        finally:
            os.close(told)
        self._guard.stdin = lines


def _to_watch(process: Process) -> str:
    group = process.group
    return f"watch {group.pid} {group.stop_signal:d} {group.grace_seconds} {group.stage}"


class Supervisor(Processes):
    """Processes that stay up until a person, a signal or the end of the parent stops them all.

    It looks after them in every wait: restarts what ended (at once, then after 1, 2, 4 … 30 s), ends the
    orphans of what was killed, shows the log lines a person should see, keeps logs below 20 MiB, and
    raises Stopped when it is time to stop.
    """

    def __init__(self, *, say: Callable[[str], None], ends_with_parent: bool = False) -> None:
        super().__init__()
        self._say = say
        self._parent_pid = os.getppid() if ends_with_parent else None
        self._kept: dict[str, _Kept] = {}
        self._tails: dict[str, _Tail] = {}
        self._signals: list[tuple[str, float]] = []
        self._ticked_at = 0.0

    def __enter__(self) -> Supervisor:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._receive)
        if _libc is not None:
            _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        return self

    def start(self, program: Program, *, output: IO[bytes] | None = None) -> Process:
        if program.log is not None and program.name not in self._tails:
            self._tails[program.name] = _Tail(program)
        return super().start(program, output=output)

    def keep_up(self, process: Process) -> Process:
        """Restarts this one whenever it ends."""
        self._kept[process.program.name] = _Kept(process)
        return process

    def watch(self) -> NoReturn:
        """Looks after the processes until Stopped is raised."""
        while True:
            self.pause(60)

    def pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            self._check_for_stop()
            if time.monotonic() - self._ticked_at >= _TICK_SECONDS:
                self._tick()
                self._ticked_at = time.monotonic()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _TICK_SECONDS))

    def close(self) -> None:
        left = list(self.running)
        for process in self.end(*left):
            self._say(f"{process.program.name} did not stop in time and was killed.")
        self._reap_strays()
        super().close()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._signals.append((signal.Signals(number).name, time.monotonic()))

    def _is_hurried(self, group: guard.Group) -> bool:
        # Whoever repeats the signal wants it now. One that comes at once is the same, passed on by make; and
        # servers, which stop in a moment when nobody uses them any more, keep their grace.
        return (
            group.stage > 0
            and bool(self._signals)
            and self._signals[-1][1] - self._signals[0][1] > _SAME_SIGNAL_SECONDS
        )

    def _check_for_stop(self) -> None:
        if self._signals:
            raise Stopped(self._signals[0][0])
        if self._parent_pid is not None and os.getppid() != self._parent_pid:
            raise Stopped("the command that started it has ended")

    def _tick(self) -> None:
        if self._guard is not None and self._guard.poll() is not None:
            self._start_guard()
        for tail in self._tails.values():
            for line in tail.new_lines():
                self._say(f"{tail.program.name:>8} | {line}")
        self._reap()
        self._reap_strays()
        for kept in self._kept.values():
            self._look_after(kept)

    def _look_after(self, kept: _Kept) -> None:
        now = time.monotonic()
        if kept.start_at is None and not kept.process.is_running:
            self.end(kept.process)
            seconds = kept.back_off(now)
            when = f"in {seconds:g} s" if seconds else "at once"
            self._say(
                f"{kept.process.program.name} ended with {kept.process.ending}. It starts again {when}."
            )
        if kept.start_at is not None and now >= kept.start_at:
            kept.start_at = None
            try:
                kept.process = self.start(kept.process.program)
            except ProgramError as error:
                self._say(str(error))
                kept.start_at = now + kept.back_off(now)

    def _reap_strays(self) -> None:
        """Takes in orphans of groups that are gone. Leaders are left to their Popen."""
        leaders = {process.pid for process in self.running}
        if self._guard is not None:
            leaders.add(self._guard.pid)
        with contextlib.suppress(ChildProcessError):
            while True:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None or ended.si_pid in leaders:
                    return
                os.waitpid(ended.si_pid, 0)


class _Kept:
    """A process that is kept up, and when it may start again."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.start_at: float | None = None
        self._failures = 0

    def back_off(self, now: float) -> float:
        """Seconds until the next start: none after a long run, else 1, 2, 4 … 30."""
        if now - self.process.started_at > _SETTLED_SECONDS:
            self._failures = 0
        seconds = min(2.0 ** (self._failures - 1), _LONGEST_BACKOFF_SECONDS) if self._failures else 0.0
        self._failures += 1
        self.start_at = now + seconds
        return seconds


class _Tail:
    """The lines that a program adds to its log, as far as a person should see them."""

    def __init__(self, program: Program) -> None:
        assert program.log is not None
        self.program = program
        self._path = program.log
        self._offset = self._path.stat().st_size if self._path.exists() else 0
        self._rest = b""

    def new_lines(self) -> list[str]:
        try:
            size = self._path.stat().st_size
            if size > self._offset:
                with self._path.open("rb") as log:
                    log.seek(self._offset)
                    added = log.read(1024 * 1024)
                self._offset += len(added)
            elif size < self._offset:  # somebody emptied it
                self._offset, added = 0, b""
            else:
                return []
            if self._offset > _LOG_BYTES:
                self._rotate()
        except FileNotFoundError:
            return []
        *lines, self._rest = (self._rest + added).split(b"\n")
        pattern = self.program.echo
        shown = [line.decode(errors="replace") for line in lines]
        shown = [line for line in shown if line.strip() and pattern is not None and pattern.search(line)]
        if len(shown) > _ECHOED_LINES_A_TICK:
            more = len(shown) - _ECHOED_LINES_A_TICK
            shown[_ECHOED_LINES_A_TICK:] = [f"… and {more} more lines in {self._path}"]
        return shown

    def _rotate(self) -> None:
        """Copies the log aside and empties it: its writers append, so they go on at its start."""
        shutil.copyfile(self._path, self._path.with_suffix(".1.log"))
        os.truncate(self._path, 0)
        self._offset = 0


def _die_with_parent(stop_signal: int) -> Callable[[], None] | None:
    """What a child does before it becomes its program: asks the kernel for a signal when we die (Linux)."""
    if _libc is None:
        return None
    return functools.partial(_ask_for_signal, _libc.prctl, int(stop_signal), os.getpid())


def _ask_for_signal(prctl: Callable[..., int], stop_signal: int, parent_pid: int) -> None:
    prctl(_PR_SET_PDEATHSIG, stop_signal)
    if os.getppid() != parent_pid:  # it died before we asked
        os._exit(1)
