"""How an error budget was spent over its window."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from budgets import formats
from budgets.burn_rates import error_budget
from budgets.exhaustion import PACE_HOURS, Forecast
from budgets.instants import rfc3339

from .frame import HEIGHT_PX, Chart, axis, empty_note, end_labels, make_layout, steps, time_axis
from .marks import Marker, draw_marks, marks_by_step, marks_sentence, with_base
from .values import naive

if TYPE_CHECKING:
    from budgets.status import TimeSeries

_HOUR: Final = timedelta(hours=1)
_SHOWN_AHEAD: Final = 0.25  # of the window, at most
_FEW_BAD: Final = 100
"""Below so many, the interval of what a pace comes to is too wide to leave it out."""
_DEEPEST: Final = -200.0  # per cent of an error budget; the axis goes no further down


def burn_down(
    series: TimeSeries,
    *,
    objective: Decimal,
    window_end: datetime,
    forecast: Forecast | None = None,
    markers: Sequence[Marker] = (),
) -> Chart:
    """How the error budget of the objective's window was spent: from 100 % down, below zero where overspent.

    A dotted line goes on as the forecast does, over a quarter of the window at most.

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
    ahead = _ahead(forecast, window_end - start) if forecast and sum(judged) else 0
    shown_end = window_end + ahead * _HOUR
    coming = [round(float(ratio) * 100, 4) for ratio in forecast.remaining_ratio[:ahead]] if forecast else []
    # Overspent twenty times over, the rest of the chart would be a line at its upper edge.
    low = max(min(0.0, *y, *coming), _DEEPEST)
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
    if coming and forecast:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "at this pace",
                "x": [x[-1], *(naive(window_end + n * _HOUR) for n in range(1, ahead + 1))],
                "y": [remaining, *coming],
                "line": {"dash": "dot", "width": 2, "color": "var(--line-p99)"},
                "hoverinfo": "text",
                "hovertext": [
                    f"{formats.instant(window_end + n * _HOUR)}<br>{formats.percent(ratio / 100)} left at the pace of "
                    f"the last {PACE_HOURS} hours"
                    for n, ratio in enumerate([remaining, *coming])
                ],
            }
        )
    ticks = steps(bottom, 100, 5)
    has_data = sum(judged) > 0
    marks = draw_marks(markers, start=start, end=shown_end, size="large")
    layout = make_layout(
        size="large",
        x=time_axis(start, shown_end),
        y=axis(
            [bottom, 106],
            [(value, f"{formats.exact(value)}{formats.NBSP}%") for value in ticks],
            zeroline=True,
        ),
        **with_base(
            marks,
            [
                *end_labels(
                    [("at this pace", coming[-1])] if coming else [("left", remaining), ("even pace", 0.0)],
                    106,
                    HEIGHT_PX["large"] - 42,
                    bottom=bottom,
                ),
                *([] if has_data else [empty_note("Nothing was judged in this window.")]),
            ],
            [_now_line(window_end)] if coming else (),
        ),
    )
    return Chart(
        data=data if has_data else [],
        layout=layout,
        summary=_burn_down_summary(sum(bad), allowed_bad, remaining / 100, has_data=has_data)
        + (f" {forecast_sentence(forecast, window_end)}" if has_data else "")
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
    allowed = formats.count(allowed_bad) if allowed_bad >= 10 else formats.significant(allowed_bad)
    spent = f"{formats.count(bad)} bad of {allowed} allowed"
    if remaining_ratio < 0:
        return f"{spent}: overspent by {formats.percent(-remaining_ratio)}."
    return f"{spent}: {formats.percent(remaining_ratio)} of the error budget is left."


# -- what is to come --------------------------------------------------------------------------------


def _ahead(forecast: Forecast, window: timedelta) -> int:
    """How many hours of the forecast are drawn: until the error budget is gone or there again, and a little more."""
    most = int(window * _SHOWN_AHEAD / _HOUR)
    turns = forecast.turns_in_hours
    return most // 2 if turns is None or turns > most else min(most, max(turns + turns // 4, most // 4))


def _now_line(at: datetime) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": naive(at),
        "x1": naive(at),
        "y0": 0,
        "y1": 1,
        "line": {"color": "var(--line-strong)", "width": 1},
    }


def turning(forecast: Forecast, at: datetime) -> datetime | None:
    """The hour at which the error budget is gone, or there again, at this pace."""
    return _hour_in(forecast.turns_in_hours, at)


def forecast_sentence(forecast: Forecast | None, at: datetime) -> str:
    """When the error budget is used up if it goes on like this, with the interval of it where few were bad."""
    if forecast is None:
        return f"Nothing was judged in the last {PACE_HOURS} hours, so there is no pace to go on with."
    pace = f"At the pace of the last {PACE_HOURS} hours"
    when = turning(forecast, at)
    if forecast.is_exhausted:
        if when is None:
            return f"It is used up, and {pace[:1].lower()}{pace[1:]} stays so{_interval(forecast, at)}."
        return f"It is used up. {pace} some of it is there again on {formats.coming(when)}{_interval(forecast, at)}."
    if when is None:
        return f"{pace} it lasts{_interval(forecast, at)}."
    return f"{pace} it is used up on {formats.coming(when)}{_interval(forecast, at)}."


def _interval(forecast: Forecast, at: datetime) -> str:
    """What chance leaves open: 95 % of the paces that may be behind so few bad requests."""
    bounds = (forecast.earliest_hours, forecast.latest_hours)
    if forecast.bad >= _FEW_BAD or bounds == (forecast.turns_in_hours, forecast.turns_in_hours):
        return ""
    counted = f"{formats.count(forecast.bad)} bad {'request' if forecast.bad == 1 else 'requests'}"
    earliest, latest = (_hour_in(hours, at) for hours in bounds)
    if earliest is None:
        return f", as far as {counted} can tell"
    if latest is None:
        return f"; from {counted} it may be as early as {formats.coming(earliest)}, or not at all"
    return f"; from {counted} it may be between {formats.coming(earliest)} and {formats.coming(latest)}"


def _hour_in(hours: int | None, at: datetime) -> datetime | None:
    """Whole hours from now, to the hour: nothing finer is known."""
    return None if hours is None else (at + hours * _HOUR).replace(minute=0, second=0, microsecond=0)
