"""Addresses of the pages about incidents and alert rules, of the channels on which a team hears of them, and of reports."""

from django.urls import path

from alerts.views import channels, escalation, holds, incidents, reports, rules

urlpatterns = [
    path("incidents/", incidents.incident_list, name="incidents"),
    path("incidents/<int:pk>/", incidents.incident, name="incident"),
    path("incidents/<int:pk>/acknowledge/", incidents.acknowledge, name="incident-acknowledge"),
    path("incidents/<int:pk>/note/", incidents.note, name="incident-note"),
    path("incidents/<int:pk>/requests/", incidents.incident_requests, name="incident-requests"),
    path("incidents/<int:pk>/resolve/", incidents.resolve, name="incident-resolve"),
    path(
        "incidents/<int:pk>/charts/<slug:name>.json",
        incidents.incident_chart,
        {"form": "json"},
        name="incident-chart",
    ),
    path(
        "incidents/<int:pk>/charts/<slug:name>.csv",
        incidents.incident_chart,
        {"form": "csv"},
        name="incident-chart",
    ),
    path("features/<slug:slug>/rules/", rules.rule_list, name="feature-rules"),
    path("features/<slug:slug>/rules/new/", rules.create, name="feature-rule-create"),
    path("features/<slug:slug>/rules/<int:pk>/", rules.rule, name="feature-rule"),
    path("features/<slug:slug>/rules/<int:pk>/switch/", rules.switch, name="feature-rule-switch"),
    path("features/<slug:slug>/rules/<int:pk>/reset/", rules.reset, name="feature-rule-reset"),
    path("features/<slug:slug>/rules/<int:pk>/delete/", rules.delete, name="feature-rule-delete"),
    path("teams/<slug:slug>/report/", reports.team_report, name="team-report"),
    path("teams/<slug:slug>/report/mail/", reports.subscription, name="team-report-mail"),
    path("reports/unsubscribe/<str:token>/", reports.unsubscribe, name="report-unsubscribe"),
    path("teams/<slug:slug>/report.csv", reports.team_report, {"form": "csv"}, name="team-report-csv"),
    path("teams/<slug:slug>/channels/", channels.channel_list, name="team-channels"),
    path("teams/<slug:slug>/channels/new/", channels.create, name="team-channel-create"),
    path("teams/<slug:slug>/channels/<int:pk>/", channels.channel, name="team-channel"),
    path("teams/<slug:slug>/channels/<int:pk>/test/", channels.test, name="team-channel-test"),
    path("teams/<slug:slug>/channels/<int:pk>/switch/", channels.switch, name="team-channel-switch"),
    path("teams/<slug:slug>/channels/<int:pk>/secret/", channels.secret, name="team-channel-secret"),
    path("teams/<slug:slug>/channels/<int:pk>/delete/", channels.delete, name="team-channel-delete"),
    path("teams/<slug:slug>/silences/", holds.silence_list, name="team-silences"),
    path("teams/<slug:slug>/silences/new/", holds.create, name="team-silence-create"),
    path("teams/<slug:slug>/silences/<int:pk>/end/", holds.end, name="team-silence-end"),
    path("teams/<slug:slug>/maintenance/", holds.window_list, name="team-maintenance"),
    path("teams/<slug:slug>/maintenance/new/", holds.create_window, name="team-window-create"),
    path("teams/<slug:slug>/maintenance/<int:pk>/", holds.window, name="team-window"),
    path("teams/<slug:slug>/maintenance/<int:pk>/delete/", holds.remove_window, name="team-window-delete"),
    path("teams/<slug:slug>/schedules/", escalation.schedule_list, name="team-schedules"),
    path("teams/<slug:slug>/schedules/new/", escalation.create_schedule, name="team-schedule-create"),
    path("teams/<slug:slug>/schedules/<int:pk>/", escalation.schedule, name="team-schedule"),
    path("teams/<slug:slug>/schedules/<int:pk>/edit/", escalation.edit_schedule, name="team-schedule-edit"),
    path("teams/<slug:slug>/schedules/<int:pk>/overrides/", escalation.override, name="team-override"),
    path(
        "teams/<slug:slug>/schedules/<int:pk>/overrides/<int:override_id>/remove/",
        escalation.take_back,
        name="team-override-remove",
    ),
    path(
        "teams/<slug:slug>/schedules/<int:pk>/delete/",
        escalation.remove_schedule,
        name="team-schedule-delete",
    ),
    path("teams/<slug:slug>/escalation/", escalation.policy_list, name="team-policies"),
    path("teams/<slug:slug>/escalation/new/", escalation.create_policy, name="team-policy-create"),
    path("teams/<slug:slug>/escalation/<int:pk>/", escalation.edit_policy, name="team-policy"),
    path("teams/<slug:slug>/escalation/<int:pk>/move/", escalation.move, name="team-policy-move"),
    path(
        "teams/<slug:slug>/escalation/<int:pk>/delete/", escalation.remove_policy, name="team-policy-delete"
    ),
]
