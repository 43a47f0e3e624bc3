"""Pages of silences, maintenance windows, schedules and escalation policies."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from alerts.models import EscalationPolicy, MaintenanceWindow, Schedule, ScheduleOverride, Silence
from alerts.policies import save_policy
from alerts.schedules import on_call, save_schedule
from alerts.silences import create_silence
from budgets.features import instant
from budgets.models import Membership, Team
from tests.alerts.test_holds import make_incident, make_silence, make_window
from tests.budgets.test_pages import signed_in, text_of
from tests.factories import make_channel, make_feature, make_team
from tests.people import make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]

BASE = "/teams/assistants/"


@pytest.fixture
def team() -> Team:
    team = make_team(slug="assistants", name="Assistants")
    make_person("ada@example.com", team=team)
    make_channel(team, name="hooks")
    return team


@pytest.fixture
def editor(team: Team) -> Client:
    return signed_in(make_person("kim@example.com", team=team, role=Membership.Role.EDITOR))


@pytest.fixture
def viewer(team: Team) -> Client:
    return signed_in(make_person("vera@example.com", team=team))


def read(client: Client, path: str) -> str:
    response = client.get(f"{BASE}{path}")
    assert response.status_code == 200
    return text_of(response.content.decode())


def said_at(html: str, field: str) -> str:
    """The error at a field."""
    (said,) = re.findall(rf'id="id_{field}_error">([^<]*)<', html)
    return said


def matcher_inputs(**values: str) -> dict[str, Any]:
    names = ["feature", "milestone", "component", "environment", "severity"]
    return {
        "matcher_name": names,
        "matcher_operator": ["="] * len(names),
        "matcher_value": [values.get(name, "") for name in names],
    }


SILENCE = {**matcher_inputs(feature="support-chat"), "reason": "Load test", "lasts": "60", "time_zone": "UTC"}
WINDOW = {
    **matcher_inputs(),
    "name": "Sunday",
    "time_zone": "Europe/Berlin",
    "starts_on": "2026-11-22",
    "starts_at": "02:00",
    "duration_minutes": "120",
    "recurrence": "FREQ=WEEKLY;BYDAY=SU",
    "is_enabled": "on",
}
SCHEDULE = {
    "name": "primary",
    "time_zone": "UTC",
    "starts_on": "2020-01-06",
    "hands_over_at": "09:00",
    "turn_days": "7",
    "person": ["ada@example.com", "-", "", ""],
}
POLICY = {
    **matcher_inputs(severity="page"),
    "name": "pages",
    "step_0_notify": ["channel:hooks", "person:ada@example.com", ""],
    "step_0_wait": "10",
    "step_1_notify": ["", ""],
    "step_1_wait": "5",
    "repetitions": "2",
    "reminder_minutes": "",
    "unacknowledge_minutes": "",
    "is_enabled": "on",
}


# -- Silences ---------------------------------------------------------------------------------------


def test_a_silence_shows_what_it_mutes_before_a_second_post_makes_it(team: Team, editor: Client) -> None:
    make_incident(make_feature(team=team, slug="support-chat"))
    response = editor.post(f"{BASE}silences/new/", SILENCE)
    said = text_of(response.content.decode())
    assert "Open incidents that it mutes now" in said
    assert "Support chat, first token" in said
    assert not Silence.objects.exists()
    assert editor.post(f"{BASE}silences/new/", {**SILENCE, "confirmed": "yes"}).status_code == 302
    made = Silence.objects.get()
    assert made.matchers == [{"name": "feature", "operator": "=", "value": "support-chat"}]
    assert made.ends_at - made.starts_at == timedelta(hours=1)
    assert made.author == "kim@example.com"


def test_a_silence_that_is_about_nothing_known_says_so(team: Team, editor: Client) -> None:
    make_feature(team=team, slug="support-chat")
    response = editor.post(f"{BASE}silences/new/", {**SILENCE, **matcher_inputs(feature="suport-chat")})
    assert "None of the team's features: check the conditions." in text_of(response.content.decode())


def test_a_silence_that_would_mute_everything_is_neither_previewed_nor_made(
    team: Team, editor: Client
) -> None:
    for slug in ("support-chat", "inline-help"):
        make_feature(team=team, slug=slug)
    everywhere = {**SILENCE, **matcher_inputs(environment="production")}
    for form in (everywhere, {**everywhere, "confirmed": "yes"}):
        response = editor.post(f"{BASE}silences/new/", form)
        assert response.status_code == 400
        assert "fits everything that the team has now" in text_of(response.content.decode())
    assert not Silence.objects.exists()


def test_the_query_fills_in_a_silence_of_an_incident(team: Team, editor: Client) -> None:
    html = editor.get(
        f"{BASE}silences/new/?feature=support-chat&milestone=first_token&component="
    ).content.decode()
    values = re.findall(r'name="matcher_value" value="([^"]*)"', html)
    assert values == ["support-chat", "first_token", "", "", ""]
    assert '<option value="none" selected>is none</option>' in html


def test_an_incident_leads_to_a_silence_of_incidents_like_it(
    team: Team, editor: Client, viewer: Client
) -> None:
    incident = make_incident(make_feature(team=team, slug="support-chat"))
    html = editor.get(incident.get_absolute_url()).content.decode()
    (query,) = re.findall(r'href="/teams/assistants/silences/new/\?([^"]*)"', html)
    assert unescape(query) == "feature=support-chat&milestone=first_token&component=&environment=production"
    assert "silences/new/" not in viewer.get(incident.get_absolute_url()).content.decode()


def test_a_silence_that_cannot_be_made_keeps_what_was_typed(team: Team, editor: Client) -> None:
    response = editor.post(f"{BASE}silences/new/", {**SILENCE, **matcher_inputs(), "confirmed": "yes"})
    assert response.status_code == 400
    html = response.content.decode()
    assert "At least one is needed" in html
    assert 'value="Load test"' in html
    assert not Silence.objects.exists()


def test_silences_are_listed_by_what_they_do_and_ended(team: Team, editor: Client, viewer: Client) -> None:
    now = timezone.now()
    for reason, start in (("now", 0), ("later", 24)):
        document = {
            "matchers": [{"name": "feature", "operator": "~", "value": "support-*"}],
            "reason": f"Silenced {reason}",
            "starts_at": (now + timedelta(hours=start)).isoformat(),
            "ends_at": (now + timedelta(hours=start + 1)).isoformat(),
        }
        create_silence(team=team, document=document, actor="ada@example.com", now=now)
    said = read(viewer, "silences/")
    assert said.index("In force") < said.index("Silenced now") < said.index("Coming")
    assert "feature ~ support-*" in said
    assert "End now" not in said
    assert "End now" in read(editor, "silences/")
    found = Silence.objects.get(reason="Silenced now")
    assert editor.post(f"{BASE}silences/{found.pk}/end/").status_code == 302
    found.refresh_from_db()
    assert found.ended_by == "kim@example.com"
    said = read(viewer, "silences/")
    assert "In force" not in said
    assert "ended by kim@example.com" in said


@pytest.mark.parametrize(
    ("lasts", "now", "ends_at"),
    [
        # Saturday, 23:30 in Berlin and 22:30 in UTC.
        ("240", "2026-11-21T22:30:00Z", "2026-11-22T02:30:00Z"),
        ("tomorrow", "2026-11-21T22:30:00Z", "2026-11-22T08:00:00Z"),
        ("monday", "2026-11-21T22:30:00Z", "2026-11-23T08:00:00Z"),
        # Half an hour past midnight in Berlin, where it is Sunday, and Monday, already.
        ("tomorrow", "2026-11-21T23:30:00Z", "2026-11-23T08:00:00Z"),
        ("monday", "2026-11-22T23:30:00Z", "2026-11-30T08:00:00Z"),
        # The night in which clocks are put back: the morning stays at nine.
        ("tomorrow", "2026-10-24T12:00:00Z", "2026-10-25T08:00:00Z"),
        ("1440", "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"),
    ],
)
def test_a_quick_choice_ends_by_the_clock_of_the_zone(
    team: Team, editor: Client, lasts: str, now: str, ends_at: str
) -> None:
    with time_machine.travel(now, tick=False):
        form = {**SILENCE, "lasts": lasts, "time_zone": "Europe/Berlin", "confirmed": "yes"}
        assert editor.post(f"{BASE}silences/new/", form).status_code == 302
    assert instant(Silence.objects.get().ends_at) == ends_at


def test_a_silence_is_typed_by_the_clock_that_its_form_names_and_told_by_both(
    team: Team, editor: Client
) -> None:
    form = {
        **SILENCE,
        "time_zone": "Asia/Kolkata",
        "starts_at": "2026-11-22T10:00",
        "ends_at": "2026-11-22T12:30",
    }
    with time_machine.travel("2026-11-21T20:00:00Z", tick=False):
        said = text_of(editor.post(f"{BASE}silences/new/", form).content.decode())
        assert "Hold messages back until Sun 22 Nov, 12:30 IST?" in said
        assert "From Sun 22 Nov, 10:00 IST" in said
        assert "by the clock of Asia/Kolkata" in said
        editor.post(f"{BASE}silences/new/", {**form, "confirmed": "yes"})
    made = Silence.objects.get()
    assert instant(made.starts_at) == "2026-11-22T04:30:00Z"
    assert instant(made.ends_at) == "2026-11-22T07:00:00Z"


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        (
            {"ends_at": "2027-03-28T02:30"},
            "ends_at",
            "In Europe/Berlin there is no 02:30 on 28 Mar 2027: clocks are put forward over it.",
        ),
        ({"ends_at": "soon"}, "ends_at", "Expected a day and a time, such as 2026-11-21 20:00."),
        ({"ends_at": "0001-01-01T00:00"}, "ends_at", "Expected a day and a time"),
        ({"time_zone": "Berlin"}, "time_zone", "Expected the IANA name of a time zone such as Europe/Berlin"),
        ({"lasts": ""}, "ends_at", "Choose how long it lasts, or fill in when it ends."),
        ({"ends_at": "2026-11-21T20:59"}, "ends_at", "“Ends” must be after the start (now)"),
    ],
)
def test_a_silence_that_ends_at_no_such_time_says_so_at_the_field(
    team: Team, editor: Client, change: dict[str, str], field: str, said: str
) -> None:
    form = {**SILENCE, "time_zone": "Europe/Berlin", "confirmed": "yes", **change}
    with time_machine.travel("2026-11-21T20:00:00Z", tick=False):
        response = editor.post(f"{BASE}silences/new/", form)
    assert response.status_code == 400
    assert said in unescape(said_at(response.content.decode(), field))
    assert not Silence.objects.exists()


def test_of_a_time_that_comes_twice_the_first_is_meant(team: Team, editor: Client) -> None:
    form = {**SILENCE, "time_zone": "Europe/Berlin", "ends_at": "2026-10-25T02:30", "confirmed": "yes"}
    with time_machine.travel("2026-10-24T20:00:00Z", tick=False):
        editor.post(f"{BASE}silences/new/", form)
    assert instant(Silence.objects.get().ends_at) == "2026-10-25T00:30:00Z"


# -- Maintenance windows ----------------------------------------------------------------------------


def test_a_window_is_made_previewed_changed_and_deleted(team: Team, editor: Client, viewer: Client) -> None:
    preview = editor.post(f"{BASE}maintenance/new/", {**WINDOW, "preview": "yes"})
    assert "What it mutes while it is open" in text_of(preview.content.decode())
    assert not MaintenanceWindow.objects.exists()
    assert editor.post(f"{BASE}maintenance/new/", WINDOW).status_code == 302
    window = MaintenanceWindow.objects.get()
    said = read(viewer, "maintenance/")
    assert re.search(r"Sun \d\d? \w{3} \d{4}, 02:00–04:00 CES?T", said)
    assert "every incident" in said
    address = f"{BASE}maintenance/{window.pk}/"
    assert 'value="Europe/Berlin"' in editor.get(address).content.decode()
    editor.post(address, {**WINDOW, **matcher_inputs(component="tools"), "duration_minutes": "30"})
    window.refresh_from_db()
    assert (window.duration_minutes, window.name) == (30, "Sunday")
    assert window.matchers == [{"name": "component", "operator": "=", "value": "tools"}]
    assert editor.get(f"{address}delete/").status_code == 200
    editor.post(f"{address}delete/")
    assert not MaintenanceWindow.objects.exists()


def test_a_window_that_cannot_be_saved_says_so_at_the_field(team: Team, editor: Client) -> None:
    response = editor.post(f"{BASE}maintenance/new/", {**WINDOW, "recurrence": "FREQ=HOURLY"})
    assert response.status_code == 400
    assert 'id="id_recurrence_error">FREQ must be one of' in response.content.decode()


def test_a_window_that_cannot_be_read_says_so_and_can_be_written_anew(
    team: Team, editor: Client, viewer: Client
) -> None:
    window = make_window(team, recurrence="FREQ=HOURLY", matchers="all")
    said = read(viewer, "maintenance/")
    assert "Cannot be read" in said
    assert "It counts as closed and holds nothing back: FREQ must be one of" in said
    address = f"{BASE}maintenance/{window.pk}/"
    assert 'value="FREQ=HOURLY"' in editor.get(address).content.decode()
    assert editor.post(address, WINDOW).status_code == 302
    assert "Cannot be read" not in read(viewer, "maintenance/")


def test_a_silence_that_cannot_be_read_says_so(team: Team, viewer: Client) -> None:
    now = timezone.now()
    make_silence(team, matchers={}, starts_at=now, ends_at=now + timedelta(hours=1))
    assert "It cannot be read and holds nothing back: Expected a list" in read(viewer, "silences/")


def test_a_window_that_never_closes_is_neither_previewed_nor_made_and_an_old_one_is_warned_of(
    team: Team, editor: Client
) -> None:
    always = {**WINDOW, "recurrence": "FREQ=DAILY", "duration_minutes": "1440", "starts_on": "2090-01-01"}
    for button in ({"preview": "yes"}, {}):
        response = editor.post(f"{BASE}maintenance/new/", {**always, **button})
        assert response.status_code == 400
        assert "comes again before it has closed" in said_at(response.content.decode(), "duration_minutes")
    assert not MaintenanceWindow.objects.exists()
    make_window(team)
    assert "It comes again before it closes" not in read(editor, "maintenance/")
    make_window(team, name="Always", duration_minutes=1440)
    assert "It comes again before it closes" in read(editor, "maintenance/")


def test_a_window_that_would_be_over_already_is_neither_previewed_nor_made(
    team: Team, editor: Client
) -> None:
    past = {**WINDOW, "starts_on": "2026-11-20", "recurrence": ""}
    for pressed in ({"preview": "yes"}, {}):
        response = editor.post(f"{BASE}maintenance/new/", {**past, **pressed})
        assert response.status_code == 400
        said = text_of(response.content.decode())
        assert "It is over: it would have ended at 2026-11-20 04:00 in Europe/Berlin." in said
    assert not MaintenanceWindow.objects.exists()


# -- Schedules --------------------------------------------------------------------------------------


def test_a_schedule_is_made_shown_with_its_gaps_and_changed(
    team: Team, editor: Client, viewer: Client
) -> None:
    assert editor.post(f"{BASE}schedules/new/", SCHEDULE).status_code == 302
    schedule = Schedule.objects.get()
    said = read(viewer, f"schedules/{schedule.pk}/")
    assert "the turn is a gap" in said
    assert "ada" in said
    assert "Add override" not in said
    edit = f"{BASE}schedules/{schedule.pk}/edit/"
    assert 'value="ada@example.com" selected' in editor.get(edit).content.decode()
    hours = {"hours_0_days": ["mon", "fri"], "hours_0_from": "09:00", "hours_0_to": "24:00"}
    editor.post(edit, {**SCHEDULE, **hours, "person": ["ada@example.com"]})
    schedule.refresh_from_db()
    assert schedule.hours == [{"days": ["mon", "fri"], "from": "09:00", "to": "24:00"}]
    assert "mon, fri 09:00–24:00" in read(viewer, f"schedules/{schedule.pk}/")


def test_a_schedule_says_who_is_next_and_lists_its_shifts_as_well(team: Team, editor: Client) -> None:
    """NOW is a Saturday. What a phone shows in place of the calendar."""
    document = {
        "time_zone": "Europe/Berlin",
        "starts_on": "2026-11-16",
        "hands_over_at": "09:00",
        "people": ["ada@example.com", "kim@example.com", None],
        "hours": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00"}],
    }
    with time_machine.travel("2026-11-19T08:30:00Z", tick=False):
        made = save_schedule(team=team, name="primary", document=document, actor="a test", now=timezone.now())
        said = read(editor, f"schedules/{made.schedule.pk}/")
    assert "Then kim@example.com, from Mon 23 Nov, 09:00 CET." in said
    listed = said.partition("ada@example.com now until")[2]
    assert listed.startswith(" Fri 20 Nov, 17:00 CET, within the hours")
    for shift in (
        "kim@example.com Mon 23 Nov, 09:00 CET – Fri 27 Nov, 17:00 CET, within the hours",
        "nobody Mon 30 Nov, 09:00 CET – Fri 4 Dec, 17:00 CET, within the hours; the turn is a gap",
        "ada@example.com Mon 7 Dec, 09:00 CET – Fri 11 Dec, 17:00 CET, within the hours",
    ):
        assert shift in listed


def test_who_is_on_call_alone_is_so_in_all_weeks(team: Team, editor: Client) -> None:
    _schedules(team, 1)
    schedule = Schedule.objects.get()
    assert "ada@example.com now all these weeks" in read(editor, f"schedules/{schedule.pk}/")


def test_an_override_is_added_shown_and_taken_back(team: Team, editor: Client) -> None:
    editor.post(f"{BASE}schedules/new/", SCHEDULE)
    schedule = Schedule.objects.get()
    now = timezone.now()
    form = {
        "person": "kim@example.com",
        "starts_at": f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M}",
        "ends_at": f"{now + timedelta(hours=1):%Y-%m-%dT%H:%M}",
    }
    address = f"{BASE}schedules/{schedule.pk}/overrides/"
    assert editor.post(address, form).status_code == 302
    assert "kim@example.com by an override" in read(editor, f"schedules/{schedule.pk}/")
    wrong = editor.post(address, {**form, "ends_at": form["starts_at"]})
    assert (wrong.status_code, "It must end after it starts" in wrong.content.decode()) == (400, True)
    editor.post(f"{address}{schedule.overrides.get().pk}/remove/")
    person = on_call([schedule.pk], at=timezone.now())[schedule.pk].person
    assert person is None or person.email == "ada@example.com"


def test_an_override_is_typed_and_told_by_the_clock_of_the_schedule(team: Team) -> None:
    form = {
        "person": "kim@example.com",
        "starts_at": "2027-03-13T20:00",
        "ends_at": "2027-03-14T08:00",
    }
    with time_machine.travel("2027-03-01T20:00:00Z", tick=False):
        editor = signed_in(make_person("kim@example.com", team=team, role=Membership.Role.EDITOR))
        editor.post(f"{BASE}schedules/new/", {**SCHEDULE, "time_zone": "America/New_York"})
        path = f"schedules/{Schedule.objects.get().pk}/"
        assert "By the clock of America/New_York." in read(editor, path)
        assert editor.post(f"{BASE}{path}overrides/", form).status_code == 302
        assert "Sat 13 Mar, 20:00 EST to Sun 14 Mar, 08:00 EDT" in read(editor, path)
        skipped = editor.post(f"{BASE}{path}overrides/", {**form, "ends_at": "2027-03-14T02:30"})
    made = ScheduleOverride.objects.get()
    assert (instant(made.starts_at), instant(made.ends_at)) == (
        "2027-03-14T01:00:00Z",
        "2027-03-14T12:00:00Z",
    )
    assert skipped.status_code == 400
    assert "there is no 02:30 on 14 Mar 2027" in said_at(skipped.content.decode(), "ends_at")


def test_a_schedule_that_cannot_be_read_says_so_and_can_be_written_anew(team: Team, editor: Client) -> None:
    editor.post(f"{BASE}schedules/new/", SCHEDULE)
    schedule = Schedule.objects.get()
    Schedule.objects.update(time_zone="Mars/Olympus", hours="always")
    assert "the schedule cannot be read" in read(editor, "schedules/")
    said = read(editor, f"schedules/{schedule.pk}/")
    assert "'Mars/Olympus' is no time zone that is known here." in said
    edit = f"{BASE}schedules/{schedule.pk}/edit/"
    assert 'value="Mars/Olympus"' in editor.get(edit).content.decode()
    assert editor.post(edit, {**SCHEDULE, "person": ["ada@example.com"]}).status_code == 302
    assert "ada@example.com" in read(editor, f"schedules/{schedule.pk}/")
    assert "cannot be read" not in read(editor, f"schedules/{schedule.pk}/")


def test_a_schedule_that_a_policy_names_is_not_deleted(team: Team, editor: Client) -> None:
    editor.post(f"{BASE}schedules/new/", SCHEDULE)
    steps = {"steps": [{"notify": [{"kind": "schedule", "name": "primary"}]}]}
    save_policy(team=team, name="pages", document=steps, actor="a test", now=timezone.now())
    address = f"{BASE}schedules/{Schedule.objects.get().pk}/delete/"
    response = editor.post(address, follow=True)
    assert "names the schedule 'primary'" in text_of(response.content.decode())
    EscalationPolicy.objects.all().delete()
    editor.post(address)
    assert not Schedule.objects.exists()


# -- Escalation policies ----------------------------------------------------------------------------


def test_a_policy_is_made_shown_changed_and_deleted(team: Team, editor: Client, viewer: Client) -> None:
    assert editor.post(f"{BASE}escalation/new/", POLICY).status_code == 302
    policy = EscalationPolicy.objects.get()
    assert policy.steps == [
        {
            "notify": [
                {"kind": "channel", "name": "hooks"},
                {"kind": "person", "name": "ada@example.com"},
            ],
            "wait_minutes": 10,
        }
    ]
    assert (policy.repetitions, policy.reminder_minutes) == (2, None)
    said = read(viewer, "escalation/")
    assert "channel hooks, person ada@example.com – then wait 10 min" in said
    assert "Begins anew 2 times" in said
    address = f"{BASE}escalation/{policy.pk}/"
    assert 'value="channel:hooks" selected' in editor.get(address).content.decode()
    editor.post(address, {**POLICY, "step_1_notify": ["channel:hooks"]})
    policy.refresh_from_db()
    assert len(policy.steps) == 2
    editor.post(f"{address}delete/")
    assert not EscalationPolicy.objects.exists()


def test_policies_change_places(team: Team, editor: Client) -> None:
    for name in ("first", "second"):
        editor.post(f"{BASE}escalation/new/", {**POLICY, "name": name})
    second = EscalationPolicy.objects.get(name="second")
    editor.post(f"{BASE}escalation/{second.pk}/move/", {"to": "up"})
    assert [one.name for one in EscalationPolicy.objects.all()] == ["second", "first"]


def test_a_policy_warns_of_whom_it_names_in_vain(team: Team, editor: Client) -> None:
    editor.post(f"{BASE}escalation/new/", POLICY)
    Membership.objects.get(user__email="ada@example.com").delete()
    assert "ada@example.com is not there any more and hears of nothing" in read(editor, "escalation/")


def test_a_policy_that_cannot_be_saved_keeps_its_steps(team: Team, editor: Client) -> None:
    response = editor.post(f"{BASE}escalation/new/", {**POLICY, "step_0_wait": "soon"})
    assert response.status_code == 400
    html = response.content.decode()
    assert "The wait of step 1, in minutes, must be 1 to 1440, got &#x27;soon&#x27;." in html
    assert 'value="person:ada@example.com" selected' in html


# -- What is wrong is said in the page's own words ---------------------------------------------------


@pytest.mark.parametrize(
    ("path", "form", "said"),
    [
        ("maintenance/", {**WINDOW, "starts_at": "2 Uhr"}, "“Starts at” must be a time of day such as"),
        ("maintenance/", {**WINDOW, "duration_minutes": "0"}, "“Lasts, in minutes” must be a whole number"),
        (
            "maintenance/",
            {**WINDOW, **matcher_inputs(milestone="first")},
            "The value of condition 1: milestone is first_token or complete, got 'first'.",
        ),
        ("schedules/", {**SCHEDULE, "turn_days": "90"}, "“A turn lasts, in days” must be a whole number"),
        (
            "schedules/",
            {**SCHEDULE, "person": ["-", "x@example.com"]},
            "Turn 2: 'x@example.com' is no member",
        ),
        ("schedules/", {**SCHEDULE, "person": [""]}, "The rotation has 1 to 100 places, got 0."),
        ("schedules/", {**SCHEDULE, "person": ["-", ""]}, "The rotation needs a member of the team: nobody"),
        ("schedules/", {**SCHEDULE, "hours_0_from": "9"}, "Row 1 needs days, one or more of mon, tue"),
        (
            "schedules/",
            {**SCHEDULE, "hours_0_days": ["mon"], "hours_0_from": "9", "hours_0_to": "17:00"},
            "The beginning of row 1 must be a time of day such as 09:00.",
        ),
        (
            "escalation/",
            {**POLICY, "step_0_notify": [""]},
            "The number of steps that tell somebody must be 1",
        ),
        ("escalation/", {**POLICY, "step_0_notify": ["person:x@y.z"]}, "Step 1: 'x@y.z' is not a member"),
        (
            "escalation/",
            {**POLICY, "reminder_minutes": "3"},
            "“Reminder every, in minutes” must be empty or a whole number from 5",
        ),
    ],
)
def test_what_is_wrong_with_a_form_is_said_in_the_words_of_the_page(
    editor: Client, path: str, form: dict[str, Any], said: str
) -> None:
    response = editor.post(f"{BASE}{path}new/", form)
    assert response.status_code == 400
    html = unescape(response.content.decode())
    assert said in html
    told = " ".join(re.findall(r'class="field-error"[^>]*>([^<]*)<', html))
    assert not re.search(r"[a-z]_[a-z]+ (?:must|is|has)|\[\d+\]|\bnull\b", told)


# -- All of them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["silences/", "maintenance/", "schedules/", "escalation/"])
def test_an_empty_list_says_what_it_is_for_and_offers_nothing_to_a_viewer(viewer: Client, path: str) -> None:
    html = viewer.get(f"{BASE}{path}").content.decode()
    assert "empty-title" in html
    assert f"{path}new/" not in html


def _schedules(team: Team, number: int) -> None:
    document = {
        "time_zone": "UTC",
        "starts_on": "2020-01-06",
        "hands_over_at": "09:00",
        "people": ["ada@example.com"],
    }
    save_schedule(team=team, name=f"s{number}", document=document, actor="a test", now=timezone.now())


def _policies(team: Team, number: int) -> None:
    steps = {"steps": [{"notify": [{"kind": "channel", "name": "hooks"}]}]}
    save_policy(team=team, name=f"p{number}", document=steps, actor="a test", now=timezone.now())


def _silences(team: Team, number: int) -> None:
    now = timezone.now()
    document = {
        "matchers": [{"name": "feature", "operator": "=", "value": "x"}],
        "reason": f"r{number}",
        "ends_at": (now + timedelta(hours=1)).isoformat(),
    }
    create_silence(team=team, document=document, actor="a test", now=now)


def _windows(team: Team, number: int) -> None:
    make_window(team, name=f"w{number}")


@pytest.mark.parametrize(
    ("path", "make"),
    [
        ("silences/", _silences),
        ("maintenance/", _windows),
        ("schedules/", _schedules),
        ("escalation/", _policies),
    ],
)
def test_a_list_takes_as_many_queries_for_many_as_for_one(
    team: Team, editor: Client, path: str, make: Callable[[Team, int], None]
) -> None:
    counts = []
    for numbers in (range(1), range(1, 8)):
        for number in numbers:
            make(team, number)
        with CaptureQueriesContext(connection) as queries:
            read(editor, path)
        counts.append(len(queries))
    assert counts[0] == counts[1]
