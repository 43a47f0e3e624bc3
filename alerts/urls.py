"""Addresses of the pages about incidents, and of the channels on which a team hears of them."""

from django.urls import path

from alerts.views import channels, incidents

urlpatterns = [
    path("incidents/", incidents.incident_list, name="incidents"),
    path("incidents/<int:pk>/", incidents.incident, name="incident"),
    path("incidents/<int:pk>/acknowledge/", incidents.acknowledge, name="incident-acknowledge"),
    path("incidents/<int:pk>/note/", incidents.note, name="incident-note"),
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
    path("teams/<slug:slug>/channels/", channels.channel_list, name="team-channels"),
    path("teams/<slug:slug>/channels/new/", channels.create, name="team-channel-create"),
    path("teams/<slug:slug>/channels/<int:pk>/", channels.channel, name="team-channel"),
    path("teams/<slug:slug>/channels/<int:pk>/test/", channels.test, name="team-channel-test"),
    path("teams/<slug:slug>/channels/<int:pk>/switch/", channels.switch, name="team-channel-switch"),
    path("teams/<slug:slug>/channels/<int:pk>/secret/", channels.secret, name="team-channel-secret"),
    path("teams/<slug:slug>/channels/<int:pk>/delete/", channels.delete, name="team-channel-delete"),
]
