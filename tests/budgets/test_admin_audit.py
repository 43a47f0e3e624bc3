"""What is changed in the administration stands in the audit log, like what is changed elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from alerts.channel_settings import delete_channel
from alerts.models import Channel
from budgets.keys import authenticate
from budgets.models import AuditEntry, Membership, Team, User
from tests.budgets.test_pages import signed_in
from tests.factories import NOW, make_channel, make_feature, make_key, make_team
from tests.people import PASSWORD, make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]


@pytest.fixture
def root() -> Client:
    return signed_in(User.objects.create_superuser("root@example.com", PASSWORD))


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


def form_of(client: Client, address: str) -> dict[str, Any]:
    """What the form at an address would send if nobody touched it."""
    context = client.get(address).context
    data: dict[str, Any] = {}
    forms = [context["adminform"].form]
    for inline in context["inline_admin_formsets"]:
        forms += [inline.formset.management_form, *inline.formset.forms]
    for form in forms:
        for bound in form:
            value = bound.value()
            if value is not None and value is not False and not bound.field.disabled:
                data[bound.html_name] = value
            if hasattr(bound.field.widget, "decompress") and value:
                parts = bound.field.widget.decompress(value)
                data |= {f"{bound.html_name}_{n}": part for n, part in enumerate(parts)}
    return data


def change(client: Client, address: str, **values: Any) -> None:
    data = {name: value for name, value in (form_of(client, address) | values).items() if value is not ...}
    response = client.post(address, data)
    assert response.status_code == 302, response.context["errors"]


def log(team: Team | None = None) -> list[tuple[str, str, Any, Any]]:
    entries = AuditEntry.objects.filter(team=team).order_by("pk")
    assert {entry.actor for entry in entries} <= {"root@example.com", "a test"}
    return [(e.action, e.subject, e.before, e.after) for e in entries if e.actor != "a test"]


def test_a_person_who_becomes_an_administrator(root: Client) -> None:
    ada = make_person("ada@example.com")

    change(root, f"/admin/budgets/user/{ada.pk}/change/", is_staff="on")

    [(action, subject, before, after)] = log()
    assert (action, subject) == ("user.changed", "ada@example.com")
    assert (before["is_staff"], after["is_staff"]) == (False, True)
    assert {name for name in after if before[name] != after[name]} == {"is_staff"}
    assert "password" not in after


def test_a_new_person_and_their_deletion_with_the_memberships_that_go(root: Client, team: Team) -> None:
    change(
        root,
        "/admin/budgets/user/add/",
        email="New@Example.com",
        usable_password="true",
        password1="seven purple lamps",
        password2="seven purple lamps",
    )
    new = User.objects.get(email="new@example.com")
    Membership.objects.create(team=team, user=new, role="editor")
    root.post(f"/admin/budgets/user/{new.pk}/delete/", {"post": "yes"})

    assert [entry[:2] for entry in log()] == [
        ("user.created", "new@example.com"),
        ("user.deleted", "new@example.com"),
    ]
    assert log(team) == [("member.removed", "new@example.com", {"role": "editor"}, None)]
    assert "seven purple lamps" not in str(list(AuditEntry.objects.values()))


def test_deleting_many_at_once_writes_down_each(root: Client) -> None:
    people = [make_person(f"p{number}@example.com") for number in range(3)]
    data = {"action": "delete_selected", "_selected_action": [one.pk for one in people], "post": "yes"}
    root.post("/admin/budgets/user/", data)

    assert not User.objects.filter(email__startswith="p").exists()
    assert sorted(entry[:2] for entry in log()) == [("user.deleted", f"p{n}@example.com") for n in range(3)]


def test_memberships_stand_in_the_log_of_their_team(root: Client, team: Team) -> None:
    ada, bob = make_person("ada@example.com", team=team), make_person("bob@example.com", team=team)
    eve = make_person("eve@example.com")
    address = f"/admin/budgets/team/{team.pk}/change/"
    places = {one.user_id: n for n, one in enumerate(team.memberships.order_by("pk"))}
    data = form_of(root, address) | {
        "name": "Helpers",
        f"memberships-{places[ada.pk]}-role": "admin",
        f"memberships-{places[bob.pk]}-DELETE": "on",
        "memberships-2-team": team.pk,
        "memberships-2-user": eve.pk,
        "memberships-2-role": "viewer",
        "memberships-TOTAL_FORMS": "3",
    }

    change(root, address, **data)

    changed, *members = log(team)
    assert changed[0] == "team.changed"
    assert (changed[2]["name"], changed[3]["name"]) == ("Assistants", "Helpers")
    assert sorted(members) == [
        ("member.added", "eve@example.com", None, {"role": "viewer"}),
        ("member.removed", "bob@example.com", {"role": "viewer"}, None),
        ("member.role_changed", "ada@example.com", {"role": "viewer"}, {"role": "admin"}),
    ]


def test_a_password_that_an_administrator_sets(root: Client) -> None:
    ada = make_person("ada@example.com")
    address = f"/admin/budgets/user/{ada.pk}/password/"
    new = "seven purple lamps"
    root.get(address)
    root.post(address, {"password1": "short", "password2": "short", "usable_password": "true"})
    assert log() == []
    response = root.post(address, {"password1": new, "password2": new, "usable_password": "true"})

    assert response.status_code == 302
    assert log() == [("user.password_changed", "ada@example.com", None, {"usable": True})]


def test_a_channel_that_was_deleted_is_not_enabled_again(root: Client, team: Team) -> None:
    channel = make_channel(team, name="hooks")
    delete_channel(channel_id=channel.pk, actor="ada@example.com", now=NOW)
    root.raise_request_exception = False

    page = f"/admin/alerts/channel/{channel.pk}/change/"
    assert root.get(page).status_code == 200
    assert root.post(page, {"min_severity": "page", "is_enabled": "on"}).status_code == 403


def test_a_feature_a_channel_and_a_group(root: Client, team: Team) -> None:
    feature = make_feature(team=team, slug="support-chat")
    channel = make_channel(team, name="hooks")
    change(root, f"/admin/budgets/feature/{feature.pk}/change/", description="Answers customers")
    change(root, f"/admin/alerts/channel/{channel.pk}/change/", is_enabled=...)
    change(root, "/admin/auth/group/add/", name="Operators")

    of_feature, of_channel = log(team)
    assert of_feature[:2] == ("feature.changed", "support-chat")
    assert (of_feature[2]["description"], of_feature[3]["description"]) == ("", "Answers customers")
    assert of_channel[:2] == ("channel.changed", "hooks")
    assert (of_channel[2]["is_enabled"], of_channel[3]["is_enabled"]) == (True, False)
    assert Channel.objects.get().config["secret"] not in str(of_channel)
    assert log() == [("group.created", "Operators", None, {"name": "Operators", "permissions": []})]
    assert Group.objects.count() == 1


def test_saving_what_nobody_touched_writes_nothing(root: Client, team: Team) -> None:
    ada = make_person("ada@example.com", team=team)
    change(root, f"/admin/budgets/user/{ada.pk}/change/")
    change(root, f"/admin/budgets/team/{team.pk}/change/")
    assert (log(), log(team)) == ([], [])


def test_keys_are_revoked_and_not_edited(root: Client, team: Team) -> None:
    key, token = make_key(team)
    page = f"/admin/budgets/ingestkey/{key.pk}/change/"

    assert root.post(page, {"revoked_at_0": "", "expires_at_0": "2099-01-01"}).status_code == 403
    assert root.post(f"/admin/budgets/ingestkey/{key.pk}/delete/", {"post": "yes"}).status_code == 403
    for _ in range(2):
        root.post("/admin/budgets/ingestkey/", {"action": "revoke", "_selected_action": [key.pk]})

    assert authenticate(token, NOW) is None
    assert [entry[0] for entry in log(team)] == ["key.revoked"]
