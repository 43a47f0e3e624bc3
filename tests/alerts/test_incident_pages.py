from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
import time_machine
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from alerts import incidents
from alerts.causes import Contribution
from alerts.incidents import Finding, Target
from alerts.models import (
    AlertRule,
    Channel,
    DeliveryAttempt,
    EscalationPolicy,
    Incident,
    IncidentEvent,
    Notification,
    RuleState,
    Silence,
)
from budgets.annotations import add_annotation
from budgets.formats import unbroken
from budgets.models import Component, Feature, Membership, Team, User
from tests.factories import NOW, make_channel, make_feature, make_team, make_traffic
from tests.people import PASSWORD, make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files", "at_now")]

SUMMARY = "Support chat, first token: p99 4.20 s of 3 s, burning 15.2× over 1 h since 19:30 UTC."
SHOWN = unbroken(SUMMARY)
CAUSE = {"component": "tools", "allocated_ms": 800, "observed_ms": 2100.0}


@pytest.fixture
def at_now() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


@pytest.fixture
def feature(team: Team) -> Feature:
    return make_feature(team=team, slug="support-chat", runbook_url="https://wiki.example/chat")


def open_one(feature: Feature, *, minutes_ago: float = 30, component: str = "", **finding: Any) -> Incident:
    """An incident of the feature's first token, or of a component."""
    about = (
        {"component": Component.objects.get(feature=feature, name=component)}
        if component
        else {"milestone": "first_token"}
    )
    values = {
        "severity": "page",
        "rule": "burn_rate 1h/5m",
        "reason": "burning",
        "summary": SUMMARY,
        "cause": CAUSE,
        "burn_rate": 15.2,
    }
    opened = incidents.open_incident(
        target=Target(feature=feature, environment="production", **about),
        finding=Finding(**{**values, **finding}),
        evidence=["1h/5m"],
        now=NOW - timedelta(minutes=minutes_ago),
    )
    assert opened is not None
    return opened


@pytest.fixture
def incident(feature: Feature) -> Incident:
    return open_one(feature)


def signed_in(user: User, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


@pytest.fixture
def editor(team: Team) -> Client:
    return signed_in(make_person("editor@example.com", team=team, role=Membership.Role.EDITOR))


@pytest.fixture
def viewer(team: Team) -> Client:
    return signed_in(make_person("viewer@example.com", team=team))


@pytest.fixture
def outsider() -> Client:
    return signed_in(make_person("outsider@example.com", team=make_team(), role=Membership.Role.ADMIN))


def page(client: Client, address: str, **headers: Any) -> str:
    response = client.get(address, **headers)
    assert response.status_code == 200, response.content.decode()[:500]
    return response.content.decode()


def text_of(html: str) -> str:
    html = re.sub(r"<(script|style|title).*?</\1>", " ", html, flags=re.S)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html))).replace(" ,", ",").replace(" .", ".")


def read_aloud(html: str) -> str:
    """The text of a page, with spaces only where a reader sees them."""
    text = text_of(html).replace("\N{NO-BREAK SPACE}", " ")
    return re.sub(r"\( ", "(", re.sub(r" ([,.:)])", r"\1", text))


class TestWhoMaySee:
    def test_a_stranger_is_asked_to_log_in(self, client: Client, incident: Incident) -> None:
        for address in ("/incidents/", incident.get_absolute_url()):
            assert client.get(address)["Location"] == f"/login/?next={address}"

    def test_a_viewer_of_the_team_sees_it(self, viewer: Client, incident: Incident) -> None:
        assert SHOWN in page(viewer, "/incidents/")
        assert SHOWN in page(viewer, incident.get_absolute_url())

    def test_to_an_outsider_it_does_not_exist(self, outsider: Client, incident: Incident) -> None:
        address = incident.get_absolute_url()

        assert outsider.get(address).status_code == 404
        assert outsider.get(f"{address}charts/latency.json").status_code == 404
        assert outsider.post(f"{address}acknowledge/").status_code == 404
        assert outsider.post(f"{address}resolve/").status_code == 404
        assert SHOWN not in page(outsider, "/incidents/")
        assert "unresolved" not in page(outsider, "/incidents/")


class TestActing:
    def test_an_editor_acknowledges_with_a_note_and_comes_back_to_the_page(
        self, editor: Client, incident: Incident
    ) -> None:
        response = editor.post(
            f"{incident.get_absolute_url()}acknowledge/", {"note": "looking at it"}, follow=True
        )

        incident.refresh_from_db()
        assert (incident.state, incident.acknowledged_by) == ("acknowledged", "editor@example.com")
        assert response.redirect_chain == [(incident.get_absolute_url(), 302)]
        text = text_of(response.content.decode())
        assert "Acknowledged. Reminders stop" in text
        assert "Acknowledged by editor@example.com looking at it" in text

    def test_an_editor_resolves(self, editor: Client, incident: Incident) -> None:
        response = editor.post(f"{incident.get_absolute_url()}resolve/", follow=True)

        incident.refresh_from_db()
        assert (incident.state, incident.resolved_by) == ("resolved", "editor@example.com")
        assert "Resolved by editor@example.com" in text_of(response.content.decode())

    def test_the_feature_of_a_resolved_incident_is_shown_in_its_range(
        self, editor: Client, incident: Incident
    ) -> None:
        incidents.resolve(incident_id=incident.pk, actor="x@example.com", now=NOW)
        opened = incident.opened_at - timedelta(hours=1)

        with time_machine.travel(NOW + timedelta(days=3), tick=False):
            html = page(editor, incident.get_absolute_url())
            [address] = set(re.findall(rf'href="(/features/[^"]*from=[^"]*{opened:%Y-%m-%d}[^"]*)"', html))
            response = editor.get(address.replace("&amp;", "&"))

        assert response.status_code == 200
        assert "Live" in text_of(response.content.decode())

    def test_a_resolved_incident_offers_nothing_to_do(self, editor: Client, incident: Incident) -> None:
        incidents.resolve(incident_id=incident.pk, actor="x@example.com", now=NOW)

        html = page(editor, incident.get_absolute_url())
        assert "acknowledge/" not in html
        assert "resolve/" not in html
        assert "data-live" not in html, "what is over is not refreshed"

    def test_doing_it_twice_changes_nothing_and_says_so(self, editor: Client, incident: Incident) -> None:
        address = f"{incident.get_absolute_url()}acknowledge/"
        editor.post(address)

        response = editor.post(address, follow=True)

        assert "Nothing was changed: it is already acknowledged." in text_of(response.content.decode())
        assert IncidentEvent.objects.filter(incident=incident, kind="acknowledged").count() == 1

    def test_a_viewer_is_offered_no_form_and_refused(self, viewer: Client, incident: Incident) -> None:
        html = page(viewer, incident.get_absolute_url())
        assert "<form" not in html.replace('<form method="post" action="/logout/">', "")
        assert "Only editors and admins of Assistants" in text_of(html)

        response = viewer.post(f"{incident.get_absolute_url()}acknowledge/")
        incident.refresh_from_db()
        assert response.status_code == 403
        assert "Only editors and admins of team Assistants" in response.content.decode()
        assert incident.state == "open"

    def test_without_the_forms_token_nothing_happens(self, team: Team, incident: Incident) -> None:
        person = make_person("admin@example.com", team=team, role=Membership.Role.ADMIN)
        client = signed_in(person, enforce_csrf_checks=True)

        response = client.post(f"{incident.get_absolute_url()}acknowledge/")
        incident.refresh_from_db()
        assert (response.status_code, incident.state) == (403, "open")

    def test_a_get_does_nothing(self, editor: Client, incident: Incident) -> None:
        assert editor.get(f"{incident.get_absolute_url()}resolve/").status_code == 405

    @pytest.mark.parametrize(
        ("action", "note", "why"),
        [
            ("acknowledge", "x" * 2001, "A note has at most 2000 characters, this one has 2001."),
            ("note", "y" * 2001, "A note has at most 2000 characters, this one has 2001."),
            ("note", "", "Nothing was kept: write a note first."),
        ],
    )
    def test_a_note_that_is_refused_stays_in_its_field_beside_why(
        self, editor: Client, incident: Incident, action: str, note: str, why: str
    ) -> None:
        response = editor.post(f"{incident.get_absolute_url()}{action}/", {"note": note})

        incident.refresh_from_db()
        assert (response.status_code, incident.state) == (400, "open")
        html = response.content.decode()
        assert re.search(rf'<details class="note" id="note" open>.*{note}.*{re.escape(why)}', html, re.S)
        assert f'hx-get="{incident.get_absolute_url()}?seen=open"' in html

    def test_a_superuser_acts_for_any_team(self, incident: Incident) -> None:
        client = signed_in(User.objects.create_superuser("root@example.com", PASSWORD))

        client.post(f"{incident.get_absolute_url()}acknowledge/")
        incident.refresh_from_db()
        assert incident.acknowledged_by == "root@example.com"


class TestIncidentPage:
    def test_says_what_how_bad_since_when_and_why(self, viewer: Client, incident: Incident) -> None:
        text = text_of(page(viewer, incident.get_absolute_url())).replace("\N{NO-BREAK SPACE}", " ")

        assert "✕ Open" in text
        assert SUMMARY in text
        assert "Cause: tools: p99 2.10 s against its allocation of 800 ms, 1.30 s over." in text
        assert "21 Nov 2026, 19:30 UTC" in text
        assert "30 min" in text
        assert "15.2×, where 1× is sustainable" in text

    def test_leads_to_the_runbook_and_to_the_milestone_on_the_features_page(
        self, viewer: Client, incident: Incident
    ) -> None:
        html = page(viewer, incident.get_absolute_url())

        assert 'href="https://wiki.example/chat"' in html
        assert 'href="/features/support-chat/?milestone=first_token&amp;window=2h"' in html

    def test_tells_its_events_in_order(self, viewer: Client, incident: Incident) -> None:
        incidents.change_evidence(
            incident=incident, joined=["6h/30m"], left=[], now=NOW - timedelta(minutes=20)
        )
        incidents.change_cause(
            incident=incident, cause=None, summary=SUMMARY, now=NOW - timedelta(minutes=15)
        )
        incidents.acknowledge(incident_id=incident.pk, actor="a@example.com", now=NOW - timedelta(minutes=10))
        incidents.resolve_by_rules(
            incident=Incident.objects.get(pk=incident.pk), reason="recovered", now=NOW - timedelta(minutes=5)
        )

        text = text_of(page(viewer, incident.get_absolute_url()))

        told = [
            "Opened as a page: 1h/5m",
            "Began: 6h/30m",
            "No component is known to be the cause any more",
            "Acknowledged by a@example.com",
            "Recovered",
        ]
        places = [text.index(each, text.index("Event log")) for each in told]
        assert places == sorted(places)

    def test_tells_which_numbers_made_the_rule_fire(self, viewer: Client, feature: Feature) -> None:
        window = {"judged": 60, "bad": 40, "burn_rate": 66.67}
        evidence = {
            "factor": 14.4,
            "long": {"window": "1h", **window},
            "short": {"window": "5m", **window, "bad": 30, "burn_rate": 50.0},
        }
        incident = open_one(
            feature,
            decided_by={"condition": "burn_rate 1h/5m", "reason": "burning", "evidence": evidence},
        )
        assert (
            "burn rate 1h/5m: both windows burn faster than the limit. 1 h: 40 of 60 bad, burning 66.7×, limit 14.4×; "
            "5 min: 30 of 60 bad, burning 50.0×, limit 14.4×."
        ) in page(viewer, incident.get_absolute_url())

    def test_a_merged_incident_leads_to_the_one_it_went_into(self, viewer: Client, feature: Feature) -> None:
        small = open_one(feature, component="tools", summary="tools overruns", burn_rate=None)
        big = open_one(feature)
        incidents.merge(incident=small, into=big, now=NOW)

        html = page(viewer, small.get_absolute_url())
        assert f'<a class="row-link" href="{big.get_absolute_url()}">' in html
        assert f"Merged into incident {big.pk}" in text_of(html)

    def test_lists_who_was_told_with_every_try(self, viewer: Client, feature: Feature, team: Team) -> None:
        make_channel(team, name="on-call hook")
        incident = open_one(feature)
        notification = Notification.objects.get(incident=incident)
        notification.attempts_made = 1
        notification.save()
        DeliveryAttempt.objects.create(
            notification=notification,
            number=1,
            started_at=NOW - timedelta(minutes=29),
            duration_ms=1840.0,
            status_code=503,
            outcome="failed",
            error="the receiver answered 503",
        )

        text = read_aloud(page(viewer, incident.get_absolute_url()))

        assert "on-call hook – Waiting Webhook: a channel of the team, takes tickets and pages" in text
        assert "Try 1: failed, HTTP 503, 1.84 s. the receiver answered 503 21 Nov 2026, 19:31:30 UTC" in text
        assert "✕ Nobody was reached yet." in text
        assert "on-call hook: 1 try failed: the receiver answered 503." in text

    @pytest.mark.parametrize(
        ("why", "said"),
        [
            ("few_traces", "allocations: too few requests, slow ones or others, carry a trace id"),
            ("unmeasured", "allocations: most of the time that slow requests take longer is in no component"),
            ("many_incidents", "allocations: as many incidents began at once"),
        ],
    )
    def test_says_why_the_cause_is_known_by_allocations_only(
        self, viewer: Client, incident: Incident, why: str, said: str
    ) -> None:
        incident.attribution = {
            "by": "allocations",
            "why": why,
            "components": [Contribution("tools", 800, 1200).document()],
        }
        incident.save()
        assert said in text_of(page(viewer, incident.get_absolute_url()))

    def test_names_who_heard_and_what_is_the_matter_with_each_of_the_others(
        self, viewer: Client, feature: Feature, team: Team
    ) -> None:
        for name in ("chat", "pager", "hook", "phone"):
            make_channel(team, name=name)
        incident = open_one(feature)
        sent = Notification.objects.filter(incident=incident)
        sent.filter(channel__name="chat").update(state="delivered", finished_at=NOW, next_attempt_at=None)
        sent.filter(channel__name__in=["pager", "hook"]).update(attempts_made=3)
        sent.filter(channel__name="phone").update(
            state="undeliverable", finished_at=NOW, next_attempt_at=None, reason="expired"
        )

        text = text_of(page(viewer, incident.get_absolute_url()))

        assert "✓ Told: chat." in text
        for name in ("pager", "hook"):
            assert f"{name}: 3 tries failed. Next try: 21 Nov 2026, 19:30 UTC. Channel" in text
        assert "phone: given up, expired. Channel" in text

    @pytest.mark.parametrize(
        ("minutes_ago", "window"),
        [(1, "2h"), (59, "2h"), (61, "6h"), (5 * 24 * 60, "7d"), (90 * 24 * 60, "28d")],
    )
    def test_leads_to_its_feature_in_its_environment_and_time(
        self, viewer: Client, feature: Feature, minutes_ago: int, window: str
    ) -> None:
        incident = open_one(feature, minutes_ago=minutes_ago)
        Incident.objects.filter(pk=incident.pk).update(environment="staging eu")

        html = page(viewer, incident.get_absolute_url())
        address = unescape(re.findall(r'href="([^"]*)">Feature page', html)[0])
        assert (
            address == f"/features/support-chat/?environment=staging+eu&milestone=first_token&window={window}"
        )
        shown = page(viewer, address)
        assert "staging eu" in shown
        assert f'value="{window}"' in shown or f"window={window}" in shown

    def test_a_components_own_incident_in_production_leads_to_its_time_alone(
        self, viewer: Client, feature: Feature
    ) -> None:
        html = page(viewer, open_one(feature, component="tools").get_absolute_url())
        assert 'href="/features/support-chat/?window=2h">Feature page' in html

    def test_of_hundreds_of_steps_it_shows_the_opening_and_the_latest_and_all_when_asked(
        self, viewer: Client, incident: Incident
    ) -> None:
        IncidentEvent.objects.bulk_create(
            IncidentEvent(
                incident=incident,
                kind=kind,
                at=NOW - timedelta(minutes=29) + timedelta(seconds=n),
                reason="incident.repeated" if kind == "told" else "",
                details={"joined": [f"rule {n} "], "left": [], "held_by": f"silence {n}"},
            )
            for kind, number in (("evidence", 800), ("told", 200))
            for n in range(number)
        )
        address = incident.get_absolute_url()
        html = page(viewer, address)
        text = text_of(html[html.index('id="log"') :])
        assert "Opened as a page" in text
        assert [n for n in range(800) if f"Began: rule {n} " in text] == list(range(750, 800))
        assert text.index("Opened as a page") < text.index("750 steps between") < text.index("rule 750 ")
        told = text_of(html[html.index('id="told"') : html.index('id="log"')])
        assert [n for n in range(200) if f"silence {n}." in told] == list(range(180, 200))
        assert "180 steps between" in told
        assert 'href="?log=all#log"' in html

        whole = page(viewer, f"{address}?log=all")
        assert "steps between" not in whole
        assert all(f"rule {n} " in whole for n in range(800))
        assert len(page(viewer, address, HTTP_HX_REQUEST="true")) < len(whole) / 5

    def test_a_log_of_a_few_more_steps_is_shown_as_it_is(self, viewer: Client, incident: Incident) -> None:
        for n in range(60):
            incidents.change_evidence(incident=incident, joined=[f"rule {n}"], left=[], now=NOW)
        assert "Show all" not in page(viewer, incident.get_absolute_url())

    def test_says_since_when_no_data_came_and_when_it_ends_as_silent(
        self, viewer: Client, feature: Feature
    ) -> None:
        incident = open_one(feature)
        rule = AlertRule.objects.create(
            feature=feature,
            name="burn_rate first_token",
            kind="burn_rate",
            milestone="first_token",
            is_default=True,
        )

        def fires(key: str, silent_minutes: int | None) -> None:
            RuleState.objects.create(
                rule=rule,
                key=key,
                status="firing",
                since=NOW - timedelta(minutes=30),
                active_since=NOW - timedelta(minutes=30),
                severity="page",
                reason="no_data" if silent_minutes else "burning",
                no_data_since=NOW - timedelta(minutes=silent_minutes) if silent_minutes else None,
                evaluated_at=NOW,
            )

        def facts() -> str:
            html = page(viewer, incident.get_absolute_url())
            return read_aloud(html[html.index('id="facts"') : html.index('id="cause"')])

        names = ["burn_rate 1h/5m", "burn_rate 6h/30m"]
        Incident.objects.filter(pk=incident.pk).update(evidence=names)
        fires("1h/5m", None)
        fires("6h/30m", 10)
        # Not of this incident: it did not join.
        fires("3d/6h", 20)
        assert "Without data burn rate 6h/30m: it neither fires nor clears" in facts()
        assert "No data since" not in facts()

        RuleState.objects.filter(key="1h/5m").update(no_data_since=NOW - timedelta(minutes=5))
        assert "No data since 21 Nov 2026, 19:55 UTC" in facts()
        # The window of the slower one, six hours.
        assert "Ends as silent, unless data comes, 22 Nov 2026, 01:50 UTC (in 5 h)" in facts()

        RuleState.objects.update(no_data_since=None)
        assert "data" not in facts()

    def test_says_so_where_nobody_was_told(self, viewer: Client, incident: Incident) -> None:
        assert not Channel.objects.exists()
        text = text_of(page(viewer, incident.get_absolute_url()))
        assert "✕ Nobody has been told. Every message and try The team had no channel. Channels" in text
        assert "The team had no channel that could be told: see its channels." in text

    def test_says_what_holds_messages_back_and_what_comes_next(
        self, viewer: Client, feature: Feature, team: Team
    ) -> None:
        make_channel(team, name="pages only", min_severity="page")
        make_channel(team, name="chat")
        Silence.objects.create(
            team=team,
            matchers=[{"name": "component", "operator": "=", "value": "tools"}],
            reason="Load test",
            author="kim@example.com",
            starts_at=NOW - timedelta(hours=3),
            ends_at=NOW + timedelta(hours=3),
        )
        silenced = text_of(page(viewer, open_one(feature, component="tools").get_absolute_url()))
        assert "‖ Nobody has been told." in silenced
        assert "Held back by silence “Load test”" in silenced

        told = read_aloud(page(viewer, open_one(feature, severity="ticket").get_absolute_url()))
        assert "chat: no worker has taken it up. It waits since 21 Nov 2026, 19:30 UTC." in told
        assert "Not told: pages only (takes only pages)." in told
        assert "Whoever was told is told again, while nobody acknowledges it," in told

    def test_names_the_step_of_the_policy_and_the_next(
        self, viewer: Client, feature: Feature, team: Team
    ) -> None:
        make_channel(team, name="chat")
        make_channel(team, name="pager")
        steps = [
            {"notify": [{"kind": "channel", "name": name}], "wait_minutes": 5} for name in ("chat", "pager")
        ]
        EscalationPolicy.objects.create(team=team, name="Nights", steps=steps)
        text = text_of(page(viewer, open_one(feature).get_absolute_url()))
        assert "Opened: step 1 of Nights" in text
        assert "Step 2 of Nights (pager), unless somebody acknowledges it," in text

    def test_a_note_is_kept_and_changes_nothing_else(self, editor: Client, incident: Incident) -> None:
        editor.post(f"{incident.get_absolute_url()}note/", {"note": "Index is being rebuilt"})
        incident.refresh_from_db()
        assert incident.state == "open"
        text = text_of(page(editor, incident.get_absolute_url()))
        assert "Index is being rebuilt" in text
        editor.post(f"{incident.get_absolute_url()}note/", {"note": ""})
        assert incident.events.filter(kind="noted").count() == 1

    def test_shows_how_the_components_share_in_it_and_what_changed(
        self, viewer: Client, incident: Incident
    ) -> None:
        share = {"component": "tools", "allocated_ms": 800, "observed_ms": 2100.0, "excess_ms": 1300.0}
        attribution = {
            "by": "requests",
            "over": 40,
            "within": 160,
            "is_sampled": False,
            "components": [{**share, "share_ratio": 0.81, "but_for_ratio": 0.92}],
        }
        changes = [{"kind": "release", "at": "2026-11-21T19:10:00Z", "text": "Release v412 of tools"}]
        Incident.objects.filter(pk=incident.pk).update(attribution=attribution, changes=changes)
        text = read_aloud(page(viewer, incident.get_absolute_url()))
        assert "tools takes 1.30 s longer in requests over the latency budget: 81.0 % of it." in text
        assert "Had it kept to its 800 ms, 92.0 % of them would have been in time." in text
        assert "Known from the requests themselves: 40 over the latency budget and 160 within it" in text
        assert (
            "Longer by ms Share % In time without % p99 ms Allocated ms tools cause +1300 81.0 92.0 2100 800"
            in text
        )
        assert "Release v412 of tools 21 Nov 2026, 19:10 UTC" in text

    def test_queries_do_not_grow_with_events_and_notifications(
        self,
        viewer: Client,
        feature: Feature,
        team: Team,
        django_assert_max_num_queries: DjangoAssertNumQueries,
    ) -> None:
        make_channel(team)
        small = open_one(make_feature(team=team, slug="small"))
        page(viewer, small.get_absolute_url())
        with django_assert_max_num_queries(60) as first:
            page(viewer, small.get_absolute_url())
        for _ in range(3):
            make_channel(team)
        large = open_one(feature)
        for n in range(10):
            incidents.change_evidence(incident=large, joined=[f"rule {n}"], left=[], now=NOW)
        for notification in Notification.objects.filter(incident=large):
            DeliveryAttempt.objects.create(notification=notification, number=1, started_at=NOW)
        with django_assert_max_num_queries(len(first)):
            page(viewer, large.get_absolute_url())


class TestCharts:
    def test_a_cause_that_is_not_there_any_more_is_said_in_place_of_its_chart(
        self, viewer: Client, feature: Feature, incident: Incident
    ) -> None:
        address = incident.get_absolute_url()
        assert f"{address}charts/cause.json" in page(viewer, address)
        gone = {**CAUSE, "component": 'renamed "tools"'}
        Incident.objects.filter(pk=incident.pk).update(cause=gone)

        html = page(viewer, address)
        assert f"{address}charts/cause.json" not in html
        assert 'There is no component renamed "tools" any more: the cause has no chart.' in read_aloud(html)
        assert viewer.get(f"{address}charts/cause.json").status_code == 404
        assert viewer.get(f"{address}charts/latency.json").status_code == 200

    def test_the_chart_covers_the_hour_before_and_marks_the_steps(
        self, viewer: Client, feature: Feature, incident: Incident
    ) -> None:
        make_traffic(feature, at=NOW - timedelta(minutes=45), count=20, over=2, milestone="first_token")
        incidents.acknowledge(incident_id=incident.pk, actor="a@example.com", now=NOW - timedelta(minutes=10))

        drawn = json.loads(viewer.get(f"{incident.get_absolute_url()}charts/latency.json").content)["figure"]

        p99 = next(trace for trace in drawn["data"] if trace["name"] == "p99")
        assert p99["x"][0] == "2026-11-21T18:30:00"
        assert p99["x"][-1] == "2026-11-21T20:00:00"
        assert [
            a["text"] for a in drawn["layout"]["annotations"] if a["text"] in ("opened", "acknowledged")
        ] == [
            "opened",
            "acknowledged",
        ]

    def test_every_chart_marks_what_people_and_programs_marked(
        self, viewer: Client, feature: Feature, incident: Incident
    ) -> None:
        make_traffic(feature, at=NOW - timedelta(minutes=45), count=20, over=2, milestone="first_token")
        make_traffic(feature, at=NOW - timedelta(minutes=45), count=20, over=2, component="tools")
        at = (incident.opened_at - timedelta(minutes=5)).isoformat()
        deploy = {"kind": "deploy", "text": "roll-out 7", "feature": feature.slug, "at": at}
        add_annotation(team=feature.team, document=deploy, actor="a test", now=NOW)
        for name in ("latency", "cause"):
            drawn = json.loads(viewer.get(f"{incident.get_absolute_url()}charts/{name}.json").content)
            marked = [row[1:] for row in drawn["changes"]["rows"]]
            assert marked == [["Deploy", "roll-out 7"], ["Incident", "opened"]], name

    def test_a_resolved_incidents_chart_ends_with_it(self, viewer: Client, feature: Feature) -> None:
        incident = open_one(feature, minutes_ago=300)
        incidents.resolve(incident_id=incident.pk, actor="a@example.com", now=NOW - timedelta(minutes=240))

        drawn = json.loads(viewer.get(f"{incident.get_absolute_url()}charts/latency.json").content)["figure"]

        p99 = next(trace for trace in drawn["data"] if trace["name"] == "p99")
        assert p99["x"][-1] == "2026-11-21T16:15:00"

    def test_the_cause_has_a_chart_of_its_own(
        self, viewer: Client, incident: Incident, feature: Feature
    ) -> None:
        assert "charts/cause.json" in page(viewer, incident.get_absolute_url())
        assert viewer.get(f"{incident.get_absolute_url()}charts/cause.json").status_code == 200

        component_only = open_one(feature, component="tools")
        assert "charts/cause.json" not in page(viewer, component_only.get_absolute_url())
        assert viewer.get(f"{component_only.get_absolute_url()}charts/cause.json").status_code == 404


class TestList:
    def test_unresolved_ones_come_first_and_then_the_newest(self, viewer: Client, feature: Feature) -> None:
        for n in range(3):
            old = open_one(feature, minutes_ago=100 + n, summary=f"resolved {n}")
            incidents.resolve(incident_id=old.pk, actor="a@example.com", now=NOW - timedelta(minutes=90))
        open_one(feature, minutes_ago=600, summary="long open")

        html = page(viewer, "/incidents/")
        places = [html.index(f">{text}<") for text in ("long open", "resolved 0", "resolved 1", "resolved 2")]
        assert places == sorted(places)

    def test_the_url_filters_by_state_and_feature(self, viewer: Client, team: Team, feature: Feature) -> None:
        other = make_feature(team=team, slug="other")
        open_one(feature, summary="chat is slow")
        gone = open_one(other, summary="other was slow")
        incidents.resolve(incident_id=gone.pk, actor="a@example.com", now=NOW)

        assert "chat is slow" not in page(viewer, "/incidents/?state=resolved")
        assert "other was slow" in page(viewer, "/incidents/?state=resolved")
        assert "other was slow" not in page(viewer, "/incidents/?feature=support-chat")
        assert "chat is slow" in page(viewer, "/incidents/?state=open&feature=support-chat")

    def test_the_first_sentence_counts_what_is_open(self, viewer: Client, feature: Feature) -> None:
        assert "No incident yet" in text_of(page(viewer, "/incidents/"))

        incident = open_one(feature)
        assert "1 incident is open" in text_of(page(viewer, "/incidents/"))

        incidents.acknowledge(incident_id=incident.pk, actor="a@example.com", now=NOW)
        assert "1 incident is being looked at" in text_of(page(viewer, "/incidents/"))

        incidents.resolve(incident_id=incident.pk, actor="a@example.com", now=NOW)
        assert "All clear: every incident is resolved" in text_of(page(viewer, "/incidents/"))

    def test_nothing_yet_no_match_and_all_clear_are_told_apart(
        self, viewer: Client, team: Team, feature: Feature
    ) -> None:
        make_feature(team=team, slug="other")
        assert "One opens by itself when" in text_of(page(viewer, "/incidents/"))

        incident = open_one(feature)
        incidents.resolve(incident_id=incident.pk, actor="a@example.com", now=NOW)
        assert "All clear No incident is in this state." in text_of(page(viewer, "/incidents/?state=open"))
        assert "No incident matches" in text_of(page(viewer, "/incidents/?feature=other"))

    def test_is_cut_into_pages_that_keep_the_filter(self, viewer: Client, feature: Feature) -> None:
        for n in range(27):
            incident = open_one(feature, minutes_ago=1000 - n, summary=f"number {n:02}")
            incidents.resolve(
                incident_id=incident.pk, actor="a@example.com", now=NOW - timedelta(minutes=900)
            )

        first = page(viewer, "/incidents/?state=resolved")
        last = page(viewer, "/incidents/?state=resolved&page=2")

        assert 'href="?state=resolved&amp;page=2"' in first
        assert first.count("number ") == 25
        assert last.count("number ") == 2
        assert "number 00" in last
        assert page(viewer, "/incidents/?state=resolved&page=99").count("number ") == 2
        assert page(viewer, "/incidents/?state=resolved&page=x").count("number ") == 25

    def test_queries_do_not_grow_with_incidents(
        self,
        viewer: Client,
        team: Team,
        feature: Feature,
        django_assert_max_num_queries: DjangoAssertNumQueries,
    ) -> None:
        open_one(feature)
        page(viewer, "/incidents/")
        with django_assert_max_num_queries(60) as first:
            page(viewer, "/incidents/")
        for n in range(5):
            open_one(make_feature(team=team, slug=f"feature-{n}"), component="tools")
        with django_assert_max_num_queries(len(first)):
            page(viewer, "/incidents/")


class TestOnOtherPages:
    def test_the_overview_shows_open_incidents_and_the_frame_counts_them(
        self, viewer: Client, incident: Incident
    ) -> None:
        html = page(viewer, "/")

        assert incident.get_absolute_url() in html
        assert "1 unresolved" in re.sub(r"<[^>]+>", "", html)

    def test_the_feature_page_shows_its_own(self, viewer: Client, team: Team, incident: Incident) -> None:
        make_feature(team=team, slug="other")

        assert incident.get_absolute_url() in page(viewer, "/features/support-chat/")
        assert incident.get_absolute_url() not in page(viewer, "/features/other/")
        assert "None so far." in text_of(page(viewer, "/features/other/"))

    def test_an_outsiders_overview_shows_none_of_them(self, outsider: Client, incident: Incident) -> None:
        assert incident.get_absolute_url() not in page(outsider, "/")


class TestRefresh:
    def test_leaves_the_note_alone_while_the_incident_is_where_it_was(
        self, editor: Client, incident: Incident
    ) -> None:
        address = incident.get_absolute_url()

        still = page(editor, f"{address}?seen=open", HTTP_HX_REQUEST="true")
        moved = page(editor, f"{address}?seen=acknowledged", HTTP_HX_REQUEST="true")

        assert 'id="actions"' not in still
        assert 'id="actions"' in moved
        assert 'id="verdict"' in still

    @pytest.mark.parametrize("address", ["/incidents/", "incident"])
    def test_every_region_that_comes_has_its_place_on_the_page(
        self, viewer: Client, incident: Incident, address: str
    ) -> None:
        address = incident.get_absolute_url() if address == "incident" else address
        whole, parts = page(viewer, address), page(viewer, address, HTTP_HX_REQUEST="true")

        ids = re.findall(r'id="([^"]+)"[^>]*hx-swap-oob="true"', parts)
        assert len(ids) >= 3
        assert all(whole.count(f'id="{each}"') == 1 for each in ids)


def test_hostile_texts_are_letters(viewer: Client, team: Team) -> None:
    name = '<img src=x onerror="alert(1)">'
    feature = make_feature(team=team, slug="hostile", name=name)
    make_traffic(feature, at=NOW - timedelta(minutes=5), count=5, over=0, component=name)
    incident = open_one(feature, component=name, summary=name, cause={**CAUSE, "component": name})
    incidents.acknowledge(incident_id=incident.pk, actor=name, note=name, now=NOW)

    for address in ("/", "/incidents/", incident.get_absolute_url(), "/features/hostile/"):
        assert "<img" not in page(viewer, address)
    drawn = viewer.get(f"{incident.get_absolute_url()}charts/latency.json").content.decode()
    assert "<img" not in json.dumps(json.loads(drawn)["figure"])


@pytest.mark.parametrize(
    "address",
    [
        "budgets/user",
        "budgets/user/add",
        "budgets/team",
        "budgets/feature",
        "budgets/latencybudget",
        "budgets/ingestkey",
        "budgets/batch",
        "budgets/series",
        "budgets/sweep",
        "alerts/alertrule",
        "alerts/rulestate",
        "alerts/incident",
        "alerts/channel",
        "alerts/notification",
    ],
)
def test_the_administration_lists_every_model(incident: Incident, team: Team, address: str) -> None:
    make_channel(team)
    make_traffic(incident.feature, at=NOW - timedelta(minutes=5), count=2, over=0, component="tools")
    client = signed_in(User.objects.create_superuser("root@example.com", PASSWORD))

    assert client.get(f"/admin/{address}/").status_code == 200


@pytest.mark.parametrize("model", ["budgets/feature", "budgets/team", "alerts/incident"])
def test_the_administration_shows_one_of_them(incident: Incident, model: str) -> None:
    row = {
        "budgets/feature": incident.feature,
        "budgets/team": incident.feature.team,
        "alerts/incident": incident,
    }
    client = signed_in(User.objects.create_superuser("root@example.com", PASSWORD))

    assert client.get(f"/admin/{model}/{row[model].pk}/change/").status_code == 200
