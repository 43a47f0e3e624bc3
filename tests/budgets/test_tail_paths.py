from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from budgets import charts, ingest, rollups, traced_requests
from budgets.histogram import LatencyHistogram
from budgets.limits import BudgetInForce, budgets_in_force
from budgets.models import Feature
from budgets.tail_paths import Missing, Tail, TailPath, get_tail_path, near_p99
from budgets.tiles import Counts, Totals
from tests.factories import NOW, make_feature, make_key, request_item

HOUR = timedelta(hours=1)
HOSTILE = [
    '<img src=x onerror="alert(1)">',
    "{{ 7*7 }}",
    "\N{RIGHT-TO-LEFT OVERRIDE}\N{HEBREW LETTER ALEF}\N{HEBREW LETTER BET}",
    "\N{FIRE}\N{ROCKET}",
    "x" * 10_000,
]


def totals(durations_ms: list[float], *, timeouts: int = 0, errors: int = 0) -> Totals:
    return Totals(
        counts=Counts(total=len(durations_ms) + timeouts + errors, errors=errors, timeouts=timeouts),
        max_ok_ms=max(durations_ms, default=None),
        min_timeout_ms=30_000.0 if timeouts else None,
        histogram=LatencyHistogram.from_values(durations_ms),
    )


class TestNearP99:
    def test_of_many_they_lie_between_the_p98_and_the_p99_and_a_half(self) -> None:
        tail = near_p99(totals([float(n) for n in range(1, 10_001)]))

        assert tail is not None
        assert (tail.from_rank, tail.to_rank) == (0.98, 0.995)
        assert tail.over_ms == pytest.approx(9800, rel=0.011)
        assert tail.up_to_ms == pytest.approx(9950, rel=0.011)
        assert tail.over_ms < 9800 < 9950 <= tail.up_to_ms
        assert 150 <= tail.count <= 350  # whole buckets of about a hundred
        assert not tail.with_timeouts

    @pytest.mark.parametrize(("measured", "from_rank"), [(1000, 0.97), (300, 0.90), (20, 0.90)])
    def test_of_fewer_they_are_the_slowest_of_which_there_are_some_tens(
        self, measured: int, from_rank: float
    ) -> None:
        tail = near_p99(totals([float(n) for n in range(1, measured + 1)]))

        assert tail is not None
        assert (tail.from_rank, tail.to_rank, tail.up_to_ms) == (from_rank, 1.0, None)

    def test_timeouts_are_among_them_where_durations_do_not_reach_that_far(self) -> None:
        # Of 10 000, the last hundred timed out: the p98 is a duration, the p99.5 a timeout.
        tail = near_p99(totals([100.0] * 9_900, timeouts=100))

        assert tail is not None
        assert tail.over_ms is not None
        assert tail.over_ms < 100
        assert tail.up_to_ms is None
        assert tail.with_timeouts
        assert tail.count == 10_000

    def test_where_the_p98_is_a_timeout_they_are_the_timeouts(self) -> None:
        tail = near_p99(totals([100.0] * 900, timeouts=100))

        assert tail is not None
        assert (tail.over_ms, tail.with_timeouts, tail.count) == (None, True, 100)

    def test_errors_are_not_among_them(self) -> None:
        assert near_p99(totals([], errors=5)) is None


def parts_of(chart: charts.Chart, row: int) -> list[tuple[str, float, float]]:
    return [(each["name"], each["base"][0], each["x"][0]) for each in chart.data if each["y"] == [row]]


def budget(**overrides: Any) -> BudgetInForce:
    values: dict[str, Any] = {
        "milestone": "first_token",
        "budget_ms": 3000.0,
        "objective": 0.99,
        "window_days": 28,
        "version": 1,
        "effective_from": NOW,
        "allocations": {"model": 2000.0, "tools": 800.0},
        "unallocated_ms": 200.0,
        **overrides,
    }
    return BudgetInForce(**values)


def path(**overrides: Any) -> TailPath:
    values: dict[str, Any] = {
        "start": NOW - HOUR,
        "end": NOW,
        "is_shortened": False,
        "tail": Tail(0.98, 0.995, 2300.0, 2900.0, with_timeouts=False, count=120),
        "requests": 120,
        "mean_ms": 2600.0,
        "parts_ms": (("cache", 300.0), ("model", 1200.0), ("tools", 1000.0)),
        "in_none_ms": 100.0,
        **overrides,
    }
    return TailPath(**values)


def draw(**overrides: Any) -> charts.Chart:
    return charts.budget_over_tail_path(budget(), path(**overrides), milestone_name="First token")


class TestChart:
    def test_splits_the_budget_into_its_allocations_and_shows_what_is_left(self) -> None:
        assert parts_of(draw(), 0) == [
            ("model", 0.0, 2000.0),
            ("tools", 2000.0, 800.0),
            ("not allocated", 2800.0, 200.0),
        ]

    def test_stacks_the_mean_times_in_the_order_of_the_budget_up_to_the_mean_of_the_requests(self) -> None:
        assert parts_of(draw(), 1) == [
            ("model", 0.0, 1200.0),
            ("tools", 1200.0, 1000.0),
            ("cache", 2200.0, 300.0),
            ("in no component", 2500.0, 100.0),
        ]

    def test_a_component_has_one_colour_and_pattern_in_both_bars(self) -> None:
        looks = [(each["marker"]["color"], each["marker"]["pattern"]["shape"]) for each in draw().data]

        (model, tools, _), (its_model, its_tools, cache, _) = looks[:3], looks[3:]
        assert (model, tools) == (its_model, its_tools)
        assert len({model, tools, cache}) == 3

    def test_the_first_tokens_budget_is_the_first_block_of_completes(self) -> None:
        complete = budget(budget_ms=8000.0, allocations={"writing": 4000.0}, unallocated_ms=1000.0)
        chart = charts.budget_over_tail_path(
            complete, path(parts_ms=(("model", 1200.0), ("writing", 1300.0))), milestone_name="Complete"
        )

        assert parts_of(chart, 0)[:2] == [("first token", 0.0, 3000.0), ("writing", 3000.0, 4000.0)]
        assert [name for name, _, _ in parts_of(chart, 1)] == ["model", "writing", "in no component"]

    def test_says_which_requests_how_many_and_which_component_is_over(self) -> None:
        assert draw().summary.replace("\N{NO-BREAK SPACE}", " ") == (
            "First token near the p99 (p98 to p99.5, 2.30 s to 2.90 s; 120 requests) took 2.60 s on average: "
            "model 1.20 s, tools 1.00 s, cache 300 ms, in no component 100 ms. "
            "tools took 200 ms more than its allocation."
        )

    def test_flags_low_counts_samples_timeouts_and_a_range_that_is_not_all_kept(self) -> None:
        tail = Tail(0.97, 1.0, 2300.0, None, with_timeouts=True, count=5000)
        said = draw(tail=tail, requests=12, timeouts=2, is_sampled=True, is_shortened=True).summary

        assert "the slowest 3\N{NO-BREAK SPACE}%" in said
        assert "12 requests, a sample of 5,000" in said
        assert "So few requests say little." in said
        assert "2 of them timed out" in said
        assert "Requests are kept since 21 Nov 2026, 19:00 UTC" in said

    @pytest.mark.parametrize("missing", Missing)
    def test_where_there_is_nothing_it_says_why_and_shows_what_was_promised(self, missing: Missing) -> None:
        chart = draw(missing=missing, tail=None, requests=0, mean_ms=0.0, parts_ms=(), in_none_ms=0.0)

        assert len(parts_of(chart, 0)) == 3
        assert parts_of(chart, 1) == []
        assert chart.summary.endswith(".")
        assert [row[0] for row in chart.rows] == ["model", "tools"]

    def test_without_a_latency_budget_the_requests_stand_alone(self) -> None:
        chart = charts.budget_over_tail_path(None, path(), milestone_name="First token")

        assert parts_of(chart, 0) == []
        assert len(parts_of(chart, 1)) == 4
        assert chart.layout["shapes"] == []

    def test_table_and_file_hold_the_same_parts(self) -> None:
        chart = draw()

        assert [row[0] for row in chart.rows] == ["model", "tools", "cache", "in no component"]
        assert [record[:4] for record in chart.records][1] == ["tools", 800.0, 1000.0, 0.384615]
        assert sum(record[3] for record in chart.records) == pytest.approx(1.0, abs=1e-5)

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile_names_are_letters(self, name: str) -> None:
        chart = draw(parts_ms=((name, 2500.0),))

        drawn = json.dumps([chart.data, chart.layout], ensure_ascii=False)
        assert "<img" not in drawn
        assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in drawn
        assert chart.rows[0][0] == name
        assert all(len(each["text"][0]) <= 30 for each in chart.data)


def post(feature: Feature, items: list[Mapping[str, Any]]) -> None:
    key, _ = make_key(feature.team, "ingest")
    answer = ingest.accept(key=key, body=msgspec.json.encode({"requests": items}), now=NOW)
    assert answer.status == 200, answer.document
    while rollups.roll_up(now=NOW).is_more:
        pass


def requests_of(feature: Feature, count: int, *, traced: bool = True) -> list[dict[str, Any]]:
    """Requests of 1000, 1010, … ms, of which retrieval takes 200 ms and the model all but the last 100."""
    found = []
    for n in range(count):
        total_ms = 1000 + 10 * n
        started_at = NOW - timedelta(minutes=5) + timedelta(milliseconds=n)
        found.append(
            request_item(
                feature,
                trace_id=f"{n + 1:032x}" if traced else ...,
                started_at=started_at.isoformat(),
                milestones={"first_token": total_ms},
                components=[
                    {"component": "retrieval", "offset_ms": 0, "duration_ms": 200},
                    {"component": "model", "offset_ms": 200, "duration_ms": total_ms - 300},
                ],
            )
        )
    return found


@pytest.mark.django_db
class TestFromRequests:
    def of(self, feature: Feature, *, ago: timedelta = timedelta(0), span: timedelta = HOUR) -> TailPath:
        end = NOW.replace(second=0) + timedelta(minutes=1) - ago
        return get_tail_path(
            feature, milestone="first_token", environment="production", start=end - span, end=end, now=NOW
        )

    def test_the_parts_are_the_means_of_the_slowest_tenth_and_add_up(self) -> None:
        feature = make_feature()
        post(feature, requests_of(feature, 300))

        found = self.of(feature)

        # The slowest tenth took over 3690 ms; the bucket of the p90 begins at most 1.1 % below.
        assert 30 <= found.requests <= 34
        assert found.tail is not None
        assert found.tail.count == found.requests
        assert not found.is_sampled
        assert not found.is_few
        parts = dict(found.parts_ms)
        assert parts["retrieval"] == pytest.approx(200)
        assert found.in_none_ms == pytest.approx(100)
        assert sum(parts.values()) + found.in_none_ms == pytest.approx(found.mean_ms)
        assert found.mean_ms == pytest.approx(3990 - 5 * (found.requests - 1))

    def test_of_too_many_the_same_sample_is_taken_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        feature = make_feature()
        post(feature, requests_of(feature, 300))
        monkeypatch.setattr(traced_requests, "MAX_BETWEEN", 10)

        first, second = self.of(feature), self.of(feature)

        assert first.requests == 10
        assert first.is_sampled
        assert first.is_few
        assert first == second

    def test_without_trace_ids_it_is_not_known(self) -> None:
        feature = make_feature()
        post(feature, requests_of(feature, 5, traced=False))

        assert self.of(feature).missing == Missing.NO_TRACES

    def test_where_nothing_was_measured(self) -> None:
        assert self.of(make_feature()).missing == Missing.NOTHING_MEASURED

    def test_a_range_before_the_retention_is_not_kept(self) -> None:
        assert self.of(make_feature(), ago=timedelta(days=60)).missing == Missing.NOT_KEPT

    def test_of_a_longer_range_the_kept_part_is_told(self) -> None:
        feature = make_feature()
        post(feature, requests_of(feature, 5))

        found = self.of(feature, span=timedelta(days=28))

        assert found.is_shortened
        assert found.missing is None
        assert found.requests == 1

    def test_what_is_over_no_latency_budget_is_told_without_one(self) -> None:
        feature = make_feature(latency_budgets=[])
        post(feature, requests_of(feature, 20))

        assert budgets_in_force([feature.pk], NOW) == {}
        assert self.of(feature).missing is None
