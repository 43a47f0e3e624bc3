"""Percentiles of a component or milestone over time, its limit, and what happened meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from budgets import formats
from budgets.histogram import AtLeast
from budgets.instants import rfc3339

from .frame import (
    HEIGHT_PX,
    Chart,
    Size,
    duration_axis,
    empty_note,
    end_labels,
    make_layout,
    time_axis,
    top_of,
)
from .marks import Marker, Marks, draw_marks, marks_by_step, marks_sentence, with_base
from .values import LINES, Percentile, as_ms, as_raw, naive

if TYPE_CHECKING:
    from budgets.status import TimeSeries


def percentile_lines(
    series: TimeSeries,
    *,
    subject: str,
    limit_word: str,
    markers: Sequence[Marker] = (),
    size: Size = "large",
) -> Chart:
    """p50, p95 and p99 of a milestone or component over time, with the limit in force and what happened.

    What has no place on the axis is a triangle at its upper edge: a percentile that falls among timeouts,
    and a spike so far beyond the limit that showing it would flatten everything else.
    """
    starts = [naive(at) for at in series.start]
    end = series.start[-1] + series.step if series.start else None
    values = {name: getattr(series, name) for name, _ in LINES}
    limits = [value for value in series.limit_ms if value is not None]
    finite = [v for name in values for v in values[name] if v is not None and not isinstance(v, AtLeast)]
    top = _top_over_time(finite, limits, values["p99"])
    unit = formats.unit_of(limits or [top])
    hover = _hover_texts(series, limit_word=limit_word, unit=unit)
    is_quiet = [total == 0 for total in series.total]

    data: list[dict[str, Any]] = []
    for name, line in LINES:
        y = [None if v is None or isinstance(v, AtLeast) else as_ms(v) for v in values[name]]
        is_p99 = name == "p99"
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": starts,
                "y": y,
                "line": line if size == "large" else {**line, "width": 1},
                # A value between two gaps has no line to be seen by.
                "marker": {"size": [5 if lonely else 0 for lonely in _lonely(y)], "color": line["color"]},
                "connectgaps": False,
                "hoverinfo": "text" if is_p99 else "skip",
                **({"hovertext": hover} if is_p99 else {}),
            }
        )
    # Last of the lines, so that it lies on top where they are dense.
    if limits:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": limit_word,
                "x": [*starts, naive(end)] if end else starts,
                "y": [*(as_ms(v) for v in series.limit_ms), as_ms(series.limit_ms[-1])],
                "line": {"shape": "hv", "dash": "8px,5px", "width": 1.5, "color": "var(--breached)"},
                "hoverinfo": "skip",
            }
        )
    beyond = [i for i, v in enumerate(values["p99"]) if isinstance(v, AtLeast) or (v is not None and v > top)]
    if beyond:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "p99 beyond the axis",
                "x": [starts[i] for i in beyond],
                "y": [as_ms(top * 0.97) for _ in beyond],
                "marker": {"symbol": "triangle-up", "size": 9, "color": "var(--breached)"},
                "hoverinfo": "text",
                "hovertext": [hover[i] for i in beyond],
            }
        )

    labels = [(name, _last(values[name])) for name, _ in LINES]
    if limits:
        labels.append((f"limit {formats.limit(limits[-1])}", float(limits[-1])))
    plot_px = HEIGHT_PX[size] - 42
    marks = draw_marks(markers, start=series.start[0], end=end, size=size) if end else Marks()
    layout = make_layout(
        size=size,
        # Half a step of room, or a lone point in the first one would be cut in two.
        x=time_axis(series.start[0], end, room=series.step / 2) if end else {},
        y=duration_axis(top, unit, at_most=5 if size == "large" else 3),
        **with_base(
            marks,
            [
                *end_labels(labels, top, plot_px),
                *([empty_note("Nothing was measured in this range.")] if all(is_quiet) else []),
            ],
        ),
    )
    changes_of = marks_by_step(markers, series.start, series.step)
    return Chart(
        data=data,
        layout=layout,
        summary=_lines_summary(series, subject=subject, limit_word=limit_word) + marks_sentence(marks),
        columns=[
            f"Start ({formats.zone_name()})",
            "Requests",
            "p50",
            "p95",
            "p99",
            limit_word.capitalize(),
            "Over",
            "Errors",
            "Timeouts",
        ],
        rows=[
            [
                formats.instant(series.start[i], zone=False),
                formats.count(series.total[i]),
                *(formats.duration(values[name][i], unit=unit, near=series.limit_ms[i]) for name, _ in LINES),
                formats.limit(series.limit_ms[i], unit=unit),
                formats.count(series.over[i]),
                formats.count(series.errors[i]),
                formats.count(series.timeouts[i]),
            ]
            for i in range(len(series.start))
            if series.total[i]
        ],
        fields=[
            "start",
            "total",
            "good",
            "over",
            "errors",
            "timeouts",
            "limit_ms",
            "p50_ms",
            "p95_ms",
            "p99_ms",
            "changes",
        ],
        changes=marks.rows,
        records=[
            [
                rfc3339(series.start[i]),
                series.total[i],
                series.good[i],
                series.over[i],
                series.errors[i],
                series.timeouts[i],
                series.limit_ms[i],
                *(as_raw(values[name][i]) for name, _ in LINES),
                changes_of(i),
            ]
            for i in range(len(series.start))
        ],
    )


def _top_over_time(finite: Sequence[float], limits: Sequence[float], p99: Sequence[Percentile]) -> float:
    """Room for the limit twice over and for nine in ten of the p99: lone spikes go beyond the axis."""
    if not limits:
        return top_of(finite, p99)
    measured = sorted(v for v in p99 if v is not None and not isinstance(v, AtLeast))
    usual = measured[int(0.9 * (len(measured) - 1))] if measured else 0.0
    most = max([*finite, *limits])
    return min(most, max(2 * max(limits), 1.25 * usual)) * 1.08


def _hover_texts(series: TimeSeries, *, limit_word: str, unit: str) -> list[str]:
    texts = []
    for i, at in enumerate(series.start):
        limit = series.limit_ms[i]
        parts = [
            formats.instant(at),
            " · ".join(
                f"{n} {formats.duration(getattr(series, n)[i], unit=unit, near=limit)}"
                for n in ("p99", "p95", "p50")
            ),
        ]
        counted = f"{formats.count(series.total[i])} measured"
        if limit is not None:
            parts.append(f"{limit_word} {formats.limit(limit, unit=unit)}")
            counted = f"{formats.count(series.over[i])} of {formats.count(series.total[i])} over"
        if series.timeouts[i]:
            counted += f", {formats.count(series.timeouts[i])} timed out"
        if series.errors[i]:
            counted += f", {formats.count(series.errors[i])} failed"
        texts.append("<br>".join([*parts, counted]))
    return texts


def _lines_summary(series: TimeSeries, *, subject: str, limit_word: str) -> str:
    total = sum(series.total)
    if not total:
        return f"{formats.name(subject)}: nothing was measured in this range."
    worst = max(range(len(series.start)), key=lambda i: _rank(series.p99[i]))
    limit = series.limit_ms[worst]
    parts = [
        f"{formats.name(subject)}: {formats.count(total)} measured. Slowest p99 "
        f"{formats.duration(series.p99[worst], near=limit)} at {formats.instant(series.start[worst])}"
    ]
    judged = [i for i, value in enumerate(series.limit_ms) if value is not None and series.total[i]]
    if judged:
        above = sum(_rank(series.p99[i]) > float(series.limit_ms[i] or 0) for i in judged)
        parts.append(
            f"; p99 over the {limit_word} in {formats.count(above)} of {formats.count(len(judged))} steps"
        )
    return "".join(parts) + "."


def _last(values: Sequence[Percentile]) -> float | None:
    """Where a line ends: its last value that has a place on the axis."""
    return next((float(v) for v in reversed(values) if v is not None and not isinstance(v, AtLeast)), None)


def _rank(value: Percentile) -> float:
    """Order of percentiles: no data first, then by duration, and those among timeouts above all others."""
    if value is None:
        return -1.0
    return 1e15 + value.ms if isinstance(value, AtLeast) else value


def _lonely(y: Sequence[float | None]) -> list[bool]:
    """Which values stand between two gaps."""
    padded = [None, *y, None]
    edges = [(a is None, b is None) for a, b in pairwise(padded)]
    return [edges[i][0] and edges[i + 1][1] and v is not None for i, v in enumerate(y)]
