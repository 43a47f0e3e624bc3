"""Which part of a request the user waited for, moment by moment: critical paths through nested spans. Pure.

From the end of a span backwards: before the moment t, the time belongs to the child that was active before t
and of which the end, or t where it ends later, is the latest; of several, to the one that began first. It has
the time from its start to that moment, in which its own children are looked at in the same way, and t moves to
its start. Where no child was active the time is the span's own. What a child does outside the time of its
parent is not waited for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

NO_PARENT = -1


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of work within a request; `start` and `end` on any clock, in any unit.

    `parent` is the `id` of the span that it was called from, None where it was the request itself.
    """

    name: str
    start: float
    end: float
    id: str | None = None
    parent: str | None = None


def critical_path(root: Span, children: Sequence[Span]) -> dict[str, float]:
    """How much of the root's duration belongs to each name, the root's own included; the parts add up to it.

    Children may overlap, end after their parent or begin before it. One of which no ancestor is the root, because
    a parent is not among them or they go round in a circle, counts as a child of the root.

    >>> critical_path(Span("chat", 0, 1000), [Span("retrieval", 0, 400), Span("model", 300, 900)])
    {'chat': 100, 'retrieval': 300, 'model': 600}
    """
    spans = [root, *children]
    position = {span.id: number for number, span in enumerate(spans) if span.id is not None}
    parent = np.array([NO_PARENT, *(position.get(span.parent or "", 0) for span in children)])
    own = own_times(
        without_cycles(parent),
        np.array([span.start for span in spans]),
        np.array([span.end for span in spans]),
    )
    found: dict[str, float] = {}
    for span, time in zip(spans, own.tolist(), strict=True):
        found[span.name] = found.get(span.name, 0) + time
    return found


def without_cycles(parent: np.ndarray) -> np.ndarray:
    """Parents by position, of spans that come after their root: what leads to no root is put below the one
    that stands before it.

    `parent` is NO_PARENT for a root, which stands before all of its spans.
    """
    is_root = parent == NO_PARENT
    root = np.maximum.accumulate(np.where(is_root, np.arange(len(parent)), 0))
    above = np.where(is_root, np.arange(len(parent)), parent)
    # Twice as far up each time; who has not arrived after as many steps as there are spans goes round.
    for _ in range(max(1, len(parent).bit_length())):
        above = above[above]
    return np.where(is_root | is_root[above], parent, root)


def own_times(parent: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """How much of its root's duration belongs to each of the spans of many requests, without their children.

    Columns of equal length: the position of each span's parent (NO_PARENT for a root), its start and its end.
    Own times are of the same unit and add up to the root's duration, exactly where they are whole numbers.
    """
    return slots(parent, start, end).own


@dataclass(frozen=True)
class Slots:
    """Which time of its root's each span has, with its children's: [low, high] where `is_on_path`; and how much of it
    is its own."""

    low: np.ndarray
    high: np.ndarray
    own: np.ndarray
    is_on_path: np.ndarray


def slots(parent: np.ndarray, start: np.ndarray, end: np.ndarray) -> Slots:
    """The critical paths of many requests; columns as own_times takes them."""
    end = np.maximum(start, end)
    low, high = start.copy(), end.copy()
    is_on_path = parent == NO_PARENT
    own = np.where(is_on_path, high - low, 0)
    is_next = np.isin(parent, np.flatnonzero(is_on_path))
    while is_next.any():
        children = np.flatnonzero(is_next)
        taken = _share_out(parent, start, end, low, high, own, children)
        is_on_path[taken] = True
        is_next = np.isin(parent, taken)
    return Slots(low, high, own, is_on_path)


def slots_of_one(parent: np.ndarray, start: np.ndarray, end: np.ndarray) -> Slots:
    """What `slots` gives, of one request whose root comes first. Span by span, so that thousands of calls below one
    another, or side by side, take milliseconds; of many requests at once `slots` is the faster.
    """
    end = np.maximum(start, end)
    starts, ends = start.tolist(), end.tolist()
    low, high = start.copy(), end.copy()
    own = np.zeros_like(high)
    is_on_path = np.zeros(len(parent), dtype=bool)
    children: dict[int, list[int]] = defaultdict(list)
    for span, above in enumerate(parent.tolist()):
        children[above].append(span)
    left = list(children[NO_PARENT])
    is_on_path[left] = True
    while left:
        of = left.pop()
        since, until = low[of], high[of]
        own[of] = until - since
        by_end = sorted(children[of], key=ends.__getitem__, reverse=True)
        active: list[tuple[float, float, int]] = []
        place = 0
        while True:
            while place < len(by_end) and ends[by_end[place]] >= until and ends[by_end[place]] > since:
                heappush(active, _by_start(by_end[place], starts, ends))
                place += 1
            if not active or active[0][0] >= until:
                # None of these began before: what ended last before then, if it reaches into the parent's time.
                active.clear()
                if place == len(by_end) or ends[by_end[place]] <= since:
                    break
                reach = ends[by_end[place]]
                while place < len(by_end) and ends[by_end[place]] == reach:
                    heappush(active, _by_start(by_end[place], starts, ends))
                    place += 1
            child = heappop(active)[2]
            high[child] = min(ends[child], until)
            low[child] = until = max(starts[child], since)
            own[of] -= high[child] - until
            is_on_path[child] = True
            left.append(child)
    return Slots(low, high, own, is_on_path)


def _by_start(span: int, starts: list[float], ends: list[float]) -> tuple[float, float, int]:
    return starts[span], -ends[span], span


def own_stretches(parent: np.ndarray, found: Slots) -> list[list[tuple[float, float]]]:
    """When the user waited for each span itself, and for no child of it: stretches in their order.

    >>> parent = np.array([NO_PARENT, 0, 0])
    >>> own_stretches(parent, slots(parent, np.array([0, 100, 300]), np.array([1000, 400, 900])))
    [[(0, 100), (900, 1000)], [(100, 300)], [(300, 900)]]
    """
    stretches: list[list[tuple[float, float]]] = [[] for _ in parent]
    reached = found.low.tolist()
    low, high, above = found.low.tolist(), found.high.tolist(), parent.tolist()
    on_path = np.flatnonzero(found.is_on_path)
    # Slots of one parent's children do not overlap: from one to the next is the parent's own time.
    for span in on_path[np.argsort(found.low[on_path], kind="stable")].tolist():
        of = above[span]
        if of != NO_PARENT:
            if low[span] > reached[of]:
                stretches[of].append((reached[of], low[span]))
            reached[of] = max(reached[of], high[span])
    for span in on_path.tolist():
        if high[span] > reached[span]:
            stretches[span].append((reached[span], high[span]))
    return stretches


def _share_out(
    parent: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    own: np.ndarray,
    children: np.ndarray,
) -> np.ndarray:
    """Gives each of these spans its time out of its parent's, in place, and gives those that have any.

    In rounds: in each, every parent that has time left gives the last of it to one child.
    """
    until = high.copy()
    taken = []
    # Of two that began together the longer one stands first, so that it is not their order that decides.
    left = children[np.lexsort((-end[children], start[children], parent[children]))]
    while len(left):
        of = parent[left]
        # Active within what is left of the parent's time.
        is_active = (start[left] < until[of]) & (end[left] > low[of])
        left, of = left[is_active], of[is_active]
        if not len(left):
            break
        first = np.flatnonzero(np.diff(of, prepend=NO_PARENT - 1))
        reach = np.minimum(end[left], until[of])
        latest = np.maximum.reduceat(reach, first)
        # They stand by their start: the first that reaches so far is the one that began first.
        candidates = np.flatnonzero(reach == np.repeat(latest, np.diff(first, append=len(left))))
        chosen = candidates[np.unique(of[candidates], return_index=True)[1]]
        child, its_parent = left[chosen], of[chosen]
        high[child] = reach[chosen]
        low[child] = np.maximum(start[child], low[its_parent])
        own[child] = high[child] - low[child]
        own[its_parent] -= own[child]
        until[its_parent] = low[child]
        taken.append(child)
        left = np.delete(left, chosen)
    return np.concatenate(taken) if taken else children[:0]
