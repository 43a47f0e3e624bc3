"""Requests out of raw measurements and spans: how long each took, and which component it waited for when.

The measurements of one request share a trace id. How much is read is bounded, whatever the traffic: where a range
holds too many measurements it is read in slices spread evenly over it, and of the requests in them a sample by a hash
of their trace ids is taken. Both depend on nothing but what is stored, so that the same question has the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from django.db import connection, transaction
from django.db.models import Q

from .attribution import Requests
from .columns import POSTGRES_EPOCH_US, fetch_arrays
from .critical_paths import NO_PARENT, own_times, without_cycles
from .limits import limit_histories
from .models import Feature, Series, Status

MAX_OVER: Final = 2000
MAX_WITHIN: Final = 2000
"""Requests over their latency budget, and within it, that are looked at; more would change no percentage."""
MAX_BETWEEN: Final = 2000
"""Requests between two durations that are looked at."""
MAX_REQUESTS_OF_TRACE: Final = 50
"""That share a trace id, such as the turns of a conversation. Of more, as where a service sends the same id with all of
its requests, the id does not tell whose a call was: they count as without one, and nobody pairs each with all calls."""
MAX_MEASUREMENTS: Final = 200_000
"""That are read: of all features, because those of one lie among the others'."""
_MAX_SLICES: Final = 8
_MIN_SLICES: Final = 2
_PROBES: Final = 4
_MAX_PIECES: Final = 32
"""A scan each: planning a thousand of them takes longer than reading what lies between."""
_GOLDEN: Final = 0.6180339887498949
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OF_MINUTES: Final = (
    "budgets_rollup_minute"
    " WHERE series_id = ANY(%s) AND start >= date_trunc('minute', %s::timestamptz) AND start < %s"
)
NO_ID: Final = 0


@dataclass(frozen=True)
class TracedRequests:
    """The requests of a milestone that ended in [start, end), as far as they were looked at.

    `with_components` says which of `requests` have a component that was measured under their trace id. `total` counts
    requests that were read and are no errors, also those without a trace id. `is_sampled`: there were more.
    """

    requests: Requests
    with_components: np.ndarray
    total: int
    is_sampled: bool
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Between:
    """Requests that took over `over_ms` and up to `up_to_ms` (however long without it) and ended well; without
    `over_ms` none of them. And `with_timeouts`, all that timed out."""

    over_ms: float | None
    up_to_ms: float | None = None
    with_timeouts: bool = False

    @property
    def condition(self) -> str:
        """As SQL."""
        either = []
        if self.over_ms is not None:
            top = "" if self.up_to_ms is None else f" AND duration_ms <= {self.up_to_ms!r}"
            either.append(f"status = {Status.OK:d} AND duration_ms > {self.over_ms!r}{top}")
        if self.with_timeouts:
            either.append(f"status = {Status.TIMEOUT:d}")
        return f"({' OR '.join(either) or 'false'})"


@dataclass(frozen=True)
class Slices:
    """Which part of a range is read: requests that ended in `slices`, and what was measured up to `before` their end
    and `after` it. Where they are not the whole of it, none is looked at that took longer than `before`."""

    slices: list[tuple[datetime, datetime]]
    before: timedelta
    after: timedelta
    is_whole: bool

    def around(self, longest: timedelta) -> list[tuple[datetime, datetime]]:
        """The slices with what surrounds them, apart from each other; the longest request in them took so long."""
        merged: list[tuple[datetime, datetime]] = []
        for start, end in self.slices:
            start, end = start - longest, end + self.after
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return merged


def read_requests(
    *,
    feature: Feature,
    milestone: str,
    environment: str,
    start: datetime,
    end: datetime,
    between: Between | None = None,
) -> TracedRequests:
    """The requests of a milestone that ended in [start, end), or those of them that took so long.

    Of all requests those over and those within their latency budget are looked at in equal parts, where there are
    too many of them; of those `between` two durations as they come, so that their mean is that of all.

    Errors are left out: how soon something failed says nothing of what is slow. Timeouts are in, with the time after
    which they were given up. A request is judged by the latency budget that was in force when it ended; one that
    ended while none was is left out.
    """
    named = Series.objects.filter(feature=feature, environment=environment).filter(
        Q(milestone=milestone) | Q(component__isnull=False)
    )
    series = list(named.values_list("pk", "component__name"))
    milestones = [pk for pk, component in series if component is None]
    components = {pk: component for pk, component in series if component is not None}
    with transaction.atomic(), connection.cursor() as cursor:
        slices = _slices(milestones, list(components), start, end)
        # A slice is a narrow range of its partition, as in budgets.groups.read_raw.
        cursor.execute("SET LOCAL enable_seqscan = off")
        roots, total, is_capped = _read_roots(milestones, slices, between)
        calls = read_calls(roots, list(components), slices)
        cursor.execute("SET LOCAL enable_seqscan = on")
    names = sorted(set(components.values()))
    part_us, with_components = parts_of(roots, calls, components, names)
    return TracedRequests(
        requests=Requests(
            duration_ms=roots.duration_us / 1e3,
            limit_ms=roots.limit_ms,
            is_timeout=roots.is_timeout,
            components=names,
            part_ms=part_us / 1e3,
        ),
        with_components=with_components,
        total=total,
        is_sampled=is_capped or not slices.is_whole,
        start=start,
        end=end,
    )


# -- what is read -----------------------------------------------------------------------------------


def _slices(milestones: list[int], components: list[int], start: datetime, end: datetime) -> Slices:
    minutes = _minutes(milestones, start, end)
    ended, before_s = _rolled_up(milestones, start, end)
    finished, after_s = _rolled_up(components, start, end)
    length_s = 60 * len(minutes)
    per_second = max(_received_per_second(minutes), (ended + finished) / length_s) if length_s else 0.0
    if per_second * (length_s + before_s + after_s) <= MAX_MEASUREMENTS:
        return Slices([(start, end)], timedelta(seconds=before_s), timedelta(seconds=after_s), is_whole=True)
    read_s = MAX_MEASUREMENTS / per_second
    # Half of what is read may lie around the slices; what takes longer than that is left out.
    before_s = min(before_s, read_s / 4 / _MIN_SLICES)
    after_s = min(after_s, read_s / 4 / _MIN_SLICES)
    around_s = before_s + after_s
    count = int(min(_MAX_SLICES, read_s / 2 / around_s)) if around_s else _MAX_SLICES
    slices = _spread(minutes, count, width_s=read_s / count - around_s)
    bounded = [(max(start, one), min(end, other)) for one, other in slices if one < end and other > start]
    return Slices(bounded, timedelta(seconds=before_s), timedelta(seconds=after_s), is_whole=False)


def _spread(minutes: np.ndarray, count: int, *, width_s: float) -> list[tuple[datetime, datetime]]:
    """So many slices, spread evenly over the minutes in which something ended, as if there were no others."""
    stride_s = len(minutes) * 60 / count
    width_s = min(width_s, stride_s)
    slices: list[tuple[datetime, datetime]] = []
    for number in range(count):
        # At changing places of their strides: what happens on the minute is met by neither all nor none.
        at_s = number * stride_s + (number * _GOLDEN) % 1 * (stride_s - width_s)
        until_s = at_s + width_s
        while at_s < until_s - 1e-6 and at_s < len(minutes) * 60 - 1e-6:
            position, offset_s = divmod(at_s, 60)
            piece_s = min(until_s - at_s, 60 - offset_s)
            since = _instant(minutes[int(position)]) + timedelta(seconds=offset_s)
            until = since + timedelta(seconds=piece_s)
            if slices and slices[-1][1] >= since:
                slices[-1] = (slices[-1][0], until)
            else:
                slices.append((since, until))
            at_s += max(piece_s, 1e-6)
    return _joined(slices)


def _joined(pieces: list[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """At most _MAX_PIECES of them, those joined first that are closest: in between nothing ended."""
    gaps = sorted(range(1, len(pieces)), key=lambda n: (pieces[n][0] - pieces[n - 1][1], n))
    kept = {0, *gaps[max(0, len(pieces) - _MAX_PIECES) :]}
    found: list[tuple[datetime, datetime]] = []
    for n, (start, end) in enumerate(pieces):
        if n in kept:
            found.append((start, end))
        else:
            found[-1] = (found[-1][0], end)
    return found


def _rolled_up(series_ids: list[int], start: datetime, end: datetime) -> tuple[int, float]:
    """How many measurements of the series ended, and how many seconds the longest of them took."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT coalesce(sum(total), 0), coalesce(max(max_ms), 0) FROM {_OF_MINUTES}",
            [series_ids, start, end],
        )
        count, longest_ms = cursor.fetchone()
    return int(count), float(longest_ms) / 1e3


def _minutes(series_ids: list[int], start: datetime, end: datetime) -> np.ndarray:
    """The minutes in which measurements of the series ended, in microseconds since 1970.

    An array: a month has forty thousand, and to make instants of them takes longer than to read the requests.
    """
    [minutes] = fetch_arrays(
        f"SELECT array_agg(DISTINCT start ORDER BY start) FROM {_OF_MINUTES}", [series_ids, start, end]
    )
    return np.empty(0, dtype=np.int64) if minutes is None else minutes + POSTGRES_EPOCH_US


def _instant(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=int(us))


def _received_per_second(minutes: np.ndarray) -> float:
    """Measurements of all features, by what was received in a few of these minutes."""
    probes = [_instant(us) for us in minutes[:: -(-len(minutes) // _PROBES)]]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT coalesce(sum(measurement_count), 0)
            FROM unnest(%s::timestamptz[]) AS probe (start)
            JOIN budgets_batch b ON b.received_at >= probe.start AND b.received_at < probe.start + interval '1 minute'
            """,
            [probes],
        )
        [count] = cursor.fetchone()
    return float(count) / (60 * len(probes))


# -- requests ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Roots:
    """Requests as columns; times in microseconds since 1970, ids as signed numbers, NO_ID for none."""

    ended_us: np.ndarray
    duration_us: np.ndarray
    is_timeout: np.ndarray
    limit_ms: np.ndarray
    trace_id: np.ndarray
    span_id: np.ndarray

    def take(self, keep: np.ndarray) -> Roots:
        return Roots(*(getattr(self, name)[keep] for name in _ROOT_COLUMNS))


def _no_roots() -> Roots:
    empty = np.empty(0, dtype=np.int64)
    return Roots(empty, empty, empty.astype(bool), empty.astype(float), np.empty(0, "V16"), empty)


_ROOT_COLUMNS: Final = tuple(Roots.__dataclass_fields__)
_ZERO_TRACE = "'00000000-0000-0000-0000-000000000000'::uuid"


def _read_roots(milestones: list[int], slices: Slices, between: Between | None) -> tuple[Roots, int, bool]:
    """The requests that are looked at, how many were read, and whether there were more."""
    condition = f"status <> {Status.ERROR:d}" if between is None else between.condition
    selected, parameters = ranges_of("budgets_measurement", milestones, slices.slices, condition)
    arrays = fetch_arrays(
        "SELECT array_agg(series_id), array_agg(ended_at), array_agg(duration_ms), array_agg(status),"
        f" array_agg(coalesce(trace_id, {_ZERO_TRACE})), array_agg(coalesce(span_id, {NO_ID}))"
        f" FROM ({selected}) AS m",
        parameters,
    )
    if arrays[0] is None:
        return _no_roots(), 0, False
    series_id, ended, duration_ms, status, trace_id, span_id = arrays
    ended_us = ended + POSTGRES_EPOCH_US
    roots = Roots(
        ended_us=ended_us,
        duration_us=np.rint(duration_ms * 1e3).astype(np.int64),
        is_timeout=status == Status.TIMEOUT,
        limit_ms=_limits(series_id, ended_us),
        trace_id=trace_id,
        span_id=span_id,
    )
    halves = trace_id.view(np.uint64).reshape(-1, 2)
    is_usable = halves.any(axis=1)
    if between is None:
        is_usable &= ~np.isnan(roots.limit_ms)
    if not slices.is_whole:
        is_usable &= roots.duration_us <= slices.before / timedelta(microseconds=1)
    roots, halves = roots.take(is_usable), halves[is_usable]
    order = _mixed(halves)
    is_told = _is_told_by_trace(order)
    roots, order = roots.take(is_told), order[is_told]
    if between is None:
        is_over = roots.is_timeout | (roots.duration_us > roots.limit_ms * 1e3)
        over, within = (
            _least(order, np.flatnonzero(is_over), MAX_OVER),
            _least(order, np.flatnonzero(~is_over), MAX_WITHIN),
        )
        chosen = np.sort(np.concatenate([over, within]))
    else:
        chosen = np.sort(_least(order, np.arange(len(order)), MAX_BETWEEN))
    return roots.take(chosen), len(series_id), len(chosen) < len(order)


def _limits(series_id: np.ndarray, ended_us: np.ndarray) -> np.ndarray:
    limit_ms = np.full(len(series_id), np.nan)
    ids = np.unique(series_id)
    histories = limit_histories(ids.tolist())
    for one in ids.tolist():
        if one in histories:
            rows = series_id == one
            limit_ms[rows] = histories[one].at(ended_us[rows])
    return limit_ms


def _mixed(halves: np.ndarray) -> np.ndarray:
    """Numbers that are spread evenly also where trace ids count up or begin with the time (splitmix64's finish)."""
    mixed = halves[:, 0] ^ (halves[:, 1] * np.uint64(0x9E3779B97F4A7C15))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _is_told_by_trace(trace: np.ndarray) -> np.ndarray:
    """Of each request whether few enough others share its trace; traces as their numbers of `_mixed`."""
    _, place, count = np.unique(trace, return_inverse=True, return_counts=True)
    is_told: np.ndarray = count[place] <= MAX_REQUESTS_OF_TRACE
    return is_told


def _least(order: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    if len(rows) <= size:
        return rows
    least: np.ndarray = rows[np.argpartition(order[rows], size)[:size]]
    return least


# -- what components did in them --------------------------------------------------------------------


@dataclass(frozen=True)
class Calls:
    """Calls of components, of which each belongs to the request at `root`; as in Roots. One of `is_span` is one of
    several of its component. `number` tells them apart as they were read."""

    number: np.ndarray
    root: np.ndarray
    series_id: np.ndarray
    ended_us: np.ndarray
    duration_us: np.ndarray
    span_id: np.ndarray
    parent_span_id: np.ndarray
    is_span: np.ndarray

    def take(self, keep: np.ndarray) -> Calls:
        return Calls(*(getattr(self, name)[keep] for name in _COLUMNS_OF_CALLS))

    @property
    def started_us(self) -> np.ndarray:
        started_us: np.ndarray = self.ended_us - self.duration_us
        return started_us


_COLUMNS_OF_CALLS: Final = tuple(Calls.__dataclass_fields__)


def read_calls(roots: Roots, components: list[int], slices: Slices) -> Calls:
    found = [no_calls()]
    size = len(roots.trace_id)
    # One text, which is quicker to send than so many values.
    traces = ",".join(trace.tobytes().hex() for trace in roots.trace_id)
    longest = timedelta(microseconds=int(roots.duration_us.max(initial=0)))
    for table in ("budgets_measurement", "budgets_span") if size and components else ():
        selected, parameters = ranges_of(table, components, slices.around(longest), "true")
        arrays = fetch_arrays(
            "SELECT array_agg(r.number), array_agg(series_id), array_agg(ended_at), array_agg(duration_ms),"
            f" array_agg(coalesce(span_id, {NO_ID})), array_agg(coalesce(parent_span_id, {NO_ID}))"
            " FROM unnest(string_to_array(%s, ',')::uuid[]) WITH ORDINALITY AS r (trace_id, number)"
            f" JOIN ({selected}) AS m ON m.trace_id = r.trace_id",
            [traces, *parameters],
        )
        if arrays[0] is not None:
            number, series_id, ended, duration_ms, span_id, parent_span_id = arrays
            found.append(
                Calls(
                    number=np.arange(len(number), dtype=np.int64),
                    root=number.astype(np.int64) - 1,
                    series_id=series_id,
                    ended_us=ended + POSTGRES_EPOCH_US,
                    duration_us=np.rint(duration_ms * 1e3).astype(np.int64),
                    span_id=span_id,
                    parent_span_id=parent_span_id,
                    is_span=np.full(len(number), table == "budgets_span"),
                )
            )
    return Calls(*(np.concatenate([getattr(one, name) for one in found]) for name in _COLUMNS_OF_CALLS))


def no_calls() -> Calls:
    empty = np.empty(0, dtype=np.int64)
    return Calls(empty, empty, empty, empty, empty, empty, empty, empty.astype(bool))


def ranges_of(
    table: str, series_ids: list[int], ranges: list[tuple[datetime, datetime]], condition: str
) -> tuple[str, list[Any]]:
    """Rows of these series in ranges that do not overlap: each is a scan of its own, of its narrow range alone."""
    parameters: list[Any] = []
    for start, end in ranges:
        parameters += [start, end, series_ids]
    one = f"SELECT * FROM {table} WHERE ended_at >= %s AND ended_at < %s AND series_id = ANY(%s) AND {condition}"
    return " UNION ALL ".join([one] * len(ranges)), parameters


# -- whose time it was ------------------------------------------------------------------------------


def parts_of(
    roots: Roots, calls: Calls, components: dict[int, str], names: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The microseconds of each request on whose critical path each component was; and which have any component."""
    size = len(roots.ended_us)
    root_started_us = roots.ended_us - roots.duration_us
    # A trace may hold several requests, one after the other.
    calls = calls.take(
        (calls.ended_us > root_started_us[calls.root]) & (calls.started_us < roots.ended_us[calls.root])
    )
    calls, started_us = arranged(calls, root_started_us, roots.duration_us)
    ended_us = started_us + calls.duration_us

    # Each request's root before its calls.
    root = np.concatenate([np.arange(size), calls.root])
    is_call = np.concatenate([np.zeros(size, dtype=bool), np.ones(len(calls.root), dtype=bool)])
    order = np.lexsort((is_call, root))
    span_id = np.concatenate([roots.span_id, calls.span_id])[order]
    parent_span_id = np.concatenate([np.zeros(size, dtype=np.int64), calls.parent_span_id])[order]
    root, is_call = root[order], is_call[order]
    parent = parents_of(root, is_call, span_id, parent_span_id)
    own_us = own_times(
        without_cycles(parent),
        np.concatenate([root_started_us, started_us])[order],
        np.concatenate([roots.ended_us, ended_us])[order],
    )
    column_of = {name: column for column, name in enumerate(names)}
    column = np.array([column_of[components[pk]] for pk in calls.series_id.tolist()], dtype=np.int64)
    column = np.concatenate([np.full(size, -1, dtype=np.int64), column])[order]
    part_us = np.zeros((size, len(names)), dtype=np.int64)
    np.add.at(part_us, (root[is_call], column[is_call]), own_us[is_call])
    return part_us, np.isin(np.arange(size), calls.root)


def arranged(
    calls: Calls, root_started_us: np.ndarray, root_duration_us: np.ndarray
) -> tuple[Calls, np.ndarray]:
    """Each call once, and when it began: calls that were sent without their offsets one after the other."""
    calls = _told_apart(calls, root_started_us)
    has_parent = np.isin(calls.parent_span_id, calls.span_id[calls.span_id != NO_ID])
    return calls, _lined_up(calls, calls.started_us, root_started_us, root_duration_us, has_parent)


def _told_apart(calls: Calls, root_started_us: np.ndarray) -> Calls:
    """Each call once: several calls of a component by their spans, and not by what they add up to.

    Unless they were sent without their offsets, and so all stand at the start of the request: then their sum is what
    is known.
    """
    width = int(calls.series_id.max(initial=0)) + 1
    key = calls.root * width + calls.series_id
    unknown = _where_unknown(key[calls.is_span], calls.take(calls.is_span), root_started_us)
    is_told_by_spans = np.isin(key, np.setdiff1d(key[calls.is_span], unknown))
    return calls.take(calls.is_span == is_told_by_spans)


def _where_unknown(key: np.ndarray, spans: Calls, root_started_us: np.ndarray) -> np.ndarray:
    """The keys of which all spans begin with their request."""
    return np.setdiff1d(key, key[spans.started_us != root_started_us[spans.root]])


def _lined_up(
    calls: Calls,
    started_us: np.ndarray,
    root_started_us: np.ndarray,
    root_duration_us: np.ndarray,
    has_parent: np.ndarray,
) -> np.ndarray:
    """Where calls of a request were sent without their offsets, one after the other.

    That is taken to be so where several of them all begin exactly with the request, none calls another, and they fit
    into it one after the other. What is known of them is how long they took, which is then what each counts for.
    """
    size = len(root_duration_us)
    count = np.bincount(calls.root, minlength=size)
    at_start = np.bincount(
        calls.root, (started_us == root_started_us[calls.root]) & ~has_parent, minlength=size
    )
    taken_us = np.bincount(calls.root, calls.duration_us, minlength=size)
    is_lined_up = (count > 1) & (at_start == count) & (taken_us <= root_duration_us)
    order = np.lexsort((calls.ended_us, calls.root))
    before_us = np.cumsum(calls.duration_us[order]) - calls.duration_us[order]
    first = np.searchsorted(calls.root[order], calls.root[order])
    shift_us = np.zeros(len(started_us), dtype=np.int64)
    shift_us[order] = before_us - before_us[first] if len(first) else before_us
    return np.where(is_lined_up[calls.root], started_us + shift_us, started_us)


def parents_of(
    root: np.ndarray, is_call: np.ndarray, span_id: np.ndarray, parent_span_id: np.ndarray
) -> np.ndarray:
    """The position of each call's parent: the span of that id in the same request, or else the request."""
    position_of_root = np.flatnonzero(~is_call)[root]
    ids, coded = np.unique(np.concatenate([span_id, parent_span_id]), return_inverse=True)
    key, wanted = (root * len(ids) + code for code in np.split(coded, 2))
    by_key = np.argsort(key, kind="stable")
    found = by_key[np.searchsorted(key[by_key], wanted).clip(max=len(key) - 1)] if len(key) else by_key
    is_found = (key[found] == wanted) & (parent_span_id != NO_ID)
    return np.where(is_call, np.where(is_found, found, position_of_root), NO_PARENT)
