"""What happened meanwhile, as lines across a chart over time: each named where there is room, many by their number."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from budgets import formats

from .frame import FONT_PX, LABEL_GAP_PX, Size
from .values import naive, plain


@dataclass(frozen=True)
class Marker:
    """Something that happened at an instant: a new version, a deploy, an incident that opened.

    `text` is its label, `what` the kind of thing that it is, and `detail` all of it, the label where that says all.
    A step is always named by itself; what is none is counted together with its neighbours where there are many.
    """

    at: datetime
    text: str
    color: str = "var(--ink-soft)"
    what: str = ""
    detail: str = ""
    is_step: bool = False

    @property
    def words(self) -> str:
        """Kind and all of the text: "Deploy: v412"."""
        return ": ".join(part for part in (self.what, self.detail or self.text) if part)


@dataclass(frozen=True)
class Marks:
    """What a layout gets: shapes and annotations of the widest place, and those of narrower ones: (below how many
    pixels, shapes, annotations), the widest first.

    `rows` are instant, kind and text of each, for the table.
    """

    shapes: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    narrower: list[tuple[int, list[dict[str, Any]], list[dict[str, Any]]]] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


# Pixels of a chart, below which its labels are those of a narrower one → pixels that its plot has at least.
WIDTHS: Final = ((900, 440), (600, 260), (420, 150))
WIDEST_PX: Final[dict[Size, int]] = {"large": 740, "small": 260}
_LEVELS: Final[dict[Size, int]] = {"large": 4, "small": 3}
_LINE_GAP_PX: Final = 4  # lines closer than this would be one blot
_LABEL_OFF_PX: Final = 3
_WIDE_PX, _USUAL_PX = 11.5, 6.6  # a character at this size, rather too wide than too narrow
_LONG, _SHORT = 24, 12
_HOVER_LINES: Final = 8
_LINED: Final = 3
# Neighbours that are closer than one of these many pixels are counted together: the first with which all labels fit.
_TOGETHER_PX: Final = (8, 24, 48, 96, 192, 100_000)


def draw_marks(markers: Sequence[Marker], *, start: datetime, end: datetime, size: Size) -> Marks:
    """The markers within (start, end], drawn for each width that a chart may have."""
    shown = sorted((one for one in markers if start < one.at <= end), key=lambda one: one.at)
    if not shown:
        return Marks()
    widest = WIDEST_PX[size]
    shapes, annotations = _drawn(shown, start, end, widest, size)
    return Marks(
        shapes=shapes,
        annotations=annotations,
        narrower=[
            (below_px, *_drawn(shown, start, end, plot_px, size))
            for below_px, plot_px in WIDTHS
            if plot_px < widest
        ],
        rows=[[formats.instant(one.at, zone=False), one.what, one.detail or one.text] for one in shown],
    )


def with_base(
    marks: Marks, annotations: Sequence[dict[str, Any]], shapes: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Parts of a layout: the marks, with the annotations and shapes that a chart has at every width."""
    parts: dict[str, Any] = {
        "shapes": [*shapes, *marks.shapes],
        "annotations": [*annotations, *marks.annotations],
    }
    if marks.narrower:
        parts["narrower"] = [
            {"below_px": below_px, "shapes": [*shapes, *lines], "annotations": [*annotations, *labels]}
            for below_px, lines, labels in marks.narrower
        ]
    return parts


def marks_by_step(
    markers: Sequence[Marker], starts: Sequence[datetime], step: timedelta
) -> Callable[[int], str]:
    """What happened within each step, for programs: "Deploy: v412 | Note: cache cleared"."""
    found: dict[int, list[str]] = {}
    for one in sorted(markers, key=lambda marker: marker.at):
        i = bisect_right(starts, one.at) - 1
        if i >= 0 and one.at < starts[i] + step:
            found.setdefault(i, []).append(one.words)
    return lambda i: " | ".join(found.get(i, ()))


def marks_sentence(marks: Marks) -> str:
    """For the summary: " 3 changes are marked."."""
    count = len(marks.rows)
    if not count:
        return ""
    return f" {formats.count(count)} {'change is' if count == 1 else 'changes are'} marked."


# -- labels -----------------------------------------------------------------------------------------


class _Rows:
    """Rows of labels under the upper edge: which pixels of each are taken."""

    def __init__(self, plot_px: int, levels: int) -> None:
        self._plot_px = plot_px
        self._taken: list[list[tuple[float, float]]] = [[] for _ in range(levels)]

    def place(self, at_px: float, text: str) -> tuple[int, str] | None:
        """The level and the anchor of a label beside its line, on the side with more room first; None where all of
        it is taken."""
        width = _width(text)
        right = (at_px + _LABEL_OFF_PX, at_px + _LABEL_OFF_PX + width, "left")
        left = (at_px - _LABEL_OFF_PX - width, at_px - _LABEL_OFF_PX, "right")
        sides = (right, left) if at_px <= self._plot_px / 2 else (left, right)
        for level, taken in enumerate(self._taken):
            for low, high, anchor in sides:
                is_inside = low >= 0 and high <= self._plot_px
                if is_inside and all(high < a or low > b for a, b in taken):
                    taken.append((low, high))
                    return level, anchor
        return None


def _drawn(
    shown: Sequence[Marker], start: datetime, end: datetime, plot_px: int, size: Size
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Lines and labels, as many of them by themselves as have room."""
    at_most = _SHORT if plot_px < WIDEST_PX["small"] else _LONG
    steps = [one for one in shown if one.is_step]
    others = [one for one in shown if not one.is_step]
    found: list[dict[str, Any]] = []
    groups: list[list[Marker]] = []
    for together_px in _TOGETHER_PX:
        # A row more than there are steps, so that a number always finds its place.
        rows = _Rows(plot_px, max(_LEVELS[size], len(steps) + 1))
        found = []
        is_fit = True
        groups = [*([one] for one in steps), *_groups(others, start, end, plot_px, together_px)]
        for group in groups:
            at_px = _px(group[0].at, start, end, plot_px)
            text = f"{len(group)} changes"
            if (name := _common_name(group)) is not None:
                text = _cut(name, at_most)
                if not group[0].is_step:
                    text = _fitting(text, max(at_px, plot_px - at_px) - _LABEL_OFF_PX)
            place = rows.place(at_px, text)
            is_fit = is_fit and place is not None
            found.append(_label(group, text, *(place or (0, "left"))))
        if is_fit:
            break
    # Of many that are told by their number, the first and the last: between them lines would hide what was measured.
    lined = [one for group in groups for one in (group if len(group) <= _LINED else (group[0], group[-1]))]
    lined.sort(key=lambda one: one.at)
    return [_line(one) for one in _apart(lined, start, end, plot_px)], found


def _common_name(group: Sequence[Marker]) -> str | None:
    """The name of one alone, and that of a release beside the deploy that brought it: "v411", "v411: longer prompts"."""
    first, *rest = sorted((one.text for one in group), key=len)
    return first if all(text.startswith((f"{first}:", f"{first} ")) for text in rest) else None


def _groups(
    markers: Sequence[Marker], start: datetime, end: datetime, plot_px: int, together_px: float
) -> list[list[Marker]]:
    """Neighbours together, none of them that far from the first."""
    groups: list[list[Marker]] = []
    for one in markers:
        at_px = _px(one.at, start, end, plot_px)
        if groups and at_px - _px(groups[-1][0].at, start, end, plot_px) < together_px:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _label(group: Sequence[Marker], text: str, level: int, anchor: str) -> dict[str, Any]:
    lines = [f"{formats.instant(one.at)} · {_cut(one.words, 80)}" for one in group[:_HOVER_LINES]]
    if len(group) > _HOVER_LINES:
        lines.append(f"and {len(group) - _HOVER_LINES} more, in the numbers")
    return {
        "x": naive(group[0].at),
        "xanchor": anchor,
        "xshift": -_LABEL_OFF_PX if anchor == "right" else _LABEL_OFF_PX,
        "yref": "paper",
        "y": 1,
        "yanchor": "top",
        "yshift": -level * LABEL_GAP_PX,
        "text": plain(text),
        "hovertext": "<br>".join(plain(line) for line in lines),
        "hoverlabel": {
            "bgcolor": "var(--surface)",
            "bordercolor": "var(--line-strong)",
            "font": {"color": "var(--ink)", "size": FONT_PX},
        },
        "showarrow": False,
        "bgcolor": "var(--surface)",
        "borderpad": 0,
        "font": {"color": "var(--ink)", "size": FONT_PX - 1},
    }


def _apart(shown: Sequence[Marker], start: datetime, end: datetime, plot_px: int) -> list[Marker]:
    """Those whose lines can be told apart; steps always."""
    found: list[Marker] = []
    last_px = float("-inf")
    for one in shown:
        at_px = _px(one.at, start, end, plot_px)
        if one.is_step or at_px - last_px >= _LINE_GAP_PX:
            found.append(one)
            last_px = at_px
    return found


def _line(marker: Marker) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": naive(marker.at),
        "x1": naive(marker.at),
        "y0": 0,
        "y1": 1,
        "line": {"color": marker.color, "dash": "dot", "width": 1.5 if marker.is_step else 1.25},
    }


def _px(at: datetime, start: datetime, end: datetime, plot_px: int) -> float:
    return (at - start) / (end - start) * plot_px


def _cut(text: str, at_most: int) -> str:
    return text if len(text) <= at_most else f"{text[: at_most - 1].rstrip()}…"


def _fitting(text: str, room_px: float) -> str:
    """As much of it as has room; the half of a plot that is wider has room for some of any text."""
    at_most = len(text)
    while _width(cut := _cut(text, at_most)) > room_px and at_most > 1:
        at_most -= 1
    return cut


def _width(text: str) -> float:
    return sum(_WIDE_PX if unicodedata.east_asian_width(c) in "WF" else _USUAL_PX for c in text)
