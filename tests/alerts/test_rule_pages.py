"""Pages of a feature's alert rules."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from alerts.models import AlertRule, Incident
from alerts.rule_documents import document_of
from alerts.rule_forms import QUESTIONS, RuleForm
from alerts.rule_settings import save_rule
from budgets.models import AuditEntry, Feature, Membership, Team
from tests.alerts.scenes import MINUTE, burn, look
from tests.budgets.test_pages import signed_in, text_of
from tests.factories import NOW, make_feature, make_team, make_traffic
from tests.people import make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files", "at_now")]

LIST = "/features/support-chat/rules/"
SLOW = {
    "name": "slow first token",
    "target": "milestone:first_token",
    "environment": "production",
    "percentile": "p95",
    "threshold_ms": "500",
    "window": "5m",
    "min_measured": "20",
    "severity": "page",
    "for_seconds": "600",
    "keep_firing_seconds": "",
}
TIMEOUTS = {
    "name": "giving up",
    "target": "component:tools",
    "environment": "production",
    "share_ratio": "2.5",
    "min_timeouts": "4",
    "severity": "",
    "for_seconds": "0",
    "keep_firing_seconds": "",
}
BURNING = {"name": "mine", "target": "milestone:first_token", "environment": "production", "for_seconds": ""}


@pytest.fixture
def at_now() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


@pytest.fixture
def feature(team: Team) -> Feature:
    return make_feature(team=team, slug="support-chat")


@pytest.fixture
def editor(team: Team) -> Client:
    return signed_in(make_person("kim@example.com", team=team, role=Membership.Role.EDITOR))


@pytest.fixture
def viewer(team: Team) -> Client:
    return signed_in(make_person("vera@example.com", team=team))


def read(client: Client, path: str = "", status: int = 200) -> str:
    response = client.get(f"{LIST}{path}")
    assert response.status_code == status
    return text_of(response.content.decode())


def make_rule(feature: Feature, name: str = "slow", **document: Any) -> AlertRule:
    values = {
        "kind": "threshold",
        "milestone": "first_token",
        "parameters": {"threshold_ms": 500},
        **document,
    }
    return save_rule(
        team=feature.team, feature=feature.slug, name=name, document=values, actor="a test", now=NOW
    ).rule


def default_rule(feature: Feature) -> AlertRule:
    return AlertRule.objects.get(feature=feature, kind="burn_rate", is_default=True)


# -- The list ---------------------------------------------------------------------------------------


def test_the_list_tells_where_each_condition_stands_and_by_which_numbers(
    feature: Feature, viewer: Client
) -> None:
    burn(feature, NOW)
    look(feature, NOW)
    said = read(viewer)
    assert "Burn rate, first token default" in said
    assert "Firing 1 h and 5 min since" in said
    assert "both windows burn faster than the limit. 1 h: 40 of 60 bad, burning 66.7×, limit 13.4×" in said
    assert "Component overrun default" in said
    assert "Quiet: model, retrieval, tools, overhead" in said


def test_default_rules_come_first_and_each_leads_to_its_latest_incident(
    feature: Feature, viewer: Client
) -> None:
    make_rule(feature, "a slow one")
    burn(feature, NOW)
    look(feature, NOW)
    html = viewer.get(LIST).content.decode()
    assert html.index("Burn rate, first token") < html.index("a slow one")
    assert f'href="/incidents/{Incident.objects.get().pk}/"' in html
    assert text_of(html).count("none") == 2


def test_a_feature_without_rules_says_what_to_do(team: Team, editor: Client, viewer: Client) -> None:
    make_feature(team=team, slug="support-chat", latency_budgets=[])
    assert "Nothing is watched yet." in read(viewer)
    assert f'href="{LIST}new/"' in editor.get(LIST).content.decode()
    assert f'href="{LIST}new/"' not in viewer.get(LIST).content.decode()


def test_queries_do_not_grow_with_rules(feature: Feature, viewer: Client) -> None:
    look(feature, NOW)
    read(viewer)
    with CaptureQueriesContext(
        connection,
    ) as few:
        read(viewer)
    for number in range(6):
        make_rule(feature, f"slow {number}")
    with CaptureQueriesContext(connection) as many:
        read(viewer)
    assert len(many) == len(few)


def test_one_button_disables_a_rule_and_enables_it_again(feature: Feature, editor: Client) -> None:
    rule = make_rule(feature)
    for word, value in (("Disabled", "false"), ("Enabled", "true")):
        response = editor.post(f"{LIST}{rule.pk}/switch/", {"enabled": value, "from": "list"}, follow=True)
        assert response.redirect_chain == [(LIST, 302)]
        assert f"slow. {word}:" in text_of(response.content.decode())
        rule.refresh_from_db()
        assert rule.is_enabled == (value == "true")
    assert (
        list(AuditEntry.objects.filter(action="rule.saved").values_list("actor", flat=True)[:2])
        == ["kim@example.com"] * 2
    )


def test_a_rule_that_cannot_fire_any_more_is_not_enabled_and_says_why(
    feature: Feature, editor: Client
) -> None:
    rule = make_rule(feature, kind="error_budget", milestone="complete", parameters={}, enabled=False)
    response = editor.post(f"{LIST}{rule.pk}/switch/", {"enabled": "true"}, follow=True)
    assert "complete of support-chat has no latency budget" in text_of(response.content.decode())
    rule.refresh_from_db()
    assert not rule.is_enabled


# -- Making one -------------------------------------------------------------------------------------


def test_an_editor_saves_a_rule_as_the_form_says(feature: Feature, editor: Client) -> None:
    response = editor.post(f"{LIST}new/?kind=threshold", SLOW)
    rule = AlertRule.objects.get(feature=feature, name="slow first token")
    assert response["Location"] == f"{LIST}{rule.pk}/"
    assert document_of(rule) == {
        "kind": "threshold",
        "environment": "production",
        "milestone": "first_token",
        "component": None,
        "severity": "page",
        "enabled": True,
        "for_seconds": 600,
        "keep_firing_seconds": None,
        "parameters": {"percentile": "p95", "window": "5m", "min_measured": 20, "threshold_ms": 500},
    }
    assert AuditEntry.objects.get(action="rule.saved").actor == "kim@example.com"


def test_shares_are_given_in_percent(feature: Feature, editor: Client) -> None:
    assert editor.post(f"{LIST}new/?kind=timeouts", TIMEOUTS).status_code == 302
    rule = AlertRule.objects.get(name="giving up")
    assert (rule.component, rule.parameters) == ("tools", {"share_ratio": 0.025, "min_timeouts": 4})
    assert 'value="2.5"' in editor.get(f"{LIST}{rule.pk}/").content.decode()


@pytest.mark.parametrize("kind", AlertRule.Kind.values)
def test_the_form_of_each_kind_saves_what_it_shows(feature: Feature, editor: Client, kind: str) -> None:
    """A new rule by its defaults, and again as its own page shows it: nothing changes."""
    assert QUESTIONS[kind] in read(editor, f"new/?kind={kind}")
    fresh = RuleForm(feature=feature, kind=kind)
    given = {name: fresh[name].value() for name in fresh.fields if fresh[name].value() is not None}
    given |= {"name": "mine", "threshold_ms": "750"}
    if "target" in fresh.fields:
        choices = fresh.fields["target"].choices  # type: ignore[attr-defined]
        first = choices[0]
        given["target"] = first[1][0][0] if isinstance(first[1], (list, tuple)) else first[0]
    response = editor.post(f"{LIST}new/?kind={kind}", given)
    assert response.status_code == 302, text_of(response.content.decode())
    rule = AlertRule.objects.get(feature=feature, name="mine")
    before = document_of(rule)
    shown = RuleForm(feature=feature, kind=kind, rule=rule)
    again = {name: shown[name].value() for name in shown.fields if shown[name].value() is not None}
    assert editor.post(f"{LIST}{rule.pk}/", again).status_code == 302
    rule.refresh_from_db()
    assert document_of(rule) == before


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("threshold", {"threshold_ms": ""}, "Fill this in: without it the rule cannot decide."),
        ("threshold", {"threshold_ms": "soon"}, "Expected a number of milliseconds, such as 500."),
        ("threshold", {"threshold_ms": "999999999"}, "Beyond that it could never fire."),
        ("threshold", {"name": ""}, "A rule needs a name."),
        ("threshold", {"for_seconds": "-1"}, "Expected a whole number from 0 to 86400"),
        ("timeouts", {"share_ratio": "100"}, "Expected more than 0 and less than 100, such as 1."),
        ("burn_rate", {"target": "milestone:complete"}, "complete of support-chat has no latency budget"),
        ("burn_rate", {"target": "component:tools"}, "Select a valid choice"),
        (
            "error_budget",
            {"remaining_percents": "50, half"},
            "Expected 1 to 10 different whole numbers from 0 to 99, such as 50, 25, 0; got",
        ),
    ],
)
def test_what_is_wrong_stands_at_its_field_and_what_was_typed_stays(
    feature: Feature, editor: Client, kind: str, change: dict[str, str], said: str
) -> None:
    given = {"threshold": SLOW, "timeouts": TIMEOUTS}.get(kind, BURNING) | {"keep_firing_seconds": "77"}
    response = editor.post(f"{LIST}new/?kind={kind}", {**given, **change})
    assert response.status_code == 400
    html = response.content.decode()
    [field] = change
    error = html.split(f'id="id_{field}_error">', 1)[1].split("</p>", 1)[0]
    assert said in text_of(error)
    assert 'value="77"' in html
    assert not AlertRule.objects.filter(feature=feature, is_default=False).exists()


def test_a_second_rule_of_a_name_is_refused(feature: Feature, editor: Client) -> None:
    make_rule(feature, "slow first token")
    response = editor.post(f"{LIST}new/?kind=threshold", SLOW)
    assert "support-chat has a rule 'slow first token' already." in text_of(response.content.decode())


def test_a_kind_that_there_is_not_is_not_found(feature: Feature, editor: Client) -> None:
    read(editor, "new/?kind=astrology", status=404)


# -- Studying ---------------------------------------------------------------------------------------


def test_a_study_shows_what_it_would_do_and_saves_nothing(feature: Feature, editor: Client) -> None:
    for back in range(10):
        at = NOW.replace(second=0) - timedelta(days=2) + back * MINUTE
        make_traffic(feature, at=at, count=30, over=30, milestone="first_token", now=NOW)
    for back in range(60):
        at = NOW.replace(second=0) - timedelta(days=1) + back * MINUTE
        make_traffic(feature, at=at, count=2, over=0, milestone="first_token", now=NOW)
    response = editor.post(f"{LIST}new/?kind=burn_rate", {**BURNING, "name": "", "study": "yes"})
    assert response.status_code == 200
    said = text_of(response.content.decode())
    assert "First token : In the last 28 days it would have opened 1 page." in said
    assert "everything bad: a page after about" in said
    assert "When it would have opened an incident, the latest first" in said
    table = said.split("the latest first", 1)[1].split("What was judged", 1)[0]
    assert "page" in table
    assert "1 h and 5 min" in table
    assert "outage" in table
    assert "Nothing was measured before 19 November 2026" in said
    assert not AlertRule.objects.filter(feature=feature).exists()
    assert not AuditEntry.objects.filter(action__startswith="rule.").exists()


def test_a_study_keeps_what_was_typed_and_tells_what_is_wrong(feature: Feature, editor: Client) -> None:
    given = {**TIMEOUTS, "study": "yes", "name": "not yet"}
    html = editor.post(f"{LIST}new/?kind=timeouts", given).content.decode()
    assert 'value="not yet"' in html
    assert 'value="2.5"' in html
    assert "Nothing was measured in the last 28 days." in text_of(html)
    wrong = editor.post(f"{LIST}new/?kind=timeouts", {**given, "min_timeouts": "0"})
    assert wrong.status_code == 400
    assert "Expected a whole number from 1" in text_of(wrong.content.decode())


def test_a_saved_rule_is_studied_by_whoever_may_read_it_also_while_it_is_disabled(
    feature: Feature, viewer: Client
) -> None:
    rule = make_rule(feature, "mine", kind="burn_rate", parameters={}, enabled=False)
    assert "Study: when would it have fired?" in read(viewer, f"{rule.pk}/")
    said = read(viewer, f"{rule.pk}/?study=yes")
    assert "Nothing was measured in the last 28 days." in said
    assert "Disabled: it is not watched." in said


def test_a_rule_that_looks_at_a_percentile_says_what_it_would_do(feature: Feature, editor: Client) -> None:
    said = text_of(editor.post(f"{LIST}new/?kind=threshold", {**SLOW, "study": "yes"}).content.decode())
    assert "when the p95 over 5 minutes is over" in said
    assert "Nothing was measured in the last 28 days." in said
    assert said.count("Nothing was measured") == 1


def test_the_study_of_a_changed_form_changes_no_saved_rule(feature: Feature, editor: Client) -> None:
    look(feature, NOW)
    rule = default_rule(feature)
    response = editor.post(f"{LIST}{rule.pk}/", {"for_seconds": "900", "severity": "ticket", "study": "yes"})
    assert response.status_code == 200
    assert 'value="900"' in response.content.decode()
    rule.refresh_from_db()
    assert (rule.for_seconds, rule.severity) == (0, None)


# -- One rule ---------------------------------------------------------------------------------------


def test_a_default_rule_is_changed_and_reset_and_never_deleted(feature: Feature, editor: Client) -> None:
    look(feature, NOW)
    rule = default_rule(feature)
    address = f"{LIST}{rule.pk}/"
    assert "Reset to default" not in read(editor, f"{rule.pk}/")
    assert editor.post(address, {"for_seconds": "120", "severity": "ticket"}).status_code == 302
    rule.refresh_from_db()
    assert (rule.for_seconds, rule.severity, rule.milestone) == (120, "ticket", "first_token")
    assert "Reset to default" in read(editor, f"{rule.pk}/")
    assert editor.post(f"{address}reset/").status_code == 302
    rule.refresh_from_db()
    assert (rule.for_seconds, rule.severity) == (0, None)
    assert editor.post(f"{address}delete/").status_code == 302
    assert AlertRule.objects.filter(pk=rule.pk).exists()


def test_a_rule_of_ones_own_is_deleted_after_a_question_and_never_reset(
    feature: Feature, editor: Client
) -> None:
    rule = make_rule(feature)
    assert "Delete slow ?" in read(editor, f"{rule.pk}/delete/")
    editor.post(f"{LIST}{rule.pk}/reset/")
    assert AlertRule.objects.filter(pk=rule.pk).exists()
    assert editor.post(f"{LIST}{rule.pk}/delete/")["Location"] == LIST
    assert not AlertRule.objects.filter(pk=rule.pk).exists()
    assert AuditEntry.objects.filter(action="rule.deleted", actor="kim@example.com").exists()


def test_a_viewer_reads_and_is_offered_nothing_to_change(feature: Feature, viewer: Client) -> None:
    rule = make_rule(feature)
    html = viewer.get(f"{LIST}{rule.pk}/").content.decode()
    assert "Threshold ms" in html
    assert "<button" not in html.split("<main", 1)[1].split("</main>", 1)[0]
    assert viewer.post(f"{LIST}{rule.pk}/", SLOW).status_code == 403


def test_another_features_rule_is_not_found(team: Team, feature: Feature, editor: Client) -> None:
    other = make_rule(make_feature(team=team, slug="other"))
    read(editor, f"{other.pk}/", status=404)
    assert editor.post(f"{LIST}{other.pk}/switch/", {"enabled": "false"}).status_code == 404


# -- Links ------------------------------------------------------------------------------------------


def test_the_feature_and_the_incident_lead_to_the_rules(feature: Feature, viewer: Client) -> None:
    burn(feature, NOW)
    look(feature, NOW)
    assert f'href="{LIST}"' in viewer.get("/features/support-chat/").content.decode()
    page = viewer.get(f"/incidents/{Incident.objects.get().pk}/").content.decode()
    assert f'href="{LIST}{default_rule(feature).pk}/"' in page


def test_an_incident_leads_to_the_rule_with_the_longer_of_two_names_and_to_none_that_is_gone(
    feature: Feature, viewer: Client
) -> None:
    make_rule(feature, "slow")
    meant = make_rule(feature, "slow first", parameters={"threshold_ms": 500, "percentile": "p50"})
    burn(feature, NOW)
    look(feature, NOW)
    incident = Incident.objects.get()
    Incident.objects.update(rule="slow first p50")
    assert f'href="{LIST}{meant.pk}/"' in viewer.get(incident.get_absolute_url()).content.decode()
    AlertRule.objects.exclude(kind="burn_rate").delete()
    assert f'href="{LIST}' not in viewer.get(incident.get_absolute_url()).content.decode()
