"""When an error budget will be gone: by hand, and as the product tells it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from budgets import charts
from budgets.exhaustion import Forecast, forecast
from budgets.forecasts import get_forecast
from tests.budgets.test_charts import make_series
from tests.factories import NOW, make_feature, make_traffic

HOURS = 28 * 24 + 1
OBJECTIVE = Decimal("0.99")
AT = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)


def of(*, bad_now: int, recent_bad: int, recent_judged: int = 600, each_hour: int = 100) -> Forecast | None:
    """Of a window in which every hour judged as many, and `bad_now` of the newest hour were bad."""
    judged = np.full(HOURS, each_hour, dtype=np.int64)
    bad = np.zeros(HOURS, dtype=np.int64)
    bad[-1] = bad_now
    return forecast(judged, bad, recent_judged=recent_judged, recent_bad=recent_bad, objective=OBJECTIVE)


class TestForecast:
    def test_counts_the_hours_until_nothing_is_left(self) -> None:
        # 67,300 were judged, so 673 may be bad and 173 are; ten of a hundred more each hour: after fifty hours all are.
        found = of(bad_now=173, recent_bad=60)

        assert found is not None
        assert not found.is_exhausted
        assert found.turns_in_hours == 50
        assert found.remaining_ratio[0] == pytest.approx(1 - 183 / 673)

    def test_the_interval_is_that_of_so_few_bad_requests(self) -> None:
        # Garwood: 60 stand for 45.8 to 77.2, so for 7.63 to 12.87 an hour.
        found = of(bad_now=173, recent_bad=60)

        assert found is not None
        assert (found.earliest_hours, found.latest_hours) == (39, 66)

    def test_a_pace_that_the_objective_allows_lasts(self) -> None:
        found = of(bad_now=0, recent_bad=3)

        assert found is not None
        assert found.turns_in_hours is None
        assert found.latest_hours is None

    def test_what_is_used_up_is_there_again_when_what_was_bad_rolls_off(self) -> None:
        judged = np.full(HOURS, 100, dtype=np.int64)
        bad = np.zeros(HOURS, dtype=np.int64)
        bad[10] = 700

        found = forecast(judged, bad, recent_judged=600, recent_bad=0, objective=OBJECTIVE)

        assert found is not None
        assert found.is_exhausted
        assert found.turns_in_hours == 11

    def test_hours_are_as_busy_as_a_day_before(self) -> None:
        judged = np.full(HOURS, 100, dtype=np.int64)
        judged[-25:-1] = np.tile([1, 199], 12)
        bad = np.zeros(HOURS, dtype=np.int64)
        bad[-1] = 600

        found = forecast(judged, bad, recent_judged=600, recent_bad=600, objective=OBJECTIVE)

        # All are bad: 1 in the first coming hour, 199 in the second, and 673 are allowed: 73 more are not.
        assert found is not None
        assert found.turns_in_hours == 2

    def test_without_anything_judged_of_late_there_is_none(self) -> None:
        assert of(bad_now=5, recent_bad=0, recent_judged=0) is None

    @pytest.mark.django_db
    def test_a_milestone_that_burns_is_told_from_its_rollups(self) -> None:
        feature = make_feature()
        make_traffic(feature, at=NOW - timedelta(hours=1), count=100, over=2, milestone="first_token")
        make_traffic(feature, at=NOW - timedelta(hours=30), count=500, over=0, milestone="first_token")

        found = get_forecast(
            feature,
            milestone="first_token",
            environment="production",
            objective=OBJECTIVE,
            window_days=28,
            at=NOW,
        )

        # 2 of 600, and 16.67 an hour of which a fiftieth is bad: after n hours 2 + n/3 against 6 + n/6, so 24.
        assert found is not None
        assert (found.judged, found.bad) == (100, 2)
        assert found.turns_in_hours == 24


def told(found: Forecast | None) -> str:
    return charts.forecast_sentence(found, AT).replace("\N{NO-BREAK SPACE}", " ")


def made(
    turns: int | None, earliest: int | None, latest: int | None, *, bad: int = 200, is_exhausted: bool = False
) -> Forecast:
    return Forecast(is_exhausted, np.linspace(0.5, -0.5, 672), turns, earliest, latest, 1000, bad)


class TestSentence:
    def test_names_the_hour_at_which_it_is_used_up(self) -> None:
        assert told(made(90, 80, 100)) == (
            "At the pace of the last 6 hours it is used up on Wed 25 Nov, 14:00 UTC."
        )

    def test_says_how_wide_the_interval_is_where_few_were_bad(self) -> None:
        assert told(made(90, 50, None, bad=4)) == (
            "At the pace of the last 6 hours it is used up on Wed 25 Nov, 14:00 UTC; from 4 bad requests it may be as early as "
            "Mon 23 Nov, 22:00 UTC, or not at all."
        )

    def test_says_that_it_lasts_and_what_chance_leaves_open(self) -> None:
        assert told(made(None, None, None)) == "At the pace of the last 6 hours it lasts."
        assert told(made(None, 50, None, bad=1)).endswith(
            "it lasts; from 1 bad request it may be as early as Mon 23 Nov, 22:00 UTC, or not at all."
        )

    def test_of_what_is_used_up_it_says_when_it_is_there_again(self) -> None:
        again = made(10, 10, 10, is_exhausted=True)

        assert told(again) == (
            "It is used up. At the pace of the last 6 hours some of it is there again on Sun 22 Nov, 06:00 UTC."
        )
        assert "stays so" in told(made(None, None, None, is_exhausted=True))

    def test_without_a_pace_it_says_so(self) -> None:
        assert told(None).startswith("Nothing was judged in the last 6 hours")


class TestBurnDown:
    def chart(self, found: Forecast | None) -> charts.Chart:
        series = make_series([100.0] * 28, step=timedelta(days=1), good=[99] * 28)
        return charts.burn_down(
            series, objective=Decimal("0.9"), window_end=series.start[-1] + timedelta(days=1), forecast=found
        )

    def test_goes_on_dotted_from_the_last_point_until_nothing_is_left_and_a_little_further(self) -> None:
        chart = self.chart(made(60, 55, 65))

        left, ahead = (
            next(each for each in chart.data if each["name"] == name)
            for name in ("error budget left", "at this pace")
        )
        assert (ahead["x"][0], ahead["y"][0]) == (left["x"][-1], left["y"][-1])
        assert len(ahead["x"]) == 75 + 1
        assert ahead["line"]["dash"] == "dot"
        assert chart.layout["xaxis"]["range"][1] == ahead["x"][-1]
        assert "it is used up on" in chart.summary

    def test_what_is_further_off_than_a_quarter_of_the_window_is_told_and_not_drawn(self) -> None:
        chart = self.chart(made(500, 400, 600))

        ahead = next(each for each in chart.data if each["name"] == "at this pace")
        assert len(ahead["x"]) == 84 + 1
        assert "it is used up on" in chart.summary

    def test_without_a_pace_it_ends_now(self) -> None:
        chart = self.chart(None)

        assert all(each["name"] != "at this pace" for each in chart.data)
        assert "there is no pace to go on with" in chart.summary
