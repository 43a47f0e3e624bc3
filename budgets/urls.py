"""Addresses of the pages about latency, and of signing in."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from budgets.views import (
    accounts,
    annotations,
    audit,
    batches,
    editor,
    features,
    invitations,
    keys,
    teams,
    traces,
)

urlpatterns = [
    path("", features.overview, name="overview"),
    path("login/", accounts.sign_in, name="login"),
    path("password/forgotten/", accounts.forgotten_password, name="password-forgotten"),
    path("password/asked/", accounts.password_asked, name="password-asked"),
    path("password/reset/<uidb64>/<token>/", accounts.set_password, name="password-reset-confirm"),
    path("password/change/", accounts.change_password, name="password-change"),
    path("invitations/<str:token>/", invitations.invitation, name="invitation"),
    path("audit/", audit.installation_audit, name="audit"),
    path("audit.csv", audit.installation_audit, {"form": "csv"}, name="audit-csv"),
    path("teams/", teams.team_list, name="teams"),
    path("teams/<slug:slug>/", teams.members, name="team-members"),
    path("teams/<slug:slug>/members/<int:user_id>/role/", teams.change_role, name="team-member-role"),
    path("teams/<slug:slug>/members/<int:user_id>/remove/", teams.remove_member, name="team-member-remove"),
    path(
        "teams/<slug:slug>/invitations/<int:pk>/resend/",
        teams.resend_invitation,
        name="team-invitation-resend",
    ),
    path(
        "teams/<slug:slug>/invitations/<int:pk>/withdraw/",
        teams.withdraw_invitation,
        name="team-invitation-withdraw",
    ),
    path("teams/<slug:slug>/keys/", keys.keys, name="team-keys"),
    path("teams/<slug:slug>/keys/<int:pk>/revoke/", keys.revoke, name="team-key-revoke"),
    path("teams/<slug:slug>/batches/", batches.batches, name="team-batches"),
    path("teams/<slug:slug>/batches/discard/", batches.discard, name="team-discard"),
    path("teams/<slug:slug>/rejected/", batches.rejected, name="team-rejected"),
    path("teams/<slug:slug>/audit/", audit.team_audit, name="team-audit"),
    path("teams/<slug:slug>/audit.csv", audit.team_audit, {"form": "csv"}, name="team-audit-csv"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("features/new/", editor.create, name="feature-create"),
    path("features/<slug:slug>/", features.feature, name="feature"),
    path("features/<slug:slug>/edit/", editor.edit, name="feature-edit"),
    path("features/<slug:slug>/versions/", editor.versions, name="feature-versions"),
    path("features/<slug:slug>/annotations/", annotations.annotation_list, name="feature-annotations"),
    path(
        "features/<slug:slug>/annotations/<int:pk>/delete/",
        annotations.delete,
        name="feature-annotation-delete",
    ),
    path("features/<slug:slug>/traces/<str:trace_id>/", traces.trace, name="trace"),
    path("features/<slug:slug>/traces/<str:trace_id>.csv", traces.trace, {"form": "csv"}, name="trace-csv"),
    path("features/<slug:slug>/archive/", editor.archive, name="feature-archive"),
    path("features/<slug:slug>/restore/", editor.restore, name="feature-restore"),
    path("archived/", editor.archived, name="archived-features"),
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
