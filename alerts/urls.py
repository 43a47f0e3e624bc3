"""Addresses of the pages about incidents."""

from django.urls import path

from alerts import views

urlpatterns = [
    path("incidents/", views.incident_list, name="incidents"),
    path("incidents/<int:pk>/", views.incident, name="incident"),
    path("incidents/<int:pk>/acknowledge/", views.acknowledge, name="incident-acknowledge"),
    path("incidents/<int:pk>/resolve/", views.resolve, name="incident-resolve"),
    path(
        "incidents/<int:pk>/charts/<slug:name>.json",
        views.incident_chart,
        {"form": "json"},
        name="incident-chart",
    ),
    path(
        "incidents/<int:pk>/charts/<slug:name>.csv",
        views.incident_chart,
        {"form": "csv"},
        name="incident-chart",
    ),
]
