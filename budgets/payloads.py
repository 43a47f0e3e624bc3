"""What a service sends, as columns: decoded, checked value by value, with a reason for each item that is refused.

No database here. A body whose every item has the right types is decoded in one go; only where that fails is
each item decoded by itself, to say which one is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np

from .columns import POSTGRES_EPOCH_US
from .errors import Refusal

MAX_DURATION_MS = 604_800_000.0  # seven days
MAX_NAME = 200
MAX_AHEAD = timedelta(seconds=60)
MILESTONES = ("first_token", "complete")
STATUSES = {"ok": 0, "error": 1, "timeout": 2}
OK, ERROR, TIMEOUT = 0, 1, 2

_MAX_UNIX_SECONDS = 253_402_300_800.0  # the year 10000
_HEX = {32: re.compile(r"[0-9a-f]{32}"), 16: re.compile(r"[0-9a-f]{16}")}

Instant = Annotated[datetime, msgspec.Meta(tz=True)] | float
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
StatusName = Literal["ok", "error", "timeout"]
TraceId = Annotated[str, msgspec.Meta(min_length=32, max_length=32)]
SpanId = Annotated[str, msgspec.Meta(min_length=16, max_length=16)]
Labels = dict[str, str | int | float | bool]


class MeasurementItem(msgspec.Struct):
    """One measured component or milestone."""

    feature: Name
    started_at: Instant
    duration_ms: float
    component: Name | None = None
    milestone: str | None = None
    status: StatusName = "ok"
    trace_id: TraceId | None = None
    span_id: SpanId | None = None
    parent_span_id: SpanId | None = None
    environment: Name = "production"
    release: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""
    labels: Labels | None = None


class ComponentCall(msgspec.Struct):
    """One call of a component within a request."""

    component: Name
    duration_ms: float
    offset_ms: float | None = None
    status: StatusName = "ok"
    span_id: SpanId | None = None
    parent_span_id: SpanId | None = None


class RequestItem(msgspec.Struct):
    """A whole request, which stands for its measurements."""

    feature: Name
    started_at: Instant
    milestones: dict[str, float] = {}
    components: list[ComponentCall] = []
    status: StatusName = "ok"
    trace_id: TraceId | None = None
    environment: Name = "production"
    release: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""
    labels: Labels | None = None


class Body(msgspec.Struct):
    measurements: list[MeasurementItem] = []
    requests: list[RequestItem] = []


class _RawBody(msgspec.Struct):
    measurements: list[msgspec.Raw] = []
    requests: list[msgspec.Raw] = []


_decode_body = msgspec.json.Decoder(Body).decode
_decode_raw_body = msgspec.json.Decoder(_RawBody).decode
_decode_measurement = msgspec.json.Decoder(MeasurementItem).decode
_decode_request = msgspec.json.Decoder(RequestItem).decode
_encode = msgspec.json.encode


class Target(NamedTuple):
    """What a series is of, by name."""

    feature: str
    component: str | None
    milestone: str | None
    environment: str
    release: str


@dataclass(frozen=True)
class Rejection:
    index: int
    within: str
    code: str
    message: str

    def document(self) -> dict[str, Any]:
        return {"index": self.index, "in": self.within, "code": self.code, "message": self.message}


@dataclass
class Rows:
    """Measurements, or spans, as columns of equal length. `origin` says which item a row comes from."""

    origin: list[int] = field(default_factory=list)
    target: list[Target] = field(default_factory=list)
    ended_us: list[int] = field(default_factory=list)
    duration_ms: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    trace_id: list[str | None] = field(default_factory=list)
    span_id: list[str | None] = field(default_factory=list)
    parent_span_id: list[str | None] = field(default_factory=list)
    labels: list[bytes | None] = field(default_factory=list)


@dataclass
class Columns:
    """`Rows` as numpy arrays, ready for COPY; times in microseconds since 1970."""

    origin: np.ndarray
    target: list[Target]
    ended_us: np.ndarray
    duration_ms: np.ndarray
    status: np.ndarray
    trace_id: tuple[np.ndarray, np.ndarray]
    span_id: tuple[np.ndarray, np.ndarray]
    parent_span_id: tuple[np.ndarray, np.ndarray]
    labels: list[bytes | None] | None

    def take(self, keep: np.ndarray) -> Columns:
        """The rows at which `keep` is true."""
        return Columns(
            origin=self.origin[keep],
            target=[target for target, kept in zip(self.target, keep.tolist(), strict=True) if kept],
            ended_us=self.ended_us[keep],
            duration_ms=self.duration_ms[keep],
            status=self.status[keep],
            trace_id=(self.trace_id[0][keep], self.trace_id[1][keep]),
            span_id=(self.span_id[0][keep], self.span_id[1][keep]),
            parent_span_id=(self.parent_span_id[0][keep], self.parent_span_id[1][keep]),
            labels=self.labels
            and [label for label, kept in zip(self.labels, keep.tolist(), strict=True) if kept],
        )

    def __len__(self) -> int:
        return len(self.target)


@dataclass
class Payload:
    """A body, read: the rows of the items that are sound, and why the others are not.

    `sizes[origin]` counts the items that an origin stands for; duplicates are not in it.
    """

    measurements: Columns
    spans: Columns
    sizes: np.ndarray
    measurement_count: int  # how many origins are of `measurements`; the rest are of `requests`
    duplicates: int
    rejected: dict[int, Rejection]

    def reject(self, origin: int, code: str, message: str) -> None:
        """Refuses an item, of which the first reason stays."""
        if origin not in self.rejected:
            self.rejected[origin] = _rejection(origin, self.measurement_count, code, message)


def read_payload(body: bytes, *, now: datetime, oldest: datetime, max_items: int) -> Payload:
    """Decodes and checks a body.

    Raises Refusal for a body that is no JSON (`malformed_json`), not of the right shape (`invalid_body`), or
    holds too many items (`too_many_measurements`, 413).
    """
    measurements, requests, undecodable = _decode(body)
    count = len(measurements) + sum(len(r.milestones) + len(r.components) for r in requests if r is not None)
    if count > max_items:
        raise Refusal(
            "too_many_measurements",
            f"A body holds at most {max_items} measurements, got {count}. Send it in several parts; nothing was stored.",
            status=413,
        )
    reader = _Reader(len(measurements), now, oldest)
    for origin, (code, message) in undecodable.items():
        reader.reject(origin, code, message)
    plain = reader.read_measurements(measurements)
    reader.read_requests(requests)
    return reader.finish(plain)


def _decode(
    body: bytes,
) -> tuple[Sequence[MeasurementItem | None], Sequence[RequestItem | None], dict[int, tuple[str, str]]]:
    try:
        # jsonb and text refuse U+0000, which only an escape can put into JSON: look at each item then.
        if b"\\u0000" not in body:
            decoded = _decode_body(body)
            return decoded.measurements, decoded.requests, {}
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        raw = _decode_raw_body(body)
    except msgspec.ValidationError as error:
        raise Refusal(
            "invalid_body",
            f'The body must be an object with lists "measurements" and "requests": {error}. Nothing was stored.',
        ) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal("malformed_json", f"The body is not JSON: {error}. Nothing was stored.") from error
    undecodable: dict[int, tuple[str, str]] = {}
    measurements = _decode_each(raw.measurements, _decode_measurement, 0, undecodable)
    requests = _decode_each(raw.requests, _decode_request, len(raw.measurements), undecodable)
    return measurements, requests, undecodable


def _decode_each(
    raw: list[msgspec.Raw], decode: Callable[[Any], Any], first: int, undecodable: dict[int, tuple[str, str]]
) -> list[Any]:
    items: list[Any] = []
    for origin, one in enumerate(raw, first):
        item = None
        try:
            if b"\\u0000" in bytes(one) and _has_nul(msgspec.json.decode(one)):
                undecodable[origin] = ("invalid_text", "Names, releases and labels must not contain U+0000.")
            else:
                item = decode(one)
        except msgspec.ValidationError as error:
            undecodable[origin] = _why_invalid(str(error))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            undecodable[origin] = ("malformed_item", f"The item cannot be read: {error}.")
        items.append(item)
    return items


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or _has_nul(one) for key, one in value.items())
    return isinstance(value, list) and any(_has_nul(one) for one in value)


def _why_invalid(message: str) -> tuple[str, str]:
    """A code and a sentence out of msgspec's, e.g. "Expected `float`, got `str` - at `$.duration_ms`"."""
    what, _, path = message.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    missing = re.search(r"missing required field `(\w+)`", what)
    if missing:
        return "missing_field", f"{path + '.' if path else ''}{missing[1]} is required and was not given."
    name = re.sub(r"\[.*", "", path.split(".")[-1])
    if name in ("trace_id", "span_id", "parent_span_id"):
        return f"invalid_{name}", _hex_rule(name)
    if not name:
        return "invalid_item", f"An item must be an object: {what}."
    return f"invalid_{name}", f"{path}: {what}."


def _hex_rule(name: str) -> str:
    return f"{name} must be {32 if name == 'trace_id' else 16} lower-case hex digits, not all zero."


def _rejection(origin: int, measurement_count: int, code: str, message: str) -> Rejection:
    if origin < measurement_count:
        return Rejection(origin, "measurements", code, message)
    return Rejection(origin - measurement_count, "requests", code, message)


class _Reader:
    """Reads one body's items into rows. Everything about one body's checks is here, and nothing else."""

    def __init__(self, measurement_count: int, now: datetime, oldest: datetime) -> None:
        self.measurement_count = measurement_count
        self.latest_us = _in_us(now + MAX_AHEAD)
        self.oldest_us = _in_us(oldest)
        self.now = now
        self.oldest = oldest
        self.rejected: dict[int, Rejection] = {}
        self.rows = Rows()
        self.spans = Rows()
        self.request_sizes: list[int] = []
        self.duplicates = 0
        self.seen: set[tuple[Any, ...]] = set()

    def reject(self, origin: int, code: str, message: str) -> None:
        if origin not in self.rejected:
            self.rejected[origin] = _rejection(origin, self.measurement_count, code, message)

    # -- measurements: columns at once --------------------------------------------------------------

    def read_measurements(self, given: Sequence[MeasurementItem | None]) -> Columns:
        origins, items = list(range(len(given))), given
        if self.rejected:
            origins = [origin for origin, item in enumerate(given) if item is not None]
            items = [item for item in given if item is not None]
        duration_ms = np.array([m.duration_ms for m in items], dtype=np.float64)  # type: ignore[union-attr]
        seconds = np.array(
            [
                at if at.__class__ is float else at.timestamp()  # type: ignore[union-attr]
                for at in [m.started_at for m in items]  # type: ignore[union-attr]
            ],
            dtype=np.float64,
        )
        milestones = [m.milestone for m in items]  # type: ignore[union-attr]
        components = [m.component for m in items]  # type: ignore[union-attr]
        is_sane = (
            (seconds >= 0)
            & (seconds < _MAX_UNIX_SECONDS)
            & (duration_ms >= 0)
            & (duration_ms <= MAX_DURATION_MS)
        )
        ended_us = np.full(len(items), self.latest_us, dtype=np.int64)
        started_us = np.rint(seconds[is_sane] * 1e6).astype(np.int64)
        ended_us[is_sane] = started_us + np.rint(duration_ms[is_sane] * 1e3).astype(np.int64)
        is_wrong = ~is_sane | (ended_us > self.latest_us) | (ended_us < self.oldest_us)
        if is_wrong.any():
            for position in np.flatnonzero(is_wrong).tolist():
                self._check_time(
                    origins[position], float(seconds[position]), float(duration_ms[position]), "duration_ms"
                )
        for position, (component, milestone) in enumerate(zip(components, milestones, strict=True)):
            if (component is None) is (milestone is None) or (
                milestone is not None and milestone not in MILESTONES
            ):
                self._reject_target(origins[position], component, milestone)
        columns = Columns(
            origin=np.array(origins, dtype=np.int64),
            target=list(
                map(
                    Target._make,
                    zip(
                        [m.feature for m in items],  # type: ignore[union-attr]
                        components,
                        milestones,
                        [m.environment for m in items],  # type: ignore[union-attr]
                        [m.release for m in items],  # type: ignore[union-attr]
                        strict=True,
                    ),
                )
            ),
            ended_us=ended_us,
            duration_ms=duration_ms,
            status=np.array([STATUSES[m.status] for m in items], dtype=np.int16),  # type: ignore[union-attr]
            trace_id=self._hex_column("trace_id", [m.trace_id for m in items], origins),  # type: ignore[union-attr]
            span_id=self._hex_column("span_id", [m.span_id for m in items], origins),  # type: ignore[union-attr]
            parent_span_id=self._hex_column(
                "parent_span_id",
                [m.parent_span_id for m in items],  # type: ignore[union-attr]
                origins,
            ),
            labels=_labels_column([m.labels for m in items]),  # type: ignore[union-attr]
        )
        return self._without_duplicates(columns, items)

    def _without_duplicates(self, columns: Columns, items: Sequence[MeasurementItem | None]) -> Columns:
        """Repetitions of one span with the same target, trace and start count once."""
        has_span = columns.span_id[1]
        if not has_span.any():
            return columns
        keep = np.ones(len(columns), dtype=bool)
        for position in np.flatnonzero(has_span).tolist():
            item = items[position]
            assert item is not None
            started = round(
                item.started_at if isinstance(item.started_at, float) else item.started_at.timestamp(), 6
            )
            keep[position] = self._is_new(columns.target[position], item.trace_id, started, item.span_id)
        if keep.all():
            return columns
        for position in np.flatnonzero(~keep).tolist():
            # What is wrong is rejected, not a duplicate.
            if int(columns.origin[position]) not in self.rejected:
                self.duplicates += 1
        return columns.take(keep)

    def _is_new(self, target: Target, trace_id: str | None, started: float, span_id: str | None) -> bool:
        key = (target, trace_id, started, span_id)
        if key in self.seen:
            return False
        self.seen.add(key)
        return True

    # -- requests: one by one, each whole or not at all ---------------------------------------------

    def read_requests(self, requests: Sequence[RequestItem | None]) -> None:
        for origin, request in enumerate(requests, self.measurement_count):
            before = len(self.rows.origin), len(self.spans.origin), self.duplicates
            size = 0 if request is None else self._read_request(origin, request)
            if origin in self.rejected:
                _truncate(self.rows, before[0])
                _truncate(self.spans, before[1])
                self.duplicates = before[2]
            self.request_sizes.append(size)

    def _read_request(self, origin: int, request: RequestItem) -> int:
        if not self._is_request_sound(origin, request):
            return 0
        at = request.started_at
        seconds = at if isinstance(at, float) else at.timestamp()
        labels = _encode(request.labels) if request.labels else None
        reached = [name for name in MILESTONES if name in request.milestones]
        for name in reached:
            ms = request.milestones[name]
            status = STATUSES[request.status] if name == reached[-1] else OK
            if not self._check_time(origin, seconds, ms, f"milestones.{name}"):
                return 0
            target = Target(request.feature, None, name, request.environment, request.release)
            self._append(self.rows, origin, target, seconds, ms, status, request.trace_id, None, labels)
        calls: dict[str, list[ComponentCall]] = {}
        duplicates = 0
        for call in request.components:
            started = round(seconds + (call.offset_ms or 0.0) / 1e3, 6)
            target = Target(request.feature, call.component, None, request.environment, request.release)
            if call.span_id and not self._is_new(target, request.trace_id, started, call.span_id):
                duplicates += 1
                continue
            calls.setdefault(call.component, []).append(call)
        self.duplicates += duplicates
        for name, several in calls.items():
            target = Target(request.feature, name, None, request.environment, request.release)
            if not self._append_component(origin, target, seconds, several, request.trace_id, labels):
                return 0
        return len(reached) + len(request.components) - duplicates

    def _is_request_sound(self, origin: int, request: RequestItem) -> bool:
        if not request.milestones and not request.components:
            self.reject(origin, "empty_request", "A request needs at least one milestone or component.")
        elif request.status != "ok" and not request.milestones:
            self.reject(
                origin,
                "milestone_required",
                f"A request with status {request.status} must name the milestone at which it ended, and when.",
            )
        elif unknown := [name for name in request.milestones if name not in MILESTONES]:
            self._reject_target(origin, None, unknown[0])
        elif request.milestones.get("first_token", 0.0) > request.milestones.get(
            "complete", MAX_DURATION_MS + 1
        ):
            self.reject(origin, "milestones_out_of_order", "first_token must not come after complete.")
        elif request.trace_id is not None and not _is_hex_id(request.trace_id, 32):
            self.reject(origin, "invalid_trace_id", _hex_rule("trace_id"))
        for call in request.components:
            for name, value in (("span_id", call.span_id), ("parent_span_id", call.parent_span_id)):
                if value is not None and not _is_hex_id(value, 16):
                    self.reject(origin, f"invalid_{name}", _hex_rule(name))
            if call.offset_ms is not None and not 0 <= call.offset_ms <= MAX_DURATION_MS:
                self.reject(
                    origin,
                    "invalid_offset_ms",
                    f"offset_ms must be between 0 and seven days, got {call.offset_ms}.",
                )
        return origin not in self.rejected

    def _append_component(
        self,
        origin: int,
        target: Target,
        seconds: float,
        calls: list[ComponentCall],
        trace_id: str | None,
        labels: bytes | None,
    ) -> bool:
        """One measurement of a component: its only call, or the union of several, which stay as spans."""
        for call in calls:
            start = seconds + (call.offset_ms or 0.0) / 1e3
            if not self._check_time(
                origin, start, call.duration_ms, f"components.{target.component}.duration_ms"
            ):
                return False
        if len(calls) == 1:
            call = calls[0]
            start = seconds + (call.offset_ms or 0.0) / 1e3
            self._append(
                self.rows,
                origin,
                target,
                start,
                call.duration_ms,
                STATUSES[call.status],
                trace_id,
                call,
                labels,
            )
            return True
        statuses = {STATUSES[call.status] for call in calls}
        status = TIMEOUT if TIMEOUT in statuses else ERROR if ERROR in statuses else OK
        duration_ms, end_ms = _united(calls)
        start = seconds + (end_ms - duration_ms) / 1e3
        if not self._check_time(origin, start, duration_ms, f"components.{target.component}.duration_ms"):
            return False
        self._append(self.rows, origin, target, start, duration_ms, status, trace_id, None, labels)
        if trace_id is not None:
            for call in calls:
                start = seconds + (call.offset_ms or 0.0) / 1e3
                self._append(
                    self.spans,
                    origin,
                    target,
                    start,
                    call.duration_ms,
                    STATUSES[call.status],
                    trace_id,
                    call,
                    None,
                )
        return True

    def _append(
        self,
        rows: Rows,
        origin: int,
        target: Target,
        seconds: float,
        duration_ms: float,
        status: int,
        trace_id: str | None,
        call: ComponentCall | None,
        labels: bytes | None,
    ) -> None:
        rows.origin.append(origin)
        rows.target.append(target)
        rows.ended_us.append(round(seconds * 1e6) + round(duration_ms * 1e3))
        rows.duration_ms.append(duration_ms)
        rows.status.append(status)
        rows.trace_id.append(trace_id)
        rows.span_id.append(call.span_id if call else None)
        rows.parent_span_id.append(call.parent_span_id if call else None)
        rows.labels.append(labels)

    # -- checks -------------------------------------------------------------------------------------

    def _check_time(self, origin: int, seconds: float, duration_ms: float, name: str) -> bool:
        if not 0 <= seconds < _MAX_UNIX_SECONDS:
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
        return origin not in self.rejected

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

    def _hex_column(
        self, name: str, values: list[str | None], origins: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        digits = 32 if name == "trace_id" else 16
        dtype = np.dtype("V16") if digits == 32 else np.dtype(">i8")
        given = [value for value in values if value is not None]
        column = np.zeros(len(values), dtype=dtype)
        if not given:
            return column, np.zeros(len(values), dtype=bool)
        present = np.array([value is not None for value in values], dtype=bool)
        joined = "".join(given)
        try:
            data = bytes.fromhex(joined)
        except ValueError:
            data = b""
        numbers = np.frombuffer(data, dtype=np.int64) if data.hex() == joined else np.empty(0, dtype=np.int64)
        if len(numbers) and (numbers.reshape(len(given), -1).any(axis=1)).all():
            column[present] = np.frombuffer(data, dtype=dtype)
            return column, present
        for position, value in enumerate(values):
            if value is None:
                continue
            if _is_hex_id(value, digits):
                column[position] = np.frombuffer(bytes.fromhex(value), dtype=dtype)[0]
            else:
                self.reject(origins[position], f"invalid_{name}", _hex_rule(name))
        return column, present

    def finish(self, plain: Columns) -> Payload:
        sizes = np.ones(self.measurement_count + len(self.request_sizes), dtype=np.int64)
        sizes[: self.measurement_count] = np.bincount(plain.origin, minlength=self.measurement_count)
        sizes[self.measurement_count :] = self.request_sizes
        return Payload(
            measurements=self._sound(_joined(plain, self._columns(self.rows)) if self.rows.origin else plain),
            spans=self._sound(self._columns(self.spans)),
            sizes=sizes,
            measurement_count=self.measurement_count,
            duplicates=self.duplicates,
            rejected=self.rejected,
        )

    def _sound(self, columns: Columns) -> Columns:
        if not self.rejected:
            return columns
        return columns.take(~np.isin(columns.origin, np.fromiter(self.rejected, dtype=np.int64)))

    def _columns(self, rows: Rows) -> Columns:
        return Columns(
            origin=np.array(rows.origin, dtype=np.int64),
            target=rows.target,
            ended_us=np.array(rows.ended_us, dtype=np.int64),
            duration_ms=np.array(rows.duration_ms, dtype=np.float64),
            status=np.array(rows.status, dtype=np.int16),
            trace_id=self._hex_column("trace_id", rows.trace_id, rows.origin),
            span_id=self._hex_column("span_id", rows.span_id, rows.origin),
            parent_span_id=self._hex_column("parent_span_id", rows.parent_span_id, rows.origin),
            labels=rows.labels if any(rows.labels) else None,
        )


def _united(calls: list[ComponentCall]) -> tuple[float, float]:
    """(ms in which at least one call ran, ms from the request's start to the end of the last).

    Where a call lacks its offset the intervals are unknown: then their sum, begun at the request's start.
    """
    if any(call.offset_ms is None for call in calls):
        total = sum(call.duration_ms for call in calls)
        return total, total
    united = reached = 0.0
    for start, end in sorted((c.offset_ms or 0.0, (c.offset_ms or 0.0) + c.duration_ms) for c in calls):
        united += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return united, reached


def _joined(one: Columns, other: Columns) -> Columns:
    def both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.concatenate([a, b])

    labels: list[bytes | None] | None = None
    if one.labels or other.labels:
        labels = (one.labels or [None] * len(one)) + (other.labels or [None] * len(other))
    return Columns(
        origin=both(one.origin, other.origin),
        target=one.target + other.target,
        ended_us=both(one.ended_us, other.ended_us),
        duration_ms=both(one.duration_ms, other.duration_ms),
        status=both(one.status, other.status),
        trace_id=(both(one.trace_id[0], other.trace_id[0]), both(one.trace_id[1], other.trace_id[1])),
        span_id=(both(one.span_id[0], other.span_id[0]), both(one.span_id[1], other.span_id[1])),
        parent_span_id=(
            both(one.parent_span_id[0], other.parent_span_id[0]),
            both(one.parent_span_id[1], other.parent_span_id[1]),
        ),
        labels=labels,
    )


def _truncate(rows: Rows, length: int) -> None:
    for column in vars(rows).values():
        del column[length:]


def _labels_column(labels: list[Labels | None]) -> list[bytes | None] | None:
    if not any(labels):
        return None
    return [_encode(one) if one else None for one in labels]


def _is_hex_id(value: str, digits: int) -> bool:
    return _HEX[digits].fullmatch(value) is not None and value.strip("0") != ""


def _in_us(at: datetime) -> int:
    return round(at.timestamp() * 1e6)


def _as_text(us: int) -> str:
    return str(np.datetime64(us, "us")) + "Z"


def postgres_us(unix_us: np.ndarray) -> np.ndarray:
    """Instants as PostgreSQL sends them: big-endian microseconds since 2000."""
    return (unix_us - POSTGRES_EPOCH_US).astype(">i8")
