"""Declaring a feature: what changes, what is versioned, and what a repetition changes."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from budgets.documents import read_document
from budgets.errors import Refusal
from budgets.features import (
    ABSENT,
    Declared,
    declare_feature,
    declared_document,
    describe,
    digest_of,
    instant,
    plan_versions,
    with_documents,
)
from budgets.models import Allocation, Component, Feature, LatencyBudget, Team
from tests.api import Api
from tests.concurrency import at_once
from tests.factories import NOW, feature_document, item, make_feature, make_key, make_team

pytestmark = pytest.mark.django_db

FIRST_TOKEN = feature_document()["latency_budgets"][0]
COMPLETE = {"milestone": "complete", "budget_ms": 8000, "objective": 0.95, "window_days": 28}


@pytest.fixture
def team() -> Team:
    return make_team()


def declare(team: Team, /, *, now: datetime = NOW, slug: str = "chat", **overrides: Any) -> Declared:
    return declare_feature(
        team=team, slug=slug, document=feature_document(**overrides), actor="key ci", now=now
    )


def versions(feature: Feature) -> list[tuple[str, int, Decimal | None]]:
    return list(feature.latency_budgets.values_list("milestone", "version", "budget_ms"))


def components(feature: Feature) -> dict[str, str]:
    return dict(feature.components.values_list("name", "state"))


# -- new --------------------------------------------------------------------------------------------


def test_a_new_feature_is_what_its_document_says(team: Team) -> None:
    declared = declare(team, description="Answers customers", runbook_url="https://wiki.example/chat")
    feature = declared.feature
    feature.refresh_from_db()
    assert (declared.is_created, declared.is_changed) == (True, True)
    assert (feature.team, feature.slug, feature.name, feature.kind) == (
        team,
        "chat",
        "Support chat",
        "interactive_chat",
    )
    assert (feature.description, feature.runbook_url) == ("Answers customers", "https://wiki.example/chat")
    assert list(components(feature)) == ["model", "retrieval", "tools", "overhead"]
    [version] = feature.latency_budgets.all()
    assert (
        version.milestone,
        version.version,
        version.budget_ms,
        version.objective,
        version.window_days,
    ) == (
        "first_token",
        1,
        3000,
        Decimal("0.99"),
        28,
    )
    assert (version.created_by, version.created_at) == ("key ci", NOW)
    assert {a.component.name: a.allocated_ms for a in version.allocations.all()} == {
        "model": 1500,
        "retrieval": 400,
        "tools": 800,
        "overhead": 300,
    }


def test_objectives_and_milliseconds_are_stored_as_they_were_written(team: Team) -> None:
    budget = {**COMPLETE, "objective": 0.999, "budget_ms": 1234.567}
    feature = declare(team, latency_budgets=[budget]).feature
    version = feature.latency_budgets.get()
    assert (version.objective, version.budget_ms) == (Decimal("0.999000"), Decimal("1234.567"))


def test_the_name_is_kept_without_the_space_around_it(team: Team) -> None:
    assert declare(team, name="  Chat ").feature.name == "Chat"


def test_a_feature_without_promises_may_be_declared(team: Team) -> None:
    assert declare(team, latency_budgets=[]).is_created


# -- again ------------------------------------------------------------------------------------------


def test_the_same_document_again_changes_nothing(team: Team) -> None:
    document = {"latency_budgets": [FIRST_TOKEN, COMPLETE], "description": "x"}
    declare(team, **document)
    before = everything()
    for minutes in (0, 1, 60):
        declared = declare(team, now=NOW + timedelta(minutes=minutes), **document)
        assert (declared.is_created, declared.is_changed) == (False, False)
    assert everything() == before


def test_the_same_document_without_promises_again_changes_nothing(team: Team) -> None:
    declare(team, latency_budgets=[])
    declared = declare(team, latency_budgets=[])
    assert (declared.is_created, declared.is_changed) == (False, False)


def test_the_order_of_latency_budgets_and_allocations_says_nothing(team: Team) -> None:
    declare(team, latency_budgets=[FIRST_TOKEN, COMPLETE])
    turned = {**FIRST_TOKEN, "allocations": dict(reversed(FIRST_TOKEN["allocations"].items()))}
    assert not declare(team, latency_budgets=[COMPLETE, turned]).is_changed


def test_what_was_described_changes_nothing_when_it_is_declared(team: Team) -> None:
    latency_budgets = [FIRST_TOKEN, {**COMPLETE, "note": "why", "objective": 0.999}]
    declare(team, latency_budgets=latency_budgets)
    declare(
        team, latency_budgets=[COMPLETE], runbook_url="https://wiki.example", now=NOW + timedelta(hours=1)
    )
    described = describe(Feature.objects.get(slug="chat"))
    before = everything()
    declared = declare_feature(
        team=team, slug="chat", document=described, actor="other", now=NOW + timedelta(hours=2)
    )
    assert not declared.is_changed
    assert everything() == before


def everything() -> list[Any]:
    """Every row that a declaration may touch."""
    return [
        list(model.objects.order_by("pk").values())
        for model in (Feature, Component, LatencyBudget, Allocation)
    ]


# -- versions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"budget_ms": 3500},
        {"objective": 0.995},
        {"window_days": 30},
        {"note": "the model got faster"},
        {"allocations": {"model": 1500}},
        {"allocations": {}},
    ],
    ids=str,
)
def test_a_changed_latency_budget_is_a_new_version_and_the_old_one_stays(
    team: Team, change: dict[str, Any]
) -> None:
    feature = declare(team).feature
    first = everything()[2][0]
    declared = declare(team, latency_budgets=[FIRST_TOKEN | change], now=NOW + timedelta(hours=1))
    assert (declared.is_created, declared.is_changed) == (False, True)
    assert [version for _, version, _ in versions(feature)] == [1, 2]
    assert everything()[2][0] == first


@pytest.mark.parametrize(
    ("saved_at", "in_force_from"),
    [
        ("20:00:00", "20:01:00"),
        ("20:00:00.000001", "20:02:00"),
        ("20:00:30", "20:02:00"),
        ("20:00:59.999999", "20:02:00"),
        ("20:01:00", "20:02:00"),
        ("23:59:30", "00:01:00"),
    ],
)
def test_a_later_version_takes_effect_at_the_first_minute_at_least_60_s_ahead(
    team: Team, saved_at: str, in_force_from: str
) -> None:
    feature = declare(team, now=NOW - timedelta(hours=1)).feature
    now = datetime.fromisoformat(f"2026-11-21T{saved_at}+00:00")
    declare(team, latency_budgets=[FIRST_TOKEN | {"budget_ms": 3500}], now=now)
    version = feature.latency_budgets.get(version=2)
    assert version.effective_from.strftime("%H:%M:%S") == in_force_from
    assert timedelta(seconds=60) <= version.effective_from - now < timedelta(seconds=120)


def test_two_changes_within_a_minute_leave_the_last_one_in_force(team: Team) -> None:
    feature = declare(team).feature
    for budget_ms in (3500, 4000):
        declare(team, latency_budgets=[FIRST_TOKEN | {"budget_ms": budget_ms}], now=NOW)
    [in_force] = LatencyBudget.objects.in_force(NOW + timedelta(minutes=5))
    assert (in_force.version, in_force.budget_ms) == (3, 4000)
    [in_force] = LatencyBudget.objects.in_force(NOW)
    assert in_force.version == 1
    assert versions(feature)[-1] == ("first_token", 3, Decimal(4000))


def test_going_back_to_an_earlier_latency_budget_is_a_version_too(team: Team) -> None:
    feature = declare(team).feature
    declare(team, latency_budgets=[FIRST_TOKEN | {"budget_ms": 3500}], now=NOW + timedelta(hours=1))
    declare(team, now=NOW + timedelta(hours=2))
    assert [budget_ms for _, _, budget_ms in versions(feature)] == [3000, 3500, 3000]


def test_a_version_never_takes_effect_before_the_one_it_replaces(team: Team) -> None:
    feature = declare(team).feature
    declare(team, latency_budgets=[FIRST_TOKEN | {"budget_ms": 3500}], now=NOW + timedelta(hours=1))
    # Another server's clock is behind.
    declare(team, latency_budgets=[FIRST_TOKEN | {"budget_ms": 4000}], now=NOW)
    second, third = feature.latency_budgets.filter(version__gt=1)
    assert third.effective_from == second.effective_from


def test_a_change_of_one_milestone_leaves_the_other_alone(team: Team) -> None:
    feature = declare(team, latency_budgets=[FIRST_TOKEN, COMPLETE]).feature
    declare(team, latency_budgets=[FIRST_TOKEN, COMPLETE | {"budget_ms": 9000}], now=NOW)
    assert [(milestone, version) for milestone, version, _ in versions(feature)] == [
        ("complete", 1),
        ("complete", 2),
        ("first_token", 1),
    ]


def test_a_milestone_that_is_missing_is_retired_by_a_version_and_keeps_its_history(team: Team) -> None:
    feature = declare(team, latency_budgets=[FIRST_TOKEN, COMPLETE]).feature
    declare(team, latency_budgets=[COMPLETE], now=NOW)
    retired = feature.latency_budgets.get(milestone="first_token", version=2)
    assert retired.is_retired
    assert (retired.objective, retired.window_days, retired.allocations.count()) == (None, None, 0)
    assert retired.effective_from == NOW.replace(minute=2, second=0)
    assert feature.latency_budgets.get(milestone="first_token", version=1).budget_ms == 3000


def test_a_retired_milestone_is_retired_once(team: Team) -> None:
    feature = declare(team).feature
    for _ in range(3):
        declared = declare(team, latency_budgets=[], now=NOW + timedelta(hours=1))
    assert not declared.is_changed
    assert len(versions(feature)) == 2


def test_a_retired_milestone_may_come_back(team: Team) -> None:
    feature = declare(team).feature
    declare(team, latency_budgets=[], now=NOW + timedelta(hours=1))
    declare(team, now=NOW + timedelta(hours=2))
    assert [budget_ms for _, _, budget_ms in versions(feature)] == [3000, None, 3000]


def test_only_a_first_version_of_a_feature_that_was_there_asks_for_what_is_stored_to_be_judged_anew(
    team: Team,
) -> None:
    feature = declare(team).feature
    assert feature.rejudge_requested_at is None
    declare(team, latency_budgets=[FIRST_TOKEN | {"budget_ms": 3500}], now=NOW)
    feature.refresh_from_db()
    assert feature.rejudge_requested_at is None
    later = NOW + timedelta(hours=1)
    declare(team, latency_budgets=[FIRST_TOKEN | {"budget_ms": 3500}, COMPLETE], now=later)
    feature.refresh_from_db()
    assert feature.rejudge_requested_at == later


# -- components and facts ---------------------------------------------------------------------------


def test_a_missing_component_is_archived_and_comes_back_when_it_is_listed(team: Team) -> None:
    feature = declare(team).feature
    without = {**FIRST_TOKEN, "allocations": {"model": 1500}}
    declare(team, components=["model", "tools"], latency_budgets=[without], now=NOW)
    assert components(feature) == {
        "model": "declared",
        "tools": "declared",
        "retrieval": "archived",
        "overhead": "archived",
    }
    declare(team, now=NOW + timedelta(hours=1))
    assert set(components(feature).values()) == {"declared"}
    assert feature.components.count() == 4


def test_a_component_that_was_only_measured_is_declared_once_it_is_listed(team: Team) -> None:
    feature = declare(team).feature
    Component.objects.create(feature=feature, name="reranker", state=Component.State.OBSERVED, position=9)
    declare(team)
    assert components(feature)["reranker"] == "observed"
    declare(team, components=["reranker", "model", "retrieval", "tools", "overhead"])
    assert components(feature)["reranker"] == "declared"
    assert describe(Feature.objects.get(pk=feature.pk))["components"][0] == "reranker"


def test_components_stand_in_the_order_of_the_document(team: Team) -> None:
    feature = declare(team).feature
    turned = ["overhead", "tools", "retrieval", "model"]
    assert declare(team, components=turned).is_changed
    assert describe(Feature.objects.get(pk=feature.pk))["components"] == turned


def test_facts_are_replaced_by_what_the_document_says_and_defaults(team: Team) -> None:
    declare(team, description="x", runbook_url="https://wiki.example", kind="other")
    feature = declare(team, name="Help").feature
    feature.refresh_from_db()
    assert (feature.name, feature.description, feature.runbook_url, feature.kind) == (
        "Help",
        "",
        "",
        "interactive_chat",
    )
    assert len(versions(feature)) == 1


def test_archiving_keeps_the_instant_of_the_first_time_and_un_archiving_forgets_it(team: Team) -> None:
    declare(team)
    declare(team, archived=True, now=NOW + timedelta(hours=1))
    feature = declare(team, archived=True, now=NOW + timedelta(hours=2)).feature
    feature.refresh_from_db()
    assert feature.archived_at == NOW + timedelta(hours=1)
    assert len(versions(feature)) == 1
    feature = declare(team).feature
    feature.refresh_from_db()
    assert feature.archived_at is None


# -- who --------------------------------------------------------------------------------------------


def test_a_slug_of_another_team_is_not_found_and_stays_as_it_is(team: Team) -> None:
    declare(team)
    before = everything()
    with pytest.raises(Refusal) as refused:
        declare(make_team(), name="Mine now")
    assert (refused.value.code, refused.value.status) == ("unknown_feature", 404)
    assert everything() == before


def test_a_document_of_another_team_is_refused_and_nothing_is_made(team: Team) -> None:
    with pytest.raises(Refusal) as refused:
        declare(team, team="others")
    assert (refused.value.code, refused.value.status) == ("wrong_team", 400)
    assert list(refused.value.fields) == ["team"]
    assert not Feature.objects.exists()


def test_a_document_may_name_its_own_team(team: Team) -> None:
    assert declare(team, team=team.slug).is_created


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency_budgets": [FIRST_TOKEN | {"objective": 1}]},
        {"latency_budgets": [FIRST_TOKEN, FIRST_TOKEN]},
        {"latency_budgets": [FIRST_TOKEN | {"budget_ms": 2999}]},
        {"components": ["model", "model"], "latency_budgets": []},
    ],
    ids=lambda one: str(one)[:60],
)
def test_a_refused_document_changes_nothing(team: Team, wrong: dict[str, Any]) -> None:
    with pytest.raises(Refusal):
        declare(team, **wrong)
    assert not Feature.objects.exists()
    declare(team)
    before = everything()
    with pytest.raises(Refusal):
        declare(team, name="Other", **wrong)
    assert everything() == before


# -- at once ----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_of_many_that_declare_a_new_feature_at_once_one_made_it(team: Team) -> None:
    declared = at_once(*[lambda: declare(team)] * 6)
    assert [one.is_created for one in declared].count(True) == 1
    assert [one.is_changed for one in declared].count(True) == 1
    assert versions(declared[0].feature) == [("first_token", 1, Decimal(3000))]


@pytest.mark.django_db(transaction=True)
def test_of_two_teams_that_want_a_slug_at_once_one_gets_it() -> None:
    def attempt(team: Team) -> Any:
        def verb() -> bool:
            try:
                return declare(team).is_created
            except Refusal as refused:
                return refused.status != 404

        return verb

    assert sorted(at_once(*[attempt(make_team()) for _ in range(4)])) == [False, False, False, True]
    assert Feature.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_changes_at_once_become_versions_one_after_the_other(team: Team) -> None:
    feature = declare(team).feature

    def change(budget_ms: int) -> Any:
        return lambda: declare(team, latency_budgets=[FIRST_TOKEN | {"budget_ms": budget_ms}])

    at_once(*[change(3000 + n) for n in range(1, 6)])
    found = versions(feature)
    assert [version for _, version, _ in found] == [1, 2, 3, 4, 5, 6]
    assert {budget_ms for _, _, budget_ms in found} == set(range(3000, 3006))


@pytest.mark.django_db(transaction=True)
def test_declaring_and_measuring_at_once_hold_each_other_up_but_never_for_good(team: Team) -> None:
    feature = declare(team).feature
    api = Api(team, make_key(team)[1])

    def post(number: int) -> Any:
        items = [item(feature, component=f"part-{number}-{n}") for n in range(5)]
        return lambda: api.post({"measurements": items}).status_code

    def put(number: int) -> Any:
        return lambda: declare(team, name=f"Name {number}").is_changed

    verbs = [verb(n) for n in range(4) for verb in (post, put)]
    with time_machine.travel(NOW, tick=False):
        answers = at_once(*verbs)
    assert answers[::2] == [200] * 4
    assert all(answers[1::2])
    assert feature.components.count() == 24


# -- describing -------------------------------------------------------------------------------------


def test_a_feature_is_described_by_its_document_and_all_its_versions(team: Team) -> None:
    declare(team, latency_budgets=[FIRST_TOKEN | {"note": "first"}], description="x")
    declare(team, latency_budgets=[COMPLETE], now=NOW + timedelta(hours=1))
    described = describe(Feature.objects.get(slug="chat"))
    assert described == {
        "feature": "chat",
        "name": "Support chat",
        "team": team.slug,
        "kind": "interactive_chat",
        "description": "",
        "archived": False,
        "components": ["model", "retrieval", "tools", "overhead"],
        "latency_budgets": [{**COMPLETE, "allocations": {}, "note": ""}],
        "runbook_url": None,
        "versions": [
            {
                **COMPLETE,
                "version": 1,
                "allocations": {},
                "note": "",
                "effective_from": "2026-11-21T21:00:00Z",
            },
            {**FIRST_TOKEN, "version": 1, "note": "first", "effective_from": "2026-11-21T20:00:00Z"},
            {
                "milestone": "first_token",
                "version": 2,
                "budget_ms": None,
                "objective": None,
                "window_days": None,
                "allocations": {},
                "note": "",
                "effective_from": "2026-11-21T21:02:00Z",
            },
        ],
    }


def test_many_features_are_described_in_a_constant_number_of_queries(team: Team) -> None:
    counts = []
    for size in (2, 12):
        while Feature.objects.count() < size:
            make_feature(team=team, latency_budgets=[FIRST_TOKEN, COMPLETE])
        with CaptureQueriesContext(connection) as queries:
            assert len([describe(one) for one in with_documents(Feature.objects.all())]) == size
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_an_instant_is_written_in_utc_with_a_z() -> None:
    assert instant(datetime.fromisoformat("2026-11-21T21:00:00.5+01:00")) == "2026-11-21T20:00:00.500000Z"
    assert instant(None) is None


# -- two people -------------------------------------------------------------------------------------


def change(feature: Feature, expected_digest: str, **overrides: Any) -> Declared:
    return declare_feature(
        team=feature.team,
        slug=feature.slug,
        document=feature_document(**overrides),
        actor="ada@example.com",
        now=NOW,
        expected_digest=expected_digest,
    )


def test_who_expects_what_is_there_changes_it(team: Team) -> None:
    feature = declare(team).feature
    digest = digest_of(declared_document(describe(feature)))

    assert change(feature, digest, name="Help desk").is_changed


def test_who_expects_something_else_changes_nothing(team: Team) -> None:
    feature = declare(team).feature
    digest = digest_of(declared_document(describe(feature)))
    change(feature, digest, name="Help desk")
    before = everything()

    with pytest.raises(Refusal) as refused:
        change(feature, digest, name="Front desk")

    assert (refused.value.code, refused.value.status) == ("changed_meanwhile", 409)
    assert everything() == before


def test_who_expects_a_feature_to_be_new_does_not_change_one_that_is_there(team: Team) -> None:
    feature = declare(team).feature
    before = everything()
    for owner in (team, make_team()):
        with pytest.raises(Refusal) as refused:
            declare_feature(
                team=owner,
                slug=feature.slug,
                document=feature_document(name="Another"),
                actor="ada@example.com",
                now=NOW,
                expected_digest=ABSENT,
            )
        assert (refused.value.code, list(refused.value.fields)) == ("slug_taken", ["feature"])
    assert everything() == before


@pytest.mark.django_db(transaction=True)
def test_of_many_who_started_from_the_same_document_one_saves() -> None:
    feature = declare(make_team()).feature
    digest = digest_of(declared_document(describe(feature)))

    def save(name: str) -> str:
        try:
            change(Feature.objects.select_related("team").get(pk=feature.pk), digest, name=name)
        except Refusal as refusal:
            return refusal.code
        return name

    answers = at_once(*(lambda name=name: save(name) for name in ("a", "b", "c", "d")))

    feature.refresh_from_db()
    assert sorted(answers) == sorted([feature.name, *["changed_meanwhile"] * 3])


def test_a_plan_names_the_versions_that_are_then_added(team: Team) -> None:
    feature = declare(team, latency_budgets=[FIRST_TOKEN]).feature
    wanted = feature_document(latency_budgets=[COMPLETE])
    planned = plan_versions(feature, read_document("chat", wanted), NOW)
    assert plan_versions(None, read_document("chat", wanted), NOW)[0].is_first

    declare(team, latency_budgets=[COMPLETE])

    added = feature.latency_budgets.exclude(milestone="first_token", version=1).order_by("-milestone")
    assert [(one.milestone, one.version, one.effective_from, one.is_retirement) for one in planned] == [
        (version.milestone, version.version, version.effective_from, version.is_retired) for version in added
    ]
