"""The page of a trace: the verdict in words, the waterfall in percent of its width, and the same as tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.urls import reverse

from budgets import formats
from budgets.instants import rfc3339
from budgets.models import Feature, Status
from budgets.traces import ComponentTime, Reached, Stretch, Trace, TracedRequest, TracedSpan

from .frame import page_url, with_query
from .parts import Fact, milestone_name, plural

ROWS_SHOWN: Final = 200
"""Of the waterfall; the file has all spans."""
LABELS_SHOWN: Final = 40
_DEEPEST: Final = 8
# A latency budget further away than this many times what happened is said, not drawn: the bars would be dots.
_FURTHEST: Final = 1.6
_AROUND: Final = timedelta(minutes=30)
_LINE_PX: Final = 17
_NOTED_RATIO: Final = 0.05
_GAP_RATIO: Final = 0.001

CSV_FIELDS: Final = (
    "component",
    "start_ms",
    "duration_ms",
    "status",
    "over_allocation_ms",
    "critical_path_ms",
    "depth",
    "span_id",
    "parent_span_id",
)


@dataclass(frozen=True)
class Block:
    """A rectangle of a row, in percent of its width, as SVG takes it."""

    x: str
    width: str


@dataclass(frozen=True)
class Mark:
    """A vertical line with a label above the waterfall. `anchor` keeps the label within."""

    x: str
    text: str
    anchor: str
    y: int
    kind: str


@dataclass(frozen=True)
class WaterfallRow:
    name: str
    depth: int
    status: str
    status_word: str
    duration: str
    label: str
    bars: Sequence[Block]
    over: Sequence[Block] = ()
    waited: Sequence[Block] = ()
    kind: str = "call"


@dataclass(frozen=True)
class Waterfall:
    rows: Sequence[WaterfallRow]
    marks: Sequence[Mark]
    ticks: Sequence[Mark]
    head_px: int
    left_out: int
    notes: Sequence[str]


@dataclass(frozen=True)
class ComponentRow:
    name: str
    calls: int
    status_word: str
    cells: Sequence[tuple[str, str]]
    is_over: bool


@dataclass(frozen=True)
class SpanRow:
    name: str
    depth: int
    below: str
    status_word: str
    cells: Sequence[str]


@dataclass(frozen=True)
class TracePage:
    feature: Feature
    trace_id: str
    title: str
    state: str
    state_word: str
    lead: str
    more: str
    facts: Sequence[Fact]
    labels: Sequence[tuple[str, str]]
    labels_left_out: int
    waterfall: Waterfall
    components: Sequence[ComponentRow]
    component_unit: str
    spans: Sequence[SpanRow]
    span_unit: str
    milestones: Sequence[tuple[str, str, bool]]
    """Name, address and whether it is shown, of those up to which the critical path can be sought."""
    requests: Sequence[tuple[str, str, bool]]
    elsewhere: Sequence[tuple[str, str, str]]
    back_url: str
    csv_url: str


@dataclass(frozen=True)
class MissingTrace:
    """What is said where there is no such trace."""

    feature: Feature
    asked: str
    is_id: bool
    retention_days: int
    kept_since: datetime
    elsewhere: Sequence[tuple[str, str]]
    back_url: str


def trace_page(feature: Feature, trace: Trace, *, milestone: str | None, now: datetime) -> TracePage:
    request = trace.request
    state, word = _state(request)
    address = reverse("trace", args=[feature.slug, trace.trace_id])
    chosen_number = str(trace.number) if len(trace.starts) > 1 else ""
    unit = _unit(v for c in request.components for v in (c.judged_ms, c.limit_ms, c.waited_ms))
    span_unit = _unit(span.end_ms for span in request.spans)
    shown = _shown(request.spans)
    return TracePage(
        feature=feature,
        trace_id=trace.trace_id,
        title=f"{_took(request)} – trace of {feature.name}",
        state=state,
        state_word=word,
        lead=_lead(request),
        more=_more(request, trace),
        facts=_facts(request, now),
        labels=request.labels[:LABELS_SHOWN],
        labels_left_out=max(0, len(request.labels) - LABELS_SHOWN),
        waterfall=_waterfall(request, shown),
        components=_component_rows(request, unit),
        component_unit=unit,
        spans=_span_rows(request, shown, span_unit),
        span_unit=span_unit,
        milestones=[
            (
                milestone_name(one.milestone),
                with_query(address, milestone=one.milestone, request=chosen_number),
                one.milestone == request.milestone,
            )
            for one in request.reached
        ]
        if len(request.reached) > 1
        else [],
        requests=[
            (
                formats.instant(at, seconds=True),
                with_query(address, request=str(number)),
                number == trace.number,
            )
            for number, at in enumerate(trace.starts[:20], start=1)
        ]
        if len(trace.starts) > 1
        else [],
        elsewhere=[
            (
                formats.name(other.name),
                reverse("trace", args=[other.slug, trace.trace_id]),
                formats.duration(ms),
            )
            for other, ms in trace.elsewhere[:20]
        ],
        back_url=_back_url(feature, request, now),
        csv_url=with_query(
            reverse("trace-csv", args=[feature.slug, trace.trace_id]),
            milestone=milestone,
            request=chosen_number,
        ),
    )


def missing_trace(
    feature: Feature, asked: str, trace_id: str | None, elsewhere: Sequence[Feature], *, now: datetime
) -> MissingTrace:
    days = settings.RAW_RETENTION_DAYS
    return MissingTrace(
        feature=feature,
        asked=asked,
        is_id=trace_id is not None,
        retention_days=days,
        kept_since=now - timedelta(days=days),
        elsewhere=[(one.name, reverse("trace", args=[one.slug, trace_id])) for one in elsewhere],
        back_url=page_url("feature", feature.slug),
    )


def span_records(request: TracedRequest) -> list[list[Any]]:
    """All spans, in the order of the waterfall, under CSV_FIELDS."""
    return [
        [
            span.component,
            round(span.start_ms, 3),
            round(span.duration_ms, 3),
            str(span.status.label),
            round(sum(end - start for start, end in span.over), 3),
            round(span.waited_ms, 3),
            span.depth,
            span.span_id,
            request.spans[span.parent].span_id if span.parent is not None else "",
        ]
        for span in request.spans
    ]


# -- in words ---------------------------------------------------------------------------------------


def _state(request: TracedRequest) -> tuple[str, str]:
    if request.status == Status.ERROR:
        return "breached", "Error"
    if request.status == Status.TIMEOUT:
        return "breached", "Timed out"
    root = request.root
    if root is None or root.limit_ms is None:
        return "no_data", "Not judged"
    return ("breached", "Over") if root.is_over else ("ok", "In time")


def _took(request: TracedRequest) -> str:
    root = request.root
    near = root.limit_ms if root else None
    return formats.duration(request.root_ms if root is None else root.duration_ms, near=near)


def _lead(request: TracedRequest) -> str:
    """ "Took 6.21 s of 8 s; the user waited 62 % of it in tools."."""
    root = request.root
    if root is None:
        return (
            f"No milestone was measured under this trace id; its calls took {_took(request)}, from the first "
            f"to the last{_waited(request)}."
        )
    return f"{_reached(root, is_first=True)}{_waited(request)}."


def _reached(one: Reached, *, is_first: bool) -> str:
    took = formats.duration(one.duration_ms, near=one.limit_ms)
    within = "" if one.limit_ms is None else f" of {formats.limit(one.limit_ms)}"
    over = ""
    if one.is_over and one.limit_ms is not None and one.duration_ms > one.limit_ms:
        over = f", {formats.duration(one.duration_ms - one.limit_ms)} over its latency budget of {formats.limit(one.limit_ms)}"
    is_complete = one.milestone == "complete"
    if one.status == Status.ERROR:
        what = "Ended in an error" if is_complete else f"{milestone_name(one.milestone)} ended in an error"
        return f"{what} after {took}{within}"
    if one.status == Status.TIMEOUT:
        what = "Timed out" if is_complete else f"{milestone_name(one.milestone)} timed out"
        return f"{what} after {took}{over or within}"
    what = (
        ("Took" if is_first else "Complete after")
        if is_complete
        else f"{milestone_name(one.milestone)} after"
    )
    if one.limit_ms is None:
        return f"{what} {took}, with no latency budget in force"
    return f"{what} {took}{over or within}"


def _waited(request: TracedRequest) -> str:
    """ "; the user waited 62 % of it in tools": where on the critical path most of the time was."""
    if not request.components or not request.root_ms:
        return ""
    most = request.components[0]
    if request.unattributed_ms >= most.waited_ms:
        share = formats.percent(request.unattributed_ms / request.root_ms)
        then = (
            f", then {formats.percent(most.waited_ms / request.root_ms)} in {formats.name(most.component)}"
            if most.waited_ms
            else ""
        )
        first_token = next((one for one in request.reached if one.milestone == "first_token"), None)
        after_ms = sum(
            end - max(start, first_token.at_ms)
            for start, end in request.unattributed
            if first_token is not None and end > first_token.at_ms
        )
        # What follows the first token is the rest of the answer.
        if after_ms > request.unattributed_ms / 2:
            share = formats.percent(after_ms / request.root_ms)
            return f"; {share} of it after the first token, in no component that is measured{then}"
        return f"; {share} of it in no component that is measured{then}"
    return f"; waited {formats.percent(most.waited_ms / request.root_ms)} of it in {formats.name(most.component)}"


def _more(request: TracedRequest, trace: Trace) -> str:
    said = [
        f"{_reached(one, is_first=False)}." for one in request.reached if one.milestone != request.milestone
    ]
    overrun = [one for one in request.components if one.over_ms > 0]
    if overrun:
        worst = max(overrun, key=lambda one: one.over_ms)
        assert worst.limit_ms is not None
        others = len(overrun) - 1
        more = f", {others} more {plural('component', others)} over theirs" if others else ""
        said.append(
            f"{formats.name(worst.component)} ran {formats.duration(worst.over_ms)} over its allocation of "
            f"{formats.limit(worst.limit_ms)}{more}."
        )
    elif any(one.limit_ms is not None for one in request.components):
        said.append("No component was over its allocation.")
    most = request.components[0].waited_ms if request.components else 0.0
    ratio = request.unattributed_ms / request.root_ms if request.root_ms else 0.0
    if request.components and ratio >= _NOTED_RATIO and request.unattributed_ms < most:
        said.append(f"{formats.percent(ratio)} of the time is in no component that is measured.")
    if not request.components:
        said.append("No component was measured under this trace id: nothing says where the time went.")
    if trace.is_cut:
        said.append("It has more spans than are read: these are the longest.")
    return " ".join(said)


def _facts(request: TracedRequest, now: datetime) -> list[Fact]:
    facts = [Fact("Began", at=request.started_at), Fact("Environment", request.environment)]
    facts.append(Fact("Release", request.release or "not sent"))
    for one in request.reached:
        limit = f" of {formats.limit(one.limit_ms)}" if one.limit_ms is not None else ""
        status = "" if one.status == Status.OK else f", {one.status.label}"
        facts.append(
            Fact(
                milestone_name(one.milestone),
                f"{formats.duration(one.duration_ms, near=one.limit_ms)}{limit}{status}",
            )
        )
    facts.append(Fact("Spans", formats.count(len(request.spans))))
    return facts


def _back_url(feature: Feature, request: TracedRequest, now: datetime) -> str:
    """The feature around that moment."""
    minute = request.started_at.replace(second=0, microsecond=0)
    query = {
        "environment": request.environment,
        "milestone": request.milestone,
        "from": rfc3339(minute - _AROUND),
        "to": rfc3339(min(now, minute + _AROUND)),
    }
    return page_url("feature", feature.slug, **query)


# -- the waterfall ----------------------------------------------------------------------------------


def _shown(spans: Sequence[TracedSpan]) -> list[int]:
    """Positions of the spans that are drawn: those waited for longest, then the longest, with all above them."""
    if len(spans) <= ROWS_SHOWN:
        return list(range(len(spans)))
    chosen: set[int] = set()
    for at in sorted(range(len(spans)), key=lambda at: (-spans[at].waited_ms, -spans[at].duration_ms, at)):
        above: list[int] = []
        parent: int | None = at
        while parent is not None and parent not in chosen and len(chosen) + len(above) <= ROWS_SHOWN:
            above.append(parent)
            parent = spans[parent].parent
        if len(chosen) + len(above) <= ROWS_SHOWN:
            chosen.update(above)
        if len(chosen) == ROWS_SHOWN:
            break
    return sorted(chosen)


def _waterfall(request: TracedRequest, shown: Sequence[int]) -> Waterfall:
    first_token = next((one for one in request.reached if one.milestone == "first_token"), None)
    happened_ms = max(
        [request.root_ms, *(s.end_ms for s in request.spans), *(r.at_ms for r in request.reached)]
    )
    # A budget's clock starts with its milestone's, a moment before or after the root's where they came apart.
    limits = [
        (one.milestone, one.limit_ms, one.at_ms - one.duration_ms + one.limit_ms)
        for one in request.reached
        if one.limit_ms is not None
    ]
    drawn = [limit for limit in limits if limit[2] <= _FURTHEST * happened_ms]
    # What began before the click stands left of it.
    from_ms = min([0.0, *(span.start_ms for span in request.spans)])
    scale = _Scale(from_ms, max([happened_ms, *(at for _, _, at in drawn)]) or 1.0)
    marks = [
        scale.mark(at, f"{formats.limit(limit_ms)} for {milestone_name(name).lower()}", "limit", line)
        for line, (name, limit_ms, at) in enumerate(drawn)
    ]
    if first_token is not None:
        text = f"◆ first token, {formats.duration(first_token.duration_ms, near=first_token.limit_ms)}"
        marks.append(scale.mark(first_token.at_ms, text, "first-token", len(drawn)))
    rows = [_root_row(request, scale)]
    rows += [_row(request.spans[at], scale) for at in shown]
    if _has_gaps(request):
        rows.append(
            WaterfallRow(
                name="unattributed",
                depth=0,
                status="ok",
                status_word="",
                duration=formats.duration(request.unattributed_ms),
                label=f"In no component that is measured: {formats.duration(request.unattributed_ms)}",
                bars=scale.blocks(request.unattributed),
                kind="gap",
            )
        )
    notes = [
        f"The latency budget of {formats.limit(limit_ms)} of {milestone_name(name).lower()} lies beyond the right edge."
        for name, limit_ms, at in limits
        if (name, limit_ms, at) not in drawn
    ]
    if request.is_lined_up:
        notes.append(
            "Calls came without their offsets: how long they took is known, where they stand is not. "
            "They are drawn one after the other."
        )
    return Waterfall(
        rows=rows,
        marks=marks,
        ticks=scale.ticks(len(marks)),
        head_px=_LINE_PX * (len(marks) + 1) + 4,
        left_out=len(request.spans) - len(shown),
        notes=notes,
    )


@dataclass(frozen=True)
class _Scale:
    start_ms: float
    end_ms: float

    def percent(self, at_ms: float) -> float:
        return min(100.0, max(0.0, (at_ms - self.start_ms) / (self.end_ms - self.start_ms) * 100))

    def blocks(self, stretches: Sequence[Stretch]) -> list[Block]:
        return [
            Block(f"{self.percent(start):.3f}%", f"{max(0.05, self.percent(end) - self.percent(start)):.3f}%")
            for start, end in stretches
        ]

    def mark(self, at_ms: float, text: str, kind: str, line: int) -> Mark:
        x = self.percent(at_ms)
        anchor = "start" if x < 50 else "end"
        return Mark(f"{x:.3f}%", text, anchor, _LINE_PX * (line + 1) - 4, kind)

    def ticks(self, line: int) -> list[Mark]:
        """Three to six round numbers from the click on."""
        unit = formats.unit_of([self.end_ms])
        rough = (self.end_ms - self.start_ms) / 4 / formats.UNIT_MS[unit]
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * n for n in (1, 2, 2.5, 5, 10) if power * n >= rough) * formats.UNIT_MS[unit]
        found = []
        at = math.ceil(self.start_ms / step) * step
        while at <= self.end_ms * 1.0001:
            x = self.percent(at)
            anchor = "start" if x < 4 else "end" if x > 92 else "middle"
            found.append(
                Mark(
                    f"{x:.3f}%",
                    _tick(at, unit),
                    anchor,
                    _LINE_PX * (line + 1) - 4,
                    "tick",
                )
            )
            at += step
        return found


def _tick(at_ms: float, unit: str) -> str:
    return f"{formats.exact(round(at_ms / formats.UNIT_MS[unit], 6))}{formats.NBSP}{unit}"


def _root_row(request: TracedRequest, scale: _Scale) -> WaterfallRow:
    name = milestone_name(request.milestone) if request.milestone else "All calls"
    took = _took(request)
    root = request.root
    over: Sequence[Block] = ()
    if root is not None and root.is_over and root.limit_ms is not None and root.duration_ms > root.limit_ms:
        over = scale.blocks([(root.limit_ms, root.duration_ms)])
    return WaterfallRow(
        name=f"Request, up to {name.lower()}" if root else name,
        depth=0,
        status=request.status.name.lower(),
        status_word=_status_word(request.status),
        duration=took,
        label=f"The request, {took}",
        bars=scale.blocks([(0.0, request.root_ms)]),
        over=over,
        kind="root",
    )


def _row(span: TracedSpan, scale: _Scale) -> WaterfallRow:
    took = formats.duration(span.duration_ms)
    label = f"{formats.name(span.component)}: {took}, from {formats.duration(span.start_ms)} on"
    if span.over:
        label += (
            f"; {formats.duration(sum(end - start for start, end in span.over))} of it over its allocation"
        )
    if span.waited_ms:
        label += f"; {formats.duration(span.waited_ms)} of it on the critical path"
    return WaterfallRow(
        name=span.component,
        depth=min(span.depth, _DEEPEST),
        status=span.status.name.lower(),
        status_word=_status_word(span.status),
        duration=took,
        label=label,
        bars=scale.blocks([(span.start_ms, span.end_ms)]),
        over=scale.blocks(span.over),
        waited=scale.blocks(span.waited),
    )


def _status_word(status: Status) -> str:
    return "" if status == Status.OK else str(status.label)


# -- the same as tables -----------------------------------------------------------------------------


def _component_rows(request: TracedRequest, unit: str) -> list[ComponentRow]:
    def figures(values: Sequence[float | None], near: Sequence[float | None] = ()) -> list[str]:
        return formats.column([_in(unit, v) for v in values], near=[_in(unit, v) for v in near])

    found: Sequence[ComponentTime] = request.components
    limits = [one.limit_ms for one in found]
    waited = [*(one.waited_ms for one in found), request.unattributed_ms]
    columns = [
        ("Took", figures([one.judged_ms for one in found], limits)),
        (
            "Allocated",
            [
                formats.NONE if v is None else formats.exact(round(v / formats.UNIT_MS[unit], 6))
                for v in limits
            ],
        ),
        ("Over by", figures([one.over_ms or None for one in found])),
        ("Waited for", figures(waited)),
    ]
    root_ms = request.root_ms
    shares = [formats.percent(ms / root_ms, decimals=1) if root_ms else formats.NONE for ms in waited]
    rows = [
        ComponentRow(
            name=one.component,
            calls=one.calls,
            status_word=_status_word(one.status),
            cells=[*((name, cells[at]) for name, cells in columns), ("Share", shares[at])],
            is_over=one.over_ms > 0,
        )
        for at, one in enumerate(found)
    ]
    if _has_gaps(request):
        cells = [("Took", formats.NONE), ("Allocated", formats.NONE), ("Over by", formats.NONE)]
        cells += [("Waited for", columns[3][1][-1]), ("Share", shares[-1])]
        rows.append(ComponentRow("unattributed", 0, "", cells, is_over=False))
    return rows


def _span_rows(request: TracedRequest, shown: Sequence[int], unit: str) -> list[SpanRow]:
    spans = [request.spans[at] for at in shown]
    columns = [
        formats.column([_in(unit, value) for value in values])
        for values in (
            [span.start_ms for span in spans],
            [span.end_ms for span in spans],
            [span.duration_ms for span in spans],
            [sum(end - start for start, end in span.over) or None for span in spans],
            [span.waited_ms or None for span in spans],
        )
    ]
    return [
        SpanRow(
            name=span.component,
            depth=min(span.depth, _DEEPEST),
            below=request.spans[span.parent].component if span.parent is not None else "",
            status_word=str(span.status.label),
            cells=[column[at] for column in columns],
        )
        for at, span in enumerate(spans)
    ]


def _has_gaps(request: TracedRequest) -> bool:
    """Whether the time in no component is more than what rounding leaves."""
    return bool(request.spans) and request.unattributed_ms > _GAP_RATIO * request.root_ms


def _unit(values: Iterable[float | None]) -> str:
    """Seconds for as long as they can be read: minutes have too coarse a hundredth."""
    unit = formats.column_unit(values)
    return "s" if unit == "min" else unit


def _in(unit: str, ms: float | None) -> float | None:
    return None if ms is None else ms / formats.UNIT_MS[unit]
