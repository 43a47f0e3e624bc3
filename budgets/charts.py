"""Charts of a status and of its time series, as Plotly figures: plain data, no queries.

- Instants are naive UTC and every tick and hover text is written here, because Plotly drops zones.
- Plotly reads every text as pseudo-HTML, so names that services chose pass through `plain`.
- Colours are names of the page's palette, "var(--ink)"; the browser puts the theme's values in.
- No default template (it would add 7 KB to each figure), no mode bar, no dragging: zoom is navigation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

from budgets import formats
from budgets.burn_rates import State, error_budget
from budgets.histogram import AtLeast

if TYPE_CHECKING:
    from budgets.status import ComponentStatus, FeatureStatus, TimeSeries

Size = Literal["large", "small"]
Percentile = float | AtLeast | None

HEIGHT_PX: Final[dict[str, int]] = {"large": 300, "small": 190}
_ROW_PX: Final = 34
_FONT_PX: Final = 12
_FONT: Final = "system-ui, -apple-system, Segoe UI, Roboto, Liberation Sans, sans-serif"
_DEEPEST: Final = -200.0  # per cent of an error budget; the axis goes no further down
_LABEL_GAP_PX: Final = 14  # two labels closer than this would lie on each other

# The three percentiles differ by dash and weight, so that they are told apart without colour.
_LINES: Final = (
    ("p50", {"dash": "dot", "width": 1.5, "color": "var(--line-p50)"}),
    ("p95", {"dash": "dash", "width": 1.5, "color": "var(--line-p95)"}),
    ("p99", {"dash": "solid", "width": 1.75, "color": "var(--line-p99)"}),
)
# And the parts of a budget by pattern.
_PATTERNS: Final = ("", "/", ".", "\\", "x", "-", "+", "|")

_TIME_STEPS: Final = tuple(
    timedelta(minutes=minutes)
    for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 5760, 10080, 20160, 43200)
)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Marker:
    """Something that happened at an instant: a new version, an incident that opened."""

    at: datetime
    text: str
    color: str = "var(--ink-soft)"


@dataclass(frozen=True)
class Chart:
    """A figure, what it shows in a sentence, its numbers as a table, and the same for programs.

    `columns` and `rows` are texts to be read. `records` are raw values under the names in `fields`, with
    their units in the names.
    """

    data: list[dict[str, Any]]
    layout: dict[str, Any]
    summary: str
    columns: list[str]
    rows: list[list[str]]
    fields: list[str]
    records: list[list[Any]]

    def document(self) -> dict[str, Any]:
        """What the browser fetches to draw it."""
        return {
            "figure": {"data": self.data, "layout": self.layout},
            "summary": self.summary,
            "table": {"columns": self.columns, "rows": self.rows},
        }


def plain(text: str, *, at_most: int | None = None) -> str:
    """A name as Plotly shows it letter by letter: no tag, link or entity of it takes effect.

    >>> plain('<a href="javascript:x">tools & co</a>', at_most=15)
    '&lt;a href="javas…'
    """
    text = "".join(c if c.isprintable() else " " for c in text)
    if at_most is not None and len(text) > at_most:
        text = f"{text[: at_most - 1].rstrip()}…"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


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
    starts = [_naive(at) for at in series.start]
    end = series.start[-1] + series.step if series.start else None
    values = {name: getattr(series, name) for name, _ in _LINES}
    limits = [value for value in series.limit_ms if value is not None]
    finite = [v for name in values for v in values[name] if v is not None and not isinstance(v, AtLeast)]
    top = _top_over_time(finite, limits, values["p99"])
    unit = formats.unit_of(limits or [top])
    hover = _hover_texts(series, limit_word=limit_word, unit=unit)
    is_quiet = [total == 0 for total in series.total]

    data: list[dict[str, Any]] = []
    for name, line in _LINES:
        y = [None if v is None or isinstance(v, AtLeast) else _ms(v) for v in values[name]]
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
                "x": [*starts, _naive(end)] if end else starts,
                "y": [*(_ms(v) for v in series.limit_ms), _ms(series.limit_ms[-1])],
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
                "y": [_ms(top * 0.97) for _ in beyond],
                "marker": {"symbol": "triangle-up", "size": 9, "color": "var(--breached)"},
                "hoverinfo": "text",
                "hovertext": [hover[i] for i in beyond],
            }
        )

    labels = [(name, _last(values[name])) for name, _ in _LINES]
    if limits:
        labels.append((f"limit {formats.limit(limits[-1])}", float(limits[-1])))
    plot_px = HEIGHT_PX[size] - 42
    layout = _layout(
        size=size,
        # Half a step of room, or a lone point in the first one would be cut in two.
        x=_time_axis(series.start[0], end, room=series.step / 2) if end else {},
        y=_duration_axis(top, unit, at_most=5 if size == "large" else 3),
        shapes=[_vertical(marker) for marker in _within(markers, series)],
        annotations=[
            *_end_labels(labels, top, plot_px),
            *(_marker_label(marker) for marker in _within(markers, series)),
            *([_empty_note("Nothing was measured in this range.")] if all(is_quiet) else []),
        ],
    )
    return Chart(
        data=data,
        layout=layout,
        summary=_lines_summary(series, subject=subject, limit_word=limit_word),
        columns=[
            "Start (UTC)",
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
                formats.instant(series.start[i]).removesuffix(" UTC"),
                formats.count(series.total[i]),
                *(
                    formats.duration(values[name][i], unit=unit, near=series.limit_ms[i])
                    for name, _ in _LINES
                ),
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
        ],
        records=[
            [
                _rfc3339(series.start[i]),
                series.total[i],
                series.good[i],
                series.over[i],
                series.errors[i],
                series.timeouts[i],
                series.limit_ms[i],
                *(_raw(values[name][i]) for name, _ in _LINES),
            ]
            for i in range(len(series.start))
        ],
    )


def burn_down(series: TimeSeries, *, objective: Decimal, window_end: datetime) -> Chart:
    """How the error budget of the objective's window was spent: from 100 % down, below zero where overspent.

    `series` covers the window. What the window allows is known only at its end, so the last point is the
    share that the page's tile names; the dashed line is the pace that spends exactly all of it.
    """
    judged = series.judged
    bad = [n - good for n, good in zip(judged, series.good, strict=True)]
    allowed_bad = error_budget(sum(bad), sum(judged), objective).allowed_bad
    start = series.start[0]

    x, y, hover = [_naive(start)], [100.0], [f"{formats.instant(start)}<br>100{formats.NBSP}% left"]
    rows, records = [], []
    spent = 0
    for at, judged_count, bad_count in zip(series.start, judged, bad, strict=True):
        spent += bad_count
        ratio = 1 - spent / allowed_bad if allowed_bad else 1.0
        until = min(at + series.step, window_end)
        x.append(_naive(until))
        y.append(round(ratio * 100, 4))
        hover.append(
            f"{formats.instant(until)}<br>{formats.percent(ratio)} left<br>"
            f"{formats.count(bad_count)} bad of {formats.count(judged_count)} in this step"
        )
        records.append([_rfc3339(at), judged_count, bad_count, ratio])
        if judged_count:
            rows.append(
                [
                    formats.instant(at).removesuffix(" UTC"),
                    formats.count(judged_count),
                    formats.count(bad_count),
                    formats.percent(ratio),
                ]
            )
    remaining = y[-1]
    # Overspent twenty times over, the rest of the chart would be a line at its upper edge.
    low = max(min(0.0, *y), _DEEPEST)
    bottom = low * 1.08 - (4 if low < 0 else 0)
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "even pace",
            "x": [x[0], x[-1]],
            "y": [100, 0],
            "line": {"dash": "dash", "width": 1.5, "color": "var(--line-p50)"},
            "hoverinfo": "skip",
        }
    ]
    if low < 0:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "overspent",
                "x": x,
                "y": [min(value, 0) for value in y],
                "line": {"width": 0, "color": "var(--breached)"},
                "fill": "tozeroy",
                "fillcolor": "var(--breached-tint)",
                "hoverinfo": "skip",
            }
        )
    data.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "error budget left",
            "x": x,
            "y": y,
            "line": {"width": 2, "color": "var(--breached)" if remaining < 0 else "var(--line-p99)"},
            "hoverinfo": "text",
            "hovertext": hover,
        }
    )
    ticks = _steps(bottom, 100, 5)
    has_data = sum(judged) > 0
    layout = _layout(
        size="large",
        x=_time_axis(start, window_end),
        y=_axis(
            [bottom, 106],
            [(value, f"{formats.exact(value)}{formats.NBSP}%") for value in ticks],
            zeroline=True,
        ),
        annotations=[
            *(
                _end_labels(
                    [("left", remaining), ("even pace", 0.0)], 106, HEIGHT_PX["large"] - 42, bottom=bottom
                )
            ),
            *([] if has_data else [_empty_note("Nothing was judged in this window.")]),
        ],
    )
    return Chart(
        data=data if has_data else [],
        layout=layout,
        summary=_burn_down_summary(sum(bad), allowed_bad, remaining / 100, has_data=has_data),
        columns=["Start (UTC)", "Judged", "Bad", "Error budget left"],
        rows=rows,
        fields=["start", "judged", "bad", "remaining_ratio"],
        records=records,
    )


def allocation_against_observed(status: FeatureStatus) -> Chart:
    """The budget split into its allocations, and under it each component's own p99 beside its allocation.

    The rows share an axis and nothing else: percentiles of components do not add up, so they are never stacked.
    """
    budget = status.latency_budget
    components = list(status.components)
    observed = [c.percentiles_ms.p99 for c in components]
    finite = [v for v in observed if v is not None and not isinstance(v, AtLeast)]
    top = _top_of([*finite, *([budget.budget_ms] if budget else [])], observed)
    unit = formats.unit_of([top])
    data = _budget_parts(status, unit) if budget else []
    first_row = 1 if budget else 0
    rows = range(first_row, first_row + len(components))

    allocated = [(row, c) for row, c in zip(rows, components, strict=True) if c.allocated_ms is not None]
    if allocated:
        data.append(
            _bars(
                [row for row, _ in allocated],
                [_ms(c.allocated_ms) for _, c in allocated],
                width=0.72,
                marker={"color": "var(--track)", "line": {"color": "var(--line-strong)", "width": 1}},
                hover=[_component_hover(c) for _, c in allocated],
                name="allocation",
            )
        )
    measured = [
        (row, c, p99) for row, c, p99 in zip(rows, components, observed, strict=True) if p99 is not None
    ]
    medians = [
        (row, p50)
        for row, c in zip(rows, components, strict=True)
        if (p50 := c.percentiles_ms.p50) is not None and not isinstance(p50, AtLeast)
    ]
    if measured:
        data.append(
            _bars(
                [row for row, _, _ in measured],
                [_ms(top) if isinstance(p99, AtLeast) else _ms(p99) for _, _, p99 in measured],
                width=0.3,
                marker={"color": [_state_color(c.state) for _, c, _ in measured]},
                hover=[_component_hover(c) for _, c, _ in measured],
                name="p99",
            )
        )
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "p50",
                "x": [_ms(p50) for _, p50 in medians],
                "y": [row for row, _ in medians],
                "marker": {"symbol": "line-ns-open", "size": 11, "line": {"width": 2}, "color": "var(--ink)"},
                "hoverinfo": "skip",
            }
        )
    row_names = [
        *(["Latency budget"] if budget else []),
        *(plain(c.component, at_most=14) for c in components),
    ]
    layout = _layout(
        size="large",
        height=allocation_height(status),
        x=_duration_axis(top, unit, at_most=5),
        y=_axis(
            [len(row_names) - 0.45, -0.55],
            [(i, f"{name} ") for i, name in enumerate(row_names)],
            showgrid=False,
        ),
        margin={"l": 116, "r": 16, "t": 8, "b": 30},
        narrow={
            "margin": {"l": 78, "r": 8, "t": 8, "b": 30},
            "yaxis": {
                "ticktext": ["Promised "] * bool(budget)
                + [f"{plain(c.component, at_most=10)} " for c in components]
            },
        },
        shapes=[_budget_line(budget.budget_ms)] if budget else [],
        annotations=[
            {
                "x": _ms(top),
                "y": row,
                "xanchor": "right",
                "text": formats.duration(p99),
                "showarrow": False,
                "bgcolor": "var(--surface)",
                "font": {"color": "var(--ink)"},
            }
            for row, _, p99 in measured
            if isinstance(p99, AtLeast)
        ],
        barmode="overlay",
        hovermode="closest",
    )
    column_unit = formats.column_unit([*(c.allocated_ms for c in components), *observed])
    return Chart(
        data=data,
        layout=layout,
        summary=_allocation_summary(status),
        columns=["Component", "State", "Allocation", "p50", "p95", "p99"],
        rows=[
            [
                c.component,
                str(c.state).replace("_", " "),
                formats.limit(c.allocated_ms, unit=column_unit),
                *(
                    formats.duration(getattr(c.percentiles_ms, name), unit=column_unit, near=c.allocated_ms)
                    for name, _ in _LINES
                ),
            ]
            for c in components
        ],
        fields=[
            "component",
            "state",
            "allocated_ms",
            "p50_ms",
            "p95_ms",
            "p99_ms",
            "total",
            "judged",
            "over",
        ],
        records=[
            [
                c.component,
                str(c.state),
                c.allocated_ms,
                *(_raw(getattr(c.percentiles_ms, name)) for name, _ in _LINES),
                c.counts.total,
                c.counts.judged,
                c.counts.over,
            ]
            for c in components
        ],
    )


def allocation_height(status: FeatureStatus) -> int:
    """Pixels that the allocation chart of a status takes: a row for the budget and one for each component."""
    rows = len(status.components) + (1 if status.latency_budget else 0)
    return max(rows, 2) * _ROW_PX + 38


# Parts of the allocation chart


def _budget_parts(status: FeatureStatus, unit: str) -> list[dict[str, Any]]:
    """The segments of the budget, first to last, and what is not allocated as an open one."""
    budget = status.latency_budget
    assert budget is not None
    parts, base = [], 0.0
    # Where a feature has both milestones, the first token's budget is the first block of complete's.
    first_block = budget.budget_ms - budget.unallocated_ms - sum(budget.allocations.values())
    if first_block > 0.0005:
        parts.append(_budget_part("first token", first_block, 0.0, color="var(--track)", pattern=""))
        base = first_block
    for i, (name, allocated_ms) in enumerate(budget.allocations.items()):
        parts.append(
            _budget_part(
                name, float(allocated_ms), base, color=f"var(--part-{i % 6})", pattern=_PATTERNS[i % 8]
            )
        )
        base += float(allocated_ms)
    if budget.unallocated_ms > 0:
        parts.append(
            _budget_part(
                "not allocated", float(budget.unallocated_ms), base, color="var(--surface)", pattern=""
            )
        )
    return parts


def _budget_part(name: str, ms: float, base: float, *, color: str, pattern: str) -> dict[str, Any]:
    return {
        **_bars(
            [0],
            [_ms(ms)],
            width=0.72,
            marker={
                "color": color,
                "line": {"color": "var(--line-strong)", "width": 1},
                "pattern": {
                    "shape": pattern,
                    "fgcolor": "var(--part-ink)",
                    "size": 7,
                    "solidity": 0.12,
                    "fgopacity": 0.35,
                },
            },
            hover=[f"{plain(name)}: {formats.limit(ms)} of the latency budget"],
            name=plain(name),
        ),
        "base": [_ms(base)],
        "text": [plain(name, at_most=14)],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "insidetextfont": {"color": "var(--ink)"},
    }


def _bars(
    rows: list[int],
    lengths: list[float | None],
    *,
    width: float,
    marker: dict[str, Any],
    hover: list[str],
    name: str,
) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": rows,
        "x": lengths,
        "width": width,
        "marker": marker,
        "hoverinfo": "text",
        "hovertext": hover,
    }


def _budget_line(budget_ms: float) -> dict[str, Any]:
    """The end of the budget, in its own row only: a line across all rows would compare components with it."""
    return {
        "type": "line",
        "xref": "x",
        "yref": "y",
        "x0": _ms(budget_ms),
        "x1": _ms(budget_ms),
        "y0": -0.5,
        "y1": 0.5,
        "line": {"color": "var(--breached)", "dash": "4px,3px", "width": 2},
    }


def _component_hover(component: ComponentStatus) -> str:
    p = component.percentiles_ms
    limit = component.allocated_ms
    lines = [
        plain(component.component),
        " · ".join(
            f"{name} {formats.duration(getattr(p, name), near=limit)}" for name, _ in reversed(_LINES)
        ),
    ]
    if limit is None:
        lines.append("not allocated")
    else:
        lines.append(
            f"allocation {formats.limit(limit)}, {formats.count(component.counts.over)} of "
            f"{formats.count(component.counts.judged)} over"
        )
    return "<br>".join(lines)


def _state_color(state: Any) -> str:
    names = {
        State.OK: "var(--ok)",
        State.AT_RISK: "var(--at-risk)",
        State.BREACHED: "var(--breached)",
    }
    return names.get(State(str(state)), "var(--no-data)")


# Axes and layout


def _layout(
    *,
    size: Size,
    x: dict[str, Any],
    y: dict[str, Any],
    height: int | None = None,
    margin: dict[str, int] | None = None,
    narrow: dict[str, Any] | None = None,
    **rest: Any,
) -> dict[str, Any]:
    """The layout that all charts share. `narrow` is what a phone puts in place of the same keys."""
    return {
        "height": height or HEIGHT_PX[size],
        "margin": margin or {"l": 64, "r": 96, "t": 14, "b": 28},
        "meta": {"narrow": narrow or {"margin": {"l": 58, "r": 86, "t": 14, "b": 28}}},
        "font": {"size": _FONT_PX, "color": "var(--ink-soft)", "family": _FONT},
        "paper_bgcolor": "var(--surface)",
        "plot_bgcolor": "var(--surface)",
        "showlegend": False,
        "dragmode": False,
        "hovermode": "x",
        "hoverlabel": {
            "bgcolor": "var(--surface)",
            "bordercolor": "var(--line-strong)",
            "font": {"color": "var(--ink)", "size": _FONT_PX, "family": _FONT},
            "align": "left",
        },
        "uirevision": "kept",
        "xaxis": x,
        "yaxis": y,
        **rest,
    }


def _axis(bounds: list[Any], labelled: Iterable[tuple[Any, str]], **rest: Any) -> dict[str, Any]:
    values = list(labelled)
    return {
        "range": bounds,
        "tickmode": "array",
        "tickvals": [value for value, _ in values],
        "ticktext": [text for _, text in values],
        "fixedrange": True,
        "showgrid": True,
        "gridcolor": "var(--line)",
        "zeroline": False,
        "zerolinecolor": "var(--ink-soft)",
        "automargin": False,
        "ticklabelstandoff": 4,
        "tickangle": 0,
        **rest,
    }


def _duration_axis(top_ms: float, unit: str, *, at_most: int) -> dict[str, Any]:
    size = formats.UNIT_MS[unit]
    return _axis(
        [0, _ms(top_ms)],
        [
            (_ms(value * size), f"{formats.exact(value)}{formats.NBSP}{unit}")
            for value in _steps(0, top_ms / size, at_most)
        ],
    )


def _time_axis(start: datetime, end: datetime, *, room: timedelta = timedelta(0)) -> dict[str, Any]:
    return _axis(
        [_naive(start - room), _naive(end)],
        [(_naive(at), text) for at, text in time_ticks(start, end)],
        type="date",
        showgrid=False,
        ticks="outside",
        tickcolor="var(--line-strong)",
        showspikes=True,
        spikemode="across",
        spikethickness=1,
        spikecolor="var(--line-strong)",
        spikedash="solid",
    )


def time_ticks(start: datetime, end: datetime, *, at_most: int = 8) -> list[tuple[datetime, str]]:
    """Round UTC instants within a range, each with its text: the time, and the day where a day begins."""
    span = end - start
    step = next((s for s in _TIME_STEPS if span / s <= at_most), _TIME_STEPS[-1])
    epoch = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday, so that steps of weeks begin on one
    at = epoch + math.ceil((start - epoch) / step) * step
    found = []
    while at <= end:
        is_day = step >= _DAY or (at.hour == 0 and at.minute == 0)
        found.append((at, f"{at.day} {at:%b}" if is_day else f"{at:%H:%M}"))
        at += step
    return found


def _steps(low: float, high: float, at_most: int) -> list[float]:
    """Round numbers from `low` to `high`, zero among them where it is in between."""
    if high <= low:
        return [low]
    rough = (high - low) / at_most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _top_of(finite: Sequence[float], percentiles: Iterable[Percentile]) -> float:
    """The upper end of a duration axis. Timeouts count only where nothing finite is there to be read."""
    if not finite:
        finite = [v.ms for v in percentiles if isinstance(v, AtLeast)]
    return max(finite, default=1000.0) * 1.08 or 1.0


def _top_over_time(finite: Sequence[float], limits: Sequence[float], p99: Sequence[Percentile]) -> float:
    """Room for the limit twice over and for nine in ten of the p99: lone spikes go beyond the axis."""
    if not limits:
        return _top_of(finite, p99)
    measured = sorted(v for v in p99 if v is not None and not isinstance(v, AtLeast))
    usual = measured[int(0.9 * (len(measured) - 1))] if measured else 0.0
    most = max([*finite, *limits])
    return min(most, max(2 * max(limits), 1.25 * usual)) * 1.08


def _end_labels(
    labels: Iterable[tuple[str, float | None]], top: float, plot_px: int, *, bottom: float = 0.0
) -> list[dict[str, Any]]:
    """Names at the right end of their lines instead of a legend, pushed apart where they would touch."""
    gap = _LABEL_GAP_PX * (top - bottom) / plot_px
    placed: list[tuple[str, float]] = []
    for text, value in sorted(((t, v) for t, v in labels if v is not None), key=lambda label: label[1]):
        lowest = placed[-1][1] + gap if placed else bottom + gap / 2
        placed.append((text, max(min(value, top), lowest)))
    # What was pushed out at the top comes down again, pushing the others.
    ceiling = top - gap / 2
    for i in reversed(range(len(placed))):
        text, value = placed[i]
        placed[i] = (text, min(value, ceiling))
        ceiling = placed[i][1] - gap
    return [
        {
            "xref": "paper",
            "x": 1,
            "xanchor": "left",
            "xshift": 6,
            "y": round(value, 3),
            "yanchor": "middle",
            "text": text,
            "showarrow": False,
            "font": {"color": "var(--ink-soft)", "size": _FONT_PX},
        }
        for text, value in placed
    ]


def _vertical(marker: Marker) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": _naive(marker.at),
        "x1": _naive(marker.at),
        "y0": 0,
        "y1": 1,
        "line": {"color": marker.color, "dash": "dot", "width": 1.5},
    }


def _marker_label(marker: Marker) -> dict[str, Any]:
    return {
        "x": _naive(marker.at),
        "xanchor": "left",
        "xshift": 3,
        "yref": "paper",
        "y": 1,
        "yanchor": "top",
        "text": plain(marker.text, at_most=24),
        "showarrow": False,
        "bgcolor": "var(--surface)",
        "font": {"color": "var(--ink)", "size": _FONT_PX - 1},
    }


def _empty_note(text: str) -> dict[str, Any]:
    return {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "text": text, "showarrow": False}


def _within(markers: Sequence[Marker], series: TimeSeries) -> list[Marker]:
    if not series.start:
        return []
    end = series.start[-1] + series.step
    return [marker for marker in markers if series.start[0] < marker.at <= end]


# Texts


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


def _burn_down_summary(bad: int, allowed_bad: float, remaining_ratio: float, *, has_data: bool) -> str:
    if not has_data:
        return "Nothing was judged in this window, so no error budget was spent."
    spent = f"{formats.count(bad)} bad of {formats.count(allowed_bad)} allowed"
    if remaining_ratio < 0:
        return f"{spent}: overspent by {formats.percent(-remaining_ratio)}."
    return f"{spent}: {formats.percent(remaining_ratio)} of the error budget is left."


def _allocation_summary(status: FeatureStatus) -> str:
    over = [c for c in status.components if c.state == State.BREACHED]
    unallocated = [c for c in status.components if c.state == State.UNALLOCATED]
    sentences = []
    if over:
        named = ", ".join(
            f"{formats.name(c.component)} (p99 {formats.duration(c.percentiles_ms.p99, near=c.allocated_ms)} against "
            f"{formats.limit(c.allocated_ms)})"
            for c in over
        )
        sentences.append(f"Over their allocation: {named}.")
    elif any(c.allocated_ms is not None and c.counts.total for c in status.components):
        sentences.append("No component is over its allocation.")
    if unallocated:
        sentences.append(
            f"Measured but not allocated: {', '.join(formats.name(c.component) for c in unallocated)}."
        )
    return " ".join(sentences) or "No component was measured in this range."


# Values


def _ms(value: float | Decimal | None) -> float | None:
    """Four significant digits and never less than a whole ms: what a pixel can show."""
    if value is None:
        return None
    number = float(value)
    return round(number, 1) if abs(number) >= 1000 else round(number, 4)


def _raw(value: Percentile) -> float | str | None:
    """A percentile for programs; one among timeouts says what it is known to reach."""
    return f">={value.ms}" if isinstance(value, AtLeast) else value


def _rfc3339(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _naive(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"


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
