"""How the durations of a milestone were spread over time: count as colour, percentiles and the limit as lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from budgets import formats
from budgets.histogram import AtLeast
from budgets.instants import rfc3339

from .frame import (
    FONT_PX,
    LABEL_GAP_PX,
    Chart,
    axis,
    empty_note,
    end_labels,
    make_layout,
    time_axis,
)
from .marks import Marker, Marks, draw_marks, marks_sentence, with_base
from .values import LINES, as_ms, as_raw, naive

if TYPE_CHECKING:
    from budgets.distributions import Distribution
    from budgets.tiles import Totals

HEATMAP_HEIGHT_PX: Final = 400
_MARGIN: Final = {"l": 64, "r": 96, "t": 14, "b": 84}
_STRIP_PX, _GAP_PX = 16, 6
_SHADES: Final = 9
_COLORS: Final = [[n / (_SHADES - 1), f"var(--heat-{n})"] for n in range(_SHADES)]
_QUANTILES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
_HALO_PX: Final = 1.5
_NO_GAP_PX: Final = 0.001
"""Without any gap Plotly draws an image that it gives an inline style, which the page's policy refuses."""
_DRAWN: Final = {
    # Across cells of every colour, so all in the ink's: they differ by dash and width.
    "p50": {"dash": "dot", "width": 1.75, "color": "var(--line-p99)"},
    "p95": {"dash": "dash", "width": 1.5, "color": "var(--line-p99)"},
    "p99": {"dash": "solid", "width": 1.75, "color": "var(--line-p99)"},
}
_NEAR_PX: Final = 6
"""As near to a line one points at it, and elsewhere at the cell below."""
_LEGEND_PX: Final = 198
_LEGEND_BELOW_PX: Final = 50


def duration_heatmap(
    distribution: Distribution, *, subject: str, limit_word: str, markers: Sequence[Marker] = ()
) -> Chart:
    """The durations of a milestone or component over time, how many of each as colour on a logarithmic scale.

    An empty cell has no colour, a single request has one that is seen. Timeouts have no duration that is known: they
    stand in a row of their own above all others. Errors are counted in the texts alone.
    """
    edges, totals = distribution.edges, distribution.totals
    start, end = edges[0], edges[-1]
    has_data = any(one.counts.total for one in totals)
    has_timeouts = any(one.counts.timeouts for one in totals)
    percentiles = {name: [one.quantile(q) for one in totals] for name, q in _QUANTILES.items()}
    low_ms, top_ms = _shown_bounds(distribution)
    unit = formats.column_unit([top_ms])
    most = max(
        [int(distribution.bands.counts.max(initial=0)), *(one.counts.timeouts for one in totals)], default=0
    )
    marks = draw_marks(markers, start=start, end=end, size="large")
    inner_px = HEATMAP_HEIGHT_PX - _MARGIN["t"] - _MARGIN["b"]
    labels_px = _label_rows(marks) * LABEL_GAP_PX
    strip_px = _STRIP_PX + _GAP_PX if has_timeouts else 0
    plot_px = inner_px - labels_px - strip_px
    legend, legend_labels = _legend(most)
    column_words = [formats.between(a, b) for a, b in pairwise(edges)]

    data: list[dict[str, Any]] = []
    if has_data:
        data.append(_cells(distribution, column_words))
        if has_timeouts:
            data.append(_timeouts(totals, edges, column_words))
    middles = [naive(a + (b - a) / 2) for a, b in pairwise(edges)]
    hover = _hover_texts(distribution, percentiles, column_words, limit_word=limit_word)
    for name, line in _DRAWN.items() if has_data else ():
        y = [None if v is None or isinstance(v, AtLeast) else as_ms(v) for v in percentiles[name]]
        data += _line_with_halo(name, middles, y, line, hover if name == "p99" else None)
    limits = [(at, ms) for at, ms in distribution.limits if ms is not None]
    if limits:
        x, y = _steps_of_limit(distribution)
        data += _line_with_halo(
            limit_word, x, y, {"dash": "8px,5px", "width": 2, "color": "var(--breached)", "shape": "hv"}, None
        )
    beyond = [i for i, v in enumerate(percentiles["p99"]) if isinstance(v, AtLeast)]
    if beyond:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "p99 among timeouts",
                "x": [middles[i] for i in beyond],
                "y": [as_ms(top_ms / 1.03) for _ in beyond],
                "marker": {"symbol": "triangle-up", "size": 9, "color": "var(--breached)"},
                "hoverinfo": "text",
                "hovertext": [hover[i] for i in beyond],
            }
        )

    ends: list[tuple[str, float | None]] = [(name, _last(percentiles[name])) for name, _ in LINES]
    if limits and distribution.limits[-1][1] is not None:
        ends.append((f"limit {formats.limit(limits[-1][1])}", limits[-1][1]))
    low, top = math.log10(low_ms), math.log10(top_ms)
    layout = make_layout(
        size="large",
        height=HEATMAP_HEIGHT_PX,
        margin=_MARGIN,
        narrow={"margin": {**_MARGIN, "l": 58, "r": 86}},
        x=time_axis(start, end) | {"showspikes": False},
        y=axis(
            [round(low, 5), round(top, 5)],
            [(value, formats.limit(value)) for value in log_ticks(low_ms, top_ms)],
            type="log",
            domain=[0, round(plot_px / inner_px, 4)],
        ),
        **with_base(
            marks,
            [
                *end_labels(
                    [(text, None if ms is None or ms <= 0 else math.log10(ms)) for text, ms in ends],
                    top,
                    plot_px,
                    bottom=low,
                ),
                *(legend_labels if has_data else [empty_note("Nothing was measured in this range.")]),
            ],
            legend if has_data else (),
        ),
        **(_timeout_axis(plot_px + _GAP_PX, inner_px) if has_timeouts else {}),
        coloraxis=_color_axis(most),
        hovermode="closest",
        hoverdistance=_NEAR_PX,
    )
    return Chart(
        data=data,
        layout=layout,
        summary=_summary(distribution, percentiles["p99"], subject=subject, limit_word=limit_word)
        + marks_sentence(marks),
        columns=[
            f"Start ({formats.zone_name()})",
            "Measured",
            "p50",
            "p95",
            "p99",
            "Slowest",
            limit_word.capitalize(),
            "Over",
            "Errors",
            "Timeouts",
        ],
        rows=[
            [
                formats.instant(edges[n], zone=False),
                formats.count(one.counts.total),
                *(
                    formats.duration(percentiles[name][n], unit=unit, near=distribution.limit_at(edges[n]))
                    for name, _ in LINES
                ),
                formats.duration(one.max_ok_ms, unit=unit, near=distribution.limit_at(edges[n])),
                formats.limit(distribution.limit_at(edges[n]), unit=unit),
                formats.count(one.counts.over),
                formats.count(one.counts.errors),
                formats.count(one.counts.timeouts),
            ]
            for n, one in enumerate(totals)
            if one.counts.total
        ],
        fields=["start", "end", "status", "over_ms", "up_to_ms", "count"],
        records=_records(distribution),
        changes=marks.rows,
    )


def log_ticks(low_ms: float, top_ms: float) -> list[float]:
    """Round durations between two bounds on a logarithmic axis: nine at most, of as many of each power of ten as that
    allows.

    >>> log_ticks(90, 2200)
    [100.0, 200.0, 500.0, 1000.0, 2000.0]
    """
    powers = range(math.floor(math.log10(low_ms)), math.ceil(math.log10(top_ms)) + 1)
    factors: tuple[float, ...]
    for factors in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,)):
        found = [
            round(factor * 10.0**power, 9)
            for power in powers
            for factor in factors
            if low_ms <= factor * 10.0**power <= top_ms
        ]
        if len(found) <= 9:
            return found
    return found[:: math.ceil(len(found) / 9)]


# -- what is drawn ----------------------------------------------------------------------------------


def _cells(distribution: Distribution, column_words: Sequence[str]) -> dict[str, Any]:
    bands, edges = distribution.bands, distribution.edges
    bounds = bands.bounds_ms.tolist()
    words = [
        _band_words(bounds[k], bounds[k + 1], is_open=k == 0 and bands.is_open_below)
        for k in range(len(bounds) - 1)
    ]
    by_band = bands.counts.T.tolist()
    return {
        "type": "heatmap",
        "name": "requests",
        "x": [naive(at) for at in edges],
        "y": [as_ms(bound) for bound in bounds],
        "z": [[_shade(count) for count in row] for row in by_band],
        "hovertext": [
            [
                f"{column_words[n]}<br>{_requests(count)} {words[k]}" if count else ""
                for n, count in enumerate(row)
            ]
            for k, row in enumerate(by_band)
        ],
        "hoverinfo": "text",
        "hoverongaps": False,
        "zsmooth": False,
        "xgap": _NO_GAP_PX,
        "coloraxis": "coloraxis",
    }


def _timeouts(
    totals: Sequence[Totals], edges: Sequence[datetime], column_words: Sequence[str]
) -> dict[str, Any]:
    """The row above all durations: a timeout is known to have taken so long at least, and no more."""
    texts = []
    for words, one in zip(column_words, totals, strict=True):
        known = (
            "" if one.min_timeout_ms is None else f", after {formats.duration(one.min_timeout_ms)} or more"
        )
        texts.append(
            f"{words}<br>{_requests(one.counts.timeouts)} timed out{known}" if one.counts.timeouts else ""
        )
    return {
        "type": "heatmap",
        "name": "timed out",
        "x": [naive(at) for at in edges],
        "y": [0, 1],
        "yaxis": "y2",
        "z": [[_shade(one.counts.timeouts) for one in totals]],
        "hovertext": [texts],
        "hoverinfo": "text",
        "hoverongaps": False,
        "zsmooth": False,
        "xgap": _NO_GAP_PX,
        "coloraxis": "coloraxis",
    }


def _timeout_axis(bottom_px: int, inner_px: int) -> dict[str, Any]:
    strip = axis(
        [0, 1],
        [(0.5, "timeout")],
        domain=[round(bottom_px / inner_px, 4), round((bottom_px + _STRIP_PX) / inner_px, 4)],
        showgrid=False,
        anchor="x",
    )
    return {"yaxis2": strip}


def _line_with_halo(
    name: str, x: list[str], y: list[float | None], line: dict[str, Any], hover: list[str] | None
) -> list[dict[str, Any]]:
    """A line, and a wider one of the background below it: it crosses cells of every colour."""
    shared = {"type": "scatter", "x": x, "y": y, "connectgaps": False}
    halo = {
        **shared,
        "mode": "lines",
        "name": f"{name}, halo",
        "line": {
            "width": line["width"] + _HALO_PX,
            "color": "var(--surface)",
            "shape": line.get("shape", "linear"),
        },
        "hoverinfo": "skip",
    }
    lonely = [
        v is not None and (n == 0 or y[n - 1] is None) and (n + 1 == len(y) or y[n + 1] is None)
        for n, v in enumerate(y)
    ]
    drawn: dict[str, Any] = {
        **shared,
        "mode": "lines+markers",
        "name": name,
        "line": line,
        "hoverinfo": "skip",
    }
    # A value between two gaps has no line to be seen by.
    drawn["marker"] = {
        "size": [6 if one else 0 for one in lonely],
        "color": line["color"],
        "line": {"width": 1, "color": "var(--surface)"},
    }
    if hover is not None:
        drawn |= {"hoverinfo": "text", "hovertext": hover}
    return [halo, drawn]


def _steps_of_limit(distribution: Distribution) -> tuple[list[str], list[float | None]]:
    limits = [*distribution.limits, (distribution.edges[-1], distribution.limits[-1][1])]
    return [naive(at) for at, _ in limits], [as_ms(ms) for _, ms in limits]


def _color_axis(most: int) -> dict[str, Any]:
    """From one request to the most that a cell has, each power of ten as far from the next."""
    # Plotly's own colour bar sets inline styles, which the page's policy refuses: see `_legend`.
    return {"cmin": 0, "cmax": _top_shade(most), "colorscale": _COLORS, "showscale": False}


def _top_shade(most: int) -> float:
    return round(math.log10(max(most, 10)), 3)


def _legend(most: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The colours below the time axis, first shapes and then their texts."""
    top = _top_shade(most)
    shapes = [
        {
            "type": "rect",
            "xref": "paper",
            "yref": "paper",
            "xsizemode": "pixel",
            "ysizemode": "pixel",
            "xanchor": 0,
            "yanchor": 0,
            "x0": n * _LEGEND_PX / _SHADES,
            "x1": (n + 1) * _LEGEND_PX / _SHADES,
            "y0": -_LEGEND_BELOW_PX,
            "y1": -_LEGEND_BELOW_PX - 8,
            "fillcolor": f"var(--heat-{n})",
            "line": {"width": 0},
        }
        for n in range(_SHADES)
    ]
    counts = [10**power for power in range(math.floor(top) + 1)]
    every = math.ceil(len(counts) / 5)
    texts = [
        (round(math.log10(count) / top * _LEGEND_PX), formats.count(count), "center" if count > 1 else "left")
        for count in counts[::every]
    ]
    labels = [
        {
            "xref": "paper",
            "yref": "paper",
            "x": 0,
            "y": 0,
            "xanchor": anchor,
            "yanchor": "top",
            "xshift": x_px,
            "yshift": y_px,
            "text": text,
            "showarrow": False,
            "borderpad": 0,
            "font": {"color": "var(--ink-soft)", "size": FONT_PX - 1},
        }
        for x_px, y_px, text, anchor in (
            (0, -_LEGEND_BELOW_PX + 16, "Requests in a cell", "left"),
            *((x_px, -_LEGEND_BELOW_PX - 9, text, anchor) for x_px, text, anchor in texts),
        )
    ]
    return shapes, labels


def _shown_bounds(distribution: Distribution) -> tuple[float, float]:
    """The ends of the duration axis: all that was measured, the limit among it, and never less than fourfold."""
    bounds = distribution.bands.bounds_ms.tolist()
    known = [*bounds[:1], *bounds[-1:], *(ms for _, ms in distribution.limits if ms)]
    known += [
        one.at_least_ms
        for one in distribution.totals
        if one.counts.timeouts and one.at_least_ms and not bounds
    ]
    if not known:
        return 100.0, 10_000.0
    low, top = min(known) / 1.06, max(known) * 1.12
    room = max(1.0, math.sqrt(4 / (top / low)))
    return low / room, top * room


def _label_rows(marks: Marks) -> int:
    every = [marks.annotations, *(labels for _, _, labels in marks.narrower)]
    return max((1 - label["yshift"] // LABEL_GAP_PX for labels in every for label in labels), default=0)


def _shade(count: int) -> float | None:
    return round(math.log10(count), 3) if count else None


def _last(values: Iterable[Any]) -> float | None:
    return next(
        (float(v) for v in reversed(list(values)) if v is not None and not isinstance(v, AtLeast)), None
    )


# -- what is said -----------------------------------------------------------------------------------


def _band_words(low_ms: float, top_ms: float, *, is_open: bool) -> str:
    """ "1.2–1.6 s"."""
    unit = formats.unit_of([top_ms])
    size = formats.UNIT_MS[unit]
    top = formats.duration(top_ms, unit=unit)
    return f"up to {top}" if is_open else f"{formats.significant(low_ms / size)}–{top}"


def _requests(count: int) -> str:
    return f"{formats.count(count)} {'request' if count == 1 else 'requests'}"


def _hover_texts(
    distribution: Distribution,
    percentiles: dict[str, list[Any]],
    column_words: Sequence[str],
    *,
    limit_word: str,
) -> list[str]:
    texts = []
    for n, one in enumerate(distribution.totals):
        limit = distribution.limit_at(distribution.edges[n])
        unit = formats.unit_of([limit, percentiles["p99"][n]])
        lines = [
            column_words[n],
            " · ".join(
                f"{name} {formats.duration(percentiles[name][n], unit=unit, near=limit)}"
                for name, _ in reversed(LINES)
            ),
        ]
        counted = f"{formats.count(one.counts.total)} measured"
        if limit is not None:
            lines.append(f"{limit_word} {formats.limit(limit)}")
            counted = f"{formats.count(one.counts.over)} of {formats.count(one.counts.total)} over"
        if one.counts.timeouts:
            counted += f", {formats.count(one.counts.timeouts)} timed out"
        if one.counts.errors:
            counted += f", {formats.count(one.counts.errors)} failed"
        texts.append("<br>".join([*lines, counted]))
    return texts


def _summary(distribution: Distribution, p99: Sequence[Any], *, subject: str, limit_word: str) -> str:
    totals, edges = distribution.totals, distribution.edges
    total = sum(one.counts.total for one in totals)
    if not total:
        return f"{formats.name(subject)}: nothing was measured in this range."
    parts = [f"{formats.name(subject)}: {_requests(total)}"]
    ranked = [n for n, value in enumerate(p99) if value is not None]
    if ranked:
        worst = max(ranked, key=lambda n: 1e15 + p99[n].ms if isinstance(p99[n], AtLeast) else p99[n])
        limit = distribution.limit_at(edges[worst])
        parts.append(
            f". Slowest p99 {formats.duration(p99[worst], near=limit)} at {formats.instant(edges[worst])}"
        )
        judged = [n for n in ranked if distribution.limit_at(edges[n]) is not None]
        if judged:
            above = sum(
                isinstance(p99[n], AtLeast) or p99[n] > (distribution.limit_at(edges[n]) or 0.0)
                for n in judged
            )
            parts.append(
                f"; p99 over the {limit_word} in {formats.count(above)} of {formats.count(len(judged))} columns"
            )
    timeouts = sum(one.counts.timeouts for one in totals)
    errors = sum(one.counts.errors for one in totals)
    if timeouts:
        parts.append(f". {_requests(timeouts)} timed out, shown above all durations")
    if errors:
        parts.append(f". {_requests(errors)} failed and {'has' if errors == 1 else 'have'} no place here")
    return "".join(parts) + "."


def _records(distribution: Distribution) -> list[list[Any]]:
    """A record for each cell that is not empty, and for the timeouts of each column."""
    bounds = [round(bound, 4) for bound in distribution.bands.bounds_ms.tolist()]
    records: list[list[Any]] = []
    for n, (start, end) in enumerate(pairwise(distribution.edges)):
        for k, count in enumerate(distribution.bands.counts[n].tolist()):
            if count:
                above = 0.0 if k == 0 and distribution.bands.is_open_below else bounds[k]
                records.append([rfc3339(start), rfc3339(end), "ok", above, bounds[k + 1], count])
        one = distribution.totals[n]
        if one.counts.timeouts:
            records.append(
                [
                    rfc3339(start),
                    rfc3339(end),
                    "timeout",
                    as_raw(one.min_timeout_ms),
                    None,
                    one.counts.timeouts,
                ]
            )
    return records
