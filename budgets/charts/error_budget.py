"""How an error budget was spent over its window."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from budgets import formats
from budgets.burn_rates import error_budget

from .frame import HEIGHT_PX, Chart, axis, empty_note, end_labels, make_layout, steps, time_axis
from .marks import Marker, draw_marks, marks_by_step, marks_sentence, with_base
from .values import naive, rfc3339

if TYPE_CHECKING:
    from budgets.status import TimeSeries

_DEEPEST: Final = -200.0  # per cent of an error budget; the axis goes no further down


def burn_down(
    series: TimeSeries, *, objective: Decimal, window_end: datetime, markers: Sequence[Marker] = ()
) -> Chart:
    """How the error budget of the objective's window was spent: from 100 % down, below zero where overspent.

    `series` covers the window. What the window allows is known only at its end, so the last point is the
    share that the page's tile names; the dashed line is the pace that spends exactly all of it.
    """
    judged = series.judged
    bad = [n - good for n, good in zip(judged, series.good, strict=True)]
    allowed_bad = error_budget(sum(bad), sum(judged), objective).allowed_bad
    start = series.start[0]

    x, y, hover = [naive(start)], [100.0], [f"{formats.instant(start)}<br>100{formats.NBSP}% left"]
    rows: list[list[str]] = []
    records: list[list[Any]] = []
    changes_of = marks_by_step(markers, series.start, series.step)
    spent = 0
    for at, judged_count, bad_count in zip(series.start, judged, bad, strict=True):
        spent += bad_count
        ratio = 1 - spent / allowed_bad if allowed_bad else 1.0
        until = min(at + series.step, window_end)
        x.append(naive(until))
        y.append(round(ratio * 100, 4))
        hover.append(
            f"{formats.instant(until)}<br>{formats.percent(ratio)} left<br>"
            f"{formats.count(bad_count)} bad of {formats.count(judged_count)} in this step"
        )
        records.append([rfc3339(at), judged_count, bad_count, ratio, changes_of(len(records))])
        if judged_count:
            rows.append(
                [
                    formats.instant(at, zone=False),
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
    ticks = steps(bottom, 100, 5)
    has_data = sum(judged) > 0
    marks = draw_marks(markers, start=start, end=window_end, size="large")
    layout = make_layout(
        size="large",
        x=time_axis(start, window_end),
        y=axis(
            [bottom, 106],
            [(value, f"{formats.exact(value)}{formats.NBSP}%") for value in ticks],
            zeroline=True,
        ),
        **with_base(
            marks,
            [
                *end_labels(
                    [("left", remaining), ("even pace", 0.0)], 106, HEIGHT_PX["large"] - 42, bottom=bottom
                ),
                *([] if has_data else [empty_note("Nothing was judged in this window.")]),
            ],
        ),
    )
    return Chart(
        data=data if has_data else [],
        layout=layout,
        summary=_burn_down_summary(sum(bad), allowed_bad, remaining / 100, has_data=has_data)
        + marks_sentence(marks),
        columns=[f"Start ({formats.zone_name()})", "Judged", "Bad", "Error budget left"],
        rows=rows,
        fields=["start", "judged", "bad", "remaining_ratio", "changes"],
        changes=marks.rows,
        records=records,
    )


def _burn_down_summary(bad: int, allowed_bad: float, remaining_ratio: float, *, has_data: bool) -> str:
    if not has_data:
        return "Nothing was judged in this window, so no error budget was spent."
    spent = f"{formats.count(bad)} bad of {formats.count(allowed_bad)} allowed"
    if remaining_ratio < 0:
        return f"{spent}: overspent by {formats.percent(-remaining_ratio)}."
    return f"{spent}: {formats.percent(remaining_ratio)} of the error budget is left."
