"""What each component took beside what was allocated to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from budgets import formats
from budgets.burn_rates import State
from budgets.histogram import AtLeast

from .frame import Chart, axis, duration_axis, make_layout, top_of
from .values import LINES, as_ms, as_raw, plain

if TYPE_CHECKING:
    from budgets.status import ComponentStatus, FeatureStatus

_ROW_PX: Final = 34


def allocation_against_observed(status: FeatureStatus) -> Chart:
    """Each component's own p99 beside its allocation.

    The rows share an axis and nothing else: percentiles of components do not add up, so they are never stacked.
    """
    components = list(status.components)
    observed = [c.percentiles_ms.p99 for c in components]
    finite = [v for v in observed if v is not None and not isinstance(v, AtLeast)]
    top = top_of([*finite, *(c.allocated_ms for c in components if c.allocated_ms is not None)], observed)
    unit = formats.unit_of([top])
    data: list[dict[str, Any]] = []
    rows = range(len(components))

    allocated = [(row, c) for row, c in zip(rows, components, strict=True) if c.allocated_ms is not None]
    if allocated:
        data.append(
            bars(
                [row for row, _ in allocated],
                [as_ms(c.allocated_ms) for _, c in allocated],
                width=0.72,
                marker={"color": "var(--track)", "line": {"color": "var(--line-strong)", "width": 1}},
                hover=[_component_hover(c) for _, c in allocated],
                name="allocation",
            )
        )
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "end of the allocation",
                "x": [as_ms(c.allocated_ms) for _, c in allocated],
                "y": [row for row, _ in allocated],
                "marker": {
                    "symbol": "line-ns-open",
                    "size": 24,
                    "line": {"width": 2},
                    "color": "var(--breached)",
                },
                "hoverinfo": "skip",
            }
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
            bars(
                [row for row, _, _ in measured],
                [as_ms(top) if isinstance(p99, AtLeast) else as_ms(p99) for _, _, p99 in measured],
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
                "x": [as_ms(p50) for _, p50 in medians],
                "y": [row for row, _ in medians],
                "marker": {"symbol": "line-ns-open", "size": 11, "line": {"width": 2}, "color": "var(--ink)"},
                "hoverinfo": "skip",
            }
        )
    layout = make_layout(
        size="large",
        height=allocation_height(status),
        x=duration_axis(top, unit, at_most=5),
        y=axis(
            [len(components) - 0.45, -0.55],
            [(row, f"{plain(c.component, at_most=14)} ") for row, c in zip(rows, components, strict=True)],
            showgrid=False,
        ),
        margin={"l": 116, "r": 16, "t": 8, "b": 30},
        narrow={
            "margin": {"l": 78, "r": 8, "t": 8, "b": 30},
            "yaxis": {"ticktext": [f"{plain(c.component, at_most=10)} " for c in components]},
        },
        annotations=[
            {
                "x": as_ms(top),
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
                    for name, _ in LINES
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
                *(as_raw(getattr(c.percentiles_ms, name)) for name, _ in LINES),
                c.counts.total,
                c.counts.judged,
                c.counts.over,
            ]
            for c in components
        ],
    )


def allocation_height(status: FeatureStatus) -> int:
    """Pixels that the allocation chart of a status takes: a row for each component."""
    return max(len(status.components), 2) * _ROW_PX + 38


def bars(
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


def _component_hover(component: ComponentStatus) -> str:
    p = component.percentiles_ms
    limit = component.allocated_ms
    lines = [
        plain(component.component),
        " · ".join(f"{name} {formats.duration(getattr(p, name), near=limit)}" for name, _ in reversed(LINES)),
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
