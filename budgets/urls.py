"""Addresses of the pages about latency, and of signing in."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from budgets.views import accounts, features, teams

urlpatterns = [
    path("", features.overview, name="overview"),
    path("login/", accounts.sign_in, name="login"),
    path("teams/", teams.team_list, name="teams"),
    path("teams/<slug:slug>/", teams.members, name="team-members"),
    path("teams/<slug:slug>/audit/", teams.audit_log, name="team-audit"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("features/<slug:slug>/", features.feature, name="feature"),
    path(
        "features/<slug:slug>/charts/<slug:name>.json",
        features.feature_chart,
        {"form": "json"},
        name="feature-chart",
    ),
    path(
        "features/<slug:slug>/charts/<slug:name>.csv",
        features.feature_chart,
        {"form": "csv"},
        name="feature-chart",
    ),
]
