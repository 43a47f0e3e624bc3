"""When a rule would have fired: replayed over what is stored."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest
from django.db import connection

from alerts.backtests import Backtest, backtest, study, study_rule
from alerts.models import AlertRule
from alerts.rules import ComponentOverrunRule, Rule, milestone_rules
from budgets.burn_rates import Severity
from budgets.models import Feature, HourRollup, MinuteRollup, Series
from budgets.partitions import ensure_partitions
from tests.factories import NOW, make_feature, make_traffic

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
END = NOW.replace(second=0)
RULES = milestone_rules(0.99, 28)


@pytest.fixture
def feature() -> Feature:
    return make_feature()


def fill(
    feature: Feature, table: type, *, start: datetime, end: datetime, step: timedelta, bad: int, total: int
) -> None:
    """A rollup in every step of [start, end), as the first token's roll-up leaves it."""
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
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table._meta.db_table} (series_id, start, total, errors, timeouts, judged, good, over, sum_us,"
            " scale, zero_count, histogram)"
            " SELECT %s, at, %s, 0, 0, %s, %s, %s, 0, 5, 0, ''::bytea"
            " FROM generate_series(%s::timestamptz, %s::timestamptz - %s, %s) AS at",
            [series.pk, total, total, total - bad, bad, start, end, timedelta(microseconds=1), step],
        )


def run(feature: Feature, rules: dict[str, Rule] | None = None, **options: object) -> Backtest:
    target = {"milestone": "first_token"} if "component" not in options else {}
    return backtest(
        feature=feature,
        environment="production",
        rules=rules or dict(RULES),
        now=NOW,
        **{**target, **options},
    )


def test_an_outage_of_last_week_would_have_been_one_page(feature: Feature) -> None:
    began = END - 7 * DAY
    fill(feature, MinuteRollup, start=END - 12 * DAY, end=began, step=MINUTE, bad=0, total=10)
    fill(feature, MinuteRollup, start=began, end=began + 30 * MINUTE, step=MINUTE, bad=10, total=10)
    fill(feature, MinuteRollup, start=began + 30 * MINUTE, end=END, step=MINUTE, bad=0, total=10)
    found = run(feature)
    [incident] = found.incidents
    assert (found.pages, found.tickets) == (1, 0)
    assert incident.paged_at == began + 2 * MINUTE + timedelta(seconds=59)
    first = found.firings[0]
    assert (first.key, first.severity, first.reason) == ("outage", Severity.PAGE, "outage")
    assert first.end is not None
    assert first.start < began + 30 * MINUTE < first.end < began + HOUR
    assert {one.key for one in found.firings} == {"outage", "1h/5m", "6h/30m"}
    assert found.requests_per_hour == pytest.approx(600, rel=0.01)


def test_hours_are_replayed_where_minutes_are_gone_and_it_says_that_they_are_estimates(
    feature: Feature,
) -> None:
    whole = END.replace(minute=0)
    began = whole - 20 * DAY
    fill(feature, HourRollup, start=whole - 31 * DAY, end=began, step=HOUR, bad=0, total=600)
    fill(feature, HourRollup, start=began, end=began + 2 * HOUR, step=HOUR, bad=300, total=600)
    fill(feature, HourRollup, start=began + 2 * HOUR, end=whole - 13 * DAY, step=HOUR, bad=0, total=600)
    found = run(feature)
    assert found.pages == 1
    assert {one.key for one in found.firings} >= {"1h/5m", "6h/30m"}
    assert began < found.firings[0].start < began + HOUR
    assert any(
        note.startswith("Before 7 November 2026, 00:00 UTC only hours are kept") for note in found.notes
    )
    assert found.exact_from == END.replace(hour=0, minute=0) - 14 * DAY


def test_what_still_burns_has_no_end(feature: Feature) -> None:
    for back in range(30):
        make_traffic(
            feature, at=END - (30 - back) * MINUTE, count=2, over=2, milestone="first_token", now=NOW
        )
    found = run(feature)
    assert all(one.end is None for one in found.firings)
    assert found.incidents[0].ended_at is None
    assert any(note.startswith("Nothing was measured before 21 November 2026") for note in found.notes)


def test_a_component_is_replayed_by_its_own_counters(feature: Feature) -> None:
    for back in range(5):
        make_traffic(feature, at=END - (9 - back) * MINUTE, count=10, over=5, component="tools", now=NOW)
    found = run(feature, {"tools": ComponentOverrunRule(objective=0.99)}, component="tools")
    assert [(one.key, one.severity) for one in found.firings] == [("tools", Severity.TICKET)]
    assert (found.pages, found.tickets) == (0, 1)


def test_where_nothing_was_measured_nothing_fires_and_it_says_so(feature: Feature) -> None:
    found = run(feature)
    assert (found.firings, found.incidents, found.measured_from, found.requests_per_hour) == ((), (), None, 0)
    assert found.notes == (
        "Nothing was measured between 24 October 2026, 20:00 UTC and 21 November 2026, 20:00 UTC.",
    )


def test_a_backtest_is_of_one_target(feature: Feature) -> None:
    with pytest.raises(ValueError, match="a milestone or of a component"):
        run(feature, milestone="first_token", component="tools")


def test_a_study_explains_at_the_traffic_that_there_is(feature: Feature) -> None:
    fill(feature, MinuteRollup, start=END - 8 * DAY, end=END, step=MINUTE, bad=0, total=5)
    found = study(feature=feature, milestone="first_token", environment="production", rules=RULES, now=NOW)
    assert found.explanation.requests_per_hour == pytest.approx(300, rel=0.01)
    assert found.backtest.firings == ()


def test_a_rule_is_studied_before_it_is_saved(feature: Feature) -> None:
    fill(feature, MinuteRollup, start=END - 8 * DAY, end=END, step=MINUTE, bad=0, total=5)
    rule = AlertRule(feature=feature, kind="burn_rate", milestone="first_token", name="mine")
    found = study_rule(rule=rule, now=NOW)
    assert (list(found.by_target), found.note) == (["milestone:first_token"], "")
    [of_milestone] = found.by_target.values()
    assert [one.key for one in of_milestone.explanation.conditions] == list(RULES)
    assert of_milestone.explanation.requests_per_hour == pytest.approx(300, rel=0.01)
    assert rule.pk is None


def test_a_rule_of_every_component_is_studied_for_each(feature: Feature) -> None:
    rule = AlertRule(feature=feature, kind="component_overrun", name="mine")
    targets = [f"component:{name}" for name in ("model", "retrieval", "tools", "overhead")]
    assert sorted(study_rule(rule=rule, now=NOW).by_target) == sorted(targets)


def test_of_a_rule_that_says_nothing_it_is_told_why(feature: Feature) -> None:
    retired = AlertRule(feature=feature, kind="burn_rate", milestone="complete", name="mine")
    assert (
        study_rule(rule=retired, now=NOW).note
        == "There is nothing that it would watch now: the milestone has no latency budget any more."
    )


def test_where_nothing_is_left_to_watch_it_is_told_why(feature: Feature) -> None:
    for kind, said in (
        ("unallocated_component", "every component that was measured has an allocation."),
        ("timeouts", "nothing was measured yet."),
    ):
        rule = AlertRule(feature=feature, kind=kind, name="mine")
        assert study_rule(rule=rule, now=NOW).note == f"There is nothing that it would watch now: {said}"


def test_four_weeks_are_studied_in_a_fraction_of_a_second(feature: Feature) -> None:
    fill(feature, MinuteRollup, start=END - 14 * DAY, end=END, step=MINUTE, bad=0, total=10)
    fill(
        feature,
        HourRollup,
        start=END.replace(minute=0) - 31 * DAY,
        end=END.replace(hour=0, minute=0) - 14 * DAY,
        step=HOUR,
        bad=1,
        total=600,
    )
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        study(feature=feature, milestone="first_token", environment="production", rules=RULES, now=NOW)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 1.0  # 0.22 s were measured; a busy machine takes longer
