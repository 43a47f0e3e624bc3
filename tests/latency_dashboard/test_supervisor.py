import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_dashboard import supervisor
from latency_dashboard.supervisor import Processes, Program, ProgramError
from tests.children import eventually, is_gone, said, script

# Starts a child that ignores SIGTERM and tells its id, then does so itself.
STUBBORN_FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1] + ".new", "w").write(str(child.pid))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""

# Asked to stop, ends its first thread at once and another a little later.
LEAVES_THREAD_BY_THREAD = """
import ctypes, os, signal, sys, threading, time

def leave_later():
    asked.wait()
    time.sleep(0.3)
    os._exit(0)

def leave(*_):
    asked.set()
    ctypes.CDLL(None).pthread_exit(None)

asked = threading.Event()
threading.Thread(target=leave_later).start()
signal.signal(signal.SIGTERM, leave)
open(sys.argv[1], "w").write("ready")
time.sleep(600)
"""

SUPERVISE = """
import sys
from pathlib import Path
from latency_dashboard.supervisor import Program, Stopped, Supervisor

with Supervisor(say=lambda line: print("says", line)) as supervisor:
    family = Program("family", [sys.executable, "-c", sys.argv[1], sys.argv[2]], grace_seconds=0.5)
    supervisor.keep_up(supervisor.start(family))
    print("started", supervisor.running[0].pid, supervisor._guard.pid)
    try:
        supervisor.watch()
    except Stopped as reason:
        print("stopped by", reason)
"""


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "grandchild"


def python(code: str, *arguments: object, **options: object) -> Program:
    command = [sys.executable, "-u", "-c", code, *map(str, arguments)]
    return Program("child", command, **options)  # type: ignore[arg-type]


def grandchild_of(note: Path) -> int:
    assert eventually(note.exists)
    return int(note.read_text())


@contextlib.contextmanager
def supervised_family(note: Path) -> Iterator[tuple]:
    with script(SUPERVISE, STUBBORN_FAMILY, note) as process:
        _, child, guard = said(process)
        yield process, int(child), int(guard), grandchild_of(note)


def test_ending_a_process_ends_what_it_started_even_where_both_ignore_the_signal(note: Path):
    with Processes() as processes:
        process = processes.start(python(STUBBORN_FAMILY, note, grace_seconds=0.2))
        grandchild = grandchild_of(note)

        killed = processes.end(process)

        assert killed == [process]
        assert process.ending == "signal SIGKILL"
        assert eventually(lambda: is_gone(grandchild))


def test_a_process_that_stops_in_time_is_not_killed():
    with Processes() as processes:
        process = processes.start(python("import time; time.sleep(600)"))

        assert processes.end(process) == []
        assert process.ending == "signal SIGTERM"


def test_a_process_has_ended_when_the_last_of_its_threads_has(note: Path):
    with Processes() as processes:
        process = processes.start(python(LEAVES_THREAD_BY_THREAD, note))
        assert eventually(note.exists)

        assert processes.end(process) == []
        assert process.popen.returncode == 0


def test_servers_end_after_those_that_use_them(tmp_path: Path):
    ended = tmp_path / "ended"
    code = """
import signal, sys, time
def stop(number, frame):
    open(sys.argv[1], "a").write(sys.argv[2])
    sys.exit()
signal.signal(signal.SIGTERM, stop)
print("ready")
time.sleep(600)
"""
    with Processes() as processes:
        log = tmp_path / "log"
        processes.start(python(code, ended, "server ", is_server=True, log=log))
        processes.start(python(code, ended, "client ", log=log))
        assert eventually(lambda: log.read_text().count("ready") == 2)

    assert ended.read_text() == "client server "


def test_running_a_program_gives_what_it_wrote():
    with Processes() as processes:
        outputs = processes.run(python("print(1)"), python("print(2)"), timeout_seconds=20)

    assert outputs == ["1\n", "2\n"]


def test_a_program_that_fails_is_reported_with_its_last_words():
    with (
        Processes() as processes,
        pytest.raises(ProgramError, match=r"child failed \(exit code 1\):\nno such table"),
    ):
        processes.run(python("raise SystemExit('no such table')"), timeout_seconds=20)


def test_a_program_that_takes_too_long_is_ended():
    with Processes() as processes:
        with pytest.raises(ProgramError, match=r"took longer than 0.1 s"):
            processes.run(python("import time; time.sleep(600)"), timeout_seconds=0.1)
        assert processes.running == []


def test_a_command_that_is_not_there_is_reported():
    with Processes() as processes, pytest.raises(ProgramError, match="nowhere could not be started"):
        processes.start(Program("nowhere", ["/nowhere"]))


def test_kill_9_of_the_parent_leaves_neither_child_nor_grandchild(note: Path):
    with supervised_family(note) as (parent, child, guard, grandchild):
        parent.kill()

        assert eventually(lambda: is_gone(child) and is_gone(grandchild) and is_gone(guard))


def test_kill_9_of_a_child_ends_its_orphans_and_starts_it_again(note: Path):
    with supervised_family(note) as (parent, child, _, grandchild):
        note.unlink()
        os.kill(child, signal.SIGKILL)

        assert " ".join(said(parent)) == "says family ended with signal SIGKILL. It starts again at once."
        assert eventually(lambda: is_gone(grandchild))
        assert grandchild_of(note) != grandchild


def test_a_guard_that_was_killed_is_replaced_and_knows_the_children(note: Path):
    with supervised_family(note) as (parent, child, guard, grandchild):
        os.kill(guard, signal.SIGKILL)
        assert eventually(lambda: is_gone(guard) and _guards_of(parent.pid) != [])
        parent.kill()

        assert eventually(lambda: is_gone(child) and is_gone(grandchild))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything(note: Path, number: signal.Signals):
    with supervised_family(note) as (parent, child, guard, grandchild):
        parent.send_signal(number)

        assert said(parent) == ["stopped", "by", number.name]
        assert parent.wait(timeout=20) == 0
        assert all(is_gone(pid) for pid in (child, guard, grandchild))


def test_it_stops_when_the_command_that_started_it_was_killed(note: Path):
    starter = """
import subprocess, sys
code = sys.argv[1].replace("say=", "ends_with_parent=True, say=")
process = subprocess.Popen([sys.executable, "-u", "-c", code, *sys.argv[2:]])
process.wait()
"""
    with script(starter, SUPERVISE, STUBBORN_FAMILY, note) as parent:
        _, child, guard = said(parent)
        grandchild = grandchild_of(note)
        parent.kill()

        assert eventually(lambda: all(is_gone(pid) for pid in (int(child), int(guard), grandchild)))


def test_repeated_failures_wait_longer_each_time_up_to_half_a_minute():
    with Processes() as processes:
        kept = supervisor._Kept(processes.start(python("")))
        now = kept.process.started_at

        assert [kept.back_off(now) for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]
        assert kept.back_off(now + 61) == 0


def test_lines_of_trouble_in_a_log_are_shown_and_a_flood_is_cut(tmp_path: Path):
    log = tmp_path / "web.log"
    log.write_text("ERROR of an earlier run\n")
    tail = supervisor._Tail(Program("web", [], log=log, echo=re.compile("ERROR")))
    with log.open("a") as writer:
        writer.write("INFO fine\nERROR one\nERROR tw")
    assert tail.new_lines() == ["ERROR one"]
    with log.open("a") as writer:
        writer.write("o\n" + "ERROR again\n" * 100)

    lines = tail.new_lines()

    assert lines[0] == "ERROR two"
    assert len(lines) == 21
    assert lines[-1] == f"… and 81 more lines in {log}"


def test_a_log_that_grew_too_long_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "_LOG_BYTES", 10)
    log = tmp_path / "web.log"
    tail = supervisor._Tail(Program("web", [], log=log, echo=re.compile("ERROR")))
    with log.open("a") as writer:
        print("ERROR one two three", file=writer, flush=True)
        assert tail.new_lines() == ["ERROR one two three"]
        print("ERROR four", file=writer, flush=True)

        assert tail.new_lines() == ["ERROR four"]
    assert (tmp_path / "web.1.log").exists()


def _guards_of(pid: int) -> list[int]:
    """The guards among the children of a process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"guard.py" in Path(f"/proc/{child}/cmdline").read_bytes()]
