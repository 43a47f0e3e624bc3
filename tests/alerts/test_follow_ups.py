"""What is told of an incident as time goes by: by whom it goes, what holds it back, and that all of it can be read."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

import pytest

from alerts import incidents, telling
from alerts.escalation import Action
from alerts.follow_ups import due, follow_up
from alerts.history import replay
from alerts.incidents import Finding, Target, facts_of
from alerts.models import (
    Channel,
    EscalationPolicy,
    FollowUp,
    Incident,
    MaintenanceWindow,
    Notification,
    Schedule,
    ScheduleTurn,
    Silence,
)
from alerts.notifications import claim_due
from alerts.silences import end_silence
from budgets.models import AuditEntry, Feature, Membership, Team, User
from budgets.teams import remove_member
from tests.alerts.scenes import MINUTE, told
from tests.concurrency import held
from tests.factories import NOW, make_channel, make_feature, make_team

pytestmark = pytest.mark.django_db

HOUR = 60 * MINUTE
KIM = "kim@example.com"


@pytest.fixture
def team() -> Team:
    return make_team()


@pytest.fixture
def feature(team: Team) -> Feature:
    return make_feature(team=team, slug="support-chat")


@pytest.fixture
def kim(team: Team) -> User:
    return member(team, KIM)


def member(team: Team, email: str) -> User:
    user = User.objects.create_user(email=email)
    Membership.objects.create(team=team, user=user, role="editor")
    return user


def finding(**overrides: Any) -> Finding:
    values = {
        "severity": "page",
        "rule": "burn_rate 1h/5m",
        "reason": "burning",
        "summary": "Support chat, first token: burning 15× over 1 h.",
        "cause": None,
        "burn_rate": 15.0,
    }
    return Finding(**{**values, **overrides})


def begin(feature: Feature, now: datetime = NOW, **overrides: Any) -> Incident:
    incident = incidents.open_incident(
        target=Target(feature, "production", milestone="first_token"),
        finding=finding(**overrides),
        evidence=["burn_rate 1h/5m"],
        now=now,
    )
    assert incident is not None
    return incident


def end(incident: Incident, now: datetime) -> None:
    incident.refresh_from_db()
    incidents.resolve_by_rules(incident=incident, reason="recovered", now=now)


def pass_until(incident: Incident, now: datetime) -> list[Action]:
    """Does what becomes due up to `now`, each when it is; the actions."""
    done: list[Action] = []
    while (
        len(done) < 1000 and (at := FollowUp.objects.get(incident=incident).next_at) is not None and at <= now
    ):
        done.append(follow_up(incident_id=incident.pk, now=at))
    return [action for action in done if action != Action.NOTHING]


def make_policy(team: Team, *steps: list[tuple[str, str]], wait_minutes: int = 5, **values: Any) -> None:
    EscalationPolicy.objects.create(
        team=team,
        name=values.pop("name", "Pages"),
        steps=[
            {"notify": [{"kind": kind, "name": name} for kind, name in step], "wait_minutes": wait_minutes}
            for step in steps
        ],
        **values,
    )


def make_silence(team: Team, *, ends_at: datetime, feature: str = "support-chat") -> Silence:
    return Silence.objects.create(
        team=team,
        matchers=[{"name": "feature", "operator": "=", "value": feature}],
        reason="Load test",
        author=KIM,
        starts_at=NOW - HOUR,
        ends_at=ends_at,
    )


def told_of(incident: Incident) -> list[dict[str, Any]]:
    return [{"event": one.reason, **one.details} for one in incident.events.filter(kind="told")]


def names(feature: Feature) -> list[tuple[str, str]]:
    return [(channel, event) for channel, event, _ in told(feature)]


# -- Where nobody could be told -----------------------------------------------------------------------


def test_a_channel_that_is_added_later_hears_once_of_what_nobody_could_be_told(
    team: Team, feature: Feature
) -> None:
    incident = begin(feature)
    assert pass_until(incident, NOW + HOUR) == []
    make_channel(team, name="late", kind="slack")
    assert pass_until(incident, NOW + HOUR + MINUTE) == [Action.ANNOUNCE]
    assert names(feature) == [("late", "opened")]
    make_channel(team, name="later")
    assert pass_until(incident, NOW + 4 * HOUR) == []
    assert names(feature) == [("late", "opened")]
    # That there was nobody is noted once, not every minute.
    assert [len(one["told"]) for one in told_of(incident)] == [0, 1]
    assert pass_until(incident, NOW + 6 * HOUR) == [Action.REPEAT]


def test_a_channel_that_takes_only_pages_is_nobody_for_a_ticket(team: Team, feature: Feature) -> None:
    incident = begin(feature, severity="ticket")
    make_channel(team, min_severity="page")
    assert pass_until(incident, NOW + HOUR) == []
    assert names(feature) == []


def test_a_channel_that_is_added_within_a_silence_hears_when_it_ends(team: Team, feature: Feature) -> None:
    incident = begin(feature)
    make_silence(team, ends_at=NOW + 2 * HOUR)
    make_channel(team, name="late")
    assert pass_until(incident, NOW + 2 * HOUR - MINUTE) == []
    assert pass_until(incident, NOW + 2 * HOUR + MINUTE) == [Action.RELEASE]
    assert names(feature) == [("late", "opened")]


def test_a_policy_that_reached_nobody_begins_at_its_first_step_when_somebody_can_be_told(
    team: Team, feature: Feature
) -> None:
    for name in ("first", "second"):
        make_channel(team, name=name, kind="slack", is_enabled=False)
    make_policy(team, [("channel", "first")], [("channel", "second")], wait_minutes=10)
    incident = begin(feature)
    assert pass_until(incident, NOW + HOUR) == []
    Channel.objects.update(is_enabled=True)
    assert pass_until(incident, NOW + HOUR + MINUTE) == [Action.ANNOUNCE]
    assert names(feature) == [("first", "opened")]
    assert pass_until(incident, NOW + HOUR + 11 * MINUTE) == [Action.ESCALATE]
    assert names(feature) == [("first", "opened"), ("second", "opened")]


def test_what_somebody_acknowledged_or_what_ended_is_told_to_no_channel_that_is_added(
    team: Team, feature: Feature
) -> None:
    taken = begin(feature)
    incidents.acknowledge(incident_id=taken.pk, actor=KIM, now=NOW + MINUTE)
    over = begin(make_feature(team=team))
    end(over, NOW + MINUTE)
    make_channel(team)
    assert pass_until(taken, NOW + HOUR) + pass_until(over, NOW + HOUR) == []
    assert Notification.objects.count() == 0


# -- Without a policy -------------------------------------------------------------------------------


def test_it_repeats_every_four_hours_until_somebody_acknowledges(team: Team, feature: Feature) -> None:
    make_channel(team, name="mail", kind="email", config={"to": [KIM]})
    incident = begin(feature)
    assert pass_until(incident, NOW + 9 * HOUR) == [Action.REPEAT, Action.REPEAT]
    assert names(feature) == [("mail", "opened"), ("mail", "repeated"), ("mail", "repeated")]
    incidents.acknowledge(incident_id=incident.pk, actor=KIM, now=NOW + 9 * HOUR)
    assert pass_until(incident, NOW + 40 * HOUR) == []


def test_programs_are_told_of_openings_and_ends_alone(team: Team, feature: Feature) -> None:
    make_channel(team, name="hook")
    incident = begin(feature)
    assert pass_until(incident, NOW + 4 * HOUR) == [Action.REPEAT]
    end(incident, NOW + 5 * HOUR)
    assert names(feature) == [("hook", "opened"), ("hook", "resolved")]


def test_another_cause_is_told_with_an_update_and_not_within_five_minutes(
    team: Team, feature: Feature
) -> None:
    make_channel(team, name="mail", kind="email", config={"to": [KIM]})
    incident = begin(feature)
    for minutes in (1, 2, 7):
        pass_until(incident, NOW + minutes * MINUTE)
        incident.refresh_from_db()
        cause = {"component": f"part {minutes}", "allocated_ms": 1, "observed_ms": 2}
        incidents.change_cause(
            incident=incident, cause=cause, summary=f"After {minutes}", now=NOW + minutes * MINUTE
        )
    assert pass_until(incident, NOW + 30 * MINUTE) == [Action.UPDATE]
    updates = Notification.objects.filter(event="incident.updated").order_by("pk")
    assert [(one.created_at - NOW, one.data["incident"]["cause"]["component"]) for one in updates] == [
        (5 * MINUTE, "part 2"),
        (10 * MINUTE, "part 7"),
    ]


def test_what_is_not_due_is_left_alone(team: Team, feature: Feature) -> None:
    make_channel(team, name="mail", kind="email", config={"to": [KIM]})
    incident = begin(feature)
    assert due(now=NOW + HOUR, limit=10) == []
    assert follow_up(incident_id=incident.pk, now=NOW + HOUR) == Action.NOTHING
    assert due(now=NOW + 4 * HOUR, limit=10) == [incident.pk]


def test_it_says_of_each_channel_why_it_was_told_or_left_out(team: Team, feature: Feature, kim: User) -> None:
    make_channel(team, name="pages", min_severity="page")
    make_channel(team, name="off", is_enabled=False)
    make_channel(team, name="all")
    make_channel(team, name="kim's own", owner=kim)
    incident = begin(feature, severity="ticket")
    (opening,) = told_of(incident)
    assert [(one["name"], one["because"]) for one in opening["told"]] == [
        ("all", "a channel of the team, takes tickets and pages")
    ]
    assert opening["left_out"] == [
        {"name": "pages", "because": "takes only pages"},
        {"name": "off", "because": "switched off"},
    ]
    assert Notification.objects.get().because == "a channel of the team, takes tickets and pages"


# -- Escalation -------------------------------------------------------------------------------------


def test_a_policy_takes_its_steps_until_somebody_acknowledges(team: Team, feature: Feature) -> None:
    for name in ("first", "second", "never"):
        make_channel(team, name=name)
    make_policy(team, [("channel", "first")], [("channel", "second")], repetitions=1)
    incident = begin(feature)
    assert names(feature) == [("first", "opened")]
    pass_until(incident, NOW + 11 * MINUTE)
    assert names(feature) == [("first", "opened"), ("second", "opened"), ("first", "opened")]
    incidents.acknowledge(incident_id=incident.pk, actor=KIM, now=NOW + 12 * MINUTE)
    assert pass_until(incident, NOW + HOUR) == []
    assert names(feature)[3:] == [("first", "acknowledged"), ("second", "acknowledged")]
    assert [(one.get("step"), one.get("round")) for one in told_of(incident)][:3] == [(1, 1), (2, 1), (1, 2)]


def test_a_policy_is_frozen_into_the_incident_when_it_opens(team: Team, feature: Feature) -> None:
    first, second = make_channel(team, name="first"), make_channel(team, name="second")
    make_policy(team, [("channel", "first")], [("channel", "second")])
    incident = begin(feature)
    EscalationPolicy.objects.update(
        steps=[{"notify": [{"kind": "channel", "name": "first"}], "wait_minutes": 1}]
    )
    Channel.objects.filter(pk=second.pk).update(name="renamed")
    pass_until(incident, NOW + 5 * MINUTE)
    assert [one.channel_id for one in Notification.objects.order_by("pk")] == [first.pk, second.pk]


def test_the_first_policy_that_fits_decides(team: Team, feature: Feature) -> None:
    for name in ("tickets", "pages"):
        make_channel(team, name=name)
    only_pages = [{"name": "severity", "operator": "=", "value": "page"}]
    make_policy(team, [("channel", "pages")], name="Pages", matchers=only_pages, position=1)
    make_policy(team, [("channel", "tickets")], name="Rest", position=2)
    incident = begin(feature, severity="ticket")
    assert names(feature) == [("tickets", "opened")]
    incident.refresh_from_db()
    incidents.raise_severity(incident=incident, finding=finding(), now=NOW + MINUTE)
    assert names(feature) == [("tickets", "opened"), ("pages", "opened")]


def test_a_step_goes_to_whoever_is_on_call_and_a_gap_to_the_next_step_at_once(
    team: Team, feature: Feature, kim: User
) -> None:
    make_channel(team, name="chat")
    values = {"team": team, "time_zone": "UTC", "starts_on": date(2026, 1, 5), "hands_over_at": time(9)}
    ScheduleTurn.objects.create(
        schedule=Schedule.objects.create(name="primary", **values), position=0, person=kim
    )
    Schedule.objects.create(name="empty", **values)
    make_policy(team, [("schedule", "empty")], [("schedule", "primary")], [("channel", "chat")])
    incident = begin(feature)
    assert names(feature) == [(f"Mail to {KIM}", "opened")]
    (opening,) = told_of(incident)
    assert opening["step"] == 2
    assert opening["left_out"][0]["because"] == "step 1 of Pages: nobody is on call, the rotation is empty"
    assert opening["told"][0]["because"] == "step 2 of Pages: on call in primary"
    mail = Channel.objects.get(owner=kim)
    assert (mail.kind, mail.config) == ("email", {"to": [KIM]})


def test_a_person_is_told_by_their_own_channels(team: Team, feature: Feature, kim: User) -> None:
    make_channel(team, name="kim's pager", owner=kim)
    make_policy(team, [("person", KIM)])
    begin(feature)
    assert names(feature) == [("kim's pager", "opened")]


def test_a_policy_that_reaches_nobody_falls_back_to_the_whole_team(team: Team, feature: Feature) -> None:
    make_channel(team, name="chat")
    make_channel(team, name="gone").delete()
    make_policy(team, [("channel", "gone")], [("person", "left@example.com")])
    incident = begin(feature)
    assert names(feature) == [("chat", "opened")]
    (opening,) = told_of(incident)
    assert opening["told"][0]["because"].startswith("the policy reached nobody")
    assert len(opening["left_out"]) == 2


def test_who_acknowledged_is_reminded_and_when_silent_for_long_nobody_has_it(
    team: Team, feature: Feature, kim: User
) -> None:
    make_channel(team, name="chat")
    make_policy(team, [("channel", "chat")], reminder_minutes=60, unacknowledge_minutes=150)
    incident = begin(feature)
    incidents.acknowledge(incident_id=incident.pk, actor=KIM, now=NOW + MINUTE)
    assert pass_until(incident, NOW + 61 * MINUTE) == [Action.REMIND]
    assert names(feature)[-1] == (f"Mail to {KIM}", "reminder")
    incidents.note(incident_id=incident.pk, actor=KIM, text="Still on it", now=NOW + 100 * MINUTE)
    incidents.note(incident_id=incident.pk, actor="ada@example.com", text="And?", now=NOW + 110 * MINUTE)
    assert pass_until(incident, NOW + 249 * MINUTE) == [Action.REMIND, Action.REMIND]
    assert pass_until(incident, NOW + 250 * MINUTE) == [Action.UNACKNOWLEDGE]
    incident.refresh_from_db()
    assert (incident.state, incident.acknowledged_by) == ("open", "")
    assert names(feature)[-1] == ("chat", "unacknowledged")
    assert pass_until(incident, NOW + 251 * MINUTE) == []


# -- Held back --------------------------------------------------------------------------------------


def test_a_silence_holds_messages_back_and_they_go_out_when_it_ends(team: Team, feature: Feature) -> None:
    make_channel(team, name="chat")
    make_silence(team, ends_at=NOW + 30 * MINUTE)
    incident = begin(feature)
    assert told(feature) == []
    (held,) = told_of(incident)
    assert "Load test" in held["held_by"]
    assert datetime.fromisoformat(held["until"]) == NOW + 30 * MINUTE
    assert pass_until(incident, NOW + 29 * MINUTE) == []
    assert pass_until(incident, NOW + 30 * MINUTE) == [Action.RELEASE]
    assert names(feature) == [("chat", "opened")]


def test_what_came_while_it_was_held_back_is_told_with_the_opening_and_not_again(
    team: Team, feature: Feature
) -> None:
    make_channel(team, name="chat")
    make_silence(team, ends_at=NOW + 30 * MINUTE)
    incident = begin(feature)
    telling.note_news(incident=incident, now=NOW + MINUTE)
    assert pass_until(incident, NOW + 60 * MINUTE) == [Action.RELEASE]
    telling.note_news(incident=incident, now=NOW + 61 * MINUTE)
    assert pass_until(incident, NOW + 90 * MINUTE) == [Action.UPDATE]


def test_a_silence_that_is_ended_early_lets_go_within_a_minute(team: Team, feature: Feature) -> None:
    make_channel(team, name="chat")
    silence = make_silence(team, ends_at=NOW + 5 * HOUR)
    incident = begin(feature)
    Silence.objects.filter(pk=silence.pk).update(ends_at=NOW + MINUTE)
    assert pass_until(incident, NOW + 2 * MINUTE) == [Action.RELEASE]


def test_an_incident_that_ends_in_silence_was_never_told(team: Team, feature: Feature) -> None:
    make_channel(team, name="chat")
    make_silence(team, ends_at=NOW + HOUR)
    incident = begin(feature)
    end(incident, NOW + 10 * MINUTE)
    assert pass_until(incident, NOW + 5 * HOUR) == []
    assert told(feature) == []


def test_the_end_is_told_in_a_silence_where_the_beginning_was(team: Team, feature: Feature) -> None:
    make_channel(team, name="chat")
    incident = begin(feature)
    make_silence(team, ends_at=NOW + 9 * HOUR)
    assert pass_until(incident, NOW + 5 * HOUR) == []
    end(incident, NOW + 6 * HOUR)
    assert names(feature) == [("chat", "opened"), ("chat", "resolved")]


def test_a_step_that_a_silence_holds_back_is_noted_and_taken_when_it_ends(
    team: Team, feature: Feature
) -> None:
    for name in ("first", "second"):
        make_channel(team, name=name)
    make_policy(team, [("channel", "first")], [("channel", "second")])
    incident = begin(feature)
    make_silence(team, ends_at=NOW + 30 * MINUTE)
    assert pass_until(incident, NOW + 29 * MINUTE) == []
    assert names(feature) == [("first", "opened")]
    assert ["Load test" in one.get("held_by", "") for one in told_of(incident)] == [False, True]
    assert pass_until(incident, NOW + 30 * MINUTE) == [Action.RELEASE]
    assert names(feature) == [("first", "opened"), ("second", "opened")]


def test_a_maintenance_window_holds_messages_back(team: Team, feature: Feature) -> None:
    make_channel(team, name="chat")
    MaintenanceWindow.objects.create(
        team=team,
        name="Backups",
        matchers=[],
        time_zone="UTC",
        starts_on=NOW.date(),
        starts_at=(NOW - 5 * MINUTE).time(),
        duration_minutes=15,
        author=KIM,
    )
    incident = begin(feature)
    assert told(feature) == []
    assert "Backups" in told_of(incident)[0]["held_by"]
    assert pass_until(incident, NOW + 20 * MINUTE) == [Action.RELEASE]


def test_a_silence_for_another_feature_holds_nothing(team: Team, feature: Feature) -> None:
    make_channel(team, name="chat")
    make_silence(team, ends_at=NOW + HOUR, feature="search")
    begin(feature)
    assert names(feature) == [("chat", "opened")]


def test_acknowledging_what_is_held_back_lets_it_rest(team: Team, feature: Feature) -> None:
    make_channel(team, name="chat")
    make_silence(team, ends_at=NOW + HOUR)
    incident = begin(feature)
    incidents.acknowledge(incident_id=incident.pk, actor=KIM, now=NOW + MINUTE)
    assert pass_until(incident, NOW + 3 * HOUR) == []
    assert told(feature) == []


def test_a_silence_over_what_was_told_before_is_noted_and_its_end_is_told_to_those_who_know(
    team: Team, feature: Feature
) -> None:
    make_channel(team, name="mail", kind="email", config={"to": [KIM]})
    make_channel(team, name="hook")
    incident = begin(feature)
    make_silence(team, ends_at=NOW + 2 * HOUR)
    assert due(now=NOW + MINUTE, limit=9) == [incident.pk]
    assert follow_up(incident_id=incident.pk, now=NOW + MINUTE) == Action.NOTHING
    row = FollowUp.objects.get(incident=incident)
    assert (row.held_since, row.held_by) == (NOW + MINUTE, f"silence “Load test” of {KIM}")
    assert told_of(incident)[-1]["held_by"] == row.held_by
    assert due(now=NOW + MINUTE, limit=9) == [], "once"
    assert pass_until(incident, NOW + 3 * HOUR) == [Action.RELEASE]
    assert [one["event"] for one in told_of(incident)][1:] == ["incident.repeated", "incident.repeated"]
    last = Notification.objects.order_by("pk").last()
    assert last is not None
    assert (last.channel.name, last.event, last.created_at) == ("mail", "incident.repeated", NOW + 2 * HOUR)
    assert names(feature).count(("hook", "opened")) == 1


def test_a_page_that_a_silence_held_back_is_told_as_an_opening_though_the_ticket_was_told_before(
    team: Team, feature: Feature
) -> None:
    make_channel(team, name="mail", kind="email", config={"to": [KIM]})
    incident = begin(feature, severity="ticket")
    make_silence(team, ends_at=NOW + 2 * HOUR)
    due(now=NOW + MINUTE, limit=9)
    pass_until(incident, NOW + MINUTE)
    incident.refresh_from_db()
    incidents.raise_severity(incident=incident, finding=finding(), now=NOW + HOUR)
    assert [one["event"] for one in told_of(incident) if "held_by" in one] == [
        "incident.repeated",
        "incident.opened",
    ]
    pass_until(incident, NOW + 2 * HOUR + MINUTE)
    assert told(feature) == [("mail", "opened", "ticket"), ("mail", "opened", "page")]


# -- Where what was told reached nobody ---------------------------------------------------------------


def give_up(incident: Incident, now: datetime, **which: Any) -> None:
    Notification.objects.filter(incident=incident, **which).update(
        state="undeliverable", reason="permanent_error", finished_at=now, next_attempt_at=None
    )


def test_where_a_step_could_not_be_told_the_next_one_does_not_wait(team: Team, feature: Feature) -> None:
    for name in ("first", "second"):
        make_channel(team, name=name, kind="slack")
    make_policy(team, [("channel", "first")], [("channel", "second")], wait_minutes=30)
    incident = begin(feature)
    assert due(now=NOW + MINUTE, limit=9) == []
    give_up(incident, NOW + MINUTE)
    assert due(now=NOW + MINUTE, limit=9) == [incident.pk]
    assert follow_up(incident_id=incident.pk, now=NOW + MINUTE) == Action.REROUTE
    assert names(feature) == [("first", "opened"), ("second", "opened")]


def test_where_nobody_of_a_policy_could_be_told_the_rest_of_the_team_is_and_after_four_hours_all_again(
    team: Team, feature: Feature
) -> None:
    for name in ("named", "other"):
        make_channel(team, name=name, kind="slack")
    make_policy(team, [("channel", "named")])
    incident = begin(feature)
    give_up(incident, NOW + MINUTE)
    due(now=NOW + MINUTE, limit=9)
    assert pass_until(incident, NOW + MINUTE) == [Action.REROUTE]
    assert names(feature) == [("named", "opened"), ("other", "opened")]
    latest = told_of(incident)[-1]
    assert latest["told"][0]["because"].startswith("nobody else could be reached; ")
    assert {"name": "named", "because": "its message was given up"} in latest["left_out"]
    give_up(incident, NOW + 2 * MINUTE, channel__name="other")
    due(now=NOW + 2 * MINUTE, limit=9)
    assert pass_until(incident, NOW + 2 * MINUTE) == [Action.REROUTE]
    assert told_of(incident)[-1]["told"] == []
    assert due(now=NOW + HOUR, limit=9) == [], "nobody is left, and nothing new was given up"
    assert pass_until(incident, NOW + 4 * HOUR + 2 * MINUTE) == [Action.REPEAT]
    assert names(feature)[-1] == ("named", "opened")


def test_one_that_somebody_heard_of_is_rerouted_to_nobody(team: Team, feature: Feature) -> None:
    for name in ("works", "broken"):
        make_channel(team, name=name, kind="slack")
    incident = begin(feature)
    give_up(incident, NOW + MINUTE, channel__name="broken")
    assert due(now=NOW + MINUTE, limit=9) == []
    incidents.acknowledge(incident_id=incident.pk, actor=KIM, now=NOW + MINUTE)
    give_up(incident, NOW + MINUTE)
    assert due(now=NOW + MINUTE, limit=9) == []


def test_a_page_that_its_policy_can_tell_nobody_goes_to_the_team_though_the_ticket_was_told(
    team: Team, feature: Feature
) -> None:
    make_channel(team, name="tickets", kind="slack")
    make_channel(team, name="pages", kind="slack", min_severity="page")
    incident = begin(feature, severity="ticket")
    make_policy(team, [("person", "left@example.com")])
    incidents.raise_severity(incident=incident, finding=finding(), now=NOW + HOUR)
    assert told(feature)[1:] == [("tickets", "opened", "page"), ("pages", "opened", "page")]


def test_who_has_it_no_more_is_told_to_the_team_where_the_policys_channel_is_off_by_then(
    team: Team, feature: Feature
) -> None:
    make_channel(team, name="first", kind="slack")
    make_channel(team, name="other", kind="slack")
    make_policy(team, [("channel", "first")], unacknowledge_minutes=60)
    incident = begin(feature)
    incidents.acknowledge(incident_id=incident.pk, actor=KIM, now=NOW + MINUTE)
    Channel.objects.filter(name="first").update(is_enabled=False)
    assert pass_until(incident, NOW + 2 * HOUR) == [Action.UNACKNOWLEDGE]
    assert names(feature)[-1] == ("other", "unacknowledged")


def test_a_page_whose_message_was_given_up_is_rerouted_though_the_ticket_was_delivered(
    team: Team, feature: Feature
) -> None:
    make_channel(team, name="tickets", kind="slack")
    make_channel(team, name="pager", kind="slack", min_severity="page")
    incident = begin(feature, severity="ticket")
    make_policy(team, [("channel", "pager")])
    incidents.raise_severity(incident=incident, finding=finding(), now=NOW + HOUR)
    give_up(incident, NOW + HOUR + MINUTE, channel__name="pager")
    assert due(now=NOW + HOUR + MINUTE, limit=9) == [incident.pk]
    assert pass_until(incident, NOW + HOUR + MINUTE) == [Action.REROUTE]
    assert told(feature)[-1] == ("tickets", "opened", "page")


def test_where_nobody_is_left_after_hours_it_waits_for_somebody_and_says_so_once(
    team: Team, feature: Feature
) -> None:
    channel = make_channel(team, name="only", kind="slack")
    incident = begin(feature)
    give_up(incident, NOW + MINUTE)
    Channel.objects.update(is_enabled=False)
    due(now=NOW + MINUTE, limit=9)
    assert pass_until(incident, NOW + MINUTE) == [Action.REROUTE]
    assert pass_until(incident, NOW + 9 * HOUR) == [Action.REPEAT]
    assert len(told_of(incident)) == 3
    Channel.objects.filter(pk=channel.pk).update(is_enabled=True)
    assert pass_until(incident, NOW + 9 * HOUR + 2 * MINUTE) == [Action.ANNOUNCE]


def test_one_that_came_back_while_nobody_could_be_told_is_announced_when_somebody_can(
    team: Team, feature: Feature
) -> None:
    make_channel(team, name="only", kind="slack")
    end(begin(feature), NOW + 5 * MINUTE)
    Channel.objects.update(is_enabled=False)
    incident = begin(feature, NOW + 10 * MINUTE)
    assert pass_until(incident, NOW + 11 * MINUTE) == []
    Channel.objects.update(is_enabled=True)
    assert pass_until(incident, NOW + 12 * MINUTE) == [Action.ANNOUNCE]
    assert names(feature)[-1] == ("only", "reopened")


def test_an_opening_that_was_given_up_within_a_silence_goes_to_others_when_it_ends(
    team: Team, feature: Feature
) -> None:
    for name in ("named", "other"):
        make_channel(team, name=name, kind="slack")
    make_policy(team, [("channel", "named")])
    incident = begin(feature)
    make_silence(team, ends_at=NOW + HOUR)
    due(now=NOW + MINUTE, limit=9)
    pass_until(incident, NOW + MINUTE)
    Channel.objects.filter(name="named").update(is_enabled=False)
    give_up(incident, NOW + 2 * MINUTE)
    assert pass_until(incident, NOW + HOUR + MINUTE) == [Action.RELEASE]
    assert names(feature) == [("named", "opened"), ("other", "opened")]


@pytest.mark.parametrize("kind", ["pagerduty", "opsgenie", "slack"])
def test_an_alert_that_was_acknowledged_is_ended_first_where_the_service_would_stay_quiet(
    team: Team, feature: Feature, kind: str
) -> None:
    make_channel(team, name="pager", kind=kind, config={})
    incident = begin(feature, severity="ticket")
    incidents.acknowledge(incident_id=incident.pk, actor=KIM, now=NOW + MINUTE)
    incident.refresh_from_db()
    incidents.raise_severity(incident=incident, finding=finding(), now=NOW + HOUR)
    assert [event for _, event in names(feature)] == [
        "opened",
        "acknowledged",
        *(["resolved"] if kind != "slack" else []),
        "opened",
    ]
    end(incident, NOW + 2 * HOUR)
    assert [event for _, event in names(feature)][-1] == "resolved"


# -- What becomes worse -------------------------------------------------------------------------------


def test_a_ticket_that_somebody_acknowledged_escalates_when_it_becomes_a_page(
    team: Team, feature: Feature
) -> None:
    for name in ("first", "second"):
        make_channel(team, name=name, kind="slack")
    make_policy(team, [("channel", "first")], [("channel", "second")])
    incident = begin(feature, severity="ticket")
    incidents.acknowledge(incident_id=incident.pk, actor=KIM, now=NOW + MINUTE)
    incident.refresh_from_db()
    incidents.raise_severity(incident=incident, finding=finding(), now=NOW + 8 * HOUR)
    incident.refresh_from_db()
    assert (incident.state, incident.acknowledged_by, incident.acknowledged_at) == ("open", "", None)
    assert replay(incident.events.steps()) == facts_of(incident)
    assert pass_until(incident, NOW + 9 * HOUR) == [Action.ESCALATE]
    assert told(feature)[-2:] == [("first", "opened", "page"), ("second", "opened", "page")]


def test_one_that_comes_back_as_a_page_goes_by_the_policy_for_pages(team: Team, feature: Feature) -> None:
    for name in ("tickets", "pages"):
        make_channel(team, name=name, kind="slack")
        matcher = {"name": "severity", "operator": "=", "value": name.removesuffix("s")}
        make_policy(team, [("channel", name)], name=name, matchers=[matcher], position=1)
    incident = begin(feature, severity="ticket")
    end(incident, NOW + 5 * MINUTE)
    begin(feature, NOW + 10 * MINUTE)
    assert told(feature) == [
        ("tickets", "opened", "ticket"),
        ("tickets", "resolved", "ticket"),
        ("pages", "reopened", "page"),
    ]


def test_a_page_is_told_though_the_ticket_flaps(team: Team, feature: Feature) -> None:
    make_channel(team, name="chat", kind="slack")
    for number in range(4):
        incident = begin(feature, NOW + number * 10 * MINUTE, severity="ticket")
        end(incident, NOW + (number * 10 + 5) * MINUTE)
    incident = begin(feature, NOW + 40 * MINUTE, severity="ticket")
    assert incident.is_flapping
    before = len(told(feature))
    incidents.raise_severity(incident=incident, finding=finding(), now=NOW + 42 * MINUTE)
    assert told(feature)[before:] == [("chat", "opened", "page")]


def test_a_page_that_flaps_takes_the_steps_of_its_policy_without_waiting(
    team: Team, feature: Feature
) -> None:
    for name in ("first", "second"):
        make_channel(team, name=name, kind="slack")
    make_policy(team, [("channel", "first")], [("channel", "second")])
    come_and_go(feature, times=3)
    incident = begin(feature, NOW + 30 * MINUTE)
    assert incident.is_flapping
    assert pass_until(incident, NOW + 90 * MINUTE) == [Action.RELEASE, Action.ESCALATE]
    first, second = Notification.objects.order_by("-pk")[:2][::-1]
    assert second.created_at - first.created_at == 5 * MINUTE


def test_reopenings_that_are_hours_apart_are_no_flapping(team: Team, feature: Feature) -> None:
    incident = begin(feature)
    for number in range(1, 6):
        end(incident, NOW + (number * 4 * HOUR) - MINUTE)
        incident = begin(feature, NOW + number * 4 * HOUR)
    assert (incident.reopenings, incident.is_flapping) == (5, False)


def test_flapping_is_over_when_reopenings_are_rare_again(team: Team, feature: Feature) -> None:
    incident = come_and_go(feature, times=4)
    incident.refresh_from_db()
    assert incident.is_flapping
    incident = begin(feature, NOW + 40 * MINUTE)
    end(incident, NOW + 9 * HOUR)
    incident = begin(feature, NOW + 9 * HOUR + MINUTE)
    assert not incident.is_flapping
    assert replay(incident.events.steps()) == facts_of(incident)


# -- Coming back ------------------------------------------------------------------------------------


def come_and_go(feature: Feature, times: int, *, every: timedelta = 10 * MINUTE) -> Incident:
    """Opens and ends so many times."""
    for number in range(times):
        incident = begin(feature, NOW + number * every)
        end(incident, NOW + number * every + every / 2)
    return incident


def test_a_target_in_trouble_again_within_half_an_hour_has_the_same_incident(
    team: Team, feature: Feature
) -> None:
    make_channel(team, name="chat")
    first = begin(feature)
    end(first, NOW + 10 * MINUTE)
    again = begin(feature, NOW + 39 * MINUTE, severity="ticket")
    assert again.pk == first.pk
    again.refresh_from_db()
    assert (again.state, again.severity, again.reopenings) == ("open", "ticket", 1)
    assert (again.opened_at, again.reopened_at) == (NOW, NOW + 39 * MINUTE)
    assert (again.resolved_at, again.resolved_reason) == (None, "")
    assert [event for _, event in names(feature)] == ["opened", "resolved", "reopened"]


def test_after_half_an_hour_it_is_another(feature: Feature) -> None:
    first = begin(feature)
    end(first, NOW + 10 * MINUTE)
    assert begin(feature, NOW + 41 * MINUTE).pk != first.pk


def test_one_that_comes_and_goes_is_marked_and_tells_once_an_hour(team: Team, feature: Feature) -> None:
    make_channel(team, name="chat")
    incident = come_and_go(feature, times=7)
    incident.refresh_from_db()
    assert (incident.reopenings, incident.is_flapping) == (6, True)
    # Three times it was told as it happened; the third reopening, at 30 min, was held back, and so on.
    assert [event for _, event in names(feature)] == ["opened", "resolved"] + ["reopened", "resolved"] * 2
    assert next(one["held_by"] for one in told_of(incident) if "held_by" in one).startswith(
        "it comes and goes"
    )
    # The last word that they heard was an end, and it has ended.
    assert pass_until(incident, NOW + 5 * HOUR) == [Action.END]
    assert [event for _, event in names(feature)][6:] == []


def test_one_that_flaps_and_stays_open_is_told_within_the_hour(team: Team, feature: Feature) -> None:
    make_channel(team, name="chat")
    come_and_go(feature, times=3)
    incident = begin(feature, NOW + 30 * MINUTE)
    assert incident.is_flapping
    last_told_at = FollowUp.objects.get(incident=incident).told_at
    assert last_told_at == NOW + 25 * MINUTE
    assert pass_until(incident, NOW + 84 * MINUTE) == []
    assert pass_until(incident, NOW + 85 * MINUTE) == [Action.RELEASE]
    assert names(feature)[-1] == ("chat", "reopened")
    end(incident, NOW + 90 * MINUTE)
    assert names(feature)[-1] == ("chat", "reopened")
    assert pass_until(incident, NOW + 145 * MINUTE) == [Action.END]
    assert names(feature)[-1] == ("chat", "resolved")


def test_what_a_person_resolved_does_not_open_again_as_the_same(feature: Feature) -> None:
    first = begin(feature)
    incidents.resolve(incident_id=first.pk, actor=KIM, now=NOW + MINUTE)
    assert begin(feature, NOW + 10 * MINUTE).pk != first.pk


def test_the_events_alone_rebuild_one_that_came_back(feature: Feature) -> None:
    incident = come_and_go(feature, times=5)
    incident.refresh_from_db()
    rebuilt = replay(incident.events.all())
    kept = facts_of(incident)
    assert (rebuilt.reopenings, rebuilt.is_flapping, rebuilt.reopened_at, rebuilt.state) == (
        kept.reopenings,
        kept.is_flapping,
        kept.reopened_at,
        kept.state,
    )


# -- Long names and people's own channels -----------------------------------------------------------


def test_names_of_any_length_that_may_be_saved_reach_whom_they_name(team: Team, feature: Feature) -> None:
    person = member(team, f"{'k' * 60}@{'.'.join(['x' * 60] * 3)}.example")
    assert len(f"Mail to {person.email}") > 200
    schedule = Schedule.objects.create(
        team=team, name="s" * 200, time_zone="UTC", starts_on=date(2026, 1, 1), hands_over_at=time(9)
    )
    ScheduleTurn.objects.create(schedule=schedule, position=0, person=person)
    make_policy(team, [("schedule", schedule.name)], name="p" * 200)
    incident = begin(feature)
    (message,) = incident.notifications.all()
    assert message.channel.owner == person
    assert message.because.startswith("step 1 of ppp")


def test_a_channel_that_is_made_for_somebody_without_one_is_in_the_audit_log_once(
    team: Team, feature: Feature, kim: User
) -> None:
    make_policy(team, [("person", KIM)])
    begin(feature)
    made = Channel.objects.get(owner=kim)
    entry = AuditEntry.objects.get(team=team, action="channel.saved")
    assert (entry.actor, entry.subject, entry.at) == ("Latency Dashboard", made.name, NOW)
    assert entry.before is None
    assert (entry.after["kind"], entry.after["owner"]) == ("email", KIM)
    begin(make_feature(team=team))
    assert AuditEntry.objects.filter(action="channel.saved").count() == 1


def test_somebody_is_mailed_though_another_channel_has_the_name(
    team: Team, feature: Feature, kim: User
) -> None:
    make_channel(team, name=f"Mail to {KIM}")
    make_policy(team, [("person", KIM)])
    (message,) = begin(feature).notifications.select_related("channel")
    assert (message.channel.owner, message.channel.config) == (kim, {"to": [KIM]})


def test_it_is_said_of_whom_every_channel_is_switched_off(team: Team, feature: Feature, kim: User) -> None:
    make_channel(team, name=f"Mail to {KIM}", kind="email", config={"to": [KIM]}, owner=kim, is_enabled=False)
    make_channel(team, name="hook")
    make_policy(team, [("person", KIM)])
    (event,) = told_of(begin(feature))
    assert [one["name"] for one in event["told"]] == ["hook"], "the whole team instead"
    assert {"name": KIM, "because": "step 1 of Pages: every channel of theirs is switched off"} in event[
        "left_out"
    ]


@pytest.mark.parametrize("how", ["removed", "closed"])
def test_who_left_the_team_is_told_nothing_more(team: Team, feature: Feature, kim: User, how: str) -> None:
    make_channel(team, name="hook")
    make_policy(team, [("person", KIM), ("channel", "hook")], [("person", KIM)])
    incident = begin(feature)
    assert [one.channel.owner for one in incident.notifications.order_by("channel_id")] == [None, kim]
    if how == "removed":
        remove_member(team=team, user_id=kim.pk, actor="ada@example.com", now=NOW)
    else:
        User.objects.filter(pk=kim.pk).update(is_active=False)
    # What was on its way, the steps to come, and the end.
    while found := claim_due(now=NOW, limit=9):
        for one in found:
            assert one.kind == "webhook"
            Notification.objects.filter(pk=one.notification_id).update(
                state="delivered", finished_at=NOW, next_attempt_at=None, leased_until=None
            )
    given_up = Notification.objects.get(state="undeliverable")
    assert (given_up.channel.owner, given_up.reason) == (kim, "owner_left")
    assert pass_until(incident, NOW + 10 * MINUTE) == [Action.ESCALATE]
    end(incident, NOW + 20 * MINUTE)
    assert incident.notifications.filter(channel__owner=kim).count() == 1


def test_a_delivered_message_brings_nobody_who_left_the_next(team: Team, feature: Feature, kim: User) -> None:
    make_policy(team, [("person", KIM)])
    incident = begin(feature)
    incident.notifications.update(state="delivered", finished_at=NOW, next_attempt_at=None)
    remove_member(team=team, user_id=kim.pk, actor="ada@example.com", now=NOW)
    end(incident, NOW + MINUTE)
    assert incident.notifications.count() == 1


def test_a_channel_of_somebody_who_left_is_no_step_of_a_policy(
    team: Team, feature: Feature, kim: User
) -> None:
    make_channel(team, name="was the team's", owner=kim)
    make_channel(team, name="hook")
    make_policy(team, [("channel", "was the team's")])
    remove_member(team=team, user_id=kim.pk, actor="ada@example.com", now=NOW)
    (event,) = told_of(begin(feature))
    assert [one["name"] for one in event["told"]] == ["hook"]
    assert event["left_out"][0]["because"] == "step 1 of Pages: its owner is not in the team any more"


@pytest.mark.django_db(transaction=True)
def test_who_ends_a_silence_waits_for_nobody_who_writes_a_follow_up(team: Team) -> None:
    """They lock incidents in orders of their own."""
    silence = Silence.objects.create(
        team=team,
        matchers=[{"name": "environment", "operator": "=", "value": "production"}],
        reason="Load test",
        author=KIM,
        starts_at=NOW - HOUR,
        ends_at=NOW + HOUR,
    )
    busy, idle = (begin(make_feature(team=team)) for _ in range(2))
    with held("SELECT FROM alerts_followup WHERE incident_id = %s FOR UPDATE", [busy.pk]) as start:
        ending = start(lambda: end_silence(silence_id=silence.pk, actor=KIM, now=NOW + MINUTE / 2))
        assert ending.result(timeout=20).ended_by == KIM
    assert due(now=NOW + MINUTE / 2, limit=9) == [idle.pk]
    assert set(due(now=NOW + MINUTE, limit=9)) == {busy.pk, idle.pk}, "a minute later at most"


@pytest.mark.django_db(transaction=True)
def test_the_look_for_what_no_clock_knows_waits_for_nobody(team: Team, feature: Feature) -> None:
    make_channel(team, name="only", kind="slack")
    incident = begin(feature)
    give_up(incident, NOW + MINUTE)
    with held("SELECT FROM alerts_followup WHERE incident_id = %s FOR UPDATE", [incident.pk]) as start:
        assert start(lambda: due(now=NOW + MINUTE, limit=9)).result(timeout=20) == []
    assert due(now=NOW + MINUTE, limit=9) == [incident.pk]
