"""What a service sends, as columns: checked value by value, with a reason for each item that is refused.

No database here, and no Python loop over the fields of measurements: what all of them share is done in numpy.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from .columns import POSTGRES_EPOCH_US
from .items import ComponentCall, Items, MeasurementItem, Reason, RequestItem, decode_items, hex_rule

MAX_DURATION_MS = 604_800_000.0  # seven days
MAX_AHEAD = timedelta(seconds=60)
MAX_LABELS_BYTES = 4096
"""As JSON. A request's labels are stored with each of its measurements: 10 000 times what came once."""
MILESTONES = ("first_token", "complete")
STATUSES = {"ok": 0, "error": 1, "timeout": 2}

# 0.1 + 0.2 must not be over an allocation of 0.3; limits have three decimals.
_MS_DECIMALS = 6
_MIN_UNIX_SECONDS = -62_135_683_200.0  # the day before the year 1, which it may be elsewhere
_MAX_UNIX_SECONDS = 253_402_300_800.0  # the year 10000
_HEX = {32: re.compile(r"[0-9a-f]{32}"), 16: re.compile(r"[0-9a-f]{16}")}

Target = tuple[str, str | None, str | None, str, str]
"""What a series is of: feature, component, milestone, environment, release."""

# A row on its way into columns: seconds since 1970, ms, status, trace, span, parent span, labels.
_Row = tuple[float | datetime, float, str, str | None, str | None, str | None, Any]
# The same of many rows: a sequence of each.
_Fields = Sequence[Sequence[Any]]
_target_of = attrgetter("feature", "component", "milestone", "environment", "release")
_encode = msgspec.json.encode

# Values and where there are any; None where no row has one.
Ids = tuple[np.ndarray, np.ndarray] | None


@dataclass(frozen=True)
class Rejection:
    """Why an item was refused; `index` counts within `within`, the list that it stood in."""

    index: int
    within: str
    code: str
    message: str

    def document(self) -> dict[str, Any]:
        return {"index": self.index, "in": self.within, "code": self.code, "message": self.message}


@dataclass
class Columns:
    """Measurements, or spans, as arrays of equal length; times in microseconds since 1970.

    `origin` says which item a row comes from; `target` is a position in `targets`.
    """

    origin: np.ndarray
    target: np.ndarray
    targets: list[Target]
    ended_us: np.ndarray
    duration_ms: np.ndarray
    status: np.ndarray
    trace_id: Ids
    span_id: Ids
    parent_span_id: Ids
    labels: list[bytes | None] | None

    def take(self, keep: np.ndarray) -> Columns:
        """The rows at which `keep` is true."""
        return Columns(
            origin=self.origin[keep],
            target=self.target[keep],
            targets=self.targets,
            ended_us=self.ended_us[keep],
            duration_ms=self.duration_ms[keep],
            status=self.status[keep],
            trace_id=_taken(self.trace_id, keep),
            span_id=_taken(self.span_id, keep),
            parent_span_id=_taken(self.parent_span_id, keep),
            labels=self.labels and [self.labels[row] for row in np.flatnonzero(keep).tolist()],
        )

    def without(self, origins: Iterable[int]) -> Columns:
        """The rows of all other items, and their targets: what is refused must make no series."""
        rejected = np.fromiter(origins, dtype=np.int64)
        if not len(rejected):
            return self
        rest = self.take(~np.isin(self.origin, rejected))
        used, target = np.unique(rest.target, return_inverse=True)
        return replace(rest, target=target, targets=[self.targets[position] for position in used.tolist()])

    def first_ended_at(self) -> dict[Target, datetime]:
        """When the earliest measurement of each target ended."""
        first = np.full(len(self.targets), np.iinfo(np.int64).max)
        np.minimum.at(first, self.target, self.ended_us)
        return {
            target: datetime.fromtimestamp(us / 1e6, tz=UTC)
            for target, us in zip(self.targets, first.tolist(), strict=True)
            if us < np.iinfo(np.int64).max
        }

    def __len__(self) -> int:
        return len(self.origin)


@dataclass
class Payload:
    """A body, read: the rows of the items that are sound, and why the others are not.

    `sizes[origin]` counts the items that an origin stands for; duplicates are not in it but in `repeats`, by
    origin and target.
    """

    measurements: Columns
    spans: Columns
    sizes: np.ndarray
    measurement_count: int  # how many origins are of `measurements`; the rest are of `requests`
    repeats: list[tuple[int, Target]]
    rejected: dict[int, Rejection]

    @property
    def accepted(self) -> int:
        """How many items are sound, each milestone and each component of a request being one."""
        return int(self.sizes.sum()) - sum(int(self.sizes[origin]) for origin in self.rejected)

    @property
    def duplicates(self) -> int:
        return sum(origin not in self.rejected for origin, _ in self.repeats)

    def reject_targets(self, reasons: Mapping[Target, Reason]) -> None:
        """Refuses every item of these targets, repetitions too."""
        of_position = [reasons.get(target) for target in self.measurements.targets]
        rows = zip(self.measurements.origin.tolist(), self.measurements.target.tolist(), strict=True)
        found = [(origin, of_position[position]) for origin, position in rows]
        found += [(origin, reasons.get(target)) for origin, target in self.repeats]
        for origin, reason in found:
            if reason is not None:
                self.reject(origin, *reason)

    def reject(self, origin: int, code: str, message: str) -> None:
        """Refuses an item, of which the first reason stays."""
        if origin not in self.rejected:
            self.rejected[origin] = _rejection(origin, self.measurement_count, code, message)


def read_payload(body: bytes, *, now: datetime, oldest: datetime, max_items: int) -> Payload:
    """Decodes and checks a body.

    Raises Refusal as `decode_items` does.
    """
    items = decode_items(body, max_items)
    rejected = {
        origin: _rejection(origin, len(items.measurements), *reason)
        for origin, reason in items.undecodable.items()
    }
    payload = _read(items, rejected, now, oldest)
    if payload.repeats and len(payload.rejected) > len(rejected):
        # What is wrong repeats nothing, and nothing repeats it: read again without.
        measurements = [
            None if origin in payload.rejected else item for origin, item in enumerate(items.measurements)
        ]
        requests = [
            None if origin in payload.rejected else item
            for origin, item in enumerate(items.requests, len(measurements))
        ]
        payload = _read(Items(measurements, requests, {}), payload.rejected, now, oldest)
    return payload


def _read(items: Items, rejected: dict[int, Rejection], now: datetime, oldest: datetime) -> Payload:
    return _Reader(len(items.measurements), now, oldest, rejected).read(items.measurements, items.requests)


def postgres_us(unix_us: np.ndarray) -> np.ndarray:
    """Instants as PostgreSQL sends them: big-endian microseconds since 2000."""
    return (unix_us - POSTGRES_EPOCH_US).astype(">i8")


class _Rows:
    """Rows of requests, on their way into columns. `name` is what a message calls the duration."""

    def __init__(self) -> None:
        self.origins: list[int] = []
        self.targets: list[Target] = []
        self.rows: list[_Row] = []
        self.names: list[str] = []

    def append(self, origin: int, target: Target, name: str, row: _Row) -> None:
        self.origins.append(origin)
        self.targets.append(target)
        self.names.append(name)
        self.rows.append(row)

    def fields(self) -> _Fields:
        return list(zip(*self.rows, strict=True)) if self.rows else [()] * 7


class _Reader:
    """Reads one body's items. Everything about one body's checks is here, and nothing else."""

    def __init__(
        self, measurement_count: int, now: datetime, oldest: datetime, rejected: dict[int, Rejection]
    ) -> None:
        self.measurement_count = measurement_count
        self.now = now
        self.oldest = oldest
        self.latest_us = _in_us(now + MAX_AHEAD)
        self.oldest_us = _in_us(oldest)
        self.rejected = dict(rejected)
        self.repeats: list[tuple[int, Target]] = []
        self.seen: set[tuple[Any, ...]] = set()

    def reject(self, origin: int, code: str, message: str) -> None:
        if origin not in self.rejected:
            self.rejected[origin] = _rejection(origin, self.measurement_count, code, message)

    def read(
        self, measurements: Sequence[MeasurementItem | None], requests: Sequence[RequestItem | None]
    ) -> Payload:
        sizes = np.ones(len(measurements) + len(requests), dtype=np.int64)
        columns = self._read_measurements(measurements, sizes)
        spans = _Rows()
        if requests:
            rows = _Rows()
            for origin, request in enumerate(requests, len(measurements)):
                sizes[origin] = 0 if request is None else self._read_request(origin, request, rows, spans)
            of_requests = self._columns(rows.origins, rows.targets, rows.fields(), rows.names)
            columns = _joined(columns, of_requests) if len(columns) else of_requests
        columns_of_spans = self._columns(spans.origins, spans.targets, spans.fields(), spans.names)
        return Payload(
            measurements=columns.without(self.rejected),
            spans=columns_of_spans.without(self.rejected),
            sizes=sizes,
            measurement_count=self.measurement_count,
            repeats=self.repeats,
            rejected=self.rejected,
        )

    # -- measurements -------------------------------------------------------------------------------

    def _read_measurements(self, given: Sequence[MeasurementItem | None], sizes: np.ndarray) -> Columns:
        origins: Sequence[int] = range(len(given))
        items: Sequence[Any] = given
        if self.rejected:
            origins = [origin for origin, item in enumerate(given) if item is not None]
            items = [item for item in given if item is not None]
        # Field by field: no tuple a row, which would have to be made, looked at by the collector and taken apart.
        fields = (
            [item.started_at for item in items],
            [item.duration_ms for item in items],
            [item.status for item in items],
            [item.trace_id for item in items],
            [item.span_id for item in items],
            [item.parent_span_id for item in items],
            [item.labels for item in items],
        )
        columns = self._columns(origins, map(_target_of, items), fields, None)
        for position, target in enumerate(columns.targets):
            if (target[1] is None) is (target[2] is None) or target[2] not in (None, *MILESTONES):
                for origin in columns.origin[columns.target == position].tolist():
                    self._reject_target(origin, target[1], target[2])
        if columns.span_id is None:
            return columns
        # Repetitions of one span with the same target, trace and start count once; what is wrong is no repetition.
        keep = np.ones(len(columns), dtype=bool)
        for row in np.flatnonzero(columns.span_id[1]).tolist():
            item, origin, target = items[row], int(columns.origin[row]), columns.targets[columns.target[row]]
            if origin not in self.rejected and not self._is_new(
                target, item.trace_id, _seconds(item.started_at), item.span_id
            ):
                keep[row] = False
                sizes[origin] = 0
                self.repeats.append((origin, target))
        return columns.take(keep)

    def _is_new(self, target: Target, trace_id: str | None, seconds: float, span_id: str | None) -> bool:
        key = (target, trace_id, round(seconds, 6), span_id)
        if key in self.seen:
            return False
        self.seen.add(key)
        return True

    # -- requests: each whole or not at all ---------------------------------------------------------

    def _read_request(self, origin: int, request: RequestItem, rows: _Rows, spans: _Rows) -> int:
        """Adds a request's rows; gives the number of its items, duplicates left out."""
        if not self._is_request_sound(origin, request):
            return 0
        seconds = _seconds(request.started_at)
        trace_id, labels = request.trace_id, _encode(request.labels) if request.labels else None
        reached = [name for name in MILESTONES if name in request.milestones]
        for name in reached:
            status = request.status if name == reached[-1] else "ok"
            target: Target = (request.feature, None, name, request.environment, request.release)
            row = (seconds, request.milestones[name], status, trace_id, None, None, labels)
            rows.append(origin, target, f"milestones.{name}", row)
        calls: dict[str, list[ComponentCall]] = {}
        size = len(request.milestones) + len(request.components)
        for call in request.components:
            if call.span_id is not None:
                target = (request.feature, call.component, None, request.environment, request.release)
                if not self._is_new(target, trace_id, seconds + (call.offset_ms or 0.0) / 1e3, call.span_id):
                    self.repeats.append((origin, target))
                    size -= 1
                    continue
            calls.setdefault(call.component, []).append(call)
        for name, several in calls.items():
            target = (request.feature, name, None, request.environment, request.release)
            field = f"components.{name}.duration_ms"
            of_calls: list[_Row] = [
                (
                    seconds + (call.offset_ms or 0.0) / 1e3,
                    call.duration_ms,
                    call.status,
                    trace_id,
                    call.span_id,
                    call.parent_span_id,
                    labels if len(several) == 1 else None,
                )
                for call in several
            ]
            if len(several) == 1:
                rows.append(origin, target, field, of_calls[0])
                continue
            duration_ms, end_ms = _united(several)
            start = seconds + (end_ms - duration_ms) / 1e3
            status = max((call.status for call in several), key=STATUSES.__getitem__)
            rows.append(origin, target, field, (start, duration_ms, status, trace_id, None, None, labels))
            if trace_id is not None:
                for one in of_calls:
                    spans.append(origin, target, field, one)
        return size

    def _is_request_sound(self, origin: int, request: RequestItem) -> bool:
        milestones = request.milestones
        if not milestones and not request.components:
            self.reject(origin, "empty_request", "A request needs at least one milestone or component.")
        elif request.status != "ok" and not milestones:
            self.reject(
                origin,
                "milestone_required",
                f"A request with status {request.status} must name the milestone at which it ended, and when.",
            )
        elif unknown := [name for name in milestones if name not in MILESTONES]:
            self._reject_target(origin, None, unknown[0])
        elif len(milestones) == 2 and milestones["first_token"] > milestones["complete"]:
            self.reject(origin, "milestones_out_of_order", "first_token must not come after complete.")
        for call in request.components:
            if call.offset_ms is not None and not 0 <= call.offset_ms <= MAX_DURATION_MS:
                self.reject(
                    origin,
                    "invalid_offset_ms",
                    f"offset_ms must be between 0 and seven days, got {call.offset_ms:.15g}.",
                )
            if not 0 <= call.duration_ms <= MAX_DURATION_MS:
                self._reject_time(
                    origin,
                    _seconds(request.started_at),
                    call.duration_ms,
                    f"components.{call.component}.duration_ms",
                )
            for name in ("span_id", "parent_span_id"):
                value = getattr(call, name)
                if value is not None and not _is_hex_id(value, 16):
                    self.reject(origin, f"invalid_{name}", hex_rule(name))
        return origin not in self.rejected

    # -- columns ------------------------------------------------------------------------------------

    def _columns(
        self,
        origins: Sequence[int],
        targets: Iterable[Target],
        fields: _Fields,
        names: Sequence[str] | None,
    ) -> Columns:
        """Rows as columns; the items of rows that are wrong are rejected, and their rows hold anything."""
        started, durations, statuses, traces, spans, parents, labels = fields
        # A target that is new gets the next position.
        positions: defaultdict[Target, int] = defaultdict(count().__next__)
        target = np.fromiter(map(positions.__getitem__, targets), dtype=np.int64, count=len(origins))
        seconds = np.array(
            [at if at.__class__ is float else at.timestamp() for at in started],
            dtype=np.float64,
        )
        duration_ms = np.array(durations, dtype=np.float64)
        return Columns(
            origin=np.array(origins, dtype=np.int64),
            target=target,
            targets=list(positions),
            ended_us=self._ended_us(seconds, duration_ms, origins, names),
            duration_ms=duration_ms,
            status=np.fromiter(map(STATUSES.__getitem__, statuses), dtype=np.int16, count=len(origins)),
            trace_id=self._ids("trace_id", traces, origins),
            span_id=self._ids("span_id", spans, origins),
            parent_span_id=self._ids("parent_span_id", parents, origins),
            labels=self._labels(labels, origins),
        )

    def _labels(self, given: Sequence[Any], origins: Sequence[int]) -> list[bytes | None] | None:
        """Labels as JSON: of a measurement to be encoded, of a request encoded once for all of its rows."""
        if not any(given):
            return None
        labels = [one if one.__class__ is bytes else _encode(one) if one else None for one in given]
        for row, one in enumerate(labels):
            if one is not None and len(one) > MAX_LABELS_BYTES:
                self.reject(
                    origins[row],
                    "invalid_labels",
                    f"labels take at most {MAX_LABELS_BYTES} bytes as JSON, got {len(one)}.",
                )
        return labels

    def _ended_us(
        self,
        seconds: np.ndarray,
        duration_ms: np.ndarray,
        origins: Sequence[int],
        names: Sequence[str] | None,
    ) -> np.ndarray:
        is_sane = (
            (seconds >= 0)
            & (seconds < _MAX_UNIX_SECONDS)
            & (duration_ms >= 0)
            & (duration_ms <= MAX_DURATION_MS)
        )
        given = seconds, duration_ms
        if not is_sane.all():
            seconds, duration_ms = np.where(is_sane, seconds, 0.0), np.where(is_sane, duration_ms, 0.0)
        ended_us = np.rint(seconds * 1e6).astype(np.int64) + np.rint(duration_ms * 1e3).astype(np.int64)
        is_wrong = (ended_us > self.latest_us) | (ended_us < self.oldest_us)
        is_wrong |= ~is_sane
        for row in np.flatnonzero(is_wrong).tolist() if is_wrong.any() else ():
            name = names[row] if names else "duration_ms"
            self._reject_time(origins[row], float(given[0][row]), float(given[1][row]), name)
        return ended_us

    def _reject_time(self, origin: int, seconds: float, duration_ms: float, name: str) -> None:
        if not _MIN_UNIX_SECONDS <= seconds < _MAX_UNIX_SECONDS:
            hint = " It looks like milliseconds." if 1e12 <= seconds < 1e14 else ""
            self.reject(
                origin,
                "invalid_started_at",
                f"started_at must be RFC 3339 with a zone or Unix seconds, got {seconds:.15g}.{hint}",
            )
        elif duration_ms < 0:
            self.reject(origin, "negative_duration", f"{name} must be ≥ 0, got {duration_ms:.15g}.")
        elif not duration_ms <= MAX_DURATION_MS:
            self.reject(
                origin,
                "duration_too_long",
                f"{name} must be at most seven days (604800000), got {duration_ms:.15g}.",
            )
        elif seconds < 0:
            self.reject(
                origin,
                "too_old",
                f"It began before 1970, and the raw retention begins at {self.oldest.isoformat()}.",
            )
        else:
            ended_us = round(seconds * 1e6) + round(duration_ms * 1e3)
            if ended_us > self.latest_us:
                self.reject(
                    origin,
                    "ended_in_the_future",
                    f"It ended at {_as_text(ended_us)}, more than 60 s ahead of its receipt at {self.now.isoformat()}: "
                    "check the sender's clock, and that durations are in milliseconds.",
                )
            elif ended_us < self.oldest_us:
                self.reject(
                    origin,
                    "too_old",
                    f"It ended at {_as_text(ended_us)}, before the raw retention begins at {self.oldest.isoformat()}.",
                )

    def _reject_target(self, origin: int, component: str | None, milestone: str | None) -> None:
        if component is None and milestone is None:
            self.reject(
                origin, "target_required", "Name either a component or a milestone; neither was given."
            )
        elif component is not None and milestone is not None:
            self.reject(
                origin, "target_ambiguous", "Name either a component or a milestone; both were given."
            )
        else:
            self.reject(
                origin,
                "unknown_milestone",
                f"milestone must be first_token or complete, got {milestone!r:.100}.",
            )

    def _ids(self, name: str, values: Sequence[str | None], origins: Sequence[int]) -> Ids:
        """Hex ids as bytes (`V16`) or signed big-endian numbers (`>i8`); wrong ones reject their items."""
        given = [value for value in values if value is not None]
        if not given:
            return None
        digits = 32 if name == "trace_id" else 16
        dtype = np.dtype("V16") if digits == 32 else np.dtype(">i8")
        present = np.ones(len(values), dtype=bool)
        if len(given) < len(values):
            present = np.array([value is not None for value in values], dtype=bool)
        column = np.zeros(len(values), dtype=dtype)
        joined = "".join(given)
        try:
            data = bytes.fromhex(joined)
        except ValueError:
            data = b""
        # All at once: as long as they should be (the decoder saw to that), lower-case, and none all zero.
        if data.hex() == joined and np.frombuffer(data, np.int64).reshape(len(given), -1).any(axis=1).all():
            column[present] = np.frombuffer(data, dtype=dtype)
            return column, present
        for position, value in enumerate(values):
            if value is None:
                continue
            if _is_hex_id(value, digits):
                column[position] = np.frombuffer(bytes.fromhex(value), dtype=dtype)[0]
            else:
                self.reject(origins[position], f"invalid_{name}", hex_rule(name))
        return column, present


def _united(calls: list[ComponentCall]) -> tuple[float, float]:
    """(ms in which at least one call ran, ms from the request's start to the end of the last).

    Where a call lacks its offset the intervals are unknown: then their sum, begun at the request's start.
    """
    if any(call.offset_ms is None for call in calls):
        total = round(sum(call.duration_ms for call in calls), _MS_DECIMALS)
        return total, total
    united = reached = 0.0
    for start, end in sorted((c.offset_ms or 0.0, (c.offset_ms or 0.0) + c.duration_ms) for c in calls):
        united += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return round(united, _MS_DECIMALS), round(reached, _MS_DECIMALS)


def _joined(one: Columns, other: Columns) -> Columns:
    labels: list[bytes | None] | None = None
    if one.labels or other.labels:
        labels = (one.labels or [None] * len(one)) + (other.labels or [None] * len(other))
    return Columns(
        origin=np.concatenate([one.origin, other.origin]),
        target=np.concatenate([one.target, other.target + len(one.targets)]),
        targets=one.targets + other.targets,
        ended_us=np.concatenate([one.ended_us, other.ended_us]),
        duration_ms=np.concatenate([one.duration_ms, other.duration_ms]),
        status=np.concatenate([one.status, other.status]),
        trace_id=_joined_ids(one.trace_id, other.trace_id, len(one), len(other)),
        span_id=_joined_ids(one.span_id, other.span_id, len(one), len(other)),
        parent_span_id=_joined_ids(one.parent_span_id, other.parent_span_id, len(one), len(other)),
        labels=labels,
    )


def _joined_ids(one: Ids, other: Ids, one_size: int, other_size: int) -> Ids:
    some = one or other
    if some is None:
        return None

    def filled(ids: Ids, size: int) -> tuple[np.ndarray, np.ndarray]:
        return ids or (np.zeros(size, dtype=some[0].dtype), np.zeros(size, dtype=bool))

    a, b = filled(one, one_size), filled(other, other_size)
    return np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]])


def _taken(ids: Ids, keep: np.ndarray) -> Ids:
    return ids and (ids[0][keep], ids[1][keep])


def _rejection(origin: int, measurement_count: int, code: str, message: str) -> Rejection:
    if origin < measurement_count:
        return Rejection(origin, "measurements", code, message)
    return Rejection(origin - measurement_count, "requests", code, message)


def _is_hex_id(value: str, digits: int) -> bool:
    return _HEX[digits].fullmatch(value) is not None and value.strip("0") != ""


def _seconds(at: datetime | float) -> float:
    return at if isinstance(at, float) else at.timestamp()


def _in_us(at: datetime) -> int:
    return round(at.timestamp() * 1e6)


def _as_text(us: int) -> str:
    return str(np.datetime64(us, "us")) + "Z"
