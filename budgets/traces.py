"""One trace: when each call of a request ran, what was over its allocation, and what the user waited for when.

Read from what services sent, so for as long as raw measurements are kept. Times are milliseconds from the click, which
is the start of the request.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import numpy as np
from django.db import connection, transaction

from .critical_paths import NO_PARENT, own_stretches, slots_of_one, without_cycles
from .limits import limit_histories
from .models import Feature, Milestone, Status
from .traced_requests import NO_ID, Calls, arranged, parents_of

MAX_SPANS: Final = 5000
"""Of one trace, of all features: the longest. A request of more is a loop that forgot to end."""
_MINUTE_US: Final = 60_000_000
_HEX: Final = re.compile(r"[0-9a-f]{32}")

Stretch = tuple[float, float]
"""From and until, in ms from the click."""


@dataclass(frozen=True)
class Reached:
    """A milestone, when it was reached and how it was judged; `limit_ms` is None where no latency budget was in force."""

    milestone: str
    at_ms: float
    duration_ms: float
    limit_ms: float | None
    status: Status
    span_id: int

    @property
    def is_over(self) -> bool:
        """Never good: a timeout is over whenever it came."""
        if self.limit_ms is None or self.status == Status.ERROR:
            return False
        return self.status == Status.TIMEOUT or self.duration_ms > self.limit_ms


@dataclass(frozen=True)
class TracedSpan:
    """A call of a component. `parent` is a position in the list that it stands in, None where the request called it.

    `over`: when it ran beyond the allocation in force; `waited`: when the user waited for it and for no call below it.
    """

    component: str
    start_ms: float
    duration_ms: float
    status: Status
    span_id: str
    parent: int | None
    depth: int
    over: tuple[Stretch, ...] = ()
    waited: tuple[Stretch, ...] = ()

    @property
    def end_ms(self) -> float:
        return self.start_ms + self.duration_ms

    @property
    def waited_ms(self) -> float:
        return _length(self.waited)


@dataclass(frozen=True)
class ComponentTime:
    """What one component took in the request. `judged_ms` is what was compared with `limit_ms`, the allocation in force:
    several calls of a request by their union, calls that came as items of their own each (the longest stands here)."""

    component: str
    calls: int
    judged_ms: float
    limit_ms: float | None
    over_ms: float
    status: Status
    waited_ms: float


@dataclass(frozen=True)
class TracedRequest:
    """A request of a feature, as far as its trace tells.

    `root_ms` is its length up to `milestone`, along whose critical path the times are shared out; where no milestone was
    measured, up to the end of its last call. `unattributed` are stretches in which no component was at work. Where
    `is_lined_up`, calls came without their offsets and stand one after the other.
    """

    environment: str
    release: str
    started_at: datetime
    milestone: str | None
    root_ms: float
    status: Status
    reached: tuple[Reached, ...]
    spans: tuple[TracedSpan, ...]
    components: tuple[ComponentTime, ...]
    unattributed: tuple[Stretch, ...]
    labels: tuple[tuple[str, str], ...]
    is_lined_up: bool

    @property
    def unattributed_ms(self) -> float:
        return _length(self.unattributed)

    @property
    def root(self) -> Reached | None:
        return next((one for one in self.reached if one.milestone == self.milestone), None)


@dataclass(frozen=True)
class Trace:
    """What is stored under one trace id of a feature: the request that is shown, and when its others began.

    `elsewhere` are other features that the person sees, with how long the trace was in them. `is_cut`: there are more
    spans than MAX_SPANS.
    """

    trace_id: str
    request: TracedRequest
    number: int
    starts: tuple[datetime, ...]
    elsewhere: tuple[tuple[Feature, float], ...]
    is_cut: bool


def trace_id_of(text: str) -> str | None:
    """The id as it is stored, also of one that was written in capitals or with hyphens; None for what is none."""
    found = text.lower().replace("-", "")
    return found if _HEX.fullmatch(found) and found.strip("0") else None


def read_trace(
    feature: Feature,
    trace_id: str,
    *,
    visible: Sequence[Feature],
    milestone: str | None = None,
    number: int | None = None,
    ended_at: datetime | None = None,
) -> Trace | list[Feature]:
    """The trace in a feature; where it has nothing of it, the visible features that do.

    `milestone` says up to which its critical path is sought; without one, up to the first that was missed, else the
    last. `number` is that of a request, counted from 1, where a trace has several; without one that of which something ended
    at `ended_at` is shown, else the slowest. As many statements, however long the trace.
    """
    of = {one.pk: one for one in visible}
    rows = _read(feature, trace_id, list(of))
    is_cut, rows = len(rows) > MAX_SPANS, rows[:MAX_SPANS]
    own = [row for row in rows if row.feature_id == feature.pk]
    others = [row for row in rows if row.feature_id != feature.pk]
    if not own:
        return [of[pk] for pk in dict.fromkeys(row.feature_id for row in others)]
    requests = _requests(own)
    if number is None or not 1 <= number <= len(requests):
        number = 1 + max(
            range(len(requests)),
            key=lambda at: (requests[at].has_end(ended_at), requests[at].length_us, -at),
        )
    limits = limit_histories({row.series_id for row in requests[number - 1].rows})
    return Trace(
        trace_id=trace_id,
        request=_request(requests[number - 1], limits, milestone),
        number=number,
        starts=tuple(_instant(one.start_us) for one in requests),
        elsewhere=tuple((of[pk], ms) for pk, ms in _lengths(others).items()),
        is_cut=is_cut,
    )


# -- what is read -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    is_span: bool
    ended_us: int
    duration_us: int
    duration_ms: float
    status: int
    span_id: int
    parent_span_id: int
    labels: Mapping[str, Any]
    series_id: int
    feature_id: int
    milestone: str | None
    component: str | None
    environment: str
    release: str

    @property
    def start_us(self) -> int:
        return self.ended_us - self.duration_us


def _read(feature: Feature, trace_id: str, visible: list[int]) -> list[_Row]:
    """Rows of the trace: the feature's before others', milestones before calls, the longest first."""
    with transaction.atomic(), connection.cursor() as cursor:
        # Every partition has an index that skips all but a few of its pages; the planner would rather read them all,
        # by several processes: 137 ms instead of 18 over 28 days of the demo.
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL max_parallel_workers_per_gather = 0")
        cursor.execute(
            """
            SELECT m.is_span, (extract(epoch FROM m.ended_at) * 1000000)::bigint,
                   round(m.duration_ms * 1000)::bigint, m.duration_ms, m.status, coalesce(m.span_id, 0),
                   coalesce(m.parent_span_id, 0), m.labels, s.id, s.feature_id, s.milestone, c.name,
                   s.environment, s.release
            FROM (
                SELECT false AS is_span, series_id, ended_at, duration_ms, status, span_id, parent_span_id, labels
                FROM budgets_measurement WHERE trace_id = %(trace)s
                UNION ALL
                SELECT true, series_id, ended_at, duration_ms, status, span_id, parent_span_id, NULL
                FROM budgets_span WHERE trace_id = %(trace)s
            ) m
            JOIN budgets_series s ON s.id = m.series_id
            LEFT JOIN budgets_component c ON c.id = s.component_id
            WHERE s.feature_id = ANY(%(visible)s)
            ORDER BY s.feature_id <> %(feature)s, s.milestone IS NULL, m.duration_ms DESC, m.ended_at, s.id, m.span_id
            LIMIT %(limit)s
            """,
            {"trace": UUID(trace_id), "visible": visible, "feature": feature.pk, "limit": MAX_SPANS + 1},
        )
        names = [column.name for column in fields(_Row)]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        cursor.execute("SET LOCAL enable_seqscan = on; RESET max_parallel_workers_per_gather")
    return [_Row(**{**row, "labels": _labels_of(row["labels"])}) for row in rows]


def _labels_of(value: Any) -> Mapping[str, Any]:
    found = json.loads(value) if isinstance(value, str) else value
    return found if isinstance(found, dict) else {}


def _lengths(rows: Iterable[_Row]) -> dict[int, float]:
    """By feature, the ms from the first start to the last end."""
    bounds: dict[int, tuple[int, int]] = {}
    for row in rows:
        start, end = bounds.get(row.feature_id, (row.start_us, row.ended_us))
        bounds[row.feature_id] = min(start, row.start_us), max(end, row.ended_us)
    return {pk: (end - start) / 1e3 for pk, (start, end) in bounds.items()}


# -- which requests it has --------------------------------------------------------------------------


@dataclass
class _Request:
    """Milestones of one request, each once, and the calls that belong to it."""

    environment: str
    milestones: dict[str, _Row] = field(default_factory=dict)
    calls: list[_Row] = field(default_factory=list)

    @property
    def rows(self) -> list[_Row]:
        return [*self.milestones.values(), *self.calls]

    @property
    def start_us(self) -> int:
        return min(row.start_us for row in self.milestones.values() or self.calls)

    @property
    def end_us(self) -> int:
        return max(row.ended_us for row in self.milestones.values() or self.calls)

    @property
    def length_us(self) -> int:
        return self.end_us - self.start_us

    def has_end(self, at: datetime | None) -> bool:
        """Whether a milestone was reached, or a call ended, at that instant."""
        return at is not None and any(_instant(row.ended_us) == at for row in self.rows)


def _requests(rows: Sequence[_Row]) -> list[_Request]:
    """The requests of a trace by their start: milestones that overlap are one request's, and a call belongs to that of
    its parents, else to the one within which it began."""
    requests: list[_Request] = []
    for row in sorted((row for row in rows if row.milestone), key=lambda row: (row.start_us, -row.ended_us)):
        assert row.milestone is not None
        fits = [
            one
            for one in requests
            if row.milestone not in one.milestones
            and one.environment == row.environment
            and (one.start_us == row.start_us or (row.start_us < one.end_us and one.start_us < row.ended_us))
        ]
        home = min(fits, key=lambda one: abs(one.start_us - row.start_us), default=None)
        if home is None:
            home = _Request(row.environment)
            requests.append(home)
        home.milestones[row.milestone] = row
    calls = [row for row in rows if row.component is not None]
    if not requests:
        return [_Request(calls[0].environment, calls=calls)]
    requests.sort(key=lambda one: one.start_us)
    by_span = {
        row.span_id: one for one in requests for row in one.milestones.values() if row.span_id != NO_ID
    }
    above = {row.span_id: row.parent_span_id for row in calls if row.span_id != NO_ID}
    for row in calls:
        _home_of(row, requests, by_span, above).calls.append(row)
    return requests


def _home_of(
    row: _Row, requests: Sequence[_Request], by_span: Mapping[int, _Request], above: Mapping[int, int]
) -> _Request:
    if len(requests) == 1:
        return requests[0]
    parent, seen = row.parent_span_id, set()
    while parent not in by_span and parent in above and parent not in seen:
        seen.add(parent)
        parent = above[parent]
    if parent in by_span:
        return by_span[parent]
    within = [one for one in requests if row.ended_us > one.start_us and row.start_us < one.end_us]
    same = [one for one in within if one.environment == row.environment] or within
    begun = [one for one in (same or requests) if one.start_us <= row.start_us]
    return begun[-1] if begun else (same or requests)[0]


# -- the one that is shown --------------------------------------------------------------------------


def _request(found: _Request, limits: Mapping[int, Any], milestone: str | None) -> TracedRequest:
    milestones = [found.milestones[name] for name in Milestone.values if name in found.milestones]
    root_row = _root_of(milestones, limits, milestone)
    if root_row is not None:
        start_us, end_us, span_id = root_row.start_us, root_row.ended_us, root_row.span_id
    else:
        start_us, end_us, span_id = found.start_us, found.end_us, NO_ID
    spans, unattributed, is_lined_up = _waterfall(found.calls, start_us, end_us, span_id)
    spans = _with_overruns(spans, found.calls, limits)
    last = milestones[-1] if milestones else max(found.calls, key=lambda row: row.ended_us)
    status = root_row.status if root_row else max(row.status for row in found.calls)
    return TracedRequest(
        environment=found.environment,
        release=last.release,
        started_at=_instant(start_us),
        milestone=root_row.milestone if root_row else None,
        root_ms=(end_us - start_us) / 1e3,
        status=Status(status),
        reached=tuple(
            Reached(
                str(row.milestone),
                (row.ended_us - start_us) / 1e3,
                row.duration_ms,
                _limit(row, limits),
                Status(row.status),
                row.span_id,
            )
            for row in milestones
        ),
        spans=tuple(span for span, _ in spans),
        components=_components(spans, found.calls, limits),
        unattributed=unattributed,
        labels=_labels(found.rows),
        is_lined_up=is_lined_up,
    )


def _root_of(milestones: Sequence[_Row], limits: Mapping[int, Any], asked: str | None) -> _Row | None:
    """The milestone that is asked for; else the first that was missed, or the last."""
    if not milestones:
        return None
    chosen = next((row for row in milestones if row.milestone == asked), None)
    return chosen or next((row for row in milestones if _is_missed(row, limits)), milestones[-1])


def _is_missed(row: _Row, limits: Mapping[int, Any]) -> bool:
    limit_ms = _limit(row, limits)
    return limit_ms is not None and (row.status == Status.TIMEOUT or row.duration_ms > limit_ms)


def _limit(row: _Row, limits: Mapping[int, Any]) -> float | None:
    if row.series_id not in limits:
        return None
    minute = np.array([row.ended_us // _MINUTE_US * _MINUTE_US])
    limit_ms = float(limits[row.series_id].at(minute)[0])
    return None if np.isnan(limit_ms) else limit_ms


_Placed = tuple[TracedSpan, _Row]


def _waterfall(
    rows: Sequence[_Row], start_us: int, end_us: int, root_span_id: int
) -> tuple[list[_Placed], tuple[Stretch, ...], bool]:
    """Calls as a tree, parents before their children and by their start; and when none of them was at work."""
    size = len(rows)
    calls, started_us = arranged(
        Calls(
            number=np.arange(size),
            root=np.zeros(size, dtype=np.int64),
            series_id=np.array([row.series_id for row in rows], dtype=np.int64),
            ended_us=np.array([row.ended_us for row in rows], dtype=np.int64),
            duration_us=np.array([row.duration_us for row in rows], dtype=np.int64),
            span_id=np.array([row.span_id for row in rows], dtype=np.int64),
            parent_span_id=np.array([row.parent_span_id for row in rows], dtype=np.int64),
            is_span=np.array([row.is_span for row in rows], dtype=bool),
        ),
        np.array([start_us]),
        np.array([end_us - start_us]),
    )
    is_lined_up = bool((started_us != calls.started_us).any())
    count = len(calls.number)
    parent = without_cycles(
        parents_of(
            np.zeros(1 + count, dtype=np.int64),
            np.arange(1 + count) > 0,
            np.concatenate([[root_span_id], calls.span_id]),
            np.concatenate([[NO_ID], calls.parent_span_id]),
        )
    )
    starts = np.concatenate([[start_us], started_us])
    found = slots_of_one(parent, starts, np.concatenate([[end_us], started_us + calls.duration_us]))
    waited = [
        tuple(((low - start_us) / 1e3, (high - start_us) / 1e3) for low, high in stretches)
        for stretches in own_stretches(parent, found)
    ]
    placed: list[_Placed] = []
    order = _in_tree_order(parent.tolist(), starts.tolist(), calls.duration_us.tolist())
    position = {node: at for at, (node, _) in enumerate(order)}
    for node, depth in order:
        row = rows[int(calls.number[node - 1])]
        placed.append(
            (
                TracedSpan(
                    component=str(row.component),
                    start_ms=(int(starts[node]) - start_us) / 1e3,
                    duration_ms=row.duration_ms,
                    status=Status(row.status),
                    span_id="" if row.span_id == NO_ID else f"{row.span_id % 2**64:016x}",
                    parent=position.get(int(parent[node])),
                    depth=depth,
                    waited=waited[node],
                ),
                row,
            )
        )
    return placed, waited[0], is_lined_up


def _in_tree_order(parent: list[int], start: list[int], duration: list[int]) -> list[tuple[int, int]]:
    """(node, depth) of all but the root, which is 0."""
    children: dict[int, list[int]] = defaultdict(list)
    for node, above in enumerate(parent):
        if above != NO_PARENT:
            children[above].append(node)
    order: list[tuple[int, int]] = []
    left = [(0, -1)]
    while left:
        node, depth = left.pop()
        if node:
            order.append((node, depth))
        below = sorted(children[node], key=lambda one: (start[one], -duration[one - 1], one), reverse=True)
        left.extend((one, depth + 1) for one in below)
    return order


def _with_overruns(
    spans: Sequence[_Placed], rows: Sequence[_Row], limits: Mapping[int, Any]
) -> list[_Placed]:
    """Spans with when they ran beyond their allocation: several calls of a component that are judged by their union
    from the moment on at which that was used up."""
    united = {row.series_id: row for row in rows if not row.is_span}
    used: dict[int, float] = defaultdict(float)
    reached: dict[int, float] = {}
    over: dict[int, tuple[Stretch, ...]] = {}
    for at, (span, row) in sorted(enumerate(spans), key=lambda one: (one[1][0].start_ms, one[0])):
        limit_ms = _limit(united.get(row.series_id, row) if row.is_span else row, limits)
        if limit_ms is None or row.status == Status.ERROR:
            continue
        if not row.is_span:
            if span.duration_ms > limit_ms:
                over[at] = ((span.start_ms + limit_ms, span.end_ms),)
            continue
        begins = max(span.start_ms, reached.get(row.series_id, span.start_ms))
        if begins < span.end_ms:
            left = max(0.0, limit_ms - used[row.series_id])
            used[row.series_id] += span.end_ms - begins
            reached[row.series_id] = span.end_ms
            if begins + left < span.end_ms:
                over[at] = ((begins + left, span.end_ms),)
    return [(replace(span, over=over.get(at, ())), row) for at, (span, row) in enumerate(spans)]


def _components(
    spans: Sequence[_Placed], rows: Sequence[_Row], limits: Mapping[int, Any]
) -> tuple[ComponentTime, ...]:
    """By what the user waited for, the longest first."""
    judged: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        if not row.is_span:
            judged[str(row.component)].append(row)
    shown: dict[str, list[TracedSpan]] = defaultdict(list)
    for span, row in spans:
        shown[span.component].append(span)
        if row.is_span and span.component not in judged:
            judged[span.component].append(row)
    found = []
    for name, several in judged.items():
        longest = max(several, key=lambda row: row.duration_ms)
        limit_ms = _limit(longest, limits)
        is_error = longest.status == Status.ERROR
        found.append(
            ComponentTime(
                component=name,
                calls=max(len(shown[name]), 1),
                judged_ms=longest.duration_ms,
                limit_ms=limit_ms,
                over_ms=0.0 if limit_ms is None or is_error else max(0.0, longest.duration_ms - limit_ms),
                status=Status(max(row.status for row in several)),
                waited_ms=sum(span.waited_ms for span in shown[name]),
            )
        )
    return tuple(sorted(found, key=lambda one: (-one.waited_ms, -one.judged_ms, one.component)))


def _labels(rows: Iterable[_Row]) -> tuple[tuple[str, str], ...]:
    """Each label once, by name; of one with several values, all."""
    found = {
        (name, value if isinstance(value, str) else json.dumps(value))
        for row in rows
        for name, value in row.labels.items()
    }
    return tuple(sorted(found))


def _length(stretches: Iterable[Stretch]) -> float:
    return sum(end - start for start, end in stretches)


def _instant(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
