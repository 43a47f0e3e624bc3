"""What every chart has around its data: a figure's layout, its axes and ticks, labels at the ends of lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from budgets import formats
from budgets.histogram import AtLeast

from .values import Percentile, as_ms, naive

Size = Literal["large", "small"]
HEIGHT_PX: Final[dict[str, int]] = {"large": 300, "small": 190}
FONT_PX: Final = 12
_FONT: Final = "system-ui, -apple-system, Segoe UI, Roboto, Liberation Sans, sans-serif"
LABEL_GAP_PX: Final = 14  # two labels closer than this would lie on each other
_TIME_STEPS: Final = tuple(
    timedelta(minutes=minutes)
    for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 5760, 10080, 20160, 43200)
)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Chart:
    """A figure, what it shows in a sentence, its numbers as a table, and the same for programs.

    `columns` and `rows` are texts to be read. `records` are raw values under the names in `fields`, with
    their units in the names. `changes` are instant, kind and text of what is marked, for a table of its own.
    """

    data: list[dict[str, Any]]
    layout: dict[str, Any]
    summary: str
    columns: list[str]
    rows: list[list[str]]
    fields: list[str]
    records: list[list[Any]]
    changes: list[list[str]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """What the browser fetches to draw it."""
        return {
            "figure": {"data": self.data, "layout": self.layout},
            "summary": self.summary,
            "table": {"columns": self.columns, "rows": self.rows},
            "changes": {"columns": [f"At ({formats.zone_name()})", "Change", "What"], "rows": self.changes},
        }


def make_layout(
    *,
    size: Size,
    x: dict[str, Any],
    y: dict[str, Any],
    height: int | None = None,
    margin: dict[str, int] | None = None,
    narrow: dict[str, Any] | None = None,
    narrower: list[dict[str, Any]] | None = None,
    **rest: Any,
) -> dict[str, Any]:
    """The layout that all charts share. `narrow` is what a phone puts in place of the same keys; `narrower` are
    the shapes and annotations of charts below so many pixels, the widest first."""
    return {
        "height": height or HEIGHT_PX[size],
        "margin": margin or {"l": 64, "r": 96, "t": 14, "b": 28},
        "meta": {
            "narrow": narrow or {"margin": {"l": 58, "r": 86, "t": 14, "b": 28}},
            "narrower": narrower or [],
        },
        "font": {"size": FONT_PX, "color": "var(--ink-soft)", "family": _FONT},
        "paper_bgcolor": "var(--surface)",
        "plot_bgcolor": "var(--surface)",
        "showlegend": False,
        "dragmode": False,
        "hovermode": "x",
        "hoverlabel": {
            "bgcolor": "var(--surface)",
            "bordercolor": "var(--line-strong)",
            "font": {"color": "var(--ink)", "size": FONT_PX, "family": _FONT},
            "align": "left",
        },
        "uirevision": "kept",
        "xaxis": x,
        "yaxis": y,
        **rest,
    }


def axis(bounds: list[Any], labelled: Iterable[tuple[Any, str]], **rest: Any) -> dict[str, Any]:
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


def duration_axis(top_ms: float, unit: str, *, at_most: int) -> dict[str, Any]:
    size = formats.UNIT_MS[unit]
    return axis(
        [0, as_ms(top_ms)],
        [
            (as_ms(value * size), f"{formats.exact(value)}{formats.NBSP}{unit}")
            for value in steps(0, top_ms / size, at_most)
        ],
    )


def time_axis(start: datetime, end: datetime, *, room: timedelta = timedelta(0)) -> dict[str, Any]:
    return axis(
        [naive(start - room), naive(end)],
        [(naive(at), text) for at, text in time_ticks(start, end)],
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
    """Round instants of the reader's clock within a range, each with its text: the time, and the day where one begins.

    What the clock leaves out when it goes forward has no tick, and what it shows twice has one.
    """
    span = end - start
    step = next((s for s in _TIME_STEPS if span / s <= at_most), _TIME_STEPS[-1])
    epoch = datetime(2024, 1, 1)  # noqa: DTZ001 - of a wall clock; a Monday, so that steps of weeks begin on one
    wall = epoch + math.floor((_wall(start) - epoch) / step) * step
    found = []
    while (at := formats.from_wall_clock(wall)) <= end:
        if at >= start and _wall(at) == wall:
            is_day = step >= _DAY or (wall.hour == 0 and wall.minute == 0)
            found.append((at, f"{wall.day} {wall:%b}" if is_day else f"{wall:%H:%M}"))
        wall += step
    return found


def _wall(at: datetime) -> datetime:
    return formats.in_zone(at).replace(tzinfo=None)


def steps(low: float, high: float, at_most: int) -> list[float]:
    """Round numbers from `low` to `high`, zero among them where it is in between."""
    if high <= low:
        return [low]
    rough = (high - low) / at_most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def top_of(finite: Sequence[float], percentiles: Iterable[Percentile]) -> float:
    """The upper end of a duration axis. Timeouts count only where nothing finite is there to be read."""
    if not finite:
        finite = [v.ms for v in percentiles if isinstance(v, AtLeast)]
    return max(finite, default=1000.0) * 1.08 or 1.0


def end_labels(
    labels: Iterable[tuple[str, float | None]], top: float, plot_px: int, *, bottom: float = 0.0
) -> list[dict[str, Any]]:
    """Names at the right end of their lines instead of a legend, pushed apart where they would touch."""
    gap = LABEL_GAP_PX * (top - bottom) / plot_px
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
            "font": {"color": "var(--ink-soft)", "size": FONT_PX},
        }
        for text, value in placed
    ]


def empty_note(text: str) -> dict[str, Any]:
    return {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "text": text, "showarrow": False}
