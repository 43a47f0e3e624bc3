"""Silences, maintenance windows, schedules and escalation policies over HTTP, and the verbs behind it."""

from __future__ import annotations

from datetime import date, time, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from alerts.channel_settings import delete_channel
from alerts.maintenance import save_window
from alerts.models import EscalationPolicy, FollowUp, MaintenanceWindow, Schedule, Silence
from alerts.muting import muted_by
from alerts.overrides import add_override, create_override, remove_override
from alerts.policies import missing_recipients, move_policy, save_policy
from alerts.schedules import on_call, save_schedule
from alerts.silences import create_silence, end_silence
from budgets.errors import Refusal
from budgets.features import instant
from budgets.models import AuditEntry, Feature, Membership, Team
from tests.alerts.test_holds import make_incident, make_window
from tests.api import Api, error_code
from tests.factories import NOW, make_channel, make_feature, make_key, make_team
from tests.people import make_person

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
CHAT = [{"name": "feature", "operator": "=", "value": "support-chat"}]
WINDOW = {
    "time_zone": "Europe/Berlin",
    "starts_on": "2026-11-22",
    "starts_at": "02:00",
    "duration_minutes": 120,
    "recurrence": "FREQ=WEEKLY;BYDAY=SU",
    "matchers": [],
    "reason": "",
    "enabled": True,
}
SCHEDULE = {
    "time_zone": "Europe/Berlin",
    "starts_on": "2026-11-02",
    "hands_over_at": "09:00",
    "turn_days": 7,
    "people": ["ada@example.com", None, "bob@example.com"],
    "hours": [{"days": ["mon", "tue"], "from": "09:00", "to": "24:00"}],
}
POLICY = {
    "matchers": [],
    "steps": [
        {
            "notify": [
                {"kind": "schedule", "name": "primary"},
                {"kind": "person", "name": "ada@example.com"},
            ],
            "wait_minutes": 5,
        },
        {"notify": [{"kind": "channel", "name": "hooks"}], "wait_minutes": 15},
    ],
    "repetitions": 2,
    "reminder_minutes": None,
    "unacknowledge_minutes": 240,
    "enabled": True,
    "position": 3,
}


@pytest.fixture
def team() -> Team:
    """With Ada, Bob and a channel."""
    team = make_team(slug="assistants")
    for name in ("ada", "bob"):
        make_person(f"{name}@example.com", team=team)
    make_channel(team, name="hooks")
    return team


@pytest.fixture
def api(team: Team) -> Api:
    return Api(team, make_key(team, now=timezone.now())[1])


def silence(**overrides: Any) -> dict[str, Any]:
    return {
        "matchers": CHAT,
        "reason": "Load test",
        "ends_at": (timezone.now() + HOUR).isoformat(),
        **overrides,
    }


def refused(verb: Any, **arguments: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        verb(actor="a test", now=NOW, **arguments)
    return caught.value


# -- Silences ---------------------------------------------------------------------------------------


def test_a_silence_is_made_read_listed_and_ended(api: Api, team: Team) -> None:
    made = api.post(silence(), path="silences")
    assert made.status_code == 201
    document = made.json()
    assert document["state"] == "current"
    assert document["matchers"] == CHAT
    assert document["author"].startswith("key ")
    assert api.get(f"silences/{document['id']}").json() == document
    assert api.get("silences").json() == {"items": [document], "next_cursor": None}
    ended = api.delete(f"silences/{document['id']}")
    assert (ended.status_code, ended.json()["state"]) == (200, "past")
    assert ended.json()["ended_by"] == document["author"]
    assert api.delete(f"silences/{document['id']}").json() == ended.json()
    actions = AuditEntry.objects.filter(team=team, action__startswith="silence")
    assert [one.action for one in actions.order_by("pk")] == ["silence.created", "silence.ended"]


def test_a_silence_as_it_was_answered_can_be_sent_again(api: Api) -> None:
    document = api.post(silence(), path="silences").json()
    assert api.post(document, path="silences").status_code == 201


def test_another_teams_silence_is_unknown(api: Api) -> None:
    other = create_silence(team=make_team(), document=silence(), actor="a test", now=timezone.now())
    for answer in (api.get(f"silences/{other.pk}"), api.delete(f"silences/{other.pk}")):
        assert (answer.status_code, error_code(answer)) == (404, "unknown_silence")
    assert api.get("silences").json()["items"] == []


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"matchers": []}, "matchers", "At least one"),
        ({"matchers": [{"name": "release", "operator": "=", "value": ""}]}, "matchers", "matchers[0].name"),
        ({"reason": " "}, "reason", "1 to 500 characters"),
        ({"reason": "\ud800"}, "reason", "1 to 500 characters"),
        ({"ends_at": NOW.isoformat()}, "ends_at", "must be after the start (now)"),
        ({"ends_at": "tomorrow"}, "ends_at", "RFC 3339"),
        ({"ends_at": (NOW + timedelta(days=90, seconds=1)).isoformat()}, "ends_at", "at most 90 days"),
        ({"starts_at": (NOW + timedelta(days=400)).isoformat()}, "starts_at", "at most 366 days ahead"),
        ({"end": 1}, "end", "no such field"),
    ],
)
def test_a_silence_that_cannot_be_made_says_why(
    team: Team, change: dict[str, Any], field: str, said: str
) -> None:
    document = {"matchers": CHAT, "reason": "r", "ends_at": (NOW + HOUR).isoformat(), **change}
    refusal = refused(create_silence, team=team, document=document)
    assert said in " ".join(refusal.fields[field])
    assert not Silence.objects.exists()


def condition(text: str) -> dict[str, str]:
    name, operator, value = text.split(" ")
    return {"name": name, "operator": operator, "value": value}


def make_two_features(team: Team) -> None:
    for slug in ("support-chat", "inline-help"):
        make_feature(team=team, slug=slug)


EVERYTHING = [
    ["feature != nosuch"],
    ["feature ~ *a*|*e*|*i*|*o*|*u*"],
    ["feature ~ support-chat|inline-help"],
    ["environment = production"],
    ["component !~ nosuch", "severity ~ *"],
    ["component != nosuch", "environment ~ prod*", "feature !~ x*"],
]


@pytest.mark.parametrize("conditions", EVERYTHING)
def test_a_silence_that_leaves_out_nothing_that_there_is_now_is_refused(
    api: Api, team: Team, conditions: list[str]
) -> None:
    make_two_features(team)
    answer = api.post(silence(matchers=[condition(one) for one in conditions]), path="silences")
    assert (answer.status_code, error_code(answer)) == (400, "invalid_silence")
    assert "everything that the team has now" in " ".join(answer.json()["error"]["fields"]["matchers"])
    assert not Silence.objects.exists()


@pytest.mark.parametrize(
    "conditions",
    [
        ["feature = support-chat"],
        ["feature ~ support-*"],
        ["severity != page"],
        ["milestone = first_token"],
        ["component = "],
        ["component != tools"],
        ["environment = staging"],
        ["feature != nosuch", "component = tools"],
    ],
)
def test_a_silence_that_leaves_out_something_is_made(team: Team, conditions: list[str]) -> None:
    make_two_features(team)
    document = {
        "matchers": [condition(one) for one in conditions],
        "reason": "r",
        "ends_at": instant(NOW + HOUR),
    }
    assert create_silence(team=team, document=document, actor="a test", now=NOW).pk


@pytest.mark.parametrize(
    ("text", "is_made"),
    [
        ("feature = support-chat", True),
        ("feature ~ support-*", True),
        ("feature != nosuch", False),
        ("feature ~ *a*|*e*|*i*|*o*|*u*", False),
        ("environment = production", False),
    ],
)
def test_the_only_feature_of_a_team_is_silenced_by_its_name(team: Team, text: str, is_made: bool) -> None:
    make_feature(team=team, slug="support-chat")
    Feature.objects.filter(pk=make_feature(team=team, slug="old-chat").pk).update(archived_at=NOW)
    document = {"matchers": [condition(text)], "reason": "r", "ends_at": instant(NOW + HOUR)}
    if is_made:
        assert create_silence(team=team, document=document, actor="a test", now=NOW).pk
    else:
        assert "matchers" in refused(create_silence, team=team, document=document).fields


def test_a_start_that_is_past_is_now(team: Team) -> None:
    document = {
        "matchers": CHAT,
        "reason": "r",
        "starts_at": (NOW - HOUR).timestamp(),
        "ends_at": (NOW + HOUR).timestamp(),
    }
    assert create_silence(team=team, document=document, actor="a test", now=NOW).starts_at == NOW


def test_a_silence_that_had_not_begun_is_ended_before_it_begins(team: Team) -> None:
    document = {
        "matchers": CHAT,
        "reason": "r",
        "starts_at": (NOW + HOUR).isoformat(),
        "ends_at": (NOW + 2 * HOUR).isoformat(),
    }
    made = create_silence(team=team, document=document, actor="a test", now=NOW)
    ended = end_silence(silence_id=made.pk, actor="ada", now=NOW)
    assert not Silence.objects.in_force(NOW + HOUR).exists()
    assert (ended.starts_at, ended.ends_at, ended.ended_by) == (NOW + HOUR, NOW + HOUR, "ada")


def test_what_a_silence_held_back_is_looked_at_at_once_when_it_is_ended(team: Team) -> None:
    incident = make_incident(make_feature(team=team))
    of_others = make_incident(make_feature())
    for one in (incident, of_others):
        FollowUp.objects.create(incident=one, held_since=NOW, held_by="a silence", next_at=NOW + HOUR)
    idle = make_incident(incident.feature, environment="staging")
    FollowUp.objects.create(incident=idle, next_at=NOW + HOUR)
    made = create_silence(
        team=team,
        document={"matchers": CHAT, "reason": "r", "ends_at": (NOW + HOUR).timestamp()},
        actor="a test",
        now=NOW,
    )
    end_silence(silence_id=made.pk, actor="a test", now=NOW)
    due = FollowUp.objects.filter(next_at__lte=NOW)
    assert [one.pk for one in due] == [incident.pk]


def test_a_preview_shows_what_is_muted_now(team: Team) -> None:
    feature = make_feature(team=team, slug="support-chat")
    make_feature(team=team, slug="inline-help", latency_budgets=[], components=[])
    make_feature(slug="foreign")
    page = make_incident(feature)
    make_incident(feature, environment="staging", severity="ticket")
    make_incident(feature, state="resolved", resolved_at=NOW, resolved_reason="rules", milestone="complete")
    muted = muted_by(
        team=team,
        matchers=[
            {"name": "severity", "operator": "=", "value": "page"},
            {"name": "component", "operator": "!~", "value": "tools|model"},
        ],
    )
    assert muted.incidents == [page]
    (of_feature,) = muted.features
    assert of_feature.feature == feature
    assert of_feature.milestones == ["first_token"]
    assert of_feature.components == ["overhead", "retrieval"]
    assert of_feature.environments == ["production"]
    assert of_feature.severities == ["page"]


def test_a_preview_of_what_nothing_can_fit_is_empty(team: Team) -> None:
    make_feature(team=team, slug="support-chat")
    both = [
        {"name": "milestone", "operator": "=", "value": "first_token"},
        {"name": "component", "operator": "=", "value": "tools"},
    ]
    assert muted_by(team=team, matchers=both).features == []


# -- Maintenance windows ----------------------------------------------------------------------------


def test_a_window_is_saved_read_changed_listed_and_deleted(api: Api, team: Team) -> None:
    made = api.put("maintenance-windows/Sunday", WINDOW)
    assert made.status_code == 201
    document = made.json()
    assert {key: document[key] for key in WINDOW} == WINDOW
    assert len(document["next_occurrences"]) == 3
    again = api.put("maintenance-windows/Sunday", document)
    assert (again.status_code, again.json()) == (200, document)
    assert AuditEntry.objects.filter(action="maintenance_window.saved").count() == 1
    assert api.get("maintenance-windows/Sunday").json() == document
    assert api.get("maintenance-windows").json()["items"] == [document]
    assert api.delete("maintenance-windows/Sunday").status_code == 204
    gone = api.get("maintenance-windows/Sunday")
    assert (gone.status_code, error_code(gone)) == (404, "unknown_maintenance_window")
    assert error_code(api.delete("maintenance-windows/Sunday")) == "unknown_maintenance_window"


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"time_zone": "Europe/Bonn"}, "time_zone", "IANA name"),
        ({"time_zone": "localtime"}, "time_zone", "IANA name"),
        ({"starts_on": "22.11.2026"}, "starts_on", "2026-11-21"),
        ({"starts_at": "25:00"}, "starts_at", "09:00"),
        ({"duration_minutes": 0}, "duration_minutes", "1 to 10080"),
        ({"duration_minutes": True}, "duration_minutes", "whole number"),
        ({"recurrence": "FREQ=MINUTELY"}, "recurrence", "FREQ must be one of DAILY"),
        ({"recurrence": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}, "recurrence", "it never comes"),
        ({"recurrence": "FREQ=DAILY;UNTIL=20261121"}, "recurrence", "it never comes"),
        ({"enabled": "yes"}, "enabled", "true or false"),
        ({"matchers": None}, "matchers", "Expected a list"),
    ],
)
def test_a_window_that_cannot_be_saved_says_why(
    team: Team, change: dict[str, Any], field: str, said: str
) -> None:
    refusal = refused(save_window, team=team, name="Sunday", document={**WINDOW, **change})
    assert said in " ".join(refusal.fields[field])
    assert not MaintenanceWindow.objects.exists()


PAST = {**WINDOW, "starts_on": "2026-11-20", "recurrence": ""}


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({}, "starts_on", "It is over: it would have ended at 2026-11-20 04:00 in Europe/Berlin."),
        ({"recurrence": "FREQ=DAILY;COUNT=2"}, "recurrence", "by this rule it comes no more"),
    ],
)
def test_a_window_that_is_over_already_is_refused(
    api: Api, team: Team, change: dict[str, Any], field: str, said: str
) -> None:
    answer = api.put("maintenance-windows/Once", {**PAST, **change})
    assert (answer.status_code, error_code(answer)) == (400, "invalid_maintenance_window")
    assert said in " ".join(answer.json()["error"]["fields"][field])
    assert not MaintenanceWindow.objects.exists()


DAILY = {**WINDOW, "recurrence": "FREQ=DAILY"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"duration_minutes": 1440}, "From Sun 22 Nov, 02:00 CET on it comes again before it has closed"),
        ({"duration_minutes": 10080}, "From Sun 22 Nov, 02:00 CET"),
        ({"duration_minutes": 10080, "recurrence": "FREQ=WEEKLY"}, "From Sun 22 Nov, 02:00 CET"),
        ({"duration_minutes": 1440, "recurrence": "FREQ=DAILY;COUNT=8"}, "From Sun 22 Nov, 02:00 CET"),
        # Eight days at the turn of each month.
        (
            {"duration_minutes": 2880, "recurrence": "FREQ=MONTHLY;BYMONTHDAY=-1,-3,-5,2,4"},
            "From Thu 26 Nov, 02:00 CET",
        ),
    ],
)
def test_a_window_that_stays_open_is_refused(team: Team, change: dict[str, Any], said: str) -> None:
    refusal = refused(save_window, team=team, name="Always", document={**DAILY, **change})
    assert refusal.code == "invalid_maintenance_window"
    assert said in " ".join(refusal.fields["duration_minutes"])
    assert not MaintenanceWindow.objects.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"duration_minutes": 1439},
        {"duration_minutes": 1440, "recurrence": "FREQ=WEEKLY;BYDAY=SA,SU"},
        {"duration_minutes": 1440, "recurrence": "FREQ=DAILY;COUNT=7"},
        {"duration_minutes": 1440, "time_zone": "UTC", "recurrence": "FREQ=DAILY;INTERVAL=2"},
        {"duration_minutes": 10080, "recurrence": ""},
        {"duration_minutes": 10080, "recurrence": "FREQ=DAILY;COUNT=1"},
    ],
)
def test_a_window_that_closes_within_a_week_may_come_again_as_it_does(
    team: Team, change: dict[str, Any]
) -> None:
    save_window(team=team, name="Long", document={**DAILY, **change}, actor="a test", now=NOW)


def test_a_window_that_never_closes_and_is_there_already_stays_as_it_is(api: Api, team: Team) -> None:
    always = {"recurrence": "FREQ=DAILY", "duration_minutes": 1440, "time_zone": "UTC"}
    make_window(team, name="Always", starts_at=time(2), starts_on=date(2026, 11, 22), **always)
    document = {**WINDOW, **always}
    assert api.put("maintenance-windows/Always", {**document, "reason": "As before"}).status_code == 200
    answer = api.put("maintenance-windows/Always", {**document, "duration_minutes": 1500})
    assert (answer.status_code, error_code(answer)) == (400, "invalid_maintenance_window")


def test_a_window_that_is_open_now_is_not_over(team: Team) -> None:
    # NOW is 21:00 in Berlin, four hours before the next day.
    tonight = {**PAST, "starts_on": "2026-11-21", "starts_at": "20:30", "duration_minutes": 31}
    assert save_window(team=team, name="Once", document=tonight, actor="a test", now=NOW).is_created
    refused(save_window, team=team, name="Twice", document={**tonight, "duration_minutes": 30})


def test_a_window_that_has_passed_stays_as_it_is_but_moves_to_no_other_past(team: Team) -> None:
    save_window(team=team, name="Once", document=PAST, actor="a test", now=NOW - timedelta(days=3))
    again = save_window(team=team, name="Once", document=PAST, actor="a test", now=NOW)
    assert not again.is_created
    save_window(team=team, name="Once", document={**PAST, "reason": "It went well"}, actor="a test", now=NOW)
    refusal = refused(save_window, team=team, name="Once", document={**PAST, "starts_on": "2026-11-19"})
    assert "starts_on" in refusal.fields
    assert MaintenanceWindow.objects.get().reason == "It went well"


def test_a_window_that_cannot_be_read_is_answered_without_occurrences(api: Api, team: Team) -> None:
    make_window(team, recurrence="FREQ=HOURLY")
    (found,) = api.get("maintenance-windows").json()["items"]
    assert (found["recurrence"], found["next_occurrences"]) == ("FREQ=HOURLY", [])


def test_a_window_that_changes_has_what_it_held_back_looked_at(team: Team) -> None:
    save_window(team=team, name="Sunday", document=WINDOW, actor="a test", now=NOW)
    incident = make_incident(make_feature(team=team))
    FollowUp.objects.create(incident=incident, held_since=NOW, held_by="Sunday", next_at=NOW + HOUR)
    save_window(team=team, name="Sunday", document=WINDOW, actor="a test", now=NOW)
    assert not FollowUp.objects.filter(next_at=NOW).exists()
    save_window(team=team, name="Sunday", document={**WINDOW, "enabled": False}, actor="a test", now=NOW)
    assert FollowUp.objects.filter(next_at=NOW).exists()


# -- Schedules --------------------------------------------------------------------------------------


def test_a_schedule_is_saved_read_listed_and_deleted(api: Api, team: Team) -> None:
    made = api.put("schedules/primary", SCHEDULE)
    assert (made.status_code, made.json()) == (201, {"name": "primary", **SCHEDULE, "overrides": []})
    again = api.put("schedules/primary", made.json())
    assert (again.status_code, again.json()) == (200, made.json())
    assert AuditEntry.objects.filter(action="schedule.saved").count() == 1
    assert api.get("schedules/primary").json() == made.json()
    assert api.get("schedules").json()["items"] == [made.json()]
    assert api.delete("schedules/primary").status_code == 204
    assert error_code(api.get("schedules/primary")) == "unknown_schedule"


def test_who_is_on_call_is_answered_for_any_instant(api: Api) -> None:
    api.put("schedules/primary", {**SCHEDULE, "hours": []})
    assert api.get("schedules/primary/on-call", at="2026-11-02T08:00:00Z").json() == {
        "schedule": "primary",
        "at": "2026-11-02T08:00:00Z",
        "person": "ada@example.com",
        "starts_at": "2026-11-02T08:00:00Z",
        "ends_at": "2026-11-09T08:00:00Z",
        "because": "turn",
    }
    gap = api.get("schedules/primary/on-call", at="2026-11-10T00:00:00Z").json()
    assert (gap["person"], gap["because"]) == (None, "empty_turn")
    assert error_code(api.get("schedules/primary/on-call", at="noon")) == "invalid_instant"
    assert error_code(api.get("schedules/secondary/on-call")) == "unknown_schedule"


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"people": []}, "people", "1 to 100 places"),
        ({"people": ["carl@example.com"]}, "people", "'carl@example.com' is no member"),
        ({"people": [1]}, "people", "list of e-mail addresses"),
        ({"turn_days": 57}, "turn_days", "1 to 56"),
        ({"hands_over_at": "9"}, "hands_over_at", "09:00"),
        ({"hours": [{"days": [], "from": "09:00", "to": "17:00"}]}, "hours", "hours[0].days"),
        ({"hours": [{"days": ["mo"], "from": "09:00", "to": "17:00"}]}, "hours", "hours[0].days"),
        ({"hours": [{"days": ["mon"], "from": "24:00", "to": "17:00"}]}, "hours", "hours[0].from"),
        ({"hours": [{"days": ["mon"], "from": "09:00", "to": "25:00"}]}, "hours", "hours[0].to"),
        ({"hours": [{"days": ["mon"], "from": "09:00", "to": "09:00"}]}, "hours", "ends when it begins"),
        ({"hours": [{"days": ["mon"]}]}, "hours", "hours[0] is not"),
    ],
)
def test_a_schedule_that_cannot_be_saved_says_why(
    team: Team, change: dict[str, Any], field: str, said: str
) -> None:
    refusal = refused(save_schedule, team=team, name="primary", document={**SCHEDULE, **change})
    assert said in " ".join(refusal.fields[field])
    assert not Schedule.objects.exists()


@pytest.mark.parametrize("people", [[None], [None, None]])
def test_a_schedule_of_gaps_only_is_refused(api: Api, people: list[None]) -> None:
    answer = api.put("schedules/primary", {**SCHEDULE, "people": people})
    assert (answer.status_code, error_code(answer)) == (400, "invalid_schedule")
    assert answer.json()["error"]["fields"]["people"] == [
        "people needs a member of the team: nobody would ever be on call."
    ]
    assert not Schedule.objects.exists()


def test_a_schedule_whose_only_member_left_stays_but_is_not_made_anew_without_one(team: Team) -> None:
    only_ada = {**SCHEDULE, "people": ["ada@example.com", None]}
    save_schedule(team=team, name="primary", document=only_ada, actor="a test", now=NOW)
    Membership.objects.get(user__email="ada@example.com").delete()
    save_schedule(team=team, name="primary", document={**only_ada, "turn_days": 1}, actor="a test", now=NOW)
    for people in (["ada@example.com"], [None]):
        refusal = refused(save_schedule, team=team, name="primary", document={**only_ada, "people": people})
        assert "needs a member of the team" in " ".join(refusal.fields["people"])


def test_who_left_keeps_their_place_as_a_gap_until_it_is_changed(team: Team) -> None:
    save_schedule(team=team, name="primary", document=SCHEDULE, actor="a test", now=NOW)
    Membership.objects.get(user__email="ada@example.com").delete()
    save_schedule(team=team, name="primary", document={**SCHEDULE, "turn_days": 1}, actor="a test", now=NOW)
    refused(save_schedule, team=team, name="secondary", document=SCHEDULE)


def make_primary(team: Team) -> Schedule:
    document = {**SCHEDULE, "hours": [], "people": ["ada@example.com"]}
    return save_schedule(team=team, name="primary", document=document, actor="a test", now=NOW).schedule


def test_an_override_is_added_and_taken_back(team: Team) -> None:
    schedule = make_primary(team)
    override = add_override(
        schedule_id=schedule.pk,
        email="Bob@example.com",
        starts_at=NOW - HOUR,
        ends_at=NOW + HOUR,
        actor="a test",
        now=NOW,
    )
    now_on_call = on_call([schedule.pk], at=NOW)[schedule.pk].person
    assert now_on_call is not None
    assert now_on_call.email == "bob@example.com"
    remove_override(schedule_id=schedule.pk, override_id=override.pk, actor="a test", now=NOW)
    override.refresh_from_db()
    assert override.ends_at == NOW, "who was on call can still be read"
    shift = on_call([schedule.pk], at=NOW)[schedule.pk]
    assert shift.person is not None
    assert shift.person.email == "ada@example.com"


def test_an_override_that_had_not_begun_is_gone_when_it_is_taken_back(team: Team) -> None:
    schedule = make_primary(team)
    bounds = {"starts_at": NOW + HOUR, "ends_at": NOW + 2 * HOUR}
    override = add_override(schedule_id=schedule.pk, email=None, **bounds, actor="a test", now=NOW)
    remove_override(schedule_id=schedule.pk, override_id=override.pk, actor="a test", now=NOW)
    assert not schedule.overrides.exists()
    refusal = refused(remove_override, schedule_id=schedule.pk, override_id=override.pk)
    assert refusal.code == "unknown_override"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"email": "carl@example.com"}, "person"),
        ({"ends_at": NOW + HOUR}, "ends_at"),
        ({"starts_at": NOW - 2 * HOUR, "ends_at": NOW - HOUR}, "ends_at"),
        ({"ends_at": NOW + timedelta(days=100)}, "ends_at"),
        ({"starts_at": NOW + timedelta(days=400), "ends_at": NOW + timedelta(days=401)}, "starts_at"),
    ],
)
def test_an_override_that_cannot_be_made_says_why(team: Team, change: dict[str, Any], field: str) -> None:
    values = {"email": "bob@example.com", "starts_at": NOW + HOUR, "ends_at": NOW + 2 * HOUR, **change}
    assert field in refused(add_override, schedule_id=make_primary(team).pk, **values).fields


def override(**changes: Any) -> dict[str, Any]:
    return {"person": "bob@example.com", "ends_at": (timezone.now() + HOUR).isoformat(), **changes}


def test_a_shift_is_swapped_read_and_swapped_back_over_http(api: Api, team: Team) -> None:
    make_primary(team)
    made = api.post(override(), path="schedules/primary/overrides")
    assert made.status_code == 201
    document = made.json()
    assert (document["person"], document["author"][:4]) == ("bob@example.com", "key ")
    asked = api.get("schedules/primary/on-call").json()
    assert (asked["person"], asked["because"]) == ("bob@example.com", "override")
    assert api.get("schedules/primary/overrides").json() == {"items": [document], "next_cursor": None}
    assert api.get("schedules/primary").json()["overrides"] == [document]
    address = f"schedules/primary/overrides/{document['id']}"
    assert [api.delete(address).status_code for _ in range(2)] == [204, 204]
    assert api.get("schedules/primary/on-call").json()["because"] == "turn"
    (kept,) = api.get("schedules/primary/overrides").json()["items"]
    assert kept["ends_at"] < document["ends_at"], "who was on call can still be read"
    actions = AuditEntry.objects.filter(action__startswith="schedule.override").order_by("pk")
    assert [one.action for one in actions] == ["schedule.override_added", "schedule.override_removed"]


def test_an_override_to_come_is_gone_when_it_is_deleted_over_http(api: Api, team: Team) -> None:
    make_primary(team)
    bounds = {
        name: (timezone.now() + hours * HOUR).timestamp()
        for name, hours in (("starts_at", 1), ("ends_at", 2))
    }
    made = api.post(override(person=None, **bounds), path="schedules/primary/overrides").json()
    assert made["person"] is None
    address = f"schedules/primary/overrides/{made['id']}"
    assert api.delete(address).status_code == 204
    again = api.delete(address)
    assert (again.status_code, error_code(again)) == (404, "unknown_override")
    assert api.get("schedules/primary/overrides").json()["items"] == []


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"person": "carl@example.com"}, "person", "no member of the team"),
        ({"person": 7}, "person", "or null for nobody"),
        ({"ends_at": "soon"}, "ends_at", "RFC 3339 with a zone"),
        ({"ends_at": 0}, "ends_at", "after it starts"),
        ({"starts_at": "2026-11-23T17:00:00"}, "starts_at", "RFC 3339 with a zone"),
    ],
)
def test_an_override_that_cannot_be_made_is_refused_over_http(
    api: Api, team: Team, change: dict[str, Any], field: str, said: str
) -> None:
    schedule = make_primary(team)
    answer = api.post(override(**change), path="schedules/primary/overrides")
    assert (answer.status_code, error_code(answer)) == (400, "invalid_override")
    assert said in " ".join(answer.json()["error"]["fields"][field])
    assert not schedule.overrides.exists()


def test_an_override_says_who_takes_over_even_if_that_is_nobody(api: Api, team: Team) -> None:
    make_primary(team)
    document = override()
    del document["person"]
    answer = api.post(document, path="schedules/primary/overrides")
    assert answer.json()["error"]["fields"] == {"person": ["person is missing."]}


def test_an_override_of_another_schedule_is_not_found_through_this_one(api: Api, team: Team) -> None:
    make_primary(team)
    secondary = {**SCHEDULE, "people": ["ada@example.com"]}
    save_schedule(team=team, name="secondary", document=secondary, actor="a test", now=NOW)
    made = api.post(override(), path="schedules/primary/overrides").json()
    answer = api.delete(f"schedules/secondary/overrides/{made['id']}")
    assert (answer.status_code, error_code(answer)) == (404, "unknown_override")
    assert error_code(api.post(override(), path="schedules/tertiary/overrides")) == "unknown_schedule"
    assert error_code(api.delete("schedules/primary/overrides/first")) == "unknown_override"


# -- Escalation policies ----------------------------------------------------------------------------


def test_a_policy_is_saved_read_listed_and_deleted(api: Api, team: Team) -> None:
    make_primary(team)
    made = api.put("escalation-policies/pages", POLICY)
    assert (made.status_code, made.json()) == (201, {"name": "pages", **POLICY})
    again = api.put("escalation-policies/pages", made.json())
    assert (again.status_code, again.json()) == (200, made.json())
    assert AuditEntry.objects.filter(action="escalation_policy.saved").count() == 1
    assert api.get("escalation-policies/pages").json() == made.json()
    assert api.get("escalation-policies").json()["items"] == [made.json()]
    assert api.delete("escalation-policies/pages").status_code == 204
    assert error_code(api.get("escalation-policies/pages")) == "unknown_escalation_policy"


NOBODY = {"notify": []}


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"steps": []}, "steps", "1 to 20"),
        ({"steps": [{"notify": []}]}, "steps", "steps[0].notify must be a list of 1"),
        ({"steps": [{"notify": [{"kind": "team", "name": "a"}]}]}, "steps", "steps[0].notify[0] is not"),
        ({"steps": [{"notify": [{"kind": [], "name": "a"}]}]}, "steps", "steps[0].notify[0] is not"),
        (
            {"steps": [{"notify": [{"kind": "channel", "name": "pager"}]}]},
            "steps",
            "'pager' is not a channel",
        ),
        ({"steps": [{"notify": [{"kind": "schedule", "name": "x"}]}]}, "steps", "'x' is not a schedule"),
        ({"steps": [{"notify": [{"kind": "person", "name": "x@y.z"}]}]}, "steps", "is not a member"),
        ({"steps": [{**NOBODY, "wait_minutes": 0}]}, "steps", "wait_minutes must be 1"),
        ({"repetitions": 10}, "repetitions", "0 to 9"),
        ({"reminder_minutes": 4}, "reminder_minutes", "5 to 10080"),
        ({"unacknowledge_minutes": "no"}, "unacknowledge_minutes", "null or a whole number"),
        ({"position": -1}, "position", "0 to 10000"),
    ],
)
def test_a_policy_that_cannot_be_saved_says_why(
    team: Team, change: dict[str, Any], field: str, said: str
) -> None:
    make_primary(team)
    refusal = refused(save_policy, team=team, name="pages", document={**POLICY, **change})
    assert said in " ".join(refusal.fields[field])
    assert not EscalationPolicy.objects.exists()


def test_a_new_policy_comes_last_and_changes_places_with_its_neighbours(team: Team) -> None:
    steps = {"steps": [{"notify": [{"kind": "channel", "name": "hooks"}]}]}
    for name in ("a", "b", "c"):
        save_policy(team=team, name=name, document=steps, actor="a test", now=NOW)
    move_policy(team=team, name="c", is_up=True, actor="a test", now=NOW)
    move_policy(team=team, name="a", is_up=True, actor="a test", now=NOW)
    assert [one.name for one in EscalationPolicy.objects.all()] == ["a", "c", "b"]
    move_policy(team=team, name="a", is_up=False, actor="a test", now=NOW)
    assert [one.name for one in EscalationPolicy.objects.all()] == ["c", "a", "b"]
    save_policy(team=team, name="a", document=steps, actor="a test", now=NOW)
    assert [one.name for one in EscalationPolicy.objects.all()] == ["c", "a", "b"]


def test_what_a_policy_names_is_not_deleted(api: Api, team: Team) -> None:
    make_primary(team)
    save_policy(team=team, name="pages", document=POLICY, actor="a test", now=NOW)
    answer = api.delete("schedules/primary")
    assert (answer.status_code, error_code(answer)) == (409, "named_by_policy")
    assert "'pages' names the schedule 'primary'" in answer.json()["error"]["message"]
    channel = team.channels.get()
    assert refused(delete_channel, channel_id=channel.pk).code == "named_by_policy"
    api.delete("escalation-policies/pages")
    assert api.delete("schedules/primary").status_code == 204
    delete_channel(channel_id=channel.pk, actor="a test", now=NOW)


def test_a_person_whom_a_policy_names_and_who_left_is_missing_and_may_stay(team: Team) -> None:
    make_primary(team)
    save_policy(team=team, name="pages", document=POLICY, actor="a test", now=NOW)
    Membership.objects.get(user__email="ada@example.com").delete()
    saved = save_policy(
        team=team, name="pages", document={**POLICY, "repetitions": 1}, actor="a test", now=NOW
    )
    assert missing_recipients(saved.policy) == [{"kind": "person", "name": "ada@example.com"}]


def make_one_of_each(team: Team, number: int) -> None:
    """A silence, a window, a schedule of two people with two overrides, and a policy."""
    bounds = {"starts_at": instant(timezone.now()), "ends_at": instant(timezone.now() + HOUR)}
    name = str(number)
    by: dict[str, Any] = {"team": team, "actor": "a test", "now": timezone.now()}
    create_silence(document=silence(reason=name), **by)
    save_window(name=name, document=WINDOW, **by)
    schedule = save_schedule(name=name, document=SCHEDULE, **by).schedule
    for person in ("ada@example.com", "bob@example.com"):
        create_override(
            schedule_id=schedule.pk, document={"person": person, **bounds}, actor="a test", now=by["now"]
        )
    steps = [{"notify": [{"kind": "person", "name": "ada@example.com"}]}]
    save_policy(name=name, document={"steps": steps}, **by)


@pytest.mark.parametrize(
    "path",
    ["silences", "maintenance-windows", "schedules", "schedules/0/overrides", "escalation-policies"],
)
def test_a_list_takes_as_many_queries_for_many_as_for_one(api: Api, team: Team, path: str) -> None:
    counts = []
    # The first use of a key is noted.
    api.get("features")
    for numbers in (range(1), range(1, 6)):
        for number in numbers:
            make_one_of_each(team, number)
        with CaptureQueriesContext(connection) as queries:
            assert api.get(path).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("kind", ["maintenance-windows", "schedules", "escalation-policies"])
@pytest.mark.parametrize("body", [b"{", b"[]", b'{"nothing": 1}'])
def test_a_body_that_is_no_document_is_refused(api: Api, kind: str, body: bytes) -> None:
    answer = api.put(f"{kind}/x", body)
    assert answer.status_code == 400
    assert error_code(answer) in ("malformed_json", "invalid_document")
