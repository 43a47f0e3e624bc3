"""The page of a team's keys: who may make and revoke them, and where a key can be read."""

from __future__ import annotations

import json
import logging
import re
import shlex
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from html import unescape

import pytest
import time_machine
from django.contrib.sessions.models import Session
from django.test import Client

from budgets.keys import authenticate
from budgets.models import AuditEntry, IngestKey, Membership, Team
from tests.budgets.test_pages import signed_in, text_of
from tests.factories import NOW, make_feature, make_key, make_team
from tests.people import make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files", "at_now")]

PAGE = "/teams/assistants/keys/"
SOUND = {"name": "chat backend", "scopes": ["ingest", "read"], "last_day": ""}


@pytest.fixture
def at_now() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


@pytest.fixture
def admin(team: Team) -> Client:
    return signed_in(make_person("ada@example.com", team=team, role=Membership.Role.ADMIN))


def token_in(html: str) -> str:
    found = re.search(r'id="new-key"[^>]*><code>(ld_\w+)</code>', html)
    assert found, text_of(html)
    return found[1]


def test_a_key_is_made_and_shown_with_a_command_that_uses_it(admin: Client, team: Team) -> None:
    make_feature(team=team, slug="support-chat")

    html = admin.post(PAGE, SOUND).content.decode()

    token = token_in(html)
    key = authenticate(token, NOW)
    assert key is not None
    assert (key.team, key.name, key.scopes, key.expires_at) == (
        team,
        "chat backend",
        ["ingest", "read"],
        None,
    )
    assert f"Authorization: Bearer {token}" in unescape(html)


def test_the_command_is_one_that_a_shell_reads_as_meant(admin: Client, team: Team) -> None:
    make_feature(team=team, slug="support-chat")
    html = admin.post(PAGE, SOUND).content.decode()
    command = unescape(re.search(r'id="snippet"[^>]*><code>(.*?)</code>', html, re.S)[1])  # type: ignore[index]

    # As the shell hands it to curl.
    shown = subprocess.run(
        ["sh", "-c", command.replace("curl ", "printf '%s\\n' ", 1)],
        capture_output=True,
        text=True,
        check=True,
    )
    body = json.loads(shown.stdout.partition("\n-d\n")[2])

    [item] = body["measurements"]
    assert item["feature"] == "support-chat"
    assert isinstance(item["started_at"], int), "the shell's clock, at the moment it is pasted"
    assert shlex.split(command)[:4] == ["curl", "-X", "POST", "http://testserver/api/v1/measurements"]


@pytest.mark.parametrize(
    ("scopes", "said"),
    [
        (["write"], "-X PUT http://testserver/api/v1/features/assistants-support-chat"),
        (["read"], "curl http://testserver/api/v1/features"),
        (["ingest"], "Declare one first"),
    ],
)
def test_without_a_feature_the_command_is_what_the_key_may_do(
    admin: Client, scopes: list[str], said: str
) -> None:
    assert said in text_of(admin.post(PAGE, SOUND | {"scopes": scopes}).content.decode())


def test_the_key_is_shown_once_and_kept_nowhere(admin: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    response = admin.post(PAGE, SOUND)
    token = token_in(response.content.decode())
    secret = token.split("_")[2]

    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    assert secret not in admin.get(PAGE).content.decode()
    assert secret not in f"{response.headers} {response.cookies} {admin.cookies}"
    assert secret not in caplog.text
    assert all(secret not in str(session.get_decoded()) for session in Session.objects.all())
    assert all(
        secret not in f"{entry.before}{entry.after}{entry.subject}" for entry in AuditEntry.objects.all()
    )


def test_a_last_day_counts_to_its_end(admin: Client) -> None:
    token = token_in(admin.post(PAGE, SOUND | {"last_day": "2026-11-21"}).content.decode())

    assert authenticate(token, NOW + timedelta(hours=3, minutes=59)) is not None
    assert authenticate(token, NOW.replace(hour=0) + timedelta(days=1)) is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": ""}, "This field is required."),
        ({"name": "x" * 201}, "at most 200 characters"),
        ({"scopes": []}, "Choose at least one scope."),
        ({"scopes": ["admin"]}, "admin is not one of the available choices"),
        ({"last_day": "2026-11-20"}, "Expected today, 2026-11-21, or a later day; got 2026-11-20."),
        ({"last_day": "soon"}, "Expected a day such as 2027-01-31."),
        ({"last_day": "9999-12-31"}, "or a later day; got 9999-12-31."),
    ],
    ids=str,
)
def test_a_wrong_form_says_what_would_be_right_and_keeps_what_was_typed(
    admin: Client, wrong: dict[str, object], said: str
) -> None:
    response = admin.post(PAGE, SOUND | {"last_day": "2026-12-31"} | wrong)

    assert response.status_code == 400
    html = response.content.decode()
    assert said in text_of(html)
    assert ('value="chat backend"' in html) == ("name" not in wrong)
    assert ('value="2026-12-31"' in html) == ("last_day" not in wrong)
    assert not IngestKey.objects.exists()


def test_revoking_asks_first_and_ends_the_key(admin: Client, team: Team) -> None:
    key, token = make_key(team)
    address = f"{PAGE}{key.pk}/revoke/"

    assert f"Revoke {key.name} ?" in text_of(admin.get(address).content.decode())
    assert authenticate(token, NOW) is not None
    response = admin.post(address, follow=True)

    assert authenticate(token, NOW) is None
    assert f"Revoked. Whoever still uses {key.name} is answered 401." in text_of(response.content.decode())
    assert "1 revoked or expired" in text_of(response.content.decode())
    assert AuditEntry.objects.get(action="key.revoked").actor == "ada@example.com"
    assert "was revoked before" in text_of(admin.post(address, follow=True).content.decode())


@pytest.mark.parametrize("role", [Membership.Role.VIEWER, Membership.Role.EDITOR])
def test_others_see_the_list_and_change_nothing(team: Team, role: str) -> None:
    key, _ = make_key(team)
    client = signed_in(make_person("other@example.com", team=team, role=role))

    html = client.get(PAGE).content.decode()

    assert f"ld_{key.prefix}_…" in html
    assert "Make the key" not in html
    assert "Revoke …" not in html
    assert client.post(PAGE, SOUND).status_code == 403
    assert client.post(f"{PAGE}{key.pk}/revoke/").status_code == 403
    assert client.get(f"{PAGE}{key.pk}/revoke/").status_code == 403
    assert IngestKey.objects.get().revoked_at is None


def test_to_an_outsider_neither_the_page_nor_a_key_exists(team: Team, admin: Client) -> None:
    elsewhere, _ = make_key(make_team())
    outsider = signed_in(make_person("outsider@example.com", team=make_team(), role=Membership.Role.ADMIN))

    assert outsider.get(PAGE).status_code == 404
    assert outsider.post(PAGE, SOUND).status_code == 404
    # The key of another team below one's own address.
    assert admin.post(f"{PAGE}{elsewhere.pk}/revoke/").status_code == 404
    elsewhere.refresh_from_db()
    assert elsewhere.revoked_at is None


def test_a_stranger_is_asked_to_log_in(client: Client, team: Team) -> None:
    assert client.get(PAGE)["Location"] == f"/login/?next={PAGE}"
    assert client.post(PAGE, SOUND)["Location"].startswith("/login/")
    assert not IngestKey.objects.exists()


def test_queries_do_not_grow_with_keys(admin: Client, team: Team, django_assert_num_queries: object) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert admin.get(PAGE).status_code == 200
        return len(queries)

    make_key(team)
    few = count()
    for _ in range(20):
        make_key(team)
    assert count() == few
