"""What the processes of a running product hold in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Held:
    """The processes of one program, in MB. `pss` shares out what several of them have in common; their sum is what
    the program takes. `rss` is of the largest."""

    processes: int
    pss: float
    rss: float


def held_by_program(root: int) -> dict[str, Held]:
    """Program -> what it and its children hold, of all that a process has started. Empty where there is no /proc."""
    children = defaultdict(list)
    for pid, parent in _parents():
        children[parent].append(pid)

    def family(pid: int) -> Iterator[int]:
        yield pid
        for child in children[pid]:
            yield from family(child)

    found: dict[str, Held] = {}
    for program in children[root]:
        figures = [memory for pid in family(program) if (memory := _memory(pid))]
        if figures:
            held = Held(len(figures), sum(pss for pss, _ in figures), max(rss for _, rss in figures))
            found[_name(program)] = held
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for folder in _PROC.glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # gone just now
            continue
        yield int(folder.name), int(state[1])


def _memory(pid: int) -> tuple[float, float] | None:
    """PSS and RSS in MB."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return None
    kilobytes = {name.rstrip(":"): int(value) for name, value, *_ in map(str.split, lines)}
    return kilobytes["Pss"] / 1e3, kilobytes["Rss"] / 1e3


def _name(pid: int) -> str:
    words = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    for word, name in (
        ("granian", "web"),
        ("worker@%h", "worker"),
        ("deliver@%h", "deliver"),
        ("beat", "beat"),
    ):
        if word in words:
            return name
    program = Path(words[0]).name
    return "valkey" if "valkey" in program else "guard" if any("guard" in word for word in words) else program
