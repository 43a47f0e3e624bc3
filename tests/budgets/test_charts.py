from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from budgets import charts
from budgets.burn_rates import State, error_budget
from budgets.histogram import AtLeast
from budgets.limits import BudgetInForce
from budgets.status import ComponentStatus, FeatureStatus, TimeSeries
from budgets.tiles import Counts, Percentiles

START = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOSTILE = '<a href="javascript:alert(1)">tools</a>&amp;'


def make_series(
    p99: list[Any], *, limit_ms: float | None = 3000.0, step: timedelta = MINUTE, **columns: list[Any]
) -> TimeSeries:
    """A series of these p99; half of it for p50, nine tenths for p95; 100 requests where there is a value."""
    size = len(p99)

    def share(ratio: float) -> list[Any]:
        return [v if v is None or isinstance(v, AtLeast) else v * ratio for v in p99]

    total = columns.pop("total", [0 if v is None else 100 for v in p99])
    values: dict[str, Any] = {
        "start": [START + n * step for n in range(size)],
        "total": total,
        "good": total,
        "over": [0] * size,
        "errors": [0] * size,
        "timeouts": [0] * size,
        "judged": total,
        "limit_ms": [limit_ms] * size,
        "p50": share(0.5),
        "p95": share(0.9),
        "p99": p99,
        **columns,
    }
    return TimeSeries(target="milestone:first_token", step=step, **values)


def make_component(
    name: str, p99: Any, *, allocated_ms: float | None = 400.0, **overrides: Any
) -> ComponentStatus:
    values: dict[str, Any] = {
        "counts": Counts(total=1000, judged=1000, good=1000),
        "percentiles_ms": Percentiles(p50=100.0, p95=200.0, p99=p99),
        "mean_ms": 110.0,
        "state": State.OK,
        **overrides,
    }
    return ComponentStatus(component=name, allocated_ms=allocated_ms, **values)


def make_status(*components: ComponentStatus, budget_ms: float = 3000.0, **overrides: Any) -> FeatureStatus:
    allocations = {c.component: c.allocated_ms for c in components if c.allocated_ms is not None}
    budget = BudgetInForce(
        milestone="first_token",
        budget_ms=budget_ms,
        objective=Decimal("0.99"),
        window_days=28,
        version=1,
        effective_from=START,
        allocations=allocations,
        unallocated_ms=budget_ms - sum(allocations.values()),
    )
    values: dict[str, Any] = {
        "state": State.OK,
        "latency_budget": budget,
        "counts": Counts(total=1000, judged=1000, good=995),
        "error_budget": error_budget(5, 1000, 0.99),
        **overrides,
    }
    return FeatureStatus(
        feature="support-chat",
        milestone="first_token",
        environment="production",
        as_of=START,
        window_start=START,
        window_end=START,
        range_start=START,
        range_end=START,
        burn_rates=[],
        percentiles_ms=Percentiles(),
        mean_ms=None,
        slowest_trace_id=None,
        components=list(components),
        **values,
    )


def lines(series: TimeSeries, **options: Any) -> charts.Chart:
    return charts.percentile_lines(series, subject="First token", limit_word="latency budget", **options)


def trace(chart: charts.Chart, name: str) -> dict[str, Any]:
    return next(each for each in chart.data if each["name"] == name)


def colors_in(value: Any, *, key: str = "") -> list[str]:
    """Every string under a key that holds colours."""
    if isinstance(value, dict):
        return [found for k, v in value.items() for found in colors_in(v, key=k)]
    if isinstance(value, list):
        return [found for v in value for found in colors_in(v, key=key)]
    return [value] if isinstance(value, str) and key.endswith("color") else []


ALL_CHARTS = {
    "lines": lines(make_series([1000.0, None, AtLeast(30_000.0), 2000.0])),
    "burn down": charts.burn_down(
        make_series([100.0, 100.0], good=[90, 80]), objective=Decimal("0.9"), window_end=START + 2 * MINUTE
    ),
    "allocation": charts.allocation_against_observed(
        make_status(
            make_component("tools", 900.0), make_component("cache", AtLeast(5000.0), allocated_ms=None)
        )
    ),
}


@pytest.mark.parametrize("chart", ALL_CHARTS.values(), ids=ALL_CHARTS)
class TestEveryFigure:
    def test_carries_no_template_and_names_its_colours_for_the_page_to_resolve(
        self, chart: charts.Chart
    ) -> None:
        assert "template" not in chart.layout
        colors = colors_in(chart.data) + colors_in(chart.layout)
        assert colors
        assert all(color.startswith("var(--") for color in colors)

    def test_can_be_written_as_strict_json(self, chart: charts.Chart) -> None:
        json.dumps(chart.document(), allow_nan=False)

    def test_neither_drags_nor_zooms_and_keeps_its_interface_state(self, chart: charts.Chart) -> None:
        assert chart.layout["dragmode"] is False
        assert chart.layout["xaxis"]["fixedrange"]
        assert chart.layout["uirevision"] == "kept"

    def test_has_a_summary_and_its_numbers_beside_it(self, chart: charts.Chart) -> None:
        assert chart.summary.endswith(".")
        assert chart.rows
        assert all(len(row) == len(chart.columns) for row in chart.rows)
        assert all(len(record) == len(chart.fields) for record in chart.records)


class TestPercentileLines:
    def test_instants_are_naive_utc(self) -> None:
        chart = lines(make_series([1000.0, 2000.0]))

        assert trace(chart, "p99")["x"] == ["2026-11-21T20:00:00", "2026-11-21T20:01:00"]

    def test_the_three_percentiles_differ_by_dash(self) -> None:
        chart = lines(make_series([1000.0]))

        assert len({trace(chart, name)["line"]["dash"] for name in ("p50", "p95", "p99")}) == 3

    def test_a_step_without_data_is_a_gap(self) -> None:
        chart = lines(make_series([1000.0, None, 2000.0]))

        assert trace(chart, "p99")["y"] == [1000.0, None, 2000.0]
        assert trace(chart, "p99")["connectgaps"] is False

    def test_a_value_between_two_gaps_is_a_point(self) -> None:
        chart = lines(make_series([1000.0, 1000.0, None, 2000.0, None]))

        assert [size > 0 for size in trace(chart, "p99")["marker"]["size"]] == [
            False,
            False,
            False,
            True,
            False,
        ]

    def test_the_limit_is_drawn_as_it_was_in_force_and_to_the_end_of_the_last_step(self) -> None:
        series = replace(make_series([1000.0, 1000.0]), limit_ms=[3000.0, 2500.0])
        chart = lines(series)

        limit = trace(chart, "latency budget")
        assert limit["y"] == [3000.0, 2500.0, 2500.0]
        assert limit["x"][-1] == "2026-11-21T20:02:00"
        assert limit["line"]["shape"] == "hv"

    def test_a_percentile_among_timeouts_stands_at_the_upper_edge_and_says_what_is_known(self) -> None:
        chart = lines(make_series([1000.0, AtLeast(30_000.0)]))

        beyond = trace(chart, "p99 beyond the axis")
        assert trace(chart, "p99")["y"] == [1000.0, None]
        assert beyond["x"] == ["2026-11-21T20:01:00"]
        assert beyond["y"][0] <= chart.layout["yaxis"]["range"][1]
        assert "≥\N{NO-BREAK SPACE}30.0\N{NO-BREAK SPACE}s" in beyond["hovertext"][0]

    def test_timeouts_do_not_flatten_what_can_be_read(self) -> None:
        chart = lines(make_series([1000.0, AtLeast(600_000.0)]))

        assert chart.layout["yaxis"]["range"][1] < 4000

    def test_a_lone_spike_leaves_the_limit_readable_and_is_marked(self) -> None:
        chart = lines(make_series([1000.0] * 20 + [90_000.0]))

        assert 3000 < chart.layout["yaxis"]["range"][1] < 10_000
        assert trace(chart, "p99 beyond the axis")["x"] == ["2026-11-21T20:20:00"]

    def test_a_lasting_overrun_fits_the_axis(self) -> None:
        chart = lines(make_series([1000.0] * 10 + [90_000.0] * 10))

        assert chart.layout["yaxis"]["range"][1] > 90_000
        assert all(each["name"] != "p99 beyond the axis" for each in chart.data)

    def test_names_at_the_right_end_never_lie_on_each_other(self) -> None:
        chart = lines(make_series([3000.0] * 3))

        top = chart.layout["yaxis"]["range"][1]
        heights = sorted(
            a["y"] for a in chart.layout["annotations"] if a.get("xanchor") == "left" and a.get("x") == 1
        )
        px = [height / top * (charts.HEIGHT_PX["large"] - 42) for height in heights]
        assert len(px) == 4
        assert all(b - a >= 13.9 for a, b in pairwise(px))
        assert px[-1] <= charts.HEIGHT_PX["large"] - 42

    def test_markers_outside_the_range_are_left_out(self) -> None:
        markers = [charts.Marker(START - MINUTE, "v2"), charts.Marker(START + MINUTE, "v3")]
        chart = lines(make_series([1000.0] * 3), markers=markers)

        assert [shape["x0"] for shape in chart.layout["shapes"]] == ["2026-11-21T20:01:00"]
        assert "v3" in [a["text"] for a in chart.layout["annotations"]]

    def test_a_marker_is_named_on_the_side_with_more_room(self) -> None:
        early, late = charts.Marker(START + MINUTE, "early"), charts.Marker(START + 9 * MINUTE, "late")
        chart = lines(make_series([1000.0] * 10), markers=[early, late])

        named = {a["text"]: a for a in chart.layout["annotations"]}
        assert (named["early"]["xanchor"], named["late"]["xanchor"]) == ("left", "right")

    def test_hover_texts_name_the_zone_the_limit_and_the_counts(self) -> None:
        chart = lines(make_series([3000.2], over=[2], timeouts=[1], errors=[3]))

        text = trace(chart, "p99")["hovertext"][0].replace("\N{NO-BREAK SPACE}", " ")
        assert "21 Nov 2026, 20:00 UTC" in text
        assert "p99 3.0002 s" in text
        assert "latency budget 3 s" in text
        assert "2 of 100 over, 1 timed out, 3 failed" in text

    def test_a_range_without_data_says_so(self) -> None:
        chart = lines(make_series([None, None]))

        assert chart.summary == "First token: nothing was measured in this range."
        assert "Nothing was measured in this range." in [a["text"] for a in chart.layout["annotations"]]
        assert chart.rows == []

    def test_the_summary_names_the_slowest_and_how_often_it_was_over(self) -> None:
        chart = lines(make_series([1000.0, 4000.0, None]))

        assert chart.summary.replace("\N{NO-BREAK SPACE}", " ") == (
            "First token: 200 measured. Slowest p99 4.00 s at 21 Nov 2026, 20:01 UTC; "
            "p99 over the latency budget in 1 of 2 steps."
        )

    def test_records_are_raw_values_for_programs(self) -> None:
        chart = lines(make_series([1234.5678, AtLeast(30_000.0)]))

        assert chart.records[0][0] == "2026-11-21T20:00:00Z"
        assert chart.records[0][-2] == 1234.5678
        assert chart.records[1][-2] == ">=30000.0"


class TestBurnDown:
    def burn(self, good: list[int], *, objective: str = "0.9") -> charts.Chart:
        series = make_series([100.0] * len(good), good=good, step=timedelta(hours=1))
        return charts.burn_down(
            series, objective=Decimal(objective), window_end=START + timedelta(hours=len(good) - 0.5)
        )

    def test_begins_at_all_of_it_and_ends_at_what_the_tile_names(self) -> None:
        chart = self.burn([95, 90, 100])  # 15 bad of 300, 30 allowed

        left = trace(chart, "error budget left")["y"]
        assert left[0] == 100
        assert left[-1] == pytest.approx(100 * (error_budget(15, 300, 0.9).remaining_ratio or 0))

    def test_the_last_point_stands_at_the_end_of_the_window(self) -> None:
        chart = self.burn([95, 90])

        assert trace(chart, "error budget left")["x"][-1] == "2026-11-21T21:30:00"

    def test_goes_below_zero_where_overspent_and_fills_what_is_missing(self) -> None:
        chart = self.burn([50, 100])

        assert trace(chart, "error budget left")["y"][-1] == pytest.approx(-150)
        assert min(trace(chart, "overspent")["y"]) == pytest.approx(-150)
        assert chart.layout["yaxis"]["range"][0] < -150
        assert "overspent by" in chart.summary

    def test_the_even_pace_spends_exactly_all_of_it(self) -> None:
        pace = trace(self.burn([95, 95]), "even pace")

        assert pace["y"] == [100, 0]
        assert pace["line"]["dash"] == "dash"

    def test_without_anything_judged_it_draws_nothing_and_says_why(self) -> None:
        series = make_series([None, None], total=[0, 0])
        chart = charts.burn_down(series, objective=Decimal("0.99"), window_end=START + 2 * MINUTE)

        assert chart.data == []
        assert "no error budget was spent" in chart.summary


class TestAllocation:
    def test_every_observed_bar_begins_at_zero_so_that_none_adds_to_another(self) -> None:
        chart = charts.allocation_against_observed(
            make_status(make_component("a", 100.0), make_component("b", 200.0))
        )

        observed = trace(chart, "p99")
        assert "base" not in observed
        assert observed["y"] == [0, 1]
        assert chart.layout["barmode"] == "overlay"

    def test_every_allocation_ends_in_a_line(self) -> None:
        chart = charts.allocation_against_observed(
            make_status(make_component("a", 100.0), make_component("b", 200.0, allocated_ms=None))
        )

        assert trace(chart, "end of the allocation")["x"] == [400.0]
        assert trace(chart, "end of the allocation")["y"] == [0]

    def test_a_component_nobody_allocated_has_a_bar_and_no_allocation(self) -> None:
        chart = charts.allocation_against_observed(
            make_status(make_component("cache", 100.0, allocated_ms=None, state=State.UNALLOCATED))
        )

        assert trace(chart, "p99")["x"] == [100.0]
        assert all("allocation" not in each["name"] for each in chart.data)
        assert "Measured but not allocated: cache." in chart.summary

    def test_a_component_without_data_has_its_allocation_and_no_bar(self) -> None:
        component = make_component(
            "tools", None, counts=Counts(), percentiles_ms=Percentiles(), state=State.NO_DATA
        )
        chart = charts.allocation_against_observed(make_status(component))

        assert trace(chart, "allocation")["x"] == [400.0]
        assert all(each["name"] != "p99" for each in chart.data)

    def test_the_summary_names_what_is_over(self) -> None:
        chart = charts.allocation_against_observed(
            make_status(make_component("tools", 2100.0, state=State.BREACHED), make_component("model", 100.0))
        )

        assert (
            chart.summary.replace("\N{NO-BREAK SPACE}", " ")
            == "Over their allocation: tools (p99 2.10 s against 400 ms)."
        )

    def test_states_differ_by_colour_name(self) -> None:
        chart = charts.allocation_against_observed(
            make_status(
                make_component("a", 1.0, state=State.BREACHED), make_component("b", 1.0, state=State.AT_RISK)
            )
        )

        assert trace(chart, "p99")["marker"]["color"] == ["var(--breached)", "var(--at-risk)"]

    def test_its_height_is_known_before_it_is_drawn(self) -> None:
        status = make_status(*(make_component(f"c{n}", 100.0) for n in range(5)))

        assert charts.allocation_against_observed(status).layout["height"] == charts.allocation_height(status)


class TestHostileNames:
    def test_no_tag_of_a_name_reaches_plotly(self) -> None:
        chart = charts.allocation_against_observed(
            make_status(make_component(HOSTILE, 900.0, state=State.BREACHED))
        )

        texts = json.dumps([chart.data, chart.layout], ensure_ascii=False)
        assert "<a" not in texts
        assert "&lt;a href" in texts

    def test_an_entity_in_a_name_stays_the_letters_it_is_made_of(self) -> None:
        assert charts.plain("&lt;b&gt;") == "&amp;lt;b&amp;gt;"

    def test_tables_and_summaries_are_text_and_keep_the_name_as_it_is(self) -> None:
        chart = charts.allocation_against_observed(
            make_status(make_component(HOSTILE, 900.0, state=State.BREACHED))
        )

        assert chart.rows[0][0] == HOSTILE
        assert HOSTILE in chart.summary

    def test_a_name_of_200_letters_is_cut_where_it_labels_an_axis(self) -> None:
        chart = charts.allocation_against_observed(make_status(make_component("x" * 200, 900.0)))

        assert all(len(text.strip()) <= 14 for text in chart.layout["yaxis"]["ticktext"])

    def test_control_characters_are_spaces(self) -> None:
        assert charts.plain("a\nb\u202ec") == "a b c"


class TestTimeTicks:
    @pytest.mark.parametrize("minutes", [5, 30, 60, 120, 360, 1440, 4320, 10_080, 40_320, 43_200, 576_000])
    def test_are_few_and_round_for_every_range(self, minutes: int) -> None:
        start = datetime(2026, 11, 21, 19, 58, tzinfo=UTC)
        end = start + timedelta(minutes=minutes)
        ticks = charts.time_ticks(start, end)

        assert 2 <= len(ticks) <= 15
        assert all(start <= at <= end and at.second == 0 for at, _ in ticks)

    def test_name_the_day_where_a_day_begins(self) -> None:
        ticks = charts.time_ticks(
            datetime(2026, 11, 21, 22, tzinfo=UTC), datetime(2026, 11, 22, 2, tzinfo=UTC)
        )

        assert [text for _, text in ticks] == [
            "22:00",
            "22:30",
            "23:00",
            "23:30",
            "22 Nov",
            "00:30",
            "01:00",
            "01:30",
            "02:00",
        ]
