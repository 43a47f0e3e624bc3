"""What burn-rate rules would have told under a latency budget that is only typed."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries

from alerts.contexts.proposals import replay_lines
from alerts.models import AlertRule
from alerts.proposals import Proposal, ProposalReplay, replay_proposals
from budgets.histogram import LatencyHistogram
from budgets.models import Feature, HourRollup, MinuteRollup, Series
from budgets.partitions import ensure_partitions
from tests.alerts.scenes import look
from tests.factories import NOW, feature_document, make_feature

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
END = NOW.replace(second=0)
OUTAGE = END - 7 * DAY


@pytest.fixture
def feature() -> Feature:
    return make_feature(now=END - 40 * DAY)


def fill(
    feature: Feature,
    start: datetime,
    end: datetime,
    *,
    ms: float,
    table: type = MinuteRollup,
    step: timedelta = MINUTE,
    total: int = 10,
    limit_ms: float = 3000.0,
) -> None:
    """In every step of [start, end) so many requests that all took as long, as a roll-up leaves them."""
    series, _ = Series.objects.get_or_create(
        feature=feature,
        milestone="first_token",
        environment="production",
        release="",
        defaults={"last_seen_on": NOW.date()},
    )
    if table is MinuteRollup:
        ensure_partitions(
            table._meta.db_table, [start.date() + n * DAY for n in range((end - start) // DAY + 2)]
        )
    good = total if ms <= limit_ms else 0
    histogram = LatencyHistogram.from_values([ms] * total).to_bytes()
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table._meta.db_table} (series_id, start, total, errors, timeouts, judged, good, over, sum_us,"
            " max_ms, max_ok_ms, scale, zero_count, histogram)"
            " SELECT %s, at, %s, 0, 0, %s, %s, %s, 0, %s, %s, 6, 0, %s"
            " FROM generate_series(%s::timestamptz, %s::timestamptz - interval '1 microsecond', %s) AS at",
            [series.pk, total, total, good, total - good, ms, ms, histogram, start, end, step],
        )


@pytest.fixture
def measured(feature: Feature) -> Feature:
    """Ten requests a minute at 2 s, but for half an hour of last week, in which they took 5 s."""
    fill(feature, END - 12 * DAY, OUTAGE, ms=2_000)
    fill(feature, OUTAGE, OUTAGE + 30 * MINUTE, ms=5_000)
    fill(feature, OUTAGE + 30 * MINUTE, END, ms=2_000)
    return feature


def run(feature: Feature, *, environment: str = "production", **typed: object) -> ProposalReplay:
    proposal = {
        "milestone": "first_token",
        "budget_ms": 3000.0,
        "objective": Decimal("0.99"),
        "window_days": 28,
    }
    [found] = replay_proposals(
        feature=feature,
        environment=environment,
        proposals=[Proposal(**{**proposal, **typed})],  # type: ignore[arg-type]
        now=NOW,
    )
    return found


def said(
    feature: Feature, *, environment: str = "production", **overrides: object
) -> tuple[str, str, list[str]]:
    """What the editor shows under the document of support chat with these numbers."""
    [budget] = feature_document()["latency_budgets"]
    document = {"latency_budgets": [{**budget, **overrides}]}
    [line] = replay_lines(feature, document, environment=environment, now=NOW)
    return line.told, line.as_judged, line.notes


def test_a_looser_latency_budget_would_have_woken_nobody(measured: Feature) -> None:
    found = run(measured, budget_ms=6_000.0)
    assert (found.backtest.pages, found.backtest.tickets) == (0, 0)
    assert found.good_ratio == 1.0
    assert found.is_estimated
    assert found.as_judged is not None
    assert found.as_judged.pages == 1
    assert said(measured, budget_ms=6_000)[:2] == (
        "no page, no ticket",
        "Under version 1, as it was judged: 1 page, open for 1\N{NO-BREAK SPACE}h.",
    )


def test_the_numbers_in_force_tell_what_a_backtest_tells_and_nothing_is_estimated(measured: Feature) -> None:
    found = run(measured)
    assert not found.is_estimated
    assert found.as_judged is not None
    assert found.backtest.incidents == found.as_judged.incidents
    assert said(measured)[:2] == (
        "1 page, open for 1\N{NO-BREAK SPACE}h",
        "The same under version 1, as it was judged.",
    )
    [incident] = found.backtest.incidents
    assert incident.paged_at == OUTAGE + 2 * MINUTE + timedelta(seconds=59)
    total = 12 * DAY // MINUTE * 10
    assert (found.judged, found.good) == (total, total - 300)


def test_a_tighter_latency_budget_burns_for_as_long_as_was_measured(measured: Feature) -> None:
    found = run(measured, budget_ms=1_500.0)
    [incident] = found.backtest.incidents
    assert incident.ended_at is None
    assert incident.started_at < END - 12 * DAY + 10 * MINUTE
    assert found.good == 0


def test_another_objective_replays_other_tiers(measured: Feature) -> None:
    """Half an hour of a day's requests is more than one in a thousand and less than one in two."""
    assert run(measured, objective=Decimal("0.999")).backtest.pages == 1
    lax = run(measured, objective=Decimal("0.5"))
    assert {key for one in lax.backtest.incidents for key in one.keys} == {"outage"}


def test_the_features_own_rules_are_asked(measured: Feature) -> None:
    look(measured, NOW)  # makes the default rules
    rule = AlertRule.objects.get(feature=measured, kind="burn_rate")
    rule.severity = "ticket"
    rule.save()
    assert (run(measured).backtest.pages, run(measured).backtest.tickets) == (0, 1)
    rule.is_enabled = False
    rule.save()
    told, as_judged, notes = said(measured)
    assert (told, as_judged) == ("", "")
    assert notes == ["No enabled burn-rate rule watches it in production, so nobody would be told."]


def test_an_environment_that_no_rule_watches_says_so(measured: Feature) -> None:
    Series.objects.filter(feature=measured).update(environment="staging")
    assert said(measured, environment="staging")[2] == [
        "No enabled burn-rate rule watches it in staging, so nobody would be told."
    ]


def test_where_nothing_was_measured_it_says_so(feature: Feature) -> None:
    assert said(feature) == ("", "", ["Nothing was measured in production in the last 28 days."])


def test_minutes_that_are_not_kept_are_replayed_by_the_hour_and_it_says_so(feature: Feature) -> None:
    fill(
        feature,
        END.replace(minute=0) - 27 * DAY,
        END.replace(minute=0) - 14 * DAY,
        ms=2_000,
        table=HourRollup,
        step=HOUR,
        total=600,
    )
    slow = END.replace(minute=0) - 20 * DAY
    HourRollup.objects.filter(start__gte=slow, start__lt=slow + 3 * HOUR).update(
        max_ok_ms=5_000.0, histogram=LatencyHistogram.from_values([5_000.0] * 600).to_bytes()
    )
    found = run(feature, budget_ms=2_500.0)
    assert found.backtest.pages == 1
    assert found.backtest.incidents[0].started_at >= slow
    assert any("only hours are kept" in note for note in found.backtest.notes)
    assert not any("as it was judged" in note for note in found.backtest.notes)


def test_as_many_statements_however_much_was_measured(
    measured: Feature, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(14):
        run(measured, budget_ms=1_900.0)
