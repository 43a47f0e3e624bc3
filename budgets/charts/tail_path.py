"""The latency budget in its parts, over the mean time of the parts of requests near the p99."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from budgets import formats

from .allocation import bars
from .frame import FONT_PX, Chart, axis, duration_axis, empty_note, make_layout
from .values import as_ms, plain

if TYPE_CHECKING:
    from budgets.limits import BudgetInForce
    from budgets.tail_paths import Tail, TailPath

TAIL_PATH_HEIGHT_PX: Final = 150
NOT_ALLOCATED, IN_NONE, FIRST_TOKEN = "not allocated", "in no component", "first token"
# Parts differ by pattern, so that they are told apart without colour.
_PATTERNS: Final = ("", "/", ".", "\\", "x", "-", "+", "|")
_COLORS: Final = 6
_NOTABLE_RATIO: Final = 0.001
"""Of what was in no component: less is between two clocks."""

Part = tuple[str, float, str, str]
"""Name, ms, colour, pattern."""


def budget_over_tail_path(budget: BudgetInForce | None, path: TailPath, *, milestone_name: str) -> Chart:
    """Two stacked bars on one axis: the allocations of the latency budget, and the mean time in each component.

    The second may be stacked because its parts lie one after the other on the critical paths of the same requests.
    """
    styles = _styles([*(budget.allocations if budget else ()), *(name for name, _ in path.parts_ms)])
    promised = _promised(budget, styles) if budget else []
    # In the order of the budget above it, then what nobody allocated; the first block of complete's own first.
    allocations = dict(budget.allocations) if budget else {}
    order = {name: n for n, name in enumerate(allocations)}
    measured = sorted(path.parts_ms, key=lambda part: (part[0] in order, order.get(part[0], 0)))
    if budget is None or not _first_block(budget):
        measured.sort(key=lambda part: order.get(part[0], len(order)))
    spent: list[Part] = [(name, ms, *styles[name]) for name, ms in measured]
    if path.in_none_ms > _NOTABLE_RATIO * path.mean_ms:
        spent.append((IN_NONE, path.in_none_ms, "var(--surface)", ""))
    top = max(budget.budget_ms if budget else 0.0, path.mean_ms) * 1.08 or 1.0
    unit = formats.unit_of([top])
    data = [
        *(
            _bar(0, *part, base, f"of the latency budget of {formats.limit(budget.budget_ms)}")
            for part, base in _laid_out(promised)
            if budget
        ),
        *(_bar(1, *part, base, _spent_words(part, path, allocations)) for part, base in _laid_out(spent)),
    ]
    why = _why_missing(path)
    layout = make_layout(
        size="large",
        height=TAIL_PATH_HEIGHT_PX,
        x=duration_axis(top, unit, at_most=5),
        y=axis([1.55, -0.55], [(0, "Latency budget "), (1, "Near the p99 ")], showgrid=False),
        margin={"l": 116, "r": 16, "t": 8, "b": 30},
        narrow={
            "margin": {"l": 78, "r": 8, "t": 8, "b": 30},
            "yaxis": {"ticktext": ["Promised ", "Near p99 "]},
        },
        shapes=[_budget_line(budget.budget_ms)] if budget else [],
        annotations=[empty_note("No requests to show.") | {"y": 0.25}] if why else [],
        barmode="overlay",
        # A name that has no room in its part is left out; it is in the text below, and where the part is pointed at.
        uniformtext={"mode": "hide", "minsize": FONT_PX - 1},
        hovermode="closest",
    )
    column_unit = formats.column_unit([top])
    names = [name for name, *_ in spent]
    unmeasured = [name for name in allocations if name not in names]
    ms_of = {name: ms for name, ms, *_ in spent}
    return Chart(
        data=data,
        layout=layout,
        summary=_summary(budget, path, spent, allocations, milestone_name=milestone_name),
        columns=["Component", "Allocation", "Mean near the p99", "Share", "Over its allocation"],
        rows=[
            [
                name,
                formats.limit(allocations.get(name), unit=column_unit),
                formats.duration(ms_of.get(name), unit=column_unit, near=allocations.get(name)),
                formats.percent(ms_of[name] / path.mean_ms if name in ms_of and path.mean_ms else None),
                _over_words(ms_of.get(name), allocations.get(name), column_unit),
            ]
            for name in [*names, *unmeasured]
        ],
        fields=["component", "allocated_ms", "mean_ms", "share_ratio", "requests"],
        records=[
            [
                name,
                allocations.get(name),
                round(ms_of[name], 3) if name in ms_of else None,
                round(ms_of[name] / path.mean_ms, 6) if name in ms_of and path.mean_ms else None,
                path.requests,
            ]
            for name in [*names, *unmeasured]
        ],
    )


# -- parts ------------------------------------------------------------------------------------------


def _styles(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """A component has one colour and pattern in both bars."""
    distinct = list(dict.fromkeys(names))
    return {
        name: (f"var(--part-{n % _COLORS})", _PATTERNS[n % len(_PATTERNS)]) for n, name in enumerate(distinct)
    }


def _first_block(budget: BudgetInForce) -> float:
    """Where a feature has both milestones, the first token's latency budget is the first block of complete's."""
    return max(0.0, budget.budget_ms - budget.unallocated_ms - sum(budget.allocations.values()))


def _promised(budget: BudgetInForce, styles: dict[str, tuple[str, str]]) -> list[Part]:
    first = _first_block(budget)
    return [
        *([(FIRST_TOKEN, first, "var(--track)", "")] if first > 0.0005 else []),
        *((name, float(ms), *styles[name]) for name, ms in budget.allocations.items()),
        *(
            [(NOT_ALLOCATED, float(budget.unallocated_ms), "var(--surface)", "")]
            if budget.unallocated_ms > 0
            else []
        ),
    ]


def _laid_out(parts: Sequence[Part]) -> list[tuple[Part, float]]:
    """Each part with where it begins."""
    found, base = [], 0.0
    for part in parts:
        found.append((part, base))
        base += part[1]
    return found


def _bar(row: int, name: str, ms: float, color: str, pattern: str, base: float, said: str) -> dict[str, Any]:
    return {
        **bars(
            [row],
            [as_ms(ms)],
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
            hover=[
                f"{plain(name, at_most=60)}: {formats.limit(round(ms, 3)) if row == 0 else formats.duration(ms)} {said}"
            ],
            name=plain(name),
        ),
        "base": [as_ms(base)],
        "text": [plain(name, at_most=14)],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "insidetextfont": {"color": "var(--ink)"},
    }


def _budget_line(budget_ms: float) -> dict[str, Any]:
    """The end of the latency budget, across both bars: their sums may be compared."""
    return {
        "type": "line",
        "xref": "x",
        "yref": "y",
        "x0": as_ms(budget_ms),
        "x1": as_ms(budget_ms),
        "y0": -0.5,
        "y1": 1.5,
        "line": {"color": "var(--breached)", "dash": "4px,3px", "width": 2},
    }


# -- what is said -----------------------------------------------------------------------------------


def _spent_words(part: Part, path: TailPath, allocations: dict[str, float]) -> str:
    name, ms, *_ = part
    said = f"on average, {formats.percent(ms / path.mean_ms)} of these requests' time" if path.mean_ms else ""
    allocated = allocations.get(name)
    return f"{said}<br>allocation {formats.limit(allocated)}" if allocated is not None else said


def _over_words(ms: float | None, allocated_ms: float | None, unit: str) -> str:
    if ms is None or allocated_ms is None or ms <= allocated_ms:
        return formats.NONE
    return formats.duration(ms - allocated_ms, unit=unit)


def _why_missing(path: TailPath) -> str:
    if path.missing is None:
        return ""
    return {
        "nothing_measured": "Nothing was measured in this range, so there are no requests near the p99.",
        "not_kept": "The requests of this range are past their retention; only their rollups are kept, which do not say "
        "what a single request waited for.",
        "no_traces": "The requests near the p99 carry no trace ids under which components were measured, so it is not known "
        "what they waited for. Send each component with the trace id of its request to see it here.",
    }[str(path.missing)]


def _rank_words(tail: Tail) -> str:
    """ "the slowest 3 %" or "p98 to p99.5"."""
    if tail.to_rank == 1.0:
        return f"the slowest {formats.exact(round(100 - tail.from_rank * 100, 3))}{formats.NBSP}%"
    return (
        f"p{formats.exact(round(tail.from_rank * 100, 3))} to p{formats.exact(round(tail.to_rank * 100, 3))}"
    )


def _duration_words(tail: Tail) -> str:
    if tail.over_ms is None:
        return "timeouts"
    if tail.up_to_ms is None:
        return f"over {formats.duration(max(tail.over_ms, 0.0))}"
    return f"{formats.duration(max(tail.over_ms, 0.0))} to {formats.duration(tail.up_to_ms)}"


def _summary(
    budget: BudgetInForce | None,
    path: TailPath,
    spent: Sequence[Part],
    allocations: dict[str, float],
    *,
    milestone_name: str,
) -> str:
    if why := _why_missing(path):
        return why
    assert path.tail is not None
    plural = "request" if path.requests == 1 else "requests"
    which = f"{_rank_words(path.tail)}, {_duration_words(path.tail)}"
    looked_at = f"{formats.count(path.requests)} {plural}"
    if path.is_sampled:
        looked_at += f", a sample of {formats.count(path.tail.count)}"
    parts = ", ".join(f"{formats.name(name)} {formats.duration(ms)}" for name, ms, *_ in spent)
    sentences = [
        f"{milestone_name} near the p99 ({which}; {looked_at}) took {formats.duration(path.mean_ms)} on average: {parts}."
    ]
    over = sorted(
        (
            (ms - allocations[name], name)
            for name, ms, *_ in spent
            if name in allocations and ms > allocations[name]
        ),
        reverse=True,
    )
    if over:
        ms, name = over[0]
        sentences.append(f"{formats.name(name)} took {formats.duration(ms)} more than its allocation.")
    if path.is_few:
        sentences.append("So few requests say little.")
    if path.timeouts:
        sentences.append(
            f"{formats.count(path.timeouts)} of them timed out and {'counts' if path.timeouts == 1 else 'count'} until "
            "given up."
        )
    if path.is_shortened:
        sentences.append(
            f"Requests are kept since {formats.instant(path.start)}; those before are not among them."
        )
    return " ".join(sentences)
