"""Addresses of the pages about latency, and of signing in."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from budgets import views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("login/", views.sign_in, name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("features/<slug:slug>/", views.feature, name="feature"),
    path(
        "features/<slug:slug>/charts/<slug:name>.json",
        views.feature_chart,
        {"form": "json"},
        name="feature-chart",
    ),
    path(
        "features/<slug:slug>/charts/<slug:name>.csv",
        views.feature_chart,
        {"form": "csv"},
        name="feature-chart",
    ),
]
