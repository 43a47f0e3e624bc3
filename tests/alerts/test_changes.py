"""What changed in the two hours before."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from alerts.changes import MOST_MARKED, Change, RecentChanges
from budgets.annotations import add_annotation
from budgets.models import Annotation, Feature
from tests.factories import NOW, make_feature, make_traffic, redeclare

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def seen(feature: Feature, at: datetime, release: str, *components: str, milestone: bool = True) -> None:
    targets = [
        *({"component": name} for name in components),
        *([{"milestone": "first_token"}] if milestone else []),
    ]
    for target in targets:
        make_traffic(feature, at=at, count=2, over=0, release=release, now=NOW, **target)


def found(feature: Feature, *, milestone: str | None = "first_token", at: datetime = NOW) -> list[Change]:
    return RecentChanges([feature], environment="production", at=at).of(feature, milestone)


def test_a_release_that_was_first_measured_within_two_hours_is_a_change_at_its_first_minute():
    feature = make_feature()
    seen(feature, NOW - 5 * HOUR, "v411", "tools")
    seen(feature, NOW - 20 * MINUTE, "v411", "tools")
    seen(feature, NOW - 40 * MINUTE, "v412", "tools")
    seen(feature, NOW - 10 * MINUTE, "v412", "tools")
    [change] = found(feature)
    at = (NOW - 40 * MINUTE).replace(second=0)
    assert (change.kind, change.at, change.name, change.components) == ("release", at, "v412", ())
    assert change.document() == {
        "kind": "release",
        "at": "2026-11-21T19:20:00Z",
        "text": "Release v412",
        "name": "v412",
        "components": [],
    }


def test_a_release_of_components_alone_is_theirs():
    feature = make_feature()
    seen(feature, NOW - 5 * HOUR, "v411", "tools", "model")
    seen(feature, NOW - 40 * MINUTE, "tools-7", "tools", milestone=False)
    [change] = found(feature)
    assert (change.text, change.components) == ("Release tools-7 of tools", ("tools",))


@pytest.mark.parametrize("at", [NOW - 2 * HOUR - MINUTE, NOW + MINUTE])
def test_what_is_older_than_two_hours_or_came_later_is_no_change(at: datetime):
    feature = make_feature()
    seen(feature, NOW - 5 * HOUR, "v411", "tools")
    seen(feature, at, "v412", "tools")
    seen(feature, NOW - 30 * MINUTE, "v411", "tools")
    assert found(feature) == []


def test_a_release_that_came_back_is_no_new_one():
    feature = make_feature()
    for at, release in ((30 * HOUR, "v411"), (10 * HOUR, "v412"), (HOUR, "v411")):
        seen(feature, NOW - at, release, "tools")
    assert found(feature) == []


def test_what_a_feature_begins_with_is_no_change():
    feature = make_feature()
    seen(feature, NOW - HOUR, "v1", "tools", "model")
    assert found(feature) == []


def test_a_component_that_was_never_measured_before_is_a_change():
    feature = make_feature()
    seen(feature, NOW - 5 * HOUR, "v411", "tools")
    seen(feature, NOW - HOUR, "v411", "tools", "safety")
    [change] = found(feature)
    assert (change.kind, change.name, change.components) == ("component", "safety", ("safety",))
    assert change.text == "safety was measured for the first time"


def test_other_environments_changes_are_theirs():
    feature = make_feature()
    seen(feature, NOW - 5 * HOUR, "v411", "tools")
    make_traffic(
        feature,
        at=NOW - HOUR,
        count=2,
        over=0,
        release="v412",
        environment="staging",
        milestone="first_token",
        now=NOW,
    )
    assert found(feature) == []


def test_versions_that_took_effect_say_what_they_changed_newest_first():
    feature = make_feature(now=NOW - 10 * HOUR)
    budget = {
        "milestone": "first_token",
        "budget_ms": 2500,
        "objective": 0.995,
        "window_days": 28,
        "allocations": {"model": 1500, "retrieval": 400, "tools": 600},
    }
    redeclare(feature, latency_budgets=[budget], now=NOW - 90 * MINUTE)
    redeclare(feature, latency_budgets=[{**budget, "budget_ms": 2600}], now=NOW - 30 * MINUTE)
    newest, older = found(feature)
    assert newest.kind == older.kind == "latency_budget"
    assert newest.at > older.at
    assert newest.text.replace("\N{NO-BREAK SPACE}", " ") == "First token: latency budget 2.5 s → 2.6 s"
    assert older.text.replace("\N{NO-BREAK SPACE}", " ") == (
        "First token: latency budget 3 s → 2.5 s; objective 99 % → 99.5 %; tools 800 ms → 600 ms; "
        "overhead 300 ms → nothing"
    )


def test_a_later_milestones_version_does_not_touch_an_earlier_one():
    complete = {"milestone": "complete", "budget_ms": 8000, "objective": 0.95, "window_days": 28}
    first = {"milestone": "first_token", "budget_ms": 3000, "objective": 0.99, "window_days": 28}
    feature = make_feature(latency_budgets=[first, complete], now=NOW - 10 * HOUR)
    redeclare(feature, latency_budgets=[first, {**complete, "budget_ms": 9000}], now=NOW - HOUR)
    assert found(feature) == []
    assert len(found(feature, milestone="complete")) == len(found(feature, milestone=None)) == 1


def mark(feature: Feature, text: str, at: datetime, /, **document: str | None) -> None:
    marked = {"kind": "deploy", "text": text, "feature": feature.slug, "at": at.isoformat(), **document}
    add_annotation(team=feature.team, document=marked, actor="a test", now=NOW)


def test_deploys_and_notes_of_the_feature_and_of_the_whole_team_are_changes():
    feature = make_feature()
    mark(feature, "roll-out 7", NOW - HOUR)
    mark(feature, "Cache cleared", NOW - 30 * MINUTE, kind="note", feature=None)
    note, deploy = found(feature)
    assert (note.kind, note.text, note.at) == ("note", "Note: Cache cleared", NOW - 30 * MINUTE)
    assert deploy.document() == {
        "kind": "deploy",
        "at": "2026-11-21T19:00:30Z",
        "text": "Deploy: roll-out 7",
        "name": "roll-out 7",
        "components": [],
    }


def test_deploys_of_other_features_teams_environments_and_hours_are_none():
    feature = make_feature()
    mark(make_feature(team=feature.team), "of another feature", NOW - HOUR)
    mark(make_feature(), "of another team", NOW - HOUR, feature=None)
    mark(feature, "elsewhere", NOW - HOUR, environment="staging")
    mark(feature, "too early", NOW - 2 * HOUR)
    mark(feature, "later", NOW + MINUTE / 2)
    assert found(feature) == []


def test_a_release_that_marked_itself_is_one_change():
    feature = make_feature()
    seen(feature, NOW - 5 * HOUR, "v411", "tools")
    seen(feature, NOW - 40 * MINUTE, "v412", "tools")
    assert Annotation.objects.get(kind="release").text == "v412"
    assert [change.text for change in found(feature)] == ["Release v412"]


def test_of_very_many_deploys_the_newest_are_named():
    feature = make_feature()
    for minutes in range(1, 31):
        mark(feature, f"{minutes} min before", NOW - minutes * MINUTE)
    changes = found(feature)
    assert len(changes) == MOST_MARKED == 20
    assert (changes[0].name, changes[-1].name) == ("1 min before", "20 min before")


def test_a_text_that_is_written_from_right_to_left_turns_nothing_around_it():
    feature = make_feature()
    mark(feature, "a\N{RIGHT-TO-LEFT OVERRIDE}b", NOW - HOUR)
    assert found(feature)[0].text == "Deploy: a b"


def test_what_changed_of_many_features_is_read_with_as_many_queries_as_of_one():
    budget = {"milestone": "first_token", "objective": 0.95, "window_days": 28}
    features = [make_feature(slug=f"chat-{number}") for number in range(4)]
    for number, feature in enumerate(features):
        seen(feature, NOW - 5 * HOUR, "v411", "tools")
        seen(feature, NOW - 40 * MINUTE, f"v{number}", "tools")
        mark(feature, f"roll-out {number}", NOW - 35 * MINUTE)
        redeclare(
            feature, latency_budgets=[{**budget, "budget_ms": 4000 + 1000 * number}], now=NOW - 30 * MINUTE
        )
    asked = []
    for some in (features[:1], features):
        with CaptureQueriesContext(connection) as captured:
            recent = RecentChanges(some, environment="production", at=NOW)
        asked.append(len(captured))
    assert asked[0] == asked[1]
    for number, feature in enumerate(features):
        by_kind = {change.kind: change for change in recent.of(feature, "first_token")}
        assert by_kind["release"].name == f"v{number}"
        assert by_kind["deploy"].name == f"roll-out {number}"
        told = by_kind["latency_budget"].text.replace("\N{NO-BREAK SPACE}", " ")
        assert f"latency budget 3 s → {4 + number} s" in told
