"""Rules as people and programs save them: what is refused and why, what default rules keep, what is written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts.models import AlertRule, RuleState
from alerts.rule_documents import document_of
from alerts.rule_settings import delete_rule, save_rule
from alerts.sights import DEFAULTS
from budgets.errors import Refusal
from budgets.models import AuditEntry, Feature
from tests.alerts.scenes import MINUTE, incidents_of, look, overrun
from tests.api import Api, error_code
from tests.factories import NOW, make_feature, make_key, make_team, make_traffic
from tests.latency_dashboard.test_declarations import apply, run

pytestmark = pytest.mark.django_db

DAY_S = 86_400


@pytest.fixture
def feature() -> Feature:
    return make_feature(slug="support-chat")


def save(feature: Feature, name: str = "ours", **document: Any) -> AlertRule:
    return save_rule(
        team=feature.team, feature=feature.slug, name=name, document=document, actor="kim", now=NOW
    ).rule


def refused(feature: Feature, name: str = "ours", **document: Any) -> dict[str, list[str]]:
    before = list(AlertRule.objects.values())
    with pytest.raises(Refusal) as caught:
        save(feature, name, **document)
    assert caught.value.code == "invalid_rule"
    assert list(AlertRule.objects.values()) == before
    return caught.value.fields


SOUND: list[dict[str, Any]] = [
    {"kind": "burn_rate", "milestone": "first_token", "environment": "staging"},
    {"kind": "component_overrun", "component": "tools"},
    {"kind": "timeouts"},
    {"kind": "timeouts", "component": "tools", "parameters": {"share_ratio": 0.05, "min_timeouts": 10}},
    {"kind": "error_budget", "milestone": "first_token", "parameters": {"remaining_percents": [30, 0]}},
    {"kind": "threshold", "milestone": "complete", "parameters": {"threshold_ms": 500.5, "window": "1h"}},
    {"kind": "threshold", "component": "tools", "parameters": {"threshold_ms": 500, "percentile": "p99"}},
    {"kind": "trend", "component": "model", "parameters": {"growth_ratio": 1.5}},
    {"kind": "forecast", "milestone": "first_token", "severity": "page"},
    {"kind": "no_data", "for_seconds": 60, "keep_firing_seconds": 0},
    {"kind": "no_data", "milestone": "complete", "parameters": {"silent_minutes": 120}},
    {"kind": "unallocated_component", "enabled": False, "parameters": {"share_ratio": 0.1}},
]


@pytest.mark.parametrize("document", SOUND, ids=lambda one: str(one["kind"]))
def test_the_document_of_a_rule_changes_nothing(feature: Feature, document: dict[str, Any]) -> None:
    rule = save(feature, **document)
    told = document_of(rule)
    assert told["parameters"] == {**DEFAULTS[rule.kind], **document.get("parameters", {})}
    assert {field: told[field] for field in document if field != "parameters"} == {
        field: value for field, value in document.items() if field != "parameters"
    }
    before = AlertRule.objects.filter(pk=rule.pk).values().get()
    save(feature, **told)
    assert AlertRule.objects.filter(pk=rule.pk).values().get() == before
    assert AuditEntry.objects.filter(action="rule.saved").count() == 1


@pytest.mark.parametrize(
    ("document", "field", "said"),
    [
        ({"kind": "magic"}, "kind", "must be one of burn_rate"),
        ({}, "kind", "must be one of burn_rate"),
        ({"kind": "timeouts", "colour": "red"}, "colour", "no such field"),
        ({"kind": "timeouts", "severity": "loud"}, "severity", "ticket or page"),
        ({"kind": "timeouts", "enabled": 1}, "enabled", "true or false"),
        ({"kind": "timeouts", "for_seconds": -1}, "for_seconds", "from 0 to 86400"),
        ({"kind": "timeouts", "for_seconds": 1.5}, "for_seconds", "whole number"),
        ({"kind": "timeouts", "keep_firing_seconds": True}, "keep_firing_seconds", "whole number"),
        ({"kind": "timeouts", "environment": ""}, "environment", "1 to 200"),
        ({"kind": "timeouts", "component": "a\0b"}, "component", "1 to 200"),
        ({"kind": "timeouts", "component": "\ud800"}, "component", "1 to 200"),
        ({"kind": "timeouts", "milestone": "first_token"}, "milestone", "no milestone"),
        ({"kind": "forecast"}, "milestone", "watches a milestone"),
        ({"kind": "forecast", "milestone": "first_token", "component": "tools"}, "component", "no single"),
        ({"kind": "trend"}, "milestone", "either a milestone or a component"),
        ({"kind": "trend", "milestone": "first_token", "component": "tools"}, "milestone", "either"),
        ({"kind": "no_data", "milestone": "first_token", "component": "tools"}, "milestone", "or all"),
        ({"kind": "unallocated_component", "component": "tools"}, "component", "no single"),
        ({"kind": "timeouts", "parameters": []}, "parameters", "an object"),
        ({"kind": "timeouts", "parameters": {"ratio": 1}}, "parameters.ratio", "no such parameter"),
        (
            {"kind": "forecast", "milestone": "first_token", "parameters": {"h": 1}},
            "parameters.h",
            "has none",
        ),
        ({"kind": "timeouts", "parameters": {"share_ratio": "x"}}, "parameters.share_ratio", "a number"),
        (
            {
                "kind": "error_budget",
                "milestone": "first_token",
                "parameters": {"remaining_percents": [5, 5]},
            },
            "parameters.remaining_percents",
            "different whole numbers",
        ),
        ({"kind": "threshold", "milestone": "first_token"}, "parameters.threshold_ms", "needs threshold_ms"),
    ],
)
def test_a_rule_is_refused_with_the_field_that_is_wrong(
    feature: Feature, document: dict[str, Any], field: str, said: str
) -> None:
    assert said in " ".join(refused(feature, **document)[field])


@pytest.mark.parametrize("name", ["", "  ", "a/b", "a\0b", "x" * 201])
def test_a_rules_name_can_stand_in_an_address(feature: Feature, name: str) -> None:
    assert "name" in refused(feature, name, kind="timeouts")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"kind": "error_budget", "milestone": "complete"}, "milestone"),
        ({"kind": "component_overrun", "component": "cache"}, "component"),
        ({"kind": "timeouts", "component": "toolz"}, "component"),
        ({"kind": "timeouts", "parameters": {"share_ratio": 1}}, "parameters.share_ratio"),
        (
            {"kind": "threshold", "component": "tools", "parameters": {"threshold_ms": 7 * DAY_S * 1000}},
            "parameters.threshold_ms",
        ),
        ({"kind": "no_data", "parameters": {"silent_minutes": 1441}}, "parameters.silent_minutes"),
        ({"kind": "no_data", "for_seconds": DAY_S}, "for_seconds"),
    ],
)
def test_a_rule_that_can_never_fire_says_so(feature: Feature, document: dict[str, Any], field: str) -> None:
    make_traffic(feature, at=NOW, count=5, over=0, component="cache")
    assert "never fire" in " ".join(refused(feature, **document)[field])


def test_a_rule_that_is_switched_off_need_not_be_able_to_fire(feature: Feature) -> None:
    assert save(feature, kind="forecast", milestone="complete", enabled=False).is_enabled is False


# -- Default rules ----------------------------------------------------------------------------------


def test_a_default_rule_is_changed_and_keeps_what_it_watches(feature: Feature) -> None:
    look(feature, NOW)
    rule = save(
        feature,
        "burn_rate first_token",
        kind="burn_rate",
        milestone="first_token",
        enabled=False,
        for_seconds=60,
        severity="ticket",
    )
    assert (rule.is_default, rule.is_enabled, rule.for_seconds, rule.severity) == (True, False, 60, "ticket")
    fields = refused(
        feature, "burn_rate first_token", kind="error_budget", milestone="first_token", environment="staging"
    )
    assert set(fields) == {"kind", "environment"}


def test_a_default_rule_is_not_deleted(feature: Feature) -> None:
    look(feature, NOW)
    rule = AlertRule.objects.get(name="component_overrun")
    with pytest.raises(Refusal) as caught:
        delete_rule(rule_id=rule.pk, actor="kim", now=NOW)
    assert (caught.value.code, caught.value.status) == ("default_rule", 409)
    assert AlertRule.objects.filter(pk=rule.pk).exists()


def test_a_default_rule_may_be_saved_before_the_first_evaluation(feature: Feature) -> None:
    save(feature, "component_overrun", kind="component_overrun", for_seconds=120)
    look(feature, NOW)
    rule = AlertRule.objects.get(feature=feature, kind="component_overrun")
    assert (rule.is_default, rule.for_seconds) == (True, 120)


def test_nothing_else_takes_the_name_of_a_default_rule(feature: Feature) -> None:
    assert "default rule" in refused(feature, "component_overrun", kind="timeouts")["name"][0]
    assert "default rule" in refused(feature, "burn_rate complete", kind="no_data")["name"][0]


# -- What follows -----------------------------------------------------------------------------------


def test_saving_and_deleting_are_written_down(feature: Feature) -> None:
    rule = save(feature, kind="timeouts")
    save(feature, kind="timeouts", severity="page")
    delete_rule(rule_id=rule.pk, actor="kim", now=NOW)
    entries = AuditEntry.objects.filter(subject="support-chat/ours").order_by("pk")
    assert [(one.action, one.actor) for one in entries] == [
        ("rule.saved", "kim"),
        ("rule.saved", "kim"),
        ("rule.deleted", "kim"),
    ]
    assert [one.after and one.after["severity"] for one in entries] == [None, "page", None]
    with pytest.raises(Refusal) as caught:
        delete_rule(rule_id=rule.pk, actor="kim", now=NOW)
    assert (caught.value.code, caught.value.status) == ("unknown_rule", 404)


def test_new_and_changed_are_told_apart_where_a_form_asks(feature: Feature) -> None:
    given = {"team": feature.team, "feature": feature.slug, "actor": "kim", "now": NOW}
    with pytest.raises(Refusal, match="deleted"):
        save_rule(**given, name="ours", document={"kind": "timeouts"}, is_new=False)
    assert save_rule(**given, name="ours", document={"kind": "timeouts"}, is_new=True).is_created
    with pytest.raises(Refusal, match="already"):
        save_rule(**given, name="ours", document={"kind": "timeouts"}, is_new=True)


def test_what_a_rule_had_found_goes_where_it_watches_something_else(feature: Feature) -> None:
    save(feature, kind="timeouts", component="tools")
    overrun(feature, NOW, over=30, of=100, status="timeout")
    look(feature, NOW)
    save(feature, kind="timeouts", component="tools", severity="page")
    assert RuleState.objects.filter(rule__name="ours").exists()
    save(feature, kind="timeouts", component="model")
    assert not RuleState.objects.filter(rule__name="ours").exists()


def test_an_incident_ends_with_the_rule_that_held_it_open(feature: Feature) -> None:
    AlertRule.objects.all().delete()
    rule = save(feature, kind="timeouts", component="tools")
    look(feature, NOW)
    AlertRule.objects.filter(is_default=True).update(is_enabled=False)
    overrun(feature, NOW, over=30, of=100, status="timeout")
    look(feature, NOW)
    delete_rule(rule_id=rule.pk, actor="kim", now=NOW)
    look(feature, NOW + MINUTE)
    (incident,) = incidents_of(feature)
    assert incident.resolved_reason == "rule_removed"


# -- Over HTTP --------------------------------------------------------------------------------------


@pytest.fixture
def api(feature: Feature) -> Api:
    return Api(feature.team, make_key(feature.team)[1])


def test_a_rule_is_put_read_listed_and_deleted(api: Api, feature: Feature) -> None:
    look(feature, NOW)
    path = "features/support-chat/rules/slow%20first%20token"
    document = {"kind": "threshold", "milestone": "first_token", "parameters": {"threshold_ms": 500}}
    created = api.put(path, document)
    assert created.status_code == 201
    answer = created.json()
    assert answer == {
        "feature": "support-chat",
        "name": "slow first token",
        "kind": "threshold",
        "environment": "production",
        "milestone": "first_token",
        "component": None,
        "severity": None,
        "enabled": True,
        "for_seconds": 0,
        "keep_firing_seconds": None,
        "parameters": {"percentile": "p95", "window": "5m", "min_measured": 20, "threshold_ms": 500},
        "is_default": False,
    }
    again = api.put(path, answer)
    assert (again.status_code, again.json()) == (200, answer)
    assert api.get(path).json() == answer
    listed = api.get("features/support-chat/rules").json()
    assert [one["name"] for one in listed["items"]] == [
        "burn_rate first_token",
        "component_overrun",
        "slow first token",
    ]
    assert api.delete(path).status_code == 204
    assert error_code(api.get(path)) == "unknown_rule"


def test_another_teams_rules_are_not_found(api: Api, feature: Feature) -> None:
    save(feature, kind="timeouts")
    other = make_team()
    outsider = Api(other, make_key(other)[1])
    for response in (
        outsider.get("features/support-chat/rules"),
        outsider.get("features/support-chat/rules/ours"),
        outsider.put("features/support-chat/rules/ours", {"kind": "timeouts"}),
        outsider.delete("features/support-chat/rules/ours"),
    ):
        assert (response.status_code, error_code(response)) == (404, "unknown_feature")


# -- As documents in files --------------------------------------------------------------------------


def test_an_export_has_the_rules_that_somebody_saved_or_changed(feature: Feature) -> None:
    look(feature, NOW)
    save(feature, kind="timeouts")
    save(feature, "component_overrun", kind="component_overrun", for_seconds=60)
    documents = [one for one in yaml.safe_load_all(run("export")) if one["kind"] == "AlertRule"]
    assert [one["name"] for one in documents] == ["support-chat/component_overrun", "support-chat/ours"]
    assert documents[0]["spec"]["for_seconds"] == 60


def test_apply_saves_rules_and_names_the_line_of_what_is_wrong(feature: Feature, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"

    def document(name: str, spec: str) -> str:
        return f"apiVersion: v1\nkind: AlertRule\nteam: {feature.team.slug}\nname: {name}\nspec:\n{spec}"

    sound = document("support-chat/give up", "  kind: timeouts\n  parameters:\n    share_ratio: 0.05\n")
    assert "1 of 1 documents changed" in apply(file, sound)
    rule = AlertRule.objects.get(name="give up")
    assert rule.parameters == {"share_ratio": 0.05}
    assert "0 of 1 documents changed" in apply(file, sound)
    for wrong, said in (
        (document("support-chat/give up", "  kind: timeouts\n  parameters:\n    share_ratio: 5\n"), ":8"),
        (document("give up", "  kind: timeouts\n"), "named <feature>/<rule>"),
        (document("support-chat/x", "  kind: timeouts\n  feature: other\n"), "in the spec"),
        (document("nowhere/x", "  kind: timeouts\n"), "There is no feature"),
    ):
        with pytest.raises(Exception, match=said):
            apply(file, wrong)
    assert AlertRule.objects.get(name="give up") == rule
