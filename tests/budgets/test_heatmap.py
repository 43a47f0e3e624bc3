from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from budgets import charts
from budgets.bands import count_by_band
from budgets.distributions import Distribution, column_edges, get_distribution
from budgets.histogram import LatencyHistogram
from budgets.models import Feature
from budgets.status import get_feature_status
from budgets.tiles import Counts, Totals
from tests.factories import NOW, make_feature, make_traffic, measure, measurement

START = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NBSP = "\N{NO-BREAK SPACE}"


def column(*durations_ms: float, timeouts_ms: tuple[float, ...] = (), errors: int = 0) -> Totals:
    """What rollups add up to of these, judged by no limit."""
    total = len(durations_ms) + len(timeouts_ms) + errors
    return Totals(
        counts=Counts(total=total, errors=errors, timeouts=len(timeouts_ms)),
        max_ok_ms=max(durations_ms, default=None),
        min_timeout_ms=min(timeouts_ms, default=None),
        histogram=LatencyHistogram.from_values(durations_ms),
    )


def distribution(*columns: Totals, limits: list[tuple[datetime, float | None]] | None = None) -> Distribution:
    return Distribution(
        target="milestone:first_token",
        edges=[START + n * MINUTE for n in range(len(columns) + 1)],
        totals=list(columns),
        bands=count_by_band([one.histogram for one in columns]),
        limits=limits or [(START, 3000.0)],
    )


def heatmap(*columns: Totals, **options: Any) -> charts.Chart:
    limits = options.pop("limits", None)
    options = {"subject": "First token", "limit_word": "latency budget", **options}
    return charts.duration_heatmap(distribution(*columns, limits=limits), **options)


def trace(chart: charts.Chart, name: str) -> dict[str, Any]:
    return next(each for each in chart.data if each["name"] == name)


class TestHeatmap:
    def test_has_edges_on_both_axes_and_null_where_nothing_was_measured(self) -> None:
        chart = heatmap(column(100.0, 100.0), column(), column(400.0))

        cells = trace(chart, "requests")
        assert cells["x"] == [f"2026-11-21T20:0{n}:00" for n in range(4)]
        assert len(cells["y"]) == len(cells["z"]) + 1
        assert all(len(row) == 3 for row in cells["z"])
        assert cells["z"][0] == [0.301, None, None]  # the decimal logarithm of 2
        assert cells["z"][-1] == [None, None, 0.0]
        assert cells["hoverongaps"] is False

    def test_the_colour_of_a_single_request_is_the_first_of_the_scale_however_many_there_are_elsewhere(
        self,
    ) -> None:
        chart = heatmap(column(*[100.0] * 5000), column(9000.0))

        axis = chart.layout["coloraxis"]
        assert trace(chart, "requests")["z"][-1] == [None, 0.0]
        assert axis["cmin"] == 0
        assert axis["cmax"] == pytest.approx(3.699)
        assert axis["colorscale"][0] == [0.0, "var(--heat-0)"]
        texts = [each["text"] for each in chart.layout["annotations"]]
        assert texts[-5:] == ["Requests in a cell", "1", "10", "100", "1,000"]

    def test_a_cell_says_how_many_requests_took_how_long_and_when(self) -> None:
        chart = heatmap(column(*[1500.0] * 12))

        [[text]] = trace(chart, "requests")["hovertext"]
        when, what = text.split("<br>")
        assert when == "21 Nov 2026, 20:00 – 20:01 UTC"
        assert what.startswith("12 requests 1.4")
        assert what.endswith(f"{NBSP}s")

    def test_timeouts_stand_in_a_row_of_their_own_above_all_durations(self) -> None:
        chart = heatmap(column(100.0, timeouts_ms=(30_000.0, 31_000.0)), column(200.0))

        strip = trace(chart, "timed out")
        assert strip["z"] == [[0.301, None]]
        assert strip["hovertext"][0][0].endswith(f"2 requests timed out, after 30.0{NBSP}s or more")
        assert chart.layout["yaxis2"]["domain"][0] > chart.layout["yaxis"]["domain"][1]
        assert "2 requests timed out, shown above all durations" in chart.summary

    def test_without_timeouts_there_is_no_such_row(self) -> None:
        assert "yaxis2" not in heatmap(column(100.0)).layout

    def test_a_percentile_among_timeouts_is_no_point_of_its_line(self) -> None:
        chart = heatmap(column(100.0), column(100.0, timeouts_ms=(30_000.0,)))

        assert trace(chart, "p99")["y"][1] is None
        assert trace(chart, "p99 among timeouts")["x"] == ["2026-11-21T20:01:30"]
        assert f"p99 ≥{NBSP}30.0{NBSP}s" in trace(chart, "p99 among timeouts")["hovertext"][0]

    def test_errors_are_named_and_stand_nowhere(self) -> None:
        chart = heatmap(column(100.0, errors=3))

        assert trace(chart, "requests")["z"] == [[0.0]]
        assert "3 requests failed and have no place here" in chart.summary

    def test_the_limit_steps_where_a_version_took_effect(self) -> None:
        chart = heatmap(column(100.0), column(100.0), limits=[(START, 3000.0), (START + MINUTE, 2500.0)])

        line = trace(chart, "latency budget")
        assert line["x"] == ["2026-11-21T20:00:00", "2026-11-21T20:01:00", "2026-11-21T20:02:00"]
        assert line["y"] == [3000.0, 2500.0, 2500.0]
        assert line["line"]["shape"] == "hv"
        assert line["line"]["dash"] != "solid"

    def test_the_axis_holds_the_limit_and_everything_that_was_slow(self) -> None:
        chart = heatmap(column(100.0, 60_000.0))

        low, top = (10**bound for bound in chart.layout["yaxis"]["range"])
        assert low < 100 < 60_000 < top
        assert heatmap(column(100.0)).layout["yaxis"]["range"][1] > 3.477  # the logarithm of 3000

    def test_without_data_it_says_so_and_keeps_its_limit(self) -> None:
        chart = heatmap(column(), column())

        assert chart.summary == "First token: nothing was measured in this range."
        assert [each["name"] for each in chart.data] == ["latency budget, halo", "latency budget"]
        assert chart.layout["annotations"][-1]["text"] == "Nothing was measured in this range."
        assert chart.rows == []

    def test_one_measurement_is_seen(self) -> None:
        chart = heatmap(column(), column(250.0), column())

        assert trace(chart, "requests")["z"] == [[None, 0.0, None]]
        assert trace(chart, "p99")["marker"]["size"] == [0, 6, 0]
        assert chart.summary.startswith("First token: 1 request.")

    def test_the_table_has_a_row_a_column_with_data_and_the_file_a_record_a_cell(self) -> None:
        chart = heatmap(column(100.0, timeouts_ms=(30_000.0,)), column())

        assert [row[:2] for row in chart.rows] == [["21 Nov 2026, 20:00", "2"]]
        assert [dict(zip(chart.fields, one, strict=True))["status"] for one in chart.records] == [
            "ok",
            "timeout",
        ]
        ok, timeout = chart.records
        assert ok[3] < 100 <= ok[4]
        assert ok[5] == 1
        assert timeout[3:] == [30_000.0, None, 1]

    def test_colours_are_the_pages_and_all_of_it_is_strict_json(self) -> None:
        chart = heatmap(column(100.0, timeouts_ms=(5.0,)))

        json.dumps(chart.document(), allow_nan=False)
        assert all(color.startswith("var(--") for _, color in chart.layout["coloraxis"]["colorscale"])

    def test_a_hostile_subject_stands_in_the_summary_alone(self) -> None:
        chart = heatmap(column(100.0), subject='<img src=x onerror="alert(1)">{{ 7*7 }}')

        assert "onerror" not in json.dumps([chart.data, chart.layout])
        assert '<img src=x onerror="alert(1)">{{ 7*7 }}' in chart.summary


@pytest.mark.parametrize(
    ("span", "columns", "step"),
    [
        (timedelta(minutes=5), 5, MINUTE),
        (timedelta(hours=1), 60, MINUTE),
        (timedelta(hours=6), 120, 3 * MINUTE),
        (timedelta(days=1), 96, 15 * MINUTE),
        (timedelta(days=7), 84, timedelta(hours=2)),
        (timedelta(days=28), 112, timedelta(hours=6)),
        (timedelta(days=30), 120, timedelta(hours=6)),
        (timedelta(days=300), 43, timedelta(days=7)),
    ],
)
def test_a_range_has_some_hundred_columns_at_most_that_begin_at_round_times(
    span: timedelta, columns: int, step: timedelta
) -> None:
    end = datetime(2026, 11, 23, 0, 0, tzinfo=UTC)  # a Monday

    edges = column_edges(end - span, end, finest=MINUTE)

    assert edges[0] == end - span
    assert edges[-1] == end
    assert len(edges) - 1 in (columns, columns + 1)
    assert edges[-1] - edges[-2] == step


def test_no_column_is_finer_than_what_is_kept() -> None:
    edges = column_edges(START, START + timedelta(hours=6), finest=timedelta(hours=1))

    assert len(edges) == 7


@pytest.mark.django_db
class TestDistribution:
    def test_holds_each_measurement_in_the_column_in_which_it_ended(self) -> None:
        feature = make_feature()
        for minutes_ago, ms in ((50, 100.0), (10, 400.0), (0, 700.0)):
            make_traffic(
                feature, at=NOW - minutes_ago * MINUTE, count=3, over=0, good_ms=ms, milestone="first_token"
            )

        found = self.of(feature, timedelta(hours=1))

        at = [n for n, one in enumerate(found.totals) if one.counts.total]
        assert [found.edges[n] for n in at] == [
            NOW.replace(second=0) - minutes_ago * MINUTE for minutes_ago in (50, 10, 0)
        ]
        assert [found.bands.counts[n].sum() for n in at] == [3, 3, 3]

    @pytest.mark.parametrize(
        "span", [timedelta(hours=6), timedelta(days=3), timedelta(days=28), timedelta(days=200)]
    )
    def test_adds_up_to_what_was_measured_over_ranges_of_every_length(self, span: timedelta) -> None:
        feature = make_feature()
        ended = [NOW - timedelta(minutes=minutes) for minutes in (0, 1, 59, 61, 300, 1440, 2000, 9000)]
        measure(
            feature.team,
            [measurement(feature, ended_at=at, duration_ms=100.0, milestone="first_token") for at in ended],
        )

        found = self.of(feature, span)

        expected = sum(at >= found.edges[0] for at in ended)
        assert sum(one.counts.total for one in found.totals) == found.bands.counts.sum() == expected
        for n, one in enumerate(found.totals):
            assert one.counts.total == sum(found.edges[n] <= at < found.edges[n + 1] for at in ended)

    def test_has_the_limits_from_when_they_held(self) -> None:
        feature = make_feature()
        budgets = [{"milestone": "first_token", "budget_ms": 2500, "objective": 0.99, "window_days": 28}]
        make_feature(
            team=feature.team,
            slug=feature.slug,
            latency_budgets=budgets,
            now=NOW - timedelta(minutes=20, seconds=30),
        )

        found = self.of(feature, timedelta(hours=1))

        first, second = found.limits
        assert first == (found.edges[0], 3000.0)
        assert second[1] == 2500.0
        assert found.limit_at(second[0] - MINUTE) == 3000.0

    def test_a_target_that_was_never_measured_has_empty_columns(self) -> None:
        found = self.of(make_feature(), timedelta(hours=1))

        assert len(found.totals) == 60
        assert not any(one.counts.total for one in found.totals)
        assert found.limits == [(found.edges[0], 3000.0)]

    def of(self, feature: Feature, span: timedelta) -> Distribution:
        status = get_feature_status(feature, milestone="first_token", now=NOW)
        end = status.range_end
        return get_distribution(
            feature,
            target="milestone:first_token",
            environment="production",
            start=end - span,
            end=end,
            now=NOW,
        )
