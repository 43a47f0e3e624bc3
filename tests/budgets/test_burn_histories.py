from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from budgets import charts
from budgets.burn_histories import SPANS, BurnHistory, get_burn_history
from budgets.burn_rates import Tier, tiers_for
from budgets.models import Feature
from budgets.status import get_feature_status
from tests.factories import NOW, make_feature, make_traffic

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
START = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
TIERS = {tier.long: tier for tier in tiers_for(0.99, 28)}
NAN = float("nan")


def history(long: list[float], short: list[float], tier: Tier = TIERS["1h"]) -> BurnHistory:
    return BurnHistory(tier, [START + n * MINUTE for n in range(len(long))], np.array(long), np.array(short))


def trace(chart: charts.Chart, name: str) -> dict[str, Any]:
    return next(each for each in chart.data if each["name"] == name)


class TestBurnHistory:
    def test_is_over_only_where_both_windows_are_strictly(self) -> None:
        found = history([13.44, 14.0, 20.0, 20.0, NAN], [99.0, 14.0, 1.0, 20.0, 20.0])

        assert found.is_over.tolist() == [False, True, False, True, False]
        assert found.times_over == [
            (START + MINUTE, START + MINUTE),
            (START + 3 * MINUTE, START + 3 * MINUTE),
        ]


class TestChart:
    def test_draws_both_windows_and_the_threshold_differently_dashed(self) -> None:
        chart = charts.burn_rate_lines(history([1.0, NAN, 3.0], [2.0, 4.0, NAN]))

        assert trace(chart, "1h")["y"] == [1.0, None, 3.0]
        assert trace(chart, "5m")["y"] == [2.0, 4.0, None]
        assert trace(chart, "threshold")["y"] == [13.44, 13.44]
        assert len({trace(chart, name)["line"]["dash"] for name in ("1h", "5m", "threshold")}) == 3

    def test_shades_each_stretch_over_which_both_were_over(self) -> None:
        chart = charts.burn_rate_lines(history([1.0, 15.0, 15.0, 1.0, 15.0], [1.0, 15.0, 16.0, 1.0, 15.0]))

        bands = [shape for shape in chart.layout["shapes"] if shape["type"] == "rect"]
        assert [(band["x0"], band["x1"]) for band in bands] == [
            ("2026-11-21T20:00:30", "2026-11-21T20:02:30"),
            ("2026-11-21T20:03:30", "2026-11-21T20:04:00"),
        ]
        assert all(band["layer"] == "below" for band in bands)
        assert "both over 13.4× 2 times within" in chart.summary
        assert "and they still are" in chart.summary

    def test_the_threshold_is_on_the_axis_and_a_spike_of_the_short_window_flattens_nothing(self) -> None:
        assert charts.burn_rate_lines(history([0.1], [0.1])).layout["yaxis"]["range"][1] > 13.44
        assert charts.burn_rate_lines(history([0.1], [100.0])).layout["yaxis"]["range"][1] < 34

    def test_the_long_window_always_has_its_place(self) -> None:
        assert charts.burn_rate_lines(history([100.0], [100.0])).layout["yaxis"]["range"][1] > 100

    @pytest.mark.parametrize(
        ("found", "said"),
        [
            (history([NAN, NAN], [NAN, NAN]), "nothing was judged in this range."),
            (BurnHistory(TIERS["1h"], [], np.empty(0), np.empty(0)), "not kept at this resolution any more."),
        ],
    )
    def test_where_nothing_is_known_it_says_so(self, found: BurnHistory, said: str) -> None:
        chart = charts.burn_rate_lines(found)

        assert chart.summary.endswith(said)
        assert chart.rows == []
        json.dumps(chart.document(), allow_nan=False)

    def test_table_and_file_have_a_row_an_instant(self) -> None:
        chart = charts.burn_rate_lines(history([1.0, 20.0], [2.0, 20.0]))

        assert [row[-1] for row in chart.rows] == ["no", "yes"]
        assert [record[1:] for record in chart.records] == [
            [1.0, 2.0, 13.44, False],
            [20.0, 20.0, 13.44, True],
        ]

    def test_colours_are_the_pages_and_it_neither_drags_nor_zooms_by_itself(self) -> None:
        chart = charts.burn_rate_lines(history([15.0, 15.0], [15.0, 15.0]))

        assert chart.layout["shapes"][0]["fillcolor"] == "var(--breached-tint)"
        assert chart.layout["dragmode"] is False


@pytest.mark.django_db
class TestFromRollups:
    def of(self, feature: Feature, tier: str, *, at: datetime = NOW) -> BurnHistory:
        return get_burn_history(
            feature,
            milestone="first_token",
            environment="production",
            objective=0.99,
            tier=TIERS[tier],
            at=at,
            now=NOW,
        )

    @pytest.mark.parametrize("tier", TIERS)
    def test_its_last_point_is_what_the_status_says_now(self, tier: str) -> None:
        feature = make_feature()
        for hours_ago in (0, 1, 3, 20, 60):
            make_traffic(
                feature, at=NOW - hours_ago * HOUR, count=100, over=hours_ago + 1, milestone="first_token"
            )

        found = self.of(feature, tier)

        rates = {
            one.window: one.burn_rate
            for one in get_feature_status(feature, milestone="first_token", now=NOW).burn_rates or []
        }
        assert found.at[-1] == NOW.replace(second=0) + MINUTE
        assert found.long[-1] == pytest.approx(rates[found.tier.long])
        assert found.short[-1] == pytest.approx(rates[found.tier.short])

    def test_each_point_counts_the_windows_that_end_there(self) -> None:
        feature = make_feature()
        make_traffic(feature, at=NOW - 30 * MINUTE, count=100, over=50, milestone="first_token")

        found = self.of(feature, "1h")

        by_instant = dict(
            zip(found.at, zip(found.long.tolist(), found.short.tolist(), strict=True), strict=True)
        )
        minute = NOW.replace(second=0) - 30 * MINUTE
        assert by_instant[minute] == pytest.approx((NAN, NAN), nan_ok=True)
        assert by_instant[minute + MINUTE] == pytest.approx((50.0, 50.0))
        assert by_instant[minute + 5 * MINUTE] == pytest.approx((50.0, 50.0))
        assert by_instant[minute + 6 * MINUTE] == pytest.approx((50.0, NAN), nan_ok=True)
        assert found.times_over == [(minute + MINUTE, minute + 5 * MINUTE)]

    @pytest.mark.parametrize("tier", TIERS)
    def test_goes_back_as_far_as_its_tier_wants_in_a_thousand_points_at_most(self, tier: str) -> None:
        found = self.of(make_feature(), tier)

        assert len(found.at) <= 1000
        assert (
            timedelta(0) <= SPANS[tier] - (found.at[-1] - found.at[0]) < HOUR + MINUTE
            or found.at[-1] - found.at[0] >= SPANS[tier]
        )
        assert np.isnan(found.long).all()

    def test_where_its_minutes_are_gone_it_is_empty(self) -> None:
        assert self.of(make_feature(), "1h", at=NOW - timedelta(days=40)).at == []
        assert self.of(make_feature(), "3d", at=NOW - timedelta(days=40)).at != []
