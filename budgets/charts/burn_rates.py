"""How fast an error budget was spent, by the two windows of a burn-rate tier."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from budgets import formats
from budgets.instants import rfc3339

from .frame import HEIGHT_PX, Chart, axis, empty_note, end_labels, make_layout, steps, time_axis
from .marks import Marker, Marks, draw_marks, marks_sentence, with_base
from .values import naive

if TYPE_CHECKING:
    from budgets.burn_histories import BurnHistory

_HIGHEST: Final = 2.5
"""Of the threshold: for a spike of the short window the axis goes no further, or everything below would be flat."""
_MARGIN: Final = {"l": 44, "r": 62, "t": 14, "b": 28}


def burn_rate_lines(history: BurnHistory, *, markers: Sequence[Marker] = ()) -> Chart:
    """The burn rates of a tier's long and short window over time, its threshold, and where both were over it."""
    tier, at = history.tier, history.at
    title = f"{formats.window_words(tier.long)} and {formats.window_words(tier.short)}"
    long = [None if value != value else float(value) for value in history.long.tolist()]
    short = [None if value != value else float(value) for value in history.short.tolist()]
    known = [value for value in [*long, *short] if value is not None]
    spike = max((value for value in short if value is not None), default=0.0)
    matters = max((value for value in long if value is not None), default=0.0)
    top = max(1.5 * tier.factor, 1.08 * matters, min(1.08 * spike, _HIGHEST * tier.factor))
    hover = [
        "<br>".join(
            [
                formats.instant(instant),
                f"{formats.window_words(tier.long)} {_rate(a, tier.factor)} · "
                f"{formats.window_words(tier.short)} {_rate(b, tier.factor)}",
                "both over the threshold" if over else f"threshold {formats.burn_rate(tier.factor)}",
            ]
        )
        for instant, a, b, over in zip(at, long, short, history.is_over.tolist(), strict=True)
    ]
    x = [naive(instant) for instant in at]
    marks = draw_marks(markers, start=at[0], end=at[-1], size="small") if at else Marks()
    note = (
        ""
        if known
        else ("Nothing was judged in this range." if at else "Not kept at this resolution any more.")
    )
    layout = make_layout(
        size="small",
        margin=_MARGIN,
        narrow={"margin": _MARGIN},
        x=time_axis(at[0], at[-1]) if at else {},
        y=axis(
            [0, round(top, 4)],
            [(value, f"{formats.exact(value)}×") for value in steps(0, top, 3)],
        ),
        **with_base(
            marks,
            [
                *end_labels(
                    [
                        (tier.long, _last(long)),
                        (tier.short, _last(short)),
                        (formats.burn_rate(tier.factor), tier.factor),
                    ],
                    top,
                    HEIGHT_PX["small"] - 42,
                ),
                *([empty_note(note)] if note else []),
            ],
            [_band(begin, end, history) for begin, end in history.times_over],
        ),
    )
    return Chart(
        data=_lines(history, x, long, short, hover) if at else [],
        layout=layout,
        summary=_summary(history, long, title, note) + marks_sentence(marks),
        columns=[f"Up to ({formats.zone_name()})", f"Last {tier.long}", f"Last {tier.short}", "Both over"],
        rows=[
            [
                formats.instant(instant, zone=False),
                _rate(a, tier.factor),
                _rate(b, tier.factor),
                "yes" if over else "no",
            ]
            for instant, a, b, over in zip(at, long, short, history.is_over.tolist(), strict=True)
            if a is not None or b is not None
        ],
        fields=["up_to", "long_burn_rate", "short_burn_rate", "threshold", "is_over"],
        records=[
            [rfc3339(instant), a, b, tier.factor, over]
            for instant, a, b, over in zip(at, long, short, history.is_over.tolist(), strict=True)
        ],
        changes=marks.rows,
    )


def _lines(
    history: BurnHistory,
    x: list[str],
    long: list[float | None],
    short: list[float | None],
    hover: list[str],
) -> list[dict[str, Any]]:
    shared = {"type": "scatter", "mode": "lines", "connectgaps": False}
    tier = history.tier
    return [
        {
            **shared,
            "name": tier.short,
            "x": x,
            "y": [None if value is None else round(value, 4) for value in short],
            "line": {"dash": "dot", "width": 1.25, "color": "var(--line-p95)"},
            "hoverinfo": "skip",
        },
        {
            **shared,
            "name": tier.long,
            "x": x,
            "y": [None if value is None else round(value, 4) for value in long],
            "line": {"dash": "solid", "width": 1.75, "color": "var(--line-p99)"},
            "hoverinfo": "text",
            "hovertext": hover,
        },
        {
            **shared,
            "name": "threshold",
            "x": [x[0], x[-1]],
            "y": [tier.factor, tier.factor],
            "line": {"dash": "8px,5px", "width": 1.5, "color": "var(--breached)"},
            "hoverinfo": "skip",
        },
    ]


def _band(begin: datetime, end: datetime, history: BurnHistory) -> dict[str, Any]:
    """Behind the lines, and never so narrow that it is not seen."""
    span = history.at[-1] - history.at[0]
    usual = history.at[1] - history.at[0] if len(history.at) > 1 else span
    room = max(usual / 2, span / 300)
    return {
        "type": "rect",
        "xref": "x",
        "yref": "paper",
        "layer": "below",
        "x0": naive(max(begin - room, history.at[0])),
        "x1": naive(min(end + room, history.at[-1])),
        "y0": 0,
        "y1": 1,
        "fillcolor": "var(--breached-tint)",
        "line": {"width": 0},
    }


def _summary(history: BurnHistory, long: list[float | None], title: str, note: str) -> str:
    if note:
        return f"{title}: {note[:1].lower()}{note[1:]}"
    threshold = formats.burn_rate(history.tier.factor)
    span = formats.lasting((history.at[-1] - history.at[0]).total_seconds())
    times = history.times_over
    highest = max((value for value in long if value is not None), default=0.0)
    if not times:
        return (
            f"{title}: never both over {threshold} within {span}; the long one reached "
            f"{_rate(highest, history.tier.factor)}."
        )
    begin, end = times[-1]
    still = " and they still are" if end == history.at[-1] else f", up to {formats.instant(end)}"
    often = "once" if len(times) == 1 else f"{formats.count(len(times))} times"
    return (
        f"{title}: both over {threshold} {often} within {span}, last from {formats.instant(begin)}{still}; the long one "
        f"reached {_rate(highest, history.tier.factor)}."
    )


def _rate(value: float | None, factor: float) -> str:
    return formats.burn_rate(value, near=factor)


def _last(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)
