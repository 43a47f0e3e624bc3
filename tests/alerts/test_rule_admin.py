"""Alert rules in Django's administration: what pages and the API refuse is refused there as well."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from alerts.models import AlertRule, RuleState
from budgets.models import AuditEntry, Feature
from tests.alerts.scenes import look
from tests.factories import NOW, make_feature

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]


@pytest.fixture
def feature() -> Feature:
    return make_feature()


@pytest.fixture
def operator(client: Client) -> Client:
    user = get_user_model().objects.create_superuser(email="operator@example.com", password="a long one")
    client.force_login(user)
    return client


def make_rule(feature: Feature, **overrides: Any) -> AlertRule:
    values = {"kind": "timeouts", "name": "mine", "component": "tools", **overrides}
    return AlertRule.objects.create(feature=feature, **values)


def submitted(operator: Client, rule: AlertRule, **overrides: str) -> Any:
    """What the form of the administration answers to these fields."""
    fields = {
        "name": rule.name,
        "component": rule.component or "",
        "severity": rule.severity or "",
        "parameters": "{}",
        "is_enabled": "on",
        "for_seconds": str(rule.for_seconds),
        "keep_firing_seconds": "",
        "states-TOTAL_FORMS": "0",
        "states-INITIAL_FORMS": "0",
        **overrides,
    }
    return operator.post(reverse("admin:alerts_alertrule_change", args=[rule.pk]), fields)


@pytest.mark.parametrize(
    ("fields", "at", "said"),
    [
        ({"parameters": '{"share_ratio": 2}'}, "parameters", "share_ratio must be a number between 0 and 1"),
        ({"parameters": '{"ratio": 0.1}'}, "parameters", "timeouts has no such parameter"),
        ({"parameters": "[1]"}, "parameters", "parameters must be an object"),
        ({"for_seconds": "90000"}, "for_seconds", "from 0 to 86400"),
        ({"component": "nothing"}, "component", "neither declares nor ever measured"),
        ({"name": "a/b"}, "name", "none of them a slash"),
        ({"name": "other"}, "name", "has a rule 'other' already"),
    ],
)
def test_what_the_verb_refuses_is_refused_at_its_field(
    feature: Feature, operator: Client, fields: dict[str, str], at: str, said: str
) -> None:
    make_rule(feature, name="other")
    rule = make_rule(feature)
    before = AlertRule.objects.filter(pk=rule.pk).values().get()
    answer = submitted(operator, rule, **fields)
    assert answer.status_code == 200
    [message] = answer.context["adminform"].form.errors[at]
    assert said in message
    assert AlertRule.objects.filter(pk=rule.pk).values().get() == before


def test_what_is_sound_is_saved_written_down_and_forgets_what_it_had_found(
    feature: Feature, operator: Client
) -> None:
    rule = make_rule(feature)
    RuleState.objects.create(rule=rule, key="tools", status="inactive", since=NOW, evaluated_at=NOW)
    answer = submitted(operator, rule, parameters='{"share_ratio": 0.2, "min_timeouts": 3}')
    assert answer.status_code == 302
    rule.refresh_from_db()
    assert rule.parameters == {"share_ratio": 0.2}  # the other one is the default
    assert not RuleState.objects.exists()
    assert AuditEntry.objects.filter(action="rule.changed").count() == 1


def test_a_default_rule_keeps_its_name_and_what_it_watches(feature: Feature, operator: Client) -> None:
    look(feature, NOW)
    rule = AlertRule.objects.get(feature=feature, kind="component_overrun")
    name = rule.name
    assert submitted(operator, rule, name="another", component="tools", for_seconds="60").status_code == 302
    rule.refresh_from_db()
    assert (rule.name, rule.component, rule.for_seconds) == (name, None, 60)
